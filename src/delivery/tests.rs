//! The dispatcher with a real spool and with a sink whose attempts the test ends.

mod digests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{Config, DeadLettersConfig, Options, Retry, SpoolConfig, Strictness};
use crate::event::{Event, HeaderValue, Message, Properties, SourceName};
use crate::journal::Journal;
use crate::sink::{Attempt, Blame, Confirmation, RenderedDelivery, Sink, Verdict};
use crate::source::{EntryId, Settlement, SourceSignals};
use crate::spool::Spool;

/// The deadline of everything that a test waits for.
const PATIENCE: Duration = Duration::from_mins(1);
/// An attempt that is due begins within this time.
const ATTEMPT_DELAY: Duration = Duration::from_millis(400);
const HOUR: Duration = Duration::from_hours(1);
const LONG: Retry =
    Retry { initial_backoff: HOUR, max_backoff: HOUR, give_up_after: None, max_attempts: None, refuse_after: 3 };
const SHORT: Retry = Retry {
    initial_backoff: Duration::from_millis(10),
    max_backoff: Duration::from_millis(20),
    give_up_after: None,
    max_attempts: None,
    refuse_after: 3,
};

const ROUTES: &str = "
version: 1
sources: { regards: { recording: { path: samples.ndjson }, expects: lta } }
sinks: { hook: { stdout: {} } }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
";

/// A spool, and the configuration of one sink.
struct Setup {
    directory: tempfile::TempDir,
    spool: Arc<Spool>,
    config: Config,
    to: UnboundedSender<Settlement>,
    settled: UnboundedReceiver<Settlement>,
    signals: Arc<SourceSignals>,
    next: u64,
}

/// The running dispatcher of the sink.
struct RunningDispatcher {
    handle: DispatcherHandle,
    attempts: UnboundedReceiver<(RenderedDelivery, Attempt)>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn open_spool(directory: &Path, max_size: u64, max_dead_letters: u64) -> Arc<Spool> {
    let limits = DeadLettersConfig { keep: None, max_size: max_dead_letters, to: None };
    let spool = SpoolConfig { max_size, max_share: 100, ..SpoolConfig::at(directory.join("spool.db")) };
    Arc::new(Spool::open(&spool, &limits).unwrap())
}

impl Setup {
    fn new(max_size: u64) -> Self {
        Self::with_dead_letters(max_size, 1 << 30)
    }

    fn with_dead_letters(max_size: u64, max_dead_letters: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = open_spool(directory.path(), max_size, max_dead_letters);
        let (config, _) =
            Config::parse(ROUTES, Path::new("routes.yaml"), &Options::of_process(Strictness::Offline, None)).unwrap();
        let (to, settled) = unbounded_channel();
        Self { directory, spool, config, to, settled, signals: Arc::default(), next: 1 }
    }

    /// Opens the spool again, with room for dead letters.
    async fn reopen_spool(&mut self, max_size: u64) {
        self.spool.close(PATIENCE).await;
        self.spool = open_spool(self.directory.path(), max_size, 1 << 30);
    }

    /// Starts a dispatcher whose sink takes `capacity` deliveries at once.
    async fn start_dispatcher(&self, capacity: usize, retry: &Retry) -> RunningDispatcher {
        let sink = &self.config.sinks[0];
        let settings = Settings { retry: retry.clone(), ..Settings::of(sink, &self.config) };
        let (sink, attempts) = Sink::manual(sink, capacity);
        let stats = Arc::new(SinkStats::new(settings.name.clone()));
        let (dispatcher, handle) =
            Dispatcher::new(settings, sink, Arc::clone(&self.spool), Journal::default(), stats).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(dispatcher.run(stop.clone(), PATIENCE));
        RunningDispatcher { handle, attempts, stop, task }
    }

    fn deliver(&mut self, hook: &RunningDispatcher, request: &str) {
        self.deliver_with(hook, request, "");
    }

