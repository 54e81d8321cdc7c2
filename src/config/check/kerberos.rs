//! `principal`, `keytab` and `service` of `sasl:`.

use std::path::PathBuf;

use super::common::named_file;
use super::sasl::missing;
use crate::config::model::{KerberosLogin, Sasl};
use crate::config::raw;
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::words::clean;
use crate::net::Keytab;

/// The name of the service if `service` is left out: that of Kafka's documentation.
const SERVICE: &str = "kafka";
/// How many of a keytab's principals a diagnostic shows.
const SHOWN_PRINCIPALS: usize = 5;

pub(super) fn login(at: &At<raw::Sasl>, reader: &mut Reader<'_>) -> Option<Sasl> {
    let raw = &at.value;
    let has_failed = reader.failed_in(at.span);
    for (key, about, value) in [
        ("principal", "the principal that logs in, as in `relay@EXAMPLE.ORG`", &raw.principal),
        ("keytab", "the file with the keys of the principal", &raw.keytab),
    ] {
        if value.is_none() && !has_failed {
            missing(at, key, about, reader);
        }
    }
    let service = raw.service.as_ref().map_or(Some(SERVICE.to_owned()), |at| service(at, reader));
    let principal = raw.principal.as_ref().and_then(|at| principal(at, reader));
    let keytab =
        raw.keytab.as_ref().map(|at| keytab(at, raw.principal.as_ref().filter(|_| principal.is_some()), reader));
    Some(Sasl::Kerberos(KerberosLogin { principal: principal?, keytab: keytab?, service: service? }))
}

fn principal(at: &At<Text>, reader: &mut Reader<'_>) -> Option<String> {
    let text = &at.value.text;
    if let Some(why) = principal_mistake(text).filter(|_| !at.value.placeholder) {
        let message = format!("{} is not a Kerberos principal: {why}", reader.quote(at.span));
        reader.report(
            Diagnostic::error("principal", at.span, message)
                .help("write `NAME@REALM` or `NAME/INSTANCE@REALM`; realms are mostly written in capitals"),
        );
        return None;
    }
    Some(text.clone())
}

fn principal_mistake(text: &str) -> Option<&'static str> {
    let (name, realm) = match text.split_once('@') {
        Some((name, realm)) => (name, Some(realm)),
        None => (text, None),
    };
    if text.chars().any(|char| char.is_whitespace() || char.is_control()) {
        Some("there is white space in it")
    } else if name.split('/').any(str::is_empty) {
        Some("a part of its name is empty")
    } else if realm.is_some_and(str::is_empty) {
        Some("there is no realm after its `@`")
    } else if realm.is_some_and(|realm| realm.contains('@')) {
        Some("there is more than one `@` in it")
    } else {
        None
    }
}

fn service(at: &At<Text>, reader: &mut Reader<'_>) -> Option<String> {
    let text = &at.value.text;
    let is_name = !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char));
    if !is_name && !at.value.placeholder {
        let message = format!("{} is not the name of a Kerberos service", reader.quote(at.span));
        reader.report(Diagnostic::error("kerberos-service", at.span, message).help(
            "write only the first part of the brokers' principals: `kafka` of `kafka/HOST@REALM` (Kafka's `sasl.kerberos.service.name`)",
        ));
        return None;
    }
    Some(text.clone())
}

/// Reports a file that exists but has no key of the principal.
fn keytab(at: &At<Text>, principal: Option<&At<Text>>, reader: &mut Reader<'_>) -> PathBuf {
    let path = named_file(reader, at);
    // A missing file is reported already.
    if !path.is_file() {
        return path;
    }
    let keytab =
        match Keytab::read(&path) {
            Ok(keytab) => keytab,
            Err(error) => {
                reader.report(Diagnostic::error("keytab", at.span, format!("this file can't be used: {error}")).help(
                    "`kadmin` writes keytabs (`ktadd -k FILE PRINCIPAL`), `klist -k FILE` lists their principals",
                ));
                return path;
            }
        };
    if let Some(principal) = principal.filter(|at| !at.value.placeholder)
        && !keytab.has(&principal.value.text)
    {
        let message = format!("the keytab has no key of {}", reader.quote(principal.span));
        reader.report(
            Diagnostic::error("keytab-principal", principal.span, message)
                .also(at.span, format!("it has {}", principals(&keytab)))
                .help("write a principal of the keytab, or add the principal to it (`ktadd -k FILE PRINCIPAL` in `kadmin`)"),
        );
    }
    path
}

fn principals(keytab: &Keytab) -> String {
    let all = keytab.principals();
    let shown: Vec<_> = all.iter().take(SHOWN_PRINCIPALS).map(|principal| format!("`{}`", clean(principal))).collect();
    match all.len().saturating_sub(SHOWN_PRINCIPALS) {
        0 if shown.is_empty() => "no keys at all".to_owned(),
        0 => format!("keys of {}", shown.join(", ")),
        more => format!("keys of {} and {more} more", shown.join(", ")),
    }
}
