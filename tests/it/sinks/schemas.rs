//! Bodies that a schema encodes, as other libraries read them.

use serde_json::Value;

use crate::support::kafka::Record;
use crate::support::{Home, Kafka, Regards, Response};

const ROUTES: &str = configuration! {
    sinks: {
        avro: r#"{ kafka: { brokers: "${KAFKA}", topic: "${AVRO}" }, format: { avro: {} } }"#,
        proto: r#"{ kafka: { brokers: "${KAFKA}", topic: "${PROTO}" }, format: { protobuf: {} } }"#,
        json: r#"{ kafka: { brokers: "${KAFKA}", topic: "${JSON}" }, format: { json_schema: {} } }"#,
    },
};

#[tokio::test]
async fn events_in_kafka_are_read_by_the_schemas_that_are_printed() {
    let (regards, kafka) = (Regards::new().await, Kafka::shared());
    let [mut avro, mut proto, mut json] =
        [kafka.topic("avro", 1).await, kafka.topic("proto", 1).await, kafka.topic("json", 1).await];
    let home = Home::of(&regards, ROUTES).with_kafka();
    let home = home.with("AVRO", avro.topic()).with("PROTO", proto.topic()).with("JSON", json.topic());
    let relay = home.start_ready().await;
    let published = [
        Response::new("cnes-a", "c-1", "GRANTED"),
        Response::new("esa", "c-2", "ERROR").field("message", "no quota left").field("size", 4).field("session", 7),
    ];
    regards.publish_all(&published).await;

    let events: Vec<Value> = json.wait_for(2).await.iter().map(Record::json).collect();
    let as_text: Vec<Value> = events.iter().map(with_extra_as_text).collect();
    let schema = apache_avro::Schema::parse_str(&home.does(&["schema", "avro"])).expect("a schema");
    let records = avro.wait_for(2).await;
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().expect("a reader");
    let read = records.iter().map(|record| reader.read_value(&mut &record.body[..]).expect("a datum"));
    assert_eq!(read.map(|value| Value::try_from(value).expect("JSON")).collect::<Vec<_>>(), as_text);
    let types: Vec<_> = records.iter().map(|record| record.headers["content-type"].as_str()).collect();
    assert_eq!(types, ["application/vnd.apache.avro"; 2]);

    let message = message_of(&home.does(&["schema", "protobuf"]));
    for (record, event) in proto.wait_for(2).await.iter().zip(&as_text) {
        assert_eq!(record.headers["content-type"], "application/x-protobuf");
        let read = prost_reflect::DynamicMessage::decode(message.clone(), &record.body[..]).expect("a message");
        let read = serde_json::to_value(read).expect("JSON");
        let present = event.as_object().expect("an object").iter().filter(|(_, value)| !is_default(value));
        assert_eq!(read, present.map(|(name, value)| (name.clone(), value.clone())).collect::<Value>());
    }
    relay.stop().await;
}

fn with_extra_as_text(event: &Value) -> Value {
    let mut event = event.clone();
    event["extra"] = event["extra"].to_string().into();
    event
}

/// What Protobuf leaves out.
fn is_default(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn message_of(proto: &str) -> prost_reflect::MessageDescriptor {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("event.proto"), proto).expect("written");
    let files = protox::compile(["event.proto"], [dir.path()]).expect("a .proto file");
    let pool = prost_reflect::DescriptorPool::from_file_descriptor_set(files).expect("descriptors");
    pool.get_message_by_name("fr.cnes.regards.relay.Event").expect("the message")
}

const PARTNER: &str = configuration! {
    sinks: {
        partner: r#"{ kafka: { brokers: "${KAFKA}", topic: "${PRODUCTS}" }, format: { avro: { schema: partner.avsc } }, body: '{"id": {{ correlationId | tojson }}, "size": {{ extra.size | tojson }}}' }"#,
    },
};

#[tokio::test]
async fn a_value_that_does_not_fit_the_schema_is_a_dead_letter_with_its_path() {
    let (regards, kafka) = (Regards::new().await, Kafka::shared());
    let mut products = kafka.topic("products", 1).await;
    let home = Home::of(&regards, PARTNER).with_kafka().with("PRODUCTS", products.topic());
    let fields =
        r#"[{"name":"id","type":"string"},{"name":"size","type":"int"},{"name":"by","type":"string","default":"x"}]"#;
    let schema = format!(r#"{{"type":"record","name":"P","fields":{fields}}}"#);
    home.write("partner.avsc", &schema);
    let relay = home.start_ready().await;
    let sized = |id: &str, size: Value| Response::new("t", id, "ERROR").field("size", size);
    regards.publish_all(&[sized("c-1", "large".into()), sized("c-2", 7.into())]).await;
    let [record] = products.wait_for(1).await else { panic!("one record") };
    assert_eq!(record.body, [6, b'c', b'-', b'2', 14, 2, b'x']);
    relay.wait_for_metric("dead_letters_total", &[("reason", "render_failed")], 1.0).await;
    let [letter] = &home.dead_letters()[..] else { panic!("one dead letter: {:?}", home.dead_letters()) };
    assert_eq!(letter["detail"], "body: size: found text, expected int");

    // A changed schema takes effect by itself.
    home.write("partner.avsc", &schema.replace(r#""type":"int""#, r#""type":["int","string"]"#));
    relay.wait_for_metric("config_reloads_total", &[("result", "success")], 1.0).await;
    assert_eq!(home.does(&["dead-letters", "redrive", "--json"]), r#"{"redriven":1,"sinks":{"partner":1},"left":{}}"#);
    let [_, record] = products.wait_for(2).await else { panic!("two records") };
    assert_eq!(record.body, [6, b'c', b'-', b'1', 2, 10, b'l', b'a', b'r', b'g', b'e', 2, b'x']);
    relay.stop().await;
}
