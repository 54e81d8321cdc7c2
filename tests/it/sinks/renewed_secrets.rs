//! Renewed certificates, secrets and passwords are used without a restart.

use std::collections::HashSet;
use std::sync::Arc;

use lapin::types::FieldTable;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;

use crate::support::{Home, Kafka, Receiver, Regards, Response, Services, unique, until, use_ring};

/// A certificate authority that signs a server and a client certificate, and trusts no other authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn vouch_for(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server that requires client certificates of this authority.
    fn server(&self) -> rustls::ServerConfig {
        use_ring();
        let (certificate, key) = self.vouch_for("localhost");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.0.pem().as_bytes()).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        rustls::ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap()
    }

    /// The secrets that a relay needs to send to that server.
    fn write_to(&self, home: &Home) {
        let (certificate, key) = self.vouch_for("relay");
        home.write("ca.pem", &self.0.pem());
        home.write("client.pem", &certificate.pem());
        home.write("client.key", &key.serialize_pem());
    }
}

#[tokio::test]
async fn certificates_token_and_secrets_in_templates_of_a_webhook() {
    let regards = Regards::new().await;
    let (old, new) = (Authority::new(), Authority::new());
    let mut receiver = Receiver::start_with(old.server()).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  hook:
    webhook:
      url: "${HOOK}"
      auth: { bearer: "${file:token}" }
      headers: { X-Key: "${file:key}" }
      tls: { ca: ca.pem, cert: client.pem, key: client.key }
      timeout: 5s
    body: '{"id": {{ id | tojson }}, "key": "${file:key}"}'
    retry: { initial_backoff: 1s, max_backoff: 1s }
routes: [{ name: all, to: hook }]
unrouted: dead_letter
"#,
    )
    .with("HOOK", &receiver.url());
    old.write_to(&home);
    home.write("token", "old-token");
    home.write("key", "old-key");
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "before", "SUCCESS")).await;
    receiver.wait_for_accepted(1).await;

    receiver.go_down().await;
    receiver.set_tls(new.server());
    receiver.come_back().await;
    regards.publish(&Response::new("t", "meanwhile", "SUCCESS")).await;
    relay.wait_for_metric("delivery_attempts_total", &[("sink", "hook"), ("result", "retry")], 1.0).await;
    new.write_to(&home);
    home.write("token", "new-token");
    home.write("key", "new-key");
    receiver.wait_for_accepted(2).await;
    regards.publish(&Response::new("t", "after", "SUCCESS")).await;
    let accepted = receiver.wait_for_accepted(3).await;
    for (posted, age) in accepted.iter().zip(["old", "new", "new"]) {
        assert_eq!(posted.header("authorization"), Some(format!("Bearer {age}-token").as_str()));
        assert_eq!(posted.header("x-key"), Some(format!("{age}-key").as_str()));
        assert_eq!(posted.json()["key"], format!("{age}-key"));
    }
    relay.stop().await;
    assert_eq!(receiver.posted().len(), 3, "nothing was sent twice");
    regards.assert_left_as_found().await;
}

/// Counts the connections from this process to that port.
fn connections(pid: u32, port: u16) -> usize {
    let sockets: HashSet<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .filter_map(|fd| Some(std::fs::read_link(fd.ok()?.path()).ok()?.to_str()?.to_owned()))
        .collect();
    let table = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    // Columns: local address, remote address, state, … and the inode in the tenth; ports are hexadecimal.
    let is_one = |line: &&str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let to_port = columns.get(2).is_some_and(|remote| remote.ends_with(&format!(":{port:04X}")));
        to_port && columns.get(9).is_some_and(|inode| sockets.contains(&format!("socket:[{inode}]")))
    };
    ["tcp", "tcp6"].map(|name| table(name).lines().filter(is_one).count()).iter().sum()
}

