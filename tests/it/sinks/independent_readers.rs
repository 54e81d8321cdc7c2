//! Readers that share no code with the relay read what it writes: Kafka Connect, and Confluent's deserializers.

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;

use crate::support::readers::{Connect, Deserialized, Deserializer, assert_has_every_field};
use crate::support::{Home, Kafka, Regards, Registry, Response, Services};

#[tokio::test]
async fn kafka_connect_reads_normalized_events() {
    let regards = Regards::new().await;
    let mut topic = Kafka::shared().topic("connect", 1).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { pipeline: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } } }
routes: [{ name: all, to: pipeline }]
unrouted: dead_letter
"#,
    )
    .with_kafka()
    .with("TOPIC", topic.topic());
    let connect = Connect::start(&Services::shared(), topic.topic());
    let relay = home.start_ready().await;
    regards.publish(&Response::new("cnes-a", "c-1", "SUCCESS")).await;
    regards.publish(&Response::new("cnes-\u{e9}", "c-2", "ERROR")).await;
    let written: Vec<_> = topic.wait_for(2).await.iter().map(crate::support::kafka::Record::json).collect();
    let lines = connect.wait_for(2).await;
    for (line, event) in lines.iter().zip(&written) {
        assert!(event["correlationId"].is_string(), "{event}");
        assert_has_every_field(line, event);
    }
    relay.stop().await;
}

/// The deserializers read hand-written records with the registry's prefix.
#[tokio::test]
async fn deserializers_read_the_wire_format_of_registries() {
    let (kafka, registry) = (Kafka::shared(), Registry::shared());
    let url = registry.url();
    let proto = "syntax = \"proto3\";\npackage demo;\nmessage Product { string id = 1; int64 size = 2; }\n";
    let dir = tempfile::tempdir().unwrap();
    let proto_file = dir.path().join("product.proto");
    std::fs::write(&proto_file, proto).unwrap();
    let avro = r#"{"type": "record", "name": "Product", "namespace": "demo",
        "fields": [{"name": "id", "type": "string"}, {"name": "size", "type": ["null", "long"], "default": null}]}"#;
    let json_schema = r#"{"title": "Product", "type": "object", "required": ["id"],
        "properties": {"id": {"type": "string"}, "size": {"type": "integer"}}}"#;
    // The lengths and numbers of Avro are zigzag; the zero byte before Protobuf's fields is the first message of the file.
    let cases: [(&str, &str, &str, &[u8]); 3] = [
        ("avro", "AVRO", avro, b"\x06S1A\x02\x0a"),
        ("json_schema", "JSON", json_schema, br#"{"id": "S1A", "size": 5}"#),
        ("protobuf", "PROTOBUF", proto, b"\0\x0a\x03S1A\x10\x05"),
    ];
    for (format, kind, schema, datum) in cases {
        let topic = kafka.topic(format, 1).await;
        let id = registry.register(&format!("{}-value", topic.topic()), kind, schema).await;
        let record = [&[0][..], &id.to_be_bytes(), datum].concat();
        send(&kafka, topic.topic(), &record).await;
        let schema = (format == "protobuf").then_some(proto_file.as_path());
        let reader = Deserializer { format, registry: Some(&url), schema, message: "Product" };
        let mut value = json!({"id": "S1A", "size": 5});
        if format == "protobuf" {
            value["size"] = "5".into(); // Protobuf's JSON has int64 as text.
        }
        let expected = [Deserialized { schema_id: Some(id), value }];
        assert_eq!(reader.read(&kafka, topic.topic(), 1).await, expected, "{format}");
    }
}

async fn send(kafka: &Kafka, topic: &str, body: &[u8]) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
    let record = FutureRecord::<(), _>::to(topic).payload(body);
    producer.send(record, std::time::Duration::from_secs(30)).await.expect("sent");
}
