//! One connection, channel and consumer, from opening to losing it or stopping.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Fuse, FusedFuture};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions};
use lapin::types::ShortString;
use lapin::{Channel, Consumer};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::channels::Channels;
use super::prefetch::Prefetch;
use super::queue::{self, Consuming, Kind};
use super::{AmqpSource, State};
use crate::amqp::guard::Note;
use crate::amqp::values;
use crate::amqp::{ANSWER_TIMEOUT, Connection, Place, Problem, answer};
use crate::event::Message;
use crate::failpoints::Failpoint;
use crate::source::HELD_UP;
use crate::source::ledger::{Identity, Received};
use crate::source::receipt::{EntryId, Receipt, Settled};
use crate::timer::{Timer, scaled};

/// How many settlements are taken, or messages handed out, before the other gets its turn.
const TURN: usize = 256;
/// Cumulative acknowledgements wait for each other, unless half of the prefetch is taken: each costs a broker as much as a
/// message, and far more on a queue with 255 priorities.
const BETWEEN_ACKNOWLEDGEMENTS: Duration = Duration::from_millis(20);
/// The same while the consumer has to fill up before one with a larger prefetch takes over: longer than what was acknowledged
/// takes to be replaced, or a broker that is far away would never fill it.
const WHILE_FILLING: Duration = Duration::from_millis(250);
/// A larger prefetch is put off for so long while attempts go on of deliveries that are on disk: at a slow sink, say.
const GROW_AGAIN: Duration = Duration::from_secs(1);
/// How often progress is looked at.
const WATCH: Duration = Duration::from_secs(30);
/// A quorum queue that gave out a message so often drops it before long (at 20, since `RabbitMQ` 4; others are configured so): it is
/// stored before anything is tried, also where the spool is full.
const SPENT: u64 = 5;
/// A head that is unsettled for so long: the channel is closed before the broker does it (`consumer_timeout`, 30 minutes
/// by default), and its messages are taken anew.
const BLOCKED: Duration = Duration::from_mins(10);

/// How a session ended.
pub enum Ended {
    /// As asked.
    Stopped,
    /// As asked, until it is resumed.
    Paused,
    /// To take the unacknowledged messages anew, at once.
    Renew,
    /// Somebody else takes from the queue too.
    Shared(Problem),
    /// For this reason.
    Lost(Problem),
}

/// An open consumer.
pub struct Session {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    kind: Kind,
    /// The queue itself lets one consumer take from it: none may be exclusive.
    is_single_active: bool,
    prefetch: Prefetch,
    /// The prefetch that the consumer began with: it holds for new consumers only.
    limit: u16,
    /// No consumer with a larger prefetch takes over before.
    grow_at: Instant,
    /// The consumer is to give way to one with another prefetch, and nothing is acknowledged until it has.
    change: Change,
    place: Place,
    /// A message came since progress was last looked at.
    progress: bool,
    /// How often in a row there was none while the queue had messages.
    stalls: u32,
}

/// How far a change of the prefetch has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    /// The consumer has all that it may: nothing more comes.
    Full,
    /// The consumer is cancelled.
    Cancelled,
}

