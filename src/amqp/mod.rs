//! What the AMQP source and the AMQP sink share: connections, field values, and errors.
//!
//! lapin's own recovery stays off: the owner of a connection supervises it.

mod error;
pub mod guard;
mod stream;
mod token_login;
pub mod values;

pub use error::{BrokerError, BrokerErrorKind};

use std::fmt;
use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri, SASLMechanism};
use lapin::{Channel, ConnectionProperties};
use tokio::task::AbortHandle;

use self::guard::{MAX_FRAME, MessageEdits};
use self::stream::{BrokerStream, LapinRuntime, StreamHandle};

use crate::config::{AmqpConnection, AmqpLogin, Secret};
use crate::net;
use crate::net::address::ambiguous_broker_url;
use crate::oauth::{self, AccessToken, TokenSource};
use crate::tasks::{self, TaskKind};

/// For the name look-up, TCP connection, TLS and login of one URL together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For any other single reply of a broker, and for writing acknowledgements.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// In seconds. A connection without a heartbeat for twice as long is lost.
const HEARTBEAT: u16 = 10;
/// Instead of the name of a user that only the broker knows.
const OF_CERTIFICATE: &str = "of the client certificate";
const OF_TOKEN: &str = "of the access token";

/// Host, port and login of a broker, without the password: for error messages and logs.
#[derive(Debug, Clone, Default)]
pub struct BrokerAddress {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub vhost: String,
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, user, vhost } = self;
        write!(f, "{host}:{port}, user {user}, virtual host {vhost}")
    }
}

/// Connects to the broker of one source or sink. It keeps the access token of the login, if there is one.
pub struct Connector {
    config: AmqpConnection,
    tokens: Option<Arc<TokenSource>>,
    relay: String,
}

impl Connector {
    /// The broker shows the connections under the relay's name. A login by access token begins to fetch one, on the current runtime.
    #[must_use]
    pub fn new(config: &AmqpConnection, relay: &str) -> Self {
        Self { config: config.clone(), tokens: config.oauth2().map(oauth::source), relay: relay.to_owned() }
    }

    /// Connects to the first of the URLs that accepts the connection. The broker shows the connection under the relay's name and
    /// `purpose`. If the broker refuses a token that was fetched earlier, tries once more with a new one.
    pub async fn connect(&self, purpose: &str) -> Result<(Connection, BrokerAddress), BrokerError> {
        let Some(tokens) = &self.tokens else { return self.connect_to_any(None, purpose).await };
        let latest = tokens.latest();
        loop {
            let token = tokens.token().await.map_err(|error| BrokerError::no_token(&error))?;
            let error = match self.connect_to_any(Some(&token), purpose).await {
                Ok((mut connection, address)) => {
                    connection.renew_login(&address, tokens, token);
                    return Ok((connection, address));
                }
                Err(error) => error,
            };
            if error.kind == BrokerErrorKind::TokenRefused {
                tokens.refuse(&token);
            }
            if error.kind != BrokerErrorKind::TokenRefused || token.is_after(latest) {
                return Err(error.masked(|text| tokens.mask(text)));
            }
        }
    }

    async fn connect_to_any(
        &self,
        token: Option<&AccessToken>,
        purpose: &str,
    ) -> Result<(Connection, BrokerAddress), BrokerError> {
        let mut reported = BrokerError::configuration("no URL is given");
        let name = format!("{} {purpose}", self.relay);
        for (number, url) in self.config.urls.iter().enumerate() {
            let mut error = match connect_one(&self.config, token, url, &name).await {
                Ok(connected) => {
                    if number > 0 {
                        tracing::debug!(error = %reported, "an earlier broker of the list can't be used; connected to another one");
                    }
                    return Ok(connected);
                }
                Err(error) => error,
            };
            // The error of a broker that answers is more helpful than that of one that doesn't. The caller logs the one that is
            // returned.
            if number == 0 || (reported.is_unreachable() && !error.is_unreachable()) {
                std::mem::swap(&mut reported, &mut error);
            }
            if number > 0 {
                tracing::debug!(%error, "a broker of the list can't be used");
            }
        }
        Err(reported)
    }

