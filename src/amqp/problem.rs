//! What a broker or the way to it says, in one plain line with what to do about it.

use std::fmt;
use std::time::Duration;

use lapin::ErrorKind;

use super::Place;

/// Why something on a broker did not work. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind, for who decides by it.
    pub kind: ProblemKind,
    text: String,
}

/// The kinds that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// No broker answers there.
    Unreachable,
    /// The broker answers, but login or virtual host are refused.
    Login,
    /// A queue or exchange that doesn't exist.
    Missing,
    /// The user may not.
    Forbidden,
    /// Another consumer has the queue for itself.
    InUse,
    /// Another consumer takes from a queue that nobody else should.
    Shared,
    /// It exists with other properties than declared.
    Mismatch,
    /// The user may open no more channels. `RabbitMQ` ends the connection that tries.
    ChannelLimit,
    /// The connection or channel ended.
    Lost,
    /// What the configuration names can't be used.
    Settings,
}

/// How `RabbitMQ` says so of a user, and of a node (`is_over_channel_limit` and its neighbour in `rabbit_reader.erl`).
const CHANNEL_LIMIT: &str = "number of channels opened";

/// Beginnings of what others than AMQP brokers answer.
const OTHERS: [(&[u8], &str); 2] = [
    (b"HTTP", "an HTTP server answers there, not AMQP: use the broker's AMQP port (mostly 5672, with TLS 5671)"),
    // A TLS alert, version 3.x (RFC 8446, 5.1).
    (&[0x15, 0x03], "the broker expects TLS: write amqps://, or use its port without TLS"),
];
/// What a handshake frame, or an AMQP broker that speaks another version, begins with.
const AMQP: [&[u8]; 2] = [&[1, 0, 0], b"AMQP"];

impl Problem {
    /// What answers at `place` instead of an AMQP broker, or without the TLS that it should have; `first` are the first bytes of the answer.
    /// None: it is no such thing.
    pub(super) fn of_others(error: &lapin::Error, first: Option<[u8; 4]>, place: &Place) -> Option<Self> {
        let Place { host, port, .. } = place;
        let words = match (error.kind(), first) {
            (ErrorKind::IOError(error), None) if is_no_tls(error) => {
                "the broker doesn't speak TLS there: write amqp://, or use its TLS port"
            }
            (ErrorKind::IOError(error), None) if is_cut(error) => {
                "the connection was closed before anything was answered: no AMQP broker listens on that port (a broker's management \
                 port and a Kafka broker do so), or it expects TLS (amqps://), or it is stopping"
            }
            (_, Some(first)) if !AMQP.iter().any(|start| first.starts_with(start)) => {
                let known = OTHERS.iter().find(|(start, _)| first.starts_with(start)).map(|(_, words)| *words);
                known.unwrap_or("what answers there is not an AMQP broker: are host and port right?")
            }
            _ => return None,
        };
        Some(Self::new(ProblemKind::Unreachable, format!("{host}:{port}: {words} ({})", escape(&error.to_string()))))
    }

    /// What `error` means on the way to `place`.
    #[must_use]
    pub fn explain(error: &lapin::Error, place: &Place) -> Self {
        let Place { host, port, user, vhost } = place;
        match error.kind() {
            ErrorKind::ProtocolError(error) => Self::protocol(error.get_id(), error.get_message().as_str(), place),
            ErrorKind::IOError(error) => {
                let hint = match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => ": is the broker up, are host and port right?",
                    _ if is_cut(error) => {
                        ": the connection was cut (amqp:// on a TLS port, or the reverse, looks like this too)"
                    }
                    std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput => {
                        ": TLS failed, see `tls:` (ca, cert, key, server_name)"
                    }
                    _ => "",
                };
                Self::new(ProblemKind::Unreachable, format!("{host}:{port} can't be reached ({error}){hint}"))
            }
            ErrorKind::MissingHeartbeatError => {
                Self::new(ProblemKind::Lost, format!("{host}:{port} gave no sign of life; the connection is given up"))
            }
            ErrorKind::ChannelsLimitReached => Self::new(
                ProblemKind::ChannelLimit,
                format!("{host}:{port} lets a connection open no more channels (`channel_max`)"),
            ),
            ErrorKind::InvalidConnectionState(_) | ErrorKind::InvalidChannelState(..) => {
                Self::new(ProblemKind::Lost, format!("the connection to {host}:{port} was lost"))
            }
            _ => Self::new(ProblemKind::Lost, format!("{host}:{port} as {user} on {vhost}: {error}")),
        }
    }

    fn protocol(code: u16, text: &str, place: &Place) -> Self {
        let Place { host, port, user, vhost } = place;
        let text = escape(text);
        let (kind, advice) = match code {
            403 if text.contains("Login was refused") || text.contains("login refused") => {
                return Self::new(
                    ProblemKind::Login,
                    format!("{host}:{port} refuses the login of user {user}: check username and password"),
                );
            }
            403 if text.contains("exclusive use") => {
                (ProblemKind::InUse, "another consumer has it; this relay stands by until that one stops")
            }
            403 => (
                ProblemKind::Forbidden,
                "ask the broker's administrator for the right: a source has to `read` its queue, a sink to `write` to its \
                 exchange, `declare:` to `configure`",
            ),
            404 => (ProblemKind::Missing, "ask the broker's administrator to create it, or check its name"),
            405 => (ProblemKind::InUse, "another connection holds it exclusively"),
            406 => (ProblemKind::Mismatch, "it exists with other properties, or an acknowledgement came too late"),
            530 if text.contains(CHANNEL_LIMIT) => (
                ProblemKind::ChannelLimit,
                "ask the broker's administrator for a higher `max-channels` of this user, or close what else has one open",
            ),
            530 => {
                return Self::new(
                    ProblemKind::Login,
                    format!(
                        "{host}:{port} doesn't let user {user} into virtual host {vhost} ({text}): check `vhost` and the user's rights"
                    ),
                );
            }
            320 => (ProblemKind::Lost, "the broker closes its connections, it is stopping or restarting"),
            _ => (ProblemKind::Lost, "the broker closed the channel or connection"),
        };
        Self::new(kind, format!("{host}:{port} as {user} on {vhost} says: {text} ({advice})"))
    }

    /// What was found out at `place`, in a sentence.
    #[must_use]
    pub fn of(kind: ProblemKind, place: &Place, text: &str) -> Self {
        let Place { host, port, user, vhost } = place;
        Self::new(kind, format!("{host}:{port} as {user} on {vhost}: {text}"))
    }

    /// No answer in time.
    #[must_use]
    pub fn unanswered(place: &Place, doing: &str, after: Duration) -> Self {
        let Place { host, port, .. } = place;
        Self::new(
            ProblemKind::Unreachable,
            format!("{host}:{port} did not answer within {} s ({doing})", after.as_secs()),
        )
    }

    /// The connection or channel ended for this reason.
    #[must_use]
    pub fn lost(text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Lost, text.into())
    }

    /// What the configuration names can't be used.
    #[must_use]
    pub fn settings(text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Settings, text.into())
    }

    /// No broker answered.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.kind == ProblemKind::Unreachable
    }

    fn new(kind: ProblemKind, text: String) -> Self {
        Self { kind, text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Problem {}

fn is_cut(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// What answers a TLS handshake is no TLS.
fn is_no_tls(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_))) || error.to_string().contains("corrupt message")
}

/// What a broker says is outside text: one line of it.
#[must_use]
pub fn escape(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}
