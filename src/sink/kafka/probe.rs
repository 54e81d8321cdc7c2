//! Tests whether the brokers answer, the topic exists, and the leaders of its partitions can be reached, without producing
//! anything.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use regards_relay_native::kerberos::RegisteredLogin;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::last_error::{AUTO_CREATE_HINT, LastError};
use super::reasons::{NO_KDC, closed_before_answer, explain_reason};
use super::settings::{ProducerSettings, explain_config_error, settings};
use super::token_login::{SinkTokens, TokenLogin};
use crate::config::KafkaConfig;
use crate::probe::{ProbeOutcome, ProbeResult};
use crate::tasks;

/// How often the brokers are asked for their metadata.
const TRIES: u32 = 10;
/// How long each answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// After this many tries an error of librdkafka ends the probe. Not before, as another broker may answer.
const TRIES_AFTER_ERROR: u32 = 3;

/// The largest number of brokers whose advertised addresses are tried, all at once.
const MAX_LEADERS: usize = 64;
/// How long getting a Kerberos ticket may take. MIT Kerberos gives up after a minute, or several.
const TICKET_TIMEOUT: Duration = Duration::from_secs(15);
/// How long connecting to one address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest number of addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Logs in and asks for all topics. Only producing could show whether the user may write to them.
pub(in crate::sink) async fn probe(kafka: &KafkaConfig, relay: &str) -> ProbeResult {
    let tokens = SinkTokens::of(kafka);
    if let Some(tokens) = &tokens {
        tokens.source.token().await.map_err(|error| error.to_string())?;
    }
    let login = tokens.as_ref().map(TokenLogin::new);
    let (kafka, client) = (Arc::new(kafka.clone()), relay.to_owned());
    let read = Arc::clone(&kafka);
    let settings = tokio::task::spawn_blocking(move || settings(&read, &client)).await;
    let ProducerSettings { client: settings, kerberos } =
        settings.unwrap_or_else(|error| Err(tasks::blocking_error("reading the secrets of the login", &error)))?;
    let kerberos = kerberos.map(Arc::new);
    if let Some(login) = &kerberos {
        get_ticket(login).await?;
    }
    let asked = tokio::task::spawn_blocking(move || {
        let _login = kerberos;
        fetch(&kafka, settings, login)
    })
    .await;
    let (found, leaders) =
        asked.unwrap_or_else(|error| Err(tasks::blocking_error("asking the brokers for their metadata", &error)))?;
    let tried = leaders.into_iter().map(|leader| async move {
        let error = connect(&leader.host, leader.port).await.err()?;
        Some(unreachable(&leader.id.to_string(), &format!("{}:{}", leader.host, leader.port), &error))
    });
    match futures_util::future::join_all(tried).await.into_iter().flatten().next() {
        Some(unreachable) => Err(unreachable),
        None => Ok(found),
    }
}

/// Without a ticket librdkafka's own error comes late, or not at all.
async fn get_ticket(login: &Arc<RegisteredLogin>) -> Result<(), String> {
    let login = Arc::clone(login);
    let got = tokio::task::spawn_blocking(move || login.get_ticket());
    match timeout(TICKET_TIMEOUT, got).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(explain_reason(&error).into_owned()),
        Ok(Err(error)) => Err(tasks::blocking_error("getting a Kerberos ticket", &error)),
        Err(_) => Err(format!("{NO_KDC} (no answer within {TICKET_TIMEOUT:?})")),
    }
}

fn unreachable(id: &str, address: &str, error: &str) -> String {
    format!(
        "the brokers answer, but broker {id} advertises the address {address}, which can't be reached from this machine: {error}; \
         set `advertised.listeners` of the broker to an address that can be reached"
    )
}

/// Explains an error at an address that a broker advertises, rather than at one of the configuration. librdkafka's text is
/// `HOST:PORT/ID: error`; the id is `bootstrap` for an address of the configuration.
fn advertised_address_error(text: &str, brokers: &str) -> Option<String> {
    let (broker, error) = text.split_once(": ")?;
    let (address, id) = broker.rsplit_once('/')?;
    let is_known = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let is_configured = brokers.split(',').any(|broker| broker.trim().ends_with(address));
    (is_known && !is_configured).then(|| unreachable(id, address, error))
}

/// The leader of a partition, with its advertised address. Records are sent there, not to the addresses of the configuration.
struct PartitionLeader {
    id: i32,
    host: String,
    port: u16,
}

