//! Executes the faults: one sequence for each victim, all at the same time. It records whether a fault hit work in
//! flight.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::collector::Shelves;
use super::disk::SmallDisk;
use super::fleet::{Database, Lines, Takeovers};
use super::plan::{EventId, Plan, Sink};
use super::probe::Probe;
use super::publisher::{Progress, STANDSTILL};
use super::receiver::{Mood, Receiver};
use super::schedule::{Fault, Schedule, Strike, Tally, Victim};
use super::world::CLOCK;
use crate::support::rabbit::VHost;
use crate::support::services::Private;
use crate::support::{Home, Regards, Relay};

/// How long a stopping relay may take to finish its in-flight deliveries: `shutdown_grace` in its configuration.
pub const GRACE: Duration = Duration::from_secs(5);

/// The number of Kafka deliveries between two faults of one victim.
const BETWEEN_FAULTS: u64 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// The clock offset in seconds. It exceeds `give_up_after` and `dead_letters.keep`.
const TEN_DAYS: &str = "864000";
const A_DAY_LESS: &str = "-86400";
/// While fewer than ten different events in a row are refused, the relay dead-letters each of them.
const REFUSED_BEFORE_BLAME: u64 = 9;

/// Applies the faults to the relays and their services.
pub struct Nemesis<'a> {
    pub homes: &'a [Home],
    /// None if there is one relay.
    pub database: Option<&'a Database>,
    pub lines: &'a [tokio::sync::Mutex<Lines>],
    /// The process of the relay at each place.
    pub processes: Mutex<Vec<u32>>,
    /// All relays so far: place and process.
    pub ever_started: Mutex<Vec<(usize, u32)>>,
    pub disk: Option<&'a SmallDisk>,
    /// None if no fault touches the brokers.
    pub brokers: Option<&'a Private>,
    pub regards: &'a Regards,
    /// The virtual host and user of the AMQP sink.
    pub sink: (&'a VHost, &'a str),
    pub routes: &'a str,
    pub plan: Plan,
    pub shelves: &'a Shelves,
    pub receiver: &'a Receiver,
    pub progress: &'a Progress,
    /// The longest wait for deliveries that the fault can hit.
    pub patience: Duration,
    pub probe: Probe,
    pub began: Instant,
    pub tally: Mutex<Tally>,
    /// Minutes in which almost nothing was delivered. Every single fault is much shorter than a minute.
    pub standstills: Mutex<Vec<String>>,
    /// Stops that used the whole grace period. Their in-flight attempts may have an unknown result.
    pub cut_short: AtomicU64,
    /// Relay starts after the first one.
    pub starts: AtomicU64,
    /// Upper bound for the dead letters of a webhook that refuses every request.
    pub blamed: AtomicU64,
    /// Rows of the spool that were made unreadable.
    pub damaged: Mutex<BTreeSet<(Sink, EventId)>>,
    /// The first key that is still free for messages published without a client library.
    pub next_raw: AtomicU32,
    pub takeovers: Mutex<Takeovers>,
}

