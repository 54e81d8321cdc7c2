//! `explain` shows what `run` does: generated messages, generated routes, every kind of sink.

use std::collections::BTreeMap;

use fastrand::Rng;
use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Map, Value, json};

use crate::support::generated::{SINKS, STATUSES, message, rules};
use crate::support::response::json_of;
use crate::support::{Home, Kafka, Rabbit, Receiver, Regards, Response, unique};

const ROUNDS: usize = 4;
const EVENTS: usize = 40;

/// Set this variable to repeat a failed run.
const SEED: &str = "AGREEMENT_SEED";

#[tokio::test]
async fn explain_shows_what_run_delivers() {
    let seed = std::env::var(SEED).map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("{SEED}={seed}");
    let mut rng = Rng::with_seed(seed);
    for _ in 0..ROUNDS {
        round(&mut rng).await;
    }
}

async fn round(rng: &mut Rng) {
    let (regards, partner, kafka) = (Regards::new().await, Rabbit::shared().new_vhost().await, Kafka::shared());
    let receiver = Receiver::start().await;
    partner.exchange("products", ExchangeKind::Topic).await;
    partner.queue("all", FieldTable::default()).await;
    partner.bind("all", "products", "#").await;
    let collected = partner.collect("all").await;
    let stem = unique("agreement");
    let topics: Vec<_> = STATUSES.iter().chain(&["none"]).map(|end| format!("{stem}.{end}")).collect();
    for topic in &topics {
        kafka.create_topic(topic, 1, &[]).await;
    }
    let rules = rules(rng, &receiver.url(), &stem);
    let home = Home::of(&regards, &rules).with_kafka().with("PARTNER", &partner.admin_url());
    let messages: Vec<_> = (0..EVENTS).map(|number| message(rng, number)).collect();
    let lines: Vec<_> = messages.iter().map(Response::sample).collect();
    home.write("samples.ndjson", &lines.join("\n"));
    let explained: Vec<Value> = (1..=EVENTS)
        .map(|line| home.does(&["explain", &format!("samples.ndjson#{line}"), "--json"]))
        .map(|said| serde_json::from_str(&said).expect("a document"))
        .collect();

    let mut expected: BTreeMap<&str, Vec<Value>> = SINKS.map(|sink| (sink, Vec::new())).into();
    let mut dead = Vec::new();
    for explanation in &explained {
        if let Some(letter) = explanation["dead_letter"].as_object() {
            dead.push(json!([null, letter["reason"], letter["detail"]]));
        }
        for delivery in explanation["deliveries"].as_array().expect("a list") {
            let sink = delivery["sink"].as_str().expect("a name");
            match delivery["dead_letter"].as_object() {
                Some(letter) => dead.push(json!([sink, letter["reason"], letter["detail"]])),
                None => expected.get_mut(sink).expect("a sink of the rules").push(sent(delivery)),
            }
        }
    }
    let relay = home.start_ready().await;
    regards.publish_all(&messages).await;
    for (sink, deliveries) in &expected {
        #[allow(clippy::cast_precision_loss, reason = "they are few")]
        let count = deliveries.len() as f64;
        relay.wait_for_metric("deliveries_total", &[("sink", sink), ("result", "delivered")], count).await;
    }
    regards.wait_until_acknowledged().await;
    relay.stop().await;

    let mut reader = kafka.reader(&topics.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut real = BTreeMap::new();
    real.insert("pipeline", reader.all().await.iter().map(record).collect::<Vec<_>>());
    real.insert("on_call", receiver.accepted().iter().map(|posted| request(posted, &receiver.url())).collect());
    let published = collected.wait_for(expected["partner"].len()).await;
    real.insert("partner", published.iter().map(publication).collect());
    real.insert("archive", lines_below(&home.data("")));
    real.insert("screen", home.output().lines().map(|line| json!([{}, {}, line])).collect());
    for sink in SINKS {
        assert_same(sink, &expected[sink], &real[sink], &rules);
    }
    let letters: Vec<_> =
        home.dead_letters().iter().map(|letter| json!([letter["sink"], letter["reason"], letter["detail"]])).collect();
    assert_same("dead letters", &dead, &letters, &rules);
    regards.assert_left_as_found().await;
}

/// Compares the values and their counts, in any order.
fn assert_same(what: &str, expected: &[Value], real: &[Value], rules: &str) {
    let counted = |all: &[Value]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for one in all {
            *counts.entry(one.to_string()).or_default() += 1;
        }
        counts
    };
    let (explained, delivered) = (counted(expected), counted(real));
    let more = |here: &BTreeMap<String, usize>, there: &BTreeMap<String, usize>| {
        let more = here.iter().filter(|(one, count)| there.get(*one).is_none_or(|others| *count > others));
        more.map(|(one, count)| (one.clone(), *count)).collect::<Vec<_>>()
    };
    assert!(
        explained == delivered,
        "{what}, {} explained and {} real:\nexplained more often {:#?}\nreal more often {:#?}\nby\n{rules}",
        expected.len(),
        real.len(),
        more(&explained, &delivered),
        more(&delivered, &explained),
    );
}

