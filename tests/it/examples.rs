//! The files of `examples/` between real brokers: each of the three uses in the README works as described.

use std::path::Path;

use lapin::ExchangeKind;
use lapin::types::{FieldTable, ShortString};
use serde_json::Value;

use crate::support::kafka::Record;
use crate::support::readers::{Connect, Deserializer};
use crate::support::response::JAVA_TYPE;
use crate::support::{Home, Kafka, Rabbit, Receiver, Regards, Registry, Response, Services, lines_of, unique};

const SECRET: &str = "whsec_cmVnYXJkcy1yZWxheS10ZXN0LXNlY3JldA==";

#[tokio::test]
async fn kafka_pipeline() {
    let regards = Regards::new().await;
    // The topic names contain the tenants, so unique tenants give this test topics of its own.
    let (one, other) = (unique("one"), unique("other"));
    let mut topics = Topics::of(&[
        format!("regards.{one}"),
        format!("regards.{other}"),
        format!("regards.{one}.error"),
        format!("regards.{other}.denied"),
    ])
    .await;
    let home = example(&regards, "kafka-pipeline.yaml").with("KAFKA_BROKERS", &Kafka::shared().brokers);
    let relay = home.start_ready().await;

    let published = [
        Response::new(&one, "c-1", "GRANTED"),
        Response::new(&one, "c-2", "GRANTED"),
        Response::new(&other, "c-1", "DENIED"),
        Response::new(&one, "c-1", "SUCCESS"),
        Response::new(&one, "c-2", "ERROR"),
    ];
    regards.publish_all(&published).await;
    topics.reader.wait_for(7).await;
    relay.stop().await;

    assert_eq!(topics.all().await, 7);
    let lives = |topic: &str, of: &str| -> Vec<String> {
        let records = topics.records(topic).into_iter().filter(|record| record.key.as_deref() == Some(of));
        records.map(|record| record.json()["status"].as_str().expect("a status").to_owned()).collect()
    };
    assert_eq!(lives(&format!("regards.{one}"), "c-1"), ["GRANTED", "SUCCESS"]);
    assert_eq!(lives(&format!("regards.{one}"), "c-2"), ["GRANTED", "ERROR"]);
    assert_eq!(lives(&format!("regards.{other}"), "c-1"), ["DENIED"]);
    assert_eq!(lives(&format!("regards.{one}.error"), "c-2"), ["ERROR"]);
    assert_eq!(lives(&format!("regards.{other}.denied"), "c-1"), ["DENIED"]);
    assert_all_delivered(&regards, &home).await;
}

#[tokio::test]
async fn kafka_avro() {
    let (regards, registry) = (Regards::new().await, Registry::shared());
    let url = registry.url();
    let topic = Kafka::shared().topic("events", 1).await;
    let home = example(&regards, "kafka-avro.yaml").with("KAFKA_BROKERS", &Kafka::shared().brokers);
    let home = home.with("REGISTRY_URL", &url);
    home.write(
        "routes.yaml",
        &home.read("routes.yaml").replace("topic: regards.events", &format!("topic: {}", topic.topic())),
    );
    assert_checked_as_on_its_page(&home, topic.topic(), &regards.queue);
    let connect = Connect::of_example(&Services::shared(), topic.topic());
    let relay = home.start_ready().await;
    let of_status = |status| Response::new("cnes-a", "my-1", status).field("productId", "P1");
    regards.publish_all(&[of_status("GRANTED"), of_status("SUCCESS")]).await;
    let reader = Deserializer { format: "avro", registry: Some(&url), schema: None, message: "" };
    let read = reader.read(&Kafka::shared(), topic.topic(), 2).await;
    let lines = connect.wait_for(2).await;
    relay.stop().await;
    let statuses: Vec<_> = read.iter().map(|record| &record.value["status"]).collect();
    assert_eq!(statuses, ["GRANTED", "SUCCESS"]);
    for (line, of_page) in lines.iter().zip(of_kafka_page().lines().filter(|line| line.starts_with("Struct{"))) {
        // The ids differ, and this response has a time.
        let fields = of_page.split(',').skip(1).take_while(|field| !field.starts_with("extra"));
        assert!(
            fields.clone().count() == 7 && line.contains(&fields.collect::<Vec<_>>().join(",")),
            "{line}: {of_page}"
        );
    }
    assert_eq!(registry.versions(&format!("{}-value", topic.topic())).await.len(), 1);
    assert_all_delivered(&regards, &home).await;
}

#[tokio::test]
async fn slack_digest() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = example(&regards, "slack-digest.yaml").with("SLACK_URL", &receiver.url());
    // The example waits for 30 seconds.
    home.write("routes.yaml", &home.read("routes.yaml").replace("max: 1000", "max: 12"));
    let relay = home.start_ready().await;
    let errors = (1..=12).map(|number| {
        Response::new("cnes-a", &format!("c-{number}"), "ERROR")
            .field("productId", Value::Null)
            .field("message", "no quota <left>")
    });
    regards.publish_all(&errors.collect::<Vec<_>>()).await;
    let posted = receiver.wait_for_accepted(1).await;
    relay.stop().await;
    let text = posted[0].json()["text"].as_str().expect("a text").to_owned();
    let lines: Vec<_> = (1..=5).map(|number| format!("• c-{number}: no quota &lt;left&gt;")).collect();
    assert_eq!(text, format!("12 errors of cnes-a in 30 s:\n{}\n… and 7 more", lines.join("\n")));
    assert_all_delivered(&regards, &home).await;
}