impl Session {
    /// Connects, declares what is asked for, and consumes.
    pub async fn open(source: &AmqpSource, state: &mut State) -> Result<Self, Problem> {
        let mut channels = Channels::connect(source, &mut state.few_channels).await?;
        let prefetch = Prefetch::new(source.config.prefetch, &state.largest, source.max_in_flight_bytes);
        let limit = prefetch.get();
        let opened = queue::open(&mut channels, source, limit, &mut state.may_ask).await;
        let Channels { connection, place, .. } = channels;
        let Consuming { channel, consumer, kind, is_single_active } = match opened {
            Ok(consuming) => consuming,
            Err(problem) => {
                // What it may have taken goes back at once.
                let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close(200, ShortString::default())).await;
                return Err(problem);
            }
        };
        Ok(Self {
            connection,
            channel,
            consumer,
            kind,
            is_single_active,
            prefetch,
            limit,
            grow_at: Instant::now(),
            change: Change::None,
            place,
            progress: false,
            stalls: 0,
        })
    }

    /// Hands out messages and acknowledges what is settled, until stopped or lost.
    pub async fn run(
        mut self,
        source: &AmqpSource,
        state: &mut State,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Ended {
        let ended = match self.relay(source, state, stop).await {
            Ok(asked) => {
                source.stats.set_down(match &asked {
                    Ended::Shared(_) => "gives up its queue, which has another consumer",
                    _ if stop.is_cancelled() => "is stopping",
                    _ => "is being paused",
                });
                self.drain(state, grace).await;
                self.acknowledge_all(state).await.map_or_else(|lost| lost, |()| asked)
            }
            Err(Ended::Renew) => self.acknowledge_all(state).await.map_or_else(|lost| lost, |()| Ended::Renew),
            Err(ended) => ended,
        };
        state.ledger.lose_channel();
        // A lost connection has nothing to close; a broker that doesn't answer is left to its time-out.
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, self.connection.close(200, ShortString::default())).await;
        ended
    }

    /// Until it is to end as asked, or is lost.
    async fn relay(
        &mut self,
        source: &AmqpSource,
        state: &mut State,
        stop: &CancellationToken,
    ) -> Result<Ended, Ended> {
        let mut paused = source.paused.clone();
        let pause = is_paused(&mut paused).fuse();
        let stopped = stop.cancelled();
        tokio::pin!(pause, stopped);
        let (mut acknowledging_timer, mut pressing_timer) = (Timer::default(), Timer::default());
        let mut watch = tokio::time::interval_at(Instant::now() + scaled(WATCH), scaled(WATCH));
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settled = Vec::with_capacity(TURN);
        // One acknowledgement on its way at a time: what settles meanwhile goes with the next.
        let mut acknowledging = Fuse::terminated();
        let mut acknowledged_at = Instant::now();
        let mut waits = false;
        let mut pressed = None;
        let asked = loop {
            if self.change != Change::None && acknowledging.is_terminated() && state.ledger.is_settled() {
                if self.change == Change::Full && !state.pressure.is_free() {
                    self.change = Change::None;
                    self.grow_at = Instant::now() + GROW_AGAIN;
                } else {
                    self.consume_anew(source, state).await?;
                }
            }
            let may_acknowledge = self.change == Change::None;
            let not_before = acknowledged_at + if self.is_narrow() { WHILE_FILLING } else { BETWEEN_ACKNOWLEDGEMENTS };
            let is_time = Instant::now() >= not_before || (self.is_half_full(state) && !self.is_narrow());
            if may_acknowledge && waits && acknowledging.is_terminated() && is_time {
                waits = false;
                if let Some(acknowledge) = self.acknowledge(state) {
                    acknowledging = acknowledge.fuse();
                    acknowledged_at = Instant::now();
                }
            }
            source.stats.set_head_since(state.ledger.head().map(|(_, since)| since));
            let held_up = self.held_up(state).filter(|(last, _)| pressed != Some(*last));
            let press_at = held_up.map(|(_, since)| since + HELD_UP);
            let acknowledge_at = (may_acknowledge && waits && acknowledging.is_terminated()).then_some(not_before);
            tokio::select! {
                biased;
                () = &mut stopped => break Ended::Stopped,
                true = &mut pause, if !pause.is_terminated() => break Ended::Paused,
                _ = state.settled.recv_many(&mut settled, TURN) => {
                    let abandoned = settled.drain(..).fold(false, |any, one| state.ledger.settle(one) | any);
                    if abandoned {
                        let problem = "a delivery was dropped unfinished; its message is taken anew";
                        return Err(Ended::Lost(Problem::lost(problem)));
                    }
                    waits = true;
                }
                acknowledged = &mut acknowledging, if !acknowledging.is_terminated() => acknowledged?,
                () = acknowledging_timer.sleep_until(acknowledge_at) => {}
                () = pressing_timer.sleep_until(press_at) => {
                    pressed = held_up.map(|(last, _)| last);
                    if let Some(last) = pressed {
                        state.pressure.press(last);
                    }
                }
                delivery = self.consumer.next(), if self.change != Change::Cancelled => {
                    self.receive(source, state, delivery)?;
                    // Redelivered messages that are settled already need nothing but this.
                    waits = true;
                }
                _ = watch.tick() => if let Some(shared) = self.watch(source, state).await? {
                    break Ended::Shared(shared);
                },
            }
        };
        if !acknowledging.is_terminated() {
            acknowledging.await?;
        }
        Ok(asked)
    }

    /// Hands out one message and those that wait behind it.
    fn receive(
        &mut self,
        source: &AmqpSource,
        state: &mut State,
        first: Option<lapin::Result<Delivery>>,
    ) -> Result<(), Ended> {
        self.take(source, state, first)?;
        for _ in 1..TURN {
            let Some(next) = self.consumer.next().now_or_never() else { break };
            self.take(source, state, next)?;
        }
        if self.prefetch.get() < self.limit {
            // More of what is that large would be too much. The broker takes back all that is unacknowledged and the consumer at once;
            // cancelled with messages in flight, another relay could get what is newer.
            return Err(Ended::Renew);
        }
        if self.is_narrow() && state.ledger.unacknowledged() >= usize::from(self.limit) {
            self.change = Change::Full;
        }
        Ok(())
    }

    /// Hands out one message.
    fn take(
        &mut self,
        source: &AmqpSource,
        state: &mut State,
        received: Option<lapin::Result<Delivery>>,
    ) -> Result<(), Ended> {
        match received {
            Some(Ok(delivery)) => {
                state.largest.see(delivery.data.len());
                self.progress = true;
                self.prefetch.next(&state.largest, source.max_in_flight_bytes);
                let note = self.connection.take_note(&self.channel, delivery.delivery_tag);
                hand_out(source, state, delivery, note.as_ref())
            }
            Some(Err(error)) => Err(Ended::Lost(Problem::explain(&error, &self.place))),
            None => Err(Ended::Lost(cancelled(source))),
        }
    }

    /// Another consumer takes over with the prefetch as it is now.
    ///
    /// Everything that is unacknowledged is settled, and no attempt goes on. Were this the relay's end, another one could begin to consume before the
    /// broker takes those messages back: what it got would come before them, and at a sink after them all the same.
    async fn consume_anew(&mut self, source: &AmqpSource, state: &mut State) -> Result<(), Ended> {
        if self.change != Change::Cancelled {
            self.cancel(source, state).await?;
            self.change = Change::Cancelled;
            if !state.ledger.is_settled() {
                return Ok(());
            }
        }
        if let Some(acknowledge) = self.acknowledge(state) {
            acknowledge.await?;
        }
        self.limit = self.prefetch.get();
        let exclusive = source.config.exclusive && !self.is_single_active;
        let consumer = queue::consume(&self.channel, &self.place, source, self.limit, exclusive).await;
        self.consumer = consumer.map_err(Ended::Lost)?;
        self.change = Change::None;
        tracing::debug!(source = %source.name, prefetch = self.limit, "prefetch changed");
        Ok(())
    }

    /// Ends the consumer, and hands out what it still brought.
    async fn cancel(&mut self, source: &AmqpSource, state: &mut State) -> Result<(), Ended> {
        self.stop_consuming().await.map_err(Ended::Lost)?;
        let place = self.place.clone();
        let unanswered = || Ended::Lost(Problem::unanswered(&place, "cancelling the consumer", ANSWER_TIMEOUT));
        while let Some(left) =
            tokio::time::timeout(ANSWER_TIMEOUT, self.consumer.next()).await.map_err(|_| unanswered())?
        {
            self.take(source, state, Some(left))?;
        }
        Ok(())
    }

    async fn stop_consuming(&self) -> Result<(), Problem> {
        let cancel = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        answer(&self.place, "cancelling the consumer", cancel).await
    }

    /// The last message of those that hold up all others, and since when they may do so.
    fn held_up(&self, state: &State) -> Option<(EntryId, std::time::Instant)> {
        let (head, since) = state.ledger.head()?;
        match self.change {
            Change::None => self.is_half_full(state).then_some((head, since)),
            // All of them have to be settled.
            Change::Full | Change::Cancelled => Some((state.ledger.newest(), since)),
        }
    }

    fn is_half_full(&self, state: &State) -> bool {
        state.ledger.unacknowledged() * 2 >= usize::from(self.limit)
    }

    /// The consumer may have less unacknowledged than it should: it is let fill up, so that another can take over.
    fn is_narrow(&self) -> bool {
        self.limit < self.prefetch.get() && Instant::now() >= self.grow_at
    }

    /// The acknowledgement of everything that may be acknowledged now, if that is more than before.
    fn acknowledge(&self, state: &mut State) -> Option<BoxFuture<'static, Result<(), Ended>>> {
        let tag = state.ledger.acknowledge()?;
        let (channel, place) = (self.channel.clone(), self.place.clone());
        let ack = async move {
            let ack = channel.basic_ack(tag, BasicAckOptions { multiple: true });
            answer(&place, "acknowledging", ack).await.map_err(Ended::Lost)
        };
        Some(ack.boxed())
    }

    /// Takes no more messages, and waits until those handed out are settled and no attempt goes on, at most for `grace`.
    ///
    /// The consumer stays, so that no other relay overtakes what is in flight; nothing is acknowledged, so that nothing more comes.
    async fn drain(&self, state: &mut State, grace: Duration) {
        if Failpoint::GiveUpTheConsumerEarly.is_enabled() {
            let _ = self.stop_consuming().await;
        }
        let all = async {
            while state.ledger.unsettled() > 0 {
                let Some(settled) = state.settled.recv().await else { break };
                state.ledger.settle(settled);
            }
            state.pressure.freed().await;
        };
        // What isn't settled by then is redelivered to whoever consumes next.
        let _ = tokio::time::timeout(grace, all).await;
        while let Ok(settled) = state.settled.try_recv() {
            state.ledger.settle(settled);
        }
    }

    /// Acknowledges all that is settled, also behind what isn't: it would be redelivered, and repeated, after the next start. For a
    /// channel that is closed next, with which the broker takes back the rest and the consumer at once.
    async fn acknowledge_all(&mut self, state: &mut State) -> Result<(), Ended> {
        let nothing_comes = state.ledger.unacknowledged() >= usize::from(self.limit);
        let all_ended = state.ledger.unsettled() == 0 && state.pressure.is_free();
        if nothing_comes && all_ended && self.change != Change::Cancelled {
            // Acknowledgements would bring more, only to be taken back as redelivered.
            self.stop_consuming().await.map_err(Ended::Lost)?;
        }
        if let Some(acknowledge) = self.acknowledge(state) {
            acknowledge.await?;
        }
        for tag in state.ledger.stragglers() {
            let acknowledge = self.channel.basic_ack(tag, BasicAckOptions { multiple: false });
            answer(&self.place, "acknowledging", acknowledge).await.map_err(Ended::Lost)?;
        }
        Ok(())
    }

    /// Looks whether messages come while the queue has some, and whether the head has been unsettled for too long. Some: another
    /// consumer takes from the queue.
    async fn watch(&mut self, source: &AmqpSource, state: &mut State) -> Result<Option<Problem>, Ended> {
        // A quorum queue counts how often it gave out each message, and drops it in the end.
        if self.kind != Kind::Quorum && state.ledger.oldest().is_some_and(|age| age >= scaled(BLOCKED)) {
            return Err(Ended::Renew);
        }
        let full = self.change != Change::None || state.ledger.unacknowledged() >= usize::from(self.limit);
        let is_moving = std::mem::take(&mut self.progress) || full;
        let may_be_shared = self.kind != Kind::Classic && source.config.exclusive && !self.is_single_active;
        if !state.may_ask || (is_moving && !may_be_shared) {
            self.stalls = 0;
            return Ok(None);
        }
        // On the same channel: a user may be limited to one.
        let length = match queue::length(&self.channel, &self.place, &source.config.queue).await {
            Ok(length) => length,
            Err(problem) => {
                state.may_ask &= !queue::is_refusal(&problem);
                return Err(Ended::Lost(problem));
            }
        };
        if may_be_shared && length.consumers > 1 {
            return Ok(Some(queue::shared(&self.place, &source.config.queue)));
        }
        if is_moving || length.messages == 0 {
            self.stalls = 0;
            return Ok(None);
        }
        self.stalls += 1;
        if self.stalls < 2 {
            return Ok(None);
        }
        Err(Ended::Lost(Problem::lost(format!(
            "queue {} has messages, but none came for {} s",
            source.config.queue,
            2 * WATCH.as_secs()
        ))))
    }
}

