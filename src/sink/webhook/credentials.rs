//! The secrets of a webhook. They are read again for each attempt, so that a rotated secret takes effect with the next one.

use http::HeaderValue;
use url::Url;

use super::signature::Key;
use crate::config::{Secret, WebhookConfig, WebhookUrl};
use crate::net::http::{self as client, allowed, of_user_in, remove_user};
use crate::net::{Network, address};
use crate::oauth::AccessToken;

/// The secrets of a webhook, checked.
pub(super) struct Credentials {
    /// The URL, if it is the same for every event; without user and password.
    pub url: Option<Url>,
    /// The keys that requests are signed with.
    pub keys: Vec<Key>,
    pub authorization: Option<HeaderValue>,
    pub proxy: Option<Url>,
}

impl Credentials {
    /// Blocks if secrets are in files. The error says what to do, and shows no secret.
    pub(super) fn read(webhook: &WebhookConfig) -> Result<Self, String> {
        let mut url = match &webhook.url {
            WebhookUrl::Fixed { url, .. } => Some(parse("url", &reveal(url)?, &webhook.deny)?),
            WebhookUrl::Templated { .. } => None,
        };
        let authorization = match &webhook.auth {
            Some(auth) => auth.authorization()?,
            None => url.as_ref().and_then(of_user_in),
        };
        if let Some(url) = &mut url {
            remove_user(url);
            url.set_fragment(None);
        }
        let keys = webhook
            .secrets
            .iter()
            .map(|secret| Key::parse(&reveal(secret)?).map_err(str::to_owned))
            .collect::<Result<_, String>>()?;
        let proxy = match &webhook.proxy {
            Some(proxy) => Some(parse("proxy", &reveal(proxy)?, &[])?),
            None => None,
        };
        Ok(Self { url, keys, authorization: authorization.map(sensitive).transpose()?, proxy })
    }
}

fn reveal(secret: &Secret) -> Result<String, String> {
    secret.reveal().map_err(|error| error.to_string())
}

/// Parses an `http://` or `https://` URL with a host that the relay may connect to.
fn parse(what: &str, text: &str, deny: &[Network]) -> Result<Url, String> {
    let text = text.trim();
    let url = Url::parse(text).map_err(|error| format!("the sink's `{what}` is not a URL ({error})"))?;
    if let Some(why) = address::repaired_web_url(text) {
        return Err(format!("the sink's `{what}` is not a URL: {why}"));
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("the sink's `{what}` must begin with https:// or http://"));
    }
    allowed(&url, deny).map_err(|problem| format!("the sink's `{what}`: {problem}"))?;
    Ok(url)
}

/// The header with an access token.
pub(super) fn bearer(token: &AccessToken) -> Result<HeaderValue, String> {
    sensitive(format!("Bearer {}", token.secret()))
}

fn sensitive(text: String) -> Result<HeaderValue, String> {
    client::sensitive(text)
        .map_err(|_| "the sink's `auth` has a character that an HTTP header must not have".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::config::{Responses, WebhookAuth};
    use crate::net::Tls;

    fn webhook(url: &str) -> WebhookConfig {
        WebhookConfig {
            url: WebhookUrl::Fixed { url: Secret::text(url), shown: url.to_owned() },
            secrets: Vec::new(),
            headers: Vec::new(),
            auth: None,
            proxy: None,
            timeout: Duration::from_secs(10),
            concurrency: 1,
            rate: None,
            responses: Responses::default(),
            deny: Vec::new(),
            tls: Tls::default(),
        }
    }

    fn problem(webhook: &WebhookConfig) -> String {
        Credentials::read(webhook).err().unwrap_or_default()
    }

    #[test]
    fn user_and_password_of_the_url_become_a_header_and_leave_the_url() {
        let credentials = Credentials::read(&webhook("https://me:p%40s%2Bs+%26@host/hook#x")).unwrap();
        assert_eq!(credentials.url.unwrap().as_str(), "https://host/hook");
        let header = credentials.authorization.unwrap();
        assert_eq!(header.to_str().unwrap(), format!("Basic {}", STANDARD.encode("me:p@s+s+&")));
        assert!(header.is_sensitive());
    }

    #[test]
    fn auth_has_priority_over_the_user_in_the_url() {
        let auth = Some(WebhookAuth::Bearer(Secret::text("t0ken")));
        let credentials = Credentials::read(&WebhookConfig { auth, ..webhook("https://me:pass@host/") }).unwrap();
        assert_eq!(credentials.authorization.unwrap().to_str().unwrap(), "Bearer t0ken");
    }

    #[test]
    fn errors_show_no_secret() {
        let host = webhook("https://host/");
        for (webhook, says) in [
            (webhook("s3cret"), "not a URL"),
            (webhook("ftp://s3cret@host/"), "must begin with https://"),
            (webhook("http://s3cret@169.254.169.254/"), "never connects to 169.254.169.254"),
            (WebhookConfig { secrets: vec![Secret::text("s3cret!")], ..host.clone() }, "not base64"),
            (
                WebhookConfig { auth: Some(WebhookAuth::Bearer(Secret::text("s3cret\n"))), ..host.clone() },
                "header must not",
            ),
            (WebhookConfig { proxy: Some(Secret::text("s3cret")), ..host.clone() }, "`proxy` is not a URL"),
            (WebhookConfig { proxy: Some(Secret::text("socks5://s3cret@proxy")), ..host }, "`proxy` must begin"),
        ] {
            let problem = problem(&webhook);
            assert!(problem.contains(says) && !problem.contains("s3cret"), "{problem}");
        }
    }

    #[test]
    fn a_rotated_secret_takes_effect_with_the_next_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let part = crate::config::Part::File { path: file.path().to_owned(), encode: false };
        let auth = Some(WebhookAuth::Bearer(Secret::parts(vec![part])));
        let webhook = WebhookConfig { auth, ..webhook("https://host/") };
        for token in ["one", "two"] {
            std::fs::write(file.path(), format!("{token}\n")).unwrap();
            let header = Credentials::read(&webhook).unwrap().authorization.unwrap();
            assert_eq!(header.to_str().unwrap(), format!("Bearer {token}"));
        }
        std::fs::remove_file(file.path()).unwrap();
        assert!(problem(&webhook).contains("can't be read"));
    }
}