#[tokio::test]
async fn webhook_on_error() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = example(&regards, "webhook-on-error.yaml")
        .with("WEBHOOK_URL", &receiver.url())
        .with("WEBHOOK_SECRET", SECRET)
        .keeping_secret(SECRET);
    let relay = home.start_ready().await;

    regards
        .publish_all(&[
            Response::new("cnes-a", "c-1", "GRANTED"),
            Response::new("cnes-a", "c-1", "ERROR").field("message", "the \"disk\" is full"),
            Response::new("cnes-a", "c-2", "SUCCESS"),
            Response::new("cnes-a", "c-3", "ERROR").field("session", "test-17"),
            Response::new("esa", "c-4", "DENIED"),
        ])
        .await;
    receiver.wait_for_accepted(2).await;
    // The relay receives all messages and delivers them before it stops, so any surplus request has arrived by then.
    relay.wait_for_metric("messages_received_total", &[("source", "regards")], 5.0).await;
    relay.stop().await;

    let posted = receiver.posted();
    let texts: Vec<String> =
        posted.iter().map(|posted| posted.json()["text"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    for text in ["REGARDS cnes-a: ERROR for c-1: the \"disk\" is full", "REGARDS esa: DENIED for c-4: no cause given"] {
        assert!(texts.iter().any(|posted| posted == text), "{text} is missing in {texts:?}");
    }
    for request in &posted {
        request.assert_signed_with(SECRET);
    }
    assert_all_delivered(&regards, &home).await;
}

#[tokio::test]
async fn reroute_by_tenant() {
    let regards = Regards::new().await;
    let esa = Rabbit::shared().new_vhost().await;
    esa.exchange("partner.products", ExchangeKind::Topic).await;
    esa.queue("products", FieldTable::default()).await;
    esa.bind("products", "partner.products", "esa.*").await;
    let products = esa.collect("products").await;
    let tenant = unique("cnes");
    let mut topics = Topics::of(&[format!("regards.{tenant}")]).await;
    let home = example(&regards, "reroute-by-tenant.yaml")
        .with("ESA_AMQP_URL", &esa.admin_url())
        .with("KAFKA_BROKERS", &Kafka::shared().brokers);
    let relay = home.start_ready().await;

    let to_esa = Response::new("esa", "c-1", "SUCCESS");
    regards
        .publish_all(&[
            to_esa.clone(),
            Response::new(&tenant, "c-2", "GRANTED"),
            Response::new("test-a", "c-3", "ERROR"),
        ])
        .await;
    products.wait_for(1).await;
    topics.reader.wait_for(1).await;
    relay.wait_for_metric("deliveries_total", &[("sink", "tests"), ("result", "delivered")], 1.0).await;
    relay.stop().await;

    let messages = products.all();
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0].routing_key, "esa.SUCCESS");
    assert_eq!(messages[0].body, to_esa.body, "the bytes as they came");
    assert_eq!(messages[0].header("regards.tenant").as_deref(), Some("esa"));
    assert_eq!(messages[0].header("regards.type").as_deref(), Some(JAVA_TYPE));
    let kind = messages[0].properties.content_type().as_ref().map(ShortString::as_str);
    assert_eq!(kind, Some("application/json"));

    assert_eq!(topics.all().await, 1);
    assert_eq!(topics.records(&format!("regards.{tenant}"))[0].key.as_deref(), Some("c-2"));
    let tests = lines_of(home.data("tests/test-a.ndjson"));
    let ids: Vec<&Value> = tests.iter().map(|event| &event["correlationId"]).collect();
    assert_eq!(ids, ["c-3"]);
    assert_all_delivered(&regards, &home).await;
}

/// Loads a file of `examples/` and connects it to the test brokers only through its variables.
fn example(regards: &Regards, name: &str) -> Home {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let routes = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Home::of(regards, &routes)
        .with("REGARDS_AMQP_URL", &regards.vhost.url_for("nobody", "nothing"))
        .with("REGARDS_USERNAME", &regards.user)
        .with("REGARDS_PASSWORD", &regards.password)
        .with("REGARDS_QUEUE", &regards.queue)
}

fn of_kafka_page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kafka.md")).expect("the page")
}

/// What `check --connect` prints is on the page, but for the names of this test.
fn assert_checked_as_on_its_page(home: &Home, topic: &str, queue: &str) {
    let checked = home.run(&["check", "--connect"]);
    let said = String::from_utf8_lossy(&checked.stderr)
        .replace(topic, "regards.events")
        .replace(queue, "partner.lta.responses");
    let page = of_kafka_page();
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("ok: ")).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| page.lines().any(|of_page| of_page == *line)), "{said}");
}

async fn assert_all_delivered(regards: &Regards, home: &Home) {
    assert!(home.dead_letters().is_empty(), "{:?}", home.dead_letters());
    regards.assert_left_as_found().await;
}

/// Reads the records of the topics of one test.
struct Topics {
    reader: crate::support::kafka::Reader,
}

impl Topics {
    async fn of(names: &[String]) -> Self {
        let kafka = Kafka::shared();
        for name in names {
            kafka.create_topic(name, 2, &[]).await;
        }
        Self { reader: kafka.reader(&names.iter().map(String::as_str).collect::<Vec<_>>()).await }
    }

    /// Reads all topics to the end and returns the number of records.
    async fn all(&mut self) -> usize {
        self.reader.all().await.len()
    }

    fn records(&self, topic: &str) -> Vec<&Record> {
        self.reader.records().iter().filter(|record| record.topic == topic).collect()
    }
}
