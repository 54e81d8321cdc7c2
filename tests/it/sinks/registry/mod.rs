//! Records that name their schema in a registry, and everything that can be wrong with the registry: whatever it is, the log
//! names the sink, the subject and what to do, nothing is lost, and all of it arrives in order once the trouble is gone.

mod latest;
mod misfits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::configuration::Edit;
use crate::support::kafka::{Reader, Record};
use crate::support::readers::Deserializer;
use crate::support::registry::url_at;
use crate::support::response::lives;
use crate::support::{Home, Kafka, Proxy, Regards, Registry, Response, Services, TokenServer};

const ROUTES: &str = configuration! {
    sinks: {
        typed: r#"{ kafka: { brokers: "${KAFKA}", topic: "${TOPIC}" }, format: { avro: {} }, retry: { initial_backoff: 20ms, max_backoff: 200ms } }"#,
    },
};
/// How many requests each test has; each has two events.
const REQUESTS: usize = 5;
/// How many cells are tested at once.
const AT_ONCE: usize = 3;

/// A format and the source of its schema.
#[derive(Debug, Clone, Copy)]
struct Cell {
    kind: &'static str,
    source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Source {
    Event,
    File,
    Latest,
}

const KINDS: [&str; 3] = ["avro", "json_schema", "protobuf"];
/// With a schema that the relay can register.
const OWN: [Source; 2] = [Source::Event, Source::File];
const ALL: [Source; 3] = [Source::Event, Source::File, Source::Latest];

/// Does the test for each format with a schema of each of these sources.
async fn for_each<R: Future<Output = ()>>(sources: &[Source], test: impl Fn(Cell) -> R) {
    let cells = sources.iter().flat_map(|source| KINDS.map(|kind| Cell { kind, source: *source }));
    futures_util::stream::iter(cells).for_each_concurrent(AT_ONCE, test).await;
}

impl Cell {
    /// The registry's word for the kind of schema.
    fn word(self) -> &'static str {
        match self.kind {
            "avro" => "AVRO",
            "protobuf" => "PROTOBUF",
            _ => "JSON",
        }
    }

    fn file(self) -> String {
        let extension = match self.kind {
            "avro" => "avsc",
            "protobuf" => "proto",
            _ => "json",
        };
        format!("partner.{extension}")
    }

    /// What is written below `format:`. `registry` is its URL and further settings.
    fn format(self, registry: &str) -> String {
        let kind = self.kind;
        let schema = match self.source {
            Source::Event => String::new(),
            Source::File => format!("schema: {}, ", self.file()),
            Source::Latest => "schema: latest, ".to_owned(),
        };
        let has_message = kind == "protobuf" && self.source != Source::Event;
        let message = if has_message { "message: demo.Partner, " } else { "" };
        format!("{kind}: {{ {schema}{message}registry: {{ {registry} }} }}")
    }
}

impl Cell {
    /// The setting by which the relay may register the schema, if it can.
    fn may_register(self) -> &'static str {
        if self.source == Source::Latest { "" } else { ", register: true" }
    }
}

/// The file that the partner's schema of Protobuf imports.
const UNITS: &str = "syntax = \"proto3\";\npackage demo;\nmessage Units {\n  string of = 1;\n}\n";

/// A partner's schema of some fields of the event. That of Protobuf imports a file, and its message is the second.
fn partner(kind: &str, import: &str) -> String {
    match kind {
        "avro" => json!({"type": "record", "name": "Partner", "namespace": "demo", "fields": [
            {"name": "correlationId", "type": "string"},
            {"name": "status", "type": "string"},
            {"name": "productId", "type": ["null", "string"], "default": null},
        ]})
        .to_string(),
        "json_schema" => json!({"title": "Partner", "type": "object", "required": ["correlationId", "status"],
            "properties": {"correlationId": {"type": "string"}, "status": {"type": "string"}}})
        .to_string(),
        _ => format!(
            "syntax = \"proto3\";\npackage demo;\nimport \"{import}\";\nmessage Other {{\n  string id = 1;\n}}\n\
             message Partner {{\n  string correlation_id = 1;\n  string status = 2;\n  Units units = 3;\n}}\n"
        ),
    }
}

/// One relay with a sink of one format, and a registry of its own or the shared one.
struct Scene {
    regards: Regards,
    records: Reader,
    registry: Registry,
    home: Arc<Home>,
    cell: Cell,
    published: usize,
}

impl Scene {
    /// `settings` are further ones of `registry:`, with a comma before each.
    async fn new(cell: Cell, settings: &str) -> Self {
        let registry = Registry::shared();
        Self::at(cell, settings, registry.clone(), &registry.url()).await
    }

