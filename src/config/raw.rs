//! `routes.yaml` as it is written: its keys, with the type of each value.
//!
//! The JSON Schema and docs/configuration.md are generated from these types. The comment on a key is its description there;
//! `[…]` has its default and, for a number, its unit. A test checks that a default is what the key means when it is left out.
//!
//! References between keys, and keys that exclude each other, are checked where this becomes a [`Config`](super::Config).

mod alerts;
mod amqp_auth;
mod format;
mod oauth2;
mod postgres;
mod registry;
mod sasl;

pub(in crate::config) use alerts::{Alert, Overdue};
pub(in crate::config) use amqp_auth::AmqpAuth;
pub(in crate::config) use format::{FormatChoice, SchemaFormats, SchemaSettings};
pub(in crate::config) use oauth2::OAuth2;
pub(in crate::config) use postgres::Postgres;
pub(in crate::config) use registry::Registry;
pub(in crate::config) use sasl::Sasl;

use super::text::decode::{List, NamedEntries, NoneOr, OneOrMany, mapping};
use super::text::scalar::{
    Attempts, Count, DurationOrForever, DurationOrNever, Flag, OneOf, Percent, Period, Rate, SecretText, Size, Text,
    UrlText,
};
use super::values::{
    Argument, ExchangeKind, Field, KafkaTimestamp, OnCorrupt, OrderBy, QueueKind, SetValue, Validation, WhenFull,
};

mapping! {
    /// The configuration of a regards-relay.
    Root {
        /// The version of this format: `1`
        version: Count = required,
        /// The name of this relay, as a URI: used in connection names and as the source of `CloudEvents`; by default `urn:regards-relay:HOSTNAME`
        name: Text,
        /// The sources, by name: where messages are read from
        sources: NamedEntries<Source> = required,
        /// The sinks, by name: where events are delivered to
        sinks: NamedEntries<Sink> = required,
        /// The routes: which events go to which sinks; all routes that match apply, from the top
        routes: List<Route> = required,
        /// What happens to events that no route matches: `drop`, `dead_letter`, or names of sinks
        unrouted: OneOrMany<Text> = required,
        /// The alerts: what the relay itself reports to sinks, from requests that stay without an end to sinks that fail
        alerts: List<Alert> | null,
        /// How messages that cannot be decoded or delivered are kept
        dead_letters: DeadLetters | null,
        /// Where the backlog of each sink and the dead letters are kept: a file on disk, or a PostgreSQL database
        spool: Spool | null,
        /// The record of what became of each event, for `trace` and `replay`; `none` keeps no record
        journal: NoneOr<Journal> | null,
        /// Limits that hold for all deliveries
        delivery: Delivery | null,
        /// The read-only HTTP listener for health checks and metrics
        admin: Admin | null,
    }
}

mapping! {
    /// One source: either `amqp` or `recording`, and how its messages are decoded.
    Source {
        /// Read messages from a queue of an AMQP broker
        amqp: AmqpSource,
        /// Read messages from a file of recorded samples
        recording: Recording,
        /// The family of responses: `lta`, `order`, `delivery`, `feature`, `ingest`, `worker`; `auto` recognizes the family by the message headers
        expects: Text ["lta"],
        /// How a message with an unreadable optional field is treated: `lenient` accepts it with a warning, `strict` makes it a dead letter
        validation: OneOf<Validation> ["lenient"],
        /// The tenant of messages without the header `regards.tenant`
        tenant: Text | null,
        /// The largest message body; a message with a larger one becomes a dead letter
        max_body: Size ["1MiB"],
        /// Tenants with a virtual host each: one consumer is started for each of them; `vhost` must contain `{tenant}`
        tenants: List<Text>,
    }
}

mapping! {
    /// A queue of an AMQP broker.
    AmqpSource {
        /// The address of the broker, `amqp://HOST` or `amqps://HOST`; the URLs of a list are tried in turn
        url: OneOrMany<UrlText> = required,
        /// The user name, taken literally; replaces the one in the URL
        username: SecretText,
        /// The password, taken literally; replaces the one in the URL
        password: SecretText,
        /// The virtual host; replaces the one in the URL; by default `/`
        vhost: Text,
        /// Another login than by user name and password: `external`, by the client certificate of `tls`; or `oauth2: {…}`, by access tokens
        auth: AmqpAuth,
        /// The certificates for an `amqps://` connection
        tls: Tls,
        /// The queue to consume; it must exist, unless `declare` is given
        queue: Text = required,
        /// That many queues instead of one, shared out among several relays; `queue` must contain `{shard}`, and the spool be in PostgreSQL
        shards: Count,
        /// What to declare on the broker before consuming; without it nothing is declared
        declare: DeclareQueue,
        /// The largest number of unacknowledged messages
        prefetch: Count [1000, "messages"],
        /// Consume exclusively, so that a second relay stands by; by default `false` for a queue declared with `x-single-active-consumer`
        exclusive: Flag [true],
    }
}

