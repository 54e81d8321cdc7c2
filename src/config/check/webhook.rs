//! The key `webhook:` of a sink.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use url::Url;

use super::common::{HOUR, SECOND, address_template, in_clear, no_url, number, period, template, usable};
use super::{headers, oauth2, tls};
use crate::config::model::{Responses, WebhookAuth, WebhookConfig, WebhookUrl};
use crate::config::raw;
use crate::config::text::decode::{At, NamedEntries, OneOrMany};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::mask;
use crate::config::text::reader::{Reader, SecretScalar};
use crate::config::text::scalar::{Count, SecretText, Text, UrlText};
use crate::config::text::secret::Secret;
use crate::config::text::words::clean;
use crate::event::{Fragment, Template};
use crate::net::http::remove_user;
use crate::net::{Network, address};

/// The default timeout of an attempt, from connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The default number of requests in flight.
const CONCURRENCY: u64 = 8;
/// The statuses that `responses:` may list.
const STATUSES: RangeInclusive<u16> = 300..=599;
/// The prefix of secrets made by the tools of Standard Webhooks.
const PREFIX: &str = "whsec_";
/// Standard Webhooks 1.0 asks for at least this many bytes of randomness.
const SHORT_SECRET: usize = 24;
/// The secrets of `examples/webhook-on-error.yaml` and of `demo`.
const KNOWN_SECRETS: [&str; 2] =
    ["whsec_dGhpcyBpcyBhIHNlY3JldCB0aGF0IGV2ZXJ5Ym9keSBrbm93cw==", "whsec_cmVnYXJkcy1yZWxheS1kZW1vLXNlY3JldA=="];
/// Headers that HTTP or the relay sets, and why a configuration can't set them. Received headers of these names are not passed
/// through either.
pub const RESERVED_WEBHOOK_HEADERS: [(&str, &str); 12] = [
    ("authorization", "write it as `auth:`"),
    ("connection", "HTTP itself sets it"),
    ("content-length", "HTTP itself sets it"),
    ("expect", "HTTP itself sets it"),
    ("host", "it follows from the URL"),
    ("te", "HTTP itself sets it"),
    ("trailer", "HTTP itself sets it"),
    ("transfer-encoding", "HTTP itself sets it"),
    ("upgrade", "HTTP itself sets it"),
    ("webhook-id", STANDARD_WEBHOOKS),
    ("webhook-signature", STANDARD_WEBHOOKS),
    ("webhook-timestamp", STANDARD_WEBHOOKS),
];
const STANDARD_WEBHOOKS: &str = "Standard Webhooks sets it";

pub(super) fn webhook(at: &At<raw::Webhook>, reader: &mut Reader<'_>) -> Option<WebhookConfig> {
    let raw = &at.value;
    let deny = raw.deny.as_ref().map_or_else(Vec::new, |deny| self::deny(deny, reader));
    let url = raw.url.as_ref().and_then(|url| self::url(url, &deny, reader));
    let secrets = raw.secret.as_ref().map_or_else(Vec::new, |secrets| self::secrets(secrets, reader));
    let headers = raw.headers.as_ref().map_or_else(Vec::new, |at| own_headers(at, reader));
    let auth = raw.auth.as_ref().and_then(|auth| self::auth(auth, reader));
    let proxy = raw.proxy.as_ref().and_then(|proxy| self::proxy(proxy, reader));
    let timeout = period(reader, raw.timeout.as_ref(), TIMEOUT, SECOND / 10..=HOUR);
    let concurrency = number(reader, raw.concurrency.as_ref(), CONCURRENCY, 1..=1000);
    let tls = raw.tls.as_ref().map(|at| tls::tls(at, true, reader)).unwrap_or_default();
    Some(WebhookConfig {
        url: url?,
        secrets,
        headers,
        auth,
        proxy,
        timeout,
        concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
        rate: raw.rate.as_ref().map(|rate| rate.value.0),
        responses: raw.responses.as_ref().map(|at| responses(at, reader)).unwrap_or_default(),
        deny,
        tls,
    })
}

