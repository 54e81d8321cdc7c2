//! REGARDS as a partner sees it: an exchange, a queue bound to it, a user with READ on that queue, and a client that
//! publishes as Spring AMQP does.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use lapin::options::BasicPublishOptions;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Confirmation, ExchangeKind};

use super::rabbit::answered;
use super::raw_amqp::Login;
use super::{Rabbit, Response, VHost, unique};

/// The exchange for the responses of `rs-lta-manager`.
pub const EXCHANGE: &str =
    "regards.broadcast.fr.cnes.regards.modules.ltamanager.amqp.output.SubmissionResponseDtoEvent";

/// The queue for messages that REGARDS itself rejected. The relay must never publish to it.
pub const DEAD_LETTER_QUEUE: &str = "regards.DLQ";

/// The limit of publishes without a confirm.
const WINDOW: usize = 500;

/// One REGARDS installation with one partner.
pub struct Regards {
    pub vhost: VHost,
    pub queue: String,
    pub user: String,
    pub password: String,
    publisher: Channel,
    /// Number of messages that the broker confirmed.
    published: AtomicU64,
}

impl Regards {
    /// Creates an installation in a virtual host of its own on the shared broker.
    pub async fn new() -> Self {
        Self::in_vhost(Rabbit::shared().new_vhost().await).await
    }

    /// Creates an installation in the given virtual host.
    pub async fn in_vhost(vhost: VHost) -> Self {
        vhost.exchange(EXCHANGE, ExchangeKind::Fanout).await;
        vhost.exchange("regards.DLX", ExchangeKind::Topic).await;
        vhost.queue(DEAD_LETTER_QUEUE, FieldTable::default()).await;
        vhost.bind(DEAD_LETTER_QUEUE, "regards.DLX", DEAD_LETTER_QUEUE).await;

        let user = unique("partner");
        let password = format!("{}/p@ss: w%rd", unique("secret"));
        let regards = Self {
            queue: "partner.lta.responses".to_owned(),
            publisher: vhost.channel().await,
            published: AtomicU64::new(0),
            vhost,
            user,
            password,
        };
        regards.create_queue().await;
        regards.vhost.rabbit().user(&regards.user, &regards.password).await;
        regards.vhost.permit(&regards.user, "", "", &pattern_of(&regards.queue)).await;
        regards
    }

    /// Declares the partner's queue as REGARDS does, bound to the exchange.
    pub async fn create_queue(&self) {
        let mut arguments = dead_lettering();
        arguments.insert("x-max-priority".into(), AMQPValue::LongInt(255));
        self.create_queue_with(arguments).await;
    }

    /// Replaces the partner's queue by one without priorities: with 255 priorities, each message costs the broker many
    /// times as much.
    pub async fn use_cheap_queue(&self) {
        self.vhost.delete_queue(&self.queue).await;
        self.create_queue_with(dead_lettering()).await;
    }

    /// Replaces the partner's queue by one with these arguments.
    pub async fn use_queue_with(&self, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        self.vhost.delete_queue(&self.queue).await;
        self.create_queue_with(table).await;
    }

    async fn create_queue_with(&self, arguments: FieldTable) {
        self.vhost.queue(&self.queue, arguments).await;
        self.vhost.bind(&self.queue, EXCHANGE, "").await;
    }

    /// The partner's URL, with the password.
    pub fn url(&self) -> String {
        self.vhost.url_for(&self.user, &self.password)
    }

    /// Publishes one response. Returns once the broker has confirmed it.
    pub async fn publish(&self, response: &Response) {
        self.publish_all(std::slice::from_ref(response)).await;
    }

    /// Publishes responses in this order, pipelined. Returns once the broker has confirmed all of them.
    pub async fn publish_all<'a>(&self, responses: impl IntoIterator<Item = &'a Response>) {
        let mut confirms = FuturesOrdered::new();
        for response in responses {
            confirms.push_back(send(&self.publisher, response).await.expect("published"));
            if confirms.len() >= WINDOW {
                self.expect_ack(confirms.next().await);
            }
        }
        while !confirms.is_empty() {
            self.expect_ack(confirms.next().await);
        }
    }

    /// Publishes as an administrator, without a client library.
    pub async fn publish_by_hand(&self, publish: impl FnOnce(&Login<'_>) + Send + 'static) {
        let services = self.vhost.rabbit().services().clone();
        let vhost = self.vhost.name().to_owned();
        let publishing = tokio::task::spawn_blocking(move || {
            let (user, password) = (services.amqp_user(), services.amqp_password());
            publish(&Login { port: services.amqp_port(), vhost: &vhost, user, password });
        });
        publishing.await.expect("published");
    }

    /// Waits until consumers have acknowledged every message of [`publish_all`](Self::publish_all). It counts
    /// acknowledgements: the statistic for unacknowledged messages may still be zero from before the first message.
    pub async fn wait_until_acknowledged(&self) {
        let published = self.published.load(Ordering::Relaxed);
        self.vhost.wait_for_acknowledged(&self.queue, published).await;
    }

    fn expect_ack(&self, confirm: Option<lapin::Result<Confirmation>>) {
        assert_eq!(confirm.expect("a confirm").expect("confirmed"), Confirmation::Ack(None));
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// Number of messages in the partner's queue. Call it only while no relay runs.
    pub async fn left(&self) -> u32 {
        self.vhost.left_in(&self.queue).await
    }

    /// Fails if a message is left in the partner's queue or in REGARDS' dead letter queue. Call it only while no relay
    /// runs.
    pub async fn assert_left_as_found(&self) {
        assert_eq!(self.left().await, 0, "messages left in {}", self.queue);
        assert_eq!(self.vhost.left_in(DEAD_LETTER_QUEUE).await, 0, "messages came to {DEAD_LETTER_QUEUE}");
    }
}

/// Publishes on any channel as `rs-lta-manager` does. Returns an error if lapin does not send the message in time.
pub async fn send(channel: &Channel, response: &Response) -> lapin::Result<lapin::PublisherConfirm> {
    let (routing_key, options) = (ShortString::from(""), BasicPublishOptions::default());
    answered(channel.basic_publish(EXCHANGE.into(), routing_key, options, &response.body, response.properties())).await
}

/// The queue arguments with which REGARDS routes rejected messages to its dead letter queue.
fn dead_lettering() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("regards.DLX".into()));
    arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString(DEAD_LETTER_QUEUE.into()));
    arguments
}

/// A permission pattern that matches only this name.
pub fn pattern_of(name: &str) -> String {
    format!("^{}$", name.replace('.', "\\."))
}
