//! Records that name their schema in a registry, and everything that can be wrong with the registry: whatever it is, the log
//! names the sink, the subject and what to do, nothing is lost, and all of it arrives in order once the trouble is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::configuration::Edit;
use crate::support::kafka::{Reader, Record};
use crate::support::registry::url_at;
use crate::support::response::lives;
use crate::support::{Home, Kafka, Proxy, Regards, Registry, Services, TokenServer, until};

const ROUTES: &str = configuration! {
    sinks: {
        typed: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" }, format: { avro: {} }, retry: { initial_backoff: 20ms, max_backoff: 200ms } }"#,
    },
};
/// The formats, and the registry's words for them.
const FORMATS: [(&str, &str); 3] = [("avro", "AVRO"), ("json_schema", "JSON"), ("protobuf", "PROTOBUF")];
/// How many requests each test has; each has two events.
const REQUESTS: usize = 5;

/// One relay with a sink of one format, and a registry of its own or the shared one.
struct Scene {
    regards: Regards,
    records: Reader,
    registry: Registry,
    home: Arc<Home>,
    kind: &'static str,
    published: usize,
}

impl Scene {
    /// `settings` are further ones of `registry:`, with a comma before each.
    async fn new(kind: &'static str, settings: &str) -> Self {
        let registry = Registry::shared();
        Self::at(kind, settings, registry.clone(), &registry.url()).await
    }

    /// With the registry behind that URL.
    async fn at(kind: &'static str, settings: &str, registry: Registry, url: &str) -> Self {
        Self::with(kind, settings, registry, url, |home| home).await
    }

    async fn with(
        kind: &'static str,
        settings: &str,
        registry: Registry,
        url: &str,
        more: impl FnOnce(Home) -> Home,
    ) -> Self {
        let regards = Regards::new().await;
        let records = Kafka::shared().topic(&format!("typed-{kind}"), 1).await;
        let with = format!("{kind}: {{ registry: {{ url: \"${{REGISTRY}}\"{settings} }} }}");
        let home = Home::of(&regards, &ROUTES.edit("avro: {}", &with)).with_kafka();
        let home = home.with("TOPIC", records.topic()).with("REGISTRY", url);
        Self { regards, records, registry, home: Arc::new(more(home)), kind, published: 0 }
    }

    fn subject(&self) -> String {
        format!("{}-value", self.records.topic())
    }

    /// The relay's own schema, as its user registers it.
    async fn register(&self, subject: &str) -> u32 {
        let (_, word) = FORMATS.into_iter().find(|(kind, _)| *kind == self.kind).expect("a format");
        self.registry.register(subject, word, &self.home.does(&["schema", self.kind])).await
    }

