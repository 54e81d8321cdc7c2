//! One run, from the first event to the judgement: load and faults beside one another, then a fresh event, then the rest.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;

use super::bounds;
use super::checker::{Letter, check, letters_due, missing};
use super::collector::{Collector, END, Shelves, Tail, empty_queue};
use super::nemesis::Nemesis;
use super::plan::{EventId, Plan, Sink};
use super::probe::Probe;
use super::publisher::{Progress, Publisher};
use super::schedule::{Schedule, Tally};
use super::settings::{Patience, Settings};
use super::table;
use super::taken::Taken;
use super::world::{PRODUCTS, World};
use crate::support::rabbit::Collected;
use crate::support::regards::DEAD_LETTER_QUEUE;
use crate::support::{Home, Relay};

const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// What is known of a run, while it goes on and after it.
struct Run<'a> {
    plan: Plan,
    patience: Patience,
    world: &'a World,
    progress: &'a Progress,
    shelves: &'a Shelves,
}

/// Runs it, prints the table, and gives back every sentence on what is wrong.
pub async fn run(settings: &Settings, schedule: &Schedule, world: &mut World) -> Vec<String> {
    let topic = world.topic.take().expect("a run has the topic's reader for itself");
    let world = &*world;
    let (plan, progress, shelves) = (Plan::of(settings.seed), Progress::default(), Shelves::default());
    let run = Run { plan, patience: settings.patience, world, progress: &progress, shelves: &shelves };
    let nemesis = Nemesis {
        home: &world.home,
        disk: world.disk.as_ref(),
        brokers: world.brokers.as_ref(),
        source: (&world.regards.vhost, &world.regards.user),
        sink: (&world.partner, &world.partner_user),
        receiver: &world.receiver,
        progress: &progress,
        patience: settings.patience.work,
        probe: Probe::new(),
        began: Instant::now(),
        tally: Mutex::new(Tally::default()),
        standstills: Mutex::default(),
        cut_short: AtomicU64::new(0),
    };
    let mut publisher = Publisher::new(settings.seed, plan, &progress, &world.regards.vhost).await;
    let mut collector = Collector {
        plan,
        shelves: &shelves,
        progress: &progress,
        topic,
        journal: Tail::of(world.journal()),
        archive: Tail::of(world.home.data("archive.ndjson")),
    };
    let relay = world.home.start_ready().await;

    let faults = async {
        let relay = nemesis.run(schedule, relay).await;
        progress.faults_over.store(true, SeqCst);
        relay
    };
    let ((), relay) = collector
        .beside(Box::pin(async { tokio::join!(publisher.run(settings.events, settings.rate()), faults) }))
        .await;
    println!("torture: {:>4} s, all is published, and no fault to come", nemesis.began.elapsed().as_secs());
    let wrong = collector.beside(run.wind_up(&mut publisher, relay)).await;
    collector.finish().await;
    run.judge(&nemesis, wrong).await
}

