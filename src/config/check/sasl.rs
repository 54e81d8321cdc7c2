//! The key `sasl:` of a Kafka sink.

use super::common::{in_clear, usable};
use super::{kerberos, oauth2};
use crate::config::model::Sasl;
use crate::config::raw;
use crate::config::text::decode::{At, NamedEntries};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::{SecretText, Text};
use crate::config::text::words::clean;
use crate::config::values::{GSSAPI, OAUTHBEARER};

/// The name of the token among the extensions of a login.
const TOKEN: &str = "auth";

pub(super) fn sasl(at: &At<raw::Sasl>, encrypted: bool, reader: &mut Reader<'_>) -> Option<Sasl> {
    let raw = &at.value;
    let place = raw.mechanism.as_ref()?;
    let mechanism = place.value.0.0;
    let in_clear = match (mechanism, encrypted) {
        ("PLAIN", false) => Some((
            "password-unencrypted",
            "`PLAIN` without `tls` sends the password as it is",
            "add `tls: {}` (or with the cluster's `ca`), or use `SCRAM-SHA-512`",
        )),
        (OAUTHBEARER, false) => Some((
            "unencrypted",
            "`OAUTHBEARER` without `tls` sends the access tokens as they are",
            "add `tls: {}` (or with the cluster's `ca`)",
        )),
        _ => None,
    };
    if let Some((code, message, help)) = in_clear {
        reader.report(Diagnostic::warning(code, place.span, message).help(help));
    }
    report_unused(at, mechanism, reader);
    match mechanism {
        OAUTHBEARER => token_login(at, reader),
        GSSAPI => kerberos::login(at, reader),
        _ => password_login(at, mechanism, reader),
    }
}

/// Reports the keys of other mechanisms.
fn report_unused(at: &At<raw::Sasl>, mechanism: &str, reader: &mut Reader<'_>) {
    let raw = &at.value;
    let (how, of_password, of_tokens, of_kerberos) = match mechanism {
        OAUTHBEARER => ("access token", false, true, false),
        GSSAPI => ("Kerberos", false, false, true),
        _ => ("user name and password", true, false, false),
    };
    let secret = |at: &Option<At<SecretText>>| at.as_ref().map(|at| at.span);
    let text = |at: &Option<At<Text>>| at.as_ref().map(|at| at.span);
    let password = ("write `mechanism: SCRAM-SHA-512` or `PLAIN`", of_password);
    let kerberos = ("write `mechanism: GSSAPI`", of_kerberos);
    for (what, span, (write, is_used)) in [
        ("user name", secret(&raw.username), password),
        ("password", secret(&raw.password), password),
        ("block `oauth2`", raw.oauth2.as_ref().map(|at| at.head), ("write `mechanism: OAUTHBEARER`", of_tokens)),
        (
            "block `extensions`",
            raw.extensions.as_ref().map(|at| at.head),
            ("write `mechanism: OAUTHBEARER`", of_tokens),
        ),
        ("principal", text(&raw.principal), kerberos),
        ("keytab", text(&raw.keytab), kerberos),
        ("service name", text(&raw.service), kerberos),
    ] {
        let Some(span) = span.filter(|_| !is_used) else { continue };
        let message = format!("`{mechanism}` logs in by {how}; this {what} is not used");
        reader.report(Diagnostic::error("sasl-login", span, message).help(format!("remove it, or {write}")));
    }
}

fn password_login(at: &At<raw::Sasl>, mechanism: &'static str, reader: &mut Reader<'_>) -> Option<Sasl> {
    let raw = &at.value;
    for (what, at) in [("the user's name", &raw.username), ("the password", &raw.password)] {
        let _ = at.as_ref().map(|at| usable(reader, what, at));
    }
    if let Some(password) = &raw.password
        && password.value.0.in_clear
    {
        in_clear(reader, "the password", password.span);
    }
    let keys = [("username", "the user name", &raw.username), ("password", "the password", &raw.password)];
    // A wrong value is reported already.
    let has_failed = reader.failed_in(at.span);
    for (key, what, _) in keys.iter().filter(|(.., value)| value.is_none() && !has_failed) {
        missing(at, key, &format!("{what} for the SASL login"), reader);
    }
    Some(Sasl::Password {
        mechanism,
        username: raw.username.as_ref()?.value.0.secret.clone(),
        password: raw.password.as_ref()?.value.0.secret.clone(),
    })
}

fn token_login(at: &At<raw::Sasl>, reader: &mut Reader<'_>) -> Option<Sasl> {
    let raw = &at.value;
    if raw.oauth2.is_none() && !reader.failed_in(at.span) {
        missing(at, "oauth2", "as in `oauth2: { token_url: https://HOST/PATH, client_id: relay, … }`", reader);
    }
    let extensions = raw.extensions.as_ref().map_or(Some(Vec::new()), |at| extensions(at, reader));
    let oauth2 = Box::new(oauth2::oauth2(raw.oauth2.as_ref()?, reader)?);
    Some(Sasl::OAuth2 { oauth2, extensions: extensions? })
}

/// Extensions by RFC 7628, 3.1.
fn extensions(at: &At<NamedEntries<Text>>, reader: &mut Reader<'_>) -> Option<Vec<(String, String)>> {
    let mut is_each_right = true;
    for (key, value) in &at.value.0 {
        let name = key.text.as_str();
        let text = &value.value.text;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_value = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
        let (span, message, help) = if name == TOKEN {
            (
                key.span,
                "the extension `auth` can't be set: it is the access token itself".to_owned(),
                "choose another name",
            )
        } else if !is_name {
            let message = format!("`{}` can't be the name of an extension", clean(name));
            (key.span, message, "use letters only (RFC 7628, 3.1)")
        } else if !is_value && !value.value.placeholder {
            let message = "this can't be the value of an extension".to_owned();
            (value.span, message, "use ASCII characters that can be printed, and white space (RFC 7628, 3.1)")
        } else {
            continue;
        };
        is_each_right = false;
        reader.report(Diagnostic::error("sasl-extension", span, message).help(help));
    }
    let pairs = at.value.0.iter().map(|(key, value)| (key.text.clone(), value.value.text.clone()));
    is_each_right.then(|| pairs.collect())
}

pub(super) fn missing(at: &At<raw::Sasl>, key: &str, about: &str, reader: &mut Reader<'_>) {
    reader.report(
        Diagnostic::error("missing-key", at.head, format!("`{key}` is missing"))
            .label(format!("needs `{key}`"))
            .help(format!("add `{key}:`, {about}")),
    );
}