    /// Delivers an event of this request, with this text as its message.
    fn deliver_with(&mut self, hook: &RunningDispatcher, request: &str, text: &str) {
        let delivery = self.delivery(request, text);
        hook.handle.deliveries.send(delivery).unwrap();
    }

    fn delivery(&mut self, request: &str, text: &str) -> Delivery {
        let properties = Properties {
            headers: vec![("regards.tenant".to_owned(), HeaderValue::Text("esa".to_owned()))],
            timestamp: Some(self.next),
            ..Properties::default()
        };
        let body = format!(r#"{{"correlationId":"{request}","responseStatus":"GRANTED","message":"{text}"}}"#);
        let source = SourceName::new("regards");
        let message = Message { source, body: body.into(), properties, redelivered: false };
        let event = Event::decode(&message, &self.config.sources[0].decode_options).unwrap();
        let receipt = Receipt::with_signals(EntryId(self.next), self.to.clone(), Arc::clone(&self.signals));
        self.next += 1;
        Delivery {
            payload: Arc::new(Payload::Event { event, message: Arc::new(message) }),
            route: None,
            backing: Backing::Receipt(receipt),
            received_at: Instant::now(),
            attempts: 0,
            refusals: 0,
            failure: None,
            replayed: false,
            place: 0,
            attempt_guard: None,
        }
    }

    /// The number of deliveries in the spool.
    fn spooled(&self) -> u64 {
        self.spool.sink_usage().iter().map(|(_, share)| share.count()).sum()
    }

    async fn settled(&mut self) -> Settlement {
        tokio::time::timeout(PATIENCE, self.settled.recv()).await.expect("a settled message").unwrap()
    }
}

impl RunningDispatcher {
    /// Waits for the next attempt.
    async fn attempt(&mut self) -> (RenderedDelivery, Attempt) {
        tokio::time::timeout(PATIENCE, self.attempts.recv()).await.expect("an attempt").unwrap()
    }

    /// Checks that no attempt is made.
    async fn expect_no_attempt(&mut self) {
        let attempt = tokio::time::timeout(ATTEMPT_DELAY, self.attempts.recv()).await;
        assert!(attempt.is_err(), "an attempt was made: {attempt:?}");
    }

    /// Closes the inbox, and gives the dispatcher time to notice that.
    async fn close_inbox(&mut self) {
        self.handle.deliveries = unbounded_channel().0;
        self.expect_no_attempt().await;
    }

    async fn end(self) {
        let Self { handle, task, .. } = self;
        drop(handle);
        tokio::time::timeout(PATIENCE, task).await.expect("the end of the dispatcher").unwrap();
    }
}

fn failed(blame: Blame) -> Verdict {
    Verdict::Retry { after: None, cause: "503".to_owned(), blame }
}

#[tokio::test]
async fn a_full_spool_keeps_the_back_off() {
    let mut setup = Setup::new(1);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    setup.deliver(&hook, "a");
    hook.attempt().await.1.end(failed(Blame::Delivery));
    hook.expect_no_attempt().await;
    setup.deliver(&hook, "a");
    setup.deliver(&hook, "b");
    hook.attempt().await.1.end(Verdict::Delivered(Confirmation::Stdout));
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(3)), "another lane is not delayed");
    hook.expect_no_attempt().await;
}

/// It is spooled with its back-off once the spool has room again.
#[tokio::test]
async fn a_delivery_that_is_spooled_later_keeps_its_back_off() {
    let mut setup = Setup::new(550);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    setup.deliver(&hook, "a");
    hook.attempt().await.1.end(failed(Blame::Delivery));
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(1)), "it is in the spool, which is full now");
    let (_, again) = hook.attempt().await;
    setup.deliver(&hook, "b");
    let later = Verdict::Retry { after: Some(HOUR), cause: "409".to_owned(), blame: Blame::Delivery };
    hook.attempt().await.1.end(later);
    hook.expect_no_attempt().await;
    again.end(Verdict::Delivered(Confirmation::Stdout));
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(2)));
    hook.expect_no_attempt().await;
}

