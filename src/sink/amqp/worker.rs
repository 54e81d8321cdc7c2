//! The one task that owns the sink's connection: takes attempts as they come, forms windows of what waits, and lets each
//! attempt end with its window.
//!
//! Several channels overlap, each with one window at a time: what a broker returns on a channel is then of that window. Channels
//! and the connection are opened when attempts wait for them, and an attempt that finds none shares the outcome of the next
//! try. A channel or connection that failed is never used again.

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

use super::link::{self, Failure, Settings};
use super::publish::Publish;
use super::send::{self, Broken};
use super::window::{self, Mark};
use crate::amqp::{Connection, Place};
use crate::sink::{Attempt, Blame, Outgoing, UNSENT_GRACE, Verdict, taken_back};

/// Windows under way at once, each on its own channel.
pub(super) const CHANNELS: usize = 4;
/// Messages of one window at most.
pub(super) const WINDOW: usize = 256;
/// From the first publish of a window to its last confirm. A broker under memory alarm takes nothing, and confirms nothing.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);
/// Over closing the connection when the sink closes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that were given up and that lapin is still closing, at most: each holds a thread and buffers.
const MAX_RETIRED: usize = 3;
/// A broker that limits a user's channels counts those of a connection that has ended for a moment still.
const COUNTED: Duration = Duration::from_millis(250);
/// Messages remembered for having been in a window that broke: beyond this they are forgotten, and found out anew.
const MAX_SUSPECTS: usize = 4096;

/// One attempt on its way to the worker.
#[derive(Debug)]
pub(super) struct Job {
    pub outgoing: Outgoing,
    pub attempt: Attempt,
}

pub(super) struct Worker {
    sink: String,
    settings: Arc<Settings>,
    jobs: UnboundedReceiver<Job>,
    /// The sink is to end: what can't be published is taken back.
    ending: CancellationToken,
    ends_since: Option<Instant>,
    /// In the order they came, with when.
    waiting: VecDeque<(Instant, Job)>,
    /// Events whose window the broker broke because of one of its messages. They are published alone until they succeed, so
    /// that the guilty one takes no other with it again.
    suspects: HashSet<Uuid>,
    link: Option<Link>,
    /// Counts connections.
    generation: u64,
    /// Connections given up.
    retired: Vec<ConnectionStatus>,
    /// Channels of the current connection that no window has.
    idle: Vec<Channel>,
    /// How many channels the current connection has.
    channels: usize,
    /// How many one may have: less than [`CHANNELS`] where the broker lets the user open no more.
    channels_allowed: usize,
    /// No window begins until the connection has one more channel, or it turns out that it can't: a broker ends the connection that
    /// opens one too many, with all that is in flight on it.
    widens: bool,
    /// No connection is made before.
    not_before: Instant,
    opening: Option<BoxFuture<'static, Opened>>,
    windows: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Tries to connect that failed in a row.
    failures: u32,
    /// The last cause that was logged: the same one again is nothing new.
    logged: String,
}

struct Link {
    connection: Arc<Connection>,
    place: Arc<Place>,
    events: BoxStream<'static, Event>,
}

/// What came of opening a channel, and a connection where there was none.
struct Opened {
    on: On,
    /// How many channels the connection had before.
    had: usize,
    channel: Result<Channel, Failure>,
}

/// Which connection a channel was opened on.
enum On {
    /// None: it could not be connected.
    Nothing,
    /// The one in use.
    Current,
    /// A new one.
    New(Arc<Connection>, Arc<Place>),
}

/// A window that ended: its attempts have their verdicts.
struct Ended {
    generation: u64,
    /// None if it can't be used again.
    channel: Option<Channel>,
    /// The broker did not confirm in time.
    silent: bool,
    /// Those the broker may have broken the window for.
    suspects: Vec<Uuid>,
    /// Those that came through.
    cleared: Vec<Uuid>,
}