    /// With the registry behind that URL.
    async fn at(cell: Cell, settings: &str, registry: Registry, url: &str) -> Self {
        Self::with(cell, settings, registry, url, |home| home).await
    }

    async fn with(cell: Cell, settings: &str, registry: Registry, url: &str, more: impl FnOnce(Home) -> Home) -> Self {
        let regards = Regards::new().await;
        let records = Kafka::shared().topic(&format!("typed-{}", cell.kind), 1).await;
        let format = cell.format(&format!("url: \"${{REGISTRY}}\"{settings}"));
        let home = Home::of(&regards, &ROUTES.edit("avro: {}", &format)).with_kafka();
        let home = more(home.with("TOPIC", records.topic()).with("REGISTRY", url));
        let scene = Self { regards, records, registry, home: Arc::new(home), cell, published: 0 };
        if cell.source == Source::File {
            scene.home.write(&cell.file(), &scene.schema());
            std::fs::create_dir(scene.home.path("demo")).expect("a folder");
            scene.home.write(&scene.import(), UNITS);
        }
        scene
    }

    fn subject(&self) -> String {
        format!("{}-value", self.records.topic())
    }

    /// The name of the imported file, and its subject: no other test has it. It lies in a folder.
    fn import(&self) -> String {
        format!("demo/{}-units.proto", self.records.topic())
    }

    /// The text of the schema that the sink encodes by.
    fn schema(&self) -> String {
        match self.cell.source {
            Source::Event => self.home.does(&["schema", self.cell.kind]),
            Source::File | Source::Latest => partner(self.cell.kind, &self.import()),
        }
    }

    /// The schema, as somebody else registers it.
    async fn register(&self, subject: &str) -> u32 {
        let mut references = json!([]);
        if self.cell.kind == "protobuf" && self.cell.source != Source::Event {
            let import = self.import();
            self.registry.register(&import, "PROTOBUF", UNITS).await;
            references = json!([{"name": import, "subject": import, "version": 1}]);
        }
        self.registry.register_with(subject, self.cell.word(), &self.schema(), &references).await
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
        self.home.wait_for_warning(&words).await;
    }

    /// Checks that everything published has arrived once, in order, and that each body is what the schema with the id in its
    /// prefix describes. Returns the ids.
    async fn assert_complete(&mut self) -> Vec<u32> {
        let cell = self.cell;
        let records = self.records.wait_for(self.published).await.to_vec();
        assert_eq!(records.len(), self.published, "{cell:?}: each once");
        let mut statuses: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut ids = Vec::new();
        for record in &records {
            let (id, event) = self.decode(record).await;
            let text = |name: &str| event[name].as_str().unwrap_or_else(|| panic!("{name}: {event}")).to_owned();
            statuses.entry(text("correlationId")).or_default().push(text("status"));
            ids.push(id);
        }
        for (request, statuses) in statuses {
            assert_eq!(statuses, ["GRANTED", "SUCCESS"], "{cell:?}: the order of {request}");
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
        let event = match self.cell.kind {
            "avro" => {
                let schema = apache_avro::Schema::parse_str(&schema).expect("a schema");
                let reader =
                    apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().expect("a reader");
                Value::try_from(reader.read_value(&mut &*value).expect("a datum")).expect("JSON")
            }
            "protobuf" => {
                // The number of indexes and the index, as zigzag; `[0]` is one zero byte.
                let (index, value) = match value {
                    [0, value @ ..] => (0, value),
                    [2, 2, value @ ..] => (1, value),
                    _ => panic!("the index of the message: {value:?}"),
                };
                let message = message_of(&schema, &self.import(), index);
                serde_json::to_value(prost_reflect::DynamicMessage::decode(message, value).expect("a message"))
                    .expect("JSON")
            }
            _ => serde_json::from_slice(value).expect("JSON"),
        };
        (id, event)
    }
}

/// The message at that place of the file.
fn message_of(proto: &str, import: &str, index: usize) -> prost_reflect::MessageDescriptor {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("main.proto"), proto).expect("written");
    std::fs::create_dir(dir.path().join("demo")).expect("a folder");
    std::fs::write(dir.path().join(import), UNITS).expect("written");
    let files = protox::compile(["main.proto"], [dir.path()]).expect("a .proto file");
    let pool = prost_reflect::DescriptorPool::from_file_descriptor_set(files).expect("descriptors");
    let file = pool.get_file_by_name("main.proto").expect("the file");
    file.messages().nth(index).expect("the message")
}

