//! The secrets of a sink in every form in which they are sent: a destination's answer may repeat them, and is masked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use super::model::{
    AmqpConnection, AmqpLogin, ClientAuthentication, OAuth2Config, Sasl, SinkConfig, SinkKind, WebhookAuth, WebhookUrl,
};
use super::text::mask::{self, STARS};
use super::text::secret::{Masks, Secret};

/// The prefix of a Standard Webhooks secret.
const PREFIX: &str = "whsec_";

impl SinkConfig {
    /// The masks for answers of the destination: the sink's own, and its secrets as they are now. A secret that can't be read
    /// now can't be sent either. Reads files, which blocks.
    #[must_use]
    pub fn secret_masks(&self) -> Masks {
        let mut texts = Vec::new();
        match &self.kind {
            SinkKind::Webhook(webhook) => {
                if let WebhookUrl::Fixed { url, shown } = &webhook.url {
                    of_url(&mut texts, url, shown.ends_with(STARS));
                }
                for secret in webhook.secrets.iter().filter_map(now) {
                    texts.extend(secret.trim().strip_prefix(PREFIX).map(str::to_owned));
                    texts.push(secret.trim().to_owned());
                }
                of_auth(&mut texts, webhook.auth.as_ref());
                if let Some(proxy) = &webhook.proxy {
                    of_url(&mut texts, proxy, false);
                }
            }
            SinkKind::Amqp(amqp) => {
                let AmqpConnection { urls, login, vhost: _, tls: _ } = &amqp.connection;
                for url in urls {
                    of_url(&mut texts, url, false);
                }
                match login {
                    AmqpLogin::Password { username: _, password } => texts.extend(password.iter().filter_map(now)),
                    // Tokens are masked by whoever fetches them.
                    AmqpLogin::External | AmqpLogin::OAuth2(_) => {}
                }
            }
            SinkKind::Kafka(kafka) => {
                if let Some(Sasl::Password { password, .. }) = &kafka.sasl {
                    texts.extend(now(password));
                }
                let secret = kafka.options.iter().filter(|(name, _)| mask::is_secret(name));
                texts.extend(secret.filter_map(|(_, value)| now(value)));
                if let Some(registry) = &kafka.registry {
                    of_url(&mut texts, &registry.url, false);
                    of_auth(&mut texts, registry.auth.as_ref());
                }
            }
            SinkKind::File(_) | SinkKind::Stdout => {}
        }
        if let Some(oauth2) = self.oauth2() {
            of_oauth2(&mut texts, oauth2);
        }
        self.masks.with(texts.iter().map(String::as_str))
    }
}

fn of_auth(texts: &mut Vec<String>, auth: Option<&WebhookAuth>) {
    match auth {
        Some(WebhookAuth::Bearer(token)) => texts.extend(now(token)),
        Some(WebhookAuth::Basic { username, password }) => {
            let (username, password) = (now(username), now(password));
            texts.extend(username.zip(password.clone()).map(|(username, password)| basic(&username, &password)));
            texts.extend(password);
        }
        Some(WebhookAuth::OAuth2(oauth2)) => of_oauth2(texts, oauth2),
        None => {}
    }
}

/// Tokens are masked by whoever fetches them.
fn of_oauth2(texts: &mut Vec<String>, oauth2: &OAuth2Config) {
    if let ClientAuthentication::Secret(secret) = &oauth2.client {
        texts.extend(now(secret));
    }
}

fn now(secret: &Secret) -> Option<String> {
    secret.reveal().ok()
}

/// The password of a URL. Where the path of a webhook is secret (`is_hidden`), as knowing it is enough to post to it, also each part
/// of the path and the query.
fn of_url(texts: &mut Vec<String>, url: &Secret, is_hidden: bool) {
    let Some(url) = now(url).and_then(|url| Url::parse(url.trim()).ok()) else { return };
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    if let Some(password) = url.password() {
        texts.push(basic(&decoded(url.username()), &decoded(password)));
        texts.extend([password.to_owned(), decoded(password)]);
    }
    if is_hidden {
        let path = url.path();
        let query = url.query().unwrap_or_default();
        texts.push(format!("{path}?{query}"));
        texts.push(path.to_owned());
        let parts = path.split('/').chain(query.split(['&', '='])).chain([query]);
        texts.extend(parts.flat_map(|part| [part.to_owned(), decoded(part)]));
    }
}

fn basic(username: &str, password: &str) -> String {
    STANDARD.encode(format!("{username}:{password}"))
}
