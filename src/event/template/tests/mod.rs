//! Templates for addresses, headers and bodies.

mod addresses;
mod digests;
mod generated;
mod mistakes;
mod values;

use super::*;
use crate::event::fixtures::{message, with_event};
use crate::event::{DeadLetterInfo, Event, Reason};

fn compile(source: &str) -> Template {
    Template::compile(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn render(source: &str) -> String {
    with_event(|view| compile(source).render(view)).unwrap_or_else(|error| format!("error: {error}"))
}

fn is_plain(source: &str) -> bool {
    matches!(compile(source).0.program, Program::Simple(_))
}

#[test]
fn templates_of_dead_letters_have_their_own_names() {
    let compile = |source| Template::compile_for(source, EventSchema::DeadLetter);
    let (all, with_defaults) =
        ("{{ reason }} {{ source }} {{ sink }} {{ tenant }}", "{{ sink | default('-') }} {{ tenant | default('-') }}");
    assert_eq!(compile(all).unwrap().nullable(), ["sink", "tenant"]);
    assert_eq!(compile(with_defaults).unwrap().nullable(), [""; 0]);
    let render = |sink, tenant: &str, source| {
        let death =
            DeadLetterInfo { number: 1, reason: Reason::TooDeep, detail: "", sink, attempts: 0, at: String::new() };
        let message = message("[").with_dead_letter_headers(&death);
        let event = Event::of_dead_letter(&message, &tenant.into(), uuid::Uuid::nil());
        compile(source).unwrap().render(EventView::of_dead_letter_copy(&event, &message)).unwrap()
    };
    assert_eq!(render(Some("hook"), "esa", all), "too_deep regards hook esa");
    assert_eq!(render(Some("hook"), "esa", with_defaults), "hook esa");
    assert_eq!(render(None, "", all), "too_deep regards  ");
    assert_eq!(render(None, "", with_defaults), "- -");
    for source in ["{{ status }}", "{{ id | upper }}", "{{ headers.x }}", "{{ properties.type }}", "{{ warnings }}"] {
        compile(source).expect_err(source);
    }
    Template::compile("{{ reason }}").expect_err("an event has no reason");
}

#[test]
fn only_a_template_without_expressions_is_fixed() {
    assert_eq!(compile("orders").fixed(), Some("orders"));
    assert_eq!(compile("").fixed(), Some(""));
    assert_eq!(compile("a {b} }} c\n").fixed(), Some("a {b} }} c"));
    assert_eq!(compile("{{ tenant }}").fixed(), None);
    assert_eq!(compile("{{ 'a' }}").fixed(), None);
}

#[test]
fn a_template_does_not_show_its_source() {
    assert_eq!(format!("{:?}", compile("Bearer s3cr3t")), "Template(…)");
}

#[test]
fn templates_can_be_sent_between_threads() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Template>();
}

#[test]
fn most_templates_are_simple() {
    for source in ["regards.{{ tenant }}", "{{correlationId}}", "archive/{{ tenant }}/{{ status }}.ndjson", "x", ""] {
        assert!(is_plain(source), "{source}");
    }
    for source in ["{{ tenant | upper }}", "{{- tenant }}", "{# #}", "{{ extra.x }}"] {
        assert!(!is_plain(source), "{source}");
    }
}
