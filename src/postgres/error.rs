//! Errors of a PostgreSQL server and of connecting to it: sentences with what to do. The text of the server or of a library follows in
//! parentheses.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tokio_postgres::error::DbError;

use super::ServerAddress;
use super::sqlstate::SqlState;
use super::stream::StreamError;
use crate::config::Masks;
use crate::telemetry::printable;

/// Why something could not be done with a PostgreSQL server. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresError {
    pub kind: PostgresErrorKind,
    is_transient: bool,
    /// PostgreSQL's code, if the server answered by one.
    sqlstate: Option<String>,
    text: String,
}

/// The kinds that callers handle differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresErrorKind {
    /// No server answers at the address.
    Unreachable,
    /// The server did not answer in time.
    Timeout,
    /// The connection ended. It is not known whether the server did what it was asked last.
    ConnectionLost,
    /// TLS failed, or the server has none.
    Tls,
    /// What answers is no PostgreSQL server, or something in between changes its protocol.
    Protocol,
    /// The server refuses the user.
    LoginRefused,
    /// The database, schema or table doesn't exist.
    NotFound,
    /// The user lacks a right.
    NotPermitted,
    /// The server's version is not supported.
    Version,
    /// The server takes no writes.
    Standby,
    /// The server takes no requests now: it is starting or stopping, or lacks resources.
    Unavailable,
    TooManyConnections,
    DiskFull,
    /// Another transaction got in the way.
    Conflict,
    /// The server cancelled the request.
    Canceled,
    /// The server's data are damaged.
    Damaged,
    /// The configuration names something that can't be used.
    Configuration,
    /// The server refuses the request for another reason.
    Refused,
}

impl PostgresErrorKind {
    /// Whether the same can succeed later without a change, where the server gave no code.
    const fn is_transient(self) -> bool {
        matches!(self, Self::Unreachable | Self::Timeout | Self::ConnectionLost | Self::Standby)
    }

    /// In a few words, for one of several servers.
    const fn in_short(self) -> &'static str {
        match self {
            Self::Unreachable => "nothing answers",
            Self::Timeout => "no answer in time",
            Self::ConnectionLost => "the connection was lost",
            Self::Tls => "TLS failed",
            Self::Protocol => "not PostgreSQL",
            Self::LoginRefused => "login refused",
            Self::NotFound => "no such database",
            Self::NotPermitted => "a right is missing",
            Self::Version => "unsupported version",
            Self::Standby => "a standby",
            Self::Unavailable => "not available now",
            Self::TooManyConnections => "too many connections",
            Self::DiskFull => "disk full",
            Self::Conflict | Self::Canceled | Self::Refused => "request refused",
            Self::Damaged => "damaged",
            Self::Configuration => "wrong configuration",
        }
    }
}

const NO_PASSWORD: &str = "the server asks for a password, and there is none: write `password:`";
const NO_METHOD: &str = "the server asks for a login that the relay doesn't have: ask its administrator for one by password (`scram-sha-256`) or \
                         by client certificate (`cert`)";

impl PostgresError {
    /// An error of this kind.
    #[must_use]
    pub fn new(kind: PostgresErrorKind, address: &ServerAddress, meaning: &str) -> Self {
        Self::with(kind, format!("{meaning} (PostgreSQL {address})"))
    }

    /// The server did not answer a request, which `doing` names.
    #[must_use]
    pub fn timeout(address: &ServerAddress, doing: &str, after: Duration) -> Self {
        let endpoint = address.endpoint();
        let text = format!("PostgreSQL {endpoint} did not answer within {:.1} s ({doing})", after.as_secs_f64());
        Self::with(PostgresErrorKind::Timeout, text)
    }

    pub(super) fn configuration(text: impl Into<String>) -> Self {
        Self::with(PostgresErrorKind::Configuration, text.into())
    }

    pub(super) fn of_stream(error: &StreamError, address: &ServerAddress) -> Self {
        use PostgresErrorKind::{ConnectionLost, Protocol, Tls, Unreachable};
        let explained = |kind, meaning: &str, error: &dyn fmt::Display| {
            Self::with(kind, format!("{}: {meaning} ({})", address.endpoint(), printable(&error.to_string())))
        };
        match error {
            StreamError::Tcp(error) => explained(Unreachable, tcp_meaning(error), error),
            StreamError::NoTls => {
                let meaning = "the server has no TLS: ask its administrator for it (`ssl = on`), or write `sslmode=disable`, with which data and \
                               login are not encrypted";
                Self::new(Tls, address, meaning)
            }
            StreamError::Refused => {
                Self::new(ConnectionLost, address, "the server can't start a connection: look at its log")
            }
            StreamError::Foreign => Self::new(Protocol, address, "the answer is not PostgreSQL's: check host and port"),
            StreamError::NoAnswer(error) => {
                let meaning = "the connection was closed without an answer: check that PostgreSQL listens on that port, and that it runs";
                explained(ConnectionLost, meaning, error)
            }
            StreamError::Handshake(error) => explained(Tls, tls_meaning(error).unwrap_or(OTHER_TLS), error),
        }
    }

