//! The requests to a registry.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::Url;

use super::error::{Action, RegistryError};
use crate::config::{Masks, RegistryConfig, WebhookAuth};
use crate::event::{SchemaKind, SchemaText};
use crate::net::http::{BodyEnd, ClientSettings, HttpClient, Response, of_user_in, remove_user, sensitive};
use crate::oauth::{self, AccessToken, TokenSource};
use crate::tasks;

/// The deadline of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read: a schema with many fields, as text.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The largest number of idle connections. Requests for one subject follow each other.
const CONNECTIONS: usize = 4;
/// The MIME type of the API's requests and answers.
const MIME: &str = "application/vnd.schemaregistry.v1+json";
const BAD_LOGIN: &str = "`registry.auth` has a character that an HTTP header must not have";
/// The codes of the API that say: there is no such subject, version or schema.
const NOT_FOUND: [u64; 3] = [40401, 40402, 40403];

pub(super) struct RegistryClient {
    config: RegistryConfig,
    http: Arc<HttpClient>,
    tokens: Option<Arc<TokenSource>>,
}

impl RegistryClient {
    /// Reads the certificates, which blocks. Needs a runtime, on which access tokens are renewed.
    pub(super) fn open(config: &RegistryConfig) -> Result<Self, String> {
        let settings =
            ClientSettings { server: "registry", timeout: TIMEOUT, concurrency: CONNECTIONS, max_body: MAX_BODY };
        let (url, _) = url_and_login(config)?;
        let http = HttpClient::open(settings, &config.tls, url.scheme() == "https", &[])?;
        let tokens = match &config.auth {
            Some(WebhookAuth::OAuth2(oauth2)) => Some(oauth::source(oauth2)),
            _ => None,
        };
        Ok(Self { config: config.clone(), http: Arc::new(http), tokens })
    }

    /// Exactly this schema under the subject.
    pub(super) async fn look_up(
        &self,
        subject: &str,
        schema: &SchemaText,
        references: &[Reference],
    ) -> Result<Option<RegisteredVersion>, RegistryError> {
        let request = Request {
            action: Action::LookUp,
            method: Method::POST,
            path: &["subjects", subject],
            subject: Some(subject),
            body: registration(schema, references),
        };
        self.send(request, |response| optional(Action::LookUp, subject, response)).await
    }

    pub(super) async fn register(
        &self,
        subject: &str,
        schema: &SchemaText,
        references: &[Reference],
    ) -> Result<u32, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            id: u32,
        }
        let request = Request {
            action: Action::Register,
            method: Method::POST,
            path: &["subjects", subject, "versions"],
            subject: Some(subject),
            body: registration(schema, references),
        };
        self.send(request, |response| answer::<Answer>(Action::Register, subject, response))
            .await
            .map(|answer| answer.id)
    }

    /// A version of the subject: its number, or `latest`.
    pub(super) async fn version(&self, subject: &str, version: &str) -> Result<Option<SchemaVersion>, RegistryError> {
        let request = Request {
            action: Action::Read,
            method: Method::GET,
            path: &["subjects", subject, "versions", version],
            subject: Some(subject),
            body: Bytes::new(),
        };
        self.send(request, |response| optional(Action::Read, subject, response)).await
    }

    pub(super) async fn ping(&self) -> Result<(), RegistryError> {
        let request = Request {
            action: Action::Ping,
            method: Method::GET,
            path: &["schemas", "types"],
            subject: None,
            body: Bytes::new(),
        };
        self.send(request, |response| {
            if response.status.is_success() {
                return Ok(());
            }
            Err(RegistryError::answer(Action::Ping, None, response.status, &response.body))
        })
        .await
    }

    /// Sends the request; a second one with a new token, if the registry answers 401 to a token that was issued earlier.
    async fn send<T>(
        &self,
        request: Request<'_>,
        read: impl FnOnce(&Response) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let Some(tokens) = &self.tokens else { return read(&self.exchange(&request, None).await?) };
        let latest = tokens.latest();
        let response = loop {
            let token = tokens.token().await;
            let token = token.map_err(|error| RegistryError::settings(request.subject, &error.to_string()))?;
            let sent = self.exchange(&request, Some(&token)).await;
            let response = sent.map_err(|error| error.without_tokens(tokens))?;
            if response.status != StatusCode::UNAUTHORIZED {
                break response;
            }
            tokens.refuse(&token);
            if token.is_after(latest) {
                break response;
            }
        };
        read(&response).map_err(|error| error.without_tokens(tokens))
    }

    async fn exchange(&self, request: &Request<'_>, token: Option<&AccessToken>) -> Result<Response, RegistryError> {
        let config = self.config.clone();
        let reading = tokio::task::spawn_blocking(move || url_and_login(&config));
        let read = match tokio::time::timeout(TIMEOUT, reading).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => Err(tasks::blocking_error("reading the login of the registry", &error)),
            Err(_) => Err("reading the login of the registry timed out".to_owned()),
        };
        let (mut url, login) = read.map_err(|problem| RegistryError::settings(request.subject, &problem))?;
        let login = token.map(|token| format!("Bearer {}", token.secret())).or(login);
        let masks = login.as_deref().map(masks_of);
        let login = login.map(sensitive).transpose();
        let login = login.map_err(|_| RegistryError::settings(request.subject, BAD_LOGIN))?;
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(request.path);
        }
        if matches!(request.action, Action::LookUp | Action::Register) {
            url.set_query(Some("normalize=true"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(MIME));
        if let Some(login) = login {
            headers.insert(AUTHORIZATION, login);
        }
        if !request.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(MIME));
        }
        let sent = self.http.exchange(request.method.clone(), &url, headers, request.body.clone()).await;
        let mut response = sent.map_err(|problem| RegistryError::without_answer(request.subject, &problem))?;
        if let Some(masks) = masks.filter(|_| !response.status.is_success()) {
            // Before it is cut for an error: a registry may repeat what it was sent.
            response.body = masks.apply(&String::from_utf8_lossy(&response.body)).into();
        }
        let problem = match response.body_end {
            // What could be read of an error is shown.
            _ if !response.status.is_success() => return Ok(response),
            BodyEnd::Whole => return Ok(response),
            BodyEnd::TooLong => format!("the registry's answer is longer than {} MiB", MAX_BODY >> 20),
            BodyEnd::BrokenOff => "the registry's answer broke off".to_owned(),
            BodyEnd::TimedOut => format!("the registry's answer was not complete within {TIMEOUT:?}"),
        };
        Err(RegistryError::without_answer(request.subject, &problem))
    }
}