mapping! {
    /// Certificates of a connection. Without any key: the certificate authorities of the system, and no client certificate.
    Tls {
        /// PEM file with the certificate authorities to trust, instead of those of the system
        ca: Text,
        /// PEM file with the certificate chain of the client; needs `key`
        cert: Text,
        /// PEM file with the private key of the client; needs `cert`
        key: Text,
        /// The server name for SNI and for the check of the certificate; by default the host of the URL
        server_name: Text,
    }
}

mapping! {
    /// What a source declares before it consumes.
    DeclareQueue {
        /// Declare the queue, as durable
        queue: QueueDeclaration,
        /// The bindings to declare for the queue
        bindings: List<Binding>,
    }
}

mapping! {
    /// A durable queue that the relay declares.
    QueueDeclaration {
        /// The type of the queue
        r#type: OneOf<QueueKind> ["classic"],
        /// Further arguments of the declaration, as in `x-message-ttl: 86400000`
        arguments: NamedEntries<Argument>,
    }
}

mapping! {
    /// One binding of the queue.
    Binding {
        /// The exchange to bind to; it must exist
        exchange: Text = required,
        /// The routing key of the binding; a fanout exchange ignores it
        routing_key: Text [""],
    }
}

mapping! {
    /// A file of recorded messages.
    Recording {
        /// The file, one sample a line, relative to the configuration file
        path: Text = required,
        /// How many times the file is read
        repeat: Count [1, "times"],
    }
}

mapping! {
    /// One sink: exactly one of `kafka`, `webhook`, `amqp`, `file`, `stdout`, and how it delivers.
    Sink {
        /// Deliver records to a Kafka topic
        kafka: Kafka,
        /// Deliver by HTTP POST requests, signed by Standard Webhooks
        webhook: Webhook,
        /// Publish messages to an AMQP exchange
        amqp: AmqpSink,
        /// Append lines to a file in the data directory
        file: File,
        /// Write lines to standard output
        stdout: Stdout,
        /// The format of the body: `normalized`, `original`, `cloudevents`, or one with a schema, as in `{ avro: {} }`
        format: FormatChoice ["normalized"],
        /// A template of the body, instead of `format`
        body: Text | null,
        /// Which headers of the message are passed on: names, with `*` and `?` as wildcards; `original` passes on all by default
        keep_headers: OneOrMany<Text>,
        /// The field whose equal values are delivered in the order of receipt; `none` keeps no order
        order_by: OneOf<OrderBy> ["correlationId"],
        /// When a failed delivery is attempted again, and when it is given up
        retry: Retry | null,
        /// What happens to a delivery when the spool has no room for it: `block` blocks its source, `drop_newest` drops and counts it
        when_full: OneOf<WhenFull> ["block"],
        /// Deliver several events at once, as a digest; for webhook, AMQP and Kafka sinks
        group: Group,
    }
}

mapping! {
    /// Events that are delivered together, as a digest. Templates see the list `events`, their number `count`, and the fields of `by`.
    Group {
        /// The fields that all events of a digest have in common; without it, all events of the sink are one group
        by: OneOrMany<OneOf<Field>>,
        /// How long the first event of a group waits for others, counted from its receipt
        wait: Period ["30s"],
        /// The number of events at which a group is delivered at once; a digest has no more, and at most 1 MB
        max: Count [100, "events"],
    }
}

mapping! {
    /// When a failed delivery is attempted again: the back-off doubles from `initial_backoff` to `max_backoff`.
    Retry {
        /// The back-off after the first failed attempt
        initial_backoff: Period ["5s"],
        /// The longest back-off between two attempts
        max_backoff: Period ["10m"],
        /// The age, counted from receipt, at which a delivery becomes a dead letter: a duration or `never`; by default `never`, for webhooks `7d`
        give_up_after: DurationOrNever,
        /// The number of attempts after which a delivery becomes a dead letter: a number or `unlimited`
        max_attempts: Attempts ["unlimited", "attempts"],
        /// The number of refusals by the destination after which a delivery becomes a dead letter
        refuse_after: Count [3, "refusals"],
    }
}