    /// The error of a login.
    pub(super) fn of_login(error: &tokio_postgres::Error, address: &ServerAddress) -> Self {
        // By TLS 1.3 a server refuses a client certificate only after the handshake.
        if let Some(meaning) = io_cause(error).and_then(tls_meaning) {
            let detail = error.source().map(ToString::to_string).unwrap_or_default();
            let text = format!("{}: {meaning} ({})", address.endpoint(), printable(&detail));
            return Self::with(PostgresErrorKind::Tls, text);
        }
        // tokio-postgres doesn't export the kinds of its errors.
        let (text, cause) = (error.to_string(), error.source().map(ToString::to_string).unwrap_or_default());
        match text.as_str() {
            "invalid configuration" if cause == "password missing" => {
                Self::new(PostgresErrorKind::LoginRefused, address, NO_PASSWORD)
            }
            "authentication error" if cause.starts_with("unsupported") => {
                Self::new(PostgresErrorKind::LoginRefused, address, NO_METHOD)
            }
            "authentication error" => Self::with(
                PostgresErrorKind::LoginRefused,
                format!(
                    "the server doesn't prove that it knows the password: it may be another server (PostgreSQL {address}; {})",
                    printable(&cause)
                ),
            ),
            _ => Self::of_request(error, address),
        }
    }

    /// The error of a request or of the connection.
    pub(super) fn of_request(error: &tokio_postgres::Error, address: &ServerAddress) -> Self {
        if let Some(answer) = error.as_db_error() {
            return Self::of_answer(answer, address);
        }
        let (kind, meaning) = match io_cause(error) {
            Some(_) if error.to_string().starts_with("error parsing") => {
                (PostgresErrorKind::Protocol, "the answer is not PostgreSQL's: check host and port")
            }
            Some(_) => {
                (PostgresErrorKind::ConnectionLost, "the connection broke: check the network, and that the server runs")
            }
            None if error.is_closed() => {
                (PostgresErrorKind::ConnectionLost, "the server closed the connection: it is stopping, or crashed")
            }
            None => (PostgresErrorKind::Protocol, "the relay and the server don't understand each other"),
        };
        let detail = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Self::with(kind, format!("{meaning} (PostgreSQL {address}; {})", printable(&detail)))
    }

    fn of_answer(answer: &DbError, address: &ServerAddress) -> Self {
        let code = answer.code().code();
        let state = SqlState::of(code);
        let meaning = login_meaning(answer).unwrap_or(state.meaning);
        let said = printable(answer.message());
        Self {
            kind: state.kind,
            is_transient: state.is_transient,
            sqlstate: Some(code.to_owned()),
            text: format!("{meaning} (PostgreSQL {address}; its answer: {said}, SQLSTATE {})", printable(code)),
        }
    }

    fn with(kind: PostgresErrorKind, text: String) -> Self {
        Self { kind, is_transient: kind.is_transient(), sqlstate: None, text }
    }

    /// The error of a list of servers, each of which can't be used: that of a server that answers is the most helpful one.
    pub(super) fn of_all(mut errors: Vec<(ServerAddress, Self)>) -> Self {
        use PostgresErrorKind::{Standby, Timeout, Unreachable};
        let rank = |error: &Self| match error.kind {
            Unreachable | Timeout => 2,
            Standby => 1,
            _ => 0,
        };
        let best = (0..errors.len()).min_by_key(|place| errors.get(*place).map_or(3, |(_, error)| rank(error)));
        let Some(best) = best else { return Self::configuration("the URL of PostgreSQL names no host") };
        let (_, mut best) = errors.remove(best);
        let others = errors.iter().map(|(address, error)| format!("{}: {}", address.endpoint(), error.kind.in_short()));
        let others: Vec<_> = others.collect();
        if !others.is_empty() {
            best.text = format!("{}; the other hosts of the URL: {}", best.text, others.join(", "));
        }
        best
    }

    /// Says what failed: `doing` names the request.
    pub(super) fn while_doing(self, doing: &str) -> Self {
        Self { text: format!("{doing} failed: {}", self.text), ..self }
    }

