//! An OAuth 2.0 token server that issues signed tokens and publishes its keys. It knows one client.

#![allow(dead_code, reason = "the benchmarks have the harness too")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use url::form_urlencoded;

use super::server::Server;
use super::{Services, until, use_ring};

const MOST_BYTES: usize = 64 << 10;
/// The id of the key in the headers of tokens and in the set of keys.
pub const KEY_ID: &str = "tests";

/// The server. It stops when dropped.
pub struct TokenServer {
    shared: Arc<Shared>,
    server: Server,
}

struct Shared {
    key: Key,
    settings: Mutex<Settings>,
    requests: Mutex<Vec<TokenRequest>>,
    issued: Mutex<Vec<IssuedToken>>,
    held: watch::Sender<bool>,
}

enum Key {
    Rs256(Box<RsaKeyPair>),
    Es256(Box<EcdsaKeyPair>),
}

struct Settings {
    lifetime: Duration,
    names_lifetime: bool,
    claims: serde_json::Map<String, Value>,
    secret: String,
    /// The public key of the client, as a point on P-256: assertions are expected instead of the secret.
    client_key: Option<Vec<u8>>,
    refusal: Option<(u16, String)>,
    /// The number of tokens that are revoked: the first so many.
    revoked: usize,
}

/// A request as it was received.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    pub form: HashMap<String, String>,
    pub headers: HeaderMap,
}

#[derive(Debug, Clone)]
struct IssuedToken {
    text: String,
    /// In seconds since 1970.
    ends_at: u64,
}

impl TokenServer {
    pub const CLIENT_ID: &'static str = "relay";
    pub const CLIENT_SECRET: &'static str = "s3cret of / the + client";

    /// A server with a key of its own (ES256).
    pub async fn start() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).expect("a key");
        Self::with_key(Key::Es256(Box::new(key))).await
    }

    /// A server whose tokens the brokers accept (RS256).
    pub async fn start_for(services: &Services) -> Self {
        let key = PrivateKeyDer::from_pem_file(services.token_key()).expect("the key of the tests' tokens");
        let key = match &key {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => panic!("the key of the tests' tokens is RSA"),
        };
        Self::with_key(Key::Rs256(Box::new(key.expect("an RSA key")))).await
    }

    async fn with_key(key: Key) -> Self {
        use_ring();
        let settings = Settings {
            lifetime: Duration::from_hours(1),
            names_lifetime: true,
            claims: serde_json::Map::new(),
            secret: Self::CLIENT_SECRET.to_owned(),
            client_key: None,
            refusal: None,
            revoked: 0,
        };
        let shared = Arc::new(Shared {
            key,
            settings: Mutex::new(settings),
            requests: Mutex::default(),
            issued: Mutex::default(),
            held: watch::Sender::new(false),
        });
        let mut server = Self { shared, server: Server::new() };
        server.come_back().await;
        server
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.server.port())
    }

    pub fn jwks_url(&self) -> String {
        format!("http://127.0.0.1:{}/jwks", self.server.port())
    }

    /// The lifetime of further tokens.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.settings().lifetime = lifetime;
    }

    /// Whether answers have `expires_in`.
    pub fn names_lifetime(&self, names: bool) {
        self.settings().names_lifetime = names;
    }

    /// Claims of further tokens, instead of or beside those of [`claims`].
    pub fn set_claims(&self, claims: &Value) {
        self.settings().claims.clone_from(claims.as_object().expect("an object"));
    }

    /// The client's secret from now on.
    pub fn set_secret(&self, secret: &str) {
        secret.clone_into(&mut self.settings().secret);
    }

    /// Expects assertions (ES256) by this key from now on, not the secret.
    pub fn expect_assertions(&self, point: &[u8]) {
        self.settings().client_key = Some(point.to_vec());
    }

    /// Answers with this error from now on.
    pub fn refuse(&self, status: u16, body: &str) {
        self.settings().refusal = Some((status, body.to_owned()));
    }

    /// Issues tokens again.
    pub fn accept(&self) {
        self.settings().refusal = None;
    }

    /// Accepts requests and answers them only after [`release`](Self::release).
    pub fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub fn release(&self) {
        self.shared.held.send_replace(false);
    }

    pub fn requests(&self) -> Vec<TokenRequest> {
        self.shared.requests.lock().expect("no holder panics").clone()
    }

    /// The tokens issued so far.
    pub fn issued(&self) -> Vec<String> {
        self.shared.issued.lock().expect("no holder panics").iter().map(|token| token.text.clone()).collect()
    }

    pub async fn wait_for_issued(&self, count: usize) {
        until(&format!("{count} tokens"), async || match self.issued().len() {
            issued if issued >= count => Ok(()),
            issued => Err(issued.to_string()),
        })
        .await;
    }

    /// Makes every token that was issued so far invalid for [`Bearers`].
    pub fn revoke(&self) {
        let issued = self.shared.issued.lock().expect("no holder panics").len();
        self.settings().revoked = issued;
    }

    /// What checks tokens, for a receiver of the tests.
    pub fn bearers(&self) -> Bearers {
        Bearers(Arc::clone(&self.shared))
    }

    /// Stops listening and cuts every connection.
    pub async fn go_down(&mut self) {
        self.server.go_down().await;
    }

    /// Listens again on the same address.
    pub async fn come_back(&mut self) {
        let app = Router::new().route("/token", post(issue)).route("/jwks", get(jwks));
        let app = app.with_state(Arc::clone(&self.shared));
        let serve = async move |listener: TcpListener| {
            let _ = axum::serve(listener, app).await;
        };
        self.server.come_back(serve).await;
    }

    fn settings(&self) -> std::sync::MutexGuard<'_, Settings> {
        self.shared.settings.lock().expect("no holder panics")
    }
}

