//! No token, client secret, key or assertion of the three logins by OAuth 2.0, and no key of a keytab, is ever shown or stored, also if
//! a server repeats it.

use std::path::Path;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use url::form_urlencoded;

use crate::support::kerberos::Realm;
use crate::support::token_server::write_client_key;
use crate::support::{Answer, Home, Kafka, Receiver, Regards, Relay, Response, Services, TokenServer};

const ROUTES: &str = r#"
version: 1
sources:
  regards:
    amqp:
      url: "${BROKER}"
      auth: { oauth2: { token_url: "${SOURCE_TOKENS}", client_id: relay, client_secret: "${file:secret}" } }
      queue: "${QUEUE}"
    expects: lta
sinks:
  hook:
    webhook: { url: "${HOOK}", auth: { oauth2: { token_url: "${HOOK_TOKENS}", client_id: relay, private_key: client.key } } }
    retry: { initial_backoff: 100ms, max_backoff: 100ms, max_attempts: 2 }
  out:
    amqp:
      url: "${BROKER}"
      auth: { oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${file:secret}" } }
      exchange: out
      headers: { team: ground-segment }
    retry: { initial_backoff: 100ms, max_backoff: 100ms, max_attempts: 2 }
  pipeline:
    kafka:
      brokers: "${KAFKA_TLS}"
      topic: "${TOPIC}"
      tls: { ca: "${CA}" }
      sasl:
        mechanism: OAUTHBEARER
        oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${file:secret}" }
    retry: { max_attempts: 1 }
  kerberos:
    kafka:
      brokers: "${KAFKA_TLS}"
      topic: "${TOPIC}"
      tls: { ca: "${CA}" }
      sasl: { mechanism: GSSAPI, principal: relay, keytab: relay.keytab }
routes: [{ name: all, to: [hook, out, pipeline, kerberos] }]
unrouted: dead_letter
delivery: { shutdown_grace: 5s }
"#;

/// The three token servers, and what must not be seen.
struct Secrets {
    source: TokenServer,
    sinks: TokenServer,
    hook: TokenServer,
    key: String,
    keytab: Vec<u8>,
}

impl Secrets {
    /// Each with a name, for the failing test.
    fn all(&self) -> Vec<(&'static str, String)> {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let secret = TokenServer::CLIENT_SECRET;
        let basic = STANDARD.encode(format!("{}:{}", TokenServer::CLIENT_ID, encoded(secret)));
        let mut all = vec![("secret", secret.to_owned()), ("secret", encoded(secret)), ("secret", basic)];
        let of_key = self.key.lines().filter(|line| !line.starts_with('-'));
        all.extend(of_key.map(|line| ("key", line.to_owned())));
        for key in keys_of(&self.keytab) {
            let hex = key.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            all.extend([("key of the keytab", hex.to_uppercase()), ("key of the keytab", hex)]);
            all.push(("key of the keytab", STANDARD.encode(key)));
            all.push(("key of the keytab", String::from_utf8_lossy(key).into_owned()));
        }
        let servers = [&self.source, &self.sinks, &self.hook];
        let tokens = servers.into_iter().flat_map(TokenServer::issued);
        let assertions =
            self.hook.requests().into_iter().filter_map(|mut request| request.form.remove("client_assertion"));
        let signed = tokens.map(|token| ("token", token)).chain(assertions.map(|text| ("assertion", text)));
        // Of a text that was cut, the beginning of the claims is left.
        for (name, text) in signed {
            let mut parts = text.split('.').skip(1);
            let (claims, signature) = (parts.next().expect("claims"), parts.next().expect("a signature"));
            all.push((name, claims.chars().take(40).collect()));
            all.push((name, signature.to_owned()));
        }
        all
    }

    fn assert_hidden_in(&self, place: &str, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        for (name, secret) in self.all() {
            let around = text.split_once(&secret).map(|(before, _)| before.lines().next_back().unwrap_or_default());
            assert_eq!(around, None, "a {name} is in {place}: {secret}");
        }
    }
}

/// The keys of type aes256-cts (18), which have 32 bytes, in a keytab.
fn keys_of(keytab: &[u8]) -> Vec<&[u8]> {
    let start = [0, 18, 0, 32];
    let starts = (0..keytab.len()).filter(|at| keytab[*at..].starts_with(&start));
    let keys: Vec<_> = starts.map(|at| &keytab[at + 4..at + 36]).collect();
    assert!(!keys.is_empty(), "a key");
    keys
}

/// What every command and page shows, and every file of the data directory.
async fn assert_hidden(home: &Home, relay: Option<&Relay<'_>>, secrets: &Secrets) {
    let commands: [&[&str]; 11] = [
        &["check"],
        &["check", "--connect"],
        &["explain", "message.json"],
        &["explain", "message.json", "--json"],
        &["graph"],
        &["status", "--json"],
        &["spool", "--json"],
        &["dead-letters", "list", "--json"],
        &["trace", "c-0", "--json"],
        &["send-test", "--sink", "hook"],
        &["send-test", "--sink", "out"],
    ];
    for arguments in commands {
        let Output { stdout, stderr, status } = home.run(arguments);
        assert!(status.success() || arguments.iter().all(|word| *word != "explain"), "{arguments:?}");
        secrets.assert_hidden_in(&arguments.join(" "), &[stdout, stderr].concat());
    }
    for letter in home.dead_letters() {
        secrets.assert_hidden_in("a dead letter", letter.to_string().as_bytes());
    }
    if let Some(relay) = relay {
        for path in ["/livez", "/readyz", "/metrics"] {
            let (_, text) = relay.page(path).await.expect("a page");
            secrets.assert_hidden_in(path, text.as_bytes());
        }
    }
    secrets.assert_hidden_in("the log", home.log().as_bytes());
    assert_hidden_below(&home.data(""), secrets);
}

fn assert_hidden_below(folder: &Path, secrets: &Secrets) {
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            assert_hidden_below(&entry.path(), secrets);
        } else if kind.is_file() {
            // SQLite removes files of its own meanwhile.
            let Ok(content) = std::fs::read(entry.path()) else { continue };
            secrets.assert_hidden_in(&entry.path().display().to_string(), &content);
        }
    }
}

