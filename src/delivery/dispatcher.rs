//! The one task that owns a sink's lanes: takes deliveries in, makes attempts, and settles what they come to.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Delivery;
use super::lanes::{Lane, Lanes};
use super::notice::Throttle;
use super::stats::{DeliveryResult, SinkStats};
use crate::config::{OrderBy, Retry};
use crate::event::Reason;
use crate::rules::SinkName;
use crate::sink::{Attempt, AttemptEnd, AttemptId, Blame, Sink, Verdict};
use crate::spool::{DeadLetter, Spool};

/// How many deliveries or ends of attempts are taken at once.
const TURN: usize = 256;
/// Before an attempt that failed for a reason of the relay's own is made again.
const OWN_PAUSE: Duration = Duration::from_millis(100);
/// What a sink gets beyond the grace to end the attempts under way.
const CLOSING: Duration = Duration::from_secs(2);

/// Everything that delivers to one sink.
pub struct Dispatcher {
    name: SinkName,
    sink: Sink,
    order_by: OrderBy,
    retry: Retry,
    spool: Arc<Spool>,
    stats: Arc<SinkStats>,
    inbox: mpsc::UnboundedReceiver<Delivery>,
    lanes: Lanes<Delivery>,
    under_way: HashMap<AttemptId, (Option<Lane>, Delivery)>,
    /// By when they are due; the number keeps the order of equals.
    later: BinaryHeap<Reverse<Later>>,
    made: u64,
    ended: mpsc::UnboundedReceiver<AttemptEnd>,
    end: mpsc::UnboundedSender<AttemptEnd>,
    /// The sink itself fails; said once, until it delivers again.
    troubled: bool,
    /// Single deliveries fail, which says nothing of the others.
    failing: Throttle,
    dead: Throttle,
}

struct Later {
    due: Instant,
    number: u64,
    lane: Option<Lane>,
    delivery: Delivery,
}

impl Dispatcher {
    /// A dispatcher for a sink that is open, and where its deliveries are put. The inbox needs no bound of its own: what is
    /// in it is unacknowledged, and the sources' prefetch bounds that.
    #[must_use]
    pub fn new(
        name: SinkName,
        sink: Sink,
        order_by: OrderBy,
        retry: Retry,
        spool: Arc<Spool>,
        stats: Arc<SinkStats>,
    ) -> (Self, mpsc::UnboundedSender<Delivery>) {
        let (inbox_in, inbox) = mpsc::unbounded_channel();
        let (end, ended) = mpsc::unbounded_channel();
        let dispatcher = Self {
            name,
            sink,
            order_by,
            retry,
            spool,
            stats,
            inbox,
            lanes: Lanes::default(),
            under_way: HashMap::new(),
            later: BinaryHeap::new(),
            made: 0,
            ended,
            end,
            troubled: false,
            failing: Throttle::default(),
            dead: Throttle::default(),
        };
        (dispatcher, inbox_in)
    }

