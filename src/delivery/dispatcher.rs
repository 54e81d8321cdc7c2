//! The one task that owns a sink's deliveries: takes them in, makes attempts, and settles what they come to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use super::breaker::Breaker;
use super::lanes::{Lane, Lanes, key};
use super::notice::{ErrorThrottle, Throttle};
use super::state::{ASKED, State};
use super::stats::{AttemptResult, SinkStats};
use super::{Delivery, Kept};
use crate::clock::MonotonicTime;
use crate::config::{Config, OrderBy, Retry, SinkConfig, SinkKind, WebhookUrl, WhenFull};
use crate::event::Reason;
use crate::failpoints::Failpoint;
use crate::rules::{Rules, SinkName};
use crate::sink::{Attempt, AttemptEnd, AttemptId, MAX_RETRY_AFTER, RenderError, RenderedDelivery, Sink, Verdict};
use crate::spool::{News, RowId, Spool, Subject};
use crate::tasks::{self, TaskKind};
use crate::timer::Timer;

/// How many deliveries or ends of attempts are taken at once.
const TURN: usize = 256;
/// What the old client of a sink gets to end the attempts under way, when another takes its place.
const RETIRING: Duration = Duration::from_mins(1);
/// What a sink gets beyond the grace to end the attempts under way.
const CLOSING: Duration = Duration::from_secs(2);

/// What is asked of a sink's dispatcher.
pub enum Order {
    /// Nothing more goes to it.
    Pause,
    /// Everything may go to it again.
    Resume,
    /// It is configured so from now on; with the sink where that is not as it was.
    Reload(Box<Settings>, Option<Box<Sink>>),
}

/// Where a sink's deliveries are put, and what is asked of it.
#[derive(Debug, Clone)]
pub struct Inlet {
    /// It needs no bound of its own: what is in it is unacknowledged, and the sources' prefetch bounds that.
    pub deliveries: mpsc::UnboundedSender<Delivery>,
    /// What people ask, which they do rarely.
    pub orders: mpsc::UnboundedSender<Order>,
}

/// What is configured of a sink's deliveries.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The sink's name.
    pub name: SinkName,
    /// What is kept in order.
    pub order_by: OrderBy,
    /// What the routes change of their events, and more.
    pub rules: Arc<Rules>,
    /// How failures are retried.
    pub retry: Retry,
    /// What becomes of deliveries that there is no room for in the spool.
    pub when_full: WhenFull,
    /// What isn't settled by then is put to disk.
    pub spill_after: Duration,
    /// It gets copies of dead letters.
    pub takes_dead_letters: bool,
    /// A destination can say when a single delivery is to come again, as the answers of a webhook whose URL depends on the event.
    pub is_told_when: bool,
}

impl Settings {
    /// What the configuration says of that sink.
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
            is_told_when: matches!(&sink.kind, SinkKind::Webhook(webhook) if matches!(webhook.url, WebhookUrl::Templated { .. })),
        }
    }

    /// No delivery was put off for longer. Where the clock that says until when may have been wrong, what a destination said is not
    /// waited for.
    fn longest_wait(&self, clock_goes_on: bool) -> Duration {
        let told = if self.is_told_when && clock_goes_on { MAX_RETRY_AFTER } else { Duration::ZERO };
        self.retry.max_backoff.max(told)
    }
}

/// Everything that delivers to one sink.
pub struct Dispatcher {
    pub(super) settings: Settings,
    /// What is kept in order as long as something waits that was put in this order.
    pub(super) order_by: OrderBy,
    sink: Sink,
    pub(super) spool: Arc<Spool>,
    pub(super) stats: Arc<SinkStats>,
    inbox: mpsc::UnboundedReceiver<Delivery>,
    orders: mpsc::UnboundedReceiver<Order>,
    news: mpsc::UnboundedReceiver<News>,
    pub(super) lanes: Lanes<Delivery>,
    pub(super) backlog: Backlog,
    pub(super) under_way: HashMap<AttemptId, (Lane, Delivery)>,
    /// Deliveries of the backlog that become dead letters, with their lanes: in hand until those are on disk, since they are in memory
    /// until then.
    pub(super) burying: HashMap<RowId, Lane>,
    pub(super) breaker: Breaker,
    /// When it ends; from the stop on, nothing is taken out of the spool any more, and what waits in memory goes there.
    deadline: Option<Instant>,
    /// It held up a source, and hasn't caught up since: what comes goes to disk at once.
    pub(super) is_slow: bool,
    /// The last one came out of the spool: fresh ones and those take turns.
    was_row: bool,
    numbers: u64,
    ended: mpsc::UnboundedReceiver<AttemptEnd>,
    end: mpsc::UnboundedSender<AttemptEnd>,
    /// The sink itself fails; said once, until it delivers again.
    pub(super) troubled: bool,
    /// Single deliveries fail, which says nothing of the others.
    pub(super) failing: ErrorThrottle,
    pub(super) dead: Throttle,
    pub(super) dropping: Throttle,
}

