//! The task that owns the sink's connection. It queues attempts, publishes them in windows, and ends each attempt with its
//! window.
//!
//! Several channels are used at once, each for one window at a time, so that a message returned on a channel belongs to that
//! window. Channels and the connection are opened when attempts are queued. If that fails, all queued attempts fail with it. A
//! channel or connection that failed is never used again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::types::ShortString;
use lapin::{Channel, ConnectionStatus, Event};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::channel::{self, ChannelOpening, ExchangeSettings, OpenedOn, PublishFailure};
use super::confirms::PublishId;
use super::request::PublishRequest;
use super::window::{self, CONFIRM_TIMEOUT, WindowEnd};
use crate::amqp::{BrokerAddress, Connection};
use crate::sink::{Attempt, Blame, RenderedDelivery, UNSENT_GRACE, Verdict, cancelled};

/// The largest number of windows in flight, each on its own channel.
pub(super) const CHANNELS: usize = 4;
/// The largest number of messages in a window.
pub(super) const WINDOW: usize = 256;
/// How long closing the connection may take when the sink closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest number of retired connections that lapin is still closing: each has a thread and buffers.
const MAX_RETIRED: usize = 3;
/// A broker that limits a user's channels still counts those of a connection for a moment after it has ended.
const CHANNEL_COUNT_DELAY: Duration = Duration::from_millis(250);
/// The largest number of suspects. If there are more, they are forgotten, and are found again if they fail again.
const MAX_SUSPECTS: usize = 4096;

/// One attempt, as it is sent to the worker.
#[derive(Debug)]
pub(super) struct PublishJob {
    pub outgoing: RenderedDelivery,
    pub attempt: Attempt,
}

pub(super) struct Worker {
    sink: String,
    settings: Arc<ExchangeSettings>,
    jobs: UnboundedReceiver<PublishJob>,
    /// Cancelled before the sink closes: attempts that can't be published then end.
    closing: CancellationToken,
    closing_since: Option<Instant>,
    /// In the order of their arrival, each with its time.
    queued: VecDeque<(Instant, PublishJob)>,
    /// Events of windows that failed because the broker refused one of their messages. They are published alone until they
    /// succeed, so that the refused message makes no other fail again.
    suspects: HashSet<Uuid>,
    link: Option<OpenConnection>,
    /// How many connections there were: a window of an earlier connection changes nothing of the current one.
    generation: u64,
    /// Connections that are no longer used, and that lapin is still closing.
    retired: Vec<ConnectionStatus>,
    /// Channels of the current connection that have no window in flight.
    idle: Vec<Channel>,
    /// How many channels the current connection has.
    channels: usize,
    /// How many it may have: fewer than [`CHANNELS`] if the broker lets the user open no more.
    channels_allowed: usize,
    /// One more channel is being opened on the connection. No window is published meanwhile: a broker closes a connection
    /// that opens one channel too many, with all windows in flight on it.
    is_adding_channel: bool,
    /// The earliest time of the next try to connect.
    not_before: Instant,
    opening: Option<BoxFuture<'static, ChannelOpening>>,
    windows: FuturesUnordered<BoxFuture<'static, WindowEnd>>,
    /// How many tries to connect have failed in a row.
    failures: u32,
    /// The last failure that was logged. The same one is not logged again.
    last_logged: String,
}

struct OpenConnection {
    connection: Arc<Connection>,
    address: Arc<BrokerAddress>,
    events: BoxStream<'static, Event>,
}

impl Worker {
    pub(super) fn new(
        sink: String,
        settings: ExchangeSettings,
        jobs: UnboundedReceiver<PublishJob>,
        closing: CancellationToken,
    ) -> Self {
        Self {
            sink,
            settings: Arc::new(settings),
            jobs,
            closing,
            closing_since: None,
            queued: VecDeque::new(),
            suspects: HashSet::new(),
            link: None,
            generation: 0,
            retired: Vec::new(),
            idle: Vec::new(),
            channels: 0,
            channels_allowed: CHANNELS,
            is_adding_channel: false,
            not_before: Instant::now(),
            opening: None,
            windows: FuturesUnordered::new(),
            failures: 0,
            last_logged: String::new(),
        }
    }

    /// Runs until the sink is closed and all attempts have ended.
    pub(super) async fn run(mut self) {
        let mut open = true;
        let closing = self.closing.clone();
        while open || !self.queued.is_empty() || !self.windows.is_empty() {
            self.drop_dead_connections();
            self.start_windows();
            self.open_channel();
            let deadline = self.next_deadline();
            tokio::select! {
                job = self.jobs.recv(), if open => match job {
                    Some(job) => self.enqueue(job),
                    None => open = false,
                },
                Some(ended) = self.windows.next(), if !self.windows.is_empty() => self.on_window_end(ended),
                opened = next_opening(&mut self.opening) => {
                    self.opening = None;
                    self.on_channel_opened(opened);
                }
                event = next_event(&mut self.link) => self.on_connection_event(event),
                () = closing.cancelled(), if self.closing_since.is_none() => self.closing_since = Some(Instant::now()),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.end_expired(),
            }
        }
        self.idle.clear();
        if let Some(link) = self.link.take() {
            // The result doesn't matter: a lost connection is closed already, and a silent broker times out by itself.
            let _ = timeout(CLOSE_TIMEOUT, link.connection.close(200, ShortString::default())).await;
        }
    }

