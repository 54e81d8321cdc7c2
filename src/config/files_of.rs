//! The files that a source or a sink names.

use std::path::PathBuf;

use super::files::NamedFiles;
use super::model::{AmqpConnection, OAuth2Config, Sasl, SinkKind, SourceKind, WebhookAuth, WebhookUrl};
use super::text::secret::Secret;
use crate::net::Tls;

impl SinkKind {
    /// The files that the sink's client reads. Content of files in its templates is part of the templates already.
    pub(super) fn files(&self) -> NamedFiles {
        let (secrets, tls, oauth2) = match self {
            Self::Kafka(kafka) => {
                let login = kafka.sasl.iter().flat_map(Sasl::secrets);
                let secrets = login.chain(kafka.options.iter().map(|(_, value)| value)).collect();
                (secrets, kafka.tls.as_ref(), kafka.oauth2())
            }
            Self::Webhook(webhook) => {
                let url = match &webhook.url {
                    WebhookUrl::Fixed { url, .. } => Some(url),
                    WebhookUrl::Templated { .. } => None,
                };
                let (auth, oauth2) = match &webhook.auth {
                    Some(WebhookAuth::Bearer(token)) => (vec![token], None),
                    Some(WebhookAuth::Basic { username, password }) => (vec![username, password], None),
                    Some(WebhookAuth::OAuth2(oauth2)) => (Vec::new(), Some(&**oauth2)),
                    None => (Vec::new(), None),
                };
                let all = url.into_iter().chain(&webhook.secrets).chain(auth).chain(&webhook.proxy);
                (all.collect(), Some(&webhook.tls), oauth2)
            }
            Self::Amqp(amqp) => of_connection(&amqp.connection),
            Self::File(_) | Self::Stdout => (Vec::new(), None, None),
        };
        named(&secrets, tls, oauth2)
    }
}

impl SourceKind {
    /// The files that the source's client reads. A recording is not one of them: it holds messages.
    pub(super) fn files(&self) -> NamedFiles {
        match self {
            Self::Amqp(amqp) => {
                let (secrets, tls, oauth2) = of_connection(&amqp.connection);
                named(&secrets, tls, oauth2)
            }
            Self::Recording(_) => NamedFiles::default(),
        }
    }
}

fn of_connection(connection: &AmqpConnection) -> (Vec<&Secret>, Option<&Tls>, Option<&OAuth2Config>) {
    let AmqpConnection { urls, login, vhost: _, tls } = connection;
    (urls.iter().chain(login.secrets()).collect(), Some(tls), connection.oauth2())
}

fn named(secrets: &[&Secret], tls: Option<&Tls>, oauth2: Option<&OAuth2Config>) -> NamedFiles {
    let of_tls = tls.into_iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten();
    let of_oauth2 = oauth2.into_iter().flat_map(OAuth2Config::key_files);
    let secrets = secrets.iter().copied().chain(oauth2.into_iter().flat_map(OAuth2Config::secrets));
    NamedFiles::read(secrets.flat_map(Secret::files).chain(of_tls.chain(of_oauth2).map(PathBuf::as_path)))
}
