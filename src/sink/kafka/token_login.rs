//! Logins by access token (`OAUTHBEARER`). librdkafka asks for a token when its own is about to end; it gets the current one of the
//! [`TokenSource`], which fetches and renews tokens on the relay's runtime. So librdkafka's thread never waits for a token server.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use rdkafka::client::OAuthToken;
use rdkafka::error::RDKafkaErrorCode;

use crate::clock;
use crate::oauth::{AccessToken, TokenSource};

/// The longest life of a token that librdkafka is told. It asks for a token after 80 % of the life that it was told (it looks once a
/// second), and connects also with a token that is older. So it has a new token within this time, also if a broker refused one before
/// its end.
const LONGEST_LIFE: Duration = Duration::from_secs(12);
/// The part of a token's life after which librdkafka asks for the next one, in percent.
const ASKED_AT: u32 = 80;
/// librdkafka is to ask a moment after the relay has begun to fetch the next token, and not just before.
const FETCHING: Duration = Duration::from_millis(300);

/// The tokens of one producer of librdkafka.
#[derive(Debug)]
pub(super) struct TokenLogin {
    tokens: Arc<TokenSource>,
    /// The token that librdkafka has.
    given: Mutex<Option<AccessToken>>,
}

impl TokenLogin {
    pub(super) fn new(tokens: &Arc<TokenSource>) -> Self {
        Self { tokens: Arc::clone(tokens), given: Mutex::default() }
    }

    /// The current token, in librdkafka's form; or why there is none. Doesn't wait.
    pub(super) fn give(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let token = self.tokens.current()?;
        let ends_at = (clock::system_time() + told_life(token.due_in())).duration_since(UNIX_EPOCH)?;
        let given = OAuthToken {
            token: token.secret().to_owned(),
            // librdkafka wants a name for its log; brokers take that in the token.
            principal_name: "relay".to_owned(),
            lifetime_ms: ends_at.as_millis().try_into()?,
        };
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(given)
    }

    /// Called for each error of librdkafka: a broker may have refused the token.
    pub(super) fn on_error(&self, code: RDKafkaErrorCode) {
        if code == RDKafkaErrorCode::Authentication
            && let Some(given) = &*self.given.lock().unwrap_or_else(PoisonError::into_inner)
        {
            self.tokens.replace(given);
        }
    }

    pub(super) fn mask(&self, text: &str) -> String {
        self.tokens.mask(text)
    }
}

/// The life that librdkafka is told of a token that is renewed in `due_in`.
fn told_life(due_in: Duration) -> Duration {
    (due_in.saturating_add(FETCHING).min(LONGEST_LIFE) * 100 / ASKED_AT).min(LONGEST_LIFE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn librdkafka_asks_after_a_renewal_and_not_much_later() {
        let asks_after = |due_in: Duration| told_life(due_in) * ASKED_AT / 100;
        for due_in in [0, 1, 4, 8].map(Duration::from_secs) {
            assert_eq!(asks_after(due_in), due_in + FETCHING);
        }
        // librdkafka refuses a token that has ended.
        assert!(told_life(Duration::ZERO) > Duration::ZERO);
        for due_in in [Duration::from_mins(48), Duration::MAX] {
            assert!(asks_after(due_in) <= Duration::from_secs(10));
        }
    }
}