    pub(super) fn masked(self, masks: &Masks) -> Self {
        Self { text: masks.apply(&self.text), ..self }
    }

    /// Whether the same can succeed later without a change of the configuration, the database or the relay.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// Another transaction creates the same at the same time: then `IF NOT EXISTS` fails (PostgreSQL manual, Appendix A).
    #[must_use]
    pub fn is_race(&self) -> bool {
        use tokio_postgres::error::SqlState;
        let races = [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_SCHEMA, SqlState::DUPLICATE_TABLE];
        races.iter().any(|race| self.sqlstate() == Some(race.code()))
    }

    /// PostgreSQL's code (manual, Appendix A), if the server answered by one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.sqlstate.as_deref()
    }
}

impl fmt::Display for PostgresError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for PostgresError {}

fn io_cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    error.source()?.downcast_ref()
}

fn tcp_meaning(error: &io::Error) -> &'static str {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};
    match error.kind() {
        ConnectionRefused => "nothing listens there: check that PostgreSQL runs, and host and port",
        HostUnreachable | NetworkUnreachable | TimedOut => "the host can't be reached: check the network, and the host",
        _ => "the host can't be reached: check its name, and the network",
    }
}

/// A login that is refused has one code for several reasons. The server's texts may be in any language, but not the names in them.
fn login_meaning(answer: &DbError) -> Option<&'static str> {
    let (code, said, routine) = (answer.code().code(), answer.message(), answer.routine().unwrap_or_default());
    match code {
        "28000" if said.contains("pg_hba.conf") => Some(
            "the server's `pg_hba.conf` doesn't let this user log in to this database from here, with or without TLS as now: ask the server's \
             administrator for a line there",
        ),
        "28000" if said.contains("channel binding") => Some(
            "something between the relay and the server opens the TLS connection: check host and port, and the network",
        ),
        "28000" if routine == "InitializeSessionUserId" => Some(
            "the server has no such user, or one that may not log in: check the user, or ask the server's administrator to create it",
        ),
        "28000" if routine == "ClientAuthentication" || said.contains("certificate") => Some(
            "the server asks for a client certificate that it trusts: add `tls: { cert: …, key: … }`, or check them",
        ),
        "42501" if routine == "InitPostgres" || routine == "CheckMyDatabase" => Some(
            "the user may not connect to the database: ask the server's administrator for `GRANT CONNECT ON DATABASE`",
        ),
        _ => None,
    }
}

const OTHER_TLS: &str = "TLS failed: check `tls:` (ca, cert, key, server_name), and the server's log";
/// webpki's name of the mistake, which rustls passes on as a text.
const AUTHORITY_AS_SERVER: &str = "CaUsedAsEndEntity";

