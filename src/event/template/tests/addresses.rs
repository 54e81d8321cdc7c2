//! Addresses, URLs and keys, where null has a meaning of its own.

use expect_test::expect;

use super::*;

fn address(source: &str) -> String {
    with_event(|view| compile(source).render_address(view)).unwrap_or_else(|error| format!("error: {error}"))
}

fn url(source: &str) -> String {
    with_event(|view| compile(source).render_url(view)).unwrap_or_else(|error| format!("error: {error}"))
}

fn key(source: &str) -> Option<String> {
    with_event(|view| compile(source).render_key(view)).expect("the template renders")
}

#[test]
fn null_in_an_address_is_an_error() {
    let mut lines = Vec::new();
    for source in [
        "a.{{ session }}",
        "a.{{ tenant ~ session }}",
        "a.{{ session | upper }}",
        "a.{{ extra.deep.nothing }}",
        "a.{{ extra.nothing.at.all }}",
        "a.{{ headers['x.y'] }}",
        "a.{{ properties.message_id }}",
        "a.{{ 'x' if session }}",
        "a.{{ none }}",
        "a.{{ session or none }}",
        "a.{{ session | default('other') }}",
        "a.{{ session or 'other' }}",
        "a.{% if session %}{{ session }}{% else %}other{% endif %}",
        "a.{{ headers['regards.tenant'] }}.{{ properties.priority }}",
        "a.{{ productId }}",
    ] {
        lines.push(format!("{source} -> {}", address(source)));
    }
    expect![[r#"
        a.{{ session }} -> error: session is null for this event; to use another value then, write {{ session | default("…") }}
        a.{{ tenant ~ session }} -> error: session is null for this event; to use another value then, write {{ session | default("…") }}
        a.{{ session | upper }} -> error: session is null for this event; to use another value then, write {{ session | default("…") }}
        a.{{ extra.deep.nothing }} -> error: extra.deep.nothing is null for this event; to use another value then, write {{ extra.deep.nothing | default("…") }}
        a.{{ extra.nothing.at.all }} -> error: extra.nothing is null for this event; to use another value then, write {{ extra.nothing | default("…") }}
        a.{{ headers['x.y'] }} -> error: headers['x.y'] is null for this event; to use another value then, write {{ headers['x.y'] | default("…") }}
        a.{{ properties.message_id }} -> error: properties.message_id is null for this event; to use another value then, write {{ properties.message_id | default("…") }}
        a.{{ 'x' if session }} -> error: an expression is null for this event
        a.{{ none }} -> error: an expression is null for this event
        a.{{ session or none }} -> error: an expression is null for this event
        a.{{ session | default('other') }} -> a.other
        a.{{ session or 'other' }} -> a.other
        a.{% if session %}{{ session }}{% else %}other{% endif %} -> a.other
        a.{{ headers['regards.tenant'] }}.{{ properties.priority }} -> a.cnes-a.1
        a.{{ productId }} -> a.P "1""#]].assert_eq(&lines.join("\n"));
}

#[test]
fn a_url_has_only_its_values_percent_encoded() {
    for (source, expected) in [
        ("/p/{{ correlationId }}?q={{ productId }}&a=b", "/p/c%2F1%20%C3%A9?q=P%20%221%22&a=b"),
        ("/p/{{ correlationId | upper }}", "/p/C%2F1%20%C3%89"),
        ("/p/{{ 'a/b' ~ extra.n }}", "/p/a%2Fb12"),
        ("/p/{{ message | tojson }}", "/p/%22a%5Cnb%22"),
        ("/p/{{ '<&>' | safe }}", "/p/%3C%26%3E"),
        ("/p/{{ extra.yes }}", "/p/true"),
        ("/p/{{ extra.deep.list }}", "/p/%5B1%2Cnull%2C%7B%22x%22%3A%22y%22%7D%5D"),
        ("/p/{% if session %}{{ session }}{% else %}a/b{% endif %}", "/p/a/b"),
        ("/p/{{ headers.count }}", "/p/-3"),
    ] {
        assert_eq!(url(source), expected, "{source}");
    }
    assert!(url("/p/{{ session }}").starts_with("error: session is null"));
    assert!(url("/p/{{ session | lower }}").starts_with("error: session is null"));
}

#[test]
fn no_value_changes_the_path_of_a_url() {
    for source in ["/p/{{ '..' }}", "/p/{{ '..' }}/q", "/p/{{ '.' }}?x", "/p/.{{ '.' }}#x", "/p/{{ '..' }}\\x"] {
        assert!(url(source).starts_with("error: the path "), "{source}");
    }
    for source in ["/p/{{ '...' }}", "/p/{{ '..' }}x", "/p?q={{ '..' }}", "/p/{{ '../x' }}"] {
        assert!(!url(source).starts_with("error"), "{source}");
    }
}

#[test]
fn a_key_is_null_if_all_its_values_are() {
    for (source, expected) in [
        ("{{ correlationId }}", Some("c/1 é")),
        ("{{ session }}", None),
        ("{{ session }}-{{ expires }}", None),
        ("{{ session }}-{{ tenant }}", Some("-cnes-a")),
        ("{{ session | upper }}", None),
        ("{{ session | default(tenant) }}", Some("cnes-a")),
        ("{{ session | default('') }}", Some("")),
        ("{% if session %}{{ session }}{% endif %}", None),
        ("{% if session %}x{% else %}y{% endif %}", Some("y")),
        ("{{ extra.no }}", None),
        ("fixed", Some("fixed")),
        ("", None),
    ] {
        assert_eq!(key(source).as_deref(), expected, "{source}");
    }
}

#[test]
fn names_that_can_be_null_are_listed() {
    for (source, expected) in [
        ("{{ tenant }}", vec![]),
        ("{{ session }}.{{ productId }}.{{ session }}", vec!["productId", "session"]),
        ("{{ session | upper }}", vec!["session"]),
        ("{{ session | default('x') }}", vec![]),
        ("{{ session | default(message) }}", vec![]),
        ("{% if session %}{{ session }}{% endif %}{{ time | lower }}", vec!["time"]),
        ("{{ extra.a.b }}", vec!["extra.a.b"]),
        ("{{ headers['x'] | lower }}", vec!["headers"]),
        ("{{ properties.message_id ~ '' }}", vec!["properties.message_id"]),
        ("{{ properties.message_id | default(tenant) }}", vec![]),
    ] {
        assert_eq!(compile(source).nullable(), expected, "{source}");
    }
}
