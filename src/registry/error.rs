//! Why a registry has no id for a schema, in words that name the subject and say what to do.

use http::StatusCode;

use super::client::{self, Reference};
use crate::event::SchemaKind;
use crate::oauth::TokenSource;
use crate::telemetry::printable;

/// How many bytes of the registry's own words are shown.
const MAX_WORDS: usize = 400;

/// Why there is no schema or no id. Its text names the subject and what the registry said, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistryError(String);

/// What was asked of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    LookUp,
    Register,
    /// Reads a version of a subject.
    Read,
    Ping,
}

impl RegistryError {
    /// The registry answers, and doesn't have the schema under that subject.
    pub(super) fn missing(subject: &str, origin: &str) -> Self {
        Self(format!(
            "the registry doesn't have this schema under the subject {}: register {origin} there, or \
             set `register: true`",
            printable(subject)
        ))
    }

    /// The subject has no schema, of which the latest was asked for.
    pub(super) fn empty(subject: &str) -> Self {
        Self(format!(
            "the registry has no schema under the subject {}: register one there, or check `subject`",
            printable(subject)
        ))
    }

    /// It is about a file that the schema under that subject imports.
    pub(super) fn of_import(self, subject: &str) -> Self {
        Self(format!("the imports of the schema under the subject {}: {}", printable(subject), self.0))
    }

    pub(super) fn missing_import(subject: &str) -> Self {
        Self(format!(
            "the registry doesn't have this file under the subject {}: register it under this name, or set `register: true`",
            printable(subject)
        ))
    }

    /// What was registered can't be found.
    pub(super) fn lost(subject: &str) -> Self {
        Self(format!(
            "the registry registered this file, and doesn't find it under the subject {}; the relay asks again",
            printable(subject)
        ))
    }

    pub(super) fn other_kind(subject: &str, word: &str, wanted: SchemaKind) -> Self {
        Self(format!(
            "the latest schema under the subject {} is of the type {}, and the sink encodes by {}: check `subject` and `format`",
            printable(subject),
            printable(word),
            client::word(wanted)
        ))
    }

    /// `problem` says what is wrong with the schema.
    pub(super) fn unusable(subject: &str, version: u32, problem: &str) -> Self {
        let end = problem.floor_char_boundary(MAX_WORDS);
        Self(format!(
            "the latest schema under the subject {} (version {version}) can't be used: {}; register one that can",
            printable(subject),
            printable(problem.get(..end).unwrap_or(problem))
        ))
    }

    pub(super) fn too_many_references(subject: &str, most: usize) -> Self {
        Self(format!(
            "the latest schema under the subject {} refers to more than {most} others: register one with fewer references",
            printable(subject)
        ))
    }

    pub(super) fn no_reference(subject: &str, reference: &Reference) -> Self {
        let Reference { name, subject: of, version } = reference;
        Self(format!(
            "the latest schema under the subject {} refers to {}, and the registry doesn't have version {version} of the subject {}: \
             register it again",
            printable(subject),
            printable(name),
            printable(of)
        ))
    }

    /// There was no answer, or one that can't be read. `problem` says what happened.
    pub(super) fn without_answer(subject: Option<&str>, problem: &str) -> Self {
        let of = subject.map_or_else(String::new, |subject| format!(" of the subject {}", printable(subject)));
        Self(format!("no schema{of}: {problem}; check that the registry runs, and `registry.url`"))
    }

    /// The sink's own settings can't be used. `problem` says what to do.
    pub(super) fn settings(subject: Option<&str>, problem: &str) -> Self {
        let about = subject.map_or_else(String::new, |subject| format!(" about the subject {}", printable(subject)));
        Self(format!("the registry can't be asked{about}: {problem}"))
    }

    pub(super) fn without_tokens(self, tokens: &TokenSource) -> Self {
        Self(tokens.mask(&self.0))
    }

    /// The registry answered with an error. `body` is its answer.
    pub(super) fn answer(action: Action, subject: Option<&str>, status: StatusCode, body: &[u8]) -> Self {
        let subject = subject.map_or_else(String::new, |subject| format!(" the subject {}", printable(subject)));
        let what = match action {
            Action::LookUp => format!("looking up the schema under{subject}"),
            Action::Register => format!("registering the schema under{subject}"),
            Action::Read => format!("reading the schema of{subject}"),
            Action::Ping => "asking the registry".to_owned(),
        };
        let mut text = format!("{what}: the registry answered {}", status.as_u16());
        if let Some(reason) = status.canonical_reason() {
            text.push(' ');
            text.push_str(reason);
        }
        let words = words(body);
        if !words.is_empty() {
            text.push_str(" (");
            text.push_str(&words);
            text.push(')');
        }
        text.push_str("; ");
        text.push_str(advice(action, status));
        Self(text)
    }
}