    /// What `check --connect` says, which succeeds.
    fn check_connect(&self) -> String {
        let output = self.home.run(&["check", "--connect"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    async fn publish(&mut self, tenant: &str, stem: &str) {
        let responses = lives(tenant, stem, REQUESTS);
        self.regards.publish_all(&responses).await;
        self.published += responses.len();
    }

    /// Waits for a warning with all these words and the name of the sink.
    async fn wait_for_warning(&self, words: &[&str]) {
        let words: Vec<&str> = ["typed"].into_iter().chain(words.iter().copied()).collect();
        until(&format!("a warning with {words:?}"), async || {
            if self.home.warnings_with(&words).is_empty() { Err(self.home.log()) } else { Ok(()) }
        })
        .await;
    }

    /// Checks that everything published has arrived once, in order, and that each body is what the schema with the id in its
    /// prefix describes. Returns the ids.
    async fn assert_complete(&mut self) -> Vec<u32> {
        let records = self.records.wait_for(self.published).await.to_vec();
        assert_eq!(records.len(), self.published, "{}: each once", self.kind);
        let mut statuses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut ids = Vec::new();
        for record in &records {
            let (id, event) = self.decode(record).await;
            let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{name}: {event}")).to_owned();
            statuses.entry(text("correlationId")).or_default().push(text("status"));
            ids.push(id);
        }
        for (request, statuses) in statuses {
            assert_eq!(statuses, ["GRANTED", "SUCCESS"], "{}: the order of {request}", self.kind);
        }
        assert!(self.home.dead_letters().is_empty());
        ids.dedup();
        ids
    }

    /// The id in the prefix of a record, and its event as the schema with that id in the registry reads it.
    async fn decode(&self, record: &Record) -> (u32, Value) {
        assert_eq!(record.headers.get("content-type"), None, "a body with a prefix has no type");
        let (prefix, value) = record.body.split_at_checked(5).expect("a prefix");
        assert_eq!(prefix[0], 0, "the first byte");
        let id = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
        let schema = self.registry.schema(id).await;
        let event = match self.kind {
            "avro" => {
                let schema = apache_avro::Schema::parse_str(&schema).expect("a schema");
                let reader =
                    apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().expect("a reader");
                Value::try_from(reader.read_value(&mut &*value).expect("a datum")).expect("JSON")
            }
            "protobuf" => {
                let (index, value) = value.split_first().expect("the index of the message");
                assert_eq!(*index, 0, "the first message");
                let message = super::schemas::message_of(&schema);
                serde_json::to_value(prost_reflect::DynamicMessage::decode(message, value).expect("a message"))
                    .expect("JSON")
            }
            _ => serde_json::from_slice(value).expect("JSON"),
        };
        (id, event)
    }
}

#[tokio::test]
async fn a_schema_is_registered_by_the_relay_where_it_may() {
    for (kind, _) in FORMATS {
        let mut scene = Scene::new(kind, ", register: true").await;
        let checked = scene.check_connect();
        assert!(checked.contains("the first delivery registers the schema under the subject"), "{checked}");
        assert!(scene.registry.versions(&scene.subject()).await.is_empty(), "a check registers nothing");
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "one").await;
        scene.publish("esa", "two").await;
        let ids = scene.assert_complete().await;
        assert_eq!(scene.registry.versions(&scene.subject()).await.len(), 1, "{kind}: one version");
        assert_eq!(ids, [scene.register(&scene.subject()).await], "{kind}: it is the schema that is printed");
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_schema_that_others_register_is_waited_for() {
    for (kind, _) in FORMATS {
        let mut scene = Scene::new(kind, "").await;
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "waits").await;
        let (subject, advice) = (scene.subject(), format!("`regards-relay schema {kind}`"));
        scene.wait_for_warning(&[&subject, "doesn't have this schema", &advice]).await;
        scene.regards.wait_until_acknowledged().await;
        let id = scene.register(&subject).await;
        assert_eq!(scene.assert_complete().await, [id], "{kind}");
        assert_eq!(relay.metric("sink_breaker_open", &[("sink", "typed")]).await, Ok(Some(0.0)));
        relay.stop().await;
        let checked = scene.check_connect();
        assert!(checked.contains(&format!("under the subject {subject} (id {id})")), "{checked}");
    }
}

#[tokio::test]
async fn a_registry_that_is_away_at_first_is_waited_for() {
    for (kind, _) in FORMATS {
        let registry = Registry::shared();
        let mut proxy = Proxy::to(registry.port()).await;
        proxy.go_down().await;
        let url = url_at(proxy.port());
        let mut scene = Scene::at(kind, ", register: true", registry, &url).await;
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "away").await;
        let subject = scene.subject();
        scene.wait_for_warning(&[&subject, "the registry can't be connected to", "check that the registry runs"]).await;
        scene.regards.wait_until_acknowledged().await;
        proxy.come_back().await;
        scene.assert_complete().await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn while_the_registry_is_away_or_slow_deliveries_whose_id_is_known_go_on() {
    for (kind, _) in FORMATS {
        let registry = Registry::shared();
        let mut proxy = Proxy::to(registry.port()).await;
        let url = url_at(proxy.port());
        // The subject depends on the tenant.
        let subject = |tenant: &str, scene: &Scene| format!("{}-{tenant}", scene.records.topic());
        let settings = r#", register: true, subject: "{{ topic }}-{{ tenant }}""#;
        let mut scene = Scene::at(kind, settings, registry, &url).await;
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("known", "before").await;
        scene.assert_complete().await;

        proxy.go_down().await;
        scene.publish("known", "meanwhile").await;
        scene.assert_complete().await;
        scene.publish("unknown", "away").await;
        let waits = subject("unknown", &scene);
        scene.wait_for_warning(&[&waits, "the registry can't be connected to"]).await;
        proxy.come_back().await;
        scene.assert_complete().await;

        proxy.hold();
        scene.publish("slow", "slow").await;
        proxy.wait_until_held().await;
        let before = scene.published;
        scene.published -= 2 * REQUESTS;
        scene.publish("known", "goes-on").await;
        scene.assert_complete().await;
        scene.published = before + 2 * REQUESTS;
        let waits = subject("slow", &scene);
        scene.wait_for_warning(&[&waits, "the registry did not answer within"]).await;
        assert_eq!(relay.metric("sink_breaker_open", &[("sink", "typed")]).await, Ok(Some(0.0)));
        proxy.release();
        scene.assert_complete().await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn an_incompatible_schema_waits_until_the_subject_allows_it() {
    // A version of another kind of record, with which nothing of the relay's is compatible.
    let others = [
        ("avro", json!({"type": "record", "name": "Event", "namespace": "fr.cnes.regards.relay", "fields": [{"name": "id", "type": "int"}]}).to_string()),
        ("json_schema", json!({"type": "object", "properties": {"id": {"type": "integer"}}, "additionalProperties": false}).to_string()),
        ("protobuf", "syntax = \"proto3\";\npackage fr.cnes.regards.relay;\nmessage Event { int32 id = 1; int32 type = 2; }\n".to_owned()),
    ];
    for ((kind, word), (_, other)) in FORMATS.into_iter().zip(others) {
        let mut scene = Scene::new(kind, ", register: true").await;
        let subject = scene.subject();
        scene.registry.register(&subject, word, &other).await;
        scene.registry.set_compatibility(&subject, "FULL_TRANSITIVE").await;
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "incompatible").await;
        scene
            .wait_for_warning(&[&subject, "409 Conflict (Incompatible artifact", "change the subject's compatibility"])
            .await;
        assert!(!home.log().contains("RuleViolationException"), "no Java class is shown");
        scene.regards.wait_until_acknowledged().await;
        scene.registry.set_compatibility(&subject, "NONE").await;
        scene.assert_complete().await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_registry_that_forbids_is_asked_again_with_the_new_token() {
    let private = Services::private(&["registry-auth"]).await;
    let services = private.services();
    for (kind, _) in FORMATS {
        let admin = token(services.token_key(), "sr-admin");
        let registry = Registry::with_token(services, admin.clone());
        let settings = r#", register: true, auth: { bearer: "${file:token}" }"#;
        let url = url_at(services.registry_auth_port());
        let mut scene = Scene::at(kind, settings, registry, &url).await;
        let readonly = token(services.token_key(), "sr-readonly");
        scene.home.write("token", &readonly);
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "forbidden").await;
        let subject = scene.subject();
        scene.wait_for_warning(&[&subject, "403 Forbidden", "allow the user of `registry.auth`"]).await;
        scene.regards.wait_until_acknowledged().await;
        home.write("token", "wrong");
        scene.wait_for_warning(&[&subject, "401 Unauthorized", "check `registry.auth`"]).await;
        home.write("token", &admin);
        scene.assert_complete().await;
        relay.stop().await;
        for secret in [readonly, admin] {
            assert!(!home.log().contains(&secret), "the log shows no token");
        }
    }
}

#[tokio::test]
async fn access_tokens_for_a_registry_are_renewed() {
    let private = Services::private(&["registry-auth"]).await;
    let services = private.services();
    let tokens = TokenServer::start_for(services).await;
    tokens.set_claims(&json!({"preferred_username": "relay", "roles": ["sr-developer"]}));
    tokens.set_lifetime(Duration::from_secs(2));
    let registry = Registry::with_token(services, token(services.token_key(), "sr-admin"));
    // Each request asks for a subject of its own.
    let settings = r#", register: true, subject: "{{ topic }}-{{ correlationId }}", auth: { oauth2: { token_url: "${TOKENS}", client_id: relay, client_secret: "${SECRET}" } }"#;
    let mut scene = Scene::with("avro", settings, registry, &url_at(services.registry_auth_port()), |home| {
        home.with("TOKENS", &tokens.url())
            .with("SECRET", TokenServer::CLIENT_SECRET)
            .keeping_secret(TokenServer::CLIENT_SECRET)
    })
    .await;
    let home = Arc::clone(&scene.home);
    let relay = home.start_ready().await;
    for round in 1..=3 {
        scene.publish("cnes", &format!("round-{round}")).await;
        scene.assert_complete().await;
        tokens.wait_for_issued(round + 1).await;
    }
    // A token without the right to register.
    tokens.set_claims(&json!({"preferred_username": "relay", "roles": ["sr-readonly"]}));
    tokens.set_lifetime(Duration::from_hours(1));
    tokens.wait_for_issued(tokens.issued().len() + 1).await;
    scene.publish("cnes", "forbidden").await;
    scene.wait_for_warning(&["403 Forbidden", "allow the user of `registry.auth` to register schemas"]).await;
    relay.stop().await;
    for token in tokens.issued() {
        let signature = token.rsplit('.').next().expect("a signature");
        assert!(!home.log().contains(signature), "the log shows no token");
    }
}

/// A token with that role, as the tests' key signs it.
fn token(key: &str, role: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "tests"});
    let claims = json!({"sub": "relay", "preferred_username": "relay", "iat": now, "exp": now + 3600, "roles": [role]});
    let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("signed");
    std::fs::write(&file, &signed).expect("written");
    let openssl = std::process::Command::new("openssl").args(["dgst", "-sha256", "-sign", key]).arg(&file).output();
    let signature = openssl.expect("openssl");
    assert!(signature.status.success(), "{}", String::from_utf8_lossy(&signature.stderr));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.stdout))
}
