//! One run, from the first event to the verdict: load and faults at the same time, then a fresh event, then the rest.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;

use super::alerts::ALERT;
use super::bounds;
use super::checker::{Letter, REFUSED, Seen, alerts_missing, check, letters_due, missing};
use super::collector::{Collector, END, Shelves, Tail, empty_queue};
use super::fleet::Database;
use super::letters;
use super::nemesis::Nemesis;
use super::owners::attempts_without_lease;
use super::plan::{EventId, Plan, Sink, Watched, key_of};
use super::probe::Probe;
use super::publisher::{Progress, Publisher};
use super::receiver::Receiver;
use super::schedule::{Schedule, Tally, Victim};
use super::settings::{Patience, Settings};
use super::table;
use super::taken::Taken;
use super::world::{PRODUCTS, WITHIN, World};
use crate::support::rabbit::Collected;
use crate::support::regards::DEAD_LETTER_QUEUE;
use crate::support::{Home, Relay};

const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// The number of requests after the last fault that end at once.
const QUICK: usize = 20;

/// The observed state of a run, during it and after it.
struct Run<'a> {
    plan: Plan,
    patience: Patience,
    world: &'a World,
    progress: &'a Progress,
    shelves: &'a Shelves,
}

/// Runs the schedule, prints the table and returns one line for each violation.
pub async fn run(settings: &Settings, schedule: &Schedule, world: &mut World) -> Vec<String> {
    let (topic, alarms) = world.topics.take().expect("a run has the readers of the topics for itself");
    let world = &*world;
    let (plan, progress, shelves) = (Plan::of(settings.seed), Progress::default(), Shelves::default());
    let run = Run { plan, patience: settings.patience, world, progress: &progress, shelves: &shelves };
    let nemesis = Nemesis {
        homes: &world.homes,
        database: world.database.as_ref(),
        lines: &world.lines,
        processes: Mutex::default(),
        ever_started: Mutex::default(),
        disk: world.disk.as_ref(),
        brokers: world.brokers.as_ref(),
        regards: &world.regards,
        sink: (&world.partner, &world.partner_user),
        routes: &world.routes,
        plan,
        shelves: &shelves,
        receiver: &world.receiver,
        progress: &progress,
        patience: settings.patience.work,
        probe: Probe::new(),
        began: Instant::now(),
        tally: Mutex::new(Tally::default()),
        standstills: Mutex::default(),
        cut_short: AtomicU64::new(0),
        starts: AtomicU64::new(0),
        blamed: AtomicU64::new(0),
        damaged: Mutex::default(),
        next_raw: AtomicU32::new(0),
        takeovers: Mutex::default(),
    };
    let mut publisher = Publisher::new(settings.seed, plan, &progress, &world.regards.vhost).await;
    let mut collector = Collector {
        plan,
        shelves: &shelves,
        progress: &progress,
        topic,
        alarms,
        journal: Tail::of(world.journal()),
        archive: Tail::of(world.archive()),
        digests: Tail::of(world.digests()),
    };
    let mut relays = vec![world.homes[0].start_ready().await];
    if let Some(database) = &world.database {
        database.note_owners().await;
    }
    relays.extend(world.homes[1..].iter().map(Home::start));

    let faults = async {
        let relays = nemesis.run(schedule, relays).await;
        progress.faults_over.store(true, SeqCst);
        relays
    };
    let ((), relays) = collector
        .beside(Box::pin(async { tokio::join!(publisher.run(settings.events, settings.rate()), faults) }))
        .await;
    println!("torture: {:>4} s, all is published, and no fault to come", nemesis.began.elapsed().as_secs());
    let (mut wrong, letters) = collector.beside(run.wind_up(&mut publisher, &nemesis, relays)).await;
    collector.finish().await;
    if let Some(database) = &world.database {
        // The times of the attempts are by the relays' clocks.
        let has_jumps = !schedule.against(Victim::Clock).is_empty();
        wrong.extend(judge_owners(database, &nemesis, &world.receiver, has_jumps).await);
    }
    run.judge(&nemesis, &letters, wrong).await
}

