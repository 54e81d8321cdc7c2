//! The addresses of channels and the hosts of servers, without credentials.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use url::Url;

use super::{key, set};
use crate::config::{AmqpConnection, Masks, STARS, Secret, WebhookUrl};
use crate::event::{Template, TemplatePart};
use crate::net::http::remove_user;

/// One of the servers that a channel is on.
pub(super) struct Server {
    pub protocol: String,
    /// Host and port; [`STARS`] if it is not known here.
    pub host: String,
    /// Null: none.
    pub bindings: Value,
}

impl Server {
    fn unknown(protocol: &str) -> Self {
        Self { protocol: protocol.to_owned(), host: STARS.to_owned(), bindings: Value::Null }
    }

    pub(super) fn key(&self) -> String {
        let host = if self.host == STARS { "unknown" } else { &self.host };
        format!("{}_{host}", self.protocol)
    }

    pub(super) fn into_value(self) -> Value {
        let mut value = json!({ "protocol": self.protocol, "host": self.host });
        if self.host == STARS {
            set(&mut value, "description", json!("The address is in a variable or file that is missing here."));
        }
        set(&mut value, "bindings", self.bindings);
        value
    }
}

pub(super) fn of_broker(url: &Secret) -> Server {
    let known = parsed(url).and_then(|url| Some(Server { host: host(&url)?, ..Server::unknown(url.scheme()) }));
    known.unwrap_or_else(|| Server::unknown("amqp"))
}

/// The virtual host of the configuration, or that of the first URL.
pub(in crate::cli) fn vhost(connection: &AmqpConnection) -> String {
    if let Some(vhost) = &connection.vhost {
        return vhost.clone();
    }
    let url = connection.urls.first().and_then(parsed);
    let path = url.as_ref().map_or("", |url| url.path().trim_start_matches('/'));
    let vhost = percent_decode_str(path).decode_utf8_lossy().into_owned();
    if vhost.is_empty() { "/".to_owned() } else { vhost }
}

/// The URL of a registry without its login.
pub(super) fn of_registry(url: &Secret) -> Option<String> {
    let mut url = parsed(url)?;
    remove_user(&mut url);
    url.set_query(None);
    url.set_fragment(None);
    Some(url.to_string())
}

/// Whoever knows the path of some webhooks can post to them: a path that is not written in the file is not shown, and a query never.
pub(super) fn of_webhook(url: &WebhookUrl, masks: &Masks) -> (Server, Address) {
    let (shown, path) = match url {
        WebhookUrl::Fixed { shown, .. } => (shown, None),
        WebhookUrl::Templated { origin, path } => (origin, Some(path)),
    };
    let Some(url) = Url::parse(shown).ok() else { return (Server::unknown("https"), Address::fixed(STARS)) };
    let server = match host(&url) {
        Some(host) => Server { host, ..Server::unknown(url.scheme()) },
        None => Server::unknown(url.scheme()),
    };
    let mut address = match path {
        Some(path) => Address::of("path", path, |_| STARS.to_owned()),
        None => Address::fixed(url.path()),
    };
    address.text = masks.apply(address.text.split('?').next().unwrap_or_default());
    let Address { text, parameters } = &mut address;
    parameters.retain(|name, _| text.contains(&format!("{{{name}}}")));
    (server, address)
}

/// The files that it names are read: without them, nothing of it is known.
fn parsed(url: &Secret) -> Option<Url> {
    Url::parse(url.reveal().ok()?.trim()).ok()
}

fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// The address of a channel, with a parameter in the place of each expression of its template.
#[derive(Debug, PartialEq)]
pub(super) struct Address {
    text: String,
    parameters: Map<String, Value>,
}

impl Address {
    pub(super) fn fixed(text: &str) -> Self {
        Self { text: text.to_owned(), parameters: Map::new() }
    }

    pub(super) fn of_topic(template: &Template) -> Self {
        Self::of("topic", template, str::to_owned)
    }

    pub(super) fn of_routing_key(template: &Template) -> Self {
        Self::of("routing_key", template, str::to_owned)
    }

    /// `what` names the parameter for a template that is more than texts and expressions; `inserted` shows the text of a `${…}`.
    fn of(what: &str, template: &Template, inserted: impl Fn(&str) -> String) -> Self {
        let mut address = Self::fixed("");
        let Some(parts) = template.parts() else {
            address.push(what, "The result of a template with conditions");
            return address;
        };
        for part in parts {
            match part {
                TemplatePart::Text(text) => address.text.push_str(text.trim_end_matches(['\r', '\n'])),
                TemplatePart::Inserted(text) => address.text.push_str(&inserted(text)),
                TemplatePart::Expression(expression) => {
                    address.push(&first_name(expression), &format!("`{expression}` of the event"));
                }
            }
        }
        address
    }

