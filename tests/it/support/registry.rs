//! A schema registry as its administrator and other clients see it, through Confluent's API.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::rabbit::{ANSWER_WITHIN, encode};
use super::{Services, use_ring};

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

#[derive(Clone)]
pub struct Registry {
    port: u16,
    token: Option<String>,
    http: reqwest::Client,
}

impl Registry {
    /// The registry that all tests share. Subjects are the tests' own: [`unique`](super::unique).
    pub fn shared() -> Self {
        Self::of(&Services::shared())
    }

    pub fn of(services: &Services) -> Self {
        Self::at(services.registry_port(), None)
    }

    /// The registry that asks for a token (service `registry-auth`), which the tests' key signs.
    #[allow(dead_code, reason = "for the tests of logins to a registry")]
    pub fn with_token(services: &Services, token: String) -> Self {
        Self::at(services.registry_auth_port(), Some(token))
    }

    fn at(port: u16, token: Option<String>) -> Self {
        use_ring();
        // Without persistent connections: a registry that was restarted has closed them.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(ANSWER_WITHIN).build();
        Self { port, token, http: http.expect("a client") }
    }

    /// For a proxy before it.
    #[allow(dead_code, reason = "for the tests of a registry that is away")]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `registry.url` is set to.
    pub fn url(&self) -> String {
        url_at(self.port)
    }

    /// Registers a schema under a subject. `kind` is `AVRO`, `JSON` or `PROTOBUF`. Returns its id.
    pub async fn register(&self, subject: &str, kind: &str, schema: &str) -> u32 {
        self.register_with(subject, kind, schema, &json!([])).await
    }

    /// Like [`register`](Self::register), with `references` as in the API: `[{name, subject, version}]`.
    pub async fn register_with(&self, subject: &str, kind: &str, schema: &str, references: &Value) -> u32 {
        let registration = json!({"schema": schema, "schemaType": kind, "references": references});
        let path = format!("subjects/{}/versions?normalize=true", encode(subject));
        let (status, answer) = self.ask(Method::POST, &path, Some(&registration)).await;
        assert_eq!(status, StatusCode::OK, "{subject}: {answer}");
        id_of(&answer)
    }

    /// Sets the compatibility that the registry asks of new versions: `BACKWARD`, `FULL_TRANSITIVE`, `NONE`…
    pub async fn set_compatibility(&self, subject: &str, level: &str) {
        let level = json!({"compatibility": level});
        let (status, answer) = self.ask(Method::PUT, &format!("config/{subject}"), Some(&level)).await;
        assert_eq!(status, StatusCode::OK, "{subject}: {answer}");
    }

    /// The latest version of a subject, `{subject, version, id, schema, schemaType, references}`; `None` if there is none.
    pub async fn latest(&self, subject: &str) -> Option<Value> {
        let (status, answer) =
            self.ask(Method::GET, &format!("subjects/{}/versions/latest", encode(subject)), None).await;
        assert!(status == StatusCode::OK || status == StatusCode::NOT_FOUND, "{subject}: {status} {answer}");
        (status == StatusCode::OK).then_some(answer)
    }

    /// The numbers of a subject's versions.
    pub async fn versions(&self, subject: &str) -> Vec<u64> {
        let (status, answer) = self.ask(Method::GET, &format!("subjects/{}/versions", encode(subject)), None).await;
        match status {
            StatusCode::NOT_FOUND => Vec::new(),
            _ => answer.as_array().expect("versions").iter().filter_map(Value::as_u64).collect(),
        }
    }

    /// The text of the schema with this id.
    pub async fn schema(&self, id: u32) -> String {
        let (status, answer) = self.ask(Method::GET, &format!("schemas/ids/{id}"), None).await;
        assert_eq!(status, StatusCode::OK, "{id}: {answer}");
        answer["schema"].as_str().expect("a schema").to_owned()
    }

    /// Any request of the API: the status, and the answer as JSON (null if it is something else).
    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let mut request =
            self.http.request(method, format!("{}/{path}", self.url())).header("content-type", CONTENT_TYPE);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.expect("an answer of the registry");
        let status = answer.status();
        let text = answer.bytes().await.expect("the answer's body");
        (status, serde_json::from_slice(&text).unwrap_or_default())
    }
}

/// The URL of the API at a port of this machine, for instance of a proxy.
pub fn url_at(port: u16) -> String {
    format!("http://127.0.0.1:{port}/apis/ccompat/v7")
}

fn id_of(answer: &Value) -> u32 {
    answer["id"].as_u64().and_then(|id| id.try_into().ok()).unwrap_or_else(|| panic!("no id: {answer}"))
}
