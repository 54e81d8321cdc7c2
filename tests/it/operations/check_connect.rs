//! `check --connect` connects to every source and sink, and takes, sends and creates nothing.

use std::process::Output;

use lapin::ExchangeKind;
use lapin::options::BasicGetOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::sinks::secure_connections::receiver_signed_by;
use crate::support::{Home, Kafka, Regards, Response, Services, unique};

const SOURCE: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
"#;

/// A configuration with these sinks and one route to all of them.
fn routes(sinks: &[(&str, &str)]) -> String {
    let names: Vec<&str> = sinks.iter().map(|(name, _)| *name).collect();
    let sinks: Vec<String> = sinks.iter().map(|(name, sink)| format!("  {name}: {sink}\n")).collect();
    format!("{SOURCE}sinks:\n{}routes: [{{ name: all, to: [{}] }}]\nunrouted: drop\n", sinks.concat(), names.join(", "))
}

/// Returns the results for the sources and sinks, which follow the result for the file.
fn said(output: &Output) -> Vec<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines().skip_while(|line| !line.contains("1 source, ")).skip(1).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn existing_objects_are_found_without_side_effects() {
    let regards = Regards::new().await;
    let vhost = &regards.vhost;
    vhost.exchange("products", ExchangeKind::Topic).await;
    let mut topic = Kafka::shared().topic("checked", 3).await;
    let absent = unique("not-yet");
    let directory = tempfile::tempdir().unwrap();
    let hook = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = receiver_signed_by(&directory.path().join("ca.pem")).await;
    let home = Home::of(
        &regards,
        &routes(&[
            ("pipeline", r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } }"#),
            ("by_tenant", r#"{ kafka: { brokers: "${KAFKA}", topic: "regards.{{ tenant }}" } }"#),
            ("absent", r#"{ kafka: { brokers: "${KAFKA}", topic: "${ABSENT}" } }"#),
            ("hook", r#"{ webhook: { url: "${HOOK}" } }"#),
            ("secure", r#"{ webhook: { url: "${SECURE}", tls: { ca: "${CA}" } } }"#),
            ("partner", r#"{ amqp: { url: "${PARTNER}", exchange: products, routing_key: x } }"#),
            ("own", r#"{ amqp: { url: "${PARTNER}", exchange: own, routing_key: x, declare: { type: topic } } }"#),
            ("archive", "{ file: { path: archive.ndjson } }"),
            ("screen", "{ stdout: {} }"),
        ]),
    )
    .with_kafka()
    .with("TOPIC", topic.topic())
    .with("ABSENT", &absent)
    .with("HOOK", &format!("http://127.0.0.1:{}/hook", hook.local_addr().unwrap().port()))
    .with("SECURE", &secure.url())
    .with("CA", &directory.path().join("ca.pem").display().to_string())
    .with("PARTNER", &vhost.admin_url());
    regards.publish_all(&[Response::new("t", "one", "GRANTED"), Response::new("t", "two", "SUCCESS")]).await;

    let sent = tokio::spawn(async move {
        let mut bytes = Vec::new();
        hook.accept().await.unwrap().0.read_to_end(&mut bytes).await.unwrap();
        bytes
    });
    let plain = home.run(&["check", "--connect"]);
    let queue = &regards.queue;
    let name = topic.topic();
    let data = home.data("").parent().unwrap().display().to_string();
    let expected = [
        format!("ok: source regards: queue {queue} exists (messages: 2, consumers: 0)"),
        format!("ok: sink pipeline: topic {name} exists (partitions: 3, brokers: 1); not tested: the permission to write to it"),
        "ok: sink by_tenant: the brokers answer (brokers: 1); not tested: the topics, whose names depend on the event, and the permission to write to them".to_owned(),
        format!(
            "warning: sink absent: the brokers answer, but have no topic {absent} that the user may see: create the topic, and allow the user to write to it (the relay asks the brokers to create topics only with `options: {{ allow.auto.create.topics: true }}`)"
        ),
        "ok: sink hook: the receiver can be connected to".to_owned(),
        "ok: sink secure: the receiver can be connected to, and its certificate is trusted".to_owned(),
        "ok: sink partner: exchange products exists".to_owned(),
        "ok: sink own: exchange own doesn't exist yet; the relay declares it when it connects".to_owned(),
        format!("ok: sink archive: {data} is writable"),
        "ok: sink screen: standard output is always available".to_owned(),
    ];
    assert_eq!(said(&plain), expected);
    assert_eq!(plain.status.code(), Some(0));

    assert_eq!(sent.await.unwrap(), b"", "no request");
    assert_eq!(secure.posted().len(), 0);
    assert_eq!(topic.all().await.len(), 0);
    assert_eq!(vhost.depth(queue).await, (2, 0), "all messages still wait");
    let first = vhost.channel().await.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    assert!(!first.unwrap().delivery.redelivered, "none was ever taken");
    vhost.exchange("own", ExchangeKind::Fanout).await;
    assert!(Kafka::shared().topics().await.iter().all(|topic| *topic != absent), "not created by asking for it");
    assert!(!home.data("").exists(), "not even the data directory");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_objects_are_errors_with_advice() {
    let regards = Regards::new().await;
    let directory = tempfile::tempdir().unwrap();
    let secure = receiver_signed_by(&directory.path().join("another.pem")).await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let services = Services::shared();
    let home = Home::of(
        &regards,
        &routes(&[
            ("pipeline", r#"{ kafka: { brokers: "127.0.0.1:${NOBODY}", topic: t } }"#),
            (
                "login",
                r#"{ kafka: { brokers: "${SASL}", topic: t, tls: { ca: "${CA}" }, sasl: { mechanism: PLAIN, username: u, password: "${WRONG}" } } }"#,
            ),
            ("hook", r#"{ webhook: { url: "http://127.0.0.1:${NOBODY}/hook" } }"#),
            ("secure", r#"{ webhook: { url: "${SECURE}" } }"#),
            ("partner", r#"{ amqp: { url: "${PARTNER}", exchange: products, routing_key: x } }"#),
            ("archive", "{ file: { path: file/archive.ndjson } }"),
        ]),
    )
    .with("REGARDS", &regards.vhost.url_for(&regards.user, "wr0ng-for-regards"))
    .keeping_secret("wr0ng-for-regards")
    .with("NOBODY", &nobody.to_string())
    .with("SASL", &format!("127.0.0.1:{}", services.kafka_sasl_ssl_port()))
    .with("CA", services.ca())
    .with("WRONG", "wr0ng-for-kafka")
    .keeping_secret("wr0ng-for-kafka")
    .with("SECURE", &secure.url())
    .with("PARTNER", &regards.vhost.admin_url());
    std::fs::create_dir(home.data("")).unwrap();
    std::fs::write(home.data("file"), "not a directory").unwrap();
    let checked = home.run(&["check", "--connect"]);
    let said = said(&checked);
    let expected: [(&str, &[&str]); 7] = [
        ("error: source regards: ", &[&regards.user, "check username and password"]),
        ("error: sink pipeline: ", &["Connection refused"]),
        ("error: sink login: ", &["Authentication failed"]),
        ("error: sink hook: ", &["Connection refused"]),
        ("error: sink secure: ", &["tls.ca"]),
        ("error: sink partner: ", &["products", "declare"]),
        ("error: sink archive: ", &["file is not a directory"]),
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (line, (start, words)) in said.iter().zip(expected) {
        assert!(line.starts_with(start) && words.iter().all(|word| line.contains(word)), "{start}{words:?}: {line}");
        assert!(!line.contains("wr0ng"), "{line}");
    }
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(secure.posted().len(), 0);
}

/// The broker is reachable at the configured address, but not at the address that it advertises.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_advertises_an_address_nobody_can_reach_is_an_error() {
    let regards = Regards::new().await;
    let topic = Kafka::shared().topic("advertised", 1).await;
    let proxy = LyingBroker::start(Services::shared().kafka_port()).await;
    let sink = format!(r#"{{ kafka: {{ brokers: "127.0.0.1:{}", topic: {} }} }}"#, proxy.port, topic.topic());
    let templated = format!(r#"{{ kafka: {{ brokers: "127.0.0.1:{}", topic: "x.{{{{ tenant }}}}" }} }}"#, proxy.port);
    let home = Home::of(&regards, &routes(&[("fixed", &sink), ("templated", &templated)]));
    let checked = home.run(&["check", "--connect"]);
    let said = said(&checked);
    for (line, name) in said[1..].iter().zip(["fixed", "templated"]) {
        assert!(line.starts_with(&format!("error: sink {name}: ")), "{line}");
        assert!(
            line.contains(&format!("127.0.0.1:{}", proxy.advertised)) && line.contains("advertised.listeners"),
            "{line}"
        );
    }
    assert_eq!(checked.status.code(), Some(1));
}

/// The error says what the port serves: another protocol (RabbitMQ) or Kafka with TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_another_protocol_is_explained() {
    let regards = Regards::new().await;
    let services = Services::shared();
    let sink = |port: u16| format!(r#"{{ kafka: {{ brokers: "127.0.0.1:{port}", topic: t }} }}"#);
    let (rabbit, secure) = (sink(services.amqp_port()), sink(services.kafka_sasl_ssl_port()));
    let home = Home::of(&regards, &routes(&[("rabbit", &rabbit), ("secure", &secure)]));
    let said = said(&home.run(&["check", "--connect"]));
    assert!(said[1].contains("RabbitMQ"), "{said:#?}");
    assert!(said[2].contains("tls: {}"), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_amqp_url_to_a_port_of_another_protocol_is_explained() {
    let regards = Regards::new().await;
    let services = Services::shared();
    let sink = |scheme: &str, port: u16| {
        format!(r#"{{ amqp: {{ url: "{scheme}://u:p@127.0.0.1:{port}/v", exchange: x, routing_key: x }} }}"#)
    };
    let sinks = [
        ("tls_expected", sink("amqp", services.amqps_port()), "expects TLS: write amqps://"),
        ("no_tls", sink("amqps", services.amqp_port()), "doesn't speak TLS there"),
        ("http", sink("amqp", services.management_port()), "management"),
        ("kafka", sink("amqp", services.kafka_port()), "no AMQP broker listens on that port"),
    ];
    let configured: Vec<_> = sinks.iter().map(|(name, sink, _)| (*name, sink.as_str())).collect();
    let home = Home::of(&regards, &routes(&configured));
    let said = said(&home.run(&["check", "--connect"]));
    for (line, (name, _, words)) in said[1..].iter().zip(&sinks) {
        assert!(line.starts_with(&format!("error: sink {name}: ")) && line.contains(words), "{said:#?}");
    }
    assert_eq!(said.len(), 1 + sinks.len(), "{said:#?}");
}

#[tokio::test]
async fn strict_treats_warnings_as_errors() {
    let regards = Regards::new().await;
    let home =
        Home::of(&regards, &routes(&[("pipeline", r#"{ kafka: { brokers: "${KAFKA}", topic: "${ABSENT}" } }"#)]))
            .with_kafka()
            .with("ABSENT", &unique("not-yet"));
    assert_eq!(home.run(&["check", "--connect"]).status.code(), Some(0));
    assert_eq!(home.run(&["check", "--connect", "--strict"]).status.code(), Some(1));
}

#[tokio::test]
async fn an_invalid_file_connects_to_nothing() {
    let regards = Regards::new().await;
    let home = Home::of(&regards, &routes(&[("screen", "{ stdouts: {} }")]));
    let checked = home.run(&["check", "--connect"]);
    assert_eq!(checked.status.code(), Some(2));
    assert_eq!(said(&checked), [""; 0]);
}

/// A proxy in front of a Kafka broker that replaces the advertised address with an unreachable one.
struct LyingBroker {
    port: u16,
    advertised: u16,
}

impl LyingBroker {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let advertised = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broker = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_broker, mut to_broker) = broker.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_broker).await });
                tokio::spawn(async move {
                    let mut bytes = vec![0; 1 << 16];
                    while let Ok(count @ 1..) = from_broker.read(&mut bytes).await {
                        replace_port(&mut bytes[..count], to, advertised);
                        if to_client.write_all(&bytes[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, advertised }
    }
}

/// In a metadata response, the port of a broker follows its host, as four bytes.
fn replace_port(bytes: &mut [u8], from: u16, to: u16) {
    let host = b"127.0.0.1";
    let from = [&host[..], &u32::from(from).to_be_bytes()].concat();
    while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
        bytes[at + host.len()..at + from.len()].copy_from_slice(&u32::from(to).to_be_bytes());
    }
}
