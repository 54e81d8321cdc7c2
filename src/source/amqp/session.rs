//! One connection, channel and consumer: from opening it to its loss or the end of the source.
//!
//! Every acknowledgement comes from the ledger. The consumer is given up only when nothing is in flight, or together with its channel:
//! once it is cancelled, another relay may receive newer messages, which must not overtake older ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, Fuse, FusedFuture};
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions};
use lapin::types::ShortString;
use lapin::{Channel, Consumer};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::ack_pacer::{AckNeed, AckPacer};
use super::channel_opener::ChannelOpener;
use super::prefetch::Prefetch;
use super::prefetch_change::{PrefetchChange, PrefetchStep};
use super::queue::{self, OpenConsumer, QueueType};
use super::spill_requester::{Blocker, SpillRequester};
use super::{AmqpSource, SourceMemory};
use crate::amqp::guard::MessageEdits;
use crate::amqp::{BrokerAddress, BrokerError, Connection, REPLY_TIMEOUT, await_reply, values};
use crate::event::Message;
use crate::failpoints::Failpoint;
use crate::source::ledger::{Fingerprint, Registration};
use crate::source::receipt::{Receipt, Settlement};
use crate::timer::{Timer, scaled};

/// How many settlements are handled before messages get their turn, and the reverse.
const TURN: usize = 256;
/// The interval between two checks of the consumer's progress.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// A quorum queue drops a message after a number of deliveries (20 by default, since `RabbitMQ` 4). From this number on, a message is
/// stored before it is attempted, even if the spool is full.
const SPILL_AT_DELIVERY_COUNT: u64 = 5;
/// If the oldest message is unsettled for this time, the session closes its channel and receives its messages again. Otherwise the broker
/// would close the channel (`consumer_timeout`, 30 minutes by default).
const MAX_UNSETTLED: Duration = Duration::from_mins(10);

pub enum SessionEnd {
    Stopped,
    Paused,
    /// The source reconnects at once, to receive the unacknowledged messages again.
    Reopen,
    /// Another consumer takes from the queue.
    NotExclusive(BrokerError),
    Failed(BrokerError),
}

pub struct Session {
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    queue_type: QueueType,
    /// Whether the queue has `x-single-active-consumer`: it refuses an exclusive consumer.
    is_single_active: bool,
    prefetch: PrefetchChange,
    acks: AckPacer,
    spills: SpillRequester,
    address: BrokerAddress,
    /// Whether a message was received since the last check.
    has_progress: bool,
    /// The checks in a row without a message, although the queue had some.
    stalled_checks: u32,
}

impl Session {
    /// Connects, declares what is configured, and consumes.
    pub async fn open(source: &AmqpSource, memory: &mut SourceMemory) -> Result<Self, BrokerError> {
        let mut channels = ChannelOpener::connect(source, &mut memory.has_few_channels).await?;
        let prefetch = Prefetch::new(source.config.prefetch, &memory.largest_body, source.max_in_flight_bytes);
        let opened = queue::open(&mut channels, source, prefetch.get(), &mut memory.can_query_counts).await;
        let ChannelOpener { connection, address, .. } = channels;
        let OpenConsumer { channel, consumer, queue_type, is_single_active } = match opened {
            Ok(consumer) => consumer,
            Err(error) => {
                // The broker then takes back at once any messages that it sent.
                let _ = tokio::time::timeout(REPLY_TIMEOUT, connection.close(200, ShortString::default())).await;
                return Err(error);
            }
        };
        let now = Instant::now();
        Ok(Self {
            connection,
            channel,
            consumer,
            queue_type,
            is_single_active,
            prefetch: PrefetchChange::new(prefetch, now),
            acks: AckPacer::new(now),
            spills: SpillRequester::default(),
            address,
            has_progress: false,
            stalled_checks: 0,
        })
    }

    /// Hands out messages and acknowledges the settled ones, until the source is stopped or paused, or the session fails.
    pub async fn run(
        mut self,
        source: &AmqpSource,
        memory: &mut SourceMemory,
        stop: &CancellationToken,
        grace: Duration,
    ) -> SessionEnd {
        let end = match self.relay(source, memory, stop).await {
            Ok(end) => {
                source.stats.set_down(match &end {
                    SessionEnd::NotExclusive(_) => "stops consuming its queue, which has another consumer",
                    _ if stop.is_cancelled() => "is stopping",
                    _ => "is being paused",
                });
                self.drain(memory, grace).await;
                self.acknowledge_all(memory).await.map_or_else(|failed| failed, |()| end)
            }
            Err(SessionEnd::Reopen) => {
                self.acknowledge_all(memory).await.map_or_else(|failed| failed, |()| SessionEnd::Reopen)
            }
            Err(end) => end,
        };
        memory.ledger.lose_channel();
        // A lost connection needs no close, and a broker that doesn't answer ends the connection by its own time-out.
        let _ = tokio::time::timeout(REPLY_TIMEOUT, self.connection.close(200, ShortString::default())).await;
        end
    }