mapping! {
    /// Records in a Kafka topic.
    Kafka {
        /// Bootstrap brokers, `HOST:PORT`, as a list or separated by commas
        brokers: OneOrMany<Text> = required,
        /// The topic of the record; a template
        topic: Text = required,
        /// The key of the record; a template
        key: Text ["{{ correlationId }}"],
        /// Further headers of the record; the values are templates
        headers: NamedEntries<Text>,
        /// The partitioner, by librdkafka's name
        partitioner: Text ["murmur2_random"],
        /// The timestamp of the record: `sent`, the time of sending, or `event`, the time of the event; `retention.ms` counts from it
        timestamp: OneOf<KafkaTimestamp> ["sent"],
        /// Further settings of librdkafka's producer
        options: NamedEntries<SecretText> | null,
        /// The SASL login at the brokers
        sasl: Sasl,
        /// Use TLS, with these certificates
        tls: Tls,
    }
}

mapping! {
    /// HTTP POST requests, signed by Standard Webhooks.
    Webhook {
        /// The URL; its path and query may contain template expressions
        url: UrlText = required,
        /// The signing secret, `whsec_…` or base64; each secret of a list signs, so that secrets can be rotated; without it requests are not signed
        secret: OneOrMany<SecretText>,
        /// Further request headers; the values are templates
        headers: NamedEntries<Text>,
        /// The content of the request header `Authorization`
        auth: Auth,
        /// The URL of an HTTP proxy; by default as in `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`
        proxy: UrlText,
        /// The deadline of one request, from connecting to the last byte of the response
        timeout: Period ["10s"],
        /// The largest number of requests in flight
        concurrency: Count [8, "requests"],
        /// The highest rate of requests, as in `50/s`; without it there is no limit
        rate: Rate,
        /// Response statuses that mean something else than by default
        responses: Responses,
        /// Networks that are never connected to, as in `10.0.0.0/8`, whatever the host name resolves to; behind a proxy only an address in the URL is checked
        deny: OneOrMany<Text>,
        /// The certificates for an `https://` connection
        tls: Tls,
    }
}

mapping! {
    /// What response statuses from 300 to 599 mean.
    Responses {
        /// Statuses by which the receiver refuses the event for good; by default 400, 413, 415, 422
        refuse: OneOrMany<Count>,
        /// Statuses after which the request is sent again; by default all others
        retry: OneOrMany<Count>,
        /// Statuses that pause the sink until it is resumed; by default 410
        pause: OneOrMany<Count>,
    }
}

mapping! {
    /// The request header `Authorization`: one of `bearer`, `basic` and `oauth2`.
    Auth {
        /// The token of bearer authentication
        bearer: SecretText,
        /// The credentials of basic authentication
        basic: Basic,
        /// An access token by OAuth 2.0, sent as bearer token
        oauth2: OAuth2,
    }
}

mapping! {
    /// The credentials of HTTP basic authentication.
    Basic {
        /// The user name for basic authentication
        username: SecretText = required,
        /// The password for basic authentication
        password: SecretText = required,
    }
}

mapping! {
    /// Messages to an AMQP exchange.
    AmqpSink {
        /// The address of the broker, `amqp://HOST` or `amqps://HOST`; the URLs of a list are tried in turn
        url: OneOrMany<UrlText> = required,
        /// The user name, taken literally; replaces the one in the URL
        username: SecretText,
        /// The password, taken literally; replaces the one in the URL
        password: SecretText,
        /// The virtual host; replaces the one in the URL; by default `/`
        vhost: Text,
        /// Another login than by user name and password: `external`, by the client certificate of `tls`; or `oauth2: {…}`, by access tokens
        auth: AmqpAuth,
        /// The certificates for an `amqps://` connection
        tls: Tls,
        /// The exchange to publish to; `""` is the default exchange
        exchange: Text = required,
        /// The routing key; a template
        routing_key: Text [""],
        /// Further headers of the message; the values are templates
        headers: NamedEntries<Text>,
        /// Declare the exchange, as durable, before publishing; without it nothing is declared
        declare: DeclareExchange,
    }
}

mapping! {
    /// A durable exchange that the relay declares.
    DeclareExchange {
        /// The type of the exchange
        r#type: OneOf<ExchangeKind> = required,
    }
}

mapping! {
    /// Lines appended to a file.
    File {
        /// The file, relative to the data directory; a template
        path: Text = required,
    }
}

