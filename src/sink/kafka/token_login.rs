//! Logins by access token (`OAUTHBEARER`). librdkafka gets each token of the [`TokenSource`], which fetches and renews them on the
//! relay's runtime, within a moment. librdkafka's thread never waits for a token server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use regards_relay_native::oauthbearer::{Token, set_token};

use crate::clock;
use crate::config::{KafkaConfig, Sasl};
use crate::oauth::{self, AccessToken, TokenSource};

/// librdkafka takes no token whose end has passed. It doesn't look at the end later.
const SHORTEST_LIFE: Duration = Duration::from_secs(10);

/// The tokens of a sink, with what is sent along.
#[derive(Debug, Clone)]
pub(super) struct SinkTokens {
    pub(super) source: Arc<TokenSource>,
    extensions: Vec<(String, String)>,
}

impl SinkTokens {
    /// None: the sink has no login by access token.
    pub(super) fn of(kafka: &KafkaConfig) -> Option<Self> {
        match &kafka.sasl {
            Some(Sasl::OAuth2 { oauth2, extensions }) => {
                Some(Self { source: oauth::source(oauth2), extensions: extensions.clone() })
            }
            Some(Sasl::Password { .. } | Sasl::Kerberos(_)) | None => None,
        }
    }
}

/// The tokens of one producer of librdkafka.
#[derive(Debug)]
pub(super) struct TokenLogin {
    tokens: SinkTokens,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    /// The token that librdkafka has.
    token: Option<AccessToken>,
    /// Why it has no newer one.
    failure: Option<String>,
}

impl TokenLogin {
    pub(super) fn new(tokens: &SinkTokens) -> Self {
        Self { tokens: tokens.clone(), given: Mutex::default() }
    }

    /// Gives librdkafka the current token unless it has it. Doesn't wait. An error, why there is none, is returned once.
    pub(super) fn give<C: ClientContext>(&self, client: &Client<C>) -> Result<(), String> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = match self.tokens.source.current() {
            Ok(token) if given.token.as_ref().is_some_and(|known| known.is(&token)) => None,
            Ok(token) => self.set(client, &token).map(|()| given.token = Some(token)).err(),
            // The first request is in flight.
            Err(None) => None,
            Err(Some(error)) => Some(error.to_string()),
        };
        if given.failure == failure {
            return Ok(());
        }
        given.failure.clone_from(&failure);
        failure.map_or(Ok(()), Err)
    }

    fn set<C: ClientContext>(&self, client: &Client<C>, token: &AccessToken) -> Result<(), String> {
        let earliest = clock::system_time() + SHORTEST_LIFE;
        let ends_at = token.ends_at().max(earliest).duration_since(UNIX_EPOCH).unwrap_or_default();
        let token = Token {
            text: token.secret(),
            ends_at: i64::try_from(ends_at.as_millis()).unwrap_or(i64::MAX),
            user: "relay",
            extensions: &self.tokens.extensions,
        };
        set_token(client, token).map_err(|error| self.mask(&error))
    }

    /// Called for each error of librdkafka: a broker may have refused the token.
    pub(super) fn on_error(&self, code: RDKafkaErrorCode) {
        if code == RDKafkaErrorCode::Authentication
            && let Some(given) = &self.given.lock().unwrap_or_else(PoisonError::into_inner).token
        {
            self.tokens.source.replace(given);
        }
    }

    pub(super) fn mask(&self, text: &str) -> String {
        self.tokens.source.mask(text)
    }
}