/// Checks that each status is in one list only, and is none by which a receiver accepts an event.
fn responses(at: &At<raw::Responses>, reader: &mut Reader<'_>) -> Responses {
    let raw = &at.value;
    let mut seen = HashMap::new();
    let mut of = |list: Option<&At<OneOrMany<Count>>>| {
        let statuses = list.map_or(&[][..], |list| &list.value.0);
        let mut kept = Vec::new();
        for status in statuses {
            let code = u16::try_from(status.value.0).ok().filter(|code| STATUSES.contains(code));
            let Some(code) = code else {
                reader.report(
                    Diagnostic::error(
                        "out-of-range",
                        status.span,
                        format!("{} is not a status that can be listed here", reader.quote(status.span)),
                    )
                    .help("write statuses from 300 to 599; with 2xx a receiver confirms the event"),
                );
                continue;
            };
            match seen.insert(code, status.span) {
                Some(other) => reader.report(
                    Diagnostic::error("two-meanings", status.span, format!("{code} is listed twice"))
                        .also(other, "the other one")
                        .help("keep it in one list"),
                ),
                None => kept.push(code),
            }
        }
        kept
    };
    let (refuse, retry, pause) = (of(raw.refuse.as_ref()), of(raw.retry.as_ref()), of(raw.pause.as_ref()));
    Responses { refuse, retry, pause }
}

fn deny(at: &At<OneOrMany<Text>>, reader: &mut Reader<'_>) -> Vec<Network> {
    let mut networks = Vec::with_capacity(at.value.0.len());
    for network in at.value.0.iter().filter(|network| !network.value.placeholder) {
        match network.value.text.trim().parse() {
            Ok(network) => networks.push(network),
            Err(why) => {
                let message = format!("{} is not a network: {why}", reader.quote(network.span));
                reader.report(
                    Diagnostic::error("network", network.span, message)
                        .help("write one as `10.0.0.0/8`, `fd00::/8`, or one address"),
                );
            }
        }
    }
    networks
}

fn url(at: &At<UrlText>, deny: &[Network], reader: &mut Reader<'_>) -> Option<WebhookUrl> {
    let hidden = &at.value.0;
    let Some(text) = &hidden.text else {
        let (url, shown) = (Secret::text("https://unset.invalid/"), mask::STARS.to_owned());
        return Some(WebhookUrl::Fixed { url, shown });
    };
    let template_at = first_expression(&hidden.fragments);
    let Some(template_at) = template_at else {
        let mut shown = address(at, text, "webhook", deny, reader)?;
        if hidden.in_clear && shown.password().is_some() {
            in_clear(reader, "the password in this URL", at.span);
        }
        remove_user(&mut shown);
        shown.set_fragment(None);
        // Knowing such an address is enough to post to it.
        let origin = shown.origin().ascii_serialization();
        let shown = if hidden.in_clear { shown.to_string() } else { format!("{origin}/{}", mask::STARS) };
        return Some(WebhookUrl::Fixed { url: hidden.secret.clone(), shown });
    };
    let fixed = text.get(..template_at).unwrap_or_default();
    let path_at = fixed.find("://").and_then(|scheme| {
        let host = scheme + 3;
        fixed.get(host..)?.find(['/', '?']).map(|end| host + end)
    });
    let Some(path_at) = path_at else {
        reader.report(
            Diagnostic::error("templated-host", at.span, "scheme and host of a URL can't be templates")
                .help("write them without templates: the content of a message must not choose the receiver"),
        );
        return None;
    };
    let (origin, rest) = text.split_at(path_at);
    let url = address(at, origin, "webhook", deny, reader)?;
    if !url.username().is_empty() || url.password().is_some() {
        reader.report(
            Diagnostic::error("url-password", at.span, "a URL with a template can't hold a user or password")
                .help("write them as `auth: { basic: { username: …, password: … } }`"),
        );
        return None;
    }
    let path = At { value: path_text(rest, hidden, path_at), span: at.span, head: at.head };
    Some(WebhookUrl::Templated { origin: origin.to_owned(), path: address_template(reader, &path)? })
}

/// The texts in a webhook's address and headers that must not be shown.
pub(super) fn masked(raw: &raw::Webhook) -> impl Iterator<Item = &str> {
    let url = raw.url.iter().flat_map(|url| &url.value.0.values).map(String::as_str);
    url.chain(headers::masked(raw.headers.as_ref()))
}

/// Where the first expression of a template begins. Inserted values are not searched.
fn first_expression(fragments: &[Fragment]) -> Option<usize> {
    let mut start = 0;
    for Fragment { text, is_inserted } in fragments {
        let found = ["{{", "{%", "{#"].into_iter().filter_map(|open| text.find(open)).min();
        if let (Some(at), false) = (found, is_inserted) {
            return Some(start + at);
        }
        start += text.len();
    }
    None
}

