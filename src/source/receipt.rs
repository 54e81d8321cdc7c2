//! The token that travels with a message until everything it became is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

/// A source's own number for a message it handed out; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u64);

/// What comes back to a source, once for each message it handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Everything it became is delivered, durable, or dropped on purpose: it may be acknowledged.
    Done(EntryId),
    /// Some part of it was dropped unfinished: it must never be acknowledged by this run.
    Abandoned(EntryId),
}

/// One holder's share in a message. Each must end in [`settle`](Self::settle); the last one to do so settles the message.
///
/// One that is dropped otherwise abandons the message: it will be redelivered, never lost.
#[derive(Debug)]
pub struct Receipt {
    share: Arc<Share>,
    held: bool,
}

#[derive(Debug)]
struct Share {
    entry: EntryId,
    abandoned: AtomicBool,
    to: UnboundedSender<Settled>,
    pressure: Arc<Pressure>,
}

/// What a source and the holders of its receipts tell each other beside the end of each message.
#[derive(Debug, Default)]
pub struct Pressure {
    /// Messages up to this one hold up the source.
    last: AtomicU64,
    /// Messages up to this one are to be on disk soon, whatever has room there.
    store: AtomicU64,
    /// Of the source.
    stop: CancellationToken,
    /// How many attempts go on of deliveries whose messages are settled.
    attempts: AtomicUsize,
    none_left: Notify,
}

impl Pressure {
    /// Of a source that ends at `stop`.
    #[must_use]
    pub fn until(stop: CancellationToken) -> Self {
        Self { stop, ..Self::default() }
    }

    /// Messages up to this one hold up the source: what is unsettled of them should be made durable soon.
    pub fn press(&self, entry: EntryId) {
        self.last.fetch_max(entry.0, Ordering::Relaxed);
    }

    /// The broker gives out messages up to this one a few times more at most: what is unsettled of them has to be made durable.
    pub fn store(&self, entry: EntryId) {
        self.store.fetch_max(entry.0, Ordering::Relaxed);
    }

    /// No attempt goes on of a delivery whose message is settled.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.attempts.load(Ordering::Acquire) == 0
    }

    /// Until [`is_free`](Self::is_free).
    pub async fn freed(&self) {
        while !self.is_free() {
            // One that ends meanwhile leaves its permit.
            self.none_left.notified().await;
        }
    }
}

/// An attempt that goes on although its message is settled, since the delivery is durable: whoever got the queue now would overtake it.
#[derive(Debug)]
pub struct InFlight(Arc<Pressure>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.attempts.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_one();
        }
    }
}

impl Receipt {
    /// The first share in the message `entry`; its end is told to `to`.
    #[must_use]
    pub fn new(entry: EntryId, to: UnboundedSender<Settled>) -> Self {
        Self::under(entry, to, Arc::default())
    }

    /// The same, where the source says by `pressure` what holds it up.
    #[must_use]
    pub fn under(entry: EntryId, to: UnboundedSender<Settled>, pressure: Arc<Pressure>) -> Self {
        let abandoned = AtomicBool::new(false);
        Self { share: Arc::new(Share { entry, abandoned, to, pressure }), held: true }
    }

    /// Its message holds up the source.
    #[must_use]
    pub fn is_pressing(&self) -> bool {
        self.share.entry.0 <= self.share.pressure.last.load(Ordering::Relaxed)
    }

    /// It is to be made durable, though the spool is full: its source ends, and what isn't settled soon is taken anew by the next one, for
    /// all sinks; or the broker is about to drop its message.
    #[must_use]
    pub fn must_be_stored(&self) -> bool {
        let pressure = &self.share.pressure;
        pressure.stop.is_cancelled() || self.share.entry.0 <= pressure.store.load(Ordering::Relaxed)
    }

    /// For an attempt that goes on once this is settled.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        self.share.pressure.attempts.fetch_add(1, Ordering::AcqRel);
        InFlight(Arc::clone(&self.share.pressure))
    }

    /// One more share, for one more thing the message became.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { share: Arc::clone(&self.share), held: true }
    }

    /// This share's part is done.
    pub fn settle(mut self) {
        self.held = false;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.held {
            self.share.abandoned.store(true, Ordering::Release);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let settled =
            if *self.abandoned.get_mut() { Settled::Abandoned(self.entry) } else { Settled::Done(self.entry) };
        // The source is gone only when the relay stops; the broker then keeps the message.
        let _ = self.to.send(settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[test]
    fn what_holds_up_its_source_is_told_so() {
        let (to, _settled) = mpsc::unbounded_channel();
        let pressure = Arc::default();
        let receipts = [1, 2, 3].map(|entry| Receipt::under(EntryId(entry), to.clone(), Arc::clone(&pressure)));
        assert_eq!(receipts.each_ref().map(Receipt::is_pressing), [false; 3]);
        pressure.press(EntryId(2));
        pressure.press(EntryId(1));
        assert_eq!(receipts.each_ref().map(Receipt::is_pressing), [true, true, false]);
    }

    #[tokio::test]
    async fn an_attempt_that_goes_on_is_known_until_it_ends() {
        let (to, mut settled) = mpsc::unbounded_channel();
        let pressure = Arc::<Pressure>::default();
        let receipt = Receipt::under(EntryId(1), to, Arc::clone(&pressure));
        let attempts = [receipt.in_flight(), receipt.in_flight()];
        receipt.settle();
        assert_eq!(settled.try_recv(), Ok(Settled::Done(EntryId(1))));
        assert!(!pressure.is_free());
        let freed = pressure.freed();
        tokio::pin!(freed);
        assert!(futures_util::poll!(&mut freed).is_pending());
        let [one, other] = attempts;
        drop(one);
        assert!(futures_util::poll!(&mut freed).is_pending());
        drop(other);
        freed.await;
        assert!(pressure.is_free());
    }

    #[test]
    fn a_message_is_settled_when_its_last_share_is() {
        let (to, mut settled) = mpsc::unbounded_channel();
        let first = Receipt::new(EntryId(7), to);
        let second = first.share();
        first.settle();
        assert!(settled.try_recv().is_err());
        second.settle();
        assert_eq!(settled.try_recv(), Ok(Settled::Done(EntryId(7))));
    }

    #[test]
    fn one_dropped_share_abandons_the_message() {
        let (to, mut settled) = mpsc::unbounded_channel();
        let first = Receipt::new(EntryId(7), to);
        drop(first.share());
        first.settle();
        assert_eq!(settled.try_recv(), Ok(Settled::Abandoned(EntryId(7))));
    }
}
