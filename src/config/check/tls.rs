//! The TLS block of any connection.

use super::read_path;
use crate::config::decode::{At, Reader};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::Tls;
use crate::config::raw;

pub(super) fn tls(at: &At<raw::Tls>, reader: &mut Reader<'_>) -> Tls {
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
    Tls {
        ca: raw.ca.as_ref().map(|ca| read_path(reader, ca)),
        cert: raw.cert.as_ref().map(|cert| read_path(reader, cert)),
        key: raw.key.as_ref().map(|key| read_path(reader, key)),
        server_name: raw.server_name.as_ref().map(|name| name.value.text.clone()),
    }
}
