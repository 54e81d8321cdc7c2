//! `auth:` of a webhook and of a schema registry.

use super::OAuth2Config;
use crate::config::Secret;
use crate::net::http::basic;

#[derive(Debug, Clone, PartialEq)]
pub enum WebhookAuth {
    Bearer(Secret),
    Basic {
        username: Secret,
        password: Secret,
    },
    /// A bearer token that is fetched and renewed.
    OAuth2(Box<OAuth2Config>),
}

impl WebhookAuth {
    /// The header `Authorization`. None: a token comes with each request. Blocks if secrets are in files.
    pub fn authorization(&self) -> Result<Option<String>, String> {
        let reveal = |secret: &Secret| secret.reveal().map_err(|error| error.to_string());
        Ok(match self {
            Self::Bearer(token) => Some(format!("Bearer {}", reveal(token)?)),
            Self::Basic { username, password } => Some(basic(&reveal(username)?, &reveal(password)?)),
            Self::OAuth2(_) => None,
        })
    }
}