    /// Adds an expression: the parameter of that name and description, or a new one.
    fn push(&mut self, name: &str, description: &str) {
        let parameter = super::put(&mut self.parameters, name, json!({ "description": description }));
        self.text.extend(["{", &parameter, "}"]);
    }

    /// Says where the messages have the parameter that is a field of the event, if the address has it.
    pub(super) fn locate(&mut self, field: &str, location: &str) {
        let description = format!("`{field}` of the event");
        if let Some(parameter) = self.parameters.get_mut(field).filter(|known| known["description"] == description) {
            set(parameter, "location", json!(location));
        }
    }

    pub(super) fn write(self, channel: &mut Value) {
        set(channel, "address", json!(self.text));
        if !self.parameters.is_empty() {
            set(channel, "parameters", Value::Object(self.parameters));
        }
    }
}

/// The first name in an expression.
fn first_name(expression: &str) -> String {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let name: String =
        expression.chars().skip_while(|char| !is_part(*char)).take_while(|char| is_part(*char)).collect();
    if name.is_empty() { "value".to_owned() } else { key(&name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{EventSchema, Fragment};

    fn shown(template: &Template) -> (String, String) {
        let Address { text, parameters } = Address::of_topic(template);
        (text, Value::Object(parameters).to_string())
    }

    #[test]
    fn an_expression_is_a_parameter_named_by_its_first_name() {
        let of = |source: &str| shown(&Template::compile(source).unwrap());
        assert_eq!(of("fixed"), ("fixed".to_owned(), "{}".to_owned()));
        assert_eq!(
            of("a.{{ tenant }}.{{tenant}}.{{ tenant | lower }}"),
            (
                "a.{tenant}.{tenant}.{tenant_2}".to_owned(),
                r#"{"tenant":{"description":"`tenant` of the event"},"tenant_2":{"description":"`tenant | lower` of the event"}}"#
                    .to_owned()
            )
        );
        assert_eq!(of("{{ headers['regards.tenant'] }}").0, "{headers}");
        assert_eq!(of("{{ 'x' ~ (status ~ '.') }}").0, "{x}");
        assert_eq!(of("{% if session %}a{% else %}b{% endif %}").0, "{topic}");
    }

    #[test]
    fn the_text_of_a_variable_is_no_expression() {
        let fragments = [Fragment::inserted("{{ x }}"), Fragment::written(".{{ status }}")];
        let template = Template::compile_fragments(&fragments, EventSchema::Event).unwrap();
        assert_eq!(shown(&template).0, "{{ x }}.{status}");
        assert_eq!(Address::of("path", &template, |_| STARS.to_owned()).text, "***.{status}");
    }

    #[test]
    fn a_webhook_shows_no_query_and_no_secret() {
        let path = Template::compile("/in/{{ tenant }}?key=abc&x={{ status }}").unwrap();
        let url = WebhookUrl::Templated { origin: "https://example.org:8443".to_owned(), path };
        let (server, address) = of_webhook(&url, &Masks::default());
        assert_eq!((server.protocol.as_str(), server.host.as_str()), ("https", "example.org:8443"));
        assert_eq!(address.text, "/in/{tenant}");
        assert_eq!(address.parameters.keys().collect::<Vec<_>>(), ["tenant"]);
        let fragments = [Fragment::inserted("/s3cret/"), Fragment::written("{{ tenant }}")];
        let path = Template::compile_fragments(&fragments, EventSchema::Event).unwrap();
        let url = WebhookUrl::Templated { origin: "https://example.org".to_owned(), path };
        assert_eq!(of_webhook(&url, &Masks::default()).1.text, "***{tenant}");
        let shown = "https://example.org/***".to_owned();
        let url = WebhookUrl::Fixed { url: Secret::text("https://u:p@example.org/s3cret?a"), shown };
        assert_eq!(of_webhook(&url, &Masks::default()).1, Address::fixed("/***"));
    }

    #[test]
    fn servers_have_no_credentials() {
        let server = of_broker(&Secret::text("amqps://user:pa%2Fss@broker.example.org:5671/v%2Fh"));
        assert_eq!(
            (server.key().as_str(), server.host.as_str()),
            ("amqps_broker.example.org:5671", "broker.example.org:5671")
        );
        assert_eq!(of_broker(&Secret::text("")).into_value()["host"], STARS);
        let registry = of_registry(&Secret::text("https://u:p@registry.example.org/apis/ccompat/v7?k=v"));
        assert_eq!(registry.as_deref(), Some("https://registry.example.org/apis/ccompat/v7"));
    }
}
