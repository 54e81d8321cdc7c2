//! The key `oauth2:` of any login.

use std::path::PathBuf;

use url::Url;

use super::common::{in_clear, named_file, no_url, usable};
use super::tls;
use crate::config::model::{ClientAuthentication, OAuth2Config};
use crate::config::raw;
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::{Text, UrlText};
use crate::net::{SigningKey, address};

const WRITE_URL: &str = "write `https://HOST/PATH`, the token endpoint of the authorization server";

pub(super) fn oauth2(at: &At<raw::OAuth2>, reader: &mut Reader<'_>) -> Option<OAuth2Config> {
    let raw = &at.value;
    let tls = raw.tls.as_ref().map(|at| tls::tls(at, true, reader)).unwrap_or_default();
    let url = raw.token_url.as_ref().map(|at| token_url(at, raw.tls.as_ref(), reader));
    if let Some(client_id) = &raw.client_id {
        usable(reader, "the identifier of the client", client_id);
    }
    let client = client(at, reader);
    for text in [&raw.scope, &raw.audience, &raw.key_id].into_iter().flatten() {
        if text.value.text.trim().is_empty() && !text.value.placeholder {
            reader.report(
                Diagnostic::error("empty-text", text.span, "this is empty").help("write a value, or remove the key"),
            );
        }
    }
    let text = |at: &Option<At<Text>>| at.as_ref().map(|at| at.value.text.clone());
    url?.then_some(())?;
    Some(OAuth2Config {
        token_url: raw.token_url.as_ref()?.value.0.secret.clone(),
        client_id: raw.client_id.as_ref()?.value.0.secret.clone(),
        client: client?,
        scope: text(&raw.scope),
        audience: text(&raw.audience),
        tls,
    })
}

/// Whether the URL can be used. A problem is reported.
fn token_url(at: &At<UrlText>, tls: Option<&At<raw::Tls>>, reader: &mut Reader<'_>) -> bool {
    let Some(text) = &at.value.0.text else { return true };
    if let Some(why) = address::ambiguous_web_url(text).or_else(|| address::repaired_web_url(text.trim())) {
        reader.report(Diagnostic::error("url", at.span, format!("this is not a URL: {why}")).help(WRITE_URL));
        return false;
    }
    let url = match Url::parse(text.trim()) {
        Ok(url) => url,
        Err(error) => {
            reader.report(no_url("url", at, error, WRITE_URL));
            return false;
        }
    };
    let problem = if !matches!(url.scheme(), "http" | "https") {
        Some(("url", "the URL of a token server begins with `https://` or `http://`".to_owned(), WRITE_URL))
    } else if !url.username().is_empty() || url.password().is_some() {
        Some((
            "url-password",
            "the URL of a token server can't hold a user or password".to_owned(),
            "write them as `client_id` and `client_secret`",
        ))
    } else {
        url.host().and_then(|host| address::forbidden_host(&host)).map(|why| {
            (
                "forbidden-host",
                format!("the relay never connects to this host: {why}"),
                "write the address of the token server",
            )
        })
    };
    if let Some((code, message, help)) = problem {
        reader.report(Diagnostic::error(code, at.span, message).help(help));
        return false;
    }
    if url.scheme() == "http" && !address::is_loopback(&url) {
        reader.report(
            Diagnostic::warning(
                "unencrypted",
                at.span,
                "`http://` sends the client's secret and its tokens without encryption",
            )
            .help("write `https://` if the token server has it"),
        );
    }
    if let (Some(tls), "http") = (tls, url.scheme()) {
        let message = "`tls` is given, but `token_url` says `http://`, which is not encrypted";
        reader.report(Diagnostic::error("tls-unused", tls.head, message).help("write `https://`, or remove `tls`"));
    }
    true
}

fn client(at: &At<raw::OAuth2>, reader: &mut Reader<'_>) -> Option<ClientAuthentication> {
    let raw = &at.value;
    if let Some(key_id) = raw.key_id.as_ref().filter(|_| raw.private_key.is_none()) {
        reader.report(
            Diagnostic::error("oauth2-key", key_id.span, "`key_id` needs `private_key`")
                .help("add `private_key: FILE`, or remove `key_id`: it is the name of the key that signs"),
        );
    }
    match (&raw.client_secret, &raw.private_key) {
        (Some(secret), None) => {
            if secret.value.0.in_clear {
                in_clear(reader, "the client's secret", secret.span);
            }
            usable(reader, "the client's secret", secret);
            Some(ClientAuthentication::Secret(secret.value.0.secret.clone()))
        }
        (None, Some(path)) => Some(ClientAuthentication::PrivateKey {
            path: private_key(path, reader),
            key_id: raw.key_id.as_ref().map(|at| at.value.text.clone()),
        }),
        (Some(secret), Some(key)) => {
            reader.report(
                Diagnostic::error("oauth2-client", key.span, "both `client_secret` and `private_key` are given")
                    .also(secret.span, "the other one")
                    .help("keep the one that the token server expects of this client"),
            );
            None
        }
        (None, None) => {
            if !reader.failed_in(at.span) {
                reader.report(
                    Diagnostic::error("oauth2-client", at.head, "neither `client_secret` nor `private_key` is given").help(
                        "add `client_secret: \"${file:/run/secrets/NAME}\"`, or `private_key: FILE`: the token server has to know who asks",
                    ),
                );
            }
            None
        }
    }
}

/// Reports a file that exists but has no key that signs.
fn private_key(at: &At<Text>, reader: &mut Reader<'_>) -> PathBuf {
    let path = named_file(reader, at);
    // A missing file is reported already.
    if path.is_file()
        && let Err(error) = SigningKey::read(&path)
    {
        reader.report(Diagnostic::error("private-key", at.span, format!("this file can't be used: {error}")).help(
            "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048` makes a key; it must not be encrypted",
        ));
    }
    path
}
