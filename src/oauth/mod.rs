//! Access tokens by OAuth 2.0 client credentials (RFC 6749, 4.4): fetched when they are needed, shared, and renewed before they
//! end.
//!
//! Equal `oauth2:` blocks share one [`TokenSource`]. It makes one request at a time; whoever needs a token meanwhile waits for that
//! request. A task renews the token after 80 % of its life. A server that refuses a token is told to the source by
//! [`refuse`](TokenSource::refuse): the next one who asks gets a new token.
//!
//! It knows nothing of what a token is sent to. No token or secret is ever in an error or in the log; [`TokenSource::mask`]
//! removes them from the texts of others.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use self::request::TokenClient;
use crate::clock::{self, MonotonicTime};
use crate::config::{Masks, OAuth2Config};
use crate::net::Backoff;
use crate::tasks::{self, TaskKind};

/// After this part of its life a token is renewed, in percent. The life counts from the start of the request.
const RENEWED_AT: u32 = 80;
/// The life of a token for which the server names none. Such a token doesn't end, but it is renewed as often.
const DEFAULT_LIFE: Duration = Duration::from_hours(1);
/// The delays after a failed renewal.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How often the renewing task looks at the clock. Its timer stands still while the machine sleeps, a token's life doesn't.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How many tokens are masked: a request in flight may still have an earlier one.
const MASKED_TOKENS: usize = 4;

/// The sources in use, each with its configuration.
static SOURCES: Mutex<Vec<Weak<TokenSource>>> = Mutex::new(Vec::new());

/// The source of tokens for that block; equal blocks share one. It begins to fetch a token, on the current runtime.
#[must_use]
pub fn source(config: &OAuth2Config) -> Arc<TokenSource> {
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    sources.retain(|source| source.strong_count() > 0);
    if let Some(known) = sources.iter().filter_map(Weak::upgrade).find(|known| known.config == *config) {
        return known;
    }
    let source = TokenSource::start(config);
    sources.push(Arc::downgrade(&source));
    source
}

/// An access token, as it is sent. `Debug` doesn't show it.
#[derive(Clone)]
pub struct AccessToken(Arc<Token>);

struct Token {
    text: String,
    /// Counts the tokens of a source.
    number: u64,
    renewed_at: MonotonicTime,
    /// None: the server didn't say.
    ends_at: Option<MonotonicTime>,
    ends_at_by_wall_clock: SystemTime,
}

impl AccessToken {
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0.text
    }

    /// By the wall clock, as other programs count. A token of unknown life is taken to end after an hour.
    #[must_use]
    pub fn ends_at(&self) -> SystemTime {
        self.0.ends_at_by_wall_clock
    }

    /// The time until it is to be renewed.
    #[must_use]
    pub fn due_in(&self) -> Duration {
        self.0.renewed_at.remaining()
    }

    /// Whether its life is over, also if that was while the machine slept.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.ends_at.is_some_and(MonotonicTime::has_passed)
    }

    /// Whether it is that token.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it was fetched after [`TokenSource::latest`] returned `number`.
    #[must_use]
    pub fn is_after(&self, number: u64) -> bool {
        self.0.number > number
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessToken({})", self.0.number)
    }
}

/// Why there is no token: names the token server and what it said, and never a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no access token: {0}")]
pub struct TokenError(String);

type Request = Shared<BoxFuture<'static, Result<AccessToken, TokenError>>>;

/// Fetches and renews the tokens of one `oauth2:` block.
pub struct TokenSource {
    config: OAuth2Config,
    client: TokenClient,
    state: Mutex<State>,
    /// The latest token.
    issued: watch::Sender<Option<AccessToken>>,
    /// Wakes the task that renews tokens.
    renew: Arc<Notify>,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    current: Option<AccessToken>,
    /// A server refused the current token.
    is_refused: bool,
    /// The renewing task has to replace the current token.
    is_wanted: bool,
    /// The number of the latest token.
    latest: u64,
    /// The request in flight.
    request: Option<Request>,
    /// Why the last request failed.
    failure: Option<TokenError>,
    /// The texts of the latest tokens.
    recent: VecDeque<String>,
}

impl State {
    fn usable(&self) -> Option<&AccessToken> {
        self.current.as_ref().filter(|token| !self.is_refused && !token.has_ended())
    }

    fn refuse(&mut self, token: &AccessToken) {
        self.is_refused |= self.current.as_ref().is_some_and(|current| current.0.number == token.0.number);
    }
}

impl TokenSource {
    fn start(config: &OAuth2Config) -> Arc<Self> {
        let source = Arc::new(Self {
            config: config.clone(),
            client: TokenClient::default(),
            state: Mutex::default(),
            issued: watch::Sender::new(None),
            renew: Arc::default(),
        });
        let (renewed, woken) = (Arc::downgrade(&source), Arc::clone(&source.renew));
        tasks::spawn(TaskKind::TokenRenewal, async move { renew(&renewed, &woken).await });
        source
    }