    /// Returns `Ok` if the messages that were handed out may still be settled before the session ends.
    async fn relay(
        &mut self,
        source: &AmqpSource,
        memory: &mut SourceMemory,
        stop: &CancellationToken,
    ) -> Result<SessionEnd, SessionEnd> {
        let mut paused = source.paused.clone();
        let pause = wait_until_paused(&mut paused).fuse();
        let stopped = stop.cancelled();
        tokio::pin!(pause, stopped);
        let mut timer = Timer::default();
        let mut check =
            tokio::time::interval_at((Instant::now() + scaled(CHECK_INTERVAL)).into(), scaled(CHECK_INTERVAL));
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settlements = Vec::with_capacity(TURN);
        let mut acknowledging = Fuse::terminated();
        let end = loop {
            self.change_prefetch(source, memory).await?;
            if self.acks.take_due(self.ack_need(memory), Instant::now())
                && let Some(acknowledge) = self.acknowledge(memory)
            {
                acknowledging = acknowledge.fuse();
                self.acks.on_sent(Instant::now());
            }
            if let Some(up_to) = self.spills.take_due(self.blocker(memory), Instant::now()) {
                memory.signals.request_spill(up_to);
            }
            source.stats.set_head_since(memory.ledger.head().map(|(_, since)| since));
            let deadline = self.next_deadline(memory);
            tokio::select! {
                biased;
                () = &mut stopped => break SessionEnd::Stopped,
                true = &mut pause, if !pause.is_terminated() => break SessionEnd::Paused,
                _ = memory.settlements.recv_many(&mut settlements, TURN) => self.settle(memory, &mut settlements)?,
                written = &mut acknowledging, if !acknowledging.is_terminated() => {
                    written?;
                    self.acks.on_written();
                }
                () = timer.sleep_until(deadline) => {}
                delivery = self.consumer.next(), if !self.prefetch.is_cancelled() => {
                    self.receive(source, memory, delivery)?;
                }
                _ = check.tick() => if let Some(error) = self.check_progress(source, memory).await? {
                    break SessionEnd::NotExclusive(error);
                },
            }
        };
        if !acknowledging.is_terminated() {
            acknowledging.await?;
        }
        Ok(end)
    }

    /// The time of the next work that neither a message nor a settlement triggers.
    fn next_deadline(&self, memory: &SourceMemory) -> Option<Instant> {
        let acknowledge = self.acks.next_deadline(self.ack_need(memory));
        let spill = self.spills.next_deadline(self.blocker(memory));
        let grow = self.prefetch.next_deadline(Instant::now());
        [acknowledge, spill, grow].into_iter().flatten().min()
    }

    fn settle(&mut self, memory: &mut SourceMemory, settlements: &mut Vec<Settlement>) -> Result<(), SessionEnd> {
        let abandoned = settlements.drain(..).fold(false, |any, one| memory.ledger.settle(one) | any);
        if abandoned {
            let text = "a delivery was dropped before it ended; the source reconnects to receive its message again";
            return Err(SessionEnd::Failed(BrokerError::connection_lost(text)));
        }
        self.acks.on_settled();
        Ok(())
    }

    /// Hands out one message, and those that were received with it.
    fn receive(
        &mut self,
        source: &AmqpSource,
        memory: &mut SourceMemory,
        first: Option<lapin::Result<Delivery>>,
    ) -> Result<(), SessionEnd> {
        self.receive_one(source, memory, first)?;
        for _ in 1..TURN {
            let Some(next) = self.consumer.next().now_or_never() else { break };
            self.receive_one(source, memory, next)?;
        }
        if self.prefetch.must_shrink() {
            return Err(SessionEnd::Reopen);
        }
        self.prefetch.on_unacknowledged(memory.ledger.unacknowledged(), Instant::now());
        // A redelivered message may be settled already.
        self.acks.on_settled();
        Ok(())
    }

    fn receive_one(
        &mut self,
        source: &AmqpSource,
        memory: &mut SourceMemory,
        received: Option<lapin::Result<Delivery>>,
    ) -> Result<(), SessionEnd> {
        match received {
            Some(Ok(delivery)) => {
                memory.largest_body.record(delivery.data.len());
                self.has_progress = true;
                self.prefetch.on_message(&memory.largest_body, source.max_in_flight_bytes);
                let edits = self.connection.take_edits(&self.channel, delivery.delivery_tag);
                hand_out(source, memory, delivery, edits.as_ref())
            }
            Some(Err(error)) => Err(SessionEnd::Failed(BrokerError::from_lapin(&error, &self.address))),
            None => Err(SessionEnd::Failed(consumer_cancelled(source))),
        }
    }