impl Worker {
    pub(super) fn new(
        sink: String,
        settings: Settings,
        jobs: UnboundedReceiver<Job>,
        ending: CancellationToken,
    ) -> Self {
        Self {
            sink,
            settings: Arc::new(settings),
            jobs,
            ending,
            ends_since: None,
            waiting: VecDeque::new(),
            suspects: HashSet::new(),
            link: None,
            generation: 0,
            retired: Vec::new(),
            idle: Vec::new(),
            channels: 0,
            channels_allowed: CHANNELS,
            widens: false,
            not_before: Instant::now(),
            opening: None,
            windows: FuturesUnordered::new(),
            failures: 0,
            logged: String::new(),
        }
    }

    /// Until nobody can send attempts any more and all have ended.
    pub(super) async fn run(mut self) {
        let mut open = true;
        let ending = self.ending.clone();
        while open || !self.waiting.is_empty() || !self.windows.is_empty() {
            self.drop_what_is_dead();
            self.start_windows();
            self.open_channel();
            let expiry = self.expiry();
            tokio::select! {
                job = self.jobs.recv(), if open => match job {
                    Some(job) => self.take(job),
                    None => open = false,
                },
                Some(ended) = self.windows.next(), if !self.windows.is_empty() => self.ended(ended),
                opened = pending_or(&mut self.opening) => {
                    self.opening = None;
                    self.opened(opened);
                }
                event = next_event(&mut self.link) => self.heard(event),
                () = ending.cancelled(), if self.ends_since.is_none() => self.ends_since = Some(Instant::now()),
                () = sleep_until(expiry.unwrap_or_else(Instant::now)), if expiry.is_some() => self.expire(),
            }
        }
        self.idle.clear();
        if let Some(link) = self.link.take() {
            // A connection that is lost has nothing to close; a broker that doesn't answer is left to its own time-outs.
            let _ = timeout(CLOSE_TIMEOUT, link.connection.close(200, ShortString::default())).await;
        }
    }

