//! What goes out for an event: its address and its headers. Pure.
//!
//! What a template makes is data, never trusted: an address stays at its origin and below the path that was written, and a
//! header has no control characters.

use http::HeaderName;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE,
    COOKIE, DATE, EXPECT, FORWARDED, HOST, ORIGIN, PROXY_AUTHORIZATION, RANGE, REFERER, SET_COOKIE, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT, VIA,
};
use url::Url;

use crate::config::{SinkConfig, WebhookConfig, WebhookUrl};
use crate::event::{Carrier, Encoded, Header, HeaderValue, Scope, Template};
use crate::sink::{Destination, Outgoing, Unrenderable, headers};

/// Longer addresses are refused: servers take about this much.
const MAX_URL: usize = 8 * 1024;
/// Longer values of headers are refused, or left out where they came along with the message.
const MAX_HEADER: usize = 8 * 1024;

/// The header that carries the event's id.
pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// The header that carries the time of the attempt.
pub(super) const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The header that carries the signatures.
pub(super) const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Headers that HTTP itself or the sink sets: neither the configuration nor a message may.
const SET_BY_US: [HeaderName; 11] = [
    CONNECTION,
    CONTENT_LENGTH,
    EXPECT,
    HOST,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
];

/// Headers that mean something to a web server: a message's header of that name was not written for it.
const NOT_FROM_A_MESSAGE: [HeaderName; 17] = [
    ACCEPT,
    ACCEPT_CHARSET,
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    FORWARDED,
    ORIGIN,
    PROXY_AUTHORIZATION,
    RANGE,
    REFERER,
    SET_COOKIE,
    USER_AGENT,
    VIA,
    HeaderName::from_static("keep-alive"),
];

/// Whether a header of that name is set by the sink itself.
pub(super) fn set_by_us(name: &HeaderName) -> bool {
    SET_BY_US.contains(name)
}

/// The request for that event, but for what is known only when it is sent: the time, what is secret.
pub(in crate::sink) fn render(
    config: &SinkConfig,
    webhook: &WebhookConfig,
    scope: Scope<'_>,
) -> Result<Outgoing, Unrenderable> {
    let Scope { event, message, .. } = scope;
    let SinkConfig { format, keep_headers, .. } = config;
    let url = match &webhook.url {
        WebhookUrl::Templated { origin, path } => Some(address(origin, path, scope)?),
        WebhookUrl::Fixed { .. } => None,
    };
    let mut encoded = format.encode(scope, Carrier::Http).map_err(|error| Unrenderable::failed("body", error))?;
    let body = std::mem::take(&mut encoded.body);
    let kept = headers::kept(event, message, format, keep_headers);
    let headers = all_headers(scope, &webhook.headers, encoded, kept)?;
    Ok(Outgoing { id: event.id, destination: Destination::Webhook { url }, headers, body })
}

/// The address of one event: `origin` and what the template made of the rest.
fn address(origin: &str, path: &Template, scope: Scope<'_>) -> Result<Url, Unrenderable> {
    let rest = path.render_url(scope).map_err(|error| Unrenderable::failed("url", error))?;
    join(origin, &rest).map_err(|problem| Unrenderable::failed("url", problem))
}

/// `origin` and what follows it, as long as it is still the same origin and the path is the one that was written.
fn join(origin: &str, rest: &str) -> Result<Url, String> {
    if origin.len() + rest.len() > MAX_URL {
        return Err(format!("it is longer than {MAX_URL} bytes"));
    }
    // The parser silently drops some of these.
    if rest.chars().any(char::is_control) {
        return Err("it has a control character".to_owned());
    }
    if !rest.is_empty() && !rest.starts_with(['/', '?']) {
        return Err("its host is followed by neither `/` nor `?`".to_owned());
    }
    let home = Url::parse(origin).map_err(|error| format!("`{origin}`: {error}"))?;
    let url = Url::parse(&format!("{origin}{rest}")).map_err(|error| error.to_string())?;
    if url.origin() != home.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err("it left its host".to_owned());
    }
    // `..`, also as `%2e%2e`, would take a step up from the path that was written.
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    if path.split(['/', '\\']).any(is_dots) {
        return Err("a part of its path is `.` or `..`".to_owned());
    }
    Ok(url)
}

