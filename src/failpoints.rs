//! Failpoints: each breaks one promise of the relay on purpose, so that a test can show that it would notice.
//!
//! They exist in builds with debug assertions only, and act only where the environment enables one.

use std::sync::LazyLock;

/// The environment variable that enables one failpoint, by the name of its variant.
pub const VARIABLE: &str = "REGARDS_RELAY_FAILPOINT";

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::VariantArray, strum::EnumString, strum::IntoStaticStr)]
pub enum Failpoint {
    /// The source acknowledges each message when it receives it.
    AcknowledgeEarly,
    /// The watermark acknowledges up to the last settled message, although an earlier one is not settled.
    AcknowledgePastTheWatermark,
    /// A late settlement acknowledges the message that has the same delivery tag on the next channel.
    SettleOnTheWrongChannel,
    /// The spool writes its file without fsync.
    NoSync,
    /// A webhook's 5xx answer counts as delivered.
    DropOn5xx,
    /// A lane sends its next delivery while its first one waits for a retry.
    ReorderOnRetry,
    /// After a start no lane counts as spooled.
    ForgetLanesAtRestart,
    /// A delivery is spooled without the in-flight delivery before it in its lane.
    SpillWithoutPredecessor,
    /// A record gets the number of an earlier one whose delivery report has not come yet.
    ReuseNumberBeforeReport,
    /// A redelivered message is matched with a settled message before one in flight.
    RecognizeSettledFirst,
    /// A delivery that finds no room in a full spool is attempted again without its back-off.
    IgnoreBackOff,
    /// At a stop the spool keeps its limits, although it should exceed them.
    KeepLimitsAtTheEnd,
    /// A relay that stops cancels its consumer while deliveries are in flight.
    GiveUpTheConsumerEarly,
    /// A damaged row of the spool fails every query for its sink.
    StopAtADamagedRow,
    /// A message that opens or ends a request is acknowledged before that is on disk.
    AcknowledgeBeforeTheRequest,
    /// A message that opens a request opens it once more when the broker redelivers it.
    OpenRequestsAgain,
    /// The end of a request is not stored.
    IgnoreEnds,
    /// What belongs to a digest is put together anew for each attempt.
    FormDigestsAnew,
    /// Ages are counted by the wall clock.
    TrustTheWallClock,
    /// A relay writes to a spool in PostgreSQL that another one has taken.
    WriteWithoutTheFence,
    /// A commit that PostgreSQL did not answer counts as done.
    TakeUnknownCommitsForDone,
    /// A commit that PostgreSQL did not answer counts as failed.
    TakeUnknownCommitsForFailed,
    /// A commit that PostgreSQL did not answer is asked after while it may still be under way, as `pg_xact_status` would tell.
    AskWithoutWaitingForTheCommit,
    /// PostgreSQL answers a commit before it is on disk.
    CommitAsynchronously,
    /// The ids of each owner's deliveries begin anew.
    RestartIds,
    /// The lease of a spool in PostgreSQL counts from the answer to its renewal.
    CountTheLeaseFromTheAnswer,
    /// The lease of a spool in PostgreSQL counts by the wall clock.
    CountTheLeaseByTheWallClock,
    /// Whether a spool in PostgreSQL is still the relay's is asked before a transaction, and not in it.
    FenceBeforeTheTransaction,
    /// A relay begins attempts at once after it has taken the spool of one that ended uncleanly.
    BeginBeforeOldAttemptsEnd,
    /// A relay that takes the spool of one that ended uncleanly leaves that one's transactions open.
    LeaveOldTransactionsOpen,
}

impl Failpoint {
    pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Always false in a release build.
    #[must_use]
    pub fn is_enabled(self) -> bool {
        cfg!(debug_assertions) && *ENABLED == Some(self)
    }

    /// The value of [`VARIABLE`] that enables it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

static ENABLED: LazyLock<Option<Failpoint>> = LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    let failpoint = name.parse().ok()?;
    tracing::error!("this relay breaks a promise on purpose, because {VARIABLE}={name} is set");
    Some(failpoint)
});