/// The rest of a URL from a byte on.
fn path_text(rest: &str, url: &SecretScalar, start: usize) -> Text {
    let mut before = start;
    let mut fragments = Vec::new();
    for Fragment { text, is_inserted } in &url.fragments {
        let left_out = before.min(text.len());
        before -= left_out;
        let text = text.get(left_out..).unwrap_or_default().to_owned();
        if !text.is_empty() {
            fragments.push(Fragment { text, is_inserted: *is_inserted });
        }
    }
    let (inserted, values) = (!url.in_clear, url.values.clone());
    Text { text: rest.to_owned(), fragments, plain: false, inserted, placeholder: false, values }
}

/// Checks the URL of a request.
pub(super) fn address(
    at: &At<UrlText>,
    text: &str,
    what: &str,
    deny: &[Network],
    reader: &mut Reader<'_>,
) -> Option<Url> {
    if let Some(why) = address::ambiguous_web_url(text) {
        reader.report(
            Diagnostic::error("url", at.span, format!("this URL can be read in two ways: {why}"))
                .help("percent-encode what belongs to the user or password: `@` is `%40`, `/` is `%2F`"),
        );
        return None;
    }
    if let Some(why) = address::repaired_web_url(text.trim()) {
        let diagnostic = Diagnostic::error("url", at.span, format!("this is not a URL: {why}"));
        reader.report(diagnostic.help(if at.value.0.in_clear {
            "write `https://HOST/PATH`"
        } else {
            "write `https://HOST/PATH`; the value of `${…}` may be empty"
        }));
        return None;
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            reader.report(no_url("url", at, error, "write `https://HOST/PATH`"));
            return None;
        }
    };
    if !matches!(url.scheme(), "http" | "https") {
        reader.report(
            Diagnostic::error("url", at.span, format!("the URL of a {what} begins with `https://` or `http://`"))
                .help("write `https://HOST/PATH`"),
        );
        return None;
    }
    if let Some(why) =
        url.host().and_then(|host| address::forbidden_host(&host).or_else(|| address::denied_host(&host, deny)))
    {
        reader.report(
            Diagnostic::error("forbidden-host", at.span, format!("the relay never sends to this host: {why}"))
                .help("write the address of the receiver"),
        );
        return None;
    }
    if url.scheme() == "http" && what == "webhook" && !address::is_loopback(&url) {
        reader.report(
            Diagnostic::warning("unencrypted", at.span, "`http://` sends events and credentials without encryption")
                .help("write `https://` if the receiver has it"),
        );
    }
    Some(url)
}

fn proxy(at: &At<UrlText>, reader: &mut Reader<'_>) -> Option<Secret> {
    if let Some(text) = &at.value.0.text {
        let url = address(at, text, "proxy", &[], reader)?;
        if at.value.0.in_clear && url.password().is_some() {
            in_clear(reader, "the password in this URL", at.span);
        }
    }
    Some(at.value.0.secret.clone())
}

fn secrets(at: &At<OneOrMany<SecretText>>, reader: &mut Reader<'_>) -> Vec<Secret> {
    if at.value.0.is_empty() {
        reader.report(
            Diagnostic::error("empty-list", at.span, "there is no secret in the list")
                .help("write at least one, or remove `secret` to send without signatures"),
        );
    }
    for secret in &at.value.0 {
        if secret.value.0.in_clear && secret.value.0.text.as_ref().is_some_and(|text| !text.is_empty()) {
            in_clear(reader, "the secret", secret.span);
        }
        if !usable(reader, "the secret", secret) {
            continue;
        }
        let Some(text) = &secret.value.0.text else { continue };
        let text = text.trim();
        if KNOWN_SECRETS.contains(&text) {
            reader.report(
                Diagnostic::warning(
                    "known-secret",
                    secret.span,
                    "this is the secret of an example: everybody can sign with it",
                )
                .help(MAKE_ONE),
            );
        }
        match STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)) {
            Ok(key) if key.is_empty() => {
                reader.report(Diagnostic::error("webhook-secret", secret.span, "the secret is empty").help(MAKE_ONE));
            }
            Ok(key) if key.len() < SHORT_SECRET => reader.report(
                Diagnostic::warning(
                    "short-secret",
                    secret.span,
                    format!("the secret has fewer than {SHORT_SECRET} bytes"),
                )
                .help(MAKE_ONE),
            ),
            Ok(_) => {}
            Err(_) => reader
                .report(Diagnostic::error("webhook-secret", secret.span, "the secret is not base64").help(MAKE_ONE)),
        }
    }
    at.value.0.iter().map(|secret| secret.value.0.secret.clone()).collect()
}