fn is_dots(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// All headers but the signature and the time it is made at: what the configuration says first, then what the format says,
/// then those of the message that `kept` brings along and that can be headers of HTTP. The first of a name is the one.
fn all_headers<'a>(
    scope: Scope<'_>,
    configured: &[(HeaderName, Template)],
    encoded: Encoded,
    kept: impl Iterator<Item = &'a Header>,
) -> Result<Vec<Header>, Unrenderable> {
    let mut headers = vec![(WEBHOOK_ID.to_string(), HeaderValue::Text(scope.event.id.to_string()))];
    let mut add = |name: &str, value: String| {
        if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            headers.push((name.to_owned(), HeaderValue::Text(value)));
        }
    };
    for (name, template) in configured {
        let failed = |why: &dyn std::fmt::Display| Unrenderable::failed(&format!("header {name}"), why);
        let value = template.render(scope).map_err(|error| failed(&error))?;
        if let Some(problem) = unfit(&value) {
            return Err(failed(&problem));
        }
        add(name.as_str(), value);
    }
    if let Some(content_type) = encoded.content_type {
        add(CONTENT_TYPE.as_str(), content_type.into_owned());
    }
    for (name, value) in encoded.headers {
        add(&name, value);
    }
    for (name, value) in kept {
        if let Some((name, value)) = along(name, value) {
            add(name.as_str(), value);
        }
    }
    Ok(headers)
}

/// Why a text can't be the value of a header.
fn unfit(value: &str) -> Option<String> {
    if value.len() > MAX_HEADER {
        Some(format!("is longer than {MAX_HEADER} bytes"))
    } else if value.chars().any(char::is_control) {
        Some("has a control character".to_owned())
    } else {
        None
    }
}

/// A message's header as one of HTTP. What can't be one stays behind: it is no part of the event.
fn along(name: &str, value: &HeaderValue) -> Option<(HeaderName, String)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    if set_by_us(&name) || NOT_FROM_A_MESSAGE.contains(&name) || name.as_str().starts_with("proxy-") {
        return None;
    }
    let value = match value {
        HeaderValue::Text(text) => text.clone(),
        HeaderValue::Bool(bool) => bool.to_string(),
        HeaderValue::Integer(integer) => integer.to_string(),
        HeaderValue::Float(float) => float.to_string(),
        HeaderValue::Number(number) => number.to_string(),
        HeaderValue::Timestamp(seconds) => seconds.to_string(),
        HeaderValue::Null
        | HeaderValue::Binary(_)
        | HeaderValue::BinaryText(_)
        | HeaderValue::Array(_)
        | HeaderValue::Table(_) => return None,
    };
    unfit(&value).is_none().then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_origin() {
        let origin = "https://hooks.example.org:8443";
        for (rest, expected) in [
            ("", "https://hooks.example.org:8443/"),
            ("/a/b?c=d%20e", "https://hooks.example.org:8443/a/b?c=d%20e"),
            ("?t=x", "https://hooks.example.org:8443/?t=x"),
            ("//evil.example/", "https://hooks.example.org:8443//evil.example/"),
            ("/@evil.example/", "https://hooks.example.org:8443/@evil.example/"),
            ("/..a/b..", "https://hooks.example.org:8443/..a/b.."),
        ] {
            assert_eq!(join(origin, rest).unwrap().as_str(), expected);
        }
        for rest in [
            "@evil.example/",
            ".evil.example/",
            ":1/",
            "0/",
            "\\@evil.example/",
            "/a/../b",
            "/a/%2e%2E/b",
            "/.%2e",
            "/a\\..\\b",
            "/a\tb",
            "/a\nb",
            "/a\u{7f}b",
            &format!("/{}", "a".repeat(MAX_URL)),
        ] {
            assert!(join(origin, rest).is_err(), "{rest:?}");
        }
    }

    #[test]
    fn a_message_s_headers_come_along_only_as_what_they_are() {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let brought = |name, value: &HeaderValue| along(name, value).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(brought("regards.tenant", &text("cnes-é")).as_deref(), Some("regards.tenant: cnes-é"));
        assert_eq!(brought("Count", &HeaderValue::Integer(3)).as_deref(), Some("count: 3"));
        for name in [
            "host",
            "Content-Length",
            "transfer-encoding",
            "authorization",
            "cookie",
            "webhook-id",
            "proxy-x",
            "a b",
            "",
        ] {
            assert_eq!(brought(name, &text("x")), None, "{name}");
        }
        for value in [
            text("a\r\nb: c"),
            text("\u{1b}[2J"),
            text(&"x".repeat(MAX_HEADER + 1)),
            HeaderValue::Null,
            HeaderValue::Binary(bytes::Bytes::from_static(b"x")),
            HeaderValue::Array(Vec::new()),
        ] {
            assert_eq!(brought("a", &value), None, "{value:?}");
        }
    }
}