fn advice(action: Action, status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "redirects are not followed: set `registry.url` to the new address",
        401 => "check `registry.auth`",
        403 if action == Action::Register => {
            "allow the user of `registry.auth` to register schemas, or register this one and set `register: false`"
        }
        403 => "allow the user of `registry.auth` to read this subject",
        404 | 405 => "check `registry.url`: it ends where Confluent's API begins, as in `https://HOST/apis/ccompat/v7`",
        407 => "check the proxy that the environment names",
        409 => {
            "the schema is not compatible with the versions that the subject has: use another `subject`, or change the \
             subject's compatibility in the registry"
        }
        422 => "the registry doesn't accept this schema or the name of the subject: check `subject`",
        429 | 500..=599 => "the relay asks again until the registry answers",
        _ => "check `registry.url`",
    }
}

/// What a registry says in its answer, without the Java class that some begin with.
fn words(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Answer {
        message: String,
    }
    /// Apicurio's answer to a request without a login.
    #[derive(serde::Deserialize)]
    struct Wrapped {
        error: Answer,
    }
    let wrapped = |_| serde_json::from_slice(body).map(|Wrapped { error }| error);
    let text = match serde_json::from_slice::<Answer>(body).or_else(wrapped) {
        Ok(Answer { message }) => without_class(&message).to_owned(),
        // A page of a proxy, for instance.
        Err(_) => String::from_utf8_lossy(body.get(..MAX_WORDS).unwrap_or(body)).into_owned(),
    };
    let text = text.trim();
    let end = text.floor_char_boundary(MAX_WORDS);
    let shown = printable(text.get(..end).unwrap_or(text)).to_string();
    if end < text.len() { format!("{shown}…") } else { shown }
}

/// `io.apicurio.RuleViolationException: Incompatible artifact` without its beginning.
fn without_class(message: &str) -> &str {
    let Some((class, rest)) = message.split_once(": ") else { return message };
    let is_class =
        class.contains('.') && class.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._$".contains(&byte));
    if is_class { rest } else { message }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(action: Action, status: u16, body: &str, expected: &Expect) {
        let status = StatusCode::from_u16(status).unwrap();
        expected.assert_eq(&RegistryError::answer(action, Some("a-value"), status, body.as_bytes()).to_string());
    }

    #[test]
    fn errors_name_the_subject_the_registry_s_words_and_what_to_do() {
        check(
            Action::Register,
            409,
            r#"{"error_code":409,"message":"io.apicurio.registry.rules.RuleViolationException: Incompatible artifact: a-value [AVRO]"}"#,
            &expect![
                "registering the schema under the subject a-value: the registry answered 409 Conflict (Incompatible artifact: a-value [AVRO]); the schema is not compatible with the versions that the subject has: use another `subject`, or change the subject's compatibility in the registry"
            ],
        );
        check(
            Action::Register,
            403,
            "",
            &expect![
                "registering the schema under the subject a-value: the registry answered 403 Forbidden; allow the user of `registry.auth` to register schemas, or register this one and set `register: false`"
            ],
        );
        check(
            Action::LookUp,
            503,
            "<html>\nback \u{1b}[2Jsoon</html>",
            &expect![[
                r"looking up the schema under the subject a-value: the registry answered 503 Service Unavailable (<html>\nback \u{1b}[2Jsoon</html>); the relay asks again until the registry answers"
            ]],
        );
        check(
            Action::LookUp,
            401,
            r#"{"error_code":40101,"message":"User is not authenticated."}"#,
            &expect![
                "looking up the schema under the subject a-value: the registry answered 401 Unauthorized (User is not authenticated.); check `registry.auth`"
            ],
        );
        assert_eq!(words(br#"{"status":401,"error":{"detail":"A: no","message":"no"},"jaxrsResponse":null}"#), "no");
    }

    #[test]
    fn long_words_are_cut_off() {
        let message = format!(r#"{{"message":"{}"}}"#, "é".repeat(1000));
        let words = words(message.as_bytes());
        assert!(words.ends_with('…') && words.len() <= MAX_WORDS + '…'.len_utf8(), "{words}");
        assert_eq!(without_class("Subject: none"), "Subject: none");
    }
}
