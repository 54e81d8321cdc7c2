//! Private certificate authorities, client certificates, logins and lists of brokers, for every kind of connection.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::support::rabbit::encode;
use crate::support::regards::pattern_of;
use crate::support::{Home, Kafka, Rabbit, Receiver, Regards, Response, Services, unique, until};

#[tokio::test]
async fn amqps_with_a_private_authority_and_a_client_certificate() {
    let regards = Regards::new().await;
    let services = Services::shared();
    let vhost = &regards.vhost;
    vhost.fanout("out").await;
    let collected = vhost.collect("out").await;
    let url = |user: &str, password: &str| {
        let (user, password, vhost) = (encode(user), encode(password), encode(vhost.name()));
        format!("amqps://{user}:{password}@localhost:{}/{vhost}", services.amqps_port())
    };
    let home = Home::of(
        &regards,
        r#"
version: 1
sources:
  regards:
    amqp: { url: "${REGARDS}", queue: "${QUEUE}", tls: { ca: "${CA}", cert: "${CERT}", key: "${KEY}" } }
    expects: lta
sinks:
  out: { amqp: { url: "${OUT}", exchange: out, routing_key: any, tls: { ca: "${CA}", cert: "${CERT}", key: "${KEY}" } } }
routes: [{ name: all, to: out }]
unrouted: dead_letter
"#,
    )
    .with("REGARDS", &url(&regards.user, &regards.password))
    .with("OUT", &url(services.amqp_user(), services.amqp_password()))
    .with("CA", services.ca())
    .with("CERT", services.client_cert())
    .with("KEY", services.client_key());
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "secure", "SUCCESS")).await;
    collected.wait_for(1).await;
    relay.stop().await;
    regards.assert_left_as_found().await;
}

