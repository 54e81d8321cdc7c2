//! Two clocks. The wall clock gives the dates that people read; it can be set, and it jumps when the network corrects it. Waits
//! and ages use the time since boot, which cannot be set: a jump of the wall clock neither delays an attempt nor makes anything
//! older.
//!
//! Stored times outlive the process. Within one boot the time since boot continues over a restart of the relay, and so does
//! [`MonotonicTime`]; a [`Timestamp`] has both clocks. After a reboot, or on another machine, only the wall clock is left, and
//! its error is unknown: the caller bounds how long it waits (if [`restore`] returns false), and [`Timestamp::age`] returns
//! the smallest possible age. A clock that was set forward before the machine started, and is never corrected, makes
//! everything older, as time without power does; the relay cannot distinguish the two.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::failpoints::Failpoint;

/// The environment variable that makes the wall clock wrong, for tests. It names a file with a number of seconds, which may be
/// negative or a fraction and may change at any time; the time since boot stays right. Builds with debug assertions only; a
/// missing or unreadable file changes nothing.
pub const VARIABLE: &str = "REGARDS_RELAY_CLOCK";

/// How long a machine that has just booted may take to correct its clock from the network. Until then nothing from an earlier
/// boot counts as old.
const BOOT_GRACE: Duration = Duration::from_mins(10);
/// Identifies the boot, on Linux.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Milliseconds since 1970 by the wall clock, for people and other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub i64);

impl WallTime {
    #[must_use]
    pub fn now() -> Self {
        Self(millis(system_time().duration_since(UNIX_EPOCH).unwrap_or_default()))
    }

    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self(self.0.saturating_sub(millis(age)))
    }

    #[must_use]
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0).map_or_else(|_| self.0.to_string(), |at| format!("{at:.3}"))
    }
}

/// A deadline, in milliseconds. It starts as the wall clock's time when the first relay with this spool started in this boot,
/// and from then on counts the time since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MonotonicTime(pub i64);

impl MonotonicTime {
    #[must_use]
    pub fn now() -> Self {
        ClockBase::now().monotonic()
    }

    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(millis(pause)))
    }

    /// The time from now until this deadline; zero if it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        duration(self.0.saturating_sub(Self::now().0))
    }

    /// What the wall clock will say then, for people.
    #[must_use]
    pub fn to_wall(self) -> WallTime {
        WallTime(self.0.saturating_add(ClockBase::now().jump()))
    }

    #[must_use]
    pub fn has_passed(self) -> bool {
        self <= Self::now()
    }
}

/// The point from which [`MonotonicTime`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockBase {
    /// A number for the boot.
    pub boot: i64,
    /// The wall clock's time less the time since boot, in milliseconds.
    pub base: i64,
}

impl ClockBase {
    #[must_use]
    pub fn now() -> Self {
        Self { boot: *BOOT, base: BASE.load(Ordering::Relaxed) }
    }

    fn monotonic(self) -> MonotonicTime {
        MonotonicTime(self.base.saturating_add(uptime()))
    }

    /// How far the wall clock has jumped ahead of [`MonotonicTime`], in milliseconds; 0 if this is another boot's base, of which
    /// nothing is known.
    #[must_use]
    pub fn jump(self) -> i64 {
        let jump = WallTime::now().0.saturating_sub(self.monotonic().0);
        // A smaller difference is the time between the two readings.
        if self.boot == *BOOT && jump.unsigned_abs() >= 1_000 { jump } else { 0 }
    }
}

/// Continues [`MonotonicTime`] from the base that an earlier process stored. False: that base is of another boot, so a stored
/// deadline may seem far away, because the wall clock was wrong then or is wrong now. Call it before anything waits: a later call changes
/// nothing, and is false if its base is another one.
#[must_use]
pub fn restore(stored: ClockBase) -> bool {
    if stored.boot != *BOOT {
        return false;
    }
    RESTORED.get_or_init(|| BASE.store(stored.base, Ordering::Relaxed));
    BASE.load(Ordering::Relaxed) == stored.base
}

/// When something happened, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    pub wall: WallTime,
    /// A number for the boot; 0 if only the wall clock's time is known.
    pub boot: i64,
    /// The time since that boot, in milliseconds.
    pub uptime: i64,
}

impl Timestamp {
    #[must_use]
    pub fn now() -> Self {
        Self { wall: WallTime::now(), boot: *BOOT, uptime: uptime() }
    }

    #[must_use]
    pub fn before(self, age: Duration) -> Self {
        Self { wall: self.wall.before(age), uptime: self.uptime.saturating_sub(millis(age)), ..self }
    }

