//! A sink's dispatcher as a whole: a real spool, and a sink whose attempts the test ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{Config, DeadLettersConfig, OnCorrupt, Options, Retry, SpoolConfig, Strictness};
use crate::event::{HeaderValue, Properties, SourceName};
use crate::sink::{Attempt, Blame, RenderedDelivery, Sink, Verdict};
use crate::source::{EntryId, Settlement, SourceSignals};
use crate::spool::Spool;

/// Nothing in these tests takes as long.
const PATIENCE: Duration = Duration::from_mins(1);
/// What is due at once comes sooner than this; what is not due doesn't come at all.
const A_WHILE: Duration = Duration::from_millis(400);
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

/// A spool of that size, and one sink before it.
struct Setup {
    _directory: tempfile::TempDir,
    spool: Arc<Spool>,
    config: Config,
    to: UnboundedSender<Settlement>,
    settled: UnboundedReceiver<Settlement>,
    signals: Arc<SourceSignals>,
    next: u64,
}

/// The sink's dispatcher, at work.
struct Hook {
    inlet: Inlet,
    attempts: UnboundedReceiver<(RenderedDelivery, Attempt)>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Setup {
    fn new(max_size: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let limits = DeadLettersConfig { keep: None, max_size: 1 << 30, to: None };
        let path = directory.path().join("spool.db");
        let spool = SpoolConfig { path, on_corrupt: OnCorrupt::Stop, max_size, max_share: 100 };
        let spool = Arc::new(Spool::open(&spool, &limits).unwrap());
        let (config, _) =
            Config::parse(ROUTES, Path::new("routes.yaml"), &Options::of_process(Strictness::Offline, None)).unwrap();
        let (to, settled) = unbounded_channel();
        Self { _directory: directory, spool, config, to, settled, signals: Arc::default(), next: 1 }
    }

    /// Its sink takes so many at once.
    async fn hook(&self, capacity: usize, retry: &Retry) -> Hook {
        let sink = &self.config.sinks[0];
        let settings = Settings { retry: retry.clone(), ..Settings::of(sink, &self.config) };
        let (sink, attempts) = Sink::manual(sink, capacity);
        let stats = Arc::new(SinkStats::new(settings.name.clone()));
        let (dispatcher, inlet) = Dispatcher::new(settings, sink, Arc::clone(&self.spool), stats).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(dispatcher.run(stop.clone(), PATIENCE));
        Hook { inlet, attempts, stop, task }
    }

    /// The next message, of that request.
    fn deliver(&mut self, hook: &Hook, request: &str) {
        self.deliver_with(hook, request, "");
    }

    /// The same with that text.
    fn deliver_with(&mut self, hook: &Hook, request: &str, text: &str) {
        let delivery = self.delivery(request, text);
        hook.inlet.deliveries.send(delivery).unwrap();
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
            received: Arc::new(Received { event, message: Arc::new(message) }),
            route: None,
            kept: Kept::Message(receipt),
            since: Instant::now(),
            attempts: 0,
            refusals: 0,
            failure: None,
            in_flight: None,
        }
    }

    /// How many deliveries are in the spool.
    fn spooled(&self) -> u64 {
        self.spool.shares().iter().map(|(_, share)| share.count()).sum()
    }

    async fn settled(&mut self) -> Settlement {
        tokio::time::timeout(PATIENCE, self.settled.recv()).await.expect("settled in time").unwrap()
    }
}

impl Hook {
    /// The next attempt: what goes out, and its end.
    async fn attempt(&mut self) -> (RenderedDelivery, Attempt) {
        tokio::time::timeout(PATIENCE, self.attempts.recv()).await.expect("an attempt in time").unwrap()
    }

    /// No attempt is made now.
    async fn rests(&mut self) {
        let attempt = tokio::time::timeout(A_WHILE, self.attempts.recv()).await;
        assert!(attempt.is_err(), "an attempt was made: {attempt:?}");
    }

    async fn ended(self) {
        let Self { inlet, task, .. } = self;
        drop(inlet);
        tokio::time::timeout(PATIENCE, task).await.expect("it ends in time").unwrap();
    }
}

fn failed(blame: Blame) -> Verdict {
    Verdict::Retry { after: None, cause: "503".to_owned(), blame }
}

#[tokio::test]
async fn a_full_spool_keeps_the_back_off() {
    let mut setup = Setup::new(1);
    let mut hook = setup.hook(8, &LONG).await;
    setup.deliver(&hook, "a");
    hook.attempt().await.1.end(failed(Blame::Delivery));
    hook.rests().await;
    setup.deliver(&hook, "a");
    setup.deliver(&hook, "b");
    hook.attempt().await.1.end(Verdict::Delivered);
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(3)), "another lane goes on");
    hook.rests().await;
}

