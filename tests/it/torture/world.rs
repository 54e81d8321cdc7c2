//! The environment of a run: private brokers, REGARDS, four destinations, and relays with routes to all of them.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::types::FieldTable;
use regards_relay::clock::VARIABLE;
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::alerts::ALERT;
use super::bounds::{CONCURRENCY, DIGESTS_AT_ONCE, PREFETCH};
use super::disk::SmallDisk;
use super::fleet::{Database, Lines};
use super::nemesis::GRACE;
use super::receiver::Receiver;
use super::settings::Settings;
use crate::support::kafka::Reader;
use crate::support::rabbit::Collected;
use crate::support::services::Private;
use crate::support::{Home, Kafka, Rabbit, Regards, Services, VHost, unique};

/// The exchange of the AMQP sink and the only queue bound to it.
pub const PRODUCTS: &str = "partner.products";

/// `group.max` of the sink that gets digests.
pub const MOST_OF_A_DIGEST: usize = 8;

/// After this time without an end, the alert about silent tenants is raised.
pub const WITHIN: Duration = Duration::from_secs(3);

/// The file in the relay's home with the offset of its clock.
pub const CLOCK: &str = "clock";

/// How long the relay keeps dead letters. It is shorter than the clock jump.
pub const LETTERS: &str = "dead_letters: { keep: 2d }";

/// The file of the file sink, in the data directory.
const ARCHIVE: &str = "archive.ndjson";

/// The queue for messages that the AMQP sink publishes after the last fault.
const FRESH: &str = "partner.fresh";

const PARTITIONS: i32 = 4;

/// Fields are dropped in this order, so each one is dropped before the services that it uses.
pub struct World {
    /// The disk of the data directory. None if the test does not fill it.
    pub disk: Option<SmallDisk>,
    /// One for each relay, all with the same configuration.
    pub homes: Vec<Home>,
    pub routes: String,
    /// None if there is one relay, with a file.
    pub database: Option<Database>,
    /// For each relay, if there are several.
    pub lines: Vec<Mutex<Lines>>,
    pub receiver: Receiver,
    pub regards: Regards,
    pub partner: VHost,
    pub partner_user: String,
    /// The topics of the events and of the alerts. Taken by the first run.
    pub topics: Option<(Reader, Reader)>,
    /// None for the brokers that all tests share: a test must not stop them.
    pub brokers: Option<Private>,
    scratch: TempDir,
}

impl World {
    /// A world in which every fault is possible. It has no small disk if the process has no right to mount one.
    pub async fn new(settings: &Settings) -> Self {
        let mut world = if settings.relays > 1 {
            let brokers = Services::private(&["rabbitmq", "kafka", "postgres"]).await;
            let database = Database::of(brokers.services(), Duration::from_secs(settings.lease));
            let mut world = Self::with_homes(brokers.services(), &database.settings(), settings.relays).await;
            let mut homes = Vec::new();
            for (place, home) in std::mem::take(&mut world.homes).into_iter().enumerate() {
                let lines = Lines::of(brokers.services(), &world.receiver).await;
                homes.push(database.configure(home, place, &lines, &world.regards));
                world.lines.push(Mutex::new(lines));
            }
            (world.homes, world.database) = (homes, Some(database));
            Self { brokers: Some(brokers), ..world }
        } else {
            let brokers = Services::private(&["rabbitmq", "kafka"]).await;
            let mut world = Self::among(brokers.services(), "").await;
            match SmallDisk::mount(&world.homes[0].data(""), settings.events, settings.rounds) {
                Ok(disk) => world.disk = Some(disk),
                Err(why) => println!("torture: no disk is filled, that takes a small one to be mounted: {why}"),
            }
            Self { brokers: Some(brokers), ..world }
        };
        world = world.with(VARIABLE, CLOCK);
        world.set_clocks("0");
        world
    }

    /// A world with one relay and brokers that no fault touches. The settings are added to the relay's configuration.
    pub async fn among(services: &Services, settings: &str) -> Self {
        Self::with_homes(services, settings, 1).await
    }

    async fn with_homes(services: &Services, settings: &str, homes: usize) -> Self {
        let rabbit = Rabbit::of(services);
        let regards = Regards::in_vhost(rabbit.new_vhost().await).await;

        let partner = rabbit.new_vhost().await;
        partner.exchange(PRODUCTS, ExchangeKind::Topic).await;
        partner.queue(PRODUCTS, FieldTable::default()).await;
        partner.bind(PRODUCTS, PRODUCTS, "#").await;
        let (partner_user, password) = (unique("products"), unique("secret"));
        rabbit.user(&partner_user, &password).await;
        partner.permit(&partner_user, "", PRODUCTS, "").await;

        let kafka = Kafka::of(services);
        let topic = kafka.topic("torture", PARTITIONS).await;
        let alarms = kafka.topic("alarms", PARTITIONS).await;
        let scratch = tempfile::Builder::new().prefix("regards-relay-torture").tempdir().expect("a directory");
        let receiver = Receiver::start(&journal_in(scratch.path()), &digests_in(scratch.path())).await;
        let routes = routes() + settings + "\n";
        let home = || {
            Home::of(&regards, &routes)
                .with("KAFKA", &kafka.brokers)
                .with("TOPIC", topic.topic())
                .with("ALARMS", alarms.topic())
                .with("HOOK", &receiver.url())
                .with("DIGESTS", &receiver.digests_url())
                .with("PARTNER", &partner.url_for(&partner_user, &password))
                .keeping_secret(&password)
        };
        let homes: Vec<_> = (0..homes).map(|_| home()).collect();
        link_archives(&homes);
        let (disk, database, lines) = (None, None, Vec::new());
        let (topics, brokers) = (Some((topic, alarms)), None);
        Self {
            disk,
            homes,
            routes,
            database,
            lines,
            receiver,
            regards,
            partner,
            partner_user,
            topics,
            brokers,
            scratch,
        }
    }