#[tokio::test]
async fn deliveries_are_spooled_beyond_the_limits_at_a_stop() {
    let mut setup = Setup::new(1);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    for request in ["a", "a", "b"] {
        setup.deliver(&hook, request);
    }
    let (_, first) = hook.attempt().await;
    first.end(failed(Blame::Delivery));
    let (_, in_flight) = hook.attempt().await;
    hook.expect_no_attempt().await;
    hook.stop.cancel();
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(1)));
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(2)));
    in_flight.end(failed(Blame::Delivery));
    hook.end().await;
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(3)));
    assert_eq!(setup.spooled(), 3);
}

/// The next run of the source would receive unsettled messages again, for all sinks.
#[tokio::test]
async fn deliveries_of_a_source_that_ends_are_spooled_beyond_the_limits() {
    let mut setup = Setup::new(1);
    let stop = CancellationToken::new();
    let ending = Arc::new(SourceSignals::with_stop(stop.clone()));
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    setup.deliver(&hook, "a");
    let other = std::mem::replace(&mut setup.signals, ending);
    setup.deliver(&hook, "a");
    setup.deliver(&hook, "b");
    setup.signals = other;
    setup.deliver(&hook, "c");
    for _ in 0..3 {
        hook.attempt().await.1.end(failed(Blame::Delivery));
    }
    hook.expect_no_attempt().await;
    stop.cancel();
    let mut settled = [setup.settled().await, setup.settled().await, setup.settled().await];
    settled.sort_by_key(|one| format!("{one:?}"));
    assert_eq!(
        settled,
        [1, 2, 3].map(|entry| Settlement::Done(EntryId(entry))),
        "with the deliveries before them in their lanes"
    );
    hook.expect_no_attempt().await;
    assert!(setup.settled.try_recv().is_err(), "no other message is settled");
}

fn refused() -> Verdict {
    Verdict::Refused { cause: "it answered 400 Bad Request".to_owned() }
}

impl Setup {
    /// The number of dead letters, once everything that was handed to the spool is on disk.
    async fn dead_letters(&self) -> u64 {
        let state = self.spool.subscribe(crate::rules::SinkName::new("other")).await;
        assert!(state.is_some());
        self.spool.dead_letter_counts().iter().map(|(_, _, tally)| tally.total).sum()
    }
}

#[tokio::test]
async fn an_event_becomes_a_dead_letter_after_three_refusals() {
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    setup.deliver(&hook, "a");
    for _ in 0..2 {
        hook.attempt().await.1.end(refused());
    }
    let (_, third) = hook.attempt().await;
    assert_eq!(setup.dead_letters().await, 0);
    third.end(refused());
    setup.deliver(&hook, "a");
    hook.attempt().await.1.end(Verdict::Delivered(Confirmation::Stdout));
    assert_eq!(setup.dead_letters().await, 1);
    hook.expect_no_attempt().await;
}

/// Refusals are then counted in memory.
#[tokio::test]
async fn refusals_are_also_counted_while_the_spool_is_full() {
    let mut setup = Setup::new(1);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    setup.deliver(&hook, "a");
    for _ in 0..3 {
        assert_eq!(setup.dead_letters().await, 0);
        hook.attempt().await.1.end(refused());
    }
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(1)));
    assert_eq!(setup.dead_letters().await, 1);
}

/// As with a wrong secret, an expired certificate or a broken template.
#[tokio::test]
async fn a_sink_that_refuses_ten_events_in_a_row_makes_no_dead_letters_until_it_delivers_one() {
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.start_dispatcher(1, &SHORT).await;
    for number in 0..30 {
        setup.deliver(&hook, &number.to_string());
    }
    // Each event is refused several times. Once the breaker is open, there is one attempt at a time.
    for _ in 0..120 {
        let (_, attempt) = hook.attempt().await;
        attempt.end(refused());
    }
    let dead_letters = setup.dead_letters().await;
    assert!(dead_letters < 10, "{dead_letters} dead letters");
    let delivered = u64::try_from(30).unwrap() - dead_letters;
    for _ in 0..delivered {
        hook.attempt().await.1.end(Verdict::Delivered(Confirmation::Stdout));
    }
    hook.expect_no_attempt().await;
    assert_eq!(setup.dead_letters().await, dead_letters);
}

