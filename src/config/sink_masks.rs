//! What must not be told of what a destination answers: all that is secret of a sink, in the forms in which it goes out, and
//! in which an answer may repeat it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Url;

use super::mask::{self, STARS};
use super::model::{AmqpConnection, SinkConfig, SinkKind, WebhookAuth, WebhookUrl};
use super::{Masks, Secret};

/// What a secret of Standard Webhooks may begin with.
const PREFIX: &str = "whsec_";

impl SinkConfig {
    /// The masks of this sink, and of its secrets as they are now: those that can't be read now can't be sent, either. Reads
    /// files, which blocks.
    #[must_use]
    pub fn cause_masks(&self) -> Masks {
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
                match &webhook.auth {
                    Some(WebhookAuth::Bearer(token)) => texts.extend(now(token)),
                    Some(WebhookAuth::Basic { username, password }) => {
                        let (username, password) = (now(username), now(password));
                        texts.extend(
                            username.zip(password.clone()).map(|(username, password)| basic(&username, &password)),
                        );
                        texts.extend(password);
                    }
                    None => {}
                }
                if let Some(proxy) = &webhook.proxy {
                    of_url(&mut texts, proxy, false);
                }
            }
            SinkKind::Amqp(amqp) => {
                let AmqpConnection { urls, username: _, password, vhost: _, tls: _ } = &amqp.connection;
                for url in urls {
                    of_url(&mut texts, url, false);
                }
                texts.extend(password.iter().filter_map(now));
            }
            SinkKind::Kafka(kafka) => {
                texts.extend(kafka.sasl.iter().filter_map(|sasl| now(&sasl.password)));
                let secret = kafka.options.iter().filter(|(name, _)| mask::is_secret(name));
                texts.extend(secret.filter_map(|(_, value)| now(value)));
            }
            SinkKind::File(_) | SinkKind::Stdout => {}
        }
        self.masks.with(texts.iter().map(String::as_str))
    }
}

fn now(secret: &Secret) -> Option<String> {
    secret.reveal().ok()
}

/// Of a URL the password; of a webhook's also what follows the host, which whoever holds it may post to. Each part of that is
/// secret where none of it is shown (`is_hidden`); else it is told, too, by what shows the configuration.
fn of_url(texts: &mut Vec<String>, url: &Secret, is_hidden: bool) {
    let Some(url) = now(url).and_then(|url| Url::parse(url.trim()).ok()) else { return };
    if let Some(password) = url.password() {
        let plain = |text: &str| percent_decoded(text);
        texts.push(basic(&plain(url.username()), &plain(password)));
        texts.extend([password.to_owned(), plain(password)]);
    }
    if is_hidden {
        let path = url.path();
        let query = url.query().unwrap_or_default();
        texts.push(format!("{path}?{query}"));
        texts.push(path.to_owned());
        let parts = path.split('/').chain(query.split(['&', '='])).chain([query]);
        texts.extend(parts.flat_map(|part| [part.to_owned(), percent_decoded(part)]));
    }
}

fn percent_decoded(text: &str) -> String {
    let pair = format!("={}", text.replace('+', "%2B").replace('&', "%26"));
    url::form_urlencoded::parse(pair.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

fn basic(username: &str, password: &str) -> String {
    STANDARD.encode(format!("{username}:{password}"))
}
