//! As many renewals of access tokens as in an hour with tokens of 10 s, at everything that takes tokens: several lines of a source
//! and sinks, each with tokens of its own, work side by side.
//!
//! `make renewals` runs it: `RENEWALS` of each kind, 450 by default. It is not part of `make test`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lapin::types::FieldTable;
use serde_json::{Value, json};

use super::oauth::assert_shows_no_token;
use crate::support::kafka::{Reader, Record};
use crate::support::rabbit::Collected;
use crate::support::regards::EXCHANGE;
use crate::support::services::Private;
use crate::support::{Answer, Home, Kafka, Receiver, Regards, Registry, Relay, Response, Services, TokenServer, until};

/// Tokens of 10 s are renewed each 8 s: that many times in an hour.
const RENEWALS: usize = 450;
const LIFE: Duration = Duration::from_secs(10);
/// Lines of a source and sinks. Each renews its tokens `RENEWALS / LINES` times.
const LINES: usize = 15;
/// What takes tokens in each line.
const KINDS: [&str; 5] = ["source", "amqp", "kafka", "webhook", "registry"];
/// Rounds of messages with one subject in the registry. The relay remembers 1,000 subjects.
const ROUNDS_OF_A_SUBJECT: usize = 5;

struct World {
    regards: Regards,
    tokens: TokenServer,
    /// Signed by the key of the registry.
    registry_tokens: TokenServer,
    receiver: Receiver,
    /// What the webhooks got, by source and correlation id.
    posted: Arc<Mutex<Vec<String>>>,
    collected: Collected,
    kafka: Reader,
    registry: Reader,
    _private: Private,
}

/// One line: `LINE` is its number, `@KIND` its `oauth2:` block for that kind.
const SOURCE: &str = r#"  sLINE: { amqp: { url: "${BROKER}", auth: { oauth2: @source }, queue: qLINE }, expects: lta }
"#;
/// The rate paces the test: a message a second.
const SINKS: &str = r#"
  amqp-LINE: { amqp: { url: "${BROKER}", auth: { oauth2: @amqp }, exchange: out } }
  kafka-LINE:
    kafka:
      brokers: "${KAFKA_TLS}"
      topic: "${TOPIC}"
      key: "{{ source }}/{{ correlationId }}"
      tls: { ca: "${CA}" }
      sasl: { mechanism: OAUTHBEARER, oauth2: @kafka }
  webhook-LINE: { webhook: { url: "${HOOK}", rate: 1/s, auth: { oauth2: @webhook } } }
  registry-LINE:
    kafka: { brokers: "${KAFKA}", topic: "${REGISTERED}", key: "{{ source }}/{{ correlationId }}" }
    format:
      avro:
        registry:
          url: "${REGISTRY}"
          subject: "{{ source }}-{{ productId | default('none') }}"
          register: true
          auth: { oauth2: @registry }
"#;
const ROUTE: &str =
    "  - { name: rLINE, when: { source: sLINE }, to: [amqp-LINE, kafka-LINE, webhook-LINE, registry-LINE] }\n";
/// The last word of each scope tells whose tokens these are.
const SCOPE: &str = "rabbitmq.read:*/*/* rabbitmq.write:*/*/* rabbitmq.configure:*/*/*";

fn routes() -> String {
    let lines = |template: &str| {
        let line = |line: usize| {
            let text = KINDS.iter().fold(template.to_owned(), |text, kind| {
                let server = if *kind == "registry" { "REGISTRY_TOKENS" } else { "TOKENS" };
                let block = format!(
                    "{{ token_url: \"${{{server}}}\", client_id: relay, client_secret: \"${{file:secret}}\", scope: \"{SCOPE} {kind}-LINE\" }}"
                );
                text.replace(&format!("@{kind}"), &block)
            });
            text.replace("LINE", &line.to_string())
        };
        (0..LINES).map(line).collect::<String>()
    };
    let (sources, sinks, routes) = (lines(SOURCE), lines(SINKS), lines(ROUTE));
    format!("version: 1\nsources:\n{sources}sinks:{sinks}routes:\n{routes}unrouted: dead_letter\n")
}

