//! What an answer means for the delivery. One table, so that it can be read and argued about.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use url::Url;

use crate::config::Responses;
use crate::failpoints::Failpoint;
use crate::sink::{Blame, Verdict};

/// A `Retry-After` beyond this counts as this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// An answer, as far as it was read.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// The header `Retry-After`, if it is text.
    pub retry_after: Option<&'a str>,
    /// The header `Date`, if it is text: what a date in `Retry-After` is counted from.
    pub date: Option<&'a str>,
    /// The header `Location`, if it is text.
    pub location: Option<&'a str>,
    /// The beginning of the body.
    pub excerpt: &'a [u8],
}

/// The verdict of an answer. `templated` is whether the URL depends on the event: then what it says of the address holds for
/// that one delivery, not for the sink. `responses` are the meanings that the receiver gives to some statuses. `now` is what dates in
/// `Retry-After` are counted from where the answer has no date of its own.
pub(super) fn verdict(answer: &Answer<'_>, templated: bool, responses: &Responses, now: SystemTime) -> Verdict {
    let status = answer.status.as_u16();
    // Another event would be answered the same.
    let of_address = if templated { Blame::Delivery } else { Blame::Sink };
    let (given, by_default) = (given_meaning(status, responses), meaning(status, of_address));
    let blame = match (given, by_default) {
        (_, Meaning::Delivered) => return Verdict::Delivered,
        (Some(Given::Refuse), _) | (None, Meaning::Refused) => return Verdict::Refused { cause: cause(answer) },
        (Some(Given::Pause), _) => Blame::Gone,
        (Some(Given::Retry), Meaning::Refused | Meaning::Retry(Blame::Gone)) => of_address,
        (None | Some(Given::Retry), Meaning::Retry(blame)) => blame,
    };
    let after = answer.retry_after.and_then(|value| retry_after(value, answer.date, now));
    // Who says when to come again speaks of all that goes to that address.
    let blame = if after.is_some() && blame == Blame::Delivery { of_address } else { blame };
    Verdict::Retry { after, cause: cause(answer), blame }
}

/// What a status says by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Delivered,
    Refused,
    Retry(Blame),
}

fn meaning(status: u16, of_address: Blame) -> Meaning {
    match status {
        200..=299 => Meaning::Delivered,
        500..=599 if Failpoint::DropOn5xx.is_enabled() => Meaning::Delivered,
        400 | 413 | 415 | 422 => Meaning::Refused,
        410 if of_address == Blame::Sink => Meaning::Retry(Blame::Gone),
        // 401 and 407 speak of the login, which all requests share.
        401 | 407 | 408 | 429 | 500..=599 => Meaning::Retry(Blame::Sink),
        // 3xx, which is not followed; a path that isn't there, that is forbidden, or takes no POST.
        300..=399 | 403 | 404 | 405 => Meaning::Retry(of_address),
        // Other 4xx; what no server should answer.
        _ => Meaning::Retry(Blame::Delivery),
    }
}

/// What `responses:` says of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Refuse,
    Retry,
    Pause,
}

fn given_meaning(status: u16, Responses { refuse, retry, pause }: &Responses) -> Option<Given> {
    let lists = [(Given::Refuse, refuse), (Given::Retry, retry), (Given::Pause, pause)];
    lists.into_iter().find(|(_, list)| list.contains(&status)).map(|(given, _)| given)
}

/// `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3), at most 24 hours. None if it is neither. A date is counted from the
/// receiver's own, where it says one: its clock and ours need not agree.
fn retry_after(value: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only digits, so the one thing that can be wrong with it is its length.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let sent = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now);
        httpdate::parse_http_date(value).ok()?.duration_since(sent).unwrap_or_default()
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
        407 => cause.push_str("; look at the user and password of its proxy"),
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
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            date: None,
            location: None,
            excerpt: b"",
        }
    }

    /// The verdict without its words.
    fn kind(status: u16, templated: bool) -> &'static str {
        match verdict(&answer(status), templated, &Responses::default(), now()) {
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
            ("delivery", &[402, 406, 409, 418, 451]),
            ("sink", &[300, 301, 302, 304, 307, 308, 401, 403, 404, 405, 407]),
            ("refused", &[400, 413, 415, 422]),
            ("sink", &[408, 429, 500, 501, 502, 503, 504, 599]),
            ("gone", &[410]),
            ("delivery", &[101, 600, 999]),
        ] {
            for status in statuses {
                assert_eq!(kind(*status, false), expected, "{status}");
            }
        }
        for status in [301, 307, 403, 404, 405, 410] {
            assert_eq!(kind(status, true), "delivery", "{status}");
        }
        for status in [401, 407, 503] {
            assert_eq!(kind(status, true), "sink", "{status}");
        }
    }

    #[test]
    fn responses_give_statuses_another_meaning() {
        let responses = Responses { refuse: vec![409, 404], retry: vec![400, 410, 503], pause: vec![402] };
        let blame = |status, templated| match verdict(&answer(status), templated, &responses, now()) {
            Verdict::Retry { blame, .. } => Some(blame),
            Verdict::Refused { .. } => None,
            Verdict::Delivered => panic!("{status}"),
        };
        assert_eq!([409, 404, 422].map(|status| blame(status, false)), [None; 3]);
        assert_eq!([400, 410, 503].map(|status| blame(status, false)), [Some(Blame::Sink); 3]);
        assert_eq!([400, 410].map(|status| blame(status, true)), [Some(Blame::Delivery); 2]);
        assert_eq!([402].map(|status| blame(status, true)), [Some(Blame::Gone)]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_at_most_a_day() {
        let seconds = |value| retry_after(value, None, now()).map(|wait| wait.as_secs());
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
    fn a_date_is_counted_from_the_receiver_s_own() {
        let at = Some("Tue, 14 Nov 2023 20:00:00 GMT");
        assert_eq!(retry_after("Tue, 14 Nov 2023 20:01:00 GMT", at, now()), Some(Duration::from_mins(1)));
        assert_eq!(retry_after("5", at, now()), Some(Duration::from_secs(5)));
    }

    #[test]
    fn retry_after_counts_with_each_answer_that_is_retried() {
        let after = |status, templated| {
            let answer = Answer { retry_after: Some("7"), ..answer(status) };
            match verdict(&answer, templated, &Responses::default(), now()) {
                Verdict::Retry { after, blame, .. } => (after, Some(blame)),
                _ => (None, None),
            }
        };
        let seven = Some(Duration::from_secs(7));
        for status in [301, 401, 404, 409, 429, 500, 503] {
            assert_eq!(after(status, false), (seven, Some(Blame::Sink)), "{status}");
        }
        assert_eq!(after(409, true), (seven, Some(Blame::Delivery)), "of that address only");
        assert_eq!(after(503, true), (seven, Some(Blame::Sink)));
        assert_eq!(after(422, false), (None, None));
    }

    #[test]
    fn causes_say_what_to_do_and_never_bring_control_characters() {
        let words = |answer: Answer<'_>| match verdict(&answer, false, &Responses::default(), now()) {
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
