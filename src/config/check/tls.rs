//! The TLS block of any connection.

use std::path::PathBuf;

use super::common::read_path;
use crate::config::TlsError;
use crate::config::decode::At;
use crate::config::diagnostic::Diagnostic;
use crate::config::model::Tls;
use crate::config::raw;
use crate::config::reader::Reader;
use crate::config::scalar::Text;

/// `files`: whether they are what rustls will read (librdkafka takes others, too).
pub(super) fn tls(at: &At<raw::Tls>, files: bool, reader: &mut Reader<'_>) -> Tls {
    let raw = &at.value;
    for (given, missing, have, want) in [(&raw.cert, &raw.key, "cert", "key"), (&raw.key, &raw.cert, "key", "cert")] {
        if let (Some(given), None) = (given, missing) {
            reader.report(
                Diagnostic::error("tls-pair", given.span, format!("`{have}` goes with `{want}`"))
                    .label(format!("no `{want}` beside it"))
                    .help(format!("add `{want}:`: a client's certificate and its key prove who it is together")),
            );
        }
    }
    if let Some(name) = &raw.server_name
        && !name.value.placeholder
        && rustls::pki_types::ServerName::try_from(name.value.text.as_str()).is_err()
    {
        let message = format!("{} is not the name of a server", reader.quote(name.span));
        reader.report(
            Diagnostic::error("server-name", name.span, message)
                .help("write the name in the server's certificate, as in `broker.example.org`"),
        );
    }
    let tls = Tls {
        ca: raw.ca.as_ref().map(|ca| file(reader, ca)),
        cert: raw.cert.as_ref().map(|cert| file(reader, cert)),
        key: raw.key.as_ref().map(|key| file(reader, key)),
        server_name: raw.server_name.as_ref().map(|name| name.value.text.clone()),
    };
    if files && !reader.failed_in(at.span) {
        unusable(&tls, at, reader);
    }
    tls
}

fn file(reader: &mut Reader<'_>, at: &At<Text>) -> PathBuf {
    let path = read_path(reader, at);
    reader.files.push(path.clone());
    path
}

/// Says so if the files are there, but are not what they should be.
fn unusable(tls: &Tls, at: &At<raw::Tls>, reader: &mut Reader<'_>) {
    let there = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.is_file());
    let given = [&tls.ca, &tls.cert, &tls.key];
    // What isn't there has been said, as a warning where the relay doesn't run; the system's authorities are not of this file.
    if !given.into_iter().any(there) || given.into_iter().any(|path| path.is_some() && !there(path)) {
        return;
    }
    match tls.client_config() {
        Ok(_) | Err(TlsError::NoSystemAuthorities(_)) => {}
        Err(error) => reader.report(
            Diagnostic::error("tls-files", at.head, format!("these files can't be used: {error}"))
                .help("`ca` and `cert` hold certificates in PEM, `key` the private key in PEM, not encrypted"),
        ),
    }
}
