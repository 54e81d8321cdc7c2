//! Which headers go out with an event: ours, and those of the source that may go along. One place for all sinks.

use crate::event::{Event, Format, Header, HeaderValue, Message};
use crate::rules::Glob;

/// The source's headers always passed on: what a trace is followed by.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];
/// Java's class name of the body: Spring consumers instantiate it, so it goes only with the body it belongs to.
const TYPE_ID: &str = "__TypeId__";
/// What our own headers begin with.
const OURS: &str = "regards-relay-";

/// Our headers on Kafka and AMQP.
pub(super) fn ours(event: &Event) -> Vec<Header> {
    let text = |name: &str, value: &str| (format!("{OURS}{name}"), HeaderValue::Text(value.to_owned()));
    vec![
        text("id", &event.id.to_string()),
        text("type", event.kind),
        text("tenant", &event.tenant),
        text("status", event.status),
    ]
}

/// The headers of `message` that go along: all with `format: original`, else those that `keep` lists; the trace's always;
/// never the ones that belong to the broker, to another relay, or to a body that is no longer there.
pub(super) fn kept<'a>(message: &'a Message, format: &'a Format, keep: &'a [Glob]) -> impl Iterator<Item = &'a Header> {
    let original = matches!(format, Format::Original);
    message.properties.headers.iter().filter(move |(name, _)| {
        TRACE.contains(&name.as_str())
            || (!forbidden(name, original) && (original || keep.iter().any(|glob| glob.matches(name))))
    })
}

/// `CC` and `BCC` would make a broker route copies; `x-` belongs to the broker; ours are set anew.
fn forbidden(name: &str, original: bool) -> bool {
    let lower = name.to_ascii_lowercase();
    lower == "cc"
        || lower == "bcc"
        || lower.starts_with("x-")
        || lower.starts_with(OURS)
        || (name == TYPE_ID && !original)
}
