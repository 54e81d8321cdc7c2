//! The key `tls:` of any connection.

use std::path::PathBuf;

use super::common::named_file;
use crate::config::raw;
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::net::{Tls, TlsError};

/// `for_rustls`: whether rustls will read the files, so that they can be checked by it. librdkafka accepts further formats.
pub(super) fn tls(at: &At<raw::Tls>, for_rustls: bool, reader: &mut Reader<'_>) -> Tls {
    let raw = &at.value;
    for (given, missing, have, want) in [(&raw.cert, &raw.key, "cert", "key"), (&raw.key, &raw.cert, "key", "cert")] {
        if let (Some(given), None) = (given, missing) {
            reader.report(
                Diagnostic::error("tls-pair", given.span, format!("`{have}` needs `{want}`"))
                    .label(format!("no `{want}` beside it"))
                    .help(format!("add `{want}:`: a client needs its certificate and its key to authenticate itself")),
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
        ca: raw.ca.as_ref().map(|ca| named_file(reader, ca)),
        cert: raw.cert.as_ref().map(|cert| named_file(reader, cert)),
        key: raw.key.as_ref().map(|key| named_file(reader, key)),
        server_name: raw.server_name.as_ref().map(|name| name.value.text.clone()),
    };
    if for_rustls && !reader.failed_in(at.span) {
        check_files(&tls, at, reader);
    }
    tls
}

/// Reports files that exist but can't be used.
fn check_files(tls: &Tls, at: &At<raw::Tls>, reader: &mut Reader<'_>) {
    let there = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.is_file());
    let given = [&tls.ca, &tls.cert, &tls.key];
    // Missing files are reported already. The system's authorities are not named in this file.
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