/// `auth: external`, source and sink: the broker takes the user's name from the certificate.
#[tokio::test]
async fn amqp_by_certificate() {
    let regards = Regards::new().await;
    let services = Services::shared();
    let vhost = &regards.vhost;
    vhost.fanout("out").await;
    let user = vhost.rabbit().certificate_user().await;
    vhost.permit(user, "", "^out$", &pattern_of(&regards.queue)).await;
    let collected = vhost.collect("out").await;
    let [stranger, stranger_key] = services.stranger();
    let routes = |cert: &str| {
        format!(
            r#"
version: 1
sources:
  regards:
    amqp: {{ url: "${{URL}}", auth: external, queue: "${{QUEUE}}", tls: {{ ca: "${{CA}}", cert: "${{{cert}}}", key: "${{{cert}_KEY}}" }} }}
    expects: lta
sinks:
  known: {{ amqp: {{ url: "${{URL}}", auth: external, exchange: out, tls: {{ ca: "${{CA}}", cert: "${{CLIENT}}", key: "${{CLIENT_KEY}}" }} }} }}
  unknown: {{ amqp: {{ url: "${{URL}}", auth: external, exchange: out, tls: {{ ca: "${{CA}}", cert: "${{STRANGER}}", key: "${{STRANGER_KEY}}" }} }} }}
routes: [{{ name: all, to: [known, unknown] }}]
unrouted: dead_letter
delivery: {{ shutdown_grace: 1s }}
"#
        )
    };
    let home = Home::of(&regards, &routes("CLIENT"))
        .with("URL", &format!("amqps://localhost:{}/{}", services.amqps_port(), encode(vhost.name())))
        .with("CA", services.ca())
        .with("CLIENT", services.client_cert())
        .with("CLIENT_KEY", services.client_key())
        .with("STRANGER", &stranger)
        .with("STRANGER_KEY", &stranger_key);
    let checked = home.run(&["check", "--connect"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    assert!(said.contains("sink unknown: ") && said.contains("it has no user for this certificate"), "{said}");
    assert!(!said.contains("error: sink known") && !said.contains("error: source regards"), "{said}");

    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "by certificate", "SUCCESS")).await;
    collected.wait_for(1).await;
    until("the connections of the source and of the sink", async || match vhost.connections_of(user).await.len() {
        2 => Ok(()),
        others => Err(format!("{others} connections")),
    })
    .await;
    relay.wait_for_metric("delivery_attempts_total", &[("sink", "unknown"), ("result", "retry")], 1.0).await;
    let why = ["unknown", "refuses the login by client certificate", "tls.cert"];
    assert!(!home.warnings_with(&why).is_empty(), "{}", home.log());
    relay.reload(&routes("STRANGER"), "success").await;
    relay.wait_until_unready(&["regards", "refuses the login by client certificate"]).await;
    relay.stop().await;
    assert_eq!(home.waiting("unknown"), 1, "it keeps its message");
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_broker_that_offers_no_login_by_certificate() {
    let broker = Services::private(&["rabbitmq"]).await;
    broker.offer_only_plain().await;
    let services = broker.services();
    let home = Home::new(
        r#"
version: 1
sources: { regards: { amqp: { url: "${URL}", auth: external, queue: q, tls: { ca: "${CA}", cert: "${CERT}", key: "${KEY}" } }, expects: lta } }
sinks: { archive: { file: { path: archive.ndjson } } }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
"#,
    )
    .with("URL", &format!("amqps://localhost:{}", services.amqps_port()))
    .with("CA", services.ca())
    .with("CERT", services.client_cert())
    .with("KEY", services.client_key());
    let checked = home.run(&["check", "--connect"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
    let why = "the broker closed the connection at the login by client certificate: mostly it doesn't offer that";
    assert!(said.contains("source regards: ") && said.contains(why), "{said}");
}

#[tokio::test]
async fn amqps_trusts_no_unknown_authority() {
    let regards = Regards::new().await;
    let port = Services::shared().amqps_port();
    let (user, password, vhost) = (&regards.user, encode(&regards.password), regards.vhost.name());
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { archive: { file: { path: archive.ndjson } } }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
"#,
    )
    .with("REGARDS", &format!("amqps://{user}:{password}@localhost:{port}/{vhost}"));
    let relay = home.start();
    relay.wait_until_unready(&["regards", "certificate"]).await;
    assert!(!home.warnings_with(&["certificate"]).is_empty(), "{}", home.log());
    relay.stop().await;
}

#[tokio::test]
async fn a_webhook_with_a_private_authority() {
    let regards = Regards::new().await;
    let directory = tempfile::tempdir().unwrap();
    let trusted = receiver_signed_by(&directory.path().join("ca.pem")).await;
    let untrusted = receiver_signed_by(&directory.path().join("another.pem")).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  trusted: { webhook: { url: "${TRUSTED}", auth: { bearer: "${TOKEN}" }, tls: { ca: "${CA}" } } }
  untrusted: { webhook: { url: "${UNTRUSTED}", tls: { ca: "${CA}" } } }
routes: [{ name: all, to: [trusted, untrusted] }]
unrouted: dead_letter
delivery: { shutdown_grace: 1s }
"#,
    )
    .with("TRUSTED", &trusted.url())
    .with("UNTRUSTED", &untrusted.url())
    .with("TOKEN", "t0ken-of-the-hook")
    .keeping_secret("t0ken-of-the-hook")
    .with("CA", &directory.path().join("ca.pem").display().to_string());
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "secure", "SUCCESS")).await;
    let posted = trusted.wait_for_accepted(1).await;
    assert_eq!(posted[0].header("authorization"), Some("Bearer t0ken-of-the-hook"));
    relay.wait_for_metric("delivery_attempts_total", &[("sink", "untrusted"), ("result", "retry")], 1.0).await;
    assert_eq!(untrusted.posted().len(), 0, "certificates are always verified");
    relay.stop().await;
    assert_eq!(home.waiting("untrusted"), 1, "it is kept for the other one");
}

/// A receiver with a certificate from a new authority, whose own certificate is written to `authority`.
pub async fn receiver_signed_by(authority: &Path) -> Receiver {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(authority, ca.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Receiver::start_tls(vec![certificate.der().clone()], key).await
}

#[tokio::test]
async fn kafka_with_a_login_over_tls() {
    let regards = Regards::new().await;
    let services = Services::shared();
    let mut topic = Kafka::shared().topic("secure", 1).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  scram_256: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}", tls: { ca: "${CA}" },
    sasl: { mechanism: SCRAM-SHA-256, username: "${KAFKA_USER}", password: "${KAFKA_PASSWORD}" } } }
  scram_512: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}", tls: { ca: "${CA}" },
    sasl: { mechanism: SCRAM-SHA-512, username: "${KAFKA_USER}", password: "${KAFKA_PASSWORD}" } } }
  plain: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}", tls: { ca: "${CA}" },
    sasl: { mechanism: PLAIN, username: "${KAFKA_USER}", password: "${KAFKA_PASSWORD}" } } }
  wrong: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}", tls: { ca: "${CA}" },
    sasl: { mechanism: SCRAM-SHA-512, username: "${KAFKA_USER}", password: "${WRONG}" } } }
