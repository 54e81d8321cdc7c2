//! REGARDS, the relay, and four sinks that fail in four ways.

use lapin::ExchangeKind;
use lapin::types::FieldTable;

use super::book::Book;
use crate::support::kafka::Reader;
use crate::support::rabbit::Collected;
use crate::support::relay::sum_of;
use crate::support::{Answer, Home, Kafka, Proxy, Rabbit, Receiver, Regards, Relay, Response, VHost};

/// In order: a webhook that refuses connections, a webhook that accepts requests and never answers, a Kafka and a
/// RabbitMQ on a closed port.
pub const SINKS: [&str; 4] = ["refusing", "silent", "pipeline", "partner"];

const ROUTES: &str = configuration! {
    sinks: {
        refusing: r#"{ webhook: { url: "${REFUSING}" }, retry: { initial_backoff: 1s, max_backoff: 5s } }"#,
        silent: r#"{ webhook: { url: "${SILENT}", timeout: 10s }, retry: { initial_backoff: 1s, max_backoff: 5s } }"#,
        pipeline: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" }, retry: { initial_backoff: 1s, max_backoff: 5s } }"#,
        partner: r#"{ amqp: { url: "${PARTNER}", exchange: partner.products }, retry: { initial_backoff: 1s, max_backoff: 5s } }"#,
    },
    "spool: { max_size: 512MiB }",
    "dead_letters: { max_size: 128MiB }",
};

/// The largest message that a source accepts by default.
const BODY: usize = 1 << 20;
const MIB: f64 = 1_048_576.0;
const SPOOL: f64 = 512.0 * MIB;
const DEAD_LETTERS: f64 = 128.0 * MIB;
/// The test publishes this number of invalid and then of valid messages, which nearly fills both stores. The next
/// messages fill one of them, which blocks the source.
const INVALID: usize = 122;
const VALID: usize = 124;
/// A store counts as full when it has less room than this.
const NEARLY: f64 = 20.0 * MIB;
/// Limit of the queue length in REGARDS' queue, so that the broker itself does not fill up.
const WAITING: u32 = 16;
/// Number of messages published together.
const AT_ONCE: usize = 4;
const PRODUCTS: &str = "partner.products";

/// The test environment without the sinks.
pub struct World {
    pub home: Home,
    pub regards: Regards,
    pub book: Book,
}

/// Shows which of the two stores is full.
#[derive(Debug)]
pub struct Full {
    pub spool: bool,
    pub dead_letters: bool,
}

impl World {
    /// Returns the environment and the receivers of the relay's sinks.
    pub async fn new() -> (Self, Sinks) {
        let regards = Regards::new().await;
        regards.use_cheap_queue().await;
        let book = Book::default();
        let sinks = Sinks::dead(&book).await;
        let home = Home::of(&regards, ROUTES)
            .with("REFUSING", &sinks.refusing.url())
            .with("SILENT", &sinks.silent.url())
            .with("KAFKA", &format!("127.0.0.1:{}", sinks.kafka.port()))
            .with("TOPIC", sinks.topic.topic())
            .with("PARTNER", &sinks.partner_url());
        (Self { home, regards, book }, sinks)
    }

    /// Publishes a few messages, unless the queue is long enough. Each message has its own key.
    pub async fn publish_some(&self) {
        if self.regards.vhost.depth(&self.regards.queue).await.0 >= WAITING {
            return;
        }
        let messages: Vec<Response> = (0..AT_ONCE).map(|_| self.next()).collect();
        self.regards.publish_all(&messages).await;
    }

    fn next(&self) -> Response {
        let number = self.book.count();
        let is_valid = match number {
            ..INVALID => false,
            _ if number < INVALID + VALID => true,
            _ => number.is_multiple_of(2),
        };
        let id = format!("{number:06}");
        self.book.published(id.clone(), is_valid);
        let status = if is_valid { r#","responseStatus":"SUCCESS""# } else { "" };
        let head = format!(r#"{{"correlationId":"{id}"{status},"message":""#);
        // Random text, because a repeated character could be compressed.
        let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(BODY - head.len() - 2).collect();
        Response::with_body("tenant", format!(r#"{head}{text}"}}"#))
    }
}

impl Full {
    pub async fn of(relay: &Relay<'_>) -> Result<Self, String> {
        let (_, metrics) = relay.page("/metrics").await?;
        let sum = |name| sum_of(&metrics, name, &[]).unwrap_or_default();
        Ok(Self {
            spool: sum("regards_relay_spool_bytes") > SPOOL - NEARLY,
            dead_letters: sum("regards_relay_dead_letters_stored") * MIB > DEAD_LETTERS - NEARLY,
        })
    }
}

/// The stored amounts from the relay's metrics.
pub async fn stored(relay: &Relay<'_>) -> Result<String, String> {
    let (_, metrics) = relay.page("/metrics").await?;
    let sum = |name| sum_of(&metrics, name, &[]).unwrap_or_default();
    let spooled = sum("regards_relay_spool_bytes") / MIB;
    let letters = sum("regards_relay_dead_letters_stored");
    let in_flight = sum("regards_relay_deliveries_in_flight");
    Ok(format!("{spooled:.0} MiB spooled, {letters} dead letters, {in_flight} deliveries in flight"))
}

/// The receivers of the sinks.
pub struct Sinks {
    refusing: Receiver,
    silent: Receiver,
    kafka: Proxy,
    topic: Reader,
    partner: Proxy,
    vhost: VHost,
    products: Collected,
    book: Book,
}

impl Sinks {
    async fn dead(book: &Book) -> Self {
        let rabbit = Rabbit::shared();
        let vhost = rabbit.new_vhost().await;
        vhost.exchange(PRODUCTS, ExchangeKind::Fanout).await;
        vhost.queue(PRODUCTS, FieldTable::default()).await;
        vhost.bind(PRODUCTS, PRODUCTS, "").await;
        let services = rabbit.services();
        let mut sinks = Self {
            refusing: Receiver::start().await,
            silent: Receiver::start().await,
            kafka: Proxy::to(services.kafka_port()).await,
            topic: Kafka::shared().topic_with("memory", &[("max.message.bytes", "4194304")]).await,
            partner: Proxy::to(services.amqp_port()).await,
            products: vhost.collect(PRODUCTS).await,
            vhost,
            book: book.clone(),
        };
        sinks.refusing.go_down().await;
        sinks.silent.answers(|_| Answer::Never);
        sinks.kafka.go_down().await;
        sinks.partner.go_down().await;
        sinks
    }

    fn partner_url(&self) -> String {
        let services = self.vhost.rabbit().services();
        self.vhost.url_at(services.amqp_user(), services.amqp_password(), self.partner.port())
    }

    pub async fn come_back(&mut self) {
        for (receiver, place) in [(&self.refusing, SINKS[0]), (&self.silent, SINKS[1])] {
            let book = self.book.clone();
            receiver.answers(move |posted| {
                book.delivered(place, &posted.body);
                Answer::Status(204)
            });
        }
        self.refusing.come_back().await;
        self.kafka.come_back().await;
        self.partner.come_back().await;
    }

    /// Records the deliveries to Kafka and to the exchange. The webhooks record their own.
    pub async fn read(&mut self) {
        for record in self.topic.take(100).await {
            self.book.delivered(SINKS[2], &record.body);
        }
        for message in self.products.take() {
            self.book.delivered(SINKS[3], &message.body);
        }
    }
}