    /// Queues a job, and all others that have been sent meanwhile.
    fn enqueue(&mut self, first: PublishJob) {
        let now = Instant::now();
        self.queued.push_back((now, first));
        while let Ok(job) = self.jobs.try_recv() {
            self.queued.push_back((now, job));
        }
    }

    fn drop_dead_connections(&mut self) {
        self.retired.retain(|status| !status.closed() && !status.errored());
        if self.link.as_ref().is_some_and(|link| !link.connection.status().connected()) {
            tracing::warn!(
                sink = self.sink,
                "the connection to the broker was lost; the sink reconnects when it has something to publish"
            );
            self.retire_connection();
        }
        let before = self.idle.len();
        self.idle.retain(|channel| channel.status().connected());
        self.channels = self.channels.saturating_sub(before - self.idle.len());
    }

    /// Stops using the connection. The windows in flight on it continue.
    fn retire_connection(&mut self) {
        if let Some(link) = self.link.take() {
            self.retired.push(link.connection.status().clone());
        }
        self.idle.clear();
        self.channels = 0;
        self.is_adding_channel = false;
    }

    /// Whether the broker blocks publishers, because of a memory or disk alarm.
    fn is_blocked(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.connection.status().blocked())
    }

    fn start_windows(&mut self) {
        while !self.queued.is_empty() && !self.is_blocked() && !self.is_adding_channel {
            let Some(link) = &self.link else { return };
            let frame_max = usize::try_from(link.connection.configuration().frame_max()).unwrap_or(usize::MAX);
            let address = Arc::clone(&link.address);
            let Some(channel) = self.idle.pop() else { return };
            let window = self.form_window(frame_max);
            if window.is_empty() {
                self.idle.push(channel);
                continue;
            }
            self.windows.push(window::run(self.generation, channel, window, address).boxed());
        }
    }

    /// Takes up to [`WINDOW`] attempts from the queue, or one suspect. Ends attempts whose message can't be published at all.
    fn form_window(&mut self, frame_max: usize) -> Vec<(PublishId, PublishRequest, Attempt)> {
        let mut window = Vec::new();
        while window.len() < WINDOW {
            let suspect = self.queued.front().is_some_and(|(_, job)| self.suspects.contains(&job.outgoing.id));
            if suspect && !window.is_empty() {
                break;
            }
            let Some((_, PublishJob { outgoing, attempt })) = self.queued.pop_front() else { break };
            let publish_id = PublishId { id: outgoing.id, attempt: attempt.id() };
            match PublishRequest::new(outgoing, publish_id.attempt) {
                // Properties must fit into one frame, and a frame that is too long ends the whole connection.
                Ok(publish) if frame_max != 0 && publish.header_size > frame_max => attempt.end(Verdict::Refused {
                    cause: format!(
                        "the headers of the message take up to {} bytes; the broker allows {frame_max} (frame_max)",
                        publish.header_size
                    ),
                }),
                Ok(publish) => window.push((publish_id, publish, attempt)),
                Err(cause) => attempt.end(Verdict::Refused { cause }),
            }
            if suspect {
                break;
            }
        }
        window
    }

    /// Begins to open a channel if attempts are queued and no channel is free.
    fn open_channel(&mut self) {
        let full = self.link.is_some() && self.channels >= self.channels_allowed;
        let has_one = !self.idle.is_empty() && !self.is_adding_channel;
        if self.opening.is_some() || self.is_blocked() {
            return;
        }
        if self.queued.is_empty() || has_one || full {
            self.is_adding_channel = false;
            return;
        }
        self.is_adding_channel = self.link.is_some() && self.channels > 0;
        if self.is_adding_channel && !self.windows.is_empty() {
            return;
        }
        let settings = Arc::clone(&self.settings);
        let current = self.link.as_ref().map(|link| (Arc::clone(&link.connection), Arc::clone(&link.address)));
        if current.is_none() && self.retired.len() >= MAX_RETIRED {
            self.fail_queued(&PublishFailure::sink("the broker does not close the earlier connections of this sink"));
            return;
        }
        let wait =
            channel::BACKOFF.full_jitter(self.failures).max(self.not_before.saturating_duration_since(Instant::now()));
        self.opening = Some(channel::open(settings, current, wait, self.channels).boxed());
    }

    fn on_channel_opened(&mut self, opened: ChannelOpening) {
        let was_current = matches!(opened.on, OpenedOn::Current);
        self.is_adding_channel = false;
        if let OpenedOn::New(connection, address) = opened.on {
            tracing::info!(sink = self.sink, "connected to the broker {}:{}", address.host, address.port);
            let events = connection.events_listener().boxed();
            self.link = Some(OpenConnection { connection, address, events });
            self.generation += 1;
            self.channels = 0;
        }
        let alive = self.link.as_ref().is_some_and(|link| link.connection.status().connected());
        match opened.channel {
            Ok(channel) if alive => {
                self.idle.push(channel);
                self.channels += 1;
                self.failures = 0;
                self.last_logged.clear();
            }
            Ok(_) => {
                self.fail_queued(&PublishFailure::sink("the connection to the broker was lost as soon as it was open"));
            }
            // No window was in flight. A broker that limits channels has closed the connection; the next one opens no more
            // channels than this one had.
            Err(failure) if failure.is_channel_limit && opened.had > 0 => {
                tracing::warn!(
                    sink = self.sink,
                    error = failure.cause,
                    "the broker limits the user's channels; the sink uses only {} on its connection",
                    opened.had
                );
                self.channels_allowed = opened.had;
                self.not_before = Instant::now() + CHANNEL_COUNT_DELAY;
            }
            // The connection was lost meanwhile. The queued attempts are tried on a new one.
            Err(_) if was_current && !alive => {}
            Err(failure) => {
                if failure.blame == Blame::Sink {
                    self.failures = self.failures.saturating_add(1);
                }
                self.fail_queued(&failure);
            }
        }
    }

    /// Ends all queued attempts with this failure.
    fn fail_queued(&mut self, failure: &PublishFailure) {
        if self.last_logged != failure.cause {
            tracing::warn!(
                sink = self.sink,
                error = failure.cause,
                "can't publish to the broker; the deliveries are retried"
            );
            self.last_logged.clone_from(&failure.cause);
        }
        for (_, job) in self.queued.drain(..) {
            job.attempt.end(failure.verdict());
        }
    }

    fn on_window_end(&mut self, ended: WindowEnd) {
        for id in ended.cleared {
            self.suspects.remove(&id);
        }
        if self.suspects.len() + ended.suspects.len() > MAX_SUSPECTS {
            self.suspects.clear();
        }
        self.suspects.extend(ended.suspects);
        if ended.generation != self.generation || self.link.is_none() {
            return;
        }
        match ended.channel {
            Some(channel) => self.idle.push(channel),
            None => self.channels = self.channels.saturating_sub(1),
        }
        // A blocked connection works again after the alarm, and a new one would be blocked as well.
        if ended.is_timed_out && !self.is_blocked() {
            self.retire_connection();
        }
    }

    fn on_connection_event(&mut self, event: Option<Event>) {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                let error = crate::telemetry::printable(&reason);
                tracing::warn!(
                    sink = self.sink,
                    %error,
                    "the broker blocks publishers because of a memory or disk alarm; deliveries wait until it unblocks them"
                );
            }
            Some(Event::ConnectionUnblocked) => {
                tracing::info!(sink = self.sink, "the broker has unblocked publishers; deliveries continue");
            }
            // An error of a channel ends its window, and an error of the connection changes its state.
            Some(_) => {}
            None => self.retire_connection(),
        }
    }

    /// When the first of the queued attempts ends if it is not published before.
    fn next_deadline(&self) -> Option<Instant> {
        let (came, _) = self.queued.front()?;
        let unblocked = self.is_blocked().then(|| *came + CONFIRM_TIMEOUT);
        unblocked.into_iter().chain(self.cancel_at()).min()
    }

    /// When the queued attempts are cancelled, if the sink is about to close and nothing can be published.
    fn cancel_at(&self) -> Option<Instant> {
        let since = self.closing_since.filter(|_| self.link.is_none() || self.is_blocked())?;
        Some(if self.failures > 0 { since } else { since + UNSENT_GRACE })
    }

    fn end_expired(&mut self) {
        let now = Instant::now();
        if self.cancel_at().is_some_and(|at| at <= now) {
            for (_, job) in self.queued.drain(..) {
                job.attempt.end(cancelled());
            }
            return;
        }
        let failure = PublishFailure::sink("the broker blocks publishers because of a memory or disk alarm");
        while self.queued.front().is_some_and(|(since, _)| *since + CONFIRM_TIMEOUT <= now)
            && let Some((_, job)) = self.queued.pop_front()
        {
            job.attempt.end(failure.verdict());
        }
    }
}

/// Waits for ever if no channel is being opened.
async fn next_opening(opening: &mut Option<BoxFuture<'static, ChannelOpening>>) -> ChannelOpening {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}

/// Waits for ever if there is no connection.
async fn next_event(link: &mut Option<OpenConnection>) -> Option<Event> {
    match link {
        Some(link) => link.events.next().await,
        None => std::future::pending().await,
    }
}
