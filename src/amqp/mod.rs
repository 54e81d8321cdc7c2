//! What a source and a sink on an AMQP broker share: connecting, values, and errors in plain words.
//!
//! lapin's own recovery stays off: whoever holds a connection supervises it.

mod problem;
pub mod values;

pub use problem::{Problem, ProblemKind, escape};

use std::net::SocketAddr;
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties};

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
            Some((RustlsConnector::from(std::sync::Arc::new(config)), expected))
        }
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime().map_err(|error| Problem::explain(&error, &place))?;
    let connecting = Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, runtime| {
            let addresses: Vec<SocketAddr> =
                tokio::net::lookup_host((uri.authority.host.as_str(), uri.authority.port)).await?.collect();
            let stream = AsyncTcpStream::connect(&runtime, addresses).await?;
            Ok(match &tls {
                None => stream,
                Some((connector, expected)) => stream.into_rustls(connector, expected).await?,
            })
        },
        properties,
    );
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connected)) => Ok((connected, place)),
        Ok(Err(error)) => Err(Problem::explain(&error, &place)),
        Err(_) => Err(Problem::unanswered(&place, "connecting", CONNECT_TIMEOUT)),
    }
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
    Ok(uri)
}
