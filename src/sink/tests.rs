//! Values inserted by `${…}` into topics, URLs, headers and bodies are sent unchanged, whatever braces and quotes they have.

use std::path::Path;

use super::{Destination, MaskedDelivery, RenderedDelivery, render};
use crate::config::{Config, Options, Strictness};
use crate::event::{Event, EventView, Header, HeaderValue, SourceName, sample};

/// The delivery of an event for that sink, as `explain` shows it, and as it is sent.
fn rendered(sink: &str, variables: &[(&str, &str)]) -> (MaskedDelivery, RenderedDelivery) {
    let text = format!(
        "version: 1\nsources: {{ regards: {{ amqp: {{ url: amqp://h, queue: q }} }} }}\nunrouted: drop\nroutes: [{{ name: all, to: out }}]\nsinks:\n  out:\n{}",
        sink.lines().flat_map(|line| ["    ", line, "\n"]).collect::<String>()
    );
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let options =
        Options { strictness: Strictness::Run, variables, data_dir: "/data".into(), host: "machine".to_owned() };
    let (config, _) = Config::parse(&text, Path::new("routes.yaml"), &options).unwrap();
    let message = sample::parse(
        r#"{"properties":{"headers":{"regards.tenant":"esa"}},"body":{"correlationId":"c-1","responseStatus":"ERROR"}}"#,
        &SourceName::new("regards"),
    )
    .unwrap();
    let event = Event::decode(&message, &config.sources[0].decode_options).unwrap();
    let view = EventView::of(&event, &message);
    let outgoing = render(&config.sinks[0], view, None).unwrap();
    (outgoing.masked(&config.sinks[0]), outgoing)
}

#[test]
fn an_inserted_value_is_text_and_never_a_template() {
    let tricky = r#"a{{ tenant }}{% if x %}{# "b" #}{{ nothing_of_that_name }}'\c{"#;
    let sink = "webhook:\n  url: 'https://h/p/${V}/{{ tenant }}'\n  headers: { X-Whole: '${V}', X-Part: 'key={${V}} {{ tenant }}', X-Raw: '{% raw %}{{${V}{% endraw %}', X-Last: '${V}{{ status }}{# ${V} #}' }\nbody: '{\"a\": {{ (\"x${V}y\" ~ tenant) | tojson }}, \"b\": {{ \"${V}\" | length }}}'";
    let (shown, outgoing) = rendered(sink, &[("V", tricky)]);
    let header = |headers: &[Header], name: &str| {
        let (_, value) = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).expect("a header");
        match value {
            HeaderValue::Text(text) => text.clone(),
            other => panic!("{other:?}"),
        }
    };
    for (name, is, is_shown) in [
        ("x-whole", tricky.to_owned(), "***".to_owned()),
        ("x-part", format!("key={{{tricky}}} esa"), "key={***} esa".to_owned()),
        ("x-raw", format!("{{{{{tricky}"), "{{***".to_owned()),
        ("x-last", format!("{tricky}ERROR"), "***ERROR".to_owned()),
    ] {
        assert_eq!(header(&outgoing.headers, name), is);
        assert_eq!(header(&shown.headers, name), is_shown);
    }
    let body: serde_json::Value = serde_json::from_slice(&outgoing.body).unwrap();
    assert_eq!(body, serde_json::json!({"a": format!("x{tricky}yesa"), "b": tricky.chars().count()}));
    assert!(!shown.body.contains("nothing_of_that_name"), "{}", shown.body);
    let Destination::Webhook { url: Some(url) } = &outgoing.destination else { panic!() };
    assert!(
        url.as_str().starts_with("https://h/p/a%7B%7B%20tenant%20%7D%7D") && url.as_str().ends_with("/esa"),
        "{url}"
    );

    // In places without expressions.
    for (text, value) in [("stdout: {}\nbody: \"${V}\"", tricky), ("stdout: {}\nbody: ${V}", "{{ 1 / 0 }}")] {
        assert_eq!(rendered(text, &[("V", value)]).1.body.as_ref(), value.as_bytes());
    }
    let path = "file: { path: \"a/${V}/{{ tenant }}\" }";
    let Destination::File { path } = rendered(path, &[("V", "{{ status }}")]).1.destination else { panic!() };
    assert!(path.ends_with("a/{{ status }}/esa"), "{path:?}");
}
