//! Faults on purpose: each breaks one promise of the relay, so that tests can show that they would notice.
//!
//! Only builds with debug assertions have them, and only where the environment asks for one; a release build has none.

use std::sync::LazyLock;

/// Names one of [`Mutant::ALL`], as it is written there.
pub const VARIABLE: &str = "REGARDS_RELAY_MUTANT";

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A message is acknowledged when it comes.
    AcknowledgeEarly,
    /// All up to the last settled message is acknowledged, whatever is before it.
    AcknowledgePastTheWatermark,
    /// A late settlement goes to whatever has the same tag on the next channel.
    SettleOnTheWrongChannel,
    /// The spool is written and never synced.
    NoSync,
    /// What a webhook answers with 5xx counts as delivered.
    DropOn5xx,
    /// A lane goes on while its first delivery waits for a retry.
    ReorderOnRetry,
    /// After a start nobody knows which lanes have deliveries in the spool.
    ForgetLanesAtRestart,
    /// What waits in a lane is put to disk without the delivery under way before it.
    SpillWithoutPredecessor,
    /// A number stands for the next record before the last one's delivery report came.
    ReuseNumberBeforeReport,
    /// Of equal messages a redelivered one is taken for a settled one before one in flight.
    RecognizeSettledFirst,
    /// A delivery that a full spool has no room for is attempted again without its back-off.
    IgnoreBackOff,
    /// At the end a full spool takes no more than it does otherwise.
    KeepLimitsAtTheEnd,
    /// A relay that stops gives up its consumer while deliveries are in flight.
    GiveUpTheConsumerEarly,
    /// A row of the spool that can't be read fails whatever was asked of its sink.
    StopAtADamagedRow,
    /// Everything is as old as the wall clock says.
    TrustTheWallClock,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::AcknowledgeEarly,
        Self::AcknowledgePastTheWatermark,
        Self::SettleOnTheWrongChannel,
        Self::NoSync,
        Self::DropOn5xx,
        Self::ReorderOnRetry,
        Self::ForgetLanesAtRestart,
        Self::SpillWithoutPredecessor,
        Self::ReuseNumberBeforeReport,
        Self::RecognizeSettledFirst,
        Self::IgnoreBackOff,
        Self::KeepLimitsAtTheEnd,
        Self::GiveUpTheConsumerEarly,
        Self::StopAtADamagedRow,
        Self::TrustTheWallClock,
    ];

    /// Whether this one is asked for. Never, in a release build.
    #[must_use]
    pub fn is_on(self) -> bool {
        cfg!(debug_assertions) && *ASKED_FOR == Some(self)
    }

    /// What [`VARIABLE`] calls it.
    #[must_use]
    pub fn name(self) -> String {
        format!("{self:?}")
    }
}

static ASKED_FOR: LazyLock<Option<Mutant>> = LazyLock::new(|| {
    let name = std::env::var(VARIABLE).ok()?;
    let mutant = Mutant::ALL.into_iter().find(|mutant| mutant.name() == name)?;
    tracing::error!("this relay is broken on purpose: {VARIABLE}={name}");
    Some(mutant)
});
