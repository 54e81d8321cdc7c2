//! The answer of a token server (RFC 6749, 5.1 and 5.2).

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::net::http::{BodyEnd, Response};
use crate::telemetry::printable;

/// In bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;
/// A shorter life is taken for this one: renewing more often would be of no use.
const MIN_LIFE: Duration = Duration::from_secs(1);
/// A longer life is taken for this one.
const MAX_LIFE: Duration = Duration::from_hours(365 * 24);
/// How much of an answer is shown, in characters.
const MAX_EXCERPT: usize = 500;

/// A token, and how long it lives from the request on, if the server said so.
pub(super) struct GrantedToken {
    pub token: String,
    pub life: Option<Duration>,
}

impl std::fmt::Debug for GrantedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GrantedToken({:?})", self.life)
    }
}

#[derive(Deserialize)]
struct Grant {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    error_description: Option<String>,
}

/// The error goes on after "the token server …".
pub(super) fn read(response: &Response) -> Result<GrantedToken, String> {
    if !response.status.is_success() {
        return Err(refusal(response));
    }
    match response.body_end {
        BodyEnd::Whole => {}
        BodyEnd::TooLong => return Err(format!("answered more than {} KiB; check `token_url`", MAX_BODY / 1024)),
        BodyEnd::BrokenOff | BodyEnd::TimedOut => return Err("broke its answer off".to_owned()),
    }
    // The answer is not shown: it has the token in it.
    let grant: Grant = serde_json::from_slice(&response.body)
        .map_err(|_| "did not answer with JSON that has an `access_token`; check `token_url`".to_owned())?;
    if let Some(kind) = grant.token_type.filter(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        let kind: String = printable(&kind).chars().take(MAX_EXCERPT).collect();
        return Err(format!("issued a token of the type {kind}; the relay can only use bearer tokens"));
    }
    if grant.access_token.is_empty() || !grant.access_token.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err("issued a token that is empty or has a character that no token may have".to_owned());
    }
    Ok(GrantedToken { token: grant.access_token, life: grant.expires_in.as_ref().and_then(life) })
}

/// The life in seconds. Some servers write the number as a text.
fn life(written: &Value) -> Option<Duration> {
    let seconds = match written {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let life = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(MAX_LIFE);
    Some(life.clamp(MIN_LIFE, MAX_LIFE))
}

/// What the server said, and what the reader can do.
fn refusal(response: &Response) -> String {
    let status = response.status;
    let reason = status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    let mut text = format!("answered {}{reason}", status.as_u16());
    let refusal: Option<Refusal> = serde_json::from_slice(&response.body).ok();
    let said = match &refusal {
        Some(Refusal { error, error_description: Some(description) }) => format!("{error}: {description}"),
        Some(Refusal { error, error_description: None }) => error.clone(),
        None => String::from_utf8_lossy(response.body.trim_ascii()).into_owned(),
    };
    if !said.is_empty() {
        text.push_str(": ");
        text.extend(printable(&said).chars().take(MAX_EXCERPT));
    }
    if let Some(hint) = hint(status, refusal.as_ref().map(|refusal| refusal.error.as_str())) {
        text.push_str("; ");
        text.push_str(hint);
    }
    text
}

fn hint(status: StatusCode, error: Option<&str>) -> Option<&'static str> {
    Some(match (error, status.as_u16()) {
        (Some("invalid_client"), _) | (None, 401) => "check `client_id`, and `client_secret` or `private_key`",
        (Some("invalid_scope"), _) => "check `scope`",
        (Some("invalid_target"), _) => "check `audience`",
        (Some("unauthorized_client" | "unsupported_grant_type"), _) => {
            "allow this client the grant `client_credentials` there"
        }
        (_, 300..=399) => "redirects are not followed: set `token_url` to the new address",
        (None, 404 | 405) => "check `token_url`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &str) -> Result<GrantedToken, String> {
        read(&Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            body_end: BodyEnd::Whole,
        })
    }

    #[test]
    fn the_life_of_a_token_is_a_number_or_a_text() {
        for (written, seconds) in [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("59.5", Some(59)),
            ("0", Some(1)),
            ("-5", Some(1)),
            ("1e300", Some(365 * 24 * 3600)),
            ("null", None),
            ("\"soon\"", None),
            ("[]", None),
        ] {
            let granted = answer(200, &format!(r#"{{"access_token":"t","expires_in":{written}}}"#)).unwrap();
            assert_eq!(granted.life.map(|life| life.as_secs()), seconds, "{written}");
        }
        assert_eq!(answer(200, r#"{"access_token":"t","token_type":"bearer"}"#).unwrap().life, None);
    }

    #[test]
    fn an_answer_that_has_no_usable_token_is_explained_without_it() {
        let errors: Vec<String> = [
            r#"{"token":"s3cret"}"#,
            "<html>s3cret",
            r#"{"access_token":"s3cret","token_type":"DPoP"}"#,
            r#"{"access_token":"s3cret\n"}"#,
            r#"{"access_token":""}"#,
        ]
        .map(|body| answer(200, body).unwrap_err())
        .into();
        assert!(!errors.concat().contains("s3cret"), "{errors:?}");
        expect_test::expect![[r"
            did not answer with JSON that has an `access_token`; check `token_url`
            did not answer with JSON that has an `access_token`; check `token_url`
            issued a token of the type DPoP; the relay can only use bearer tokens
            issued a token that is empty or has a character that no token may have
            issued a token that is empty or has a character that no token may have"]]
        .assert_eq(&errors.join("\n"));
    }

    #[test]
    fn a_refusal_is_shown_with_what_to_do() {
        let errors: Vec<String> = [
            (401, r#"{"error":"invalid_client","error_description":"wrong\u001bsecret"}"#),
            (400, r#"{"error":"invalid_scope"}"#),
            (400, r#"{"error":"unauthorized_client"}"#),
            (401, ""),
            (302, ""),
            (404, "<html>not here"),
            (503, "down for maintenance"),
        ]
        .map(|(status, body)| answer(status, body).unwrap_err())
        .into();
        expect_test::expect![[r"
            answered 401 Unauthorized: invalid_client: wrong\u{1b}secret; check `client_id`, and `client_secret` or `private_key`
            answered 400 Bad Request: invalid_scope; check `scope`
            answered 400 Bad Request: unauthorized_client; allow this client the grant `client_credentials` there
            answered 401 Unauthorized; check `client_id`, and `client_secret` or `private_key`
            answered 302 Found; redirects are not followed: set `token_url` to the new address
            answered 404 Not Found: <html>not here; check `token_url`
            answered 503 Service Unavailable: down for maintenance"]]
        .assert_eq(&errors.join("\n"));
    }
}