impl<'a> Nemesis<'a> {
    /// Applies all faults of the schedule. Returns the relays that run at the end.
    pub async fn run(&self, schedule: &Schedule, relays: Vec<Relay<'a>>) -> Vec<Relay<'a>> {
        for (place, relay) in relays.iter().enumerate() {
            self.probe.look_at(place, relay).await;
            self.processes.lock().expect("no holder panics").push(relay.pid());
            self.ever_started.lock().expect("no holder panics").push((place, relay.pid()));
        }
        let (relays, (), (), (), (), (), ()) = tokio::join!(
            self.strike_relays(schedule.against(Victim::Relay), relays),
            self.strike_rabbit(schedule.against(Victim::Rabbit)),
            self.strike_kafka(schedule.against(Victim::Kafka)),
            self.strike_webhook(schedule.against(Victim::Webhook)),
            self.strike_clock(schedule.against(Victim::Clock)),
            self.strike_postgres(schedule.against(Victim::Postgres)),
            self.strike_network(schedule.against(Victim::Network)),
        );
        relays
    }

    async fn strike_relays(&self, strikes: &[Strike], mut relays: Vec<Relay<'a>>) -> Vec<Relay<'a>> {
        let mut seen = 0;
        for strike in strikes {
            self.wait_for(strike.after, &mut seen).await;
            let hit = self.works(None).await;
            let all_run = relays.iter_mut().all(Relay::runs);
            assert!(all_run, "a relay ended by itself, before: {}", strike.fault.name());
            let owner = self.owner().await;
            let relay = relays.remove(owner);
            let (relay, hit) = if self.database.is_some() {
                (self.strike_owner(strike, owner, relay).await, hit)
            } else {
                self.strike_relay(strike, relay, hit).await
            };
            relays.insert(owner, relay);
            self.note(strike.fault, hit);
        }
        relays
    }

    /// The place of the relay that works.
    pub async fn owner(&self) -> usize {
        match self.database {
            Some(database) => database.owner(&self.processes).await,
            None => 0,
        }
    }

    /// Strikes the relay that owns the spool: another one takes it over.
    async fn strike_owner(&self, strike: &Strike, place: usize, relay: Relay<'a>) -> Relay<'a> {
        let &Strike { fault, lasts, draw, .. } = strike;
        let began = Instant::now();
        // A relay that comes back soon finds the lease of its predecessor.
        let comes_back_soon = draw.is_multiple_of(4);
        match fault {
            Fault::Kill => {
                relay.kill();
                if comes_back_soon {
                    tokio::time::sleep(lasts / 4).await;
                } else {
                    self.wait_for_takeover(fault, place, began).await;
                }
                self.start(place).await
            }
            Fault::Terminate => {
                self.stop(relay).await;
                self.wait_for_takeover(fault, place, Instant::now()).await;
                self.start(place).await
            }
            Fault::Freeze => {
                relay.signal("STOP");
                if comes_back_soon {
                    tokio::time::sleep(self.lease() + lasts).await;
                } else {
                    self.wait_for_takeover(fault, place, began).await;
                }
                relay.signal("CONT");
                relay
            }
            other => unreachable!("{} is left out with takeovers", other.name()),
        }
    }

    /// Waits until another relay than the one at this place consumes.
    async fn wait_for_takeover(&self, fault: Fault, from: usize, since: Instant) {
        let others = (0..self.homes.len()).filter(|&place| place != from);
        let is_taken = async || {
            let working = join_all(others.clone().map(|place| self.probe.is_working(place))).await;
            working.contains(&true)
        };
        if self.comes_true(is_taken).await {
            self.starts.fetch_add(1, SeqCst);
            self.takeovers.lock().expect("no holder panics").add(fault, since);
        }
    }

    async fn strike_relay(&self, strike: &Strike, mut relay: Relay<'a>, mut hit: bool) -> (Relay<'a>, bool) {
        let &Strike { fault, lasts, draw, .. } = strike;
        match fault {
            Fault::Kill => {
                relay.kill();
                tokio::time::sleep(lasts / 4).await;
                relay = self.start(0).await;
            }
            Fault::Terminate => {
                self.stop(relay).await;
                relay = self.start(0).await;
            }
            Fault::Freeze => {
                relay.signal("STOP");
                tokio::time::sleep(lasts).await;
                relay.signal("CONT");
            }
            Fault::FullDisk | Fault::KillOnFullDisk => {
                let disk = self.disk.expect("left out of the schedule where there is none");
                disk.fill();
                hit = self.comes_true(async || self.probe.is_unready_for(&["make room on"]).await).await;
                tokio::time::sleep(lasts).await;
                if fault == Fault::KillOnFullDisk {
                    relay.kill();
                    disk.free();
                    relay = self.start(0).await;
                } else {
                    disk.free();
                }
            }
            Fault::FullLetters => (relay, hit) = self.fill_letters(relay, lasts).await,
            Fault::LettersOnFullDisk => (relay, hit) = self.fill_disk_with_letters(relay, lasts).await,
            Fault::DamagedRow => (relay, hit) = self.damage_row(relay).await,
            Fault::TaskPanic => (relay, hit) = self.panic_in_a_task(relay, draw).await,
            other => unreachable!("{} is not done to the relay", other.name()),
        }
        (relay, hit)
    }

    async fn strike_postgres(&self, strikes: &[Strike]) {
        let mut seen = 0;
        for &Strike { fault, after, lasts, .. } in strikes {
            self.wait_for(after, &mut seen).await;
            let hit = self.works(None).await;
            match fault {
                Fault::PostgresRestart => self.restart("postgres").await,
                Fault::PostgresKill => self.kill("postgres").await,
                Fault::PostgresPause => self.freeze("postgres", lasts / 2).await,
                Fault::PostgresLongPause => self.freeze("postgres", self.lease() + lasts).await,
                Fault::PostgresCut => self.brokers().terminate("postgres").await,
                other => unreachable!("{} is not done to PostgreSQL", other.name()),
            }
            self.note(fault, hit);
        }
    }

    async fn strike_network(&self, strikes: &[Strike]) {
        let mut seen = 0;
        for &Strike { fault, after, lasts, draw } in strikes {
            self.wait_for(after, &mut seen).await;
            let hit = self.works(None).await;
            let mut lines = self.lines[self.owner().await].lock().await;
            let (line, lasts) = match fault {
                Fault::OwnerCutFromPostgres => (&mut lines.postgres, self.lease() + lasts),
                Fault::OwnerCutFromRabbit => (&mut lines.rabbit, lasts),
                Fault::OwnerCutFromWebhook => (&mut lines.webhook, lasts),
                other => unreachable!("{} is not done to the network", other.name()),
            };
            if draw.is_multiple_of(2) {
                // What is sent meanwhile arrives afterwards.
                line.hold();
                tokio::time::sleep(lasts).await;
                line.release();
            } else {
                line.go_down().await;
                tokio::time::sleep(lasts).await;
                line.come_back().await;
            }
            drop(lines);
            self.note(fault, hit);
        }
    }

    fn lease(&self) -> Duration {
        self.database.map_or(Duration::ZERO, |database| database.lease)
    }

    /// How often a relay has started anew because its lease had ended.
    pub fn lost_leases(&self) -> u64 {
        self.homes.iter().map(|home| home.log().matches("spool lost").count() as u64).sum()
    }

    /// Starts of relays that know nothing of what the relay before has seen.
    fn relays_since_start(&self) -> u64 {
        self.starts.load(SeqCst) + self.lost_leases()
    }

    async fn strike_rabbit(&self, strikes: &[Strike]) {
        let mut seen = 0;
        for &Strike { fault, after, lasts, .. } in strikes {
            self.wait_for(after, &mut seen).await;
            let mut hit = self.works(None).await || self.progress.unconfirmed.load(SeqCst) > 0;
            match fault {
                Fault::RabbitRestart => self.restart("rabbitmq").await,
                Fault::RabbitKill => self.kill("rabbitmq").await,
                Fault::RabbitPause => self.freeze("rabbitmq", lasts).await,
                Fault::SourceCut => self.regards.vhost.close_connection_of(&self.regards.user).await,
                Fault::Poison => hit = self.publish_poisoned().await,
                Fault::SinkCut => self.sink.0.close_connection_of(self.sink.1).await,
                other => unreachable!("{} is not done to RabbitMQ", other.name()),
            }
            self.note(fault, hit);
        }
    }

    async fn strike_kafka(&self, strikes: &[Strike]) {
        let mut seen = 0;
        for &Strike { fault, after, lasts, .. } in strikes {
            self.wait_for(after, &mut seen).await;
            let hit = self.works(Some(Sink::Kafka)).await;
            match fault {
                Fault::KafkaRestart => self.restart("kafka").await,
                Fault::KafkaKill => self.kill("kafka").await,
                Fault::KafkaPause => self.freeze("kafka", lasts).await,
                other => unreachable!("{} is not done to Kafka", other.name()),
            }
            self.note(fault, hit);
        }
    }

    fn brokers(&self) -> &Private {
        self.brokers.expect("left out of the schedule where others use them")
    }

    async fn restart(&self, broker: &'static str) {
        self.brokers().stop(broker).await;
        self.brokers().start(broker).await;
    }

    async fn kill(&self, broker: &'static str) {
        self.brokers().kill(broker).await;
        self.brokers().start(broker).await;
    }

    async fn freeze(&self, broker: &'static str, lasts: Duration) {
        self.brokers().pause(broker).await;
        tokio::time::sleep(lasts).await;
        self.brokers().resume(broker).await;
    }

    async fn strike_webhook(&self, strikes: &[Strike]) {
        let mut seen = 0;
        for &Strike { fault, after, lasts, .. } in strikes {
            self.wait_for(after, &mut seen).await;
            let worked = self.works(Some(Sink::Webhook)).await;
            let (before, starts) = (self.receiver.received(), self.relays_since_start());
            self.receiver.set(match fault {
                Fault::WebhookDown => Mood::Down,
                Fault::WebhookSlow => Mood::Slow,
                Fault::WebhookSilent => Mood::Silent,
                Fault::WebhookFailing => Mood::Failing,
                Fault::WebhookForbidding => Mood::Forbidding,
                Fault::WebhookBusy => Mood::Busy,
                Fault::WebhookCutting => Mood::Cutting,
                Fault::WebhookRefusing => Mood::Refusing,
                other => unreachable!("{} is not done to the webhook", other.name()),
            });
            tokio::time::sleep(lasts).await;
            let hit = match fault {
                // The webhook receives no requests while it is down.
                Fault::WebhookDown => worked,
                Fault::WebhookRefusing => {
                    self.comes_true(async || self.probe.is_breaker_open(Sink::Webhook).await).await
                }
                _ => self.comes_true(async || self.receiver.received() > before).await,
            };
            self.receiver.set(Mood::Well);
            if fault == Fault::WebhookRefusing {
                // A new relay does not know the refusals that an earlier relay saw.
                let relays = 1 + self.relays_since_start() - starts;
                self.blamed.fetch_add(relays * REFUSED_BEFORE_BLAME, SeqCst);
            }
            self.note(fault, hit);
        }
    }

    async fn strike_clock(&self, strikes: &[Strike]) {
        let mut seen = 0;
        for &Strike { fault, after, lasts, .. } in strikes {
            self.wait_for(after, &mut seen).await;
            let works = self.works(None).await;
            let offset = match fault {
                Fault::ClockForward => TEN_DAYS,
                Fault::ClockBack => A_DAY_LESS,
                other => unreachable!("{} is not done to the clock", other.name()),
            };
            self.homes.iter().for_each(|home| home.write(CLOCK, offset));
            tokio::time::sleep(lasts).await;
            self.homes.iter().for_each(|home| home.write(CLOCK, "0"));
            // A relay that reads the clock file logs this line at its start.
            let is_read = self.homes.iter().any(|home| home.log().contains("is wrong on purpose"));
            self.note(fault, works && is_read);
        }
    }

    /// Waits until `published` events were published. Then waits a while for deliveries since this victim's last fault:
    /// faults in quick succession would find nothing in flight.
    async fn wait_for(&self, published: u64, delivered: &mut u64) {
        let (mut seen, mut last_went_on) = (0, Instant::now());
        while seen < published {
            let now = self.progress.published.load(SeqCst);
            if now > seen {
                (seen, last_went_on) = (now, Instant::now());
            }
            assert!(
                last_went_on.elapsed() < STANDSTILL,
                "publishing has not gone on for {STANDSTILL:?}, after {seen} events"
            );
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let deadline = Instant::now() + self.patience;
        while self.progress.paid.load(SeqCst) < *delivered + BETWEEN_FAULTS && Instant::now() < deadline {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let now = self.progress.paid.load(SeqCst);
        if now < *delivered + BETWEEN_FAULTS {
            let (few, seconds) = (now - *delivered, self.patience.as_secs());
            let before = self.began.elapsed().as_secs();
            self.standstills.lock().expect("no holder panics").push(format!(
                "a standstill: {few} events came to Kafka in the {seconds} s before second {before}, with others waiting"
            ));
        }
        *delivered = now;
    }

    /// Whether deliveries to that sink, or to any sink, are in flight. Waits a while for the first one.
    async fn works(&self, sink: Option<Sink>) -> bool {
        self.comes_true(async || self.probe.in_flight(sink).await.unwrap_or_default() > 0).await
    }

    /// Whether the condition becomes true before the patience ends.
    pub(super) async fn comes_true(&self, mut condition: impl AsyncFnMut() -> bool) -> bool {
        let deadline = Instant::now() + self.patience;
        while !condition().await {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        true
    }

    /// Starts a new relay in the home of that place and points the probe at it.
    pub(super) async fn start(&self, place: usize) -> Relay<'a> {
        self.starts.fetch_add(1, SeqCst);
        let relay = self.homes[place].start();
        self.processes.lock().expect("no holder panics")[place] = relay.pid();
        self.ever_started.lock().expect("no holder panics").push((place, relay.pid()));
        self.probe.look_at(place, &relay).await;
        relay
    }

    /// The home of the only relay.
    pub(super) fn home(&self) -> &'a Home {
        &self.homes[0]
    }

    pub(super) async fn stop(&self, relay: Relay<'a>) {
        let began = Instant::now();
        relay.stop().await;
        self.cut_short.fetch_add(u64::from(began.elapsed() >= GRACE), SeqCst);
    }

    fn note(&self, fault: Fault, hit: bool) {
        let (seconds, published) = (self.began.elapsed().as_secs(), self.progress.published.load(SeqCst));
        let nothing = if hit { "" } else { " (hit nothing)" };
        let owed = self.progress.lead();
        println!("torture: {seconds:>4} s, {published:>7} events, {owed:>4} owed to Kafka: {}{nothing}", fault.name());
        self.tally.lock().expect("no holder panics").count(fault, hit);
    }
}