mapping! {
    /// Lines on standard output, without any setting.
    Stdout {}
}

mapping! {
    /// One route: the events it matches go to its sinks.
    Route {
        /// The name of the route in metrics, logs and `explain`
        name: Text = required,
        /// Which events the route matches; without it, all
        when: When,
        /// The sinks the events go to; an empty list drops them on purpose
        to: OneOrMany<Text> = required,
        /// Stop after this route if it matches: later routes are not evaluated
        r#final: Flag [false],
        /// Changes of the event that the formats and templates of these sinks use
        transform: List<Step>,
    }
}

mapping! {
    /// One step of a transform.
    Step {
        /// Fields to set: to a value, or to the result of an expression, `{ cel: … }`
        set: NamedEntries<SetValue>,
        /// The names of fields to remove
        remove: OneOrMany<Text>,
        /// Fields to rename: the old name and the new name
        rename: NamedEntries<Text>,
    }
}

mapping! {
    /// The condition of a route. Every key must match; a list matches if one of its patterns does; `*` is any text, `?` one character.
    When {
        /// The tenant of the event
        tenant: OneOrMany<Text>,
        /// The status in the words of the response family, as in GRANTED, DENIED, SUCCESS, ERROR
        status: OneOrMany<Text>,
        /// The outcome: accepted, rejected, succeeded, failed, progress
        outcome: OneOrMany<Text>,
        /// The type of the event
        r#type: OneOrMany<Text>,
        /// The name of the source it came from
        source: OneOrMany<Text>,
        /// The session of the requester
        session: OneOrMany<Text>,
        /// The identifier of the product
        productId: OneOrMany<Text>,
        /// The identifier that the requester chose
        correlationId: OneOrMany<Text>,
        /// Conditions of which none may match
        not: OneOrMany<When>,
        /// A CEL expression over the event that must be true
        r#if: Text,
    }
}

mapping! {
    /// How messages that cannot be decoded or delivered are kept.
    DeadLetters {
        /// How long a dead letter is kept: a duration or `forever`
        keep: DurationOrForever ["forever"],
        /// The largest size of all dead letters; when it is reached, no more messages are accepted that would become one
        max_size: Size ["2GiB"],
        /// A sink that gets a copy of each dead letter and nothing else; its templates use `reason`, `source`, `sink` and `tenant`
        to: Text | null,
    }
}

mapping! {
    /// What keeps the backlog of each sink and the dead letters: an SQLite file, or `postgres`.
    Spool {
        /// Keep them in a PostgreSQL database, which several relays can share; excludes `path` and `on_corrupt`
        postgres: Postgres,
        /// The SQLite file, relative to the data directory; it must be on a local disk
        path: Text ["spool.db"],
        /// The largest size of all spooled deliveries
        max_size: Size ["10GiB"],
        /// The largest share of `max_size` for one sink
        max_share: Percent ["50%"],
        /// What happens at start when the file is damaged: `stop` ends the relay, `quarantine` renames the file and starts with an empty one
        on_corrupt: OneOf<OnCorrupt> ["stop"],
    }
}

mapping! {
    /// The record of what became of each event: the file `journal.db` in the data directory, or tables beside a spool in PostgreSQL.
    Journal {
        /// How long an event is recorded
        keep: Period ["7d"],
        /// The largest size of all records; when it is reached, the oldest events are removed
        max_size: Size ["1GiB"],
        /// Record the messages, too, of at most 1 MiB each; without its message `replay` can't send an event again
        bodies: Flag [true],
    }
}

mapping! {
    /// Limits that hold for all deliveries.
    Delivery {
        /// The time after which an unfinished delivery is written to the spool
        spill_after: Period ["2s"],
        /// The longest time that a stop waits for deliveries in flight
        shutdown_grace: Period ["20s"],
        /// The largest total size of the messages of all sources that are in memory
        max_in_flight_bytes: Size ["64MiB"],
    }
}

mapping! {
    /// The read-only HTTP listener for health checks and metrics.
    Admin {
        /// Its address and port, or `none`; `REGARDS_RELAY_ADMIN_LISTEN` overrides it
        listen: Text ["127.0.0.1:9464"],
    }
}

impl Root {
    /// The sink that gets copies of dead letters, and nothing else.
    pub fn copies_to(&self) -> Option<&str> {
        Some(self.dead_letters.as_ref()?.value.to.as_ref()?.value.text.as_str())
    }
}