impl Dispatcher {
    /// A dispatcher for a sink that is open, and where its deliveries are put. None: the spool is closed.
    pub async fn new(
        settings: Settings,
        sink: Sink,
        spool: Arc<Spool>,
        stats: Arc<SinkStats>,
    ) -> Option<(Self, Inlet)> {
        let watch = spool.watch(settings.name.clone()).await?;
        let state = State::parse(spool.remembered(&Subject::Sink(settings.name.to_string())).as_deref());
        let mut lanes = Lanes::default();
        let mut count = 0;
        for (lane, rows) in watch.lanes {
            count += u64::from(rows);
            if state.order_by != OrderBy::None && !Failpoint::ForgetLanesAtRestart.is_enabled() {
                lanes.set_spooled(lane, rows);
            }
        }
        // What was written down in another boot can be dated by a clock that was wrong.
        let longest = settings.longest_wait(spool.clock_goes_on());
        spool.make_due(settings.name.clone(), MonotonicTime::now().after(longest));
        let breaker = Breaker::restore(&state, settings.retry.max_backoff);
        stats.set_breaker_open(breaker.is_open());
        stats.set_paused(breaker.pause().is_some());
        let (deliveries, inbox) = mpsc::unbounded_channel();
        let (orders_in, orders) = mpsc::unbounded_channel();
        let (end, ended) = mpsc::unbounded_channel();
        let dispatcher = Self {
            troubled: breaker.is_open(),
            order_by: state.order_by,
            settings,
            sink,
            spool,
            stats,
            inbox,
            orders,
            news: watch.news,
            lanes,
            backlog: Backlog::new(count),
            under_way: HashMap::default(),
            burying: HashMap::default(),
            breaker,
            deadline: None,
            is_slow: false,
            was_row: false,
            numbers: 0,
            ended,
            end,
            failing: ErrorThrottle::default(),
            dead: Throttle::default(),
            dropping: Throttle::default(),
        };
        Some((dispatcher, Inlet { deliveries, orders: orders_in }))
    }

    /// Delivers until its inbox is closed and nothing waits any more, in memory or in the spool. After `stop` it finishes what is
    /// in memory, at most for `grace`, and puts the rest to disk, beyond the limits of the spool; what the disk itself has no room for
    /// is dropped, so that its message is redelivered to the next run.
    pub async fn run(mut self, stop: CancellationToken, grace: Duration) {
        let mut open = true;
        let mut incoming = Vec::with_capacity(TURN);
        let mut ended = Vec::with_capacity(TURN);
        let mut look_over = Instant::now();
        let (mut deadline_timer, mut wake_timer) = (Timer::default(), Timer::default());
        let stopped = stop.cancelled();
        tokio::pin!(stopped);
        while open
            || !self.lanes.is_empty()
            || !self.under_way.is_empty()
            || (!self.is_stopping() && self.backlog.count > 0)
        {
            self.go_on();
            let mut wake = self.next_wake();
            if !self.lanes.is_empty() {
                look_over = look_over.min(Instant::now() + super::spill::LOOK_OVER);
                wake = Some(wake.map_or(look_over, |wake| wake.min(look_over)));
            }
            tokio::select! {
                biased;
                () = &mut stopped, if self.deadline.is_none() => {
                    self.deadline = Some(Instant::now() + grace);
                    self.sink.cancel_unsent();
                }
                () = deadline_timer.sleep_until(self.deadline) => break,
                _ = self.ended.recv_many(&mut ended, TURN) => {
                    for (id, verdict) in ended.drain(..) {
                        self.attempt_ended(id, verdict);
                    }
                }
                Some(news) = self.news.recv() => self.hear(news),
                Some(order) = self.orders.recv() => self.obey(order),
                taken = self.inbox.recv_many(&mut incoming, TURN), if open && !self.is_reordering() => {
                    open = taken > 0;
                    for delivery in incoming.drain(..) {
                        self.take_in(delivery);
                    }
                }
                () = wake_timer.sleep_until(wake) => {}
            }
            if look_over <= Instant::now() {
                look_over = Instant::now() + super::spill::LOOK_OVER;
                self.look_over();
            }
        }
        self.spill_all();
        self.close().await;
    }

