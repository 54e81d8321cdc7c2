//! Errors of a broker and of connecting to it: sentences with what to do. The text of the broker or of a library follows in parentheses.

use std::fmt;
use std::io;
use std::time::Duration;

use lapin::ErrorKind;
use lapin::protocol::AMQPError;

use super::BrokerAddress;
use super::values::ShortStringTooLong;
use crate::config::AmqpLogin;
use crate::oauth::TokenError;
use crate::telemetry::printable;

/// Why a request to a broker failed. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerError {
    pub kind: BrokerErrorKind,
    text: String,
}

/// The kinds that callers handle differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerErrorKind {
    /// No broker answers at the address.
    Unreachable,
    /// The broker refuses the user or the virtual host.
    LoginRefused,
    /// The queue or exchange doesn't exist.
    NotFound,
    /// The broker refuses the access token.
    TokenRefused,
    /// There is no access token to log in with.
    NoToken,
    /// The user lacks a permission.
    AccessRefused,
    /// Another consumer has the queue exclusively.
    InUse,
    /// Another consumer takes from the queue beside this relay.
    NotExclusive,
    /// The queue or exchange exists with other properties than declared.
    PreconditionFailed,
    /// The user may open no more channels. `RabbitMQ` closes the connection that tries.
    ChannelLimit,
    /// The connection or channel ended.
    ConnectionLost,
    /// The configuration names something that can't be used.
    Configuration,
}

/// Part of `RabbitMQ`'s texts for the limit of a user and for that of a node (`is_over_channel_limit` and
/// `is_over_node_channel_limit` in `rabbit_reader.erl`).
const CHANNEL_LIMIT: &str = "number of channels opened";

/// AMQP's reply code for a virtual host that is not there, or closed to the user; `RabbitMQ` uses it for other limits, too.
const NOT_ALLOWED: u16 = 530;

/// Before the login `RabbitMQ` takes frames of 4 KiB at most; a longer token may be refused for that.
const LONG_TOKEN: usize = 3_900;
const TOKEN_TOO_LONG: &str = "the broker closed the connection at the login by access token: the token is longer than 3,900 bytes, and by \
                              default RabbitMQ takes 4,096 bytes in a login. Ask the broker's administrator for a larger `initial_frame_max`, \
                              or that of the token server for a token with fewer claims";
const TOKEN_REFUSED: &str = "the broker refuses the access token: check `audience` and `scope`, and that the broker trusts the keys of this \
                             token server and its clock is right";

/// The first bytes of answers that are not AMQP, and what they mean.
const OTHER_PROTOCOLS: [(&[u8], &str); 2] = [
    (b"HTTP", "an HTTP server answers, not an AMQP broker: use the broker's AMQP port (mostly 5672, or 5671 with TLS)"),
    // A TLS alert, version 3.x (RFC 8446, 5.1).
    (&[0x15, 0x03], "the broker expects TLS: write amqps://, or use its port without TLS"),
];
/// The first bytes of an AMQP broker's answer: a method frame on channel 0, or the version that it speaks.
const AMQP: [&[u8]; 2] = [&[1, 0, 0], b"AMQP"];

impl BrokerError {
    /// An error of this kind, in a sentence that doesn't name the broker.
    #[must_use]
    pub fn at(kind: BrokerErrorKind, address: &BrokerAddress, text: &str) -> Self {
        Self::new(kind, format!("{text} (broker {address})"))
    }

    /// `request` names the request.
    #[must_use]
    pub fn timeout(address: &BrokerAddress, request: &str, after: Duration) -> Self {
        let BrokerAddress { host, port, .. } = address;
        let text = format!("the broker {host}:{port} did not answer within {} s ({request})", after.as_secs());
        Self::new(BrokerErrorKind::Unreachable, text)
    }

    #[must_use]
    pub fn connection_lost(text: impl Into<String>) -> Self {
        Self::new(BrokerErrorKind::ConnectionLost, text.into())
    }

    #[must_use]
    pub fn configuration(text: impl Into<String>) -> Self {
        Self::new(BrokerErrorKind::Configuration, text.into())
    }