    /// Does the steps of a change of the prefetch that are possible now.
    async fn change_prefetch(&mut self, source: &AmqpSource, memory: &mut SourceMemory) -> Result<(), SessionEnd> {
        while !self.acks.is_in_flight() {
            let (is_settled, has_attempts) = (memory.ledger.is_settled(), memory.signals.has_spilled_attempts());
            match self.prefetch.next_step(is_settled, has_attempts, Instant::now()) {
                None => break,
                Some(PrefetchStep::Cancel) => {
                    self.cancel_consumer(source, memory).await?;
                    self.prefetch.on_cancelled();
                }
                Some(PrefetchStep::Consume(prefetch)) => {
                    if let Some(acknowledge) = self.acknowledge(memory) {
                        acknowledge.await?;
                    }
                    let exclusive = source.config.exclusive && !self.is_single_active;
                    let consumer = queue::consume(&self.channel, &self.address, source, prefetch, exclusive).await;
                    self.consumer = consumer.map_err(SessionEnd::Failed)?;
                    self.prefetch.on_consuming(prefetch);
                    tracing::debug!(source = %source.name, "prefetch changed to {prefetch}");
                }
            }
        }
        Ok(())
    }

    /// Cancels the consumer, and hands out what it still received.
    async fn cancel_consumer(&mut self, source: &AmqpSource, memory: &mut SourceMemory) -> Result<(), SessionEnd> {
        self.send_cancel().await.map_err(SessionEnd::Failed)?;
        loop {
            let next = tokio::time::timeout(REPLY_TIMEOUT, self.consumer.next()).await.map_err(|_| {
                SessionEnd::Failed(BrokerError::timeout(&self.address, "cancelling the consumer", REPLY_TIMEOUT))
            })?;
            let Some(delivery) = next else { return Ok(()) };
            self.receive_one(source, memory, Some(delivery))?;
        }
    }

    async fn send_cancel(&self) -> Result<(), BrokerError> {
        let cancel = self.channel.basic_cancel(self.consumer.tag(), BasicCancelOptions::default());
        await_reply(&self.address, "cancelling the consumer", cancel).await
    }

    /// The messages that block the source: the oldest one while half of the prefetch is in use; all while the prefetch changes, as every
    /// one has to be settled.
    fn blocker(&self, memory: &SourceMemory) -> Option<Blocker> {
        let (head, since) = memory.ledger.head()?;
        if self.prefetch.is_in_progress() {
            return Some(Blocker { up_to: memory.ledger.newest(), since });
        }
        self.prefetch.is_half_full(memory.ledger.unacknowledged()).then_some(Blocker { up_to: head, since })
    }

    fn ack_need(&self, memory: &SourceMemory) -> AckNeed {
        self.prefetch.ack_need(memory.ledger.unacknowledged(), Instant::now())
    }

