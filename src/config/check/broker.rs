//! How to reach an AMQP broker: what a source and a sink have in common.

use url::Url;

use super::common::{in_clear, no_url};
use super::tls;
use crate::config::decode::{At, OneOrMany};
use crate::config::diagnostic::Diagnostic;
use crate::config::model::AmqpConnection;
use crate::config::raw;
use crate::config::reader::Reader;
use crate::config::scalar::{SecretText, Text, UrlText};

/// AMQP's ports, without and with TLS.
const PORTS: (u16, u16) = (5672, 5671);

/// What is written about a broker.
pub(super) struct Raw<'a> {
    pub url: Option<&'a At<OneOrMany<UrlText>>>,
    pub username: Option<&'a At<SecretText>>,
    pub password: Option<&'a At<SecretText>>,
    pub vhost: Option<&'a At<Text>>,
    pub tls: Option<&'a At<raw::Tls>>,
}

/// Where a connection leads, as far as that can be told from the file: the same broker has the same value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    host: String,
    port: u16,
    vhost: String,
}

pub(super) fn connection(raw: &Raw<'_>, reader: &mut Reader<'_>) -> Option<AmqpConnection> {
    let tls = raw.tls.map(|at| tls::tls(at, true, reader));
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
    Some(AmqpConnection {
        urls: urls.value.0.iter().map(|at| at.value.0.secret.clone()).collect(),
        username: raw.username.map(|at| at.value.0.secret.clone()),
        password: raw.password.map(|at| at.value.0.secret.clone()),
        vhost,
        tls: tls.unwrap_or_default(),
    })
}

/// The places a connection may lead to.
pub(super) fn places(url: Option<&At<OneOrMany<UrlText>>>, vhost: Option<&str>) -> Vec<Place> {
    let Some(urls) = url else { return Vec::new() };
    let place = |at: &At<UrlText>| {
        let url = Url::parse(at.value.0.text.as_deref()?).ok()?;
        let path = url.path().trim_start_matches('/').to_owned();
        let vhost = match vhost {
            Some(vhost) => vhost.to_owned(),
            None if path.is_empty() => "/".to_owned(),
            None => path.replace("%2F", "/").replace("%2f", "/"),
        };
        let port = url.port().unwrap_or(if url.scheme() == "amqps" { PORTS.1 } else { PORTS.0 });
        // 5671 and 5672 are two doors to one broker.
        let port = if port == PORTS.1 { PORTS.0 } else { port };
        Some(Place { host: url.host_str()?.to_lowercase(), port, vhost })
    };
    urls.value.0.iter().filter_map(place).collect()
}

fn url(at: &At<UrlText>, reader: &mut Reader<'_>) -> Option<Url> {
    let hidden = &at.value.0;
    let text = hidden.text.as_deref()?;
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
            "remove what begins with `?` or `#`",
        ),
        Ok(_) => None,
    };
    if let Some(problem) = problem {
        reader.report(problem);
        return None;
    }
    let url = parsed.ok()?;
    // RabbitMQ's own first user has a password that everybody knows.
    if hidden.in_clear && url.password().is_some_and(|password| password != "guest") {
        in_clear(reader, "the password in this URL", at.span);
    }
    Some(url)
}