    /// Takes a job and all that came with it.
    fn take(&mut self, first: Job) {
        let now = Instant::now();
        self.waiting.push_back((now, first));
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push_back((now, job));
        }
    }

    fn drop_what_is_dead(&mut self) {
        self.retired.retain(|status| !status.closed() && !status.errored());
        if self.link.as_ref().is_some_and(|link| !link.connection.status().connected()) {
            tracing::warn!(sink = self.sink, "the connection to the broker was lost");
            self.retire();
        }
        let before = self.idle.len();
        self.idle.retain(|channel| channel.status().connected());
        self.channels = self.channels.saturating_sub(before - self.idle.len());
    }

    /// Gives the connection up. What is under way on it goes on; nothing new is begun on it.
    fn retire(&mut self) {
        if let Some(link) = self.link.take() {
            self.retired.push(link.connection.status().clone());
        }
        self.idle.clear();
        self.channels = 0;
        self.widens = false;
    }

    /// The broker has asked us to publish nothing: memory or disk alarm.
    fn blocked(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.connection.status().blocked())
    }

    fn start_windows(&mut self) {
        while !self.waiting.is_empty() && !self.blocked() && !self.widens {
            let Some(link) = &self.link else { return };
            let frame_max = usize::try_from(link.connection.configuration().frame_max()).unwrap_or(usize::MAX);
            let place = Arc::clone(&link.place);
            let Some(channel) = self.idle.pop() else { return };
            let window = self.form_window(frame_max);
            if window.is_empty() {
                self.idle.push(channel);
                continue;
            }
            self.windows.push(run_window(self.generation, channel, window, place).boxed());
        }
    }

    /// Whatever waits now, at most [`WINDOW`]; a suspect alone. What can't be published at all ends here.
    fn form_window(&mut self, frame_max: usize) -> Vec<(Mark, Publish, Attempt)> {
        let mut window = Vec::new();
        while window.len() < WINDOW {
            let suspect = self.waiting.front().is_some_and(|(_, job)| self.suspects.contains(&job.outgoing.id));
            if suspect && !window.is_empty() {
                break;
            }
            let Some((_, Job { outgoing, attempt })) = self.waiting.pop_front() else { break };
            let mark = Mark { id: outgoing.id, attempt: attempt.id() };
            match Publish::new(outgoing, mark.attempt) {
                // Properties can't be split over frames, and a frame that is too long ends the whole connection.
                Ok(publish) if frame_max != 0 && publish.header_size > frame_max => attempt.end(Verdict::Refused {
                    cause: format!(
                        "its headers take {} bytes, the broker takes {frame_max} at most",
                        publish.header_size
                    ),
                }),
                Ok(publish) => window.push((mark, publish, attempt)),
                Err(cause) => attempt.end(Verdict::Refused { cause }),
            }
            if suspect {
                break;
            }
        }
        window
    }

    /// Begins to open a channel if attempts wait and there is none for them.
    fn open_channel(&mut self) {
        let full = self.link.is_some() && self.channels >= self.channels_allowed;
        let has_one = !self.idle.is_empty() && !self.widens;
        if self.opening.is_some() || self.blocked() {
            return;
        }
        if self.waiting.is_empty() || has_one || full {
            self.widens = false;
            return;
        }
        self.widens = self.link.is_some() && self.channels > 0;
        if self.widens && !self.windows.is_empty() {
            return;
        }
        let settings = Arc::clone(&self.settings);
        let current = self.link.as_ref().map(|link| (Arc::clone(&link.connection), Arc::clone(&link.place)));
        if current.is_none() && self.retired.len() >= MAX_RETIRED {
            self.fail(&Failure::sink("the broker closes none of the connections that were given up"));
            return;
        }
        let wait = link::backoff(self.failures).max(self.not_before.saturating_duration_since(Instant::now()));
        self.opening = Some(open(settings, current, wait, self.channels).boxed());
    }

    fn opened(&mut self, opened: Opened) {
        let was_current = matches!(opened.on, On::Current);
        self.widens = false;
        if let On::New(connection, place) = opened.on {
            tracing::info!(sink = self.sink, "connected to the broker {}:{}", place.host, place.port);
            let events = connection.events_listener().boxed();
            self.link = Some(Link { connection, place, events });
            self.generation += 1;
            self.channels = 0;
        }
        let alive = self.link.as_ref().is_some_and(|link| link.connection.status().connected());
        match opened.channel {
            Ok(channel) if alive => {
                self.idle.push(channel);
                self.channels += 1;
                self.failures = 0;
                self.logged.clear();
            }
            Ok(_) => self.fail(&Failure::sink("the connection to the broker was lost as soon as it was there")),
            // Nothing was in flight. The connection is gone, where the broker and not lapin counts; the next one asks for no more.
            Err(failure) if failure.is_channel_limit && opened.had > 0 => {
                tracing::warn!(sink = self.sink, "{}; this sink uses no more than {}", failure.cause, opened.had);
                self.channels_allowed = opened.had;
                self.not_before = Instant::now() + COUNTED;
            }
            // It had died unnoticed: what waits is still to be tried, on a new one.
            Err(_) if was_current && !alive => {}
            Err(failure) => {
                if failure.blame == Blame::Sink {
                    self.failures = self.failures.saturating_add(1);
                }
                self.fail(&failure);
            }
        }
    }

    /// All that waits ends so.
    fn fail(&mut self, failure: &Failure) {
        if self.logged != failure.cause {
            tracing::warn!(sink = self.sink, "{}", failure.cause);
            self.logged.clone_from(&failure.cause);
        }
        for (_, job) in self.waiting.drain(..) {
            job.attempt.end(failure.verdict());
        }
    }

    fn ended(&mut self, ended: Ended) {
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
        // Blocked, it answers again some time, and a new connection would be blocked as well.
        if ended.silent && !self.blocked() {
            self.retire();
        }
    }

    fn heard(&mut self, event: Option<Event>) {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                let reason = crate::amqp::escape(&reason);
                tracing::warn!(sink = self.sink, reason, "the broker blocks publishers");
            }
            Some(Event::ConnectionUnblocked) => tracing::info!(sink = self.sink, "the broker takes messages again"),
            // Errors of channels end their windows, those of the connection change its state.
            Some(_) => {}
            None => self.retire(),
        }
    }

    /// When the first of those that wait is not waited with any longer.
    fn expiry(&self) -> Option<Instant> {
        let (came, _) = self.waiting.front()?;
        let unblocked = self.blocked().then(|| *came + CONFIRM_TIMEOUT);
        unblocked.into_iter().chain(self.taken_back_at()).min()
    }

    /// When what waits is taken back, where the sink is to end and nothing can be published.
    fn taken_back_at(&self) -> Option<Instant> {
        let since = self.ends_since.filter(|_| self.link.is_none() || self.blocked())?;
        Some(if self.failures > 0 { since } else { since + UNSENT_GRACE })
    }

    fn expire(&mut self) {
        let now = Instant::now();
        if self.taken_back_at().is_some_and(|at| at <= now) {
            for (_, job) in self.waiting.drain(..) {
                job.attempt.end(taken_back());
            }
            return;
        }
        let failure = Failure::sink("the broker blocks publishers: it is under memory or disk alarm");
        while self.waiting.front().is_some_and(|(since, _)| *since + CONFIRM_TIMEOUT <= now)
            && let Some((_, job)) = self.waiting.pop_front()
        {
            job.attempt.end(failure.verdict());
        }
    }
}