    pub(super) fn no_token(error: &TokenError) -> Self {
        Self::new(BrokerErrorKind::NoToken, error.to_string())
    }

    /// With its text after `mask`.
    pub(super) fn masked(self, mask: impl FnOnce(&str) -> String) -> Self {
        Self { text: mask(&self.text), ..self }
    }

    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.kind == BrokerErrorKind::Unreachable
    }

    /// The error of a connection that met no AMQP broker, or one without the expected TLS. `first` are the first bytes of the answer.
    pub(super) fn not_amqp(error: &lapin::Error, first: Option<[u8; 4]>, address: &BrokerAddress) -> Option<Self> {
        let meaning = match (error.kind(), first) {
            (ErrorKind::IOError(error), None) if is_no_tls(error) => {
                "the broker doesn't speak TLS there: write amqp://, or use its TLS port"
            }
            (ErrorKind::IOError(error), None) if is_closed(error) => {
                "the connection was closed without an answer: no AMQP broker listens on that port (the management port of RabbitMQ \
                 and a Kafka broker behave so), or the broker expects TLS (amqps://), or it is stopping"
            }
            (_, Some(first)) if !AMQP.iter().any(|start| first.starts_with(start)) => {
                let known = OTHER_PROTOCOLS.iter().find(|(start, _)| first.starts_with(start));
                known.map_or("the answer is not AMQP: check host and port", |(_, meaning)| meaning)
            }
            _ => return None,
        };
        Some(Self::unreachable(address, meaning, error))
    }

    /// The error of a login, other than by password. `RabbitMQ` closes the connection when it gets a mechanism that it doesn't offer,
    /// or a token that is too long.
    pub(super) fn at_login(
        error: &lapin::Error,
        address: &BrokerAddress,
        login: &AmqpLogin,
        token: Option<&str>,
    ) -> Option<Self> {
        let (kind, meaning) = match (error.kind(), login) {
            (ErrorKind::IOError(error), AmqpLogin::External) if is_closed(error) => (
                BrokerErrorKind::LoginRefused,
                "the broker closed the connection at the login by client certificate: mostly it doesn't offer that (ask its administrator to \
                 enable the mechanism EXTERNAL, in RabbitMQ by the plugin rabbitmq_auth_mechanism_ssl and `auth_mechanisms`), or it is stopping",
            ),
            (ErrorKind::IOError(error), AmqpLogin::OAuth2(_))
                if is_closed(error) && token.is_some_and(|token| token.len() > LONG_TOKEN) =>
            {
                (BrokerErrorKind::LoginRefused, TOKEN_TOO_LONG)
            }
            (ErrorKind::ProtocolError(reply), AmqpLogin::OAuth2(_)) if is_login_refused(reply) => {
                (BrokerErrorKind::TokenRefused, TOKEN_REFUSED)
            }
            (ErrorKind::ProtocolError(reply), AmqpLogin::OAuth2(_)) if reply.get_id() == NOT_ALLOWED => (
                BrokerErrorKind::LoginRefused,
                "the broker refuses the virtual host: check `vhost`, and the scopes of the access token",
            ),
            _ => return None,
        };
        Some(match error.kind() {
            ErrorKind::ProtocolError(reply) => Self::answered(kind, meaning, address, reply.get_message().as_str()),
            _ => Self::at(kind, address, meaning),
        })
    }

    #[must_use]
    pub fn from_lapin(error: &lapin::Error, address: &BrokerAddress) -> Self {
        let lost = |meaning: &str| {
            let detail = error.to_string();
            let text = format!("{meaning} (broker {address}; the AMQP library: {})", printable(&detail));
            Self::new(BrokerErrorKind::ConnectionLost, text)
        };
        match error.kind() {
            ErrorKind::ProtocolError(reply) => Self::from_reply(reply.get_id(), reply.get_message().as_str(), address),
            ErrorKind::IOError(error) => Self::unreachable(address, io_meaning(error), error),
            ErrorKind::ChannelsLimitReached => {
                let text = "the broker allows no more channels on one connection (`channel_max`)";
                Self::at(BrokerErrorKind::ChannelLimit, address, text)
            }
            ErrorKind::MissingHeartbeatError => {
                let text = "the broker sent no heartbeat; the connection is closed";
                Self::at(BrokerErrorKind::ConnectionLost, address, text)
            }
            ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => {
                Self::at(BrokerErrorKind::ConnectionLost, address, "the connection was lost")
            }
            ErrorKind::InvalidProtocolVersion(_) => lost("the broker doesn't speak AMQP 0.9.1"),
            ErrorKind::ParsingError(_) => lost("the broker sent a frame that can't be read"),
            ErrorKind::SerialisationError(_) => lost("a request can't be written as an AMQP frame"),
            _ => lost("the connection ended"),
        }
    }

    /// What a reply code and its text mean (AMQP 0.9.1, 1.2 of the reference; the texts are those of `RabbitMQ`).
    fn from_reply(code: u16, text: &str, address: &BrokerAddress) -> Self {
        let (kind, meaning) = match code {
            403 if text.contains("mechanism EXTERNAL") => (
                BrokerErrorKind::LoginRefused,
                "the broker refuses the login by client certificate: it has no user for this certificate. Ask its administrator for one \
                 whose name is the name in the certificate (for RabbitMQ see `ssl_cert_login_from`), or check `tls.cert`",
            ),
            403 if text.contains("Login was refused") || text.contains("login refused") => {
                (BrokerErrorKind::LoginRefused, "the broker refuses the login: check username and password")
            }
            403 if text.contains("exclusive use") => (
                BrokerErrorKind::InUse,
                "another consumer has the queue exclusively; this relay stands by until that one stops",
            ),
            403 if text.contains("token has expired") => (
                BrokerErrorKind::AccessRefused,
                "the access token ended before the relay got a new one: check the token server, and the clocks of all three",
            ),
            403 => (
                BrokerErrorKind::AccessRefused,
                "the user lacks a permission: ask the broker's administrator for `read` on the queue of a source, `write` on the \
                 exchange of a sink, `configure` for `declare:`",
            ),
            404 => (
                BrokerErrorKind::NotFound,
                "the queue or exchange doesn't exist: check its name, or ask the broker's administrator to create it",
            ),
            405 => (BrokerErrorKind::InUse, "another connection has the queue exclusively"),
            406 => (
                BrokerErrorKind::PreconditionFailed,
                "the queue or exchange exists with other properties, or an acknowledgement came too late",
            ),
            530 if text.contains(CHANNEL_LIMIT) => (
                BrokerErrorKind::ChannelLimit,
                "the user may open no more channels: ask the broker's administrator for a higher `max-channels` of this user, or close \
                 other channels of this user",
            ),
            530 => (
                BrokerErrorKind::LoginRefused,
                "the broker refuses the virtual host: check `vhost`, and the permissions of the user",
            ),
            320 => (
                BrokerErrorKind::ConnectionLost,
                "the broker closed the connection: it is stopping or restarting, or an administrator closed it",
            ),
            _ => (BrokerErrorKind::ConnectionLost, "the broker closed the channel or the connection"),
        };
        Self::answered(kind, meaning, address, text)
    }

    fn answered(kind: BrokerErrorKind, meaning: &str, address: &BrokerAddress, text: &str) -> Self {
        Self::new(kind, format!("{meaning} (broker {address}; its answer: {})", printable(text)))
    }

    fn unreachable(address: &BrokerAddress, meaning: &str, error: &dyn fmt::Display) -> Self {
        let BrokerAddress { host, port, .. } = address;
        let detail = error.to_string();
        Self::new(BrokerErrorKind::Unreachable, format!("{host}:{port}: {meaning} ({})", printable(&detail)))
    }

    fn new(kind: BrokerErrorKind, text: String) -> Self {
        Self { kind, text }
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for BrokerError {}

impl From<ShortStringTooLong> for BrokerError {
    fn from(error: ShortStringTooLong) -> Self {
        Self::configuration(error.to_string())
    }
}

fn io_meaning(error: &io::Error) -> &'static str {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, InvalidData, InvalidInput, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused => "nothing listens there: check that the broker runs, and host and port",
        HostUnreachable | NetworkUnreachable | TimedOut => "the host can't be reached: check the network, and the host",
        InvalidData | InvalidInput => "TLS failed: check `tls:` (ca, cert, key, server_name)",
        _ if is_closed(error) => {
            "the connection was closed: the broker is stopping, or the URL says amqp:// for a TLS port, or amqps:// for one without TLS"
        }
        _ => "the broker can't be reached: check that it runs, and host and port",
    }
}