#[tokio::test]
async fn a_refused_probe_does_not_close_the_breaker() {
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.start_dispatcher(8, &SHORT).await;
    for number in 0..20 {
        setup.deliver(&hook, &number.to_string());
    }
    let mut first = Vec::new();
    for _ in 0..8 {
        first.push(hook.attempt().await.1);
    }
    for attempt in first {
        attempt.end(failed(Blame::Sink));
    }
    for _ in 0..3 {
        let (_, probe) = hook.attempt().await;
        hook.expect_no_attempt().await;
        probe.end(refused());
    }
    hook.attempt().await.1.end(Verdict::Delivered(Confirmation::Stdout));
    let several = [hook.attempt().await, hook.attempt().await];
    assert_eq!(several.len(), 2, "the breaker is closed");
}

/// The second delivery waits behind the first, and can't be rendered without its route. The inbox is closed and the spool is full, so
/// nothing wakes the dispatcher after it has made a dead letter of the delivery.
#[tokio::test]
async fn a_dispatcher_with_a_closed_inbox_ends_after_a_delivery_that_can_not_be_rendered() {
    let mut setup = Setup::new(1);
    let mut hook = setup.start_dispatcher(8, &LONG).await;
    setup.deliver(&hook, "a");
    let (_, first) = hook.attempt().await;
    let second = Delivery { route: Some(RouteName::new("removed")), ..setup.delivery("a", "") };
    hook.handle.deliveries.send(second).unwrap();
    hook.close_inbox().await;
    first.end(Verdict::Delivered(Confirmation::Stdout));
    hook.end().await;
    let settled = [setup.settled().await, setup.settled().await];
    assert_eq!(settled, [1, 2].map(|entry| Settlement::Done(EntryId(entry))));
    assert_eq!(setup.dead_letters().await, 1);
}

/// The bytes of all attempts in flight.
fn carried(attempts: &[(RenderedDelivery, Attempt)]) -> usize {
    attempts.iter().map(|(outgoing, _)| outgoing.body.len()).sum()
}

/// Deliveries of 1 MiB for a sink that takes any number at once, as Kafka and files do.
#[tokio::test]
async fn at_most_sixteen_mebibytes_of_a_backlog_are_taken_at_once() {
    const ROWS: usize = 40;
    const KEYS: usize = 20;
    let mut setup = Setup::new(1 << 30);
    let mut hook = setup.start_dispatcher(1_000, &SHORT).await;
    hook.handle.commands.send(SinkCommand::Pause).unwrap();
    let padding = "x".repeat((1 << 20) - 1_024);
    for number in 0..ROWS {
        setup.deliver_with(&hook, &(number % KEYS).to_string(), &padding);
    }
    for _ in 0..ROWS {
        setup.settled().await;
    }
    assert_eq!(setup.spooled(), ROWS as u64);
    hook.handle.commands.send(SinkCommand::Resume).unwrap();
    let (mut in_flight, mut order) = (Vec::new(), Vec::new());
    while order.len() < ROWS {
        in_flight.push(hook.attempt().await);
        while let Ok(Some(attempt)) = tokio::time::timeout(ATTEMPT_DELAY, hook.attempts.recv()).await {
            in_flight.push(attempt);
        }
        let carried = carried(&in_flight);
        assert!(carried <= 16 << 20, "{carried} bytes are in flight");
        assert!(
            in_flight.len() >= 4 || order.len() + in_flight.len() == ROWS,
            "it takes no more than {}",
            in_flight.len()
        );
        // In the first round some fail, as at the end of an outage.
        let verdict = |place| {
            if order.is_empty() && place % 4 == 1 {
                failed(Blame::Delivery)
            } else {
                Verdict::Delivered(Confirmation::Stdout)
            }
        };
        let ends: Vec<_> = (0..in_flight.len()).map(verdict).collect();
        for ((outgoing, attempt), end) in in_flight.drain(..).zip(ends) {
            if end.is_delivered() {
                let event: serde_json::Value = serde_json::from_slice(&outgoing.body).unwrap();
                order.push((event["correlationId"].clone(), event["time"].clone()));
            }
            attempt.end(end);
        }
    }
    for key in (0..KEYS).map(|key| key.to_string()) {
        let times: Vec<_> = order.iter().filter(|(id, _)| *id == *key).map(|(_, time)| time.as_str()).collect();
        assert!(times.len() == 2 && times.is_sorted(), "key {key}: {times:?}");
    }
}