impl World {
    async fn new() -> (Self, Home) {
        let private = Services::private(&["registry-auth"]).await;
        let services = Services::shared();
        let regards = Regards::new().await;
        let vhost = &regards.vhost;
        vhost.fanout("out").await;
        for line in 0..LINES {
            vhost.queue(&format!("q{line}"), FieldTable::default()).await;
            vhost.bind(&format!("q{line}"), EXCHANGE, "").await;
        }
        let collected = vhost.collect("out").await;
        let (kafka, registry) =
            (Kafka::shared().topic("renewals", 3).await, Kafka::shared().topic("registered", 3).await);
        let tokens = TokenServer::start_for(&services).await;
        let registry_tokens = TokenServer::start_for(private.services()).await;
        registry_tokens.set_claims(&json!({ "preferred_username": "relay" }));
        tokens.set_lifetime(LIFE);
        registry_tokens.set_lifetime(LIFE);
        let receiver = Receiver::start().await;
        let posted = Arc::<Mutex<Vec<String>>>::default();
        let (bearers, ids) = (tokens.bearers(), Arc::clone(&posted));
        receiver.answers(move |request| {
            let is_valid = bearers.accept(&request.headers);
            if is_valid {
                ids.lock().expect("no holder panics").push(id_of(&request.json()));
            }
            Answer::Status(if is_valid { 204 } else { 401 })
        });
        let home = Home::of(&regards, &routes())
            .with_kafka()
            .with("BROKER", &vhost.url_without_login())
            .with("KAFKA_TLS", &format!("127.0.0.1:{}", services.kafka_sasl_ssl_port()))
            .with("CA", services.ca())
            .with("TOPIC", kafka.topic())
            .with("REGISTERED", registry.topic())
            .with("HOOK", &receiver.url())
            .with("REGISTRY", &Registry::with_token(private.services(), String::new()).url())
            .with("TOKENS", &tokens.url())
            .with("REGISTRY_TOKENS", &registry_tokens.url())
            .keeping_secret(TokenServer::CLIENT_SECRET);
        home.write("secret", TokenServer::CLIENT_SECRET);
        (
            Self { regards, tokens, registry_tokens, receiver, posted, collected, kafka, registry, _private: private },
            home,
        )
    }

    /// Publishes a message, which every line gets, and waits until all of its copies have arrived everywhere.
    async fn publish_round(&mut self, round: usize) {
        let product = format!("p{}", round / ROUNDS_OF_A_SUBJECT);
        let response = Response::new("t", &format!("c-{round}"), "SUCCESS").field("productId", product);
        self.regards.publish(&response).await;
        let count = (round + 1) * LINES;
        self.collected.wait_for(count).await;
        self.kafka.wait_for(count).await;
        self.registry.wait_for(count).await;
        until("the webhooks", async || match self.posted.lock().expect("no holder panics").len() {
            posted if posted >= count => Ok(()),
            posted => Err(format!("{posted} of {count}")),
        })
        .await;
    }

    /// The fewest renewals of a kind so far.
    fn renewals(&self) -> usize {
        let mut tokens: BTreeMap<String, usize> = BTreeMap::new();
        for request in self.token_servers().into_iter().flat_map(TokenServer::requests) {
            let label = request.form["scope"].rsplit(' ').next().expect("a word").to_owned();
            *tokens.entry(label).or_default() += 1;
        }
        let of_kind = |kind: &&str| {
            let of_line = |line| tokens.get(&format!("{kind}-{line}")).map_or(0, |tokens| tokens.saturating_sub(1));
            (0..LINES).map(of_line).sum()
        };
        KINDS.iter().map(of_kind).min().expect("kinds")
    }

    fn token_servers(&self) -> [&TokenServer; 2] {
        [&self.tokens, &self.registry_tokens]
    }

    async fn amqp_connections(&self) -> BTreeSet<String> {
        self.regards.vhost.connections_of(TokenServer::CLIENT_ID).await.into_iter().collect()
    }