/// Returns destination, headers (with the AMQP properties) and body of an explained delivery.
fn sent(delivery: &Value) -> Value {
    let mut headers = delivery["headers"].clone();
    if let Some(properties) = delivery.get("properties") {
        headers = json!([headers, properties]);
    }
    let mut destination = delivery["destination"].clone();
    if let Some(path) = destination.get("path") {
        let (_, path) = path.as_str().expect("a path").split_once("/data/").expect("below the data directory");
        destination = json!({ "path": path });
    }
    destination.as_object_mut().expect("an object").remove("timestamp");
    json!([destination, headers, delivery["body"]])
}

fn record(record: &crate::support::kafka::Record) -> Value {
    let body = String::from_utf8(record.body.clone()).expect("UTF-8");
    json!([{ "topic": record.topic, "key": record.key }, record.headers, body])
}

/// Leaves out the headers that HTTP itself adds and those that depend on the time of the attempt.
fn request(posted: &crate::support::webhook::Posted, url: &str) -> Value {
    let origin = url.strip_suffix("/hooks/regards").expect("the receiver's path");
    let beside = ["webhook-timestamp", "webhook-signature", "host", "content-length", "accept", "user-agent"];
    let headers = posted.headers.iter().filter(|(name, _)| !beside.contains(&name.as_str()));
    let text = |value: &http::HeaderValue| String::from_utf8(value.as_bytes().to_vec()).expect("UTF-8");
    let headers: Map<_, _> = headers.map(|(name, value)| (name.to_string(), text(value).into())).collect();
    let body = String::from_utf8(posted.body.clone()).expect("UTF-8");
    json!([{ "url": format!("{origin}{}", posted.path) }, headers, body])
}

fn publication(message: &crate::support::rabbit::AmqpMessage) -> Value {
    let from = &message.properties;
    let mut headers =
        from.headers().as_ref().map_or(json!({}), |headers| json_of(&AMQPValue::FieldTable(headers.clone())));
    headers.as_object_mut().expect("an object").remove("regards-relay-attempt");
    let mut properties = Map::new();
    for (name, value) in [
        ("app_id", from.app_id()),
        ("correlation_id", from.correlation_id()),
        ("content_type", from.content_type()),
        ("content_encoding", from.content_encoding()),
        ("message_id", from.message_id()),
        ("type", from.kind()),
        ("reply_to", from.reply_to()),
        ("user_id", from.user_id()),
        ("expiration", from.expiration()),
    ] {
        properties.extend(value.as_ref().map(|value| (name.to_owned(), value.as_str().into())));
    }
    properties.extend(from.timestamp().map(|value| ("timestamp".to_owned(), value.into())));
    properties.extend(from.priority().map(|value| ("priority".to_owned(), value.into())));
    properties.extend(from.delivery_mode().map(|value| ("delivery_mode".to_owned(), value.into())));
    let body = String::from_utf8(message.body.clone()).expect("UTF-8");
    json!([{ "exchange": "products", "routingKey": message.routing_key }, [headers, properties], body])
}

/// Returns each line of each file that the file sink wrote.
fn lines_below(data: &std::path::Path) -> Vec<Value> {
    let mut all = Vec::new();
    for tenant in std::fs::read_dir(data).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let Ok(files) = std::fs::read_dir(&tenant) else { continue };
        for file in files.map(|entry| entry.expect("an entry").path()) {
            let path = file.strip_prefix(data).expect("below it").display().to_string();
            let text = std::fs::read_to_string(&file).expect("UTF-8");
            all.extend(text.lines().map(|line| json!([{ "path": path }, {}, line])));
        }
    }
    all
}
