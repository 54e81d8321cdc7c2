//! The files that a source or a sink names.

use std::path::PathBuf;

use super::files::NamedFiles;
use super::model::{AmqpConnection, OAuth2Config, RegistryConfig, Sasl, SinkKind, SourceKind, WebhookAuth, WebhookUrl};
use super::text::secret::Secret;
use crate::net::Tls;

impl SinkKind {
    /// The files that the sink's client reads. Content of files in its templates is part of the templates already.
    pub(super) fn files(&self) -> NamedFiles {
        let named = match self {
            Self::Kafka(kafka) => {
                let login = kafka.sasl.iter().flat_map(Sasl::secrets);
                let options = kafka.options.iter().map(|(_, value)| value);
                let mut named = Named { secrets: login.chain(options).collect(), ..Named::default() };
                named.tls.extend(&kafka.tls);
                named.oauth2.extend(kafka.oauth2());
                named.keytab = kafka.sasl.as_ref().and_then(Sasl::keytab);
                if let Some(registry) = &kafka.registry {
                    named.add_registry(registry);
                }
                named
            }
            Self::Webhook(webhook) => {
                let url = match &webhook.url {
                    WebhookUrl::Fixed { url, .. } => Some(url),
                    WebhookUrl::Templated { .. } => None,
                };
                let mut named = Named { tls: vec![&webhook.tls], ..Named::default() };
                named.secrets = url.into_iter().chain(&webhook.secrets).chain(&webhook.proxy).collect();
                named.add_auth(webhook.auth.as_ref());
                named
            }
            Self::Amqp(amqp) => Named::by_connection(&amqp.connection),
            Self::File(_) | Self::Stdout => Named::default(),
        };
        named.read()
    }
}

impl SourceKind {
    /// The files that the source's client reads. A recording is not one of them: it holds messages.
    pub(super) fn files(&self) -> NamedFiles {
        match self {
            Self::Amqp(amqp) => Named::by_connection(&amqp.connection).read(),
            Self::Recording(_) => NamedFiles::default(),
        }
    }
}

/// What a client reads files for.
#[derive(Default)]
struct Named<'a> {
    secrets: Vec<&'a Secret>,
    tls: Vec<&'a Tls>,
    oauth2: Vec<&'a OAuth2Config>,
    keytab: Option<&'a PathBuf>,
}

impl<'a> Named<'a> {
    fn by_connection(connection: &'a AmqpConnection) -> Self {
        let AmqpConnection { urls, login, vhost: _, tls } = connection;
        let oauth2 = connection.oauth2().into_iter().collect();
        Self { secrets: urls.iter().chain(login.secrets()).collect(), tls: vec![tls], oauth2, keytab: None }
    }

    fn add_registry(&mut self, registry: &'a RegistryConfig) {
        let RegistryConfig { url, subject: _, register: _, auth, tls } = registry;
        self.secrets.push(url);
        self.tls.push(tls);
        self.add_auth(auth.as_ref());
    }

    fn add_auth(&mut self, auth: Option<&'a WebhookAuth>) {
        match auth {
            Some(WebhookAuth::Bearer(token)) => self.secrets.push(token),
            Some(WebhookAuth::Basic { username, password }) => self.secrets.extend([username, password]),
            Some(WebhookAuth::OAuth2(oauth2)) => self.oauth2.push(oauth2),
            None => {}
        }
    }

    fn read(self) -> NamedFiles {
        let of_tls = self.tls.iter().flat_map(|tls| [&tls.ca, &tls.cert, &tls.key]).flatten();
        let of_oauth2 = self.oauth2.iter().flat_map(|oauth2| oauth2.key_files());
        let secrets = self.secrets.into_iter().chain(self.oauth2.iter().flat_map(|oauth2| oauth2.secrets()));
        let keys = of_tls.chain(of_oauth2).chain(self.keytab);
        NamedFiles::read(secrets.flat_map(Secret::files).chain(keys.map(PathBuf::as_path)))
    }
}