    /// Each message is there once a line, everywhere.
    async fn assert_all_there_once(&mut self, rounds: usize) {
        let expected: BTreeSet<String> =
            (0..rounds).flat_map(|round| (0..LINES).map(move |line| format!("s{line}/c-{round}"))).collect();
        let keys = |records: &[Record]| records.iter().filter_map(|record| record.key.clone()).collect::<Vec<_>>();
        let arrived = [
            ("RabbitMQ", self.collected.all().iter().map(|message| id_of(&message.json())).collect()),
            ("Kafka", keys(self.kafka.all().await)),
            ("Kafka, by the registry", keys(self.registry.all().await)),
            ("webhooks", self.posted.lock().expect("no holder panics").clone()),
        ];
        for (place, ids) in arrived {
            assert_eq!(ids.len(), expected.len(), "{place}: nothing is repeated");
            assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), expected, "{place}: nothing is lost");
        }
        assert_eq!(self.receiver.posted().len(), expected.len(), "every request had a valid token");
    }
}

fn id_of(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().expect("a text").to_owned();
    format!("{}/{}", text("source"), text("correlationId"))
}

/// The local ports of the relay's open connections to a port of this machine.
fn connections_to(port: u16, relay: &Relay<'_>) -> BTreeSet<String> {
    const ESTABLISHED: &str = "01";
    let proc = format!("/proc/{}", relay.pid());
    let files = std::fs::read_dir(format!("{proc}/fd")).expect("its files").flatten();
    let sockets: BTreeSet<_> = files
        .filter_map(|file| std::fs::read_link(file.path()).ok()?.to_str()?.strip_prefix("socket:[").map(str::to_owned))
        .map(|inode| inode.trim_end_matches(']').to_owned())
        .collect();
    let table = std::fs::read_to_string(format!("{proc}/net/tcp")).expect("its connections");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    let remote = format!(":{port:04X}");
    rows.filter(|row| row[2].ends_with(&remote) && row[3] == ESTABLISHED && sockets.contains(row[9]))
        .map(|row| row[1].to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hours_worth_loses_and_repeats_nothing() {
    let wanted = std::env::var("RENEWALS").ok().filter(|value| !value.is_empty());
    let wanted = wanted.map_or(RENEWALS, |value| value.parse().expect("RENEWALS is a number"));
    let (mut world, home) = World::new().await;
    let kafka_port = Services::shared().kafka_sasl_ssl_port();
    let relay = home.start_ready().await;
    world.publish_round(0).await;
    let begun = Instant::now();
    let amqp = until("the connections of sources and sinks", async || match world.amqp_connections().await {
        connections if connections.len() == 2 * LINES => Ok(connections),
        connections => Err(format!("{connections:?}")),
    })
    .await;
    let kafka = connections_to(kafka_port, &relay);
    assert!(kafka.len() >= LINES, "{kafka:?}");

    let mut rounds = 1;
    while world.renewals() < wanted {
        world.publish_round(rounds).await;
        rounds += 1;
    }
    let took = begun.elapsed();
    let (amqp_now, kafka_now) = (world.amqp_connections().await, connections_to(kafka_port, &relay));
    relay.stop().await;
    world.assert_all_there_once(rounds).await;
    // A machine that stands still for seconds has tokens that end, and then all of these fail. librdkafka warns of a Kafka that has just
    // started.
    let mut warnings = home.warnings_with(&[]);
    warnings.retain(|warning| !warning.contains(r#""target":"librdkafka""#));
    assert!(warnings.is_empty(), "{warnings:#?}");
    assert_eq!(amqp_now, amqp, "no connection to RabbitMQ was cut");
    let cut: Vec<_> = kafka.difference(&kafka_now).cloned().collect();
    assert!(cut.is_empty(), "of {} connections to Kafka these were cut: {cut:?}", kafka.len());
    for tokens in world.token_servers() {
        assert_shows_no_token(&home, tokens);
    }
    println!(
        "{} renewals and more of each of {KINDS:?} in {} s: {} deliveries, none lost, none repeated; the same {} connections to RabbitMQ \
         and {} to Kafka all the time",
        world.renewals(),
        took.as_secs(),
        rounds * LINES * (KINDS.len() - 1),
        amqp.len(),
        kafka.len(),
    );
}
