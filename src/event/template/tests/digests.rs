//! Templates of digests.

use super::*;
use crate::event::fixtures::with_body;

/// The digest of two events, grouped by tenant and session.
fn digest(source: &str) -> Result<String, TemplateError> {
    let template = Template::compile_for(source, EventSchema::Event.grouped(&["tenant", "session"]))?;
    with_body(r#"{"correlationId":"c-1","responseStatus":"ERROR","message":"a \"b\"","n":1e999}"#, |one| {
        with_body(r#"{"correlationId":"c-2","responseStatus":"DENIED","session":"s","n":7}"#, |other| {
            let events = [one, other];
            let envelope = crate::event::DigestEnvelope::of(&events, &["tenant", "session"]).unwrap();
            template.render(envelope.view(&events))
        })
    })
}

#[test]
fn templates_of_digests_see_the_events_their_count_and_the_common_fields() {
    let text = |source| digest(source).unwrap();
    assert_eq!(text("{{ count }} of {{ tenant }}{{ session }}"), "2 of cnes-a");
    assert_eq!(
        text("{% for event in events %}{{ event.correlationId }} {{ event.message }}, {% endfor %}"),
        "c-1 a \"b\", c-2 , "
    );
    assert_eq!(
        text("{{ events[1].headers[\"regards.tenant\"] }} {{ events[1].properties.timestamp }}"),
        "cnes-a 1681461977"
    );
    assert_eq!(
        text("{% set all %}{% for event in events[:1] %}{{ event.status }}{% endfor %}{% endset %}{{ all }}"),
        "ERROR"
    );
    assert_eq!(text("{% if count > 1 %}… and {{ count - 1 }} more{% endif %}"), "… and 1 more");
    assert_eq!(text("{{ events | map(attribute='extra') | list | tojson }}"), r#"[{"n": 1e999}, {"n": 7}]"#);
    let whole: serde_json::Value = serde_json::from_str(&text("{{ events[1] | tojson }}")).unwrap();
    assert_eq!(whole["correlationId"], "c-2");
    assert_eq!(whole.as_object().unwrap().len(), 14, "as the event, without headers and properties");
}

#[test]
fn templates_of_digests_have_no_fields_of_one_event() {
    let error = |source| digest(source).unwrap_err().to_string();
    assert_eq!(
        error("{{ message }}"),
        "a digest has several events, which may differ in message: write {% for event in events %}{{ event.message }}{% endfor %}, or add \
         it to `by:`"
    );
    assert_eq!(error("{{ event }}"), "there is no event; did you mean events?");
    assert_eq!(
        error("{% for event in events %}{{ event.mesage }}{% endfor %}"),
        "there is no mesage in an event of `events`; did you mean message?"
    );
    assert_eq!(error("{{ events.message }}"), "events is a list and has no member message");
}

#[test]
fn a_part_of_a_text_is_rendered() {
    with_event(|view| {
        let template = Template::compile("{{ message[:1] }}{{ correlationId[2:] | upper }}").unwrap();
        assert_eq!(template.render(view).unwrap(), "a1 É");
    });
}