#[tokio::test]
async fn a_schema_is_registered_by_the_relay_where_it_may() {
    for_each(&OWN, |cell| async move {
        let mut scene = Scene::new(cell, ", register: true").await;
        let checked = scene.check_connect();
        assert!(checked.contains("the first delivery registers the schema under the subject"), "{checked}");
        assert!(scene.registry.versions(&scene.subject()).await.is_empty(), "a check registers nothing");
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "one").await;
        scene.publish("esa", "two").await;
        let ids = scene.assert_complete().await;
        assert_eq!(scene.registry.versions(&scene.subject()).await.len(), 1, "{cell:?}: one version");
        assert_eq!(ids, [scene.register(&scene.subject()).await], "{cell:?}: it is the schema that is printed");
        relay.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_others_register_is_waited_for() {
    for_each(&ALL, |cell| async move {
        let mut scene = Scene::new(cell, "").await;
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "waits").await;
        let subject = scene.subject();
        let (problem, advice) = match cell.source {
            Source::Event => {
                ("doesn't have this schema", format!("register what `regards-relay schema {}` prints", cell.kind))
            }
            // The imported file is the first that is missing.
            Source::File if cell.kind == "protobuf" => ("doesn't have this file", scene.import()),
            Source::File => ("doesn't have this schema", format!("register the schema in {}", cell.file())),
            Source::Latest => ("has no schema under the subject", "register one there".to_owned()),
        };
        scene.wait_for_warning(&[&subject, problem, &advice]).await;
        scene.regards.wait_until_acknowledged().await;
        let id = scene.register(&subject).await;
        assert_eq!(scene.assert_complete().await, [id], "{cell:?}");
        assert_eq!(relay.metric("sink_breaker_open", &[("sink", "typed")]).await, Ok(Some(0.0)));
        relay.stop().await;
        let checked = scene.check_connect();
        assert!(checked.contains(&format!("under the subject {subject} (id {id})")), "{checked}");
    })
    .await;
}

#[tokio::test]
async fn a_registry_that_is_away_at_first_is_waited_for() {
    for_each(&ALL, |cell| async move {
        let registry = Registry::shared();
        let mut proxy = Proxy::to(registry.port()).await;
        proxy.go_down().await;
        let mut scene = Scene::at(cell, cell.may_register(), registry, &url_at(proxy.port())).await;
        if cell.source == Source::Latest {
            scene.register(&scene.subject()).await;
        }
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "away").await;
        let subject = scene.subject();
        let away = ["the registry can't be connected to", "check that the registry runs"];
        scene.wait_for_warning(&[&subject, away[0], away[1]]).await;
        scene.regards.wait_until_acknowledged().await;
        proxy.come_back().await;
        scene.assert_complete().await;
        relay.stop().await;
    })
    .await;
}

