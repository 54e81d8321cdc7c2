//! `routes.yaml` as it is written: its keys, with the type of each value. The JSON Schema is generated from these types.
//!
//! Nothing here knows what goes together or refers to what: that is checked where this becomes a [`Config`](super::Config).

use super::decode::{List, Named, OneOrMany, mapping};
use super::literal::SetValue;
use super::model::{KafkaTimestamp, OnCorrupt, OrderBy, QueueKind, WhenFull};
use super::scalar::{
    Argument, Attempts, Count, Flag, FormatChoice, GiveUp, Keep, Later, OneOf, Percent, Period, Rate, SecretText, Size,
    Text, UrlText, Word,
};
use crate::event::Validation;

mapping! {
    /// The rules of a regards-relay.
    Root {
        /// The version of this format: `1`
        version: Count = required,
        /// Who this relay is, as a URI: shows in connection names and as the source of `CloudEvents`
        name: Text,
        /// Where messages come from, by name
        sources: Named<Source> = required,
        /// Where events go, by name
        sinks: Named<Sink> = required,
        /// Which events go where: all that match apply, from the top
        routes: List<Route> = required,
        /// What becomes of events that no route matches: `drop`, `dead_letter`, or names of sinks
        unrouted: OneOrMany<Text> = required,
        /// What is kept of messages that can't be read or delivered
        dead_letters: DeadLetters | null,
        /// Where what waits is kept
        spool: Spool | null,
        /// Bounds of delivery
        delivery: Delivery | null,
        /// The read-only HTTP listener for health and metrics
        admin: Admin | null,
    }
}

mapping! {
    /// One source: `amqp` or `recording`, and what its messages are.
    Source {
        /// A queue on a broker
        amqp: AmqpSource,
        /// A file of captured messages
        recording: Recording,
        /// The family of responses it sends: `lta`, `order`, `delivery`, `feature`, `ingest`, `worker`; `auto` tells them by their headers
        expects: Text,
        /// Whether a message with an unreadable optional field is taken with a warning, or not at all
        validation: OneOf<Validation>,
        /// The tenant of messages that don't name one
        tenant: Text | null,
        /// Longer bodies become dead letters
        max_body: Size,
        /// A consumer for each of these tenants, in its own virtual host: `vhost: regards.{tenant}`
        tenants: List<Text>,
    }
}

mapping! {
    /// A queue on a broker.
    AmqpSource {
        /// Where the broker is, `amqp://HOST` or `amqps://HOST`; a list is tried in turn
        url: OneOrMany<UrlText> = required,
        /// Who to log in as, taken literally; takes the place of the URL's
        username: SecretText,
        /// The password, taken literally; takes the place of the URL's
        password: SecretText,
        /// The virtual host; takes the place of the URL's
        vhost: Text,
        /// Certificates, for `amqps://`
        tls: Tls,
        /// The queue to consume; it has to exist unless `declare` is given
        queue: Text = required,
        /// What to declare on the broker before consuming; nothing else ever is
        declare: DeclareQueue,
        /// How many messages may be unacknowledged at most
        prefetch: Count,
        /// Consume alone: a second relay stands by
        exclusive: Flag,
    }
}

mapping! {
    /// Certificates of a connection. Nothing given: the system's authorities, no client certificate.
    Tls {
        /// PEM file of the only authorities to trust
        ca: Text,
        /// PEM file of the client's certificate chain
        cert: Text,
        /// PEM file of the client's key
        key: Text,
        /// The name that the server is asked for (SNI) and that its certificate has to have, where it isn't the host
        server_name: Text,
    }
}

mapping! {
    /// What a source declares before it consumes.
    DeclareQueue {
        /// The queue itself
        queue: QueueDeclaration,
        /// What the queue is bound to
        bindings: List<Binding>,
    }
}

mapping! {
    /// A durable queue.
    QueueDeclaration {
        /// The type of the queue
        r#type: OneOf<QueueKind>,
        /// Further arguments, as `x-message-ttl: 86400000`
        arguments: Named<Argument>,
    }
}

mapping! {
    /// One binding of the queue.
    Binding {
        /// The exchange, which has to exist
        exchange: Text = required,
        /// The routing key; a fanout exchange needs none
        routing_key: Text,
    }
}

mapping! {
    /// A file of captured messages.
    Recording {
        /// The file: one message a line
        path: Text = required,
        /// How many times the file is read
        repeat: Count,
    }
}

