//! Short runs of relays with one failpoint each, with the faults that expose it: the checker must find every failpoint,
//! and nothing in a relay without one.

use std::time::Duration;

use futures_util::future::join_all;
use regards_relay::failpoints::{Failpoint, VARIABLE};
use tokio::sync::Semaphore;

use super::run::run;
use super::schedule::{Fault, Schedule, Strike};
use super::settings::{Patience, Settings};
use super::world::World;
use crate::support::Services;

/// How long a run waits for the violation.
const SHORT: Patience =
    Patience { work: Duration::from_secs(5), fresh: Duration::from_secs(10), rest: Duration::from_secs(5) };
const SEED: u64 = 4;
/// The violation may depend on timing that does not occur in every run.
const MOST_RUNS: u64 = 3;
const EVENTS: u64 = 3_000;
const SECONDS: u64 = 6;
/// The number of other findings to print if the violation was not found.
const SHOWN: usize = 5;
/// The number of concurrent runs in all tests of this module. More runs would miss their deadlines.
static TURNS: Semaphore = Semaphore::const_new(2);

/// The faults of a short run.
#[derive(Debug, Clone, Copy)]
enum Drill {
    /// The relay is killed repeatedly while it has many deliveries in flight and no room for them in the spool.
    Kills,
    /// The relay is restarted repeatedly with retries in the spool.
    Restarts,
    /// The source's connection is closed repeatedly.
    Cuts,
    /// The webhook refuses some events. Then it repeatedly works, slows down, and fails while slow requests are in
    /// flight and the rest of their lanes is in the spool.
    Refusals,
    /// The webhook repeatedly accepts digests and cuts the connection before it answers, while more events come.
    Digests,
}

impl Drill {
    const ALL: [Self; 5] = [Self::Kills, Self::Restarts, Self::Cuts, Self::Refusals, Self::Digests];

    fn schedule(self) -> Schedule {
        let again = |fault, times: u64, events: u64| {
            (1..=times).map(move |time| Strike { fault, after: events * time, lasts: Duration::ZERO, draw: 0 })
        };
        let once = |fault, seconds| Strike { fault, after: 0, lasts: Duration::from_secs(seconds), draw: 0 };
        let short = |strike| Strike { lasts: Duration::from_millis(300), ..strike };
        let strikes: Vec<Strike> = match self {
            Self::Kills => again(Fault::Kill, 15, 200).chain([once(Fault::WebhookSlow, 4)]).collect(),
            Self::Restarts => again(Fault::Terminate, 15, 500).chain([once(Fault::WebhookForbidding, 20)]).collect(),
            Self::Cuts => again(Fault::SourceCut, 5, 500).collect(),
            Self::Digests => again(Fault::WebhookCutting, 12, 200).map(short).collect(),
            Self::Refusals => {
                let second = |fault, after| Strike { fault, after, lasts: Duration::from_secs(1), draw: 0 };
                let pairs = (1..4).map(|time| 1_500 * time);
                let pairs = pairs
                    .flat_map(|after| [Fault::WebhookSlow, Fault::WebhookFailing].map(|fault| second(fault, after)));
                [once(Fault::WebhookForbidding, 2)].into_iter().chain(pairs).collect()
            }
        };
        Schedule::with(&strikes)
    }

    /// Additions to the relay's configuration.
    fn settings(self) -> &'static str {
        match self {
            Self::Kills => "spool: { max_size: 1MiB, max_share: 5% }",
            Self::Restarts | Self::Cuts | Self::Refusals | Self::Digests => "",
        }
    }

    /// Returns the violations of one run.
    async fn run(self, seed: u64, failpoint: Option<Failpoint>) -> Vec<String> {
        let _turn = TURNS.acquire().await.expect("never closed");
        let patience = if failpoint.is_some() { SHORT } else { Patience::LONG };
        let settings = Settings {
            seed,
            events: EVENTS,
            rounds: 1,
            seconds: SECONDS,
            relays: 1,
            lease: 0,
            victims: Vec::new(),
            patience,
        };
        let mut world = World::among(&Services::shared(), self.settings()).await;
        // These runs share a broker with all other tests.
        world.regards.use_cheap_queue().await;
        if let Some(failpoint) = failpoint {
            world = world.with(VARIABLE, failpoint.name());
        }
        Box::pin(run(&settings, &self.schedule(), &mut world)).await
    }
}