#[tokio::test]
async fn a_password_of_kafka_that_was_changed_on_the_broker() {
    let regards = Regards::new().await;
    let services = Services::shared();
    let user = unique("renewed");
    services.kafka_login(&user, "old-for-kafka").await;
    let mut topic = Kafka::shared().topic("renewed", 1).await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pipeline:
    kafka:
      brokers: "${KAFKA}"
      topic: "${TOPIC}"
      tls: { ca: "${CA}" }
      sasl: { mechanism: SCRAM-SHA-512, username: "${KAFKA_USER}", password: "${file:password}" }
      # So that the relay has to log in again.
      options: { connections.max.idle.ms: 2000 }
    retry: { initial_backoff: 1s, max_backoff: 1s }
routes: [{ name: all, to: pipeline }]
unrouted: dead_letter
"#,
    )
    .with("KAFKA", &format!("127.0.0.1:{}", services.kafka_sasl_ssl_port()))
    .with("TOPIC", topic.topic())
    .with("CA", services.ca())
    .with("KAFKA_USER", &user)
    .keeping_secret("old-for-kafka")
    .keeping_secret("new-for-kafka");
    home.write("password", "old-for-kafka\n");
    let relay = home.start_ready().await;
    regards.publish(&Response::new("t", "before", "SUCCESS")).await;
    topic.wait_for(1).await;

    services.kafka_login(&user, "new-for-kafka").await;
    // Messages that are published while a connection is open are still sent.
    let (mut sent, port) = (1_u16, services.kafka_sasl_ssl_port());
    let login_failed = || !home.warnings_with(&["pipeline", "uthentication"]).is_empty();
    while !login_failed() {
        until("the idle connections to be closed", async || match connections(relay.pid(), port) {
            open if open > 0 && !login_failed() => Err(format!("{open} are open")),
            _ => Ok(()),
        })
        .await;
        sent += 1;
        regards.publish(&Response::new("t", &format!("meanwhile {sent}"), "SUCCESS")).await;
        until("the message to be sent, or the login to fail", async || {
            let delivered = relay.metric("deliveries_total", &[("sink", "pipeline"), ("result", "delivered")]).await?;
            if login_failed() || delivered >= Some(sent.into()) { Ok(()) } else { Err(format!("{delivered:?}")) }
        })
        .await;
    }
    let sent = usize::from(sent);
    home.write("password", "new-for-kafka\n");
    topic.wait_for(sent).await;
    regards.publish(&Response::new("t", "after", "SUCCESS")).await;
    topic.wait_for(sent + 1).await;
    relay.stop().await;
    assert_eq!(topic.all().await.len(), sent + 1, "nothing was sent twice");
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_password_of_a_source_and_a_sink_on_rabbitmq() {
    let regards = Regards::new().await;
    let vhost = &regards.vhost;
    vhost.exchange("partner.products", lapin::ExchangeKind::Topic).await;
    vhost.queue("products", FieldTable::default()).await;
    vhost.bind("products", "partner.products", "#").await;
    vhost.permit(&regards.user, "", "^partner\\.products$", "^partner\\.lta\\.responses$").await;
    let home = Home::of(
        &regards,
        r#"
version: 1
sources: { regards: { amqp: { url: "${BROKER}", username: "${AS}", password: "${file:password}", vhost: "${VHOST}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  partner:
    amqp: { url: "${BROKER}", username: "${AS}", password: "${file:password}", vhost: "${VHOST}", exchange: partner.products, routing_key: x }
    retry: { initial_backoff: 1s, max_backoff: 1s }
routes: [{ name: all, to: partner }]
unrouted: dead_letter
"#,
    )
    .with("BROKER", &format!("amqp://127.0.0.1:{}", vhost.rabbit().services().amqp_port()))
    .with("AS", &regards.user)
    .with("VHOST", vhost.name())
    .keeping_secret("new-for-rabbit");
    home.write("password", &format!("{}\n", regards.password));
    let relay = home.start_ready().await;
    let products = vhost.collect("products").await;
    regards.publish(&Response::new("t", "before", "SUCCESS")).await;
    products.wait_for(1).await;
    let mut before = Vec::new();
    until("both connections", async || {
        before = vhost.connections_of(&regards.user).await;
        if before.len() == 2 { Ok(()) } else { Err(before.len().to_string()) }
    })
    .await;

    vhost.rabbit().user(&regards.user, "new-for-rabbit").await;
    home.write("password", "new-for-rabbit\n");
    let is_old = |name: &String| before.contains(name);
    until("the old connections to be gone", async || match vhost.connections_of(&regards.user).await {
        now if now.iter().any(is_old) => Err("some are there".to_owned()),
        _ => Ok(()),
    })
    .await;
    regards.publish(&Response::new("t", "after", "SUCCESS")).await;
    products.wait_for(2).await;
    relay.stop().await;
    assert_eq!(products.count(), 2, "nothing was sent twice");
    regards.assert_left_as_found().await;
}