/// Checks bearer tokens as a resource server does.
#[derive(Clone)]
pub struct Bearers(Arc<Shared>);

impl Bearers {
    /// Whether the request has a token of the server that is neither over nor revoked.
    pub fn accept(&self, headers: &HeaderMap) -> bool {
        let Some(token) = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        else {
            return false;
        };
        let revoked = self.0.settings.lock().expect("no holder panics").revoked;
        let issued = self.0.issued.lock().expect("no holder panics");
        issued.iter().skip(revoked).any(|known| known.text == token && known.ends_at > seconds(SystemTime::now()))
    }
}

async fn issue(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MOST_BYTES).await else { return StatusCode::BAD_REQUEST.into_response() };
    let form = form_urlencoded::parse(&body).into_owned().collect();
    let request = TokenRequest { form, headers: parts.headers };
    shared.requests.lock().expect("no holder panics").push(request.clone());
    let mut held = shared.held.subscribe();
    held.wait_for(|held| !held).await.expect("the sender lives in the state");
    let settings = shared.settings.lock().expect("no holder panics");
    if let Some((status, body)) = &settings.refusal {
        let status = StatusCode::from_u16(*status).expect("a status");
        return (status, [(CONTENT_TYPE, "application/json")], body.clone()).into_response();
    }
    if request.form.get("grant_type").map(String::as_str) != Some("client_credentials") {
        return answer(400, &json!({ "error": "unsupported_grant_type" }));
    }
    let proof = match &settings.client_key {
        Some(key) => check_assertion(&request, key),
        None => check_secret(&request, &settings.secret),
    };
    if let Err(why) = proof {
        return answer(401, &json!({ "error": "invalid_client", "error_description": why }));
    }
    let mut issued = shared.issued.lock().expect("no holder panics");
    let now = SystemTime::now();
    // Rounded up: a token never ends before its `expires_in`.
    let ends_at = (now + settings.lifetime).duration_since(UNIX_EPOCH).expect("after 1970");
    let ends_at = ends_at.as_secs() + u64::from(ends_at.subsec_nanos() > 0);
    let mut claims = claims(&request, seconds(now), ends_at, issued.len());
    claims.as_object_mut().expect("an object").extend(settings.claims.clone());
    let text = shared.key.sign(&claims);
    issued.push(IssuedToken { text: text.clone(), ends_at });
    let mut grant = json!({ "access_token": text, "token_type": "Bearer" });
    if settings.names_lifetime {
        grant["expires_in"] = settings.lifetime.as_secs().into();
    }
    answer(200, &grant)
}

