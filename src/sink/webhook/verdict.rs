//! What an answer means for the delivery. One table, so that it can be read and argued about.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use url::Url;

use crate::mutant::Mutant;
use crate::sink::{Blame, Verdict};

/// A `Retry-After` beyond this counts as this.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// An answer, as far as it was read.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// The header `Retry-After`, if it is text.
    pub retry_after: Option<&'a str>,
    /// The header `Location`, if it is text.
    pub location: Option<&'a str>,
    /// The beginning of the body.
    pub excerpt: &'a [u8],
}

/// The verdict of an answer. `templated` is whether the URL depends on the event: then what it says of the address holds for
/// that one delivery, not for the sink. `now` is what dates in `Retry-After` are counted from.
pub(super) fn verdict(answer: &Answer<'_>, templated: bool, now: SystemTime) -> Verdict {
    let cause = || cause(answer);
    let retry = |blame, after| Verdict::Retry { after, cause: cause(), blame };
    match answer.status.as_u16() {
        200..=299 => Verdict::Delivered,
        500..=599 if Mutant::DropOn5xx.is_on() => Verdict::Delivered,
        400 | 413 | 415 | 422 => Verdict::Refused { cause: cause() },
        410 if templated => retry(Blame::Delivery, None),
        410 => retry(Blame::Gone, None),
        429 | 503 => retry(Blame::Sink, answer.retry_after.and_then(|value| retry_after(value, now))),
        408 | 500..=599 => retry(Blame::Sink, None),
        // 3xx, which is not followed; other 4xx: a wrong token, a path that isn't there; what no server should answer.
        _ => retry(Blame::Delivery, None),
    }
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3), at most 24 hours. None if it is neither.
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only digits, so the one thing that can be wrong with it is its length.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// What happened, in words: the status, what to do where that is known, and what the answer says itself.
fn cause(answer: &Answer<'_>) -> String {
    let status = answer.status;
    let mut cause = format!("it answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        cause.push(' ');
        cause.push_str(reason);
    }
    match status.as_u16() {
        300..=399 => {
            cause.push_str("; redirects are not followed: put the new address into the sink's url");
            if let Some(origin) = answer.location.and_then(origin) {
                cause.push_str(" (");
                cause.push_str(&origin);
                cause.push(')');
            }
        }
        401 | 403 => cause.push_str("; look at the sink's auth"),
        410 => cause.push_str("; the receiver is gone for good: give the sink another url, or resume it"),
        _ => {}
    }
    let excerpt = answer.excerpt.trim_ascii();
    if !excerpt.is_empty() {
        cause.push_str(": ");
        cause.push_str(&escape(excerpt));
    }
    cause
}

/// Scheme, host and port of an address: the rest may repeat what is secret of the sink's own. None of one without these.
fn origin(address: &str) -> Option<String> {
    let origin = Url::parse(address).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// Outside text made harmless for logs and terminals: one line, control characters escaped.
fn escape(bytes: &[u8]) -> String {
    let mut escaped = String::with_capacity(bytes.len());
    for char in String::from_utf8_lossy(bytes).chars() {
        if char.is_control() {
            escaped.extend(char.escape_default());
        } else {
            escaped.push(char);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn answer(status: u16) -> Answer<'static> {
        Answer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, location: None, excerpt: b"" }
    }

    /// The verdict without its words.
    fn kind(status: u16, templated: bool) -> &'static str {
        match verdict(&answer(status), templated, now()) {
            Verdict::Delivered => "delivered",
            Verdict::Refused { .. } => "refused",
            Verdict::Retry { blame: Blame::Sink, after: None, .. } => "sink",
            Verdict::Retry { blame: Blame::Gone, after: None, .. } => "gone",
            Verdict::Retry { blame: Blame::Delivery, after: None, .. } => "delivery",
            Verdict::Retry { .. } => "?",
        }
    }

    #[test]
    fn the_table() {
        for (expected, statuses) in [
            ("delivered", &[200, 201, 202, 204, 226, 299][..]),
            ("delivery", &[300, 301, 302, 304, 307, 308, 401, 403, 404, 405, 409, 418, 451]),
            ("refused", &[400, 413, 415, 422]),
            ("sink", &[408, 429, 500, 501, 502, 503, 504, 599]),
            ("gone", &[410]),
            ("delivery", &[101, 600, 999]),
        ] {
            for status in statuses {
                assert_eq!(kind(*status, false), expected, "{status}");
            }
        }
        assert_eq!(kind(410, true), "delivery");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_a_day() {
        let seconds = |value| retry_after(value, now()).map(|wait| wait.as_secs());
        assert_eq!(seconds("0"), Some(0));
        assert_eq!(seconds(" 120 "), Some(120));
        assert_eq!(seconds("86400"), Some(86400));
        assert_eq!(seconds("86401"), Some(86400));
        assert_eq!(seconds("999999999999999999999999999"), Some(86400));
        assert_eq!(seconds("Tue, 14 Nov 2023 22:14:20 GMT"), Some(60));
        assert_eq!(seconds("Tue, 14 Nov 2023 22:12:20 GMT"), Some(0));
        assert_eq!(seconds("Tue, 14 Nov 2034 22:12:20 GMT"), Some(86400));
        assert_eq!(seconds("Tuesday, 14-Nov-23 22:14:20 GMT"), Some(60));
        for nonsense in ["", "soon", "-1", "1.5", "+3", "2023-11-14"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn retry_after_counts_with_429_and_503_only() {
        let after = |status| {
            let verdict = verdict(&Answer { retry_after: Some("7"), ..answer(status) }, false, now());
            if let Verdict::Retry { after, .. } = verdict { after } else { None }
        };
        assert_eq!(after(429), Some(Duration::from_secs(7)));
        assert_eq!(after(503), Some(Duration::from_secs(7)));
        assert_eq!(after(500), None);
        assert_eq!(after(404), None);
    }

    #[test]
    fn causes_say_what_to_do_and_never_bring_control_characters() {
        let words = |answer: Answer<'_>| match verdict(&answer, false, now()) {
            Verdict::Retry { cause, .. } | Verdict::Refused { cause } => cause,
            Verdict::Delivered => String::new(),
        };
        expect_test::expect![[r"it answered 503 Service Unavailable: down\r\n\u{1b}[2Jfor �\u{7f} maintenance\u{85}"]]
            .assert_eq(&words(Answer {
                excerpt: b"\n down\r\n\x1b[2Jfor \xff\x7f maintenance\xc2\x85",
                ..answer(503)
            }));
        expect_test::expect![
            r"it answered 301 Moved Permanently; redirects are not followed: put the new address into the sink's url (https://new.example:8443)"
        ]
        .assert_eq(&words(Answer { location: Some("https://me:pass@new.example:8443/s3cret?t#x"), ..answer(301) }));
        for location in
            ["/hooks/s3cret", "//new.example/s3cret", "https://new\x1b.example/s3cret", "data:s3cret", "s3cret"]
        {
            let words = words(Answer { location: Some(location), ..answer(302) });
            assert!(words.ends_with("put the new address into the sink's url"), "{words}");
        }
        expect_test::expect!["it answered 401 Unauthorized; look at the sink's auth"].assert_eq(&words(answer(401)));
    }
}
