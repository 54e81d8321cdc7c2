//! The task that owns the deliveries of a sink: it queues them, starts attempts, and handles how they end.
//!
//! [`Dispatcher::run`] waits for whatever comes first: a delivery, the end of an attempt, an event of the spool, a command, or the time
//! that [`Dispatcher::tick`] returned. Each kind of timed work has one function that says when it is due; `tick` uses it to decide whether
//! to do the work, and when to wake up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use super::breaker::{Breaker, Gate};
use super::lanes::{Lane, Lanes, key};
use super::log_limit::{ErrorLogLimiter, LogLimiter};
use super::overdue::CHECK_INTERVAL;
use super::state::{ON_REQUEST, PersistedState};
use super::stats::{AttemptResult, SinkStats};
use super::{Backing, Delivery, Payload};
use crate::clock::MonotonicTime;
use crate::config::{Config, OrderBy, Retry, SinkConfig, SinkKind, WebhookUrl, WhenFull};
use crate::event::Reason;
use crate::failpoints::Failpoint;
use crate::journal::{DeliveryEnd, Journal};
use crate::rules::{Rules, SinkName};
use crate::sink::{Attempt, AttemptEnd, AttemptId, MAX_RETRY_AFTER, RenderError, RenderedDelivery, Sink, Verdict};
use crate::spool::{Component, RowId, Spool, SpoolEvent};
use crate::tasks::{self, TaskKind};
use crate::timer::Timer;

/// How many deliveries or ends of attempts are handled in one round.
const BATCH: usize = 256;
/// How long the old client of a sink may take to end its attempts after a reload has replaced it.
const RETIRE_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a sink may take after the grace period to end its attempts.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A command to the dispatcher of a sink.
pub enum SinkCommand {
    Pause,
    Resume,
    /// New settings, with the reopened sink if its configuration has changed.
    Reload(Box<Settings>, Option<Box<Sink>>),
}

/// The sending ends of a dispatcher's channels.
#[derive(Debug, Clone)]
pub struct DispatcherHandle {
    /// Unbounded, because the messages of its deliveries are unacknowledged: the prefetch of the sources bounds them.
    pub deliveries: mpsc::UnboundedSender<Delivery>,
    /// Unbounded, because people send commands, and rarely.
    pub commands: mpsc::UnboundedSender<SinkCommand>,
}

/// What is configured for the deliveries of a sink.
#[derive(Debug, Clone)]
pub struct Settings {
    pub name: SinkName,
    pub order_by: OrderBy,
    pub rules: Arc<Rules>,
    pub retry: Retry,
    pub when_full: WhenFull,
    /// Deliveries that are in memory for longer are spooled.
    pub spill_after: Duration,
    /// The sink gets copies of dead letters.
    pub takes_dead_letters: bool,
    /// A `Retry-After` may be for one delivery only, as with a webhook whose URL depends on the event.
    pub has_retry_after_per_delivery: bool,
}

impl Settings {
    #[must_use]
    pub fn of(sink: &SinkConfig, config: &Config) -> Self {
        Self {
            name: sink.name.clone(),
            order_by: sink.order_by,
            rules: Arc::clone(&config.rules),
            retry: sink.retry.clone(),
            when_full: sink.when_full,
            spill_after: config.delivery.spill_after,
            takes_dead_letters: config.dead_letters.to.as_ref() == Some(&sink.name),
            has_retry_after_per_delivery: matches!(&sink.kind, SinkKind::Webhook(webhook) if matches!(webhook.url, WebhookUrl::Templated { .. })),
        }
    }

    /// The longest time for which an earlier run can have rescheduled a delivery. If its clock may have been wrong, a `Retry-After` doesn't
    /// count.
    fn longest_backoff(&self, clock_is_trusted: bool) -> Duration {
        let retry_after =
            if self.has_retry_after_per_delivery && clock_is_trusted { MAX_RETRY_AFTER } else { Duration::ZERO };
        self.retry.max_backoff.max(retry_after)
    }
}