/// Where there is room again, the delivery is put there with its back-off.
#[tokio::test]
async fn a_delivery_that_there_is_room_for_later_keeps_its_back_off() {
    let mut setup = Setup::new(550);
    let mut hook = setup.hook(8, &SHORT).await;
    setup.deliver(&hook, "a");
    hook.attempt().await.1.end(failed(Blame::Delivery));
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(1)), "it is in the spool, which is full now");
    let (_, again) = hook.attempt().await;
    setup.deliver(&hook, "b");
    let later = Verdict::Retry { after: Some(HOUR), cause: "409".to_owned(), blame: Blame::Delivery };
    hook.attempt().await.1.end(later);
    hook.rests().await;
    again.end(Verdict::Delivered);
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(2)));
    hook.rests().await;
}

#[tokio::test]
async fn at_a_stop_what_a_full_spool_has_no_room_for_goes_there_all_the_same() {
    let mut setup = Setup::new(1);
    let mut hook = setup.hook(8, &LONG).await;
    for request in ["a", "a", "b"] {
        setup.deliver(&hook, request);
    }
    let (_, first) = hook.attempt().await;
    first.end(failed(Blame::Delivery));
    let (_, under_way) = hook.attempt().await;
    hook.rests().await;
    hook.stop.cancel();
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(1)));
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(2)));
    under_way.end(failed(Blame::Delivery));
    hook.ended().await;
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(3)));
    assert_eq!(setup.spooled(), 3);
}

/// Another one takes its place, and would get anew, for all sinks, what is unsettled.
#[tokio::test]
async fn when_a_source_ends_what_it_brought_goes_to_a_full_spool_all_the_same() {
    let mut setup = Setup::new(1);
    let stop = CancellationToken::new();
    let ending = Arc::new(SourceSignals::with_stop(stop.clone()));
    let mut hook = setup.hook(8, &LONG).await;
    setup.deliver(&hook, "a");
    let other = std::mem::replace(&mut setup.signals, ending);
    setup.deliver(&hook, "a");
    setup.deliver(&hook, "b");
    setup.signals = other;
    setup.deliver(&hook, "c");
    for _ in 0..3 {
        hook.attempt().await.1.end(failed(Blame::Delivery));
    }
    hook.rests().await;
    stop.cancel();
    let mut settled = [setup.settled().await, setup.settled().await, setup.settled().await];
    settled.sort_by_key(|one| format!("{one:?}"));
    assert_eq!(
        settled,
        [1, 2, 3].map(|entry| Settlement::Done(EntryId(entry))),
        "and what is before them in their lanes"
    );
    hook.rests().await;
    assert!(setup.settled.try_recv().is_err(), "all other messages are held");
}

fn refused() -> Verdict {
    Verdict::Refused { cause: "it answered 400 Bad Request".to_owned() }
}

impl Setup {
    /// How many dead letters there are, once all that was handed to the spool is on disk.
    async fn dead_letters(&self) -> u64 {
        let state = self.spool.watch(crate::rules::SinkName::new("nobody")).await;
        assert!(state.is_some());
        self.spool.tallies().iter().map(|(_, _, tally)| tally.stored).sum()
    }
}

#[tokio::test]
async fn an_event_dies_only_once_it_was_refused_three_times() {
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.hook(8, &SHORT).await;
    setup.deliver(&hook, "a");
    for _ in 0..2 {
        hook.attempt().await.1.end(refused());
    }
    let (_, third) = hook.attempt().await;
    assert_eq!(setup.dead_letters().await, 0);
    third.end(refused());
    setup.deliver(&hook, "a");
    hook.attempt().await.1.end(Verdict::Delivered);
    assert_eq!(setup.dead_letters().await, 1);
    hook.rests().await;
}

/// With a full spool the refusals are counted in memory.
#[tokio::test]
async fn an_event_that_a_full_spool_has_no_room_for_dies_as_late() {
    let mut setup = Setup::new(1);
    let mut hook = setup.hook(8, &SHORT).await;
    setup.deliver(&hook, "a");
    for _ in 0..3 {
        assert_eq!(setup.dead_letters().await, 0);
        hook.attempt().await.1.end(refused());
    }
    assert_eq!(setup.settled().await, Settlement::Done(EntryId(1)));
    assert_eq!(setup.dead_letters().await, 1);
}

