//! The files that a source or a sink names.

use std::path::PathBuf;

use super::files::NamedFiles;
use super::model::{AmqpConnection, SinkKind, SourceKind, WebhookAuth, WebhookUrl};
use super::text::secret::Secret;
use crate::net::Tls;

impl SinkKind {
    /// The files that the sink's client reads. Content of files in its templates is part of the templates already.
    pub(super) fn files(&self) -> NamedFiles {
        let (secrets, tls) = match self {
            Self::Kafka(kafka) => {
                let login = kafka.sasl.iter().flat_map(|sasl| [&sasl.username, &sasl.password]);
                (login.chain(kafka.options.iter().map(|(_, value)| value)).collect(), kafka.tls.as_ref())
            }
            Self::Webhook(webhook) => {
                let url = match &webhook.url {
                    WebhookUrl::Fixed { url, .. } => Some(url),
                    WebhookUrl::Templated { .. } => None,
                };
                let auth = match &webhook.auth {
                    Some(WebhookAuth::Bearer(token)) => vec![token],
                    Some(WebhookAuth::Basic { username, password }) => vec![username, password],
                    None => Vec::new(),
                };
                let all = url.into_iter().chain(&webhook.secrets).chain(auth).chain(&webhook.proxy);
                (all.collect(), Some(&webhook.tls))
            }
            Self::Amqp(amqp) => of_connection(&amqp.connection),
            Self::File(_) | Self::Stdout => (Vec::new(), None),
        };
        named(&secrets, tls)
    }
}

impl SourceKind {
    /// The files that the source's client reads. A recording is not one of them: it holds messages.
    pub(super) fn files(&self) -> NamedFiles {
        match self {
            Self::Amqp(amqp) => {
                let (secrets, tls) = of_connection(&amqp.connection);
                named(&secrets, tls)
            }
            Self::Recording(_) => NamedFiles::default(),
        }
    }
}

fn of_connection(connection: &AmqpConnection) -> (Vec<&Secret>, Option<&Tls>) {
    let AmqpConnection { urls, username, password, vhost: _, tls } = connection;
    (urls.iter().chain(username).chain(password).collect(), Some(tls))
}

fn named(secrets: &[&Secret], tls: Option<&Tls>) -> NamedFiles {
    let of_tls = tls.into_iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten();
    NamedFiles::read(secrets.iter().flat_map(|secret| secret.files()).chain(of_tls.map(PathBuf::as_path)))
}
