//! The key `postgres:` of the spool.

use std::time::Duration;

use super::common::{SECOND, in_clear, period, usable};
use super::tls;
use crate::config::model::{PostgresConfig, PostgresPassword, SslMode};
use crate::config::postgres_url::{DEFAULT_PORT, PostgresUrl};
use crate::config::raw;
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::{Text, UrlText};
use crate::config::text::words::{clean, list};
use crate::net::Tls;

const SCHEMA: &str = "regards_relay";
/// PostgreSQL cuts a longer name, in bytes (manual, 4.1.1 "Identifiers and Key Words").
const MAX_NAME: usize = 63;
const LEASE: Duration = Duration::from_secs(10);
const LONGEST_LEASE: Duration = Duration::from_mins(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_CONNECT_TIMEOUT: Duration = Duration::from_mins(5);
const APPLICATION_NAME: &str = "regards-relay";

/// The parameters of a URL that the relay knows.
const PARAMETERS: [&str; 4] = ["sslmode", "connect_timeout", "application_name", "target_session_attrs"];
/// Parameters of libpq for which there is another place.
const ELSEWHERE: [(&str, &str); 9] = [
    ("host", "write the hosts after the `@`, separated by commas"),
    ("hostaddr", "write the hosts after the `@`, separated by commas"),
    ("port", "write it after the host, as in `HOST:5432`"),
    ("user", "write it before the `@`"),
    ("dbname", "write it after the `/`"),
    ("password", "write it beside the URL, as `password:`"),
    ("sslrootcert", "write it beside the URL, as `tls: { ca: … }`"),
    ("sslcert", "write it beside the URL, as `tls: { cert: … }`"),
    ("sslkey", "write it beside the URL, as `tls: { key: … }`"),
];

/// What the parameters of a URL set.
struct Parameters {
    ssl_mode: Option<SslMode>,
    connect_timeout: Duration,
    application_name: String,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { ssl_mode: None, connect_timeout: CONNECT_TIMEOUT, application_name: APPLICATION_NAME.to_owned() }
    }
}

pub(super) fn postgres(at: &At<raw::Postgres>, reader: &mut Reader<'_>) -> Option<PostgresConfig> {
    let raw = &at.value;
    let tls = raw.tls.as_ref().map(|at| tls::tls(at, true, reader));
    if let Some(password) = &raw.password {
        usable(reader, "the password", password);
        if password.value.0.in_clear {
            in_clear(reader, "the password", password.span);
        }
    }
    let schema = raw.schema.as_ref().map_or_else(|| SCHEMA.to_owned(), |at| schema(at, reader));
    let lease = period(reader, raw.lease.as_ref(), LEASE, 3 * SECOND..=LONGEST_LEASE);
    let at = raw.url.as_ref()?;
    let url = url(at, reader)?;
    let parameters = parameters(at, &url.parameters, reader);
    // With its own certificates, someone means the server to be verified.
    let by_default = if tls.is_some() { SslMode::VerifyFull } else { SslMode::Prefer };
    let ssl_mode = parameters.ssl_mode.unwrap_or(by_default);
    check_ssl_mode(ssl_mode, at, raw.tls.as_ref().zip(tls.as_ref()), reader);
    let in_url = || url.password.as_ref().map(|_| PostgresPassword::InUrl(at.value.0.secret.clone()));
    let password = raw.password.as_ref().map(|at| PostgresPassword::Alone(at.value.0.secret.clone()));
    Some(PostgresConfig {
        password: password.or_else(in_url),
        hosts: url.hosts,
        user: url.user,
        database: url.database,
        schema,
        shard: String::new(),
        lease,
        ssl_mode,
        connect_timeout: parameters.connect_timeout,
        application_name: parameters.application_name,
        tls: tls.unwrap_or_default(),
    })
}

fn schema(at: &At<Text>, reader: &mut Reader<'_>) -> String {
    let name = &at.value.text;
    let is_word = !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let problem = if name.is_empty() || name.len() > MAX_NAME || !is_word {
        Some("can't be the name of a schema here")
    } else if name.starts_with("pg_") || name == "information_schema" {
        Some("is a schema of PostgreSQL itself")
    } else {
        None
    };
    if let Some(problem) = problem.filter(|_| !at.value.placeholder) {
        let message = format!("{} {problem}", reader.quote(at.span));
        reader.report(Diagnostic::error("schema-name", at.span, message).help(format!(
            "write lower-case letters, digits and `_`, at most {MAX_NAME} of them and no digit first, as in `{SCHEMA}`"
        )));
    }
    name.clone()
}