/// A wrong secret, an expired certificate, a broken template: what is wrong is the sink.
#[tokio::test]
async fn a_sink_that_refuses_ten_events_in_a_row_is_at_fault_and_none_dies_until_one_is_delivered() {
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.hook(1, &SHORT).await;
    for number in 0..30 {
        setup.deliver(&hook, &number.to_string());
    }
    // Each of them is refused again and again, and one at a time once the breaker is open.
    for _ in 0..120 {
        let (_, attempt) = hook.attempt().await;
        attempt.end(refused());
    }
    let died = setup.dead_letters().await;
    assert!(died < 10, "{died} died");
    let delivered = u64::try_from(30).unwrap() - died;
    for _ in 0..delivered {
        hook.attempt().await.1.end(Verdict::Delivered);
    }
    hook.rests().await;
    assert_eq!(setup.dead_letters().await, died);
}

#[tokio::test]
async fn a_refused_probe_does_not_close_the_breaker() {
    let mut setup = Setup::new(1 << 20);
    let mut hook = setup.hook(8, &SHORT).await;
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
        hook.rests().await;
        probe.end(refused());
    }
    hook.attempt().await.1.end(Verdict::Delivered);
    let several = [hook.attempt().await, hook.attempt().await];
    assert_eq!(several.len(), 2, "it is closed");
}

/// What the attempts under way carry together, in bytes.
fn carried(attempts: &[(RenderedDelivery, Attempt)]) -> usize {
    attempts.iter().map(|(outgoing, _)| outgoing.body.len()).sum()
}

/// Rows of 1 MiB for a sink that takes any number at once, as Kafka and files do.
#[tokio::test]
async fn a_sink_takes_sixteen_mebibytes_out_of_its_backlog_and_then_as_much_as_it_delivers() {
    const ROWS: usize = 40;
    const KEYS: usize = 20;
    let mut setup = Setup::new(1 << 30);
    let mut hook = setup.hook(1_000, &SHORT).await;
    hook.inlet.orders.send(Order::Pause).unwrap();
    let padding = "x".repeat((1 << 20) - 1_024);
    for number in 0..ROWS {
        setup.deliver_with(&hook, &(number % KEYS).to_string(), &padding);
    }
    for _ in 0..ROWS {
        setup.settled().await;
    }
    assert_eq!(setup.spooled(), ROWS as u64);
    hook.inlet.orders.send(Order::Resume).unwrap();
    let (mut under_way, mut order) = (Vec::new(), Vec::new());
    while order.len() < ROWS {
        under_way.push(hook.attempt().await);
        while let Ok(Some(attempt)) = tokio::time::timeout(A_WHILE, hook.attempts.recv()).await {
            under_way.push(attempt);
        }
        let carried = carried(&under_way);
        assert!(carried <= 16 << 20, "{carried} bytes in hand");
        assert!(
            under_way.len() >= 4 || order.len() + under_way.len() == ROWS,
            "it takes no more than {}",
            under_way.len()
        );
        // First some of them fail, as before an outage ends.
        let verdict =
            |place| if order.is_empty() && place % 4 == 1 { failed(Blame::Delivery) } else { Verdict::Delivered };
        let ends: Vec<_> = (0..under_way.len()).map(verdict).collect();
        for ((outgoing, attempt), end) in under_way.drain(..).zip(ends) {
            if matches!(end, Verdict::Delivered) {
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

/// Attempts that go on while their deliveries are spooled are in hand as well.
#[tokio::test]
async fn what_is_spooled_under_way_counts_as_taken_out_of_the_backlog() {
    let mut setup = Setup::new(1 << 30);
    let mut hook = setup.hook(1_000, &LONG).await;
    let padding = "x".repeat((1 << 20) - 1_024);
    let first: Vec<_> = (0..18).map(|number| setup.delivery(&number.to_string(), &padding)).collect();
    // Together: once the first is spooled, no other is attempted that comes later.
    for delivery in first {
        hook.inlet.deliveries.send(Delivery { since: Instant::now(), ..delivery }).unwrap();
    }
    let mut under_way = Vec::new();
    for _ in 0..18 {
        under_way.push(hook.attempt().await);
    }
    for _ in 0..18 {
        setup.settled().await;
    }
    for number in 0..4 {
        setup.deliver_with(&hook, &format!("later {number}"), &padding);
    }
    hook.rests().await;
    for (_, attempt) in under_way {
        attempt.end(Verdict::Delivered);
    }
    for _ in 0..4 {
        hook.attempt().await.1.end(Verdict::Delivered);
    }
}