    /// A token that is neither at its end nor refused. Fetches one if there is none.
    pub async fn token(self: &Arc<Self>) -> Result<AccessToken, TokenError> {
        let request = {
            let mut state = self.lock();
            match state.usable() {
                Some(token) => return Ok(token.clone()),
                None => self.request(&mut state),
            }
        };
        request.await
    }

    /// The current token, without waiting; or why there is none. The error is `None` while a request for one is in flight that follows
    /// no failed one.
    pub fn current(&self) -> Result<AccessToken, Option<TokenError>> {
        let state = self.lock();
        state.usable().cloned().ok_or_else(|| state.failure.clone())
    }

    /// The number of the latest token.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.lock().latest
    }

    /// Reports that a server refused this token. If it is the current one, it is used no more.
    pub fn refuse(&self, token: &AccessToken) {
        self.lock().refuse(token);
    }

    /// The same, for a client that takes the next token from [`subscribe`](Self::subscribe) or [`current`](Self::current): a new
    /// one is fetched.
    pub fn replace(&self, token: &AccessToken) {
        let mut state = self.lock();
        state.refuse(token);
        if state.is_refused && !state.is_wanted {
            state.is_wanted = true;
            self.renew.notify_one();
        }
    }

    /// Sees each new token.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<AccessToken>> {
        self.issued.subscribe()
    }

    /// The text without the latest tokens. It may be cut within one.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let masks: Masks = self.lock().recent.iter().map(String::as_str).collect();
        masks.apply_to_beginning(text)
    }

    /// The request in flight, or a new one. It goes on if nobody waits for it any more.
    fn request(self: &Arc<Self>, state: &mut State) -> Request {
        if let Some(request) = &state.request {
            return request.clone();
        }
        let source = Arc::clone(self);
        let sent = tasks::spawn(TaskKind::TokenRequest, async move { source.fetch().await });
        let request = async move {
            sent.await.unwrap_or_else(|error| Err(TokenError(tasks::blocking_error("the request for it", &error))))
        };
        let request = request.boxed().shared();
        state.request = Some(request.clone());
        request
    }

    async fn fetch(&self) -> Result<AccessToken, TokenError> {
        let (begun, begun_by_wall_clock) = (MonotonicTime::now(), clock::system_time());
        let granted = self.client.fetch(&self.config).await;
        let mut state = self.lock();
        state.request = None;
        let granted = granted.map_err(TokenError);
        state.failure = granted.as_ref().err().cloned();
        let granted = granted?;
        let life = granted.life.unwrap_or(DEFAULT_LIFE);
        state.latest += 1;
        let token = AccessToken(Arc::new(Token {
            text: granted.token,
            number: state.latest,
            renewed_at: begun.after(life * RENEWED_AT / 100),
            ends_at: granted.life.map(|life| begun.after(life)),
            ends_at_by_wall_clock: begun_by_wall_clock + life,
        }));
        state.current = Some(token.clone());
        state.is_refused = false;
        state.is_wanted = false;
        state.recent.truncate(MASKED_TOKENS - 1);
        state.recent.push_front(token.secret().to_owned());
        drop(state);
        self.issued.send_replace(Some(token.clone()));
        Ok(token)
    }

    /// The time until the renewing task has to fetch a token.
    fn due_in(&self) -> Duration {
        let state = self.lock();
        state.current.as_ref().filter(|_| !state.is_wanted).map_or(Duration::ZERO, AccessToken::due_in)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews the tokens of the source until nobody uses it.
async fn renew(source: &Weak<TokenSource>, woken: &Notify) {
    let mut failures = 0_u32;
    // How many tokens in a row were replaced because a server refused them: the first is replaced at once.
    let mut replaced = 0_u32;
    loop {
        let Some(due_in) = source.upgrade().map(|used| used.due_in()) else { return };
        tokio::select! {
            () = woken.notified() => {}
            () = sleep(due_in.min(LOOK_AGAIN).max(BACKOFF.half_jitter(failures))) => {}
        }
        let is_replacing = source.upgrade().is_some_and(|used| used.lock().is_wanted);
        if is_replacing {
            sleep(BACKOFF.half_jitter(replaced)).await;
        }
        let Some(used) = source.upgrade() else { return };
        if !used.due_in().is_zero() {
            continue;
        }
        replaced = if is_replacing { replaced.saturating_add(1) } else { 0 };
        let has_token = used.current().is_ok();
        let request = used.request(&mut used.lock());
        drop(used);
        match request.await {
            Ok(_) if failures == 0 => {}
            Ok(_) => {
                tracing::info!("the token server issues tokens again");
                failures = 0;
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(%error, "{}", if has_token { CANT_RENEW } else { CANT_FETCH });
                }
                failures = failures.saturating_add(1);
            }
        }
    }
}

const CANT_RENEW: &str =
    "can't renew an access token; the current one is used until it ends, and the relay tries again";
const CANT_FETCH: &str =
    "can't get an access token; the sources and sinks that need it wait, and the relay tries again";
