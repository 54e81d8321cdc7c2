//! URLs of PostgreSQL databases (PostgreSQL manual, 34.1.1.2 "Connection URIs"). Unlike a general URL, one may have several hosts.

use percent_encoding::percent_decode_str;
use url::Host;

use crate::net::address::ambiguous_broker_url;

pub(super) const DEFAULT_PORT: u16 = 5432;
const EXAMPLE: &str = "write `postgresql://USER@HOST:PORT/DATABASE`";
const ENCODE: &str = "percent-encode user, password and database (`@` is `%40`, `/` is `%2F`, `#` is `%23`, `%` is `%25`), or write the \
                      password as it is beside the URL, as `password:`";

/// The parts of a URL, percent-decoded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostgresUrl {
    pub hosts: Vec<(String, u16)>,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    /// In the order of the URL.
    pub parameters: Vec<(String, String)>,
}

/// Why a text is not such a URL, and what to write. Shows no part of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UrlProblem {
    pub message: String,
    pub help: &'static str,
}

fn problem(message: impl Into<String>, help: &'static str) -> UrlProblem {
    UrlProblem { message: message.into(), help }
}

impl PostgresUrl {
    pub fn parse(text: &str) -> Result<Self, UrlProblem> {
        let rest = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"));
        let Some(rest) = rest else {
            return Err(problem("the URL of a PostgreSQL database begins with `postgresql://`", EXAMPLE));
        };
        if let Some(why) = ambiguous_broker_url(text) {
            return Err(problem(format!("this URL can be read in two ways: {why}"), ENCODE));
        }
        if rest.contains('#') {
            return Err(problem("the URL of a PostgreSQL database has no part after a `#`", ENCODE));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (userinfo, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match userinfo.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (userinfo, None),
        };
        if database.contains('/') {
            let message = "the name of a database with a slash in it has to be written with `%2F` in a URL";
            return Err(problem(message, EXAMPLE));
        }
        let url = Self {
            hosts: hosts.split(',').map(host_and_port).collect::<Result<_, _>>()?,
            user: decoded(user)?,
            password: password.map(decoded).transpose()?,
            database: decoded(database)?,
            parameters: query.split('&').filter(|part| !part.is_empty()).map(parameter).collect::<Result<_, _>>()?,
        };
        if url.user.is_empty() {
            return Err(problem("this URL names no user", EXAMPLE));
        }
        if url.database.is_empty() {
            let help = "write `postgresql://USER@HOST:PORT/DATABASE`, in quotes if there is a comma in it";
            return Err(problem("this URL names no database", help));
        }
        Ok(url)
    }
}

fn decoded(text: &str) -> Result<String, UrlProblem> {
    match percent_decode_str(text).decode_utf8() {
        // PostgreSQL's protocol ends a text with a zero byte.
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(problem("a part of this URL is not a text in UTF-8 once it is percent-decoded", ENCODE)),
    }
}

fn parameter(text: &str) -> Result<(String, String), UrlProblem> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    Ok((decoded(name)?, decoded(value)?))
}

fn host_and_port(text: &str) -> Result<(String, u16), UrlProblem> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    if host.is_empty() {
        return Err(problem("this URL names no host, or an empty one in the list of hosts", EXAMPLE));
    }
    if host.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2f")) {
        let help = "write the name or the address of a host; `127.0.0.1` if the server runs on this machine";
        return Err(problem("the relay connects to PostgreSQL by TCP, not by a Unix-domain socket", help));
    }
    let host = match Host::parse(host) {
        Ok(Host::Domain(name)) => name,
        Ok(Host::Ipv4(ip)) => ip.to_string(),
        Ok(Host::Ipv6(ip)) => ip.to_string(),
        Err(error) => return Err(problem(format!("a host in this URL is not one: {error}"), EXAMPLE)),
    };
    let port = match port.map(str::parse) {
        None => DEFAULT_PORT,
        Some(Ok(port)) if port != 0 => port,
        Some(_) => return Err(problem("a port in this URL is not a number between 1 and 65535", EXAMPLE)),
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> PostgresUrl {
        PostgresUrl::parse(text).unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
    }

    #[test]
    fn every_part_is_decoded_and_has_its_default() {
        let url =
            parsed("postgres://re%40lay:p%3A%2F%25ss@db.example.org/my%2Fdb?sslmode=require&application_name=a%20b");
        assert_eq!((url.user.as_str(), url.database.as_str()), ("re@lay", "my/db"));
        assert_eq!(url.password.as_deref(), Some("p:/%ss"));
        assert_eq!(url.hosts, [("db.example.org".to_owned(), DEFAULT_PORT)]);
        let parameters = [("sslmode", "require"), ("application_name", "a b")];
        assert_eq!(url.parameters, parameters.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parsed("postgresql://u@h/d").password, None);
        assert_eq!(parsed("postgresql://u:a:b@h/d").password.as_deref(), Some("a:b"));
    }

    #[test]
    fn hosts_keep_their_order_and_have_a_port_each() {
        let hosts = [("one", 1), ("two", DEFAULT_PORT), ("10.0.0.3", 3), ("::1", 4), ("fd00::2", DEFAULT_PORT)];
        let url = parsed("postgresql://u@one:1,Two,10.0.0.3:3,[::1]:4,[fd00::2]/d");
        assert_eq!(url.hosts, hosts.map(|(host, port)| (host.to_owned(), port)));
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for text in [
            "",
            "localhost",
            "http://u@h/d",
            "postgresql://",
            "postgresql://u@/d",
            "postgresql://u@a,,b/d",
            "postgresql://h/d",
            "postgresql://:p@h/d",
            "postgresql://u@h",
            "postgresql://u@h/",
            "postgresql://u@h/d/e",
            "postgresql://u@h/d#e",
            "postgresql://u@h:0/d",
            "postgresql://u@h:65536/d",
            "postgresql://u@h:/d",
            "postgresql://u@h:x/d",
            "postgresql://u@a b/d",
            "postgresql://u@[::g]/d",
            "postgresql://u@%2Fvar%2Frun/d",
            "postgresql://u:p/ss@h/d",
            "postgresql://u:100%@h/d",
            "postgresql://u%00@h/d",
            "postgresql://u@h/%ff",
        ] {
            assert!(PostgresUrl::parse(text).is_err(), "{text}");
        }
    }
}
