//! The connection to an AMQP broker, which sources and sinks have in common.

use percent_encoding::percent_decode_str;
use url::Url;

use super::common::{in_clear, no_url, usable};
use super::{oauth2, tls};
use crate::config::model::{AmqpConnection, AmqpLogin};
use crate::config::raw;
use crate::config::text::decode::{At, OneOrMany};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::{SecretText, Text, UrlText};
use crate::config::text::tree::Span;
use crate::net::address;

/// AMQP's ports, without and with TLS.
const PORTS: (u16, u16) = (5672, 5671);
/// The ports of `RabbitMQ`'s management: <https://www.rabbitmq.com/docs/networking#ports>.
const MANAGEMENT_PORTS: [u16; 2] = [15672, 15671];

/// The keys of a connection, as written in the file.
pub(super) struct RawConnection<'a> {
    pub url: Option<&'a At<OneOrMany<UrlText>>>,
    pub username: Option<&'a At<SecretText>>,
    pub password: Option<&'a At<SecretText>>,
    pub vhost: Option<&'a At<Text>>,
    pub auth: Option<&'a At<raw::AmqpAuth>>,
    pub tls: Option<&'a At<raw::Tls>>,
}

/// A virtual host of a broker, for comparison: as far as the file shows, equal values are the same one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VirtualHost {
    host: String,
    port: u16,
    vhost: String,
}

pub(super) fn connection(raw: &RawConnection<'_>, reader: &mut Reader<'_>) -> Option<AmqpConnection> {
    let tls = raw.tls.map(|at| tls::tls(at, true, reader));
    for (what, at) in [("the user's name", raw.username), ("the password", raw.password)] {
        let _ = at.map(|at| usable(reader, what, at));
    }
    if let Some(password) = raw.password
        && password.value.0.in_clear
    {
        in_clear(reader, "the password", password.span);
    }
    let vhost = raw.vhost.map(|at| at.value.text.clone());
    let urls = raw.url?;
    if urls.value.0.is_empty() {
        reader.report(
            Diagnostic::error("empty-list", urls.span, "there is no URL in the list")
                .help("write at least one, as in `amqps://broker.example.org`"),
        );
    }
    let parsed: Vec<_> = urls.value.0.iter().map(|at| url(at, reader)).collect();
    let known = parsed.iter().all(Option::is_some);
    if let (Some(at), true) = (raw.tls, known)
        && !parsed.iter().flatten().any(|url| url.scheme() == "amqps")
    {
        reader.report(
            Diagnostic::error(
                "tls-unused",
                at.head,
                "`tls` is given, but the URL says `amqp://`, which is not encrypted",
            )
            .help("write `amqps://`, or remove `tls`"),
        );
    }
    vhosts(urls, &parsed, raw.vhost, reader);
    let login = login(raw, &parsed, reader)?;
    Some(AmqpConnection {
        urls: urls.value.0.iter().map(|at| at.value.0.secret.clone()).collect(),
        login,
        vhost,
        tls: tls.unwrap_or_default(),
    })
}

fn login(raw: &RawConnection<'_>, parsed: &[Option<Url>], reader: &mut Reader<'_>) -> Option<AmqpLogin> {
    let Some(auth) = raw.auth else {
        return Some(AmqpLogin::Password {
            username: raw.username.map(|at| at.value.0.secret.clone()),
            password: raw.password.map(|at| at.value.0.secret.clone()),
        });
    };
    match &auth.value {
        raw::AmqpAuth::External => {
            const LOGIN: &str = "with `auth: external` the client certificate is the login";
            // `cert` and `key` need each other anyway.
            if raw.tls.is_none_or(|tls| tls.value.cert.is_none() && tls.value.key.is_none()) {
                let message = "this login needs a client certificate, and there is none";
                let help = "add `cert:` and `key:` under `tls:`, as in `tls: { cert: client.pem, key: client.key }`";
                reader.report(Diagnostic::error("external-login", auth.span, message).help(help));
            }
            unused_credentials(raw, parsed, ("external-login", LOGIN), reader);
            let places = raw.url.into_iter().flat_map(|urls| &urls.value.0);
            for (at, _) in places.zip(parsed).filter(|(_, url)| url.as_ref().is_some_and(|url| url.scheme() == "amqp"))
            {
                let message = "this URL is not encrypted, so the broker gets no client certificate";
                reader.report(Diagnostic::error("external-login", at.span, message).help("write `amqps://`"));
            }
            Some(AmqpLogin::External)
        }
        raw::AmqpAuth::Token(login) => {
            const LOGIN: &str = "with `auth: { oauth2: … }` the access token is the login";
            unused_credentials(raw, parsed, ("oauth2-login", LOGIN), reader);
            let oauth2 = oauth2::oauth2(login.value.oauth2.as_ref()?, reader)?;
            Some(AmqpLogin::OAuth2(Box::new(oauth2)))
        }
    }
}