fn is_login_refused(reply: &AMQPError) -> bool {
    reply.get_id() == 403 && reply.get_message().as_str().to_lowercase().contains("login")
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Whether the answer to a TLS handshake is not TLS.
fn is_no_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_))) || error.to_string().contains("corrupt message")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn address() -> BrokerAddress {
        let [host, user, vhost] = ["rabbit", "relay", "regards"].map(str::to_owned);
        BrokerAddress { host, port: 5672, user, vhost }
    }

    #[test]
    fn answers_of_a_broker_are_explained() {
        let explained = [
            (403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"),
            (403, "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL"),
            (403, "ACCESS_REFUSED - access to queue 'q' in vhost 'regards' refused for user 'relay'"),
            (403, "ACCESS_REFUSED - access to exchange 'e' in vhost 'regards' refused for user 'relay', backend rabbit_auth_backend_oauth2 returned an error: \"Provided JWT token has expired at timestamp 1 (validated at 2)\""),
            (404, "NOT_FOUND - no queue 'q\u{1b}[2J' in vhost 'regards'"),
            (530, "NOT_ALLOWED - access to vhost 'regards' refused for user 'relay'"),
            (541, "INTERNAL_ERROR"),
        ]
        .map(|(code, text)| BrokerError::from_reply(code, text, &address()).to_string());
        expect![[r#"
            the broker refuses the login: check username and password (broker rabbit:5672, user relay, virtual host regards; its answer: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN)
            the broker refuses the login by client certificate: it has no user for this certificate. Ask its administrator for one whose name is the name in the certificate (for RabbitMQ see `ssl_cert_login_from`), or check `tls.cert` (broker rabbit:5672, user relay, virtual host regards; its answer: ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL)
            the user lacks a permission: ask the broker's administrator for `read` on the queue of a source, `write` on the exchange of a sink, `configure` for `declare:` (broker rabbit:5672, user relay, virtual host regards; its answer: ACCESS_REFUSED - access to queue 'q' in vhost 'regards' refused for user 'relay')
            the access token ended before the relay got a new one: check the token server, and the clocks of all three (broker rabbit:5672, user relay, virtual host regards; its answer: ACCESS_REFUSED - access to exchange 'e' in vhost 'regards' refused for user 'relay', backend rabbit_auth_backend_oauth2 returned an error: "Provided JWT token has expired at timestamp 1 (validated at 2)")
            the queue or exchange doesn't exist: check its name, or ask the broker's administrator to create it (broker rabbit:5672, user relay, virtual host regards; its answer: NOT_FOUND - no queue 'q\u{1b}[2J' in vhost 'regards')
            the broker refuses the virtual host: check `vhost`, and the permissions of the user (broker rabbit:5672, user relay, virtual host regards; its answer: NOT_ALLOWED - access to vhost 'regards' refused for user 'relay')
            the broker closed the channel or the connection (broker rabbit:5672, user relay, virtual host regards; its answer: INTERNAL_ERROR)"#]].assert_eq(&explained.join("\n"));
    }

    #[test]
    fn errors_of_the_library_never_stand_alone() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let errors =
            [lapin::Error::from(refused), ErrorKind::MissingHeartbeatError.into(), ErrorKind::FutureCompleted.into()];
        let explained = errors.map(|error| BrokerError::from_lapin(&error, &address()).to_string());
        expect![[r"
            rabbit:5672: nothing listens there: check that the broker runs, and host and port (connection refused)
            the broker sent no heartbeat; the connection is closed (broker rabbit:5672, user relay, virtual host regards)
            the connection ended (broker rabbit:5672, user relay, virtual host regards; the AMQP library: future polled after completion)"]].assert_eq(&explained.join("\n"));
    }
}