    /// Sets an environment variable of all relays.
    pub fn with(self, name: &str, value: &str) -> Self {
        Self { homes: self.homes.into_iter().map(|home| home.with(name, value)).collect(), ..self }
    }

    /// Sets the offset of each relay's clock in seconds.
    fn set_clocks(&self, offset: &str) {
        self.homes.iter().for_each(|home| home.write(CLOCK, offset));
    }

    /// Binds a new queue to the AMQP sink's exchange and consumes it.
    pub async fn fresh_queue(&self) -> Collected {
        self.partner.queue(FRESH, FieldTable::default()).await;
        self.partner.bind(FRESH, PRODUCTS, "#").await;
        self.partner.collect(FRESH).await
    }

    /// The path of the file sink: all relays write to the same file.
    pub fn archive(&self) -> PathBuf {
        self.homes[0].data(ARCHIVE)
    }

    /// The path of the webhook's journal.
    pub fn journal(&self) -> PathBuf {
        journal_in(self.scratch.path())
    }

    /// The path of the webhook's journal of digests.
    pub fn digests(&self) -> PathBuf {
        digests_in(self.scratch.path())
    }
}

fn journal_in(scratch: &Path) -> PathBuf {
    scratch.join("journal.ndjson")
}

/// Makes the archives of all homes one file.
fn link_archives(homes: &[Home]) {
    let [first, others @ ..] = homes else { return };
    if others.is_empty() {
        return;
    }
    for home in homes {
        DirBuilder::new().mode(0o700).create(home.data("")).expect("a data directory");
    }
    File::create(first.data(ARCHIVE)).expect("an archive");
    for other in others {
        std::fs::hard_link(first.data(ARCHIVE), other.data(ARCHIVE)).expect("a link");
    }
}

fn digests_in(scratch: &Path) -> PathBuf {
    scratch.join("digests")
}

fn routes() -> String {
    format!(
        r#"
version: 1
sources: {{ regards: {{ amqp: {{ url: "${{REGARDS}}", queue: "${{QUEUE}}", prefetch: {PREFETCH} }}, expects: lta }} }}
sinks:
  pipeline:
    kafka: {{ brokers: "${{KAFKA}}", topic: "${{TOPIC}}" }}
    retry: {{ initial_backoff: 250ms, max_backoff: 2s }}
  on_call:
    webhook: {{ url: "${{HOOK}}", timeout: 3s, concurrency: {CONCURRENCY} }}
    retry: {{ initial_backoff: 250ms, max_backoff: 2s }}
  partner:
    amqp: {{ url: "${{PARTNER}}", exchange: {PRODUCTS}, routing_key: "{{{{ tenant }}}}.{{{{ status }}}}" }}
    format: original
    retry: {{ initial_backoff: 250ms, max_backoff: 2s }}
  archive:
    file: {{ path: {ARCHIVE} }}
    retry: {{ initial_backoff: 250ms, max_backoff: 2s }}
  digests:
    webhook: {{ url: "${{DIGESTS}}", timeout: 3s, concurrency: {DIGESTS_AT_ONCE} }}
    group: {{ by: [tenant], wait: 1s, max: {MOST_OF_A_DIGEST} }}
    retry: {{ initial_backoff: 250ms, max_backoff: 2s }}
  alarms:
    kafka: {{ brokers: "${{KAFKA}}", topic: "${{ALARMS}}" }}
    retry: {{ initial_backoff: 250ms, max_backoff: 2s }}
routes:
  - {{ name: everything, to: pipeline }}
  - {{ name: what-went-wrong, when: {{ status: [ERROR, DENIED] }}, to: on_call }}
  - {{ name: partners, when: {{ tenant: ["partner-*", "every-*"] }}, to: partner }}
  - {{ name: archived, when: {{ tenant: ["archive-*", "every-*"] }}, to: archive }}
  - {{ name: digested, when: {{ tenant: ["plain-*", "every-*"] }}, to: digests }}
unrouted: dead_letter
alerts:
  - {{ name: never, overdue: {{ when: {{ outcome: accepted }}, within: 1h }}, to: alarms }}
  - {{ name: {ALERT}, overdue: {{ when: {{ outcome: accepted, tenant: "silent-*" }}, within: {}s }}, to: alarms }}
{LETTERS}
delivery: {{ shutdown_grace: {}s, spill_after: 300ms }}
"#,
        WITHIN.as_secs(),
        GRACE.as_secs()
    )
}
