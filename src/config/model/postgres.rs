//! The PostgreSQL database of the spool.

use std::fmt;
use std::time::Duration;

use crate::config::postgres_url::PostgresUrl;
use crate::config::text::secret::Secret;
use crate::net::Tls;
use crate::net::address::host_and_port;

#[derive(Debug, Clone, PartialEq)]
pub struct PostgresConfig {
    /// The host and the port of each server, at least one. They are tried in order, until one can be written to.
    pub hosts: Vec<(String, u16)>,
    pub user: String,
    pub password: Option<PostgresPassword>,
    pub database: String,
    /// The schema of the tables: lower-case letters, digits and `_`, at most 63 bytes.
    pub schema: String,
    /// The shard: the name of the source whose queue it is about; empty: that of all sources which have one queue.
    pub shard: String,
    pub lease: Duration,
    pub ssl_mode: SslMode,
    /// The longest time for connecting to one of the hosts.
    pub connect_timeout: Duration,
    /// The name under which PostgreSQL shows the connections.
    pub application_name: String,
    pub tls: Tls,
}

impl fmt::Display for PostgresConfig {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(|(host, port)| host_and_port(host, *port)).collect();
        write!(to, "postgresql://{}/{} (schema {})", hosts.join(","), self.database, self.schema)
    }
}

/// Where the password is. It is read again at each connection.
#[derive(Debug, Clone, PartialEq)]
pub enum PostgresPassword {
    /// The secret is the password.
    Alone(Secret),
    /// The secret is a URL with the password in it.
    InUrl(Secret),
}

/// libpq's `sslmode` (PostgreSQL manual, 34.19.3 "Protection Provided in Different Modes"), without `allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Neither data nor login are encrypted.
    Disable,
    /// TLS if the server has it. With `tls.ca` the certificate's chain is verified then.
    Prefer,
    /// TLS. With `tls.ca` the certificate's chain is verified.
    Require,
    /// TLS; the certificate's chain is verified, but not its name.
    VerifyCa,
    /// TLS; the certificate's chain and its name are verified.
    VerifyFull,
}

impl PostgresPassword {
    /// The password as it is now. Reads the files it refers to, which blocks. The error says what to do.
    pub fn reveal(&self) -> Result<String, String> {
        let (Self::Alone(secret) | Self::InUrl(secret)) = self;
        let text = secret.reveal().map_err(|error| error.to_string())?;
        match self {
            Self::Alone(_) => Ok(text),
            Self::InUrl(_) => {
                // The content of `${file:…}` may have changed since the configuration was checked.
                let url =
                    PostgresUrl::parse(&text).map_err(|problem| format!("{}: {}", problem.message, problem.help))?;
                Ok(url.password.unwrap_or_default())
            }
        }
    }
}

impl SslMode {
    /// Each mode with its name in a URL.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("disable", Self::Disable),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];
}