/// Waits for ever while there is none.
async fn pending_or(opening: &mut Option<BoxFuture<'static, Opened>>) -> Opened {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}

/// Waits for ever while there is none.
async fn next_event(link: &mut Option<Link>) -> Option<Event> {
    match link {
        Some(link) => link.events.next().await,
        None => std::future::pending().await,
    }
}

/// A channel, on a new connection if there is none.
async fn open(
    settings: Arc<Settings>,
    current: Option<(Arc<Connection>, Arc<Place>)>,
    wait: Duration,
    had: usize,
) -> Opened {
    let (connection, place, is_new) = match current {
        Some((connection, place)) => (connection, place, false),
        None => match link::connect(&settings, wait).await {
            Ok((connection, place)) => (Arc::new(connection), Arc::new(place), true),
            Err(failure) => return Opened { on: On::Nothing, had, channel: Err(failure) },
        },
    };
    let channel = link::channel(&connection, &place, &settings).await;
    Opened { on: if is_new { On::New(connection, place) } else { On::Current }, had, channel }
}

/// Publishes a window, and lets its attempts end once all is known of it.
async fn run_window(
    generation: u64,
    channel: Channel,
    window: Vec<(Mark, Publish, Attempt)>,
    place: Arc<Place>,
) -> Ended {
    let (mut marks, mut publishes, mut attempts) = (Vec::new(), Vec::new(), Vec::new());
    for (mark, publish, attempt) in window {
        marks.push(mark);
        publishes.push(publish);
        attempts.push(attempt);
    }
    let ids = || marks.iter().map(|mark| mark.id).collect::<Vec<_>>();
    let mut ended = Ended { generation, channel: None, silent: false, suspects: Vec::new(), cleared: Vec::new() };
    let verdicts = match send::window(&channel, publishes, CONFIRM_TIMEOUT).await {
        Ok(confirms) => {
            ended.channel = Some(channel);
            ended.cleared = ids();
            window::settle(&marks, confirms)
        }
        Err(broken) => {
            ended.silent = matches!(broken, Broken::Silent(_));
            let verdict = broken.verdict(marks.len(), &place);
            if matches!(verdict, Verdict::Refused { .. }) {
                ended.cleared = ids();
            } else if broken.is_because_of_one() {
                ended.suspects = ids();
            }
            vec![verdict; marks.len()]
        }
    };
    for (attempt, verdict) in attempts.into_iter().zip(verdicts) {
        attempt.end(verdict);
    }
    ended
}
