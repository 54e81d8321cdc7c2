//! One request for a token: the client's proof of who it is, and the form.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::answer::{self, GrantedToken, MAX_BODY};
use crate::clock;
use crate::config::{ClientAuthentication, Masks, OAuth2Config, Secret};
use crate::net::SigningKey;
use crate::net::http::{ClientSettings, ConnectionPool, HttpClient, allowed, basic, sensitive};
use crate::tasks;

const SETTINGS: ClientSettings =
    ClientSettings { server: "token server", timeout: Duration::from_secs(10), concurrency: 1, max_body: MAX_BODY };
/// How long an assertion is valid. The clock of the token server may differ from ours.
const ASSERTION_LIFE: Duration = Duration::from_mins(5);
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The work that may block, in errors.
const READING_FILES: &str = "reading the client's secret, key and certificates";

/// Sends the requests of one `oauth2:` block. The HTTP client is made with the first one.
#[derive(Default)]
pub(super) struct TokenClient {
    client: Arc<Mutex<Option<Arc<HttpClient>>>>,
}

/// A request, ready to be sent.
struct TokenRequest {
    client: Arc<HttpClient>,
    pool: ConnectionPool,
    url: Url,
    headers: HeaderMap,
    body: String,
    /// The secrets in it.
    masks: Masks,
}

impl TokenClient {
    /// The error names the token server, and never shows a secret.
    pub(super) async fn fetch(&self, config: &OAuth2Config) -> Result<GrantedToken, String> {
        let (config, client) = (config.clone(), Arc::clone(&self.client));
        let preparing = tokio::task::spawn_blocking(move || prepare(&config, &client));
        let prepared = match tokio::time::timeout(SETTINGS.timeout, preparing).await {
            Ok(Ok(prepared)) => prepared?,
            Ok(Err(error)) => return Err(tasks::blocking_error(READING_FILES, &error)),
            Err(_) => return Err(format!("{READING_FILES} timed out")),
        };
        let TokenRequest { client, pool, url, headers, body, masks } = prepared;
        let server = url.origin().ascii_serialization();
        let response = client
            .send(&pool, Method::POST, &url, headers, Bytes::from(body))
            .await
            .map_err(|error| format!("{} (`token_url` {server})", masks.apply_to_beginning(&error)))?;
        answer::read(&response)
            .map_err(|error| format!("the token server {server} {}", masks.apply_to_beginning(&error)))
    }
}

/// Reads secrets and files, which blocks.
fn prepare(config: &OAuth2Config, shared: &Mutex<Option<Arc<HttpClient>>>) -> Result<TokenRequest, String> {
    let url = token_url(&reveal(&config.token_url)?)?;
    let client = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*shared {
            Arc::clone(client)
        } else {
            let client = HttpClient::open(SETTINGS, &config.tls, url.scheme() == "https", &[])?;
            Arc::clone(shared.insert(Arc::new(client)))
        }
    };
    let client_id = reveal(&config.client_id)?;
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    let parameters = [("scope", &config.scope), ("audience", &config.audience)];
    for (name, value) in parameters.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        form.append_pair(name, value);
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let mut secrets = Vec::new();
    match &config.client {
        ClientAuthentication::Secret(secret) => {
            let secret = reveal(secret)?;
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let value = basic(&encoded(&client_id), &encoded(&secret));
            secrets.extend(value.strip_prefix("Basic ").map(str::to_owned));
            secrets.extend([encoded(&secret), secret]);
            headers.insert(AUTHORIZATION, sensitive(value).map_err(|error| error.to_string())?);
        }
        ClientAuthentication::PrivateKey { path, key_id } => {
            let problem = |error| format!("the file {} of `private_key` can't be used: {error}", path.display());
            let key = SigningKey::read(path).map_err(problem)?;
            let assertion = assertion(&key, key_id.as_deref(), &client_id, url.as_str(), clock::system_time())?;
            form.append_pair("client_id", &client_id);
            form.append_pair("client_assertion_type", ASSERTION_TYPE);
            form.append_pair("client_assertion", &assertion);
            secrets.push(assertion);
        }
    }
    let masks = secrets.iter().map(String::as_str).collect();
    Ok(TokenRequest { pool: client.pool(None), client, url, headers, body: form.finish(), masks })
}

fn reveal(secret: &Secret) -> Result<String, String> {
    secret.reveal().map_err(|error| error.to_string())
}

/// The content of `${file:…}` may have changed since the configuration was checked.
fn token_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("`token_url` is not a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("`token_url` must begin with https:// or http://".to_owned());
    }
    allowed(&url, &[]).map_err(|problem| format!("`token_url`: {problem}"))?;
    Ok(url)
}

/// A token by which the client proves who it is (RFC 7523, 3).
fn assertion(
    key: &SigningKey,
    key_id: Option<&str>,
    client_id: &str,
    audience: &str,
    now: SystemTime,
) -> Result<String, String> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut header = json!({ "alg": key.algorithm(), "typ": "JWT" });
    if let (Some(key_id), Some(header)) = (key_id, header.as_object_mut()) {
        header.insert("kid".to_owned(), key_id.into());
    }
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": now,
        "exp": now + ASSERTION_LIFE.as_secs(),
        // Never used twice: the server may accept each only once.
        "jti": URL_SAFE_NO_PAD.encode(std::array::from_fn::<u8, 16, _>(|_| fastrand::u8(..))),
    });
    key.sign(&header.to_string(), &claims.to_string())
}
