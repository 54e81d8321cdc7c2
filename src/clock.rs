//! The time, by two clocks. What people read is dated by the wall clock, which somebody can set and which jumps when the network
//! corrects it. All waiting and all ages are counted by the time since boot, which no one sets: a wall clock that jumps neither delays an
//! attempt nor makes anything older than it is.
//!
//! What is written down outlives the process. Within one boot the time since boot goes on over a restart, and so does [`Steady`]; a
//! [`Stamp`] has both clocks. Over a reboot, or on another machine, only the wall clock can be asked, and it can't be known by how much
//! it was or is wrong: the caller bounds how long it waits ([`resume`] says that it has to), and [`Stamp::age`] takes the smallest
//! age that is possible. A clock that is set forward before the machine starts, and is never corrected, makes everything older, as time
//! without power does; nothing tells the two apart.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::mutant::Mutant;

/// Names a file with a number of seconds, which may be negative or have a fraction: the wall clock is wrong by so much, from the next time
/// it is asked. The time since boot is not. Only builds with debug assertions look at it; a file that is not there, or is no number,
/// changes nothing.
pub const VARIABLE: &str = "REGARDS_RELAY_CLOCK";

/// What a machine that has just started gets to have its clock corrected by the network. Until then nothing of an earlier boot is too old.
const SETTLING: Duration = Duration::from_mins(10);
/// What identifies the boot, on Linux.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A moment of the wall clock, in milliseconds since 1970: for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub i64);

impl Millis {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(millis(wall().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(millis(age)))
    }

    /// As RFC 3339 in UTC.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0).map_or_else(|_| self.0.to_string(), |at| format!("{at:.3}"))
    }
}

/// A moment to wait for, in milliseconds: the wall clock's when the first relay with this spool started in this boot, and since then
/// only the time since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Steady(pub i64);

impl Steady {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Base::now().steady()
    }

    /// So much later.
    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(millis(pause)))
    }

    /// From now until then; nothing where it is over.
    #[must_use]
    pub fn from_now(self) -> Duration {
        duration(self.0.saturating_sub(Self::now().0))
    }

    /// It is over.
    #[must_use]
    pub fn is_over(self) -> bool {
        self <= Self::now()
    }
}

/// What [`Steady`] counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Which boot, as a number.
    pub boot: i64,
    /// What the wall clock said, less the time since boot, in milliseconds.
    pub base: i64,
}

impl Base {
    /// This process's.
    #[must_use]
    pub fn now() -> Self {
        Self { boot: *BOOT, base: BASE.load(Ordering::Relaxed) }
    }

    fn steady(self) -> Steady {
        Steady(self.base.saturating_add(uptime()))
    }

    /// By how much the wall clock is ahead of [`Steady`], in milliseconds: by what it jumped since. Of another boot nothing is known.
    #[must_use]
    pub fn jumped(self) -> i64 {
        let jumped = Millis::now().0.saturating_sub(self.steady().0);
        // Less is what passes between two looks at a clock.
        if self.boot == *BOOT && jumped.unsigned_abs() >= 1_000 { jumped } else { 0 }
    }
}

/// [`Steady`] goes on as it was written down, in this boot by an earlier process. False: it can't, what was written down is of another
/// boot, and a wall clock that was wrong then or is now may make it seem far away. To be asked before anything is waited for.
#[must_use]
pub fn resume(kept: Base) -> bool {
    let goes_on = kept.boot == *BOOT;
    if goes_on {
        BASE.store(kept.base, Ordering::Relaxed);
    }
    goes_on
}

/// When something happened, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// What people read.
    pub wall: Millis,
    /// The boot, as a number; 0: nothing is known but the wall clock.
    pub boot: i64,
    /// The time since that boot, in milliseconds.
    pub uptime: i64,
}