    /// For a time of which only the wall clock's is known.
    #[must_use]
    pub fn from_wall(wall: WallTime) -> Self {
        Self { wall, boot: 0, uptime: 0 }
    }

    /// How long ago it was, at least.
    #[must_use]
    pub fn age(self) -> Duration {
        self.age_at(&ClockReading::take())
    }

    fn age_at(self, now: &ClockReading) -> Duration {
        if Failpoint::TrustTheWallClock.is_enabled() {
            return duration(now.wall.0.saturating_sub(self.wall.0));
        }
        if self.boot == now.boot && self.uptime <= now.uptime {
            return duration(now.uptime.saturating_sub(self.uptime));
        }
        let latest = now.for_earlier_boots();
        duration(latest.0.saturating_sub(self.wall.0)).max(now.since_start())
    }
}

/// The [`Timestamp`]s older than some age, as a condition that SQL can test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgeCutoff {
    pub boot: i64,
    /// In this boot: before this time since boot, in milliseconds.
    pub uptime: i64,
    /// In another boot: before this time of the wall clock.
    pub wall: WallTime,
}

impl AgeCutoff {
    /// Matches each timestamp whose [`Timestamp::age`] is now more than `age`.
    #[must_use]
    pub fn of(age: Duration) -> Self {
        Self::at(age, &ClockReading::take())
    }

    fn at(age: Duration, now: &ClockReading) -> Self {
        let wall = if now.since_start() > age { WallTime(i64::MAX) } else { now.for_earlier_boots().before(age) };
        Self { boot: now.boot, uptime: now.uptime.saturating_sub(millis(age)), wall }
    }
}

/// All clocks, read at one moment.
#[derive(Debug, Clone, Copy)]
struct ClockReading {
    wall: WallTime,
    monotonic: MonotonicTime,
    boot: i64,
    uptime: i64,
    /// When this process started, in time since boot.
    started: i64,
}

impl ClockReading {
    fn take() -> Self {
        Self {
            wall: WallTime::now(),
            monotonic: MonotonicTime::now(),
            boot: *BOOT,
            uptime: uptime(),
            started: *STARTED,
        }
    }

    /// The time to compare an earlier boot's wall clock with: the earlier one of both clocks. If both are ahead since the start,
    /// this shows only when the network corrects the wall clock; until then nothing is old (`BOOT_GRACE`).
    fn for_earlier_boots(&self) -> WallTime {
        if duration(self.uptime) < BOOT_GRACE { WallTime(i64::MIN) } else { self.wall.min(WallTime(self.monotonic.0)) }
    }

    /// The smallest possible age of anything from another boot: it is at least as old as this process.
    fn since_start(&self) -> Duration {
        duration(self.uptime.saturating_sub(self.started))
    }
}

/// The wall clock. Only for what people and other programs read.
#[must_use]
pub fn system_time() -> SystemTime {
    let now = SystemTime::now();
    if !cfg!(debug_assertions) {
        return now;
    }
    let Some(skew) = &*SKEW else { return now };
    let (size, is_ahead) = skew.read();
    let skewed = if is_ahead { now.checked_add(size) } else { now.checked_sub(size) };
    skewed.unwrap_or(now)
}

/// Whether the machine has had time to correct its clock since the boot. Before, nothing from another boot is too old.
#[must_use]
pub fn is_past_boot_grace() -> bool {
    duration(uptime()) >= BOOT_GRACE
}

/// A moment of this boot, in milliseconds since its beginning. It goes on while the machine sleeps, and can't be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime(pub i64);

impl Uptime {
    #[must_use]
    pub fn now() -> Self {
        Self(uptime())
    }

    #[must_use]
    pub fn after(self, pause: Duration) -> Self {
        Self(self.0.saturating_add(millis(pause)))
    }

    /// The time from now until this moment; zero if it has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        duration(self.0.saturating_sub(uptime()))
    }
}

/// The time since boot, in milliseconds; it includes the time during which the machine sleeps.
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

/// A number for the boot, never 0. Where the system has no boot id, each process has its own number.
static BOOT: LazyLock<i64> = LazyLock::new(|| {
    let id = std::fs::read_to_string(BOOT_ID).map_or_else(|_| fastrand::u64(..), |id| xxh3_64(id.trim().as_bytes()));
    // Without the sign.
    (id >> 1).cast_signed() | 1
});

static STARTED: LazyLock<i64> = LazyLock::new(uptime);

static RESTORED: OnceLock<()> = OnceLock::new();

static BASE: LazyLock<AtomicI64> = LazyLock::new(|| AtomicI64::new(WallTime::now().0.saturating_sub(*STARTED)));