    /// Connects, sends one request on a channel of its own (a refusal closes the channel), and disconnects. `doing` names the
    /// request in an error.
    pub async fn request_once<T, A: Future<Output = lapin::Result<T>>>(
        &self,
        purpose: &str,
        doing: &str,
        request: impl FnOnce(Channel) -> A,
    ) -> Result<T, BrokerError> {
        let (connection, address) = self.connect(purpose).await?;
        let replying = async {
            let channel = await_reply(&address, "opening a channel", connection.create_channel()).await?;
            await_reply(&address, doing, request(channel)).await
        };
        let reply = replying.await;
        // The reply is there: it doesn't matter whether the broker confirms the end of the connection.
        let _ = tokio::time::timeout(REPLY_TIMEOUT, connection.close(200, "done".into())).await;
        reply
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// A connection to a broker. If it is dropped without being closed, lapin closes it in the background; where the broker doesn't
/// answer, the stream is cut, so that lapin's thread and socket end within [`REPLY_TIMEOUT`].
pub struct Connection {
    inner: Arc<lapin::Connection>,
    stream: StreamHandle,
    /// The task that gives the broker new access tokens.
    renewal: Option<AbortHandle>,
}

impl Connection {
    /// What the guard changed in a message so that lapin could read it. To be called once for each received message.
    #[must_use]
    pub fn take_edits(&self, channel: &Channel, delivery_tag: u64) -> Option<MessageEdits> {
        self.stream.take_edits(channel.id(), delivery_tag)
    }

    fn renew_login(&mut self, address: &BrokerAddress, tokens: &Arc<TokenSource>, token: AccessToken) {
        let renewing =
            token_login::keep_logged_in(Arc::downgrade(&self.inner), address.clone(), Arc::clone(tokens), token);
        self.renewal = Some(tasks::spawn(TaskKind::TokenRenewal, renewing).abort_handle());
    }
}

impl Deref for Connection {
    type Target = lapin::Connection;

    fn deref(&self) -> &Self::Target {
        &self.inner
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
        if self.stream.is_closed() {
            return;
        }
        let stream = self.stream.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(REPLY_TIMEOUT).await;
                    stream.cut();
                });
            }
            Err(_) => stream.cut(),
        }
    }
}

async fn connect_one(
    connection: &AmqpConnection,
    token: Option<&AccessToken>,
    url: &Secret,
    name: &str,
) -> Result<(Connection, BrokerAddress), BrokerError> {
    let uri = resolve_uri(connection, token, url)?;
    let address = BrokerAddress {
        host: uri.authority.host.clone(),
        port: uri.authority.port,
        user: match connection.login {
            AmqpLogin::Password { .. } => uri.authority.userinfo.username.clone(),
            AmqpLogin::External => OF_CERTIFICATE.to_owned(),
            AmqpLogin::OAuth2(_) => OF_TOKEN.to_owned(),
        },
        vhost: uri.vhost.clone(),
    };
    let tls = match uri.scheme {
        // The URL may contain values that were not known when the configuration was checked.
        AMQPScheme::AMQP if connection.login == AmqpLogin::External => {
            return Err(BrokerError::configuration("`auth: external` needs TLS: write amqps://"));
        }
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => {
            let config =
                connection.tls.client_config().map_err(|error| BrokerError::configuration(error.to_string()))?;
            let expected = connection.tls.server_name.clone().unwrap_or_else(|| uri.authority.host.clone());
            Some((RustlsConnector::from(Arc::new(config)), expected))
        }
    };
    let mut opened = None;
    let connecting = async {
        let (stream, handle) = open_stream(&address, tls).await?;
        opened = Some(handle.clone());
        let inner = log_in(uri, stream, name).await?;
        Ok((Connection { inner: Arc::new(inner), stream: handle, renewal: None }, address.clone()))
    };
    let connected = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error: lapin::Error| {
            let first = opened.as_ref().and_then(StreamHandle::first_bytes);
            BrokerError::not_amqp(&error, first, &address)
                .or_else(|| BrokerError::at_login(&error, &address, &connection.login, token.map(AccessToken::secret)))
                .unwrap_or_else(|| BrokerError::from_lapin(&error, &address))
        }),
        Err(_) => Err(BrokerError::timeout(&address, "connecting", CONNECT_TIMEOUT)),
    };
    if let (Err(_), Some(stream)) = (&connected, opened) {
        stream.cut();
    }
    connected
}