/// The run that shows the damage of a failpoint, and the expected violation. None if a separate test covers the
/// failpoint. A killed process loses no unsynced data, because the system keeps its writes: the tests of the system
/// calls cover syncing. All events here differ and only one relay runs: tests in `redelivery` and `standing_by` cover
/// equal events and two relays. The tests of `full_spool` cover a full spool, those of `damaged_rows` an unreadable
/// row, and those of `alerts::overdue` a request that is stored late: a relay that is killed here, also one with a full
/// disk, has stored it by then. Those of `high_availability` cover a spool in PostgreSQL.
fn caught(failpoint: Failpoint) -> Option<(Drill, &'static str)> {
    let lost = "was confirmed and is lost";
    let reordered = "came first after event";
    Some(match failpoint {
        Failpoint::AcknowledgeEarly | Failpoint::AcknowledgePastTheWatermark => (Drill::Kills, lost),
        Failpoint::ForgetLanesAtRestart => (Drill::Restarts, reordered),
        Failpoint::SettleOnTheWrongChannel => (Drill::Cuts, "messages are in"),
        Failpoint::ReuseNumberBeforeReport => (Drill::Cuts, "duplicates; at most"),
        Failpoint::DropOn5xx => (Drill::Refusals, lost),
        Failpoint::ReorderOnRetry | Failpoint::SpillWithoutPredecessor => (Drill::Refusals, reordered),
        Failpoint::FormDigestsAnew => (Drill::Digests, "came in a second digest"),
        Failpoint::OpenRequestsAgain => (Drill::Kills, "raised more than once"),
        Failpoint::IgnoreEnds => (Drill::Digests, "did not resolve its alert"),
        Failpoint::NoSync
        | Failpoint::AcknowledgeBeforeTheRequest
        | Failpoint::RecognizeSettledFirst
        | Failpoint::IgnoreBackOff
        | Failpoint::KeepLimitsAtTheEnd
        | Failpoint::GiveUpTheConsumerEarly
        | Failpoint::StopAtADamagedRow
        | Failpoint::TrustTheWallClock
        | Failpoint::WriteWithoutTheFence
        | Failpoint::TakeUnknownCommitsForDone
        | Failpoint::TakeUnknownCommitsForFailed
        | Failpoint::AskWithoutWaitingForTheCommit
        | Failpoint::CommitAsynchronously
        | Failpoint::RestartIds
        | Failpoint::CountTheLeaseFromTheAnswer
        | Failpoint::CountTheLeaseByTheWallClock
        | Failpoint::FenceBeforeTheTransaction
        | Failpoint::BeginBeforeOldAttemptsEnd
        | Failpoint::LeaveOldTransactionsOpen => return None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failpoint_is_noticed() {
    if !cfg!(debug_assertions) {
        println!("a release build has no failpoints");
        return;
    }
    let failpoints = Failpoint::ALL.iter().filter_map(|&failpoint| Some((failpoint, caught(failpoint)?)));
    let runs = failpoints.map(async |(failpoint, (drill, finding))| {
        let mut found = Vec::new();
        for seed in SEED..SEED + MOST_RUNS {
            let mut wrong = drill.run(seed, Some(failpoint)).await;
            let findings = wrong.iter().filter(|sentence| sentence.contains(finding)).count();
            println!("{failpoint:?}, seed {seed}: {findings} × \"{finding}\"");
            if findings > 0 {
                return None;
            }
            wrong.truncate(SHOWN);
            found.push(wrong);
        }
        Some((failpoint, found))
    });
    let escaped: Vec<_> = join_all(runs).await.into_iter().flatten().collect();
    assert!(escaped.is_empty(), "these were not found to do what they do, but: {escaped:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_a_failpoint_passes_the_same_runs() {
    let runs = Drill::ALL.map(async |drill| (drill, drill.run(SEED, None).await));
    let mut wrong = join_all(runs).await;
    wrong.retain(|(_, wrong)| !wrong.is_empty());
    assert!(wrong.is_empty(), "{wrong:#?}");
}
