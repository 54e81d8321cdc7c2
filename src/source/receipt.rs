//! The token that travels with a message until every delivery made of it is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// A source's own number for a message it handed out. Numbers ascend and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u64);

/// The end of a message, reported to its source exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Everything the message became is delivered, durable, or dropped as configured: the message may be acknowledged.
    Done(EntryId),
    /// A share was dropped unsettled: this run must never acknowledge the message.
    Abandoned(EntryId),
}

/// One holder's share in a message. The message is settled once every share is [settled](Self::settle).
///
/// A share that is dropped unsettled abandons the message: the broker redelivers it, so it is never lost.
#[derive(Debug)]
pub struct Receipt {
    message: Arc<ReceiptState>,
    is_settled: bool,
}

#[derive(Debug)]
struct ReceiptState {
    entry: EntryId,
    abandoned: AtomicBool,
    settlements: UnboundedSender<Settlement>,
    signals: Arc<SourceSignals>,
}

/// What a source and the holders of its receipts tell each other in addition to settlements.
#[derive(Debug, Default)]
pub struct SourceSignals {
    /// Messages up to this number block the source.
    spill_up_to: AtomicU64,
    /// Messages up to this number must be spooled, even beyond the limits of the spool.
    must_spill_up_to: AtomicU64,
    stop: CancellationToken,
    spilled_attempts: AtomicUsize,
    last_attempt_ended: Notify,
}

impl SourceSignals {
    /// The signals of a source that ends at `stop`.
    #[must_use]
    pub fn with_stop(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// Asks to spill the unsettled messages up to this one soon, because it blocks the source.
    pub fn request_spill(&self, entry: EntryId) {
        self.spill_up_to.fetch_max(entry.0, Ordering::Relaxed);
    }

    /// Demands to spill the unsettled messages up to this one: the broker will drop it after a few more redeliveries.
    pub fn require_spill(&self, entry: EntryId) {
        self.must_spill_up_to.fetch_max(entry.0, Ordering::Relaxed);
    }

    /// Whether an attempt is in flight whose delivery was spilled, and whose message is therefore settled.
    #[must_use]
    pub fn has_spilled_attempts(&self) -> bool {
        self.spilled_attempts.load(Ordering::Acquire) > 0
    }

    pub async fn spilled_attempts_ended(&self) {
        while self.has_spilled_attempts() {
            // An attempt that ends between the two lines leaves a permit, so this doesn't miss it.
            self.last_attempt_ended.notified().await;
        }
    }
}

/// An attempt that is in flight although its message is settled, because its delivery was spilled. The source keeps its consumer
/// until it ends: another consumer's messages would overtake it.
#[derive(Debug)]
pub struct SpilledAttempt(Arc<SourceSignals>);

impl Drop for SpilledAttempt {
    fn drop(&mut self) {
        if self.0.spilled_attempts.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.last_attempt_ended.notify_one();
        }
    }
}

impl Receipt {
    /// The first share in a message. Its settlement is sent to `settlements`.
    #[must_use]
    pub fn new(entry: EntryId, settlements: UnboundedSender<Settlement>) -> Self {
        Self::with_signals(entry, settlements, Arc::default())
    }

    #[must_use]
    pub fn with_signals(entry: EntryId, settlements: UnboundedSender<Settlement>, signals: Arc<SourceSignals>) -> Self {
        let abandoned = AtomicBool::new(false);
        Self { message: Arc::new(ReceiptState { entry, abandoned, settlements, signals }), is_settled: false }
    }

    /// Whether the message blocks its source, so that its deliveries should be spilled soon.
    #[must_use]
    pub fn should_spill(&self) -> bool {
        self.message.entry.0 <= self.message.signals.spill_up_to.load(Ordering::Relaxed)
    }

    /// Whether the message must be stored even though the spool is full: its source is stopping and would receive it again,
    /// for all sinks; or the broker is about to drop it.
    #[must_use]
    pub fn must_spill(&self) -> bool {
        let signals = &self.message.signals;
        signals.stop.is_cancelled() || self.message.entry.0 <= signals.must_spill_up_to.load(Ordering::Relaxed)
    }

    /// A token for an attempt that stays in flight after this receipt is settled.
    #[must_use]
    pub fn spilled_attempt(&self) -> SpilledAttempt {
        self.message.signals.spilled_attempts.fetch_add(1, Ordering::AcqRel);
        SpilledAttempt(Arc::clone(&self.message.signals))
    }

    /// Another share, for another delivery of the same message.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { message: Arc::clone(&self.message), is_settled: false }
    }

    pub fn settle(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_settled {
            self.message.abandoned.store(true, Ordering::Release);
        }
    }
}

impl Drop for ReceiptState {
    fn drop(&mut self) {
        let settlement =
            if *self.abandoned.get_mut() { Settlement::Abandoned(self.entry) } else { Settlement::Done(self.entry) };
        // The receiver is gone only when the relay stops; the broker then keeps the message.
        let _ = self.settlements.send(settlement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn receipts_of_messages_that_block_the_source_should_spill() {
        let (to, _settled) = mpsc::unbounded_channel();
        let signals = Arc::default();
        let receipts = [1, 2, 3].map(|entry| Receipt::with_signals(EntryId(entry), to.clone(), Arc::clone(&signals)));
        assert_eq!(receipts.each_ref().map(Receipt::should_spill), [false; 3]);
        signals.request_spill(EntryId(2));
        signals.request_spill(EntryId(1));
        assert_eq!(receipts.each_ref().map(Receipt::should_spill), [true, true, false]);
    }

    #[tokio::test]
    async fn a_spilled_attempt_counts_until_it_ends() {
        let (to, mut settled) = mpsc::unbounded_channel();
        let signals = Arc::<SourceSignals>::default();
        let receipt = Receipt::with_signals(EntryId(1), to, Arc::clone(&signals));
        let attempts = [receipt.spilled_attempt(), receipt.spilled_attempt()];
        receipt.settle();
        assert_eq!(settled.try_recv(), Ok(Settlement::Done(EntryId(1))));
        assert!(signals.has_spilled_attempts());
        let freed = signals.spilled_attempts_ended();
        tokio::pin!(freed);
        assert!(futures_util::poll!(&mut freed).is_pending());
        let [one, other] = attempts;
        drop(one);
        assert!(futures_util::poll!(&mut freed).is_pending());
        drop(other);
        freed.await;
        assert!(!signals.has_spilled_attempts());
    }

    #[test]
    fn a_message_is_settled_with_its_last_share() {
        let (to, mut settled) = mpsc::unbounded_channel();
        let first = Receipt::new(EntryId(7), to);
        let second = first.share();
        first.settle();
        assert!(settled.try_recv().is_err());
        second.settle();
        assert_eq!(settled.try_recv(), Ok(Settlement::Done(EntryId(7))));
    }

    #[test]
    fn a_dropped_share_abandons_the_message() {
        let (to, mut settled) = mpsc::unbounded_channel();
        let first = Receipt::new(EntryId(7), to);
        drop(first.share());
        first.settle();
        assert_eq!(settled.try_recv(), Ok(Settlement::Abandoned(EntryId(7))));
    }
}