    /// It was told to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.deadline.is_some()
    }

    /// Everything whose time has come.
    fn go_on(&mut self) {
        let now = Instant::now();
        self.lanes.wake(now);
        if self.breaker.end_pause() {
            tracing::info!(sink = %self.settings.name, "the pause is over");
            self.remember();
        }
        if self.order_by != self.settings.order_by && self.holds_nothing() {
            self.order_by = self.settings.order_by;
            self.remember();
        }
        if self.is_slow && self.backlog.has_caught_up() && self.under_way.len() < self.capacity() {
            self.is_slow = false;
        }
        let may_give_up = self.may_give_up();
        if !self.is_stopping() && (self.breaker.lets_through() || may_give_up) {
            self.backlog.ask(&self.spool, &self.settings.name);
        }
        if may_give_up {
            self.give_up_old();
        }
        self.attempt_ready();
    }

    /// Behind an open breaker the oldest are to be had without a probe: they may have to be given up.
    fn may_give_up(&self) -> bool {
        let has_limit = self.settings.retry.give_up_after.is_some();
        has_limit && !self.is_stopping() && self.breaker.is_open() && self.breaker.pause().is_none()
    }

    /// When there is something to do although nothing comes in.
    fn next_wake(&self) -> Option<Instant> {
        let later = self.lanes.next_due();
        let breaker = self.breaker.next();
        let pause = breaker.filter(|_| self.breaker.pause().is_some());
        let waits = self.backlog.is_due() || self.lanes.is_ready();
        let probe = breaker.filter(|_| waits && !self.is_stopping() && self.under_way.len() < self.capacity());
        let look = self.backlog.next_look().filter(|_| !self.is_stopping());
        let give_up_after = self.settings.retry.give_up_after.filter(|_| self.may_give_up());
        let oldest = give_up_after.zip(self.backlog.oldest_age());
        let expiry = oldest.map(|(most, age)| Instant::now() + most.saturating_sub(age));
        let look = match breaker {
            _ if self.breaker.is_closed() || give_up_after.is_some() => look,
            // None: a probe is under way, or a person has to end the pause.
            breaker => look.zip(breaker).map(|(look, breaker)| look.max(breaker)),
        };
        later.into_iter().chain(pause).chain(probe).chain(look).chain(expiry).min()
    }

    fn take_in(&mut self, delivery: Delivery) {
        let event = &delivery.received.event;
        let lane = match self.order_by {
            OrderBy::None => Lane::Free(self.number()),
            order_by => Lane::of_key(key(&self.settings.name, order_by, event)),
        };
        self.place(lane, delivery);
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Due(due) => self.backlog.take_in(due),
            News::Known { key } => {
                self.backlog.was_known();
                self.lanes.remove_spooled(self.lane_of_row(key));
            }
            News::Buried { id, key } => self.buried(id, key),
            News::Added { key } => {
                self.lanes.add_spooled(self.lane_of_row(key));
                self.backlog.added(Instant::now());
            }
            News::NotCopied { letter } => self.notice_not_copied(letter),
        }
    }

    fn obey(&mut self, order: Order) {
        let sink = &self.settings.name;
        match order {
            Order::Pause => {
                tracing::info!(%sink, "paused, as asked: what is for it waits until it is resumed");
                self.breaker.pause_until_resumed(ASKED.to_owned());
            }
            Order::Resume => {
                tracing::info!(%sink, "resumed, as asked");
                self.breaker.resume();
                self.make_all_due();
            }
            Order::Reload(settings, sink) => {
                self.settings = *settings;
                if let Some(sink) = sink {
                    self.renew(*sink);
                }
            }
        }
        self.remember();
    }

    /// Another client of the same name. What the old one has under way it finishes; the lanes of these wait for that.
    fn renew(&mut self, sink: Sink) {
        let old = std::mem::replace(&mut self.sink, sink);
        tasks::spawn(TaskKind::RetiredSink, old.close(RETIRING));
        self.breaker.renew();
        self.make_all_due();
    }

    /// What waits for its next attempt need not wait any longer.
    fn make_all_due(&mut self) {
        self.lanes.wake_all();
        self.spool.make_due(self.settings.name.clone(), MonotonicTime::now());
        self.backlog.look_at(Instant::now());
    }

    /// Nothing is in memory, and nothing in the spool.
    fn holds_nothing(&self) -> bool {
        self.backlog.count == 0 && self.lanes.is_empty() && self.under_way.is_empty()
    }

    /// Another `order_by` is in force once all is gone that was put in the old order. The spool is empty of it; nothing more is
    /// taken in until memory is too.
    fn is_reordering(&self) -> bool {
        self.order_by != self.settings.order_by && self.backlog.count == 0 && !self.holds_nothing()
    }

    /// Where nothing is kept in order, what is in the spool holds up nothing.
    pub(super) fn lane_of_row(&self, key: u64) -> Lane {
        if self.order_by == OrderBy::None { Lane::Free(0) } else { Lane::of_key(key) }
    }

    fn attempt_ready(&mut self) {
        while self.under_way.len() < self.capacity() && self.breaker.lets_through() {
            let id = AttemptId(self.number());
            let Some((lane, delivery)) = self.next(id) else { return };
            match self.render(&delivery) {
                Ok(outgoing) => {
                    self.under_way.insert(id, (lane, delivery));
                    self.breaker.began(id);
                    self.stats.attempt_began();
                    self.sink.attempt(outgoing, Attempt::new(id, self.end.clone()));
                }
                Err(error) => {
                    self.bury(lane, delivery, error.reason, error.detail);
                }
            }
        }
    }

    /// By the rules of now; those in force when it came may be gone.
    fn render(&self, delivery: &Delivery) -> Result<RenderedDelivery, RenderError> {
        let route = match &delivery.route {
            None => None,
            Some(name) => Some(self.settings.rules.route(name).ok_or_else(|| RenderError {
                reason: Reason::RenderFailed,
                detail: format!(
                    "its route {name} is gone, and with it what it changed: put it back, or redrive `--to` a sink"
                ),
            })?),
        };
        self.sink.render(delivery.received.view(), route.and_then(|route| route.transform.as_ref()))
    }

    /// The next one that may go: a fresh one and one out of the spool by turns.
    fn next(&mut self, id: AttemptId) -> Option<(Lane, Delivery)> {
        if self.was_row || self.is_stopping() {
            self.was_row = false;
            if let Some(fresh) = self.lanes.pop(id) {
                return Some(fresh);
            }
        }
        while !self.is_stopping()
            && let Some((row, waiting)) = self.backlog.pop()
        {
            let lane = self.lane_of_row(waiting.key);
            match Delivery::of_row(row, &waiting) {
                Ok(delivery) if delivery.received.event.is_dead_letter() && !self.settings.takes_dead_letters => {
                    self.drop_copy(lane, delivery, "dead letters are no longer copied to it");
                }
                Ok(delivery) => {
                    self.was_row = true;
                    return Some((lane, delivery));
                }
                Err(invalid) => self.bury_row(lane, row, waiting, invalid.reason, invalid.detail),
            }
        }
        self.lanes.pop(id)
    }

    /// How many may be under way at once.
    pub(super) fn capacity(&self) -> usize {
        self.sink.capacity()
    }

    /// What must not be forgotten when the relay restarts.
    pub(super) fn remember(&self) {
        self.stats.set_breaker_open(self.breaker.is_open());
        self.stats.set_paused(self.breaker.pause().is_some());
        let mut state = State { order_by: self.order_by, ..State::default() };
        self.breaker.keep(&mut state);
        self.spool.remember(Subject::Sink(self.settings.name.to_string()), state.to_json());
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    async fn close(self) {
        let Self { settings, sink, spool, mut ended, end, mut under_way, stats, .. } = self;
        drop(end);
        sink.close(CLOSING).await;
        while let Ok((id, verdict)) = ended.try_recv() {
            stats.attempt_ended();
            if let (Some((_, delivery)), Verdict::Delivered) = (under_way.remove(&id), verdict) {
                stats.count_attempt(AttemptResult::Delivered);
                stats.count_delivered(delivery.since.elapsed());
                match delivery.kept {
                    Kept::Message(receipt) => receipt.settle(),
                    Kept::Row(id) => spool.done(id, settings.name.clone()),
                }
            }
        }
    }
}
