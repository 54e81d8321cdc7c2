//! Renders an event as an HTTP request: URL, headers and body. Pure.
//!
//! The values of templates are not trusted: a URL keeps its origin and the fixed beginning of its path, and a header has no
//! control characters.

use http::HeaderName;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE, DATE, FORWARDED,
    ORIGIN, PROXY_AUTHORIZATION, RANGE, REFERER, SET_COOKIE, USER_AGENT, VIA,
};
use url::Url;

use crate::config::{RESERVED_WEBHOOK_HEADERS, SinkConfig, WebhookConfig, WebhookUrl};
use crate::event::{Carrier, EncodedBody, EventView, Header, HeaderValue, Template};
use crate::sink::{Destination, RenderError, RenderedDelivery, headers};

/// The longest URL, in bytes. Most servers accept about this much.
const MAX_URL: usize = 8 * 1024;
/// The longest value of a header, in bytes. A longer one is an error, or is left out if it comes from the message.
const MAX_HEADER: usize = 8 * 1024;

/// The header that carries the event's id.
pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// The header that carries the time of the attempt.
pub(super) const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The header that carries the signatures.
pub(super) const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Headers that have a meaning for a web server. A received message's header of that name was not meant for it.
const NEVER_PASSED_THROUGH: [HeaderName; 17] = [
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

/// Whether HTTP or the relay sets that header, so that neither the configuration nor a message may.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    RESERVED_WEBHOOK_HEADERS.iter().any(|(reserved, _)| name == *reserved)
}

/// Renders everything except what is added at each attempt: the time, the signature and secrets.
pub(in crate::sink) fn render(
    config: &SinkConfig,
    webhook: &WebhookConfig,
    view: EventView<'_>,
) -> Result<RenderedDelivery, RenderError> {
    let SinkConfig { format, keep_headers, .. } = config;
    let url = match &webhook.url {
        WebhookUrl::Templated { origin, path } => Some(event_url(origin, path, view)?),
        WebhookUrl::Fixed { .. } => None,
    };
    let mut encoded = format.encode(view, Carrier::Http).map_err(RenderError::of_body)?;
    let body = std::mem::take(&mut encoded.body);
    let received = headers::passed_through(view, format, keep_headers);
    let headers = all_headers(view, &webhook.headers, encoded, received)?;
    Ok(RenderedDelivery { id: view.event.id, destination: Destination::Webhook { url }, headers, body })
}

/// The URL of one event: `origin` and the value of the template for the rest.
fn event_url(origin: &str, path: &Template, view: EventView<'_>) -> Result<Url, RenderError> {
    let rest = path.render_url(view).map_err(|error| RenderError::failed("url", error))?;
    join_url(origin, &rest).map_err(|problem| RenderError::failed("url", problem))
}

/// Joins `origin` and the rest. The error: the result has another origin, or a path with `.` or `..`.
fn join_url(origin: &str, rest: &str) -> Result<Url, String> {
    if origin.len() + rest.len() > MAX_URL {
        return Err(format!("the URL is longer than {MAX_URL} bytes"));
    }
    // The parser silently removes some of these.
    if rest.chars().any(char::is_control) {
        return Err("the URL has a control character".to_owned());
    }
    if !rest.is_empty() && !rest.starts_with(['/', '?']) {
        return Err("the host is followed by neither `/` nor `?`".to_owned());
    }
    let expected = Url::parse(origin).map_err(|error| format!("`{origin}`: {error}"))?;
    let url = Url::parse(&format!("{origin}{rest}")).map_err(|error| error.to_string())?;
    if url.origin() != expected.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err("the value of the template changes the host of the URL".to_owned());
    }
    // `..`, also as `%2e%2e`, would leave the fixed beginning of the path.
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    if path.split(['/', '\\']).any(is_dot_segment) {
        return Err("a segment of the path is `.` or `..`".to_owned());
    }
    Ok(url)
}