/// Blocks until the brokers have answered.
fn fetch(
    kafka: &KafkaConfig,
    mut settings: ClientConfig,
    login: Option<TokenLogin>,
) -> Result<(ProbeOutcome, Vec<PartitionLeader>), String> {
    settings.set_log_level(RDKafkaLogLevel::Info);
    let context = ProbeContext { last_error: LastError::default(), login };
    let producer: BaseProducer<ProbeContext> =
        ClientConfig::create_with_context(&settings, context).map_err(|error| explain_config_error(&error))?;
    let metadata =
        metadata(&producer).map_err(|error| advertised_address_error(&error, &kafka.brokers).unwrap_or(error))?;
    let brokers = metadata.brokers().len();
    let Some(topic) = kafka.topic.fixed() else {
        let found = ProbeOutcome::Reachable(format!(
            "the brokers answer (brokers: {brokers}); not tested: the topics, whose names depend on the event, and the permission to write to them"
        ));
        return Ok((found, leaders(&metadata, |_| true)));
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        let found = ProbeOutcome::Warning(format!(
            "the brokers answer, but have no topic {topic} that the user may see: create the topic, and allow the user to write to it ({AUTO_CREATE_HINT})"
        ));
        return Ok((found, leaders(&metadata, |_| true)));
    };
    let partitions = found.partitions();
    let leaders = leaders(&metadata, |broker| partitions.iter().any(|partition| partition.leader() == broker));
    let found = ProbeOutcome::Reachable(format!(
        "topic {topic} exists (partitions: {}, brokers: {brokers}); not tested: the permission to write to it",
        partitions.len()
    ));
    Ok((found, leaders))
}

fn leaders(metadata: &Metadata, is_needed: impl Fn(i32) -> bool) -> Vec<PartitionLeader> {
    let needed = metadata.brokers().iter().filter(|broker| is_needed(broker.id()));
    let leader = |broker: &MetadataBroker| {
        let port = u16::try_from(broker.port()).ok()?;
        Some(PartitionLeader { id: broker.id(), host: broker.host().to_owned(), port })
    };
    needed.filter_map(leader).take(MAX_LEADERS).collect()
}

/// Connects to any of the addresses of the name, each with its own timeout.
async fn connect(host: &str, port: u16) -> Result<(), String> {
    let found = timeout(CONNECT_TIMEOUT, lookup_host((host, port))).await;
    let addresses = found.map_err(|_| "resolving the name timed out".to_owned())?.map_err(|error| error.to_string())?;
    let mut last_error = "the name has no address".to_owned();
    for address in addresses.take(MAX_ADDRESSES) {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => last_error = error.to_string(),
            Err(_) => last_error = format!("no answer within {CONNECT_TIMEOUT:?}"),
        }
    }
    Err(last_error)
}

/// Asks for the metadata of all topics, as asking for one topic could create it.
fn metadata(producer: &BaseProducer<ProbeContext>) -> Result<Metadata, String> {
    let mut last = None;
    if let Some(login) = &producer.context().login {
        login.give(producer.client())?;
    }
    for tries in 1..=TRIES {
        match producer.client().fetch_metadata(None, ANSWER_TIMEOUT) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => last = Some(error),
        }
        producer.poll(Duration::ZERO);
        if tries >= TRIES_AFTER_ERROR
            && let Some(error) = producer.context().last_error.reason()
        {
            return Err(error);
        }
    }
    Err(last.map_or_else(String::new, |error| format!("no broker answers ({error})")))
}

/// Keeps the last error of librdkafka.
struct ProbeContext {
    last_error: LastError,
    login: Option<TokenLogin>,
}

impl ProbeContext {
    fn record(&self, code: RDKafkaErrorCode, reason: &str) {
        match &self.login {
            Some(login) => self.last_error.record(code, &login.mask(reason)),
            None => self.last_error.record(code, reason),
        };
    }
}

impl ClientContext for ProbeContext {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", "{facility}: {line}");
        // librdkafka reports no error if the broker closes the connection, only this log line.
        if closed_before_answer(line) {
            let reason = line.split_once("]: ").map_or(line, |(_, reason)| reason);
            self.record(RDKafkaErrorCode::BrokerTransportFailure, reason);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.record(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), reason);
    }
}

impl ProducerContext for ProbeContext {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_at_advertised_and_at_configured_addresses_are_distinguished() {
        let brokers = "one.example.org:9092, PLAINTEXT://two.example.org:9092";
        let advertised = |text| advertised_address_error(text, brokers);
        let said = advertised("10.1.2.3:9092/1: Connect to ipv4#10.1.2.3:9092 failed: refused").unwrap();
        assert!(said.contains("broker 1 advertises the address 10.1.2.3:9092") && said.contains("refused"), "{said}");
        assert_eq!(advertised("one.example.org:9092/bootstrap: Connect failed"), None);
        assert_eq!(advertised("two.example.org:9092/2: Connect failed"), None);
        assert_eq!(advertised("no broker answers"), None);
    }
}
