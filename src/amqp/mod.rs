//! What a source and a sink on an AMQP broker share: connecting, values, and errors in plain words.
//!
//! lapin's own recovery stays off: whoever holds a connection supervises it.

mod dial;
pub mod guard;
mod problem;
mod stream;
pub mod values;

pub use problem::{Problem, ProblemKind, escape};

use std::io;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, ConnectionProperties};

use self::guard::{MAX_FRAME, Note};
use self::stream::{BrokerStream, Handle, Runtime};

use crate::config::address::ambiguous_broker_url;
use crate::config::{AmqpConnection, Secret};

/// Over looking up a name, connecting, TLS and login, for each URL.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Any other single answer of a broker: declares, consume, cancel, acknowledgements on their way, closing.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Seconds; a connection without a sign of life for twice as long is lost.
const HEARTBEAT: u16 = 10;

/// Connects to the first of the URLs that takes us. `purpose` and the relay's name are the connection's name at the broker.
/// Says too where that led, for later problems.
pub async fn connect(connection: &AmqpConnection, relay: &str, purpose: &str) -> Result<(Connection, Place), Problem> {
    let mut first_problem = None;
    for url in &connection.urls {
        match connect_one(connection, url, &format!("{relay} {purpose}")).await {
            Ok(connected) => return Ok(connected),
            Err(problem) => {
                tracing::debug!(%problem, "an AMQP URL failed");
                // What speaks of a broker that answers says more than one that doesn't.
                if first_problem
                    .as_ref()
                    .is_none_or(|first: &Problem| first.is_unreachable() && !problem.is_unreachable())
                {
                    first_problem = Some(problem);
                }
            }
        }
    }
    Err(first_problem.unwrap_or_else(|| Problem::settings("no URL is given")))
}

/// A connection to a broker. Dropped without being closed, it is closed in the background, and cut off where the broker doesn't
/// answer: lapin's thread and socket don't outlive it by more than [`ANSWER_TIMEOUT`].
pub struct Connection {
    inner: lapin::Connection,
    stream: Handle,
}

impl Connection {
    /// What had to be changed in a message before lapin could read it. Whoever takes a message takes its note.
    #[must_use]
    pub fn take_note(&self, channel: &Channel, delivery_tag: u64) -> Option<Note> {
        self.stream.take_note(channel.id(), delivery_tag)
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
        if self.stream.is_closed() {
            return;
        }
        let stream = self.stream.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(async move {
                    tokio::time::sleep(ANSWER_TIMEOUT).await;
                    stream.cut();
                });
            }
            Err(_) => stream.cut(),
        }
    }
}

async fn connect_one(connection: &AmqpConnection, url: &Secret, name: &str) -> Result<(Connection, Place), Problem> {
    let uri = resolve(connection, url)?;
    let place = Place {
        host: uri.authority.host.clone(),
        port: uri.authority.port,
        user: uri.authority.userinfo.username.clone(),
        vhost: uri.vhost.clone(),
    };
    let tls = match uri.scheme {
        AMQPScheme::AMQP => None,
        AMQPScheme::AMQPS => {
            let config = connection.tls.client_config().map_err(|error| Problem::settings(error.to_string()))?;
            let expected = connection.tls.server_name.clone().unwrap_or_else(|| uri.authority.host.clone());
            Some((RustlsConnector::from(Arc::new(config)), expected))
        }
    };
    let mut opened = None;
    let connecting = async {
        let (stream, handle) = open_stream(&place, tls).await?;
        opened = Some(handle.clone());
        let inner = shake_hands(uri, stream, name).await?;
        Ok((Connection { inner, stream: handle }, place.clone()))
    };
    let connected = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.map_err(|error: lapin::Error| {
            let first = opened.as_ref().and_then(Handle::first_bytes);
            Problem::of_others(&error, first, &place).unwrap_or_else(|| Problem::explain(&error, &place))
        }),
        Err(_) => Err(Problem::unanswered(&place, "connecting", CONNECT_TIMEOUT)),
    };
    if let (Err(_), Some(stream)) = (&connected, opened) {
        stream.cut();
    }
    connected
}