/// The URL, or a placeholder for one with a variable or file that is missing. A problem is reported.
fn url(at: &At<UrlText>, reader: &mut Reader<'_>) -> Option<PostgresUrl> {
    let hidden = &at.value.0;
    let Some(text) = &hidden.text else {
        let [host, name] = ["unset.invalid", "unset"].map(str::to_owned);
        let hosts = vec![(host, DEFAULT_PORT)];
        return Some(PostgresUrl { hosts, user: name.clone(), password: None, database: name, parameters: Vec::new() });
    };
    match PostgresUrl::parse(text) {
        Ok(url) => {
            if hidden.in_clear && url.password.is_some() {
                in_clear(reader, "the password in this URL", at.span);
            }
            Some(url)
        }
        Err(problem) => {
            reader.report(Diagnostic::error("postgres-url", at.span, problem.message).help(problem.help));
            None
        }
    }
}

fn parameters(at: &At<UrlText>, written: &[(String, String)], reader: &mut Reader<'_>) -> Parameters {
    let mut parameters = Parameters::default();
    for (place, (name, value)) in written.iter().enumerate() {
        // An inserted name or value is not shown.
        let shown = |text: &str| if at.value.0.in_clear { format!("`{}`", clean(text)) } else { "this one".to_owned() };
        let problem = if written.iter().take(place).any(|(earlier, _)| earlier == name) {
            Some((format!("this URL has the parameter {} twice", shown(name)), "keep one of the two".to_owned()))
        } else if PARAMETERS.contains(&name.as_str()) {
            let help = parameters.set(name, value).err();
            help.map(|help| (format!("{} is no value for the parameter `{name}` of this URL", shown(value)), help))
        } else {
            Some(if let Some((known, help)) = ELSEWHERE.iter().find(|(known, _)| known == name) {
                (format!("the relay doesn't take `{known}` from the parameters of this URL"), (*help).to_owned())
            } else {
                let message = format!("the relay doesn't know the parameter {} of this URL", shown(name));
                (message, format!("known parameters: {}", list(PARAMETERS)))
            })
        };
        if let Some((message, help)) = problem {
            reader.report(Diagnostic::error("postgres-url", at.span, message).help(help));
        }
    }
    parameters
}

impl Parameters {
    /// The error says which values there are.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "sslmode" => {
                if value == "allow" {
                    return Err("write `prefer` for TLS if the server has it, or `disable`".to_owned());
                }
                let known = SslMode::NAMES.iter().find(|(known, _)| *known == value);
                let (_, mode) =
                    known.ok_or_else(|| format!("write one of {}", list(SslMode::NAMES.map(|(name, _)| name))))?;
                self.ssl_mode = Some(*mode);
            }
            "connect_timeout" => {
                let most = LONGEST_CONNECT_TIMEOUT.as_secs();
                let seconds = value.parse().ok().filter(|seconds| (1..=most).contains(seconds));
                let seconds = seconds.ok_or_else(|| format!("write a number of seconds between 1 and {most}"))?;
                self.connect_timeout = Duration::from_secs(seconds);
            }
            "application_name" => {
                let is_name = !value.is_empty() && value.len() <= MAX_NAME;
                if !is_name || !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
                    return Err(format!("write 1 to {MAX_NAME} printable characters of ASCII"));
                }
                value.clone_into(&mut self.application_name);
            }
            // The relay connects to such a server in any case.
            _ if matches!(value, "read-write" | "primary") => {}
            _ => return Err("remove it: the relay connects to the first host that can be written to".to_owned()),
        }
        Ok(())
    }
}

/// `tls`: the block, and what was made of it.
fn check_ssl_mode(mode: SslMode, at: &At<UrlText>, tls: Option<(&At<raw::Tls>, &Tls)>, reader: &mut Reader<'_>) {
    match (mode, tls) {
        (SslMode::Disable, Some((block, _))) => {
            let message = "`tls` is given, but the URL says `sslmode=disable`";
            reader.report(Diagnostic::error("tls-unused", block.head, message).help("remove one of the two"));
        }
        (SslMode::VerifyCa, tls) if tls.is_none_or(|(_, tls)| tls.ca.is_none()) => {
            let message = "`sslmode=verify-ca` needs the authority that signs the server's certificate";
            reader.report(Diagnostic::error("tls-ca", at.span, message).help(
                "name it in `tls: { ca: … }`, or write `sslmode=verify-full`: anyone can get a certificate from one of the system's \
                 authorities, but not in the name of the server",
            ));
        }
        _ => {}
    }
}
