//! Tests of the tests' own clients, without a relay: a failing test must not be their fault.

use futures_util::FutureExt;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use rdkafka::producer::{FutureProducer, FutureRecord};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::rabbit::{ANSWER_WITHIN, open_channel};
use crate::support::raw_amqp::{DEEPEST, Login, publish_nested};
use crate::support::regards::{DEAD_LETTER_QUEUE, EXCHANGE};
use crate::support::{Answer, Kafka, Proxy, Rabbit, Receiver, Regards, Registry, Response, Services, relay, unique};

#[tokio::test]
async fn a_partner_may_read_one_queue_and_nothing_else() {
    let regards = Regards::new().await;
    regards.publish(&Response::new("cnes-a", "c-1", "GRANTED")).await;
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 1);

    let partner = Connection::connect(&regards.url(), ConnectionProperties::default()).await.unwrap();
    let channel = partner.create_channel().await.unwrap();
    let got = channel.basic_get(regards.queue.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap();
    let message = got.unwrap().delivery;
    assert_eq!(message.properties.app_id().as_ref().unwrap().as_str(), "rs-lta-manager");
    assert!(message.properties.headers().as_ref().unwrap().inner().contains_key("__TypeId__"));

    let forbidden = channel.basic_get(DEAD_LETTER_QUEUE.into(), BasicGetOptions::default()).await;
    assert!(format!("{:?}", forbidden.unwrap_err()).contains("ACCESS_REFUSED"));
    let channel = partner.create_channel().await.unwrap();
    let declared = channel.queue_declare("x".into(), QueueDeclareOptions::default(), FieldTable::default()).await;
    assert!(format!("{:?}", declared.unwrap_err()).contains("ACCESS_REFUSED"));
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_silent_broker_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://guest:guest@{}", silent.local_addr().unwrap());
    let opened = tokio::time::timeout(2 * ANSWER_WITHIN, open_channel(&url)).await;
    assert!(opened.expect("given up in time").is_err());
}

#[tokio::test]
async fn what_is_published_is_collected() {
    let vhost = Rabbit::shared().new_vhost().await;
    vhost.exchange(EXCHANGE, ExchangeKind::Fanout).await;
    vhost.queue("q", FieldTable::default()).await;
    vhost.bind("q", EXCHANGE, "").await;
    let regards = Regards::in_vhost(vhost.clone()).await;
    let collected = vhost.collect("q").await;
    let responses: Vec<_> = (0..2_000).map(|n| Response::new("t", &format!("c-{n}"), "SUCCESS")).collect();
    regards.publish_all(&responses).await;
    let messages = collected.wait_for(2_000).await;
    assert_eq!(messages[1_999].body, responses[1_999].body);
    assert_eq!(messages[0].header("regards.tenant").as_deref(), Some("t"));
}

#[tokio::test]
async fn unacknowledged_messages_are_counted() {
    let regards = Regards::new().await;
    regards.publish(&Response::new("t", "c", "GRANTED")).await;
    let channel = regards.vhost.channel().await;
    let got = channel.basic_get(regards.queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    regards.vhost.wait_for_unacknowledged(&regards.queue, 1).await;
    drop((got, channel));
}

#[tokio::test]
async fn a_header_fills_a_frame_with_arrays_or_tables() {
    let regards = Regards::new().await;
    let services = regards.vhost.rabbit().services().clone();
    let vhost = regards.vhost.name().to_owned();
    let publish = tokio::task::spawn_blocking(move || {
        let login = Login {
            port: services.amqp_port(),
            vhost: &vhost,
            user: services.amqp_user(),
            password: services.amqp_password(),
        };
        for nested in DEEPEST {
            publish_nested(&login, EXCHANGE, "cnes-a", nested, b"{}");
        }
    });
    publish.await.unwrap();
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 2);
    regards.vhost.delete_queue(&regards.queue).await;
}

#[tokio::test]
async fn what_is_produced_is_read_once_and_to_the_end() {
    let kafka = Kafka::shared();
    let mut reader = kafka.topic("harness", 3).await;
    let mut config = rdkafka::ClientConfig::new();
    let producer: FutureProducer = config.set("bootstrap.servers", &kafka.brokers).create().unwrap();
    for number in 0..20 {
        let (key, body) = (format!("k{number}"), format!("{{\"n\":{number}}}"));
        let record = FutureRecord::to(reader.topic()).key(&key).payload(&body);
        producer.send(record, std::time::Duration::from_secs(10)).await.unwrap();
    }
    assert!(reader.wait_for(5).await.len() >= 5);
    assert_eq!(reader.all().await.len(), 20);
    assert_eq!(reader.all().await.len(), 20);
    assert!(reader.records().iter().any(|record| record.key.as_deref() == Some("k7")));
}