#[tokio::test]
async fn in_flight_deliveries_that_are_spooled_count_as_taken_from_the_backlog() {
    let mut setup = Setup::new(1 << 30);
    let mut hook = setup.start_dispatcher(1_000, &LONG).await;
    let padding = "x".repeat((1 << 20) - 1_024);
    let first: Vec<_> = (0..18).map(|number| setup.delivery(&number.to_string(), &padding)).collect();
    // All have one time of receipt. Once the first is spooled, new deliveries are not attempted.
    for delivery in first {
        hook.handle.deliveries.send(Delivery { received_at: Instant::now(), ..delivery }).unwrap();
    }
    let mut in_flight = Vec::new();
    for _ in 0..18 {
        in_flight.push(hook.attempt().await);
    }
    for _ in 0..18 {
        setup.settled().await;
    }
    for number in 0..4 {
        setup.deliver_with(&hook, &format!("later {number}"), &padding);
    }
    hook.expect_no_attempt().await;
    for (_, attempt) in in_flight {
        attempt.end(Verdict::Delivered(Confirmation::Stdout));
    }
    for _ in 0..4 {
        hook.attempt().await.1.end(Verdict::Delivered(Confirmation::Stdout));
    }
}

#[tokio::test]
async fn values_that_do_not_fit_are_dead_letters_at_once_unless_ten_in_a_row_do_not() {
    let unfit = || Verdict::Unfit { detail: "body: size: found text, expected int".to_owned() };
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.start_dispatcher(64, &SHORT).await;
    let mut attempts = async |setup: &mut Setup, count: usize| {
        for number in 0..count {
            setup.deliver(&hook, &format!("request-{number}"));
        }
        let mut attempts = Vec::new();
        for _ in 0..count {
            attempts.push(hook.attempt().await.1);
        }
        attempts
    };
    // Of one in ten it isn't known yet whether it fits.
    let mut undecided = Vec::new();
    for (number, attempt) in attempts(&mut setup, 30).await.into_iter().enumerate() {
        if number % 10 == 9 {
            undecided.push(attempt);
        } else {
            attempt.end(unfit());
        }
    }
    for _ in 0..27 {
        setup.settled().await;
    }
    assert_eq!(setup.dead_letters().await, 27);
    for attempt in undecided {
        attempt.end(Verdict::Delivered(Confirmation::Stdout));
    }

    // They end from the last to the first.
    for attempt in attempts(&mut setup, 12).await.into_iter().rev() {
        attempt.end(unfit());
    }
    for _ in 0..3 + 12 {
        setup.settled().await;
    }
    assert_eq!(setup.dead_letters().await, 27 + 9);
    assert_eq!(setup.spooled(), 3);
    let (_, probe) = hook.attempt().await;
    hook.expect_no_attempt().await;
    probe.end(unfit());
    for _ in 0..3 {
        hook.attempt().await.1.end(Verdict::Delivered(Confirmation::Stdout));
    }
    hook.expect_no_attempt().await;
    assert_eq!(setup.dead_letters().await, 27 + 9, "none was one more because of its schema");
}