impl Stamp {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { wall: Millis::now(), boot: *BOOT, uptime: uptime() }
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self { wall: self.wall.before(age), uptime: self.uptime.saturating_sub(millis(age)), ..self }
    }

    /// Of which only the wall clock is known.
    #[must_use]
    pub fn of_wall(wall: Millis) -> Self {
        Self { wall, boot: 0, uptime: 0 }
    }

    /// How long ago it was, at least.
    #[must_use]
    pub fn age(self) -> Duration {
        self.age_at(&Now::take())
    }

    fn age_at(self, now: &Now) -> Duration {
        if Mutant::TrustTheWallClock.is_on() {
            return duration(now.wall.0.saturating_sub(self.wall.0));
        }
        if self.boot == now.boot && self.uptime <= now.uptime {
            return duration(now.uptime.saturating_sub(self.uptime));
        }
        let oldest = now.of_earlier_boot();
        duration(oldest.0.saturating_sub(self.wall.0)).max(now.since_start())
    }
}

/// What is older than some age: a stamp of this boot, and one of an earlier boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cutoff {
    /// This boot.
    pub boot: i64,
    /// In this boot it happened before so much time since boot, in milliseconds.
    pub uptime: i64,
    /// In another boot it happened before that, by the wall clock of then.
    pub wall: Millis,
}

impl Cutoff {
    /// Whose [`Stamp::age`] is more than `age` now.
    #[must_use]
    pub fn of(age: Duration) -> Self {
        Self::at(age, &Now::take())
    }

    fn at(age: Duration, now: &Now) -> Self {
        let wall = if now.since_start() > age { Millis(i64::MAX) } else { now.of_earlier_boot().before(age) };
        Self { boot: now.boot, uptime: now.uptime.saturating_sub(millis(age)), wall }
    }
}

/// All clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Now {
    wall: Millis,
    steady: Steady,
    boot: i64,
    uptime: i64,
    /// When this process started, in time since boot.
    started: i64,
}

impl Now {
    fn take() -> Self {
        Self { wall: Millis::now(), steady: Steady::now(), boot: *BOOT, uptime: uptime(), started: *STARTED }
    }

    /// What an earlier boot's wall clock is compared with: both clocks have to agree that it is long ago. That both were set forward before
    /// the start is only seen when the network corrects them, soon after.
    fn of_earlier_boot(&self) -> Millis {
        if duration(self.uptime) < SETTLING { Millis(i64::MIN) } else { self.wall.min(Millis(self.steady.0)) }
    }

    /// What of another boot is there was there before this process.
    fn since_start(&self) -> Duration {
        duration(self.uptime.saturating_sub(self.started))
    }
}

/// The wall clock, which is only for what people and other programs read.
#[must_use]
pub fn wall() -> SystemTime {
    let now = SystemTime::now();
    if !cfg!(debug_assertions) {
        return now;
    }
    let Some(error) = &*ERROR else { return now };
    let (size, is_ahead) = error.read();
    let set = if is_ahead { now.checked_add(size) } else { now.checked_sub(size) };
    set.unwrap_or(now)
}

/// The machine has run for so long that its clock was corrected, if it ever is: only now what another boot left can be too old.
#[must_use]
pub fn is_settled() -> bool {
    duration(uptime()) >= SETTLING
}