mapping! {
    /// One sink: where it delivers, and how.
    Sink {
        /// Records in a Kafka topic
        kafka: Kafka,
        /// POST requests, signed by Standard Webhooks
        webhook: Webhook,
        /// Messages to an AMQP exchange
        amqp: AmqpSink,
        /// Lines in a file below the data directory
        file: File,
        /// Lines on standard output
        stdout: Stdout,
        /// What the body is: `normalized`, `original` or `cloudevents`
        format: FormatChoice,
        /// A template of the body, instead of a format
        body: Text | null,
        /// Source headers that go along: names with `*` and `?`
        keep_headers: OneOrMany<Text>,
        /// What is kept in order
        order_by: OneOf<OrderBy>,
        /// How failed deliveries are retried
        retry: Retry | null,
        /// What becomes of its deliveries when the spool has no room for them
        when_full: OneOf<WhenFull>,
        /// Comes later
        group: Later = skip,
    }
}

mapping! {
    /// How failed deliveries are retried: the wait doubles from `initial_backoff` to `max_backoff`.
    Retry {
        /// The wait before the second attempt
        initial_backoff: Period,
        /// The longest wait between two attempts
        max_backoff: Period,
        /// When a delivery becomes a dead letter, counted from its receipt: a duration, or `never`
        give_up_after: GiveUp,
        /// After how many attempts it does: a number, or `unlimited`
        max_attempts: Attempts,
        /// After how many refusals by the destination it does
        refuse_after: Count,
    }
}

mapping! {
    /// Records in a Kafka topic.
    Kafka {
        /// Some of the cluster's brokers, `HOST:PORT`, a list or separated by commas
        brokers: OneOrMany<Text> = required,
        /// The topic, a template
        topic: Text = required,
        /// The record's key, a template
        key: Text,
        /// How keys choose partitions, by librdkafka's name
        partitioner: Text,
        /// The record's time, by which Kafka also finds records to remove (`retention.ms`): when it is sent, or the event's
        timestamp: OneOf<KafkaTimestamp>,
        /// Further settings of librdkafka's producer
        options: Named<SecretText> | null,
        /// Who to log in as
        sasl: Sasl,
        /// Talk TLS, with these certificates
        tls: Tls,
    }
}

mapping! {
    /// Who to log in as at Kafka.
    Sasl {
        /// How: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`
        mechanism: OneOf<Mechanism> = required,
        /// The user
        username: SecretText = required,
        /// The password
        password: SecretText = required,
    }
}

mapping! {
    /// POST requests, signed by Standard Webhooks.
    Webhook {
        /// Where to POST; path and query may hold template expressions
        url: UrlText = required,
        /// What signs the requests: `whsec_…` or base64; every one of a list signs, so that secrets can be rotated
        secret: OneOrMany<SecretText>,
        /// Further headers; their values are templates
        headers: Named<Text>,
        /// The header `Authorization`
        auth: Auth,
        /// An HTTP proxy; else as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say
        proxy: UrlText,
        /// From connecting to the last byte of the answer
        timeout: Period,
        /// Requests under way at once
        concurrency: Count,
        /// Requests in a time at most, as `50/s`
        rate: Rate,
        /// What the receiver means by some statuses, other than by default
        responses: Responses,
        /// Networks that are never connected to, as `10.0.0.0/8`, whatever the URL's name resolves to; behind a proxy only what the URL says
        deny: OneOrMany<Text>,
        /// Certificates
        tls: Tls,
    }
}

mapping! {
    /// What the receiver means by some statuses from 300 to 599.
    Responses {
        /// It will never take this event; by default 400, 413, 415 and 422
        refuse: OneOrMany<Count>,
        /// It may take it later; by default all others
        retry: OneOrMany<Count>,
        /// Nothing more is to be sent until the sink is resumed; by default 410
        pause: OneOrMany<Count>,
    }
}

mapping! {
    /// The header `Authorization`: one of both.
    Auth {
        /// A bearer token
        bearer: SecretText,
        /// A user and a password
        basic: Basic,
    }
}

mapping! {
    /// A user and a password.
    Basic {
        /// The user
        username: SecretText = required,
        /// The password
        password: SecretText = required,
    }
}

mapping! {
    /// Messages to an AMQP exchange.
    AmqpSink {
        /// Where the broker is, `amqp://HOST` or `amqps://HOST`; a list is tried in turn
        url: OneOrMany<UrlText> = required,
        /// Who to log in as, taken literally; takes the place of the URL's
        username: SecretText,
        /// The password, taken literally; takes the place of the URL's
        password: SecretText,
        /// The virtual host; takes the place of the URL's
        vhost: Text,
        /// Certificates, for `amqps://`
        tls: Tls,
        /// Where to publish
        exchange: Text = required,
        /// With which key, a template
        routing_key: Text,
        /// Declare the exchange before publishing
        declare: DeclareExchange,
    }
}

mapping! {
    /// A durable exchange.
    DeclareExchange {
        /// The type of the exchange
        r#type: OneOf<ExchangeKind> = required,
    }
}

mapping! {
    /// Lines in a file.
    File {
        /// The file below the data directory, a template
        path: Text = required,
    }
}

mapping! {
    /// Lines on standard output. Nothing to set.
    Stdout {}
}