    /// One acknowledgement of everything up to the watermark, if that has moved.
    fn acknowledge(&self, memory: &mut SourceMemory) -> Option<BoxFuture<'static, Result<(), SessionEnd>>> {
        let tag = memory.ledger.acknowledge()?;
        let (channel, address) = (self.channel.clone(), self.address.clone());
        let acknowledge = async move {
            let ack = channel.basic_ack(tag, BasicAckOptions { multiple: true });
            await_reply(&address, "acknowledging", ack).await.map_err(SessionEnd::Failed)
        };
        Some(acknowledge.boxed())
    }

    /// Waits until the messages are settled and no attempt of a spilled delivery is in flight, at most for `grace`.
    ///
    /// The consumer stays, so that no other relay's messages overtake those in flight. Nothing is acknowledged, so that the broker sends
    /// nothing more.
    async fn drain(&self, memory: &mut SourceMemory, grace: Duration) {
        if Failpoint::GiveUpTheConsumerEarly.is_enabled() {
            let _ = self.send_cancel().await;
        }
        let all = async {
            while memory.ledger.unsettled() > 0 {
                let Some(settlement) = memory.settlements.recv().await else { break };
                memory.ledger.settle(settlement);
            }
            memory.signals.spilled_attempts_ended().await;
        };
        // The broker redelivers what isn't settled by then.
        let _ = tokio::time::timeout(grace, all).await;
        while let Ok(settlement) = memory.settlements.try_recv() {
            memory.ledger.settle(settlement);
        }
    }

    /// Acknowledges every settled message, also behind an unsettled one: otherwise it would be redelivered after the next start, and
    /// delivered again. To be called before the channel is closed: the broker takes back the rest and the consumer at once.
    async fn acknowledge_all(&mut self, memory: &mut SourceMemory) -> Result<(), SessionEnd> {
        let is_full = self.prefetch.is_full(memory.ledger.unacknowledged());
        let nothing_in_flight = memory.ledger.unsettled() == 0 && !memory.signals.has_spilled_attempts();
        if is_full && nothing_in_flight && !self.prefetch.is_cancelled() {
            // The consumer would receive more after the acknowledgements, which the broker would only redeliver.
            self.send_cancel().await.map_err(SessionEnd::Failed)?;
        }
        if let Some(acknowledge) = self.acknowledge(memory) {
            acknowledge.await?;
        }
        for tag in memory.ledger.settled_beyond_watermark() {
            let ack = self.channel.basic_ack(tag, BasicAckOptions { multiple: false });
            await_reply(&self.address, "acknowledging", ack).await.map_err(SessionEnd::Failed)?;
        }
        Ok(())
    }

    /// Fails if no message arrives although the queue has some, or if the oldest message is unsettled for too long. Returns an error if
    /// another consumer takes from the queue.
    async fn check_progress(
        &mut self,
        source: &AmqpSource,
        memory: &mut SourceMemory,
    ) -> Result<Option<BrokerError>, SessionEnd> {
        // A quorum queue counts the deliveries of a message, and drops it after some: its messages are not received again.
        if self.queue_type != QueueType::Quorum
            && memory.ledger.oldest().is_some_and(|age| age >= scaled(MAX_UNSETTLED))
        {
            return Err(SessionEnd::Reopen);
        }
        let expects_none = self.prefetch.is_in_progress() || self.prefetch.is_full(memory.ledger.unacknowledged());
        let is_moving = std::mem::take(&mut self.has_progress) || expects_none;
        let may_be_shared = self.queue_type != QueueType::Classic && source.config.exclusive && !self.is_single_active;
        if !memory.can_query_counts || (is_moving && !may_be_shared) {
            self.stalled_checks = 0;
            return Ok(None);
        }
        // On the same channel, because the user may be limited to one.
        let queue = &source.config.queue;
        let counts = match queue::query_counts(&self.channel, &self.address, queue).await {
            Ok(counts) => counts,
            Err(error) => {
                memory.can_query_counts &= !queue::is_refusal(&error);
                return Err(SessionEnd::Failed(error));
            }
        };
        if may_be_shared && counts.consumers > 1 {
            return Ok(Some(queue::not_exclusive(&self.address, queue)));
        }
        self.stalled_checks = if is_moving || counts.messages == 0 { 0 } else { self.stalled_checks + 1 };
        if self.stalled_checks < 2 {
            return Ok(None);
        }
        let seconds = 2 * CHECK_INTERVAL.as_secs();
        let text =
            format!("queue {queue} has messages, but the broker sent none for {seconds} s; the source reconnects");
        Err(SessionEnd::Failed(BrokerError::connection_lost(text)))
    }
}

/// Returns false if the source can't be paused any more.
async fn wait_until_paused(paused: &mut watch::Receiver<bool>) -> bool {
    paused.wait_for(|paused| *paused).await.is_ok()
}

fn hand_out(
    source: &AmqpSource,
    memory: &mut SourceMemory,
    delivery: Delivery,
    edits: Option<&MessageEdits>,
) -> Result<(), SessionEnd> {
    let message = Message {
        source: source.name.clone(),
        properties: values::decode_properties(&delivery.properties, edits),
        body: Bytes::from(delivery.data),
        redelivered: delivery.redelivered,
    };
    let fingerprint = Fingerprint(message.fingerprint());
    let must_spill = message.delivery_count() >= SPILL_AT_DELIVERY_COUNT;
    match memory.ledger.register(delivery.delivery_tag, fingerprint, message.redelivered) {
        Registration::New(entry) => {
            if must_spill {
                memory.signals.require_spill(entry);
            }
            let receipt = Receipt::with_signals(entry, memory.settlement_sender.clone(), Arc::clone(&memory.signals));
            source.intake.accept(message, receipt);
            if Failpoint::AcknowledgeEarly.is_enabled() {
                memory.ledger.settle(Settlement::Done(entry));
            }
            Ok(())
        }
        Registration::Known => {
            if must_spill {
                memory.signals.require_spill(memory.ledger.newest());
            }
            Ok(())
        }
        Registration::TagOutOfOrder => {
            let text = "the broker's delivery tags are out of order; the source reconnects";
            Err(SessionEnd::Failed(BrokerError::connection_lost(text)))
        }
    }
}

fn consumer_cancelled(source: &AmqpSource) -> BrokerError {
    let queue = &source.config.queue;
    BrokerError::connection_lost(format!("the broker cancelled the consumer; queue {queue} may have been deleted"))
}
