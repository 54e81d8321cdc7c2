//! The verdict of an HTTP response, by a table of its status.

use std::time::{Duration, SystemTime};

use http::header::{DATE, LOCATION, RETRY_AFTER};
use url::Url;

use crate::config::Responses;
use crate::failpoints::Failpoint;
use crate::net::http::Response;
use crate::sink::{Blame, Confirmation, Verdict};
use crate::telemetry::printable;

/// A `Retry-After` is limited to this.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// `url` is the URL without its secrets; `templated` is whether it depends on the event. Then a failure of the URL affects that delivery only, not the sink.
/// `responses` overrides the meaning of some statuses. A date in `Retry-After` is compared with `now` if the response has no
/// `Date`.
pub(super) fn verdict(
    response: &Response,
    url: &str,
    templated: bool,
    responses: &Responses,
    now: SystemTime,
) -> Verdict {
    let status = response.status.as_u16();
    // With a fixed URL, other events would get the same response.
    let url_blame = if templated { Blame::Delivery } else { Blame::Sink };
    let (configured, default) = (configured_meaning(status, responses), default_meaning(status, url_blame));
    let blame = match (configured, default) {
        (_, StatusMeaning::Delivered) => {
            return Verdict::Delivered(Confirmation::Webhook { url: url.to_owned(), status });
        }
        (Some(ConfiguredMeaning::Refuse), _) | (None, StatusMeaning::Refused) => {
            return Verdict::Refused { cause: cause(response) };
        }
        (Some(ConfiguredMeaning::Pause), _) => Blame::Gone,
        (Some(ConfiguredMeaning::Retry), StatusMeaning::Refused | StatusMeaning::Retry(Blame::Gone)) => url_blame,
        (None | Some(ConfiguredMeaning::Retry), StatusMeaning::Retry(blame)) => blame,
    };
    let after = response.text(&RETRY_AFTER).and_then(|value| retry_after(value, response.text(&DATE), now));
    // `Retry-After` affects all requests to that URL.
    let blame = if after.is_some() && blame == Blame::Delivery { url_blame } else { blame };
    Verdict::Retry { after, cause: cause(response), blame }
}

/// The meaning of a status that `responses:` does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatusMeaning {
    Delivered,
    Refused,
    Retry(Blame),
}

fn default_meaning(status: u16, url_blame: Blame) -> StatusMeaning {
    match status {
        200..=299 => StatusMeaning::Delivered,
        500..=599 if Failpoint::DropOn5xx.is_enabled() => StatusMeaning::Delivered,
        400 | 413 | 415 | 422 => StatusMeaning::Refused,
        410 if url_blame == Blame::Sink => StatusMeaning::Retry(Blame::Gone),
        // 401 and 407: all requests have the same credentials.
        401 | 407 | 408 | 429 | 500..=599 => StatusMeaning::Retry(Blame::Sink),
        // Redirects are not followed; the path doesn't exist, is forbidden, or does not allow POST.
        300..=399 | 403 | 404 | 405 => StatusMeaning::Retry(url_blame),
        // Other 4xx, and statuses that no server should return.
        _ => StatusMeaning::Retry(Blame::Delivery),
    }
}

/// The meaning of a status that `responses:` lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConfiguredMeaning {
    Refuse,
    Retry,
    Pause,
}