struct Request<'a> {
    action: Action,
    method: Method,
    /// The parts of the path after that of `registry.url`.
    path: &'a [&'a str],
    subject: Option<&'a str>,
    body: Bytes,
}

/// A schema that another one refers to, as the API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: u32,
}

impl Reference {
    /// Of a file that is under the subject of its own name.
    pub(super) fn new(name: &str, version: u32) -> Self {
        Self { name: name.to_owned(), subject: name.to_owned(), version }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct RegisteredVersion {
    pub(super) id: u32,
    pub(super) version: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaVersion {
    pub(super) id: u32,
    pub(super) version: u32,
    pub(super) schema: String,
    /// Registries leave it out for Avro.
    #[serde(default = "avro")]
    pub(super) schema_type: String,
    #[serde(default)]
    pub(super) references: Option<Vec<Reference>>,
}

impl SchemaVersion {
    pub(super) fn kind(&self) -> Option<SchemaKind> {
        SchemaKind::ALL.into_iter().find(|kind| word(*kind) == self.schema_type)
    }
}

fn avro() -> String {
    word(SchemaKind::Avro).to_owned()
}

/// The API's word for that kind of schema.
pub(super) const fn word(kind: SchemaKind) -> &'static str {
    match kind {
        SchemaKind::Avro => "AVRO",
        SchemaKind::JsonSchema => "JSON",
        SchemaKind::Protobuf => "PROTOBUF",
    }
}

/// The masks for the value of a header `Authorization`.
fn masks_of(login: &str) -> Masks {
    let secret = login.split_once(' ').map_or(login, |(_, secret)| secret);
    let user = login.strip_prefix("Basic ").and_then(|basic| STANDARD.decode(basic).ok());
    let user = user.map(|user| String::from_utf8_lossy(&user).into_owned()).unwrap_or_default();
    let password = user.split_once(':').map_or("", |(_, password)| password);
    [secret, password].into_iter().filter(|secret| !secret.is_empty()).collect()
}

/// The body of a lookup and of a registration.
fn registration(schema: &SchemaText, references: &[Reference]) -> Bytes {
    json!({"schema": schema.text, "schemaType": word(schema.kind), "references": references}).to_string().into()
}

fn answer<T: DeserializeOwned>(action: Action, subject: &str, response: &Response) -> Result<T, RegistryError> {
    if !response.status.is_success() {
        return Err(RegistryError::answer(action, Some(subject), response.status, &response.body));
    }
    serde_json::from_slice(&response.body)
        .map_err(|_| RegistryError::without_answer(Some(subject), "the answer is not that of a registry"))
}

/// None: the registry says that it doesn't have it.
fn optional<T: DeserializeOwned>(
    action: Action,
    subject: &str,
    response: &Response,
) -> Result<Option<T>, RegistryError> {
    if response.status == StatusCode::NOT_FOUND && is_not_found(&response.body) {
        return Ok(None);
    }
    answer(action, subject, response).map(Some)
}

/// Whether this is a registry's word that it has no such schema, not that of another server that has no such page.
fn is_not_found(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        error_code: u64,
    }
    serde_json::from_slice::<Answer>(body).is_ok_and(|answer| NOT_FOUND.contains(&answer.error_code))
}

/// The URL without user and password, and the header `Authorization` unless it needs a token. Blocks if secrets are in files.
fn url_and_login(config: &RegistryConfig) -> Result<(Url, Option<String>), String> {
    let url = config.url.reveal().map_err(|error| error.to_string())?;
    let mut url = Url::parse(url.trim()).map_err(|error| format!("`registry.url` is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("`registry.url` must begin with https:// or http://".to_owned());
    }
    let login = match &config.auth {
        Some(auth) => auth.authorization()?,
        None => of_user_in(&url),
    };
    remove_user(&mut url);
    url.set_query(None);
    url.set_fragment(None);
    Ok((url, login))
}