/// Connects, with TLS if `tls` is given. Dropping the future closes what it opened.
async fn open_stream(
    address: &BrokerAddress,
    tls: Option<(RustlsConnector, String)>,
) -> io::Result<(BrokerStream, StreamHandle)> {
    let stream = BrokerStream::plain(net::tcp::connect(&address.host, address.port).await?);
    Ok(BrokerStream::new(match &tls {
        None => stream,
        Some((connector, expected)) => stream.into_rustls(connector, expected).await?,
    }))
}

/// Logs in. lapin does this on its own thread, which ends with the stream.
async fn log_in(uri: AMQPUri, stream: BrokerStream, name: &str) -> lapin::Result<lapin::Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    // lapin connects again when the stream ends during the login. It gets an error then: the owner of the connection reconnects.
    let stream = Mutex::new(Some(stream));
    let connect = async move |_, _| match stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(stream) => Ok(AsyncTcpStream::Plain(stream)),
        None => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
    };
    lapin::Connection::connector(uri, LapinRuntime::current(), connect, properties).await
}

/// Waits at most [`REPLY_TIMEOUT`]. `doing` names the request in an error.
pub async fn await_reply<T>(
    address: &BrokerAddress,
    doing: &str,
    reply: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    let reply = await_raw_reply(address, doing, reply).await?;
    reply.map_err(|error| BrokerError::from_lapin(&error, address))
}

/// Like [`await_reply`], for a caller that interprets a refusal itself.
pub async fn await_raw_reply<T>(
    address: &BrokerAddress,
    doing: &str,
    reply: impl Future<Output = lapin::Result<T>>,
) -> Result<lapin::Result<T>, BrokerError> {
    let timeout = |_| BrokerError::timeout(address, doing, REPLY_TIMEOUT);
    tokio::time::timeout(REPLY_TIMEOUT, reply).await.map_err(timeout)
}

/// The URL, with its parts replaced by the separate settings, which are taken literally.
fn resolve_uri(connection: &AmqpConnection, token: Option<&AccessToken>, url: &Secret) -> Result<AMQPUri, BrokerError> {
    let reveal = |secret: &Secret| secret.reveal().map_err(|error| BrokerError::configuration(error.to_string()));
    let text = reveal(url)?;
    // The content of `${file:…}` may have changed since the configuration was checked.
    if let Some(why) = ambiguous_broker_url(&text) {
        return Err(BrokerError::configuration(format!(
            "an AMQP URL can be read in two ways: {why}; percent-encode user and password"
        )));
    }
    let mut uri: AMQPUri = text.parse().map_err(|_| {
        BrokerError::configuration("an AMQP URL is invalid; write amqp://HOST:PORT or amqps://HOST:PORT")
    })?;
    match &connection.login {
        AmqpLogin::Password { username, password } => {
            if let Some(username) = username {
                uri.authority.userinfo.username = reveal(username)?;
            }
            if let Some(password) = password {
                uri.authority.userinfo.password = reveal(password)?;
            }
        }
        AmqpLogin::External => uri.query.auth_mechanism = Some(SASLMechanism::External),
        AmqpLogin::OAuth2(_) => {
            // The broker takes the name of the user from the token.
            uri.authority.userinfo.username.clear();
            uri.authority.userinfo.password = token.map(|token| token.secret().to_owned()).unwrap_or_default();
        }
    }
    if let Some(vhost) = &connection.vhost {
        uri.vhost.clone_from(vhost);
    } else if uri.vhost.is_empty() {
        // Everyone who writes `amqp://host/` means the default virtual host.
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    // The guard doesn't look into larger frames.
    uri.query.frame_max = Some(uri.query.frame_max.filter(|size| *size > 0).unwrap_or(MAX_FRAME).min(MAX_FRAME));
    Ok(uri)
}