impl Run<'_> {
    /// A fresh event, the rest, a clean stop. What the AMQP sink's queue holds is collected meanwhile.
    async fn wind_up(&self, publisher: &mut Publisher<'_>, mut relay: Relay<'_>) -> Vec<String> {
        let work = async {
            // The queue of all that came to the exchange may be long by now.
            let exchange = self.world.fresh_queue().await;
            let began = Instant::now();
            let key = publisher.publish_everywhere().await;
            let fresh = self.wait(began + self.patience.fresh, || self.fresh_missing(key, &exchange)).await;
            if fresh.is_none() {
                println!(
                    "torture: after the faults, a fresh event passed every sink in {:.1} s",
                    began.elapsed().as_secs_f32()
                );
            }
            let rest = self.wait(Instant::now() + self.patience.rest, || self.rest_missing()).await;
            let died = if relay.runs() { None } else { Some("the relay ended by itself".to_owned()) };
            relay.stop().await;
            self.end_queue().await;
            [fresh, rest, died].into_iter().flatten().collect()
        };
        let (wrong, ()) = tokio::join!(work, empty_queue(self.plan, self.shelves, &self.world.partner, PRODUCTS));
        wrong
    }

    /// Waits until nothing is missing; what still is at the deadline.
    async fn wait(&self, deadline: Instant, missing: impl Fn() -> Option<String>) -> Option<String> {
        while let Some(missing) = missing() {
            if Instant::now() > deadline {
                return Some(missing);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        None
    }

    fn fresh_missing(&self, key: u32, exchange: &Collected) -> Option<String> {
        let ids = || (0..self.plan.length(key)).map(|seq| EventId { key, seq });
        let has = |sink| {
            let mut taken = Taken::default();
            if sink == Sink::Amqp {
                exchange.all().iter().for_each(|message| taken.take_body(self.plan, &message.body));
            }
            let taken = if sink == Sink::Amqp { &taken } else { &*self.shelves.of(sink) };
            ids().filter(|&id| self.plan.is_due(id, sink)).all(|id| taken.has(id))
        };
        let without: Vec<&str> = Sink::ALL.into_iter().filter(|&sink| !has(sink)).map(Sink::name).collect();
        let within = self.patience.fresh.as_secs();
        (!without.is_empty()).then(|| format!("a fresh event was not within {within} s at: {}", without.join(", ")))
    }

    fn rest_missing(&self) -> Option<String> {
        let book = self.progress.book.lock().expect("no holder panics");
        let at = |sink| missing(self.plan, &book, sink, &self.shelves.of(sink));
        let missing: usize = Sink::ALL.into_iter().map(at).sum();
        // A crash may leave two of one message: they count as one.
        let found: HashSet<_> = letters_of(&self.world.home).into_iter().map(|letter| letter.correlation_id).collect();
        let letters = letters_due(self.plan, &book).saturating_sub(found.len());
        let within = self.patience.rest.as_secs();
        (missing + letters > 0)
            .then(|| format!("{missing} deliveries and {letters} dead letters were missing after another {within} s"))
    }

    /// Nothing more comes to the AMQP sink's queue: lets its collector know.
    async fn end_queue(&self) {
        let channel = self.world.partner.channel().await;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish(PRODUCTS.into(), "end".into(), options, END, properties).await;
        sent.expect("published").await.expect("confirmed");
    }

    /// Prints what it came to, and says what is wrong.
    async fn judge(&self, nemesis: &Nemesis<'_>, mut wrong: Vec<String>) -> Vec<String> {
        let vhost = &self.world.regards.vhost;
        for queue in [self.world.regards.queue.as_str(), DEAD_LETTER_QUEUE] {
            match vhost.left_in(queue).await {
                0 => {}
                left => wrong.push(format!("{left} messages are in {queue}")),
            }
        }
        let (tally, unknown) = (nemesis.tally.lock().expect("no holder panics").clone(), self.world.receiver.unknown());
        let bounds = bounds::of(&tally, nemesis.cut_short.load(SeqCst), unknown);
        let book = self.progress.book.lock().expect("no holder panics");
        let taken = Sink::ALL.map(|sink| self.shelves.of(sink));
        let taken = taken.each_ref().map(|taken| &**taken);
        let report = check(self.plan, &book, taken, &letters_of(&self.world.home), &bounds);
        table::print(book.counts(), &tally, unknown, &report);
        wrong.extend(report.violations.iter().map(ToString::to_string));
        wrong.extend(nemesis.standstills.lock().expect("no holder panics").iter().cloned());
        wrong.extend(tally.in_vain().into_iter().map(|fault| format!("never hit work in flight: {fault}")));
        wrong
    }
}

fn letters_of(home: &Home) -> Vec<Letter> {
    let listed = home.run(&["dead-letters", "list", "--json"]);
    assert!(listed.status.success(), "dead-letters list: {}", String::from_utf8_lossy(&listed.stderr));
    let letters = serde_json::Deserializer::from_slice(&listed.stdout).into_iter();
    letters.map(|letter| letter.expect("a dead letter in JSON")).collect()
}
