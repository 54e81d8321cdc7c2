//! The key `registry:` of a format with a schema.

use super::common::{address_template, in_clear};
use super::{tls, webhook};
use crate::config::model::RegistryConfig;
use crate::config::raw::{self, FormatChoice, SchemaFormats};
use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::UrlText;
use crate::event::Template;

/// The default subject of a schema, as that of Confluent's serializers.
const SUBJECT: &str = "{{ topic }}-value";

/// There are mistakes, which were reported.
pub(super) struct Mistakes;

/// The registry of the sink's format, if it has one.
pub(super) fn registry(raw: &raw::Sink, reader: &mut Reader<'_>) -> Result<Option<RegistryConfig>, Mistakes> {
    let Some(FormatChoice::Schema(formats)) = raw.format.as_ref().map(|format| &format.value) else {
        return Ok(None);
    };
    let SchemaFormats { avro, json_schema, protobuf } = &**formats;
    let mut settings = [avro, json_schema, protobuf].into_iter().flatten();
    let Some(at) = settings.find_map(|settings| settings.value.registry.as_ref()) else { return Ok(None) };
    if raw.kafka.is_none() {
        reader.report(
            Diagnostic::error(
                "registry-without-kafka",
                at.head,
                "only the records of a `kafka` sink name a schema in a registry",
            )
            .help("remove `registry`: the body is then encoded by the schema, without a prefix"),
        );
        return Err(Mistakes);
    }
    let of_event = reader.schema.clone();
    reader.schema = of_event.clone().of_record();
    let subject = match &at.value.subject {
        Some(subject) => address_template(reader, subject),
        None => Template::compile_for(SUBJECT, reader.schema.clone()).ok(),
    };
    reader.schema = of_event;
    let url = at.value.url.as_ref();
    let is_url = url.is_some_and(|url| check_url(url, reader));
    let auth = match &at.value.auth {
        Some(auth) => Some(webhook::auth(auth, reader).ok_or(Mistakes)?),
        None => None,
    };
    let tls = at.value.tls.as_ref().map(|at| tls::tls(at, true, reader)).unwrap_or_default();
    Ok(Some(RegistryConfig {
        url: url.filter(|_| is_url).ok_or(Mistakes)?.value.0.secret.clone(),
        subject: subject.ok_or(Mistakes)?,
        register: at.value.register.as_ref().is_some_and(|register| register.value.0),
        auth,
        tls,
    }))
}

fn check_url(at: &At<UrlText>, reader: &mut Reader<'_>) -> bool {
    let Some(text) = &at.value.0.text else { return true };
    let Some(url) = webhook::address(at, text, "registry", &[], reader) else { return false };
    if at.value.0.in_clear && url.password().is_some() {
        in_clear(reader, "the password in this URL", at.span);
    }
    if url.query().is_some() || url.fragment().is_some() {
        reader.report(
            Diagnostic::error("url", at.span, "the URL of a registry has no `?` and no `#`")
                .help("write where the API begins, as in `https://HOST/apis/ccompat/v7`"),
        );
        return false;
    }
    true
}