/// Reports a user name and a password beside another login. `login` is the code and the beginning of the message.
fn unused_credentials(
    raw: &RawConnection<'_>,
    parsed: &[Option<Url>],
    login: (&'static str, &str),
    reader: &mut Reader<'_>,
) {
    let (code, login) = login;
    for (what, at) in [("user name", raw.username), ("password", raw.password)] {
        if let Some(at) = at {
            let message = format!("{login}; this {what} is not used");
            reader.report(Diagnostic::error(code, at.span, message).help("remove it, or remove `auth`"));
        }
    }
    let places = raw.url.into_iter().flat_map(|urls| &urls.value.0);
    let has_login = |url: &Url| !url.username().is_empty() || url.password().is_some();
    for (at, _) in places.zip(parsed).filter(|(_, url)| url.as_ref().is_some_and(has_login)) {
        let message = format!("{login}; the user name and the password in this URL are not used");
        reader.report(Diagnostic::error(code, at.span, message).help("remove them, or remove `auth`"));
    }
}

/// Reports URLs with different virtual hosts, and ports that are not AMQP's.
fn vhosts(urls: &At<OneOrMany<UrlText>>, parsed: &[Option<Url>], vhost: Option<&At<Text>>, reader: &mut Reader<'_>) {
    let mut first: Option<(String, Span)> = None;
    for (at, url) in urls.value.0.iter().zip(parsed) {
        let Some(url) = url else { continue };
        if url.port().is_some_and(|port| MANAGEMENT_PORTS.contains(&port)) {
            reader.report(
                Diagnostic::warning(
                    "management-port",
                    at.span,
                    "this is the port of RabbitMQ's management, which uses HTTP",
                )
                .help(format!("by default, AMQP has port {} without TLS and port {} with TLS", PORTS.0, PORTS.1)),
            );
        }
        let own = vhost_of(url);
        match vhost {
            Some(vhost) if !own.is_empty() && own != vhost.value.text && !vhost.value.placeholder => reader.report(
                Diagnostic::error("two-vhosts", at.span, "this URL names another virtual host than `vhost:`")
                    .also(vhost.span, "the other one")
                    .help("keep one of the two"),
            ),
            None if url.path() == "/" => reader.report(
                Diagnostic::warning(
                    "empty-vhost",
                    at.span,
                    "this URL ends with `/`: the relay uses the virtual host `/`",
                )
                .help("leave the `/` out for the virtual host `/`, or write the name after it"),
            ),
            Some(_) | None => {}
        }
        if vhost.is_none() {
            let own = if own.is_empty() { "/".to_owned() } else { own };
            match &first {
                Some((known, place)) if *known != own => reader.report(
                    Diagnostic::error("two-vhosts", at.span, "the URLs of this list name different virtual hosts")
                        .also(*place, "the first one")
                        .help("the brokers of a list replace each other: write the same virtual host in every URL, or `vhost:` beside the list"),
                ),
                Some(_) => {}
                None => first = Some((own, at.span)),
            }
        }
    }
}

/// The percent-decoded virtual host of a URL; empty if it names none.
fn vhost_of(url: &Url) -> String {
    percent_decode_str(url.path().trim_start_matches('/')).decode_utf8_lossy().into_owned()
}

/// The virtual hosts that a connection may lead to.
pub(super) fn virtual_hosts(url: Option<&At<OneOrMany<UrlText>>>, vhost: Option<&str>) -> Vec<VirtualHost> {
    let Some(urls) = url else { return Vec::new() };
    let place = |at: &At<UrlText>| {
        let url = Url::parse(at.value.0.text.as_deref()?).ok()?;
        let own = vhost_of(&url);
        let vhost = match vhost {
            Some(vhost) => vhost.to_owned(),
            None if own.is_empty() => "/".to_owned(),
            None => own,
        };
        let port = url.port().unwrap_or(if url.scheme() == "amqps" { PORTS.1 } else { PORTS.0 });
        // Both ports lead to the same broker.
        let port = if port == PORTS.1 { PORTS.0 } else { port };
        Some(VirtualHost { host: url.host_str()?.to_lowercase(), port, vhost })
    };
    urls.value.0.iter().filter_map(place).collect()
}

fn url(at: &At<UrlText>, reader: &mut Reader<'_>) -> Option<Url> {
    let hidden = &at.value.0;
    let text = hidden.text.as_deref()?;
    if let Some(why) = address::ambiguous_broker_url(text) {
        let help = "write the user and the password as they are beside the URL, as `username:` and `password:`, or percent-encode them \
                    (`@` is `%40`, `/` is `%2F`, `%` is `%25`)";
        reader.report(
            Diagnostic::error("broker-url", at.span, format!("this URL can be read in two ways: {why}")).help(help),
        );
        return None;
    }
    let wrong =
        |message: String, help: &str| Some(Diagnostic::error("broker-url", at.span, message).help(help.to_owned()));
    let example = "write `amqp://HOST:PORT` or `amqps://HOST:PORT`";
    let parsed = Url::parse(text);
    let problem = match &parsed {
        Err(error) => Some(no_url("broker-url", at, *error, example)),
        Ok(url) if !matches!(url.scheme(), "amqp" | "amqps") => {
            wrong("the URL of a broker begins with `amqp://` or `amqps://`".to_owned(), example)
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => wrong("this URL names no host".to_owned(), example),
        Ok(url) if url.path().trim_start_matches('/').contains('/') => wrong(
            "a virtual host with a slash in it has to be written with `%2F` in a URL".to_owned(),
            "write `%2F`, or name it in `vhost:` as it is",
        ),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => wrong(
            "the relay sets the parameters of a connection itself".to_owned(),
            "remove the part from `?` or `#` on",
        ),
        Ok(_) => None,
    };
    if let Some(problem) = problem {
        reader.report(problem);
        return None;
    }
    let url = parsed.ok()?;
    // The password of RabbitMQ's default user is no secret.
    if hidden.in_clear && url.password().is_some_and(|password| password != "guest") {
        in_clear(reader, "the password in this URL", at.span);
    }
    Some(url)
}