/// All deliveries of one sink, and the sink.
pub struct Dispatcher {
    pub(super) settings: Settings,
    /// The order of the deliveries that are queued or spooled now. A new `order_by` takes effect once none of these is left.
    pub(super) order_by: OrderBy,
    sink: Sink,
    pub(super) spool: Arc<Spool>,
    pub(super) journal: Journal,
    pub(super) stats: Arc<SinkStats>,
    inbox: mpsc::UnboundedReceiver<Delivery>,
    commands: mpsc::UnboundedReceiver<SinkCommand>,
    spool_events: mpsc::UnboundedReceiver<SpoolEvent>,
    pub(super) lanes: Lanes<Delivery>,
    pub(super) backlog: Backlog,
    pub(super) in_flight: HashMap<AttemptId, (Lane, Delivery)>,
    /// Spooled deliveries that become dead letters, with their lanes. They are in memory, and count as taken from the spool, until the dead
    /// letter is on disk.
    pub(super) pending_dead_letters: HashMap<RowId, Lane>,
    pub(super) breaker: Breaker,
    /// The end of the grace period, set at the stop. From the stop on, nothing is taken from the spool, and queued deliveries are spooled.
    deadline: Option<Instant>,
    /// Whether the sink blocked a source and has not caught up since. New deliveries are then spooled at once.
    pub(super) is_slow: bool,
    /// Whether the last attempt was for a spooled delivery: new and spooled deliveries take turns.
    last_was_spooled: bool,
    /// When deliveries in memory are next checked for their age.
    pub(super) next_check: Instant,
    last_number: u64,
    attempt_ends: mpsc::UnboundedReceiver<AttemptEnd>,
    attempt_end_sender: mpsc::UnboundedSender<AttemptEnd>,
    /// Whether the log has the line that the sink is unavailable. It is written once, until the sink delivers again.
    pub(super) is_logged_as_unavailable: bool,
    /// For failures that affect only one delivery.
    pub(super) failure_log: ErrorLogLimiter,
    pub(super) dead_letter_log: LogLimiter,
    pub(super) drop_log: LogLimiter,
}

impl Dispatcher {
    /// None: the spool is closed.
    pub async fn new(
        settings: Settings,
        sink: Sink,
        spool: Arc<Spool>,
        journal: Journal,
        stats: Arc<SinkStats>,
    ) -> Option<(Self, DispatcherHandle)> {
        let watch = spool.subscribe(settings.name.clone()).await?;
        let state = PersistedState::parse(spool.saved_state(&Component::Sink(settings.name.to_string())).as_deref());
        let mut lanes = Lanes::default();
        let mut count = 0;
        for (lane, rows) in watch.lanes {
            count += u64::from(rows);
            if state.order_by != OrderBy::None && !Failpoint::ForgetLanesAtRestart.is_enabled() {
                lanes.set_spooled(lane, rows);
            }
        }
        // Due times of an earlier boot may come from a wrong clock.
        let longest = settings.longest_backoff(spool.is_same_boot());
        spool.make_due(settings.name.clone(), MonotonicTime::now().after(longest));
        let breaker = Breaker::restore(&state, settings.retry.max_backoff);
        stats.set_breaker_open(breaker.is_open());
        stats.set_paused(breaker.pause().is_some());
        if let Some(error) = state.outage() {
            stats.set_failing(&error);
        }
        let (deliveries, inbox) = mpsc::unbounded_channel();
        let (command_sender, commands) = mpsc::unbounded_channel();
        let (attempt_end_sender, attempt_ends) = mpsc::unbounded_channel();
        let dispatcher = Self {
            is_logged_as_unavailable: breaker.is_open(),
            order_by: state.order_by,
            settings,
            sink,
            spool,
            journal,
            stats,
            inbox,
            commands,
            spool_events: watch.events,
            lanes,
            backlog: Backlog::new(count),
            in_flight: HashMap::default(),
            pending_dead_letters: HashMap::default(),
            breaker,
            deadline: None,
            is_slow: false,
            last_was_spooled: false,
            next_check: Instant::now(),
            last_number: 0,
            attempt_ends,
            attempt_end_sender,
            failure_log: ErrorLogLimiter::default(),
            dead_letter_log: LogLimiter::default(),
            drop_log: LogLimiter::default(),
        };
        Some((dispatcher, DispatcherHandle { deliveries, commands: command_sender }))
    }