#[tokio::test]
async fn a_receiver_answers_as_told_and_comes_back() {
    let mut receiver = Receiver::start().await;
    let client = reqwest::Client::new();
    let post = || client.post(receiver.url()).body("{}").send();
    assert_eq!(post().await.unwrap().status(), 204);
    receiver.answers(|_| Answer::StatusWith(429, "retry-after", "1".to_owned()));
    let refused = post().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));

    receiver.answers(|_| Answer::Status(200));
    receiver.hold();
    let mut waiting = tokio::spawn(post());
    receiver.wait_for_posted(3).await;
    assert!((&mut waiting).now_or_never().is_none());
    receiver.release();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
    assert_eq!(receiver.accepted().len(), 2);
    assert_eq!(receiver.most_in_flight(), 1);

    let url = receiver.url();
    receiver.go_down().await;
    assert!(client.post(&url).send().await.is_err());
    receiver.come_back().await;
    assert_eq!(client.post(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_proxy_holds_cuts_and_comes_back() {
    let vhost = Rabbit::shared().new_vhost().await;
    let services = Services::shared();
    let mut proxy = Proxy::to(services.amqp_port()).await;
    let url = vhost.url_at(services.amqp_user(), services.amqp_password(), proxy.port());
    let connect = || Connection::connect(&url, ConnectionProperties::default());
    connect().await.unwrap();
    proxy.go_down().await;
    connect().await.unwrap_err();
    proxy.come_back().await;
    proxy.hold();
    let (url, waiting) = (url.clone(), ());
    let mut connecting = tokio::spawn(async move { Connection::connect(&url, ConnectionProperties::default()).await });
    assert!((&mut connecting).now_or_never().is_none());
    proxy.release();
    connecting.await.unwrap().unwrap();
    let () = waiting;
}

#[tokio::test]
async fn a_private_broker_keeps_its_messages_over_a_restart() {
    let private = Services::private(&["rabbitmq"]).await;
    let regards = Regards::in_vhost(Rabbit::of(private.services()).new_vhost().await).await;
    regards.publish(&Response::new("t", "c", "GRANTED")).await;
    private.stop("rabbitmq").await;
    assert!(regards.vhost.try_channel().await.is_err());
    private.start("rabbitmq").await;
    assert_eq!(regards.vhost.left_in(&regards.queue).await, 1);
}

#[test]
fn metrics_are_added_up_by_name_and_labels() {
    let text = "# TYPE a counter\na_total{sink=\"x\",result=\"retry\"} 2\na_total{sink=\"y\",result=\"retry\"} 3\na_totals 9\nb 0\n";
    assert_eq!(relay::sum_of(text, "a_total", &[("result", "retry")]), Some(5.0));
    assert_eq!(relay::sum_of(text, "a_total", &[("sink", "y")]), Some(3.0));
    assert_eq!(relay::sum_of(text, "b", &[]), Some(0.0));
    assert_eq!(relay::sum_of(text, "c", &[]), None);
}

#[tokio::test]
async fn the_registry_refuses_an_incompatible_version() {
    let registry = Registry::shared();
    let subject = format!("{}-value", unique("harness"));
    assert_eq!(registry.latest(&subject).await, None);
    let record = |fields: &str| {
        format!(r#"{{"type": "record", "name": "Product", "fields": [{{"name": "id", "type": "string"}}{fields}]}}"#)
    };
    let id = registry.register(&subject, "AVRO", &record("")).await;
    assert_eq!(registry.register(&subject, "AVRO", &record("")).await, id, "the same schema");
    registry.set_compatibility(&subject, "FULL_TRANSITIVE").await;
    let optional = record(r#", {"name": "size", "type": ["null", "long"], "default": null}"#);
    let second = registry.register(&subject, "AVRO", &optional).await;
    assert_eq!(registry.schema(second).await.parse::<Value>().unwrap(), optional.parse::<Value>().unwrap());

    let required = json!({"schema": record(r#", {"name": "size", "type": "long"}"#)});
    let path = format!("subjects/{subject}/versions?normalize=true");
    let (status, answer) = registry.ask(Method::POST, &path, Some(&required)).await;
    assert_eq!((status, answer["error_code"].as_u64()), (StatusCode::CONFLICT, Some(409)), "{answer}");
    assert_eq!(registry.versions(&subject).await, [1, 2]);
    assert_eq!(registry.latest(&subject).await.unwrap()["id"], second);
}
