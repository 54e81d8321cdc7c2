//! Whether the brokers answer, the topic is there, and those that lead its partitions can be reached, with nothing produced.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{Metadata, MetadataBroker};
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::settings::{explain, settings};
use super::trouble::{AUTO_CREATE, Trouble};
use super::words::is_closed_at_once;
use crate::config::KafkaConfig;
use crate::probe::{ProbeOutcome, ProbeResult};

/// How often the brokers are asked, and how long each time …
const TRIES: u32 = 10;
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// … but no more often than this where librdkafka has said what is wrong: that one broker is down says nothing of others.
const TRIES_IN_TROUBLE: u32 = 3;

/// Brokers that are tried by the addresses they advertise, at most, all at once, and how long each address gets.
const MAX_LEADERS: usize = 64;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Addresses of one name that are tried, at most.
const MAX_ADDRESSES: usize = 8;

/// Logs in and asks for the topics there are. Whether they may be written to, only producing could tell.
pub(in crate::sink) async fn probe(kafka: &KafkaConfig, relay: &str) -> ProbeResult {
    let (kafka, client) = (kafka.clone(), relay.to_owned());
    let asked = tokio::task::spawn_blocking(move || ask(&kafka, &client)).await;
    let (found, leaders) = asked.unwrap_or_else(|error| Err(error.to_string()))?;
    let tried = leaders.into_iter().map(|leader| async move {
        let cause = connect(&leader.host, leader.port).await.err()?;
        Some(unreachable(&leader.id.to_string(), &format!("{}:{}", leader.host, leader.port), &cause))
    });
    match futures_util::future::join_all(tried).await.into_iter().flatten().next() {
        Some(unreachable) => Err(unreachable),
        None => Ok(found),
    }
}

fn unreachable(id: &str, address: &str, cause: &str) -> String {
    format!(
        "the brokers answer, but broker {id} advertises the address {address}, which can't be reached from here: {cause}; its \
         `advertised.listeners` has to name one that can"
    )
}

/// What librdkafka complains of where it has left the address in the file for one that the broker advertises: `HOST:PORT/ID: cause`.
/// Before a broker is known, its id is `bootstrap`.
fn of_advertised(complaint: &str, brokers: &str) -> Option<String> {
    let (broker, cause) = complaint.split_once(": ")?;
    let (address, id) = broker.rsplit_once('/')?;
    let is_known = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    let is_configured = brokers.split(',').any(|broker| broker.trim().ends_with(address));
    (is_known && !is_configured).then(|| unreachable(id, address, cause))
}

/// A broker that leads a partition, by the address that it advertises: records go there, and not to the addresses in the file.
struct Leader {
    id: i32,
    host: String,
    port: u16,
}

/// Blocks.
fn ask(kafka: &KafkaConfig, client: &str) -> Result<(ProbeOutcome, Vec<Leader>), String> {
    let mut settings = settings(kafka, client)?;
    settings.set_log_level(RDKafkaLogLevel::Info);
    let producer: BaseProducer<Complaints> =
        ClientConfig::create_with_context(&settings, Complaints::default()).map_err(|error| explain(&error))?;
    let metadata =
        metadata(&producer).map_err(|complaint| of_advertised(&complaint, &kafka.brokers).unwrap_or(complaint))?;
    let brokers = metadata.brokers().len();
    let Some(topic) = kafka.topic.fixed() else {
        let found = ProbeOutcome::Reachable(format!(
            "the brokers answer (brokers: {brokers}); not tried: the topics, whose names are made of events, and the right to write to them"
        ));
        return Ok((found, leaders(&metadata, |_| true)));
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        let found = ProbeOutcome::Warning(format!(
            "the brokers answer, but show no topic {topic}: create it, and allow the user to write to it ({AUTO_CREATE})"
        ));
        return Ok((found, leaders(&metadata, |_| true)));
    };
    let partitions = found.partitions();
    let leaders = leaders(&metadata, |broker| partitions.iter().any(|partition| partition.leader() == broker));
    let found = ProbeOutcome::Reachable(format!(
        "topic {topic} is there (partitions: {}, brokers: {brokers}); not tried: the right to write to it",
        partitions.len()
    ));
    Ok((found, leaders))
}

/// The brokers that are needed.
fn leaders(metadata: &Metadata, is_needed: impl Fn(i32) -> bool) -> Vec<Leader> {
    let needed = metadata.brokers().iter().filter(|broker| is_needed(broker.id()));
    let leader = |broker: &MetadataBroker| {
        let port = u16::try_from(broker.port()).ok()?;
        Some(Leader { id: broker.id(), host: broker.host().to_owned(), port })
    };
    needed.filter_map(leader).take(MAX_LEADERS).collect()
}

/// To any of the addresses that the name has; each gets its time.
async fn connect(host: &str, port: u16) -> Result<(), String> {
    let found = timeout(CONNECT_WITHIN, lookup_host((host, port))).await;
    let addresses =
        found.map_err(|_| "the name isn't resolved in time".to_owned())?.map_err(|error| error.to_string())?;
    let mut cause = "the name has no address".to_owned();
    for address in addresses.take(MAX_ADDRESSES) {
        match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => cause = error.to_string(),
            Err(_) => cause = format!("no answer within {CONNECT_WITHIN:?}"),
        }
    }
    Err(cause)
}

/// Of all topics: to ask for one could create it.
fn metadata(producer: &BaseProducer<Complaints>) -> Result<Metadata, String> {
    let mut last = None;
    for tries in 1..=TRIES {
        match producer.client().fetch_metadata(None, ANSWER_WITHIN) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => last = Some(error),
        }
        producer.poll(Duration::ZERO);
        if tries >= TRIES_IN_TROUBLE
            && let Some(complaint) = producer.context().0.last()
        {
            return Err(complaint);
        }
    }
    Err(last.map_or_else(String::new, |error| format!("no broker answers: {error}")))
}

/// What librdkafka says is wrong.
#[derive(Default)]
struct Complaints(Trouble);

impl ClientContext for Complaints {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, line: &str) {
        tracing::debug!(target: "librdkafka", facility, "{line}");
        // Of a connection that the broker closes librdkafka makes no error, only this line.
        if is_closed_at_once(line) {
            let reason = line.split_once("]: ").map_or(line, |(_, reason)| reason);
            self.0.note(RDKafkaErrorCode::BrokerTransportFailure, reason);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.note(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown), reason);
    }
}

impl ProducerContext for Complaints {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &rdkafka::message::DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_of_an_advertised_address_is_told_from_one_of_an_address_in_the_file() {
        let brokers = "one.example.org:9092, PLAINTEXT://two.example.org:9092";
        let advertised = |complaint| of_advertised(complaint, brokers);
        let said = advertised("10.1.2.3:9092/1: Connect to ipv4#10.1.2.3:9092 failed: refused").unwrap();
        assert!(said.contains("broker 1 advertises the address 10.1.2.3:9092") && said.contains("refused"), "{said}");
        assert_eq!(advertised("one.example.org:9092/bootstrap: Connect failed"), None);
        assert_eq!(advertised("two.example.org:9092/2: Connect failed"), None);
        assert_eq!(advertised("no broker answers"), None);
    }
}