/// Connects and, where that is asked for, sets up TLS. Nothing is left of it when it is dropped.
async fn open_stream(place: &Place, tls: Option<(RustlsConnector, String)>) -> io::Result<(BrokerStream, Handle)> {
    let stream = BrokerStream::plain(dial::dial(&place.host, place.port).await?);
    Ok(BrokerStream::new(match &tls {
        None => stream,
        Some((connector, expected)) => stream.into_rustls(connector, expected).await?,
    }))
}

/// Logs in. lapin does it on a thread of its own, which ends with the stream.
async fn shake_hands(uri: AMQPUri, stream: BrokerStream, name: &str) -> lapin::Result<lapin::Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    // lapin asks again where a connection ends before it begins, and is told so: whoever holds one connects anew.
    let stream = Mutex::new(Some(stream));
    let connect = async move |_, _| match stream.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(stream) => Ok(AsyncTcpStream::Plain(stream)),
        None => Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
    };
    lapin::Connection::connector(uri, Runtime::current(), connect, properties).await
}

/// Connects, asks one thing on a channel that a refusal may close, and lets go again: `doing` says what, in a problem.
pub async fn ask<T, A: Future<Output = lapin::Result<T>>>(
    connection: &AmqpConnection,
    relay: &str,
    purpose: &str,
    doing: &str,
    question: impl FnOnce(Channel) -> A,
) -> Result<T, Problem> {
    let (connection, place) = connect(connection, relay, purpose).await?;
    let asking = async {
        let channel = answer(&place, "opening a channel", connection.create_channel()).await?;
        answer(&place, doing, question(channel)).await
    };
    let asked = asking.await;
    // What was asked is answered: a broker that doesn't let go is left to its own time-out.
    let _ = tokio::time::timeout(ANSWER_TIMEOUT, connection.close(200, "asked".into())).await;
    asked
}

/// Every answer of a broker has a deadline.
pub async fn answer<T>(
    place: &Place,
    doing: &str,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Problem::explain(&error, place)),
        Err(_) => Err(Problem::unanswered(place, doing, ANSWER_TIMEOUT)),
    }
}

/// The same, where the caller reads a refusal itself.
pub async fn answer_or_refusal<T>(
    place: &Place,
    doing: &str,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<lapin::Result<T>, Problem> {
    let unanswered = |_| Problem::unanswered(place, doing, ANSWER_TIMEOUT);
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.map_err(unanswered)
}

/// Where a connection leads: for messages, so without secrets.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
}

/// The URL with what stands beside it put in its place, taken literally.
fn resolve(connection: &AmqpConnection, url: &Secret) -> Result<AMQPUri, Problem> {
    let reveal = |secret: &Secret| secret.reveal().map_err(|error| Problem::settings(error.to_string()));
    let text = reveal(url)?;
    // What `${file:…}` holds may have changed since the configuration was checked.
    if let Some(why) = ambiguous_broker_url(&text) {
        return Err(Problem::settings(format!(
            "an AMQP URL can be read in two ways: {why}; percent-encode user and password"
        )));
    }
    let mut uri: AMQPUri = text
        .parse()
        .map_err(|_| Problem::settings("an AMQP URL can't be read; write amqp://HOST:PORT or amqps://HOST:PORT"))?;
    if let Some(username) = &connection.username {
        uri.authority.userinfo.username = reveal(username)?;
    }
    if let Some(password) = &connection.password {
        uri.authority.userinfo.password = reveal(password)?;
    }
    if let Some(vhost) = &connection.vhost {
        uri.vhost.clone_from(vhost);
    } else if uri.vhost.is_empty() {
        // `amqp://host/` means the default virtual host to everyone who writes it.
        "/".clone_into(&mut uri.vhost);
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    // What is larger the guard would not look into.
    uri.query.frame_max = Some(uri.query.frame_max.filter(|size| *size > 0).unwrap_or(MAX_FRAME).min(MAX_FRAME));
    Ok(uri)
}