/// The claims by which the brokers and the registry of the tests accept a token.
fn claims(request: &TokenRequest, now: u64, ends_at: u64, number: usize) -> Value {
    let requested = |name: &str| request.form.get(name).map(|value| json!(value));
    json!({
        "iss": "token-server-of-the-tests",
        "sub": TokenServer::CLIENT_ID,
        "aud": requested("audience").unwrap_or_else(|| json!(["kafka", "rabbitmq", "registry"])),
        "scope": requested("scope").unwrap_or_else(|| {
            json!("rabbitmq.read:*/*/* rabbitmq.write:*/*/* rabbitmq.configure:*/*/*")
        }),
        "roles": ["sr-admin"],
        "iat": now,
        "exp": ends_at,
        "jti": number.to_string(),
    })
}

fn check_secret(request: &TokenRequest, secret: &str) -> Result<(), &'static str> {
    let given = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    let given = given.and_then(|given| STANDARD.decode(given).ok()).ok_or("no HTTP Basic")?;
    let given = String::from_utf8(given).map_err(|_| "no UTF-8")?;
    let (id, password) = given.split_once(':').ok_or("no colon")?;
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    if id != encoded(TokenServer::CLIENT_ID) || password != encoded(secret) {
        return Err("wrong secret");
    }
    Ok(())
}

fn check_assertion(request: &TokenRequest, key: &[u8]) -> Result<(), &'static str> {
    let kind = request.form.get("client_assertion_type").map(String::as_str);
    if kind != Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") {
        return Err("no assertion");
    }
    let assertion = request.form.get("client_assertion").ok_or("no assertion")?;
    let (signed, signature) = assertion.rsplit_once('.').ok_or("no token")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "no base64")?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
    key.verify(signed.as_bytes(), &signature).map_err(|_| "wrong signature")?;
    let part =
        |part: Option<&str>| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part?).ok()?).ok() };
    let header = part(signed.split('.').next()).ok_or("no header")?;
    let claims = part(signed.split('.').nth(1)).ok_or("no claims")?;
    let now = seconds(SystemTime::now());
    let is_in_time = claims["exp"].as_u64().is_some_and(|end| end > now && end <= now + 600);
    let is_for_us = claims["aud"].as_str().is_some_and(|audience| audience.ends_with("/token"));
    let is_client = claims["iss"] == TokenServer::CLIENT_ID && claims["sub"] == TokenServer::CLIENT_ID;
    if header["alg"] != "ES256" || !is_in_time || !is_for_us || !is_client || !claims["jti"].is_string() {
        return Err("wrong claims");
    }
    Ok(())
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    answer(200, &json!({ "keys": [shared.key.public()] }))
}

fn answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

impl Key {
    fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm(), "typ": "JWT", "kid": KEY_ID });
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encoded(&header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("signed");
                signature
            }
            Self::Es256(key) => key.sign(&random, signed.as_bytes()).expect("signed").as_ref().to_vec(),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
        }
    }

    /// As a JSON Web Key.
    fn public(&self) -> Value {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rs256(key) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": KEY_ID, "n": encoded(&n), "e": encoded(&e) })
            }
            Self::Es256(key) => {
                // 4, x and y.
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": KEY_ID, "x": encoded(x), "y": encoded(y) })
            }
        }
    }
}

/// Writes a new key of the client (P-256) to a PEM file, and returns the point that verifies its signatures.
pub fn write_client_key(path: &Path) -> Vec<u8> {
    let key = rcgen::KeyPair::generate().expect("a key");
    std::fs::write(path, key.serialize_pem()).expect("a file");
    key.public_key_raw().to_vec()
}
