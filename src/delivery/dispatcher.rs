//! The task that owns the deliveries of a sink: it queues them, starts attempts, and handles how they end.
//!
//! [`Dispatcher::run`] waits for whatever comes first: a delivery, the end of an attempt, an event of the spool, a command, or the time
//! that [`Dispatcher::tick`] returned. Each kind of timed work has one function that says when it is due; `tick` uses it to decide whether
//! to do the work, and when to wake up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use super::breaker::{Breaker, Gate};
use super::lanes::{Lane, Lanes};
use super::log_limit::{ErrorLogLimiter, LogLimiter};
use super::misfits::Misfits;
use super::ordering::Ordering;
use super::overdue::CHECK_INTERVAL;
use super::state::{ON_REQUEST, PersistedState};
use super::stats::{AttemptResult, ShownState, SinkStats};
use super::{Backing, Delivery};
use crate::clock::MonotonicTime;
use crate::config::{Config, Group, Retry, SinkConfig, SinkKind, WebhookUrl, WhenFull};
use crate::failpoints::Failpoint;
use crate::journal::{DeliveryEnd, Journal};
use crate::rules::{Rules, SinkName};
use crate::sink::{AttemptEnd, AttemptId, MAX_RETRY_AFTER, Sink, Verdict};
use crate::spool::{Component, GroupTiming, RowId, Spool, SpoolEvent, WaitsFor};
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
    pub order: Ordering,
    /// Set: the sink gets digests.
    pub group: Option<Group>,
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
            order: Ordering::of(sink),
            group: sink.group.clone(),
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
    pub(super) order: Ordering,
    /// The keys of the groups that got more events in this round.
    pub(super) grown_groups: HashSet<u64>,
    pub(super) sink: Sink,
    pub(super) spool: Arc<Spool>,
    pub(super) journal: Journal,
    pub(super) stats: Arc<SinkStats>,
    shown: ShownState,
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
    pub(super) misfits: Misfits,
    /// The end of the grace period, set at the stop. From the stop on, nothing is taken from the spool, and queued deliveries are spooled.
    deadline: Option<Instant>,
    /// Whether the sink blocked a source and has not caught up since. New deliveries are then spooled at once.
    pub(super) is_slow: bool,
    /// Whether the last attempt was for a spooled delivery: new and spooled deliveries take turns.
    pub(super) last_was_spooled: bool,
    /// When deliveries in memory are next checked for their age.
    pub(super) next_check: Instant,
    last_number: u64,
    attempt_ends: mpsc::UnboundedReceiver<AttemptEnd>,
    pub(super) attempt_end_sender: mpsc::UnboundedSender<AttemptEnd>,
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
            if !state.order().is_none() && !Failpoint::ForgetLanesAtRestart.is_enabled() {
                lanes.set_spooled(lane, rows);
            }
        }
        // Due times of an earlier boot may come from a wrong clock.
        let longest = settings.longest_backoff(spool.is_same_boot());
        spool.make_due(settings.name.clone(), WaitsFor::BackOff, MonotonicTime::now().after(longest));
        let breaker = Breaker::restore(&state, settings.retry.max_backoff);
        let shown = ShownState::new(Arc::clone(&stats));
        shown.set(breaker.is_open(), breaker.pause().is_some());
        if let Some(error) = state.outage() {
            stats.set_failing(&error);
        }
        let (deliveries, inbox) = mpsc::unbounded_channel();
        let (command_sender, commands) = mpsc::unbounded_channel();
        let (attempt_end_sender, attempt_ends) = mpsc::unbounded_channel();
        let mut dispatcher = Self {
            is_logged_as_unavailable: breaker.is_open(),
            order: state.order(),
            grown_groups: HashSet::default(),
            settings,
            sink,
            spool,
            journal,
            stats,
            shown,
            inbox,
            commands,
            spool_events: watch.events,
            lanes,
            backlog: Backlog::new(count),
            in_flight: HashMap::default(),
            pending_dead_letters: HashMap::default(),
            breaker,
            misfits: Misfits::default(),
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
        // Numbers that are not in the file any more are given again.
        let last = dispatcher.spool.last_row();
        dispatcher.backlog.boundaries = state.boundaries.into_iter().map(|boundary| boundary.min(last)).collect();
        if dispatcher.order.group_by != dispatcher.settings.order.group_by {
            dispatcher.change_grouping(dispatcher.settings.order.clone());
            dispatcher.save_state();
        }
        dispatcher.apply_group_timing();
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
        if self.order != self.settings.order && self.is_empty() {
            self.order = self.settings.order.clone();
            self.save_state();
        }
        if self.is_slow && self.backlog.has_caught_up() && self.in_flight.len() < self.capacity() {
            self.is_slow = false;
        }
        self.check_grown_groups();
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
                let has_next = self.backlog.is_due() || (self.lanes.is_ready() && !self.goes_through_spool());
                at.filter(|_| has_next && !self.is_stopping() && self.in_flight.len() < self.capacity())
            }
        }
    }

    fn on_delivery(&mut self, delivery: Delivery) {
        let lane = if self.order.is_none() {
            Lane::Free(self.next_number())
        } else {
            Lane::of_key(self.order.key(&self.settings.name, delivery.payload.event()))
        };
        self.enqueue(lane, delivery);
    }

    fn on_spool_event(&mut self, event: SpoolEvent) {
        match event {
            SpoolEvent::Due(due) => self.on_due(due),
            SpoolEvent::AlreadySpooled { key } => {
                self.backlog.remove_duplicate();
                self.lanes.remove_spooled(self.lane_of_row(key));
            }
            SpoolEvent::DeadLettered { id, key } => self.on_dead_letter_stored(id, key),
            SpoolEvent::Added { key } => {
                self.lanes.add_spooled(self.lane_of_row(key));
                self.backlog.add(Instant::now());
                self.grown_groups.insert(key);
            }
            SpoolEvent::MoreDue => self.backlog.fetch_at(Instant::now()),
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
                let regroups = settings.order.group_by != self.order.group_by;
                if regroups {
                    self.change_grouping(settings.order.clone());
                }
                self.settings = *settings;
                self.apply_group_timing();
                match sink {
                    Some(sink) => self.replace_sink(*sink),
                    None => self.sink.refresh(),
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
        self.spool.make_due(self.settings.name.clone(), WaitsFor::BackOff, MonotonicTime::now());
        self.backlog.fetch_at(Instant::now());
    }

    /// Whether neither memory nor the spool has a delivery.
    fn is_empty(&self) -> bool {
        self.backlog.count == 0 && self.lanes.is_empty() && self.in_flight.is_empty()
    }

    /// Whether `order_by` has changed, the spool has no delivery of the old order any more, and memory still has some. Until these have
    /// ended, no new delivery is accepted.
    fn is_changing_order(&self) -> bool {
        self.order != self.settings.order && self.backlog.count == 0 && !self.is_empty()
    }

    /// Without an order, spooled deliveries block no others, so all have the same lane.
    pub(super) fn lane_of_row(&self, key: u64) -> Lane {
        if self.order.is_none() { Lane::Free(0) } else { Lane::of_key(key) }
    }

    /// How many attempts may be in flight at once.
    pub(super) fn capacity(&self) -> usize {
        self.sink.capacity()
    }

    /// Saves the state that has to survive a restart.
    pub(super) fn save_state(&self) {
        self.shown.set(self.breaker.is_open(), self.breaker.pause().is_some());
        let mut state = PersistedState {
            order_by: self.order.order_by,
            group_by: self.order.group_by.clone(),
            boundaries: self.backlog.boundaries.clone(),
            ..PersistedState::default()
        };
        self.breaker.save(&mut state);
        self.spool.save_state(Component::Sink(self.settings.name.to_string()), state.to_json());
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    async fn close(self) {
        let next = self.group_timing();
        let Self { settings, sink, spool, journal, mut attempt_ends, attempt_end_sender, mut in_flight, stats, .. } =
            self;
        drop(attempt_end_sender);
        let mut unconfirmed = in_flight.len();
        sink.close(CLOSE_TIMEOUT).await;
        while let Ok((id, verdict)) = attempt_ends.try_recv() {
            stats.count_attempt_end();
            if let (Some((_, mut delivery)), Verdict::Delivered(confirmation)) = (in_flight.remove(&id), verdict) {
                unconfirmed -= 1;
                delivery.attempts = delivery.attempts.saturating_add(1);
                delivery.record(&journal, &settings.name, &DeliveryEnd::Delivered((&confirmation).into()));
                stats.count_attempt(AttemptResult::Delivered);
                delivery.count_delivered(&stats);
                match delivery.backing {
                    Backing::Receipt(receipt) => receipt.settle(),
                    Backing::Row(id) => spool.complete(id, settings.name.clone()),
                    Backing::Digest => {
                        let next = next.unwrap_or(GroupTiming::AT_ONCE);
                        spool.complete_digest(delivery.payload.rows(), settings.name.clone(), next);
                    }
                }
            }
        }
        // Some of the others were cut off, and have ended by that.
        if unconfirmed > 0 {
            spool.note_cut_attempts();
        }
    }
}