mapping! {
    /// One route: the events it matches go to its sinks.
    Route {
        /// Its name, in metrics, logs and `explain`
        name: Text = required,
        /// Which events it matches; nothing given: all
        when: When,
        /// The sinks its events go to; an empty list drops them on purpose
        to: OneOrMany<Text> = required,
        /// No later route is looked at once this one matched
        r#final: Flag,
        /// Changes to what the formats and templates of its sinks see
        transform: List<Step>,
    }
}

mapping! {
    /// One change to what the formats and templates of a route's sinks see of an event.
    Step {
        /// Fields and what they are: a value, or `{ cel: … }`
        set: Named<SetValue>,
        /// Fields to leave out
        remove: OneOrMany<Text>,
        /// Fields and their new names
        rename: Named<Text>,
    }
}

mapping! {
    /// Which events: all that is given has to match; a list matches if one of it does; `*` is any text, `?` one character.
    When {
        /// The tenant
        tenant: OneOrMany<Text>,
        /// The status, in the family's own word: GRANTED, DENIED, SUCCESS, ERROR
        status: OneOrMany<Text>,
        /// How the request fares: accepted, rejected, succeeded, failed, progress
        outcome: OneOrMany<Text>,
        /// The event's type
        r#type: OneOrMany<Text>,
        /// The name of the source
        source: OneOrMany<Text>,
        /// The requester's session
        session: OneOrMany<Text>,
        /// The product's identifier
        productId: OneOrMany<Text>,
        /// The requester's own identifier
        correlationId: OneOrMany<Text>,
        /// None of these may match
        not: OneOrMany<When>,
        /// CEL over the event: what has to be true of it, too
        r#if: Text,
    }
}

mapping! {
    /// What is kept of messages that can't be read or delivered.
    DeadLetters {
        /// For how long: a duration, or `forever`
        keep: Keep,
        /// At most
        max_size: Size,
        /// Also copy each to this sink, which gets nothing else; its templates see `reason`, `source`, `sink` and `tenant`
        to: Text | null,
    }
}

mapping! {
    /// Where what waits is kept.
    Spool {
        /// The SQLite file, relative to the data directory
        path: Text,
        /// How big it may become
        max_size: Size,
        /// How much of it one sink may take
        max_share: Percent,
        /// What a start does with a damaged file: end, or rename it and begin a new one
        on_corrupt: OneOf<OnCorrupt>,
    }
}

mapping! {
    /// Bounds of delivery.
    Delivery {
        /// How long a delivery may take before it is put to disk
        spill_after: Period,
        /// How long a stop waits for what is in flight
        shutdown_grace: Period,
        /// How many bytes of messages may be in memory
        max_in_flight_bytes: Size,
    }
}

mapping! {
    /// The read-only HTTP listener.
    Admin {
        /// Its address and port, or `none`
        listen: Text,
    }
}

impl Word for Validation {
    const WORDS: &'static [(&'static str, Self)] = &[("lenient", Self::Lenient), ("strict", Self::Strict)];
}

impl Word for QueueKind {
    const WORDS: &'static [(&'static str, Self)] = &[("classic", Self::Classic), ("quorum", Self::Quorum)];
}

impl Word for OnCorrupt {
    const WORDS: &'static [(&'static str, Self)] = &[("stop", Self::Stop), ("quarantine", Self::Quarantine)];
}

impl Root {
    /// The sink that gets copies of dead letters, and nothing else.
    pub fn copies_to(&self) -> Option<&str> {
        Some(self.dead_letters.as_ref()?.value.to.as_ref()?.value.text.as_str())
    }
}

impl Word for WhenFull {
    const WORDS: &'static [(&'static str, Self)] = &[("block", Self::Block), ("drop_newest", Self::DropNewest)];
}

impl Word for OrderBy {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("correlationId", Self::CorrelationId),
        ("productId", Self::ProductId),
        ("session", Self::Session),
        ("tenant", Self::Tenant),
        ("none", Self::None),
    ];
}

impl Word for KafkaTimestamp {
    const WORDS: &'static [(&'static str, Self)] = &[("sent", Self::Sent), ("event", Self::Event)];
}

/// How to log in at Kafka, by librdkafka's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mechanism(pub &'static str);

impl Word for Mechanism {
    const WORDS: &'static [(&'static str, Self)] =
        &[("PLAIN", Self("PLAIN")), ("SCRAM-SHA-256", Self("SCRAM-SHA-256")), ("SCRAM-SHA-512", Self("SCRAM-SHA-512"))];
}

/// The type of an exchange, by AMQP's name.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExchangeKind(pub &'static str);

impl Word for ExchangeKind {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("topic", Self("topic")),
        ("direct", Self("direct")),
        ("fanout", Self("fanout")),
        ("headers", Self("headers")),
    ];
}