/// Waits until the source is paused. False: nobody can pause it any more.
async fn is_paused(paused: &mut watch::Receiver<bool>) -> bool {
    paused.wait_for(|paused| *paused).await.is_ok()
}

fn hand_out(source: &AmqpSource, state: &mut State, delivery: Delivery, note: Option<&Note>) -> Result<(), Ended> {
    let message = Message {
        source: source.name.clone(),
        properties: values::properties(&delivery.properties, note),
        body: Bytes::from(delivery.data),
        redelivered: delivery.redelivered,
    };
    let identity = Identity(message.fingerprint());
    let is_spent = message.delivery_count() >= SPENT;
    match state.ledger.receive(delivery.delivery_tag, identity, message.redelivered) {
        Received::New(entry) => {
            if is_spent {
                state.pressure.store(entry);
            }
            let receipt = Receipt::under(entry, state.settle.clone(), Arc::clone(&state.pressure));
            source.intake.accept(message, receipt);
            if Failpoint::AcknowledgeEarly.is_enabled() {
                state.ledger.settle(Settled::Done(entry));
            }
            Ok(())
        }
        Received::Known => {
            if is_spent {
                state.pressure.store(state.ledger.newest());
            }
            Ok(())
        }
        Received::OutOfTurn => Err(Ended::Lost(Problem::lost("the broker's delivery tags are out of turn"))),
    }
}

fn cancelled(source: &AmqpSource) -> Problem {
    Problem::lost(format!("the broker cancelled the consumer: was queue {} deleted?", source.config.queue))
}