/// The time since boot, in milliseconds; it goes on while the machine sleeps.
fn uptime() -> i64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.saturating_mul(1_000).saturating_add(now.tv_nsec / 1_000_000)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn duration(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// The boot, as a number that isn't 0. Where the system doesn't say, each process has its own.
static BOOT: LazyLock<i64> = LazyLock::new(|| {
    let id = std::fs::read_to_string(BOOT_ID).map_or_else(|_| fastrand::u64(..), |id| xxh3_64(id.trim().as_bytes()));
    // Without the sign.
    (id >> 1).cast_signed() | 1
});

static STARTED: LazyLock<i64> = LazyLock::new(uptime);

static BASE: LazyLock<AtomicI64> = LazyLock::new(|| AtomicI64::new(Millis::now().0.saturating_sub(*STARTED)));

/// How wrong the wall clock is on purpose.
static ERROR: LazyLock<Option<ErrorFile>> = LazyLock::new(|| {
    let path = std::env::var_os(VARIABLE)?;
    tracing::error!("the wall clock of this relay is wrong on purpose, by the seconds in {}", path.display());
    Some(ErrorFile { path: path.into(), last: Mutex::default() })
});

/// The file that [`VARIABLE`] names.
struct ErrorFile {
    path: std::path::PathBuf,
    /// What was read last, in seconds: it may be looked at while it is written.
    last: Mutex<f64>,
}

impl ErrorFile {
    /// By how much the clock is wrong, and whether it is ahead.
    fn read(&self) -> (Duration, bool) {
        let text = std::fs::read_to_string(&self.path).ok();
        let read = text.and_then(|text| text.trim().parse::<f64>().ok()).filter(|seconds| seconds.is_finite());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = read.unwrap_or(*last);
        (Duration::try_from_secs_f64(last.abs()).unwrap_or_default(), *last > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3_600_000;
    const KEEP: Duration = Duration::from_hours(24);

    /// A process that started an hour ago, in a boot that began a day ago: the wall clock agrees.
    const NOW: Now =
        Now { wall: Millis(1_000 * DAY), steady: Steady(1_000 * DAY), boot: 1, uptime: DAY, started: DAY - 3_600_000 };

    fn hours(stamp: Stamp, now: &Now) -> u64 {
        stamp.age_at(now).as_secs() / 3_600
    }

    #[test]
    fn in_one_boot_an_age_is_the_time_since_boot_whatever_the_wall_clock_says() {
        let stamp = Stamp { wall: Millis(0), boot: 1, uptime: DAY - 7_200_000 };
        for wall in [0, 1_000 * DAY, 2_000 * DAY] {
            assert_eq!(hours(stamp, &Now { wall: Millis(wall), ..NOW }), 2);
        }
        // A machine that was made anew from an image of another has less time since its boot.
        let younger = Stamp { wall: Millis(998 * DAY), boot: 1, uptime: 2 * DAY };
        assert_eq!(hours(younger, &NOW), 48);
    }

    #[test]
    fn of_another_boot_both_clocks_have_to_agree_that_it_is_long_ago() {
        let stamp = Stamp { wall: Millis(990 * DAY), boot: 2, uptime: 0 };
        assert_eq!(hours(stamp, &NOW), 240);
        // It was set forward in this boot, or back.
        assert_eq!(hours(stamp, &Now { wall: Millis(1_030 * DAY), ..NOW }), 240);
        assert_eq!(hours(stamp, &Now { wall: Millis(995 * DAY), ..NOW }), 120);
        // Still to come by one of them: it was there when the process started.
        assert_eq!(hours(stamp, &Now { wall: Millis(0), ..NOW }), 1);
        assert_eq!(hours(Stamp::of_wall(Millis(2_000 * DAY)), &NOW), 1);
        // The machine has just started.
        assert_eq!(hours(stamp, &Now { uptime: 60_000, started: 0, ..NOW }), 0);
    }

    #[test]
    fn a_cutoff_says_what_ages_say() {
        let nows = [
            NOW,
            Now { wall: Millis(0), ..NOW },
            Now { wall: Millis(2_000 * DAY), ..NOW },
            Now { uptime: 60_000, started: 0, ..NOW },
            Now { uptime: 3 * DAY, ..NOW },
        ];
        for now in nows {
            let cutoff = Cutoff::at(KEEP, &now);
            for boot in [0, 1, 2] {
                for days in [-5, -1, 0, 1, 2, 998, 999, 1_000, 1_001] {
                    let stamp = Stamp { wall: Millis(days * DAY - 1), boot, uptime: (days * DAY - 1).min(now.uptime) };
                    let is_older =
                        if boot == cutoff.boot { stamp.uptime < cutoff.uptime } else { stamp.wall < cutoff.wall };
                    assert_eq!(is_older, stamp.age_at(&now) > KEEP, "{stamp:?} {now:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_waited_for_goes_on_in_this_boot_only() {
        let base = Base::now();
        assert!(!resume(Base { boot: base.boot + 2, base: 0 }));
        assert_eq!(Base::now(), base);
        assert!(resume(base));
        assert_eq!(base.jumped(), 0);
        // Each clock is cut to whole milliseconds at a moment of its own.
        let jumped = Base { base: base.base - DAY, ..base }.jumped();
        assert!((DAY - 1_000..DAY + 60_000).contains(&jumped), "{jumped}");
        let later = Steady::now().after(KEEP);
        assert!(!later.is_over() && later.from_now() > KEEP / 2);
        assert!(Steady::now().is_over());
    }
}