fn is_dot_segment(segment: &str) -> bool {
    matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

/// All headers except signature and timestamp: those of the configuration, then those of the format, then received headers that
/// are valid in HTTP. If a name occurs twice, the first one is used.
fn all_headers<'a>(
    view: EventView<'_>,
    configured: &[(HeaderName, Template)],
    encoded: EncodedBody,
    received: impl Iterator<Item = &'a Header>,
) -> Result<Vec<Header>, RenderError> {
    let mut headers = vec![(WEBHOOK_ID.to_string(), HeaderValue::Text(view.event.id.to_string()))];
    let mut add = |name: &str, value: String| {
        if !headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            headers.push((name.to_owned(), HeaderValue::Text(value)));
        }
    };
    for (name, template) in configured {
        let failed = |error: &dyn std::fmt::Display| RenderError::failed(&format!("header {name}"), error);
        let value = template.render(view).map_err(|error| failed(&error))?;
        if let Some(error) = header_value_error(&value) {
            return Err(failed(&error));
        }
        add(name.as_str(), value);
    }
    if let Some(content_type) = encoded.content_type {
        add(CONTENT_TYPE.as_str(), content_type.into_owned());
    }
    for (name, value) in encoded.headers {
        add(&name, value);
    }
    for (name, value) in received {
        if let Some((name, value)) = to_http_header(name, value) {
            add(name.as_str(), value);
        }
    }
    Ok(headers)
}

/// Why a text can't be the value of a header, if so.
fn header_value_error(value: &str) -> Option<String> {
    if value.len() > MAX_HEADER {
        Some(format!("the value is longer than {MAX_HEADER} bytes"))
    } else if value.chars().any(char::is_control) {
        Some("the value has a control character".to_owned())
    } else {
        None
    }
}

/// Converts a received header to an HTTP header; `None` if that isn't possible. It is not part of the event, so it may be
/// left out.
fn to_http_header(name: &str, value: &HeaderValue) -> Option<(HeaderName, String)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    if is_reserved(&name) || NEVER_PASSED_THROUGH.contains(&name) || name.as_str().starts_with("proxy-") {
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
    header_value_error(&value).is_none().then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_keeps_its_origin() {
        let origin = "https://hooks.example.org:8443";
        for (rest, expected) in [
            ("", "https://hooks.example.org:8443/"),
            ("/a/b?c=d%20e", "https://hooks.example.org:8443/a/b?c=d%20e"),
            ("?t=x", "https://hooks.example.org:8443/?t=x"),
            ("//evil.example/", "https://hooks.example.org:8443//evil.example/"),
            ("/@evil.example/", "https://hooks.example.org:8443/@evil.example/"),
            ("/..a/b..", "https://hooks.example.org:8443/..a/b.."),
        ] {
            assert_eq!(join_url(origin, rest).unwrap().as_str(), expected);
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
            assert!(join_url(origin, rest).is_err(), "{rest:?}");
        }
    }

    #[test]
    fn received_headers_are_converted_only_if_they_are_valid_in_http() {
        let text = |text: &str| HeaderValue::Text(text.to_owned());
        let converted =
            |name, value: &HeaderValue| to_http_header(name, value).map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(converted("regards.tenant", &text("cnes-é")).as_deref(), Some("regards.tenant: cnes-é"));
        assert_eq!(converted("Count", &HeaderValue::Integer(3)).as_deref(), Some("count: 3"));
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
            assert_eq!(converted(name, &text("x")), None, "{name}");
        }
        for value in [
            text("a\r\nb: c"),
            text("\u{1b}[2J"),
            text(&"x".repeat(MAX_HEADER + 1)),
            HeaderValue::Null,
            HeaderValue::Binary(bytes::Bytes::from_static(b"x")),
            HeaderValue::Array(Vec::new()),
        ] {
            assert_eq!(converted("a", &value), None, "{value:?}");
        }
    }
}