    /// Runs until its inbox is closed and no delivery is left in memory or in the spool. After `stop` it finishes the deliveries in memory
    /// within `grace` and spools the rest, beyond the limits of the spool. If the disk has no room, a delivery is dropped, so that its
    /// message is redelivered to the next run.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let mut is_open = true;
        let mut incoming = Vec::with_capacity(BATCH);
        let mut ended = Vec::with_capacity(BATCH);
        let (mut deadline, mut wake_up) = (Timer::default(), Timer::default());
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        loop {
            let next_tick = self.tick();
            if !is_open && self.is_finished() {
                break;
            }
            tokio::select! {
                biased;
                () = &mut stopped, if self.deadline.is_none() => {
                    self.deadline = Some(Instant::now() + grace);
                    self.sink.cancel_unsent();
                }
                () = deadline.sleep_until(self.deadline) => break,
                _ = self.attempt_ends.recv_many(&mut ended, BATCH) => {
                    for (id, verdict) in ended.drain(..) {
                        self.on_attempt_end(id, verdict);
                    }
                }
                Some(event) = self.spool_events.recv() => self.on_spool_event(event),
                Some(command) = self.commands.recv() => self.on_command(command),
                taken = self.inbox.recv_many(&mut incoming, BATCH), if is_open && !self.is_changing_order() => {
                    is_open = taken > 0;
                    for delivery in incoming.drain(..) {
                        self.on_delivery(delivery);
                    }
                }
                () = wake_up.sleep_until(next_tick) => {}
            }
        }
        self.spill_all();
        self.close().await;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.deadline.is_some()
    }

    fn is_finished(&self) -> bool {
        self.lanes.is_empty() && self.in_flight.is_empty() && (self.is_stopping() || self.backlog.count == 0)
    }

    /// Does all timed work that is due, and returns when the next is due. It also runs after every message that arrives before.
    fn tick(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(Some(self.next_check)) {
            self.next_check = now + CHECK_INTERVAL;
            self.spill_overdue();
        }
        self.lanes.wake(now);
        if self.breaker.end_pause() {
            tracing::info!(sink = %self.settings.name, "the pause of the sink has ended; deliveries continue");
            self.save_state();
        }
        if self.order_by != self.settings.order_by && self.is_empty() {
            self.order_by = self.settings.order_by;
            self.save_state();
        }
        if self.is_slow && self.backlog.has_caught_up() && self.in_flight.len() < self.capacity() {
            self.is_slow = false;
        }
        if is_due(self.next_fetch()) {
            self.backlog.fetch(&self.spool, &self.settings.name);
        }
        if is_due(self.next_expiry(now)) {
            self.give_up_expired();
        }
        self.start_attempts();
        let next_check = (!self.lanes.is_empty()).then_some(self.next_check);
        let due_times =
            [next_check, self.lanes.next_due(), self.next_fetch(), self.next_expiry(now), self.next_attempt()];
        due_times.into_iter().flatten().min()
    }

    /// When to ask the spool for deliveries that are due.
    fn next_fetch(&self) -> Option<Instant> {
        let fetch = self.backlog.next_fetch().filter(|_| !self.is_stopping())?;
        match self.breaker.gate() {
            Gate::Open => Some(fetch),
            Gate::Probe(_) if self.gives_up_without_attempt() => Some(fetch),
            Gate::Probe(at) | Gate::Paused(at) => at.map(|at| at.max(fetch)),
        }
    }

    /// When the oldest delivery taken from the spool has to be given up.
    fn next_expiry(&self, now: Instant) -> Option<Instant> {
        let give_up_after = self.settings.retry.give_up_after.filter(|_| self.gives_up_without_attempt())?;
        self.backlog.oldest_age().map(|age| now + give_up_after.saturating_sub(age))
    }

    /// Behind an open breaker deliveries are given up although no attempt fails.
    fn gives_up_without_attempt(&self) -> bool {
        let has_limit = self.settings.retry.give_up_after.is_some();
        has_limit && !self.is_stopping() && matches!(self.breaker.gate(), Gate::Probe(_))
    }

    /// When the breaker or the pause allows the next attempt. An open gate needs no timer: attempts then wait for deliveries, or for
    /// the end of others.
    fn next_attempt(&self) -> Option<Instant> {
        match self.breaker.gate() {
            Gate::Open => None,
            Gate::Paused(until) => until,
            Gate::Probe(at) => {
                let has_next = self.backlog.is_due() || self.lanes.is_ready();
                at.filter(|_| has_next && !self.is_stopping() && self.in_flight.len() < self.capacity())
            }
        }
    }

    fn on_delivery(&mut self, delivery: Delivery) {
        let lane = match self.order_by {
            OrderBy::None => Lane::Free(self.next_number()),
            order_by => Lane::of_key(key(&self.settings.name, order_by, delivery.payload.event())),
        };
        self.enqueue(lane, delivery);
    }

    fn on_spool_event(&mut self, event: SpoolEvent) {
        match event {
            SpoolEvent::Due(due) => self.backlog.on_due(due),
            SpoolEvent::AlreadySpooled { key } => {
                self.backlog.remove_duplicate();
                self.lanes.remove_spooled(self.lane_of_row(key));
            }
            SpoolEvent::DeadLettered { id, key } => self.on_dead_letter_stored(id, key),
            SpoolEvent::Added { key } => {
                self.lanes.add_spooled(self.lane_of_row(key));
                self.backlog.add(Instant::now());
            }
            SpoolEvent::NotCopied { dead_letter } => self.on_copy_rejected(dead_letter),
        }
    }

    fn on_command(&mut self, command: SinkCommand) {
        let sink = &self.settings.name;
        match command {
            SinkCommand::Pause => {
                tracing::info!(%sink, "sink paused on request; deliveries are spooled until it is resumed");
                self.breaker.pause_until_resumed(ON_REQUEST.to_owned());
            }
            SinkCommand::Resume => {
                tracing::info!(%sink, "sink resumed on request");
                self.breaker.resume();
                self.make_all_due();
            }
            SinkCommand::Reload(settings, sink) => {
                self.settings = *settings;
                if let Some(sink) = sink {
                    self.replace_sink(*sink);
                }
            }
        }
        self.save_state();
    }

    /// The old sink finishes its attempts, and their lanes wait for that.
    fn replace_sink(&mut self, sink: Sink) {
        let old = std::mem::replace(&mut self.sink, sink);
        tasks::spawn(TaskKind::RetiredSink, old.close(RETIRE_TIMEOUT));
        self.breaker.reset_for_new_sink();
        self.stats.end_outage();
        self.make_all_due();
    }

    fn make_all_due(&mut self) {
        self.lanes.wake_all();
        self.spool.make_due(self.settings.name.clone(), MonotonicTime::now());
        self.backlog.fetch_at(Instant::now());
    }

    /// Whether neither memory nor the spool has a delivery.
    fn is_empty(&self) -> bool {
        self.backlog.count == 0 && self.lanes.is_empty() && self.in_flight.is_empty()
    }

    /// Whether `order_by` has changed, the spool has no delivery of the old order any more, and memory still has some. Until these have
    /// ended, no new delivery is accepted.
    fn is_changing_order(&self) -> bool {
        self.order_by != self.settings.order_by && self.backlog.count == 0 && !self.is_empty()
    }

    /// Without an order, spooled deliveries block no others, so all have the same lane.
    pub(super) fn lane_of_row(&self, key: u64) -> Lane {
        if self.order_by == OrderBy::None { Lane::Free(0) } else { Lane::of_key(key) }
    }

    fn start_attempts(&mut self) {
        while self.in_flight.len() < self.capacity() && self.breaker.allows_attempt() {
            let id = AttemptId(self.next_number());
            let Some((lane, delivery)) = self.next_delivery(id) else { return };
            match self.render(&delivery) {
                Ok(mut outgoing) => {
                    if delivery.replayed {
                        outgoing.mark_as_replayed();
                    }
                    self.in_flight.insert(id, (lane, delivery));
                    self.breaker.on_attempt_start(id);
                    self.stats.count_attempt_start();
                    self.sink.attempt(outgoing, Attempt::new(id, self.attempt_end_sender.clone()));
                }
                Err(error) => {
                    self.dead_letter(lane, delivery, error.reason, error.detail);
                }
            }
        }
    }

    /// Renders by the current configuration, which may no longer have the route that chose the sink.
    fn render(&self, delivery: &Delivery) -> Result<RenderedDelivery, RenderError> {
        let route = match &delivery.route {
            None => None,
            Some(name) => Some(self.settings.rules.route(name).ok_or_else(|| RenderError {
                reason: Reason::RenderFailed,
                detail: format!(
                    "its route {name} is no longer in the configuration, so its transform is unknown: add the route again, or redrive \
                     the dead letter `--to` a sink"
                ),
            })?),
        };
        self.sink.render(delivery.payload.view(), route.and_then(|route| route.transform.as_ref()))
    }

    /// The next delivery that may be attempted: new and spooled ones take turns.
    fn next_delivery(&mut self, attempt: AttemptId) -> Option<(Lane, Delivery)> {
        if self.last_was_spooled || self.is_stopping() {
            self.last_was_spooled = false;
            if let Some(next) = self.lanes.pop(attempt) {
                return Some(next);
            }
        }
        while !self.is_stopping()
            && let Some((id, row)) = self.backlog.pop()
        {
            let lane = self.lane_of_row(row.key);
            match Delivery::from_spool(id, &row) {
                Ok(delivery)
                    if matches!(*delivery.payload, Payload::DeadLetterCopy { .. })
                        && !self.settings.takes_dead_letters =>
                {
                    self.drop_copy(lane, delivery, "`dead_letters.to` no longer names this sink");
                }
                Ok(delivery) => {
                    self.last_was_spooled = true;
                    return Some((lane, delivery));
                }
                Err(invalid) => self.dead_letter_row(lane, id, row, invalid.reason, invalid.detail),
            }
        }
        self.lanes.pop(attempt)
    }

    /// How many attempts may be in flight at once.
    pub(super) fn capacity(&self) -> usize {
        self.sink.capacity()
    }

    /// Saves the state that has to survive a restart.
    pub(super) fn save_state(&self) {
        self.stats.set_breaker_open(self.breaker.is_open());
        self.stats.set_paused(self.breaker.pause().is_some());
        let mut state = PersistedState { order_by: self.order_by, ..PersistedState::default() };
        self.breaker.save(&mut state);
        self.spool.save_state(Component::Sink(self.settings.name.to_string()), state.to_json());
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    async fn close(self) {
        let Self { settings, sink, spool, journal, mut attempt_ends, attempt_end_sender, mut in_flight, stats, .. } =
            self;
        drop(attempt_end_sender);
        sink.close(CLOSE_TIMEOUT).await;
        while let Ok((id, verdict)) = attempt_ends.try_recv() {
            stats.count_attempt_end();
            if let (Some((_, mut delivery)), Verdict::Delivered(confirmation)) = (in_flight.remove(&id), verdict) {
                delivery.attempts = delivery.attempts.saturating_add(1);
                delivery.record(&journal, &settings.name, DeliveryEnd::Delivered((&confirmation).into()));
                stats.count_attempt(AttemptResult::Delivered);
                stats.count_delivered(delivery.received_at.elapsed());
                match delivery.backing {
                    Backing::Receipt(receipt) => receipt.settle(),
                    Backing::Row(id) => spool.complete(id, settings.name.clone()),
                }
            }
        }
    }
}