static SKEW: LazyLock<Option<SkewFile>> = LazyLock::new(|| {
    let path = std::env::var_os(VARIABLE)?;
    tracing::error!("the wall clock of this relay is wrong on purpose, by the seconds in {}", path.display());
    Some(SkewFile { path: path.into(), last: Mutex::default() })
});

/// The file that [`VARIABLE`] names.
struct SkewFile {
    path: std::path::PathBuf,
    /// The last seconds read, for a reading that falls into a write of the file.
    last: Mutex<f64>,
}

impl SkewFile {
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

    /// A process that started an hour ago, in a boot that began a day ago; both clocks are right.
    const NOW: ClockReading = ClockReading {
        wall: WallTime(1_000 * DAY),
        monotonic: MonotonicTime(1_000 * DAY),
        boot: 1,
        uptime: DAY,
        started: DAY - 3_600_000,
    };

    fn age_in_hours(stamp: Timestamp, now: &ClockReading) -> u64 {
        stamp.age_at(now).as_secs() / 3_600
    }

    #[test]
    fn within_one_boot_an_age_is_the_time_since_boot() {
        let stamp = Timestamp { wall: WallTime(0), boot: 1, uptime: DAY - 7_200_000 };
        for wall in [0, 1_000 * DAY, 2_000 * DAY] {
            assert_eq!(age_in_hours(stamp, &ClockReading { wall: WallTime(wall), ..NOW }), 2);
        }
        // A machine that was restored from an image has less time since its boot than the timestamp.
        let younger = Timestamp { wall: WallTime(998 * DAY), boot: 1, uptime: 2 * DAY };
        assert_eq!(age_in_hours(younger, &NOW), 48);
    }

    #[test]
    fn an_age_from_another_boot_is_the_smaller_one_of_both_clocks() {
        let stamp = Timestamp { wall: WallTime(990 * DAY), boot: 2, uptime: 0 };
        assert_eq!(age_in_hours(stamp, &NOW), 240);
        // The wall clock was set forward in this boot, or back.
        assert_eq!(age_in_hours(stamp, &ClockReading { wall: WallTime(1_030 * DAY), ..NOW }), 240);
        assert_eq!(age_in_hours(stamp, &ClockReading { wall: WallTime(995 * DAY), ..NOW }), 120);
        // In the future by one clock: it is at least as old as the process.
        assert_eq!(age_in_hours(stamp, &ClockReading { wall: WallTime(0), ..NOW }), 1);
        assert_eq!(age_in_hours(Timestamp::from_wall(WallTime(2_000 * DAY)), &NOW), 1);
        // The machine has just started.
        assert_eq!(age_in_hours(stamp, &ClockReading { uptime: 60_000, started: 0, ..NOW }), 0);
    }

    #[test]
    fn a_cutoff_and_an_age_agree() {
        let nows = [
            NOW,
            ClockReading { wall: WallTime(0), ..NOW },
            ClockReading { wall: WallTime(2_000 * DAY), ..NOW },
            ClockReading { uptime: 60_000, started: 0, ..NOW },
            ClockReading { uptime: 3 * DAY, ..NOW },
        ];
        for now in nows {
            let cutoff = AgeCutoff::at(KEEP, &now);
            for boot in [0, 1, 2] {
                for days in [-5, -1, 0, 1, 2, 998, 999, 1_000, 1_001] {
                    let stamp =
                        Timestamp { wall: WallTime(days * DAY - 1), boot, uptime: (days * DAY - 1).min(now.uptime) };
                    let is_older =
                        if boot == cutoff.boot { stamp.uptime < cutoff.uptime } else { stamp.wall < cutoff.wall };
                    assert_eq!(is_older, stamp.age_at(&now) > KEEP, "{stamp:?} {now:?}");
                }
            }
        }
    }

    #[test]
    fn the_clock_base_is_restored_within_one_boot_only() {
        let base = ClockBase::now();
        assert!(!restore(ClockBase { boot: base.boot + 2, base: 0 }));
        assert_eq!(ClockBase::now(), base);
        assert!(restore(base));
        assert_eq!(base.jump(), 0);
        // Each clock is truncated to milliseconds at a moment of its own.
        let jump = ClockBase { base: base.base - DAY, ..base }.jump();
        assert!((DAY - 1_000..DAY + 60_000).contains(&jump), "{jump}");
        let later = MonotonicTime::now().after(KEEP);
        assert!(!later.has_passed() && later.remaining() > KEEP / 2);
        assert!(MonotonicTime::now().has_passed());
    }
}
