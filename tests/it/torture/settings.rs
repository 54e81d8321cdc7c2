//! The parameters of a run, from the environment: equal parameters give equal keys, events and faults.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::schedule::Victim;

const SEED: u64 = 20_221_222;
const EVENTS: u64 = 6_000;
const LEASE: u64 = 5;
/// How long a takeover may take, until the broker lets go of a relay that hangs.
const TAKEOVER: Duration = Duration::from_secs(35);
const SECONDS_A_ROUND: u64 = 25;

/// The settings of one run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The seed of every random choice.
    pub seed: u64,
    /// The smallest number of published events. The publisher continues until the last fault.
    pub events: u64,
    /// The number of each kind of fault: see [`Schedule`](super::schedule::Schedule).
    pub rounds: u32,
    /// The seconds over which the events are published.
    pub seconds: u64,
    /// One has a spool of its own; several share one in PostgreSQL.
    pub relays: usize,
    /// The lease of the shared spool, in seconds.
    pub lease: u64,
    /// Only the faults of these victims; empty: of all.
    pub victims: Vec<Victim>,
    pub patience: Patience,
}

/// The deadlines of the waits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For deliveries in flight that a fault can hit.
    pub work: Duration,
    /// For a fresh event at every sink, after the last fault.
    pub fresh: Duration,
    /// For all other events after that.
    pub rest: Duration,
}

impl Patience {
    pub const LONG: Self =
        Self { work: Duration::from_mins(3), fresh: Duration::from_secs(30), rest: Duration::from_mins(3) };
}

impl Settings {
    /// Reads `TORTURE_SEED`, `TORTURE_EVENTS`, `TORTURE_ROUNDS`, `TORTURE_SECONDS`, `TORTURE_RELAYS`, `TORTURE_LEASE`
    /// and `TORTURE_VICTIMS`, as in `relay,webhook`. The defaults for unset or empty variables give a run of about a minute.
    pub fn from_environment() -> Self {
        let rounds = number("TORTURE_ROUNDS").unwrap_or(1);
        let relays = number("TORTURE_RELAYS").unwrap_or(1);
        let mut patience = Patience::LONG;
        if relays > 1 {
            patience.fresh += TAKEOVER;
        }
        Self {
            seed: number("TORTURE_SEED").unwrap_or(SEED),
            events: number("TORTURE_EVENTS").unwrap_or(EVENTS),
            rounds,
            seconds: number("TORTURE_SECONDS").unwrap_or(SECONDS_A_ROUND * u64::from(rounds)).max(1),
            relays,
            lease: number("TORTURE_LEASE").unwrap_or(LEASE),
            victims: text("TORTURE_VICTIMS").iter().flat_map(|names| names.split(',')).map(victim).collect(),
            patience,
        }
    }

    /// Published events per second, while nothing blocks the publisher.
    pub fn rate(&self) -> u64 {
        (self.events / self.seconds).max(50)
    }
}

/// The command that repeats the run.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, events, rounds, seconds, relays, lease, victims, patience: _ } = self;
        let victims: Vec<_> = victims.iter().map(|victim| victim.name()).collect();
        let (profile, victims) = (profile(), victims.join(","));
        write!(
            f,
            "TORTURE_SEED={seed} TORTURE_EVENTS={events} TORTURE_ROUNDS={rounds} TORTURE_SECONDS={seconds} \
             TORTURE_RELAYS={relays} TORTURE_LEASE={lease} TORTURE_VICTIMS={victims} scripts/services.sh run -- cargo test --locked{profile} --test it torture:: -- --nocapture"
        )
    }
}

/// The cargo option for the profile of this test. The path of its program contains it: `target/PROFILE/deps`.
fn profile() -> String {
    let program = std::env::current_exe().ok();
    let profile = program.as_deref().and_then(|program| program.parent()?.parent()?.file_name()?.to_str());
    match profile {
        None | Some("debug") => String::new(),
        Some(profile) => format!(" --profile {profile}"),
    }
}

fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn victim(name: &str) -> Victim {
    let named = Victim::ALL.into_iter().find(|victim| victim.name() == name);
    named.unwrap_or_else(|| panic!("TORTURE_VICTIMS: {name} is no victim"))
}

fn number<T: FromStr>(name: &str) -> Option<T> {
    let value = text(name)?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number in range")))
}