#[tokio::test]
async fn no_token_secret_or_key_is_ever_shown() {
    let services = Services::shared();
    let regards = Regards::new().await;
    let vhost = &regards.vhost;
    vhost.fanout("out").await;
    let collected = vhost.collect("out").await;
    let receiver = Receiver::start().await;
    let mut topic = Kafka::shared().topic("hidden", 1).await;
    let (source, sinks) = (TokenServer::start_for(&services).await, TokenServer::start_for(&services).await);
    let hook = TokenServer::start().await;
    let realm = Realm::shared().await;
    let home = realm
        .of(Home::of(&regards, ROUTES))
        .with("BROKER", &vhost.url_without_login())
        .with("SOURCE_TOKENS", &source.url())
        .with("TOKENS", &sinks.url())
        .with("HOOK_TOKENS", &hook.url())
        .with("HOOK", &receiver.url())
        .with("KAFKA_TLS", &format!("127.0.0.1:{}", services.kafka_sasl_ssl_port()))
        .with("TOPIC", topic.topic())
        .with("CA", services.ca());
    home.write("secret", TokenServer::CLIENT_SECRET);
    home.write("message.json", &Response::new("t", "c-0", "SUCCESS").sample());
    hook.expect_assertions(&write_client_key(&home.path("client.key")));
    let key = home.read("client.key");
    let keytab = realm.keytab("relay");
    home.write_bytes("relay.keytab", &keytab);
    let secrets = Secrets { source, sinks, hook, key, keytab };

    // Everything succeeds, with the log at its most detailed.
    let relay = home.start_with("RUST_LOG", "trace");
    relay.wait_until_ready().await;
    regards.publish(&Response::new("t", "c-0", "SUCCESS")).await;
    let posted = receiver.wait_for_accepted(1).await;
    let published = collected.wait_for(1).await;
    let records = topic.wait_for(2).await;
    secrets.assert_hidden_in("an AMQP message", format!("{published:?}").as_bytes());
    secrets.assert_hidden_in("a Kafka record", format!("{records:?}").as_bytes());
    let mut sent = posted.into_iter().next().expect("a request");
    assert!(sent.headers.remove("authorization").is_some());
    secrets.assert_hidden_in("a webhook's request", format!("{sent:?}").as_bytes());
    for body in [&sent.body, &published[0].body, &records[0].body] {
        secrets.assert_hidden_in("a body", body);
    }
    assert_hidden(&home, Some(&relay), &secrets).await;
    relay.stop().await;

    // The destinations refuse the tokens; the receiver repeats them.
    secrets.sinks.set_claims(&json!({ "aud": "another" }));
    receiver.answers(|posted| Answer::Body(401, format!("{:?} is not valid", posted.header("authorization"))));
    let relay = home.start_with("RUST_LOG", "trace");
    relay.wait_until_ready().await;
    regards.publish(&Response::new("t", "c-1", "SUCCESS")).await;
    for sink in ["hook", "out", "pipeline"] {
        relay.wait_for_metric("dead_letters_total", &[("sink", sink)], 1.0).await;
    }
    assert_hidden(&home, Some(&relay), &secrets).await;
    relay.stop().await;

    // The broker refuses the source's tokens, and a token server repeats the secret.
    secrets.source.set_claims(&json!({ "aud": "another" }));
    let repeated = form_urlencoded::byte_serialize(TokenServer::CLIENT_SECRET.as_bytes()).collect::<String>();
    let answer = json!({ "error": "invalid_client", "error_description": format!("wrong secret: {repeated}") });
    secrets.sinks.refuse(401, &answer.to_string());
    let relay = home.start_with("RUST_LOG", "trace");
    relay.wait_until_unready(&["regards", "the broker refuses the access token"]).await;
    let said = String::from_utf8_lossy(&home.run(&["check", "--connect"]).stderr).into_owned();
    assert!(said.contains("wrong secret: ***"), "{said}");
    assert_hidden(&home, Some(&relay), &secrets).await;
    relay.stop().await;
    assert_hidden(&home, None, &secrets).await;
}