const MAKE_ONE: &str = "`echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it";

fn own_headers(at: &At<NamedEntries<Text>>, reader: &mut Reader<'_>) -> Vec<(HeaderName, Template)> {
    let mut headers: Vec<(HeaderName, Template)> = Vec::new();
    let mut seen: HashSet<HeaderName> = HashSet::new();
    for (key, value) in &at.value.0 {
        let Ok(name) = HeaderName::from_bytes(key.text.as_bytes()) else {
            reader.report(
                Diagnostic::error(
                    "header-name",
                    key.span,
                    format!("`{}` can't be the name of a header", clean(&key.text)),
                )
                .help("HTTP takes letters, digits and `-`"),
            );
            continue;
        };
        let reserved = RESERVED_WEBHOOK_HEADERS.iter().find(|(known, _)| name == *known).map(|(_, why)| *why);
        let reserved = reserved.or_else(|| name.as_str().starts_with("webhook-").then_some(STANDARD_WEBHOOKS));
        if let Some(why) = reserved {
            reader.report(
                Diagnostic::error("header-name", key.span, format!("the header `{name}` can't be set here: {why}"))
                    .help("remove it"),
            );
            continue;
        }
        if !seen.insert(name.clone()) {
            reader.report(
                Diagnostic::error("duplicate-key", key.span, format!("the header `{name}` is given twice"))
                    .help("keep one of the two: the names of headers are not case-sensitive"),
            );
            continue;
        }
        let Some(template) = template(reader, value) else { continue };
        if template.fixed().is_some_and(|fixed| http::HeaderValue::from_str(fixed).is_err()) {
            reader.report(
                Diagnostic::error("header-value", value.span, "this can't be the value of a header")
                    .help("HTTP takes one line of text without control characters"),
            );
            continue;
        }
        if mask::is_secret(name.as_str()) && !value.value.inserted {
            in_clear(reader, "the value of this header", value.span);
        }
        headers.push((name, template));
    }
    headers
}

pub(super) fn auth(at: &At<raw::Auth>, reader: &mut Reader<'_>) -> Option<WebhookAuth> {
    match (&at.value.bearer, &at.value.basic, &at.value.oauth2) {
        (Some(token), None, None) => {
            if token.value.0.in_clear {
                in_clear(reader, "the token", token.span);
            }
            if !usable(reader, "the token", token) {
                return None;
            }
            if token.value.0.text.as_ref().is_some_and(|text| http::HeaderValue::from_str(text).is_err()) {
                reader.report(
                    Diagnostic::error("header-value", token.span, "this can't be a token")
                        .help("HTTP takes one line of text without control characters"),
                );
            }
            Some(WebhookAuth::Bearer(token.value.0.secret.clone()))
        }
        (None, Some(basic), None) => {
            let (username, password) = (basic.value.username.as_ref()?, basic.value.password.as_ref()?);
            if password.value.0.in_clear {
                in_clear(reader, "the password", password.span);
            }
            for (what, at) in [("the user's name", username), ("the password", password)] {
                usable(reader, what, at);
            }
            Some(WebhookAuth::Basic {
                username: username.value.0.secret.clone(),
                password: password.value.0.secret.clone(),
            })
        }
        (None, None, Some(oauth2)) => {
            oauth2::oauth2(oauth2, reader).map(|oauth2| WebhookAuth::OAuth2(Box::new(oauth2)))
        }
        (bearer, basic, oauth2) => {
            let is_empty = bearer.is_none() && basic.is_none() && oauth2.is_none();
            let message = if is_empty { "`auth` is empty" } else { "`auth` is given twice" };
            if !reader.failed_in(at.span) {
                reader.report(
                    Diagnostic::error("auth", at.head, message)
                        .help("write `bearer: TOKEN`, `basic: { username: …, password: … }` or `oauth2: { token_url: …, client_id: … }`"),
                );
            }
            None
        }
    }
}