routes:
  - { name: good, when: { tenant: good }, to: [scram_256, scram_512, plain] }
  - { name: bad, when: { tenant: bad }, to: wrong }
unrouted: dead_letter
delivery: { shutdown_grace: 1s }
"#,
    )
    .with("KAFKA", &format!("127.0.0.1:{}", services.kafka_sasl_ssl_port()))
    .with("TOPIC", topic.topic())
    .with("CA", services.ca())
    .with("KAFKA_USER", services.kafka_user())
    .with("KAFKA_PASSWORD", services.kafka_password())
    .keeping_secret(services.kafka_password())
    .with("WRONG", "wr0ng-for-kafka")
    .keeping_secret("wr0ng-for-kafka");
    let relay = home.start_ready().await;
    regards.publish(&Response::new("good", "secure", "SUCCESS")).await;
    topic.wait_for(3).await;
    regards.publish(&Response::new("bad", "insecure", "SUCCESS")).await;
    relay.wait_for_metric("delivery_attempts_total", &[("sink", "wrong"), ("result", "retry")], 1.0).await;
    relay.stop().await;
    assert_eq!(topic.all().await.len(), 3);
    assert_eq!(home.waiting("wrong"), 1, "what can't log in keeps its message");
}

#[tokio::test]
async fn a_list_of_brokers_of_which_the_first_is_dead() {
    let regards = Regards::new().await;
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut topic = Kafka::shared().topic("failover", 1).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources:
  regards:
    amqp:
      url: ["${NOBODY}", "${SOMEBODY}"]
      username: "${AS}"
      password: "${file:password}"
      vhost: "${VHOST}"
      queue: "${QUEUE}"
    expects: lta
sinks: { pipeline: { kafka: { brokers: "127.0.0.1:${DEAD},${KAFKA}", topic: "${TOPIC}" } } }
routes: [{ name: all, to: pipeline }]
unrouted: dead_letter
"#,
    )
    .with_kafka()
    .with("NOBODY", &format!("amqp://127.0.0.1:{nobody}"))
    .with("SOMEBODY", &format!("amqp://127.0.0.1:{}", Rabbit::shared().services().amqp_port()))
    .with("DEAD", &nobody.to_string())
    .with("AS", &regards.user)
    .with("VHOST", regards.vhost.name())
    .with("TOPIC", topic.topic());
    home.write("password", &format!("{}\n", regards.password));
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "by the second", "SUCCESS")).await;
    topic.wait_for(1).await;
    relay.stop().await;
    regards.assert_left_as_found().await;
}

/// `declare:` declares the listed objects and nothing else.
#[tokio::test]
async fn what_the_configuration_declares_is_declared() {
    let regards = Regards::new().await;
    let queue = unique("declared");
    regards.vhost.permit(&regards.user, "declared.*", "declared.*", ".*").await;
    let mut topic = Kafka::shared().topic("declared", 1).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources:
  regards:
    amqp:
      url: "${REGARDS}"
      queue: "${DECLARED}"
      declare:
        queue: { type: classic, arguments: { x-max-priority: 255 } }
        bindings: [{ exchange: "${EXCHANGE}" }]
    expects: lta
sinks: { pipeline: { kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" } } }
routes: [{ name: all, to: pipeline }]
unrouted: dead_letter
"#,
    )
    .with_kafka()
    .with("DECLARED", &queue)
    .with("EXCHANGE", crate::support::regards::EXCHANGE)
    .with("TOPIC", topic.topic());
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "by its own queue", "SUCCESS")).await;
    topic.wait_for(1).await;
    relay.stop().await;
    let made = regards.vhost.statistics(&queue).await.unwrap();
    assert_eq!((&made["durable"], &made["arguments"]["x-max-priority"]), (&true.into(), &255.into()));
}
