//! `sasl:` of a Kafka sink.

use std::path::PathBuf;

use super::OAuth2Config;
use crate::config::text::secret::Secret;

#[derive(Debug, Clone, PartialEq)]
pub enum Sasl {
    Password {
        /// librdkafka's name: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: &'static str,
        username: Secret,
        password: Secret,
    },
    /// By access tokens (`OAUTHBEARER`).
    OAuth2 {
        oauth2: Box<OAuth2Config>,
        /// Valid names and values that are sent with each token (RFC 7628, 3.1).
        extensions: Vec<(String, String)>,
    },
    /// By Kerberos (`GSSAPI`).
    Kerberos(KerberosLogin),
}

/// Who logs in by Kerberos, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct KerberosLogin {
    /// `NAME` or `NAME/INSTANCE`, with or without `@REALM`.
    pub principal: String,
    /// The keytab with its keys. It is read for each ticket.
    pub keytab: PathBuf,
    /// The first part of the brokers' principals: `kafka` of `kafka/HOST@REALM`.
    pub service: String,
}

impl Sasl {
    /// The user name and the password.
    pub(in crate::config) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let given = match self {
            Self::Password { mechanism: _, username, password } => [Some(username), Some(password)],
            Self::OAuth2 { .. } | Self::Kerberos(_) => [None, None],
        };
        given.into_iter().flatten()
    }

    pub(in crate::config) fn keytab(&self) -> Option<&PathBuf> {
        match self {
            Self::Kerberos(login) => Some(&login.keytab),
            Self::Password { .. } | Self::OAuth2 { .. } => None,
        }
    }
}