/// What an error of TLS means. None if it is not one.
fn tls_meaning(error: &io::Error) -> Option<&'static str> {
    use CertificateError as Wrong;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(Wrong::UnknownIssuer) => {
            "no trusted authority signed the server's certificate: name the authority in `tls: { ca: … }`"
        }
        rustls::Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => {
            "the server's certificate is for another name: write that name as host or in `tls: { server_name: … }`, or `sslmode=verify-ca` \
             with `tls: { ca: … }`"
        }
        rustls::Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => {
            "the server's certificate has expired: ask the server's administrator to renew it, or check the clock of this machine"
        }
        rustls::Error::InvalidCertificate(Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) => {
            "the server's certificate is not valid yet: check the clock of this machine"
        }
        rustls::Error::InvalidCertificate(other) if format!("{other:?}").contains(AUTHORITY_AS_SERVER) => {
            "the server shows the certificate of an authority (`CA:TRUE`), which is accepted for no server: ask its administrator for a \
             certificate that the authority signs"
        }
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied,
        ) => {
            "the server refuses the client certificate, or asks for one: check `tls: { cert: …, key: … }`, and the server's `ssl_ca_file`"
        }
        _ => OTHER_TLS,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use rustls::pki_types::{ServerName, UnixTime};

    use super::*;

    fn address(host: &str) -> ServerAddress {
        let [host, database, user] = [host, "relay", "re\u{1b}lay"].map(str::to_owned);
        ServerAddress { host, port: 5432, database, user }
    }

    #[test]
    fn errors_of_the_stream_are_explained() {
        let io = |kind: io::ErrorKind| io::Error::from(kind);
        let tls = |error: rustls::Error| StreamError::Handshake(io::Error::new(io::ErrorKind::InvalidData, error));
        let certificate = |wrong| tls(rustls::Error::InvalidCertificate(wrong));
        let name = ServerName::try_from("db").unwrap();
        let time = UnixTime::since_unix_epoch(Duration::ZERO);
        let explained = [
            StreamError::Tcp(io(io::ErrorKind::ConnectionRefused)),
            StreamError::Tcp(io(io::ErrorKind::HostUnreachable)),
            StreamError::Tcp(io::Error::other("failed to lookup address information")),
            StreamError::NoTls,
            StreamError::Refused,
            StreamError::Foreign,
            StreamError::NoAnswer(io(io::ErrorKind::UnexpectedEof)),
            certificate(CertificateError::UnknownIssuer),
            certificate(CertificateError::NotValidForNameContext {
                expected: name,
                presented: vec!["other".to_owned()],
            }),
            certificate(CertificateError::ExpiredContext { time, not_after: time }),
            certificate(CertificateError::NotValidYet),
            certificate(CertificateError::BadSignature),
            tls(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)),
            tls(rustls::Error::AlertReceived(AlertDescription::InternalError)),
        ]
        .map(|error| PostgresError::of_stream(&error, &address("db")))
        .map(|error| format!("{:?} {} {error}", error.kind, error.is_transient()));
        expect![[r#"
            Unreachable true db:5432: nothing listens there: check that PostgreSQL runs, and host and port (connection refused)
            Unreachable true db:5432: the host can't be reached: check the network, and the host (host unreachable)
            Unreachable true db:5432: the host can't be reached: check its name, and the network (failed to lookup address information)
            Tls false the server has no TLS: ask its administrator for it (`ssl = on`), or write `sslmode=disable`, with which data and login are not encrypted (PostgreSQL db:5432, database relay, user re\u{1b}lay)
            ConnectionLost true the server can't start a connection: look at its log (PostgreSQL db:5432, database relay, user re\u{1b}lay)
            Protocol false the answer is not PostgreSQL's: check host and port (PostgreSQL db:5432, database relay, user re\u{1b}lay)
            ConnectionLost true db:5432: the connection was closed without an answer: check that PostgreSQL listens on that port, and that it runs (unexpected end of file)
            Tls false db:5432: no trusted authority signed the server's certificate: name the authority in `tls: { ca: … }` (invalid peer certificate: UnknownIssuer)
            Tls false db:5432: the server's certificate is for another name: write that name as host or in `tls: { server_name: … }`, or `sslmode=verify-ca` with `tls: { ca: … }` (invalid peer certificate: certificate not valid for name "db"; certificate is only valid for other)
            Tls false db:5432: the server's certificate has expired: ask the server's administrator to renew it, or check the clock of this machine (invalid peer certificate: certificate expired: verification time 0 (UNIX), but certificate is not valid after 0 (0 seconds ago))
            Tls false db:5432: the server's certificate is not valid yet: check the clock of this machine (invalid peer certificate: NotValidYet)
            Tls false db:5432: TLS failed: check `tls:` (ca, cert, key, server_name), and the server's log (invalid peer certificate: BadSignature)
            Tls false db:5432: the server refuses the client certificate, or asks for one: check `tls: { cert: …, key: … }`, and the server's `ssl_ca_file` (received fatal alert: CertificateRequired)
            Tls false db:5432: TLS failed: check `tls:` (ca, cert, key, server_name), and the server's log (received fatal alert: InternalError)"#]].assert_eq(&explained.join("\n"));
    }

    #[test]
    fn of_several_servers_the_one_that_answers_is_reported() {
        use PostgresErrorKind::{LoginRefused, Standby, Timeout, Unreachable};
        let report = |kinds: &[PostgresErrorKind]| {
            let failed = kinds
                .iter()
                .zip(["one", "two", "three"])
                .map(|(kind, host)| (address(host), PostgresError::with(*kind, format!("{host} failed"))));
            let error = PostgresError::of_all(failed.collect());
            format!("{:?}: {error}", error.kind)
        };
        assert_eq!(report(&[Unreachable]), "Unreachable: one failed");
        assert_eq!(
            report(&[Unreachable, Standby, Timeout]),
            "Standby: two failed; the other hosts of the URL: one:5432: nothing answers, three:5432: no answer in time"
        );
        assert_eq!(
            report(&[Standby, LoginRefused]),
            "LoginRefused: two failed; the other hosts of the URL: one:5432: a standby"
        );
        assert_eq!(
            report(&[Timeout, Unreachable]),
            "Timeout: one failed; the other hosts of the URL: two:5432: nothing answers"
        );
    }
}