/// What relays did to the spool or the webhook that were not, or no longer, the owner.
async fn judge_owners(database: &Database, nemesis: &Nemesis<'_>, receiver: &Receiver, has_jumps: bool) -> Vec<String> {
    let (writes, tenures) = (database.late_writes().await, database.tenures().await);
    let attempts = receiver.attempts();
    let processes = nemesis.ever_started.lock().expect("no holder panics");
    let late = if has_jumps { Vec::new() } else { attempts_without_lease(&attempts, &tenures, &processes) };
    let checked = if has_jumps { 0 } else { attempts.len() };
    println!("owners      {} of the spool; the leases of {checked} attempts were checked", tenures.len());
    let mut wrong = Vec::new();
    if writes > 0 {
        wrong.push(format!("{writes} writes came after the first one of a later owner"));
    }
    if let Some(first) = late.first() {
        let of_place: Vec<_> = tenures.iter().filter(|one| processes.contains(&(first.place, one.process))).collect();
        let count = late.len();
        wrong.push(format!("{count} attempts were begun without a lease, the first one is {first:?}: {of_place:?}"));
    }
    wrong
}

impl Run<'_> {
    /// Checks a fresh event, waits for the remaining events, redrives the refused ones and stops the relays. Meanwhile
    /// it collects the AMQP sink's queue. Also returns the dead letters from before the redrive.
    async fn wind_up(
        &self,
        publisher: &mut Publisher<'_>,
        nemesis: &Nemesis<'_>,
        mut relays: Vec<Relay<'_>>,
    ) -> (Vec<String>, Vec<Letter>) {
        let work = async {
            // The queue may hold many messages by now.
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
            self.publish_quick_requests(publisher, nemesis).await;
            publisher.publish_watched(Watched::Silent, 1).await;
            publisher.publish_late_ends().await;
            let letters = self.dead_letters();
            self.world.receiver.take_all();
            let owner = nemesis.owner().await;
            let redrive = || letters::redrive_refused(&self.world.homes[owner]).err();
            let refused = self.wait(Instant::now() + self.patience.rest, redrive).await;
            let redriven = self.wait(Instant::now() + self.patience.rest, || self.redriven_missing(nemesis)).await;
            let all_run = relays.iter_mut().all(Relay::runs);
            let died = if all_run { None } else { Some("a relay ended by itself".to_owned()) };
            // Nobody takes over from the last one.
            let last = relays.remove(owner);
            for relay in relays {
                relay.stop().await;
            }
            last.stop().await;
            self.end_queue().await;
            ([fresh, rest, refused, redriven, died].into_iter().flatten().collect(), letters)
        };
        let (wound_up, ()) = tokio::join!(work, empty_queue(self.plan, self.shelves, &self.world.partner, PRODUCTS));
        wound_up
    }

    /// Publishes requests that end at once. If the relay has no open request before one of them can be overdue, it must
    /// never raise them.
    async fn publish_quick_requests(&self, publisher: &mut Publisher<'_>, nemesis: &Nemesis<'_>) {
        let deadline = Instant::now() + WITHIN;
        let keys = publisher.publish_watched(Watched::Quick, QUICK).await;
        let arrived = || {
            let taken = self.shelves.of(Sink::Kafka);
            keys.iter().all(|&key| taken.has(EventId { key, seq: 1 }))
        };
        while Instant::now() < deadline {
            if arrived() && nemesis.probe.open_requests(ALERT).await == Some(0) {
                let mut book = self.progress.book.lock().expect("no holder panics");
                if Instant::now() < deadline {
                    for &key in &keys {
                        book.end_in_time(key);
                    }
                }
                return;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        println!("torture: the last requests were not seen to end in time, so they may be raised");
    }

    /// The dead letters before the redrive. The webhook has refused the events of some.
    fn dead_letters(&self) -> Vec<Letter> {
        let mut found = letters::list(self.home());
        letters::identify(self.plan, self.home(), &mut found);
        let refused = found.iter().filter(|letter| letter.reason == REFUSED);
        self.shelves.of(Sink::Webhook).letters.extend(refused.filter_map(|letter| letter.event));
        found
    }

    fn redriven_missing(&self, nemesis: &Nemesis<'_>) -> Option<String> {
        let left = letters::refused(self.home());
        let book = self.progress.book.lock().expect("no holder panics");
        let at = |sink| missing(self.plan, &book, sink, &self.shelves.of(sink));
        let missing: usize = Sink::ALL.into_iter().map(at).sum();
        // These dead letters cannot be redriven.
        let missing = missing.saturating_sub(nemesis.damaged.lock().expect("no holder panics").len());
        let alerts = alerts_missing(self.plan, &book, &self.shelves.alerts());
        let within = self.patience.rest.as_secs();
        (missing + left + alerts > 0).then(|| {
            format!(
                "{missing} deliveries and {alerts} alerts were missing {within} s after the redrive, which left {left} \
                 dead letters"
            )
        })
    }

    /// Waits until no event is missing. Returns the events that are missing at the deadline.
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
        let found = letters::list(self.home());
        // A dead letter arrives only after a redrive.
        let at = |sink| {
            missing(self.plan, &book, sink, &self.shelves.of(sink)).saturating_sub(letters::count_of(&found, sink))
        };
        let missing: usize = Sink::ALL.into_iter().map(at).sum();
        // A crash may leave two dead letters of one message. They count as one.
        let meant = found.iter().filter(|letter| self.is_meant(letter));
        let found: HashSet<_> = meant.map(|letter| &letter.correlation_id).collect();
        let letters = letters_due(self.plan, &book).saturating_sub(found.len());
        let alerts = alerts_missing(self.plan, &book, &self.shelves.alerts());
        let within = self.patience.rest.as_secs();
        (missing + letters + alerts > 0).then(|| {
            format!(
                "{missing} deliveries, {letters} dead letters and {alerts} alerts were missing after another {within} s"
            )
        })
    }

    /// Where commands are run that ask the spool, which all relays share.
    fn home(&self) -> &Home {
        &self.world.homes[0]
    }

    /// Whether the plan requires that dead letter for an event of that key.
    fn is_meant(&self, letter: &Letter) -> bool {
        let cause = letter.correlation_id.as_deref().and_then(key_of).and_then(|key| self.plan.cause(key));
        cause.is_some_and(|cause| cause.reason == letter.reason)
    }

    /// Tells the collector of the AMQP sink's queue that the last message was published.
    async fn end_queue(&self) {
        let channel = self.world.partner.channel().await;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = channel.basic_publish(PRODUCTS.into(), "end".into(), options, END, properties).await;
        sent.expect("published").await.expect("confirmed");
    }

    /// Prints the table and returns the violations.
    async fn judge(&self, nemesis: &Nemesis<'_>, letters: &[Letter], mut wrong: Vec<String>) -> Vec<String> {
        let vhost = &self.world.regards.vhost;
        for queue in [self.world.regards.queue.as_str(), DEAD_LETTER_QUEUE] {
            match vhost.left_in(queue).await {
                0 => {}
                left => wrong.push(format!("{left} messages are in {queue}")),
            }
        }
        let (tally, unknown) = (nemesis.tally.lock().expect("no holder panics").clone(), self.world.receiver.unknown());
        let crashes = nemesis.cut_short.load(SeqCst) + nemesis.lost_leases();
        let bounds = bounds::of(&tally, crashes, unknown, nemesis.blamed.load(SeqCst));
        let damaged = nemesis.damaged.lock().expect("no holder panics");
        let book = self.progress.book.lock().expect("no holder panics");
        let taken = Sink::ALL.map(|sink| self.shelves.of(sink));
        let taken = taken.each_ref().map(|taken| &**taken);
        let (digests, alerts) = (self.shelves.digests(), self.shelves.alerts());
        let seen = Seen { taken, digests: &digests, alerts: &alerts, letters, damaged: &damaged };
        let report = check(self.plan, &book, &seen, &bounds);
        table::print(book.counts(), &tally, unknown, &report);
        println!("{}", nemesis.takeovers.lock().expect("no holder panics"));
        wrong.extend(report.violations.iter().map(ToString::to_string));
        wrong.extend(nemesis.standstills.lock().expect("no holder panics").iter().cloned());
        wrong.extend(tally.in_vain().into_iter().map(|fault| format!("never hit work in flight: {fault}")));
        wrong
    }
}
