//! `headers:` of a sink: what they must not show, and the rules of Kafka and AMQP. HTTP's rules are checked with the webhook.

use super::common::{in_clear, template};
use crate::config::text::decode::{At, NamedEntries};
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::mask;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::config::text::words::clean;
use crate::event::{MAX_SHORT_STRING, RELAY_HEADER_PREFIX, Template, is_broker_header, is_relay_header};

/// `of_amqp`: whether a broker may act on some of the names.
pub(super) fn headers(
    at: Option<&At<NamedEntries<Text>>>,
    of_amqp: bool,
    reader: &mut Reader<'_>,
) -> Vec<(String, Template)> {
    let mut headers = Vec::new();
    for (key, value) in at.into_iter().flat_map(|at| &at.value.0) {
        let name = &key.text;
        let wrong = if name.is_empty() || name.len() > MAX_SHORT_STRING || name.chars().any(char::is_control) {
            Some((
                format!("`{}` can't be the name of a header", clean(name)),
                format!("write 1 to {MAX_SHORT_STRING} bytes of text without control characters"),
            ))
        } else if is_relay_header(name) {
            let message =
                format!("the header `{name}` can't be set here: the relay sets those with `{RELAY_HEADER_PREFIX}`");
            Some((message, "choose another name".to_owned()))
        } else if of_amqp && is_broker_header(name) {
            let message =
                format!("the header `{name}` can't be set here: `CC`, `BCC` and `x-…` are instructions to the broker");
            Some((message, "choose another name; `routing_key` decides where a message goes".to_owned()))
        } else {
            None
        };
        if let Some((message, help)) = wrong {
            reader.report(Diagnostic::error("header-name", key.span, message).help(help));
            continue;
        }
        if mask::is_secret(name) && !value.value.inserted {
            in_clear(reader, "the value of this header", value.span);
        }
        headers.extend(template(reader, value).map(|template| (name.clone(), template)));
    }
    headers
}

/// The texts in headers that must not be shown: inserted values, and the values of headers whose name suggests a secret.
pub(super) fn masked(at: Option<&At<NamedEntries<Text>>>) -> impl Iterator<Item = &str> {
    let values = at.into_iter().flat_map(|at| &at.value.0).flat_map(|(name, value)| {
        let in_clear = mask::is_secret(&name.text).then_some(&value.value.text);
        value.value.values.iter().chain(in_clear)
    });
    values.map(String::as_str)
}