    /// Delivers until its inbox is closed and empty; after `stop` at most for `grace`. What is left then is dropped, so that
    /// its message is redelivered to the next run.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let mut deadline = None;
        let mut open = true;
        let mut incoming = Vec::with_capacity(TURN);
        let mut ended = Vec::with_capacity(TURN);
        while open || self.has_work() {
            self.attempt_ready();
            if deadline.is_some_and(|deadline| self.nothing_due_before(deadline)) {
                break;
            }
            let due = self.later.peek().map(|Reverse(later)| later.due);
            tokio::select! {
                biased;
                _ = self.ended.recv_many(&mut ended, TURN) => {
                    for (id, verdict) in ended.drain(..) {
                        self.attempt_ended(id, verdict);
                    }
                }
                taken = self.inbox.recv_many(&mut incoming, TURN), if open => {
                    open = taken > 0;
                    for delivery in incoming.drain(..) {
                        let lane = Lane::of(&self.name, self.order_by, &delivery.received.event);
                        self.lanes.push(lane, delivery);
                    }
                }
                () = at(due) => self.take_due(),
                () = stop.cancelled(), if deadline.is_none() => deadline = Some(Instant::now() + grace),
                () = at(deadline) => break,
            }
        }
        self.close().await;
    }

    fn has_work(&self) -> bool {
        self.lanes.is_ready() || !self.under_way.is_empty() || !self.later.is_empty()
    }

    /// Only retries are left, and none of them comes before the stop is over.
    fn nothing_due_before(&self, deadline: Instant) -> bool {
        !self.lanes.is_ready()
            && self.under_way.is_empty()
            && self.later.peek().is_some_and(|Reverse(later)| later.due >= deadline)
    }

    fn attempt_ready(&mut self) {
        while self.under_way.len() < self.sink.capacity() {
            let Some((lane, delivery)) = self.lanes.pop() else { return };
            match self.sink.render(&delivery.received.event, &delivery.received.message) {
                Ok(outgoing) => {
                    self.made += 1;
                    let id = AttemptId(self.made);
                    self.under_way.insert(id, (lane, delivery));
                    self.stats.attempt_began();
                    self.sink.attempt(outgoing, Attempt::new(id, self.end.clone()));
                }
                Err(error) => {
                    self.stats.count(DeliveryResult::RenderFailed);
                    self.bury(lane, delivery, error.reason, error.detail);
                }
            }
        }
    }

    fn attempt_ended(&mut self, id: AttemptId, verdict: Verdict) {
        let Some((lane, mut delivery)) = self.under_way.remove(&id) else { return };
        self.stats.attempt_ended();
        delivery.attempts = delivery.attempts.saturating_add(1);
        match verdict {
            Verdict::Delivered => {
                self.stats.count_delivered(delivery.since.elapsed());
                if std::mem::take(&mut self.troubled) {
                    tracing::info!(sink = %self.name, "delivers again");
                }
                delivery.receipt.settle();
                self.lanes.release(lane);
            }
            Verdict::Refused { cause } => {
                self.stats.count(DeliveryResult::Refused);
                self.bury(lane, delivery, Reason::Refused, cause);
            }
            Verdict::Retry { after, cause, blame } => self.try_later(lane, delivery, after, &cause, blame),
        }
    }

    fn try_later(
        &mut self,
        lane: Option<Lane>,
        mut delivery: Delivery,
        after: Option<Duration>,
        cause: &str,
        blame: Blame,
    ) {
        if blame == Blame::Relay {
            // Nothing was learned of the destination: it doesn't count as an attempt.
            delivery.attempts -= 1;
        } else if let Some(limit) = self.limit_reached(&delivery) {
            self.stats.count(DeliveryResult::GaveUp);
            self.bury(lane, delivery, Reason::GaveUp, format!("{limit}: {cause}"));
            return;
        }
        self.stats.count(DeliveryResult::Retried);
        self.notice_trouble(&delivery, cause, blame);
        let pause = match blame {
            Blame::Relay => after.unwrap_or(OWN_PAUSE),
            Blame::Sink | Blame::Delivery => back_off(&self.retry, delivery.attempts).max(after.unwrap_or_default()),
        };
        self.made += 1;
        self.later.push(Reverse(Later { due: Instant::now() + pause, number: self.made, lane, delivery }));
    }

    fn limit_reached(&self, delivery: &Delivery) -> Option<String> {
        if self.retry.attempts.is_some_and(|most| delivery.attempts >= most) {
            return Some(format!("gave up after {} attempts", delivery.attempts));
        }
        let age = self.retry.give_up_after.filter(|age| delivery.since.elapsed() >= *age)?;
        Some(format!("gave up {} s after receipt", age.as_secs()))
    }

    fn notice_trouble(&mut self, delivery: &Delivery, cause: &str, blame: Blame) {
        let event = &delivery.received.event;
        let (event_id, tenant, correlation_id) = (event.id, &event.tenant, event.correlation_id.as_str());
        let attempt = delivery.attempts;
        let left_out = match blame {
            Blame::Sink if !std::mem::replace(&mut self.troubled, true) => {
                tracing::warn!(
                    sink = %self.name, %event_id, %tenant, correlation_id, attempt, cause,
                    "does not deliver; its messages stay unacknowledged and are tried again"
                );
                return;
            }
            Blame::Delivery => self.failing.pass(),
            Blame::Sink | Blame::Relay => None,
        };
        if let Some(left_out) = left_out {
            tracing::warn!(
                sink = %self.name, %event_id, %tenant, correlation_id, attempt, cause, left_out,
                "a delivery failed; its message stays unacknowledged and is tried again"
            );
        } else {
            tracing::debug!(sink = %self.name, %event_id, %tenant, correlation_id, attempt, cause, "an attempt failed");
        }
    }

    /// No retry can deliver it: a dead letter, whose message is settled once that is on disk. It does not hold its lane.
    fn bury(&mut self, lane: Option<Lane>, delivery: Delivery, reason: Reason, detail: String) {
        let event = &delivery.received.event;
        if let Some(left_out) = self.dead.pass() {
            tracing::warn!(
                sink = %self.name, event_id = %event.id, tenant = %event.tenant, correlation_id = event.correlation_id,
                %reason, detail, left_out, "a delivery became a dead letter"
            );
        }
        let message = Arc::clone(&delivery.received.message);
        let letter =
            DeadLetter::of_event(event, message, reason, detail).for_sink(self.name.clone(), delivery.attempts);
        self.spool.store(letter, delivery.receipt);
        self.lanes.release(lane);
    }

    fn take_due(&mut self) {
        let now = Instant::now();
        while self.later.peek().is_some_and(|Reverse(later)| later.due <= now) {
            if let Some(Reverse(Later { lane, delivery, .. })) = self.later.pop() {
                self.lanes.again(lane, delivery);
            }
        }
    }

    async fn close(self) {
        let Self { sink, mut ended, end, mut under_way, stats, .. } = self;
        drop(end);
        sink.close(CLOSING).await;
        while let Ok((id, verdict)) = ended.try_recv() {
            stats.attempt_ended();
            if let (Some((_, delivery)), Verdict::Delivered) = (under_way.remove(&id), verdict) {
                stats.count_delivered(delivery.since.elapsed());
                delivery.receipt.settle();
            }
        }
    }
}

/// `first`, doubled with each attempt up to `max`; of that, a random half is taken away so that not all come at once.
fn back_off(retry: &Retry, attempts: u32) -> Duration {
    let doubled = retry.first.saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(retry.max).mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// At that time, or never.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_first_to_max() {
        let retry =
            Retry { first: Duration::from_secs(5), max: Duration::from_mins(10), give_up_after: None, attempts: None };
        for (attempts, seconds) in [(1, 5), (2, 10), (3, 20), (8, 600), (40, 600), (u32::MAX, 600)] {
            let pause = back_off(&retry, attempts);
            let whole = Duration::from_secs(seconds);
            assert!(pause >= whole / 2 && pause <= whole, "{attempts}: {pause:?}");
        }
    }
}