#[tokio::test]
async fn while_the_registry_is_away_or_slow_deliveries_whose_id_is_known_go_on() {
    for_each(&ALL, |cell| async move {
        let registry = Registry::shared();
        let mut proxy = Proxy::to(registry.port()).await;
        // The subject depends on the tenant.
        let settings = format!(r#"{}, subject: "{{{{ topic }}}}-{{{{ tenant }}}}""#, cell.may_register());
        let mut scene = Scene::at(cell, &settings, registry, &url_at(proxy.port())).await;
        let subject = |tenant: &str, scene: &Scene| format!("{}-{tenant}", scene.records.topic());
        if cell.source == Source::Latest {
            for tenant in ["known", "unknown", "slow"] {
                scene.register(&subject(tenant, &scene)).await;
            }
        }
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
        scene.wait_for_warning(&["the registry did not answer within"]).await;
        assert_eq!(relay.metric("sink_breaker_open", &[("sink", "typed")]).await, Ok(Some(0.0)));
        proxy.release();
        scene.assert_complete().await;
        relay.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_incompatible_schema_waits_until_the_subject_allows_it() {
    // A version of another kind of record, with which neither the relay's nor the partner's is compatible.
    for_each(&OWN, |cell| async move {
        let (package, name) = if cell.source == Source::Event { ("fr.cnes.regards.relay", "Event") } else { ("demo", "Partner") };
        let other = match cell.kind {
            "avro" => json!({"type": "record", "name": name, "namespace": package, "fields": [{"name": "id", "type": "int"}, {"name": "status", "type": "int"}]}).to_string(),
            "json_schema" => json!({"type": "object", "properties": {"id": {"type": "integer"}, "status": {"type": "integer"}}, "additionalProperties": false}).to_string(),
            _ => format!("syntax = \"proto3\";\npackage {package};\nmessage {name} {{\n  int32 id = 1;\n  int32 type = 2;\n}}\n"),
        };
        let mut scene = Scene::new(cell, ", register: true").await;
        let subject = scene.subject();
        scene.registry.register(&subject, cell.word(), &other).await;
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
    })
    .await;
}

#[tokio::test]
async fn a_registry_that_forbids_is_asked_again_with_the_new_token() {
    let private = Services::private(&["registry-auth"]).await;
    let services = private.services();
    for_each(&ALL, |cell| async move {
        let admin = token(services.token_key(), "sr-admin");
        let registry = Registry::with_token(services, admin.clone());
        let settings = format!(r#"{}, auth: {{ bearer: "${{file:token}}" }}"#, cell.may_register());
        let mut scene = Scene::at(cell, &settings, registry, &url_at(services.registry_auth_port())).await;
        // Without any role the registry forbids to read, too.
        let role = if cell.source == Source::Latest { "none" } else { "sr-readonly" };
        let limited = token(services.token_key(), role);
        scene.home.write("token", &limited);
        let subject = scene.subject();
        if cell.source == Source::Latest {
            scene.register(&subject).await;
        }
        let home = Arc::clone(&scene.home);
        let relay = home.start_ready().await;
        scene.publish("cnes", "forbidden").await;
        scene.wait_for_warning(&[&subject, "403 Forbidden", "allow the user of `registry.auth`"]).await;
        scene.regards.wait_until_acknowledged().await;
        home.write("token", "wrong");
        scene.wait_for_warning(&[&subject, "401 Unauthorized", "check `registry.auth`"]).await;
        home.write("token", &admin);
        scene.assert_complete().await;
        relay.stop().await;
        for secret in [limited, admin] {
            assert!(!home.log().contains(&secret), "the log shows no token");
        }
    })
    .await;
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
    let mut scene = Scene::with(
        Cell { kind: "avro", source: Source::Event },
        settings,
        registry,
        &url_at(services.registry_auth_port()),
        |home| {
            home.with("TOKENS", &tokens.url())
                .with("SECRET", TokenServer::CLIENT_SECRET)
                .keeping_secret(TokenServer::CLIENT_SECRET)
        },
    )
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

#[tokio::test]
async fn confluent_s_deserializers_read_every_field() {
    for kind in KINDS {
        let scene = Scene::new(Cell { kind, source: Source::Event }, ", register: true").await;
        let messages = [
            Response::new("cnes-a", "c-1", "GRANTED"),
            Response::new("esa", "c-2", "ERROR")
                .field("message", "no quota \u{e9}")
                .field("size", 4)
                .field("session", 7),
        ];
        let events = messages.each_ref().map(|message| {
            scene.home.write("sample.json", &message.sample());
            let explained: Value =
                serde_json::from_str(&scene.home.does(&["explain", "--json", "sample.json"])).expect("JSON");
            explained["event"].clone()
        });
        let relay = scene.home.start_ready().await;
        scene.regards.publish_all(&messages).await;
        scene.home.write("event.proto", &scene.home.does(&["schema", "protobuf"]));
        let schema = scene.home.path("event.proto");
        let url = scene.registry.url();
        let schema = (kind == "protobuf").then_some(schema.as_path());
        let reader = Deserializer { format: kind, registry: Some(&url), schema, message: "Event" };
        let mut read = reader.read(&Kafka::shared(), scene.records.topic(), 2).await;
        // The reader keeps the names of the .proto file.
        let named = |name: &str| match (kind, name) {
            ("protobuf", "correlationId") => "correlation_id".to_owned(),
            ("protobuf", "productId") => "product_id".to_owned(),
            _ => name.to_owned(),
        };
        read.sort_by_key(|record| record.value[named("correlationId")].to_string());
        for (read, event) in read.iter().zip(events) {
            for (name, value) in event.as_object().expect("an object") {
                let value = match (kind, name.as_str()) {
                    ("avro" | "protobuf", "extra") => value.to_string().into(),
                    _ => value.clone(),
                };
                // Protobuf leaves out what is null or empty.
                let left_out = kind == "protobuf" && (value.is_null() || value == json!([]));
                let found = read
                    .value
                    .get(named(name))
                    .cloned()
                    .unwrap_or_else(|| if left_out { value.clone() } else { Value::Null });
                assert_eq!(found, value, "{kind}: {name} of {}", read.value);
            }
        }
        relay.stop().await;
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