fn configured_meaning(status: u16, Responses { refuse, retry, pause }: &Responses) -> Option<ConfiguredMeaning> {
    let lists =
        [(ConfiguredMeaning::Refuse, refuse), (ConfiguredMeaning::Retry, retry), (ConfiguredMeaning::Pause, pause)];
    lists.into_iter().find(|(_, list)| list.contains(&status)).map(|(meaning, _)| meaning)
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110, 10.2.3). `None` if it is neither. A date is compared with the
/// response's own `Date` if there is one, as the receiver's clock may differ from the relay's.
fn retry_after(value: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // All are digits, so parsing fails only if there are too many.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let sent = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now);
        httpdate::parse_http_date(value).ok()?.duration_since(sent).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// The cause of a failed attempt: the status, what the reader can do, and the beginning of the response.
fn cause(response: &Response) -> String {
    let status = response.status;
    let mut cause = format!("the receiver answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        cause.push(' ');
        cause.push_str(reason);
    }
    match status.as_u16() {
        300..=399 => {
            cause.push_str("; redirects are not followed: set the sink's `url` to the new address");
            if let Some(origin) = response.text(&LOCATION).and_then(origin) {
                cause.push_str(" (");
                cause.push_str(&origin);
                cause.push(')');
            }
        }
        401 | 403 => cause.push_str("; check the sink's `auth`"),
        407 => cause.push_str("; check the user and password in the sink's `proxy`"),
        410 => cause.push_str("; the URL no longer exists: change the sink's `url`, or resume the sink"),
        _ => {}
    }
    let excerpt = response.body.trim_ascii();
    if !excerpt.is_empty() {
        cause.push_str(": ");
        cause.push_str(&printable(&String::from_utf8_lossy(excerpt)));
    }
    cause
}

/// Scheme, host and port of a URL. The rest is not shown, as it may repeat a secret of the sink's own URL.
fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, StatusCode};

    use super::*;
    use crate::net::http::BodyEnd;

    const NOW: u64 = 1_700_000_000;
    const URL: &str = "https://pager.example/hooks/regards";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn answer(status: u16) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            body_end: BodyEnd::Whole,
        }
    }

    fn answer_with(status: u16, name: HeaderName, value: &str) -> Response {
        Response { headers: [(name, value.parse().unwrap())].into_iter().collect(), ..answer(status) }
    }

    /// The verdict without its cause.
    fn kind(status: u16, templated: bool) -> &'static str {
        match verdict(&answer(status), URL, templated, &Responses::default(), now()) {
            Verdict::Delivered(_) => "delivered",
            Verdict::Refused { .. } => "refused",
            Verdict::Unfit { .. } => "unfit",
            Verdict::Retry { blame: Blame::Sink, after: None, .. } => "sink",
            Verdict::Retry { blame: Blame::Gone, after: None, .. } => "gone",
            Verdict::Retry { blame: Blame::Delivery, after: None, .. } => "delivery",
            Verdict::Retry { .. } => "?",
        }
    }

    #[test]
    fn each_status_has_its_verdict() {
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
    fn responses_override_the_meaning_of_statuses() {
        let responses = Responses { refuse: vec![409, 404], retry: vec![400, 410, 503], pause: vec![402] };
        let blame = |status, templated| match verdict(&answer(status), URL, templated, &responses, now()) {
            Verdict::Retry { blame, .. } => Some(blame),
            Verdict::Refused { .. } => None,
            Verdict::Delivered(_) | Verdict::Unfit { .. } => panic!("{status}"),
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
    fn a_date_in_retry_after_is_compared_with_the_date_of_the_response() {
        let at = Some("Tue, 14 Nov 2023 20:00:00 GMT");
        assert_eq!(retry_after("Tue, 14 Nov 2023 20:01:00 GMT", at, now()), Some(Duration::from_mins(1)));
        assert_eq!(retry_after("5", at, now()), Some(Duration::from_secs(5)));
    }

    #[test]
    fn retry_after_is_used_for_every_response_that_is_retried() {
        let after = |status, templated| {
            let answer = answer_with(status, RETRY_AFTER, "7");
            match verdict(&answer, URL, templated, &Responses::default(), now()) {
                Verdict::Retry { after, blame, .. } => (after, Some(blame)),
                _ => (None, None),
            }
        };
        let seven = Some(Duration::from_secs(7));
        for status in [301, 401, 404, 409, 429, 500, 503] {
            assert_eq!(after(status, false), (seven, Some(Blame::Sink)), "{status}");
        }
        assert_eq!(after(409, true), (seven, Some(Blame::Delivery)), "of that URL only");
        assert_eq!(after(503, true), (seven, Some(Blame::Sink)));
        assert_eq!(after(422, false), (None, None));
    }

    #[test]
    fn causes_say_what_to_do_and_have_no_control_characters() {
        let words = |answer: Response| match verdict(&answer, URL, false, &Responses::default(), now()) {
            Verdict::Retry { cause, .. } | Verdict::Refused { cause } => cause,
            Verdict::Delivered(_) | Verdict::Unfit { .. } => String::new(),
        };
        expect_test::expect![[
            r"the receiver answered 503 Service Unavailable: down\r\n\u{1b}[2Jfor �\u{7f} maintenance\u{85}"
        ]]
        .assert_eq(&words(Response {
            body: b"\n down\r\n\x1b[2Jfor \xff\x7f maintenance\xc2\x85".to_vec(),
            ..answer(503)
        }));
        expect_test::expect![
            r"the receiver answered 301 Moved Permanently; redirects are not followed: set the sink's `url` to the new address (https://new.example:8443)"
        ]
        .assert_eq(&words(answer_with(301, LOCATION, "https://me:pass@new.example:8443/s3cret?t#x")));
        assert_eq!(origin("https://new\x1b.example/s3cret"), None);
        for location in ["/hooks/s3cret", "//new.example/s3cret", "data:s3cret", "s3cret"] {
            let words = words(answer_with(302, LOCATION, location));
            assert!(words.ends_with("set the sink's `url` to the new address"), "{words}");
        }
        expect_test::expect!["the receiver answered 401 Unauthorized; check the sink's `auth`"]
            .assert_eq(&words(answer(401)));
    }
}
