use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::event::fixtures::{message, with_event};
use crate::event::{DeadLetterInfo, Event, Reason};

fn compile(source: &str) -> Template {
    Template::compile(source).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn render(source: &str) -> String {
    with_event(|view| compile(source).render(view)).unwrap_or_else(|error| format!("error: {error}"))
}

fn address(source: &str) -> String {
    with_event(|view| compile(source).render_address(view)).unwrap_or_else(|error| format!("error: {error}"))
}

fn url(source: &str) -> String {
    with_event(|view| compile(source).render_url(view)).unwrap_or_else(|error| format!("error: {error}"))
}

fn key(source: &str) -> Option<String> {
    with_event(|view| compile(source).render_key(view)).expect("the template renders")
}

fn is_plain(source: &str) -> bool {
    matches!(compile(source).0.program, Program::Simple(_))
}

#[test]
fn every_name_of_the_event_can_be_used() {
    let mut seen = Vec::new();
    for name in [
        "type",
        "source",
        "tenant",
        "status",
        "outcome",
        "correlationId",
        "productId",
        "session",
        "expires",
        "message",
        "time",
        "extra.n",
        "extra.f",
        "extra.yes",
        "extra.no",
        "extra.deep.text",
        "extra.deep.list",
        "extra.deep",
        "extra.deep.list[2].x",
        "extra.huge",
        "extra.none.at.all",
        "warnings",
        "warnings | length",
        "headers['regards.tenant']",
        "headers.count",
        "headers.sent",
        "headers.blob",
        "headers.list",
        "headers.table['a.b']",
        "headers.nothing",
        "properties.app_id",
        "properties.priority",
        "properties.timestamp",
        "properties.message_id",
        "properties['type']",
    ] {
        seen.push(format!("{name}: {}", render(&format!("{{{{ {name} }}}}"))));
    }
    expect![[r#"
        type: fr.cnes.regards.lta.submission.response
        source: regards
        tenant: cnes-a
        status: ERROR
        outcome: failed
        correlationId: c/1 é
        productId: P "1"
        session: 
        expires: 
        message: a
        b
        time: 2023-04-14T08:46:17Z
        extra.n: 12
        extra.f: 1.5
        extra.yes: true
        extra.no: 
        extra.deep.text: t
        extra.deep.list: [1,null,{"x":"y"}]
        extra.deep: {"list":[1,null,{"x":"y"}],"text":"t"}
        extra.deep.list[2].x: y
        extra.huge: 1e999
        extra.none.at.all: 
        warnings: []
        warnings | length: 0
        headers['regards.tenant']: cnes-a
        headers.count: -3
        headers.sent: 1681461977
        headers.blob: /wA=
        headers.list: [true,null]
        headers.table['a.b']: deep
        headers.nothing: 
        properties.app_id: rs-lta-manager
        properties.priority: 1
        properties.timestamp: 1681461977
        properties.message_id: 
        properties['type']: "#]]
    .assert_eq(&seen.join("\n"));
    assert_eq!(render("{{ id }}").len(), 36);
}

#[test]
fn null_renders_as_the_empty_string() {
    for (source, expected) in [
        ("<{{ session }}>", "<>"),
        ("<{{ session ~ session }}>", "<>"),
        ("{{ tenant ~ '-' ~ session }}", "cnes-a-"),
        ("{{ session | upper }}", ""),
        ("{{ session | default('none') }}", "none"),
        ("{{ session | upper | default('none') }}", "none"),
        ("{{ productId | default('none') }}", "P \"1\""),
        ("{{ extra.no | default('none') }}", "none"),
        ("{{ extra.deep.list[1] | default('none') }}", "none"),
        ("{{ headers.nothing | default('none') }}", "none"),
        ("{{ session or 'none' }}", "none"),
        ("{{ session | tojson }}", "null"),
        ("{{ extra.no | tojson }}", "null"),
        ("{{ none }}", ""),
        ("{{ 'x' if session }}", ""),
        ("{% if session %}yes{% else %}no{% endif %}", "no"),
        ("{{ session is none }} {{ session is defined }} {{ session is not none }}", "true false false"),
        ("{{ tenant is none }} {{ tenant is defined }}", "false true"),
        ("{{ {'a': session, 'b': [expires, 1]} | tojson }}", r#"{"a": null, "b": [null, 1]}"#),
        ("{{ session == expires }} {{ session == 'x' }}", "true false"),
        ("{% for x in session %}x{% endfor %}", ""),
        ("{{ session | length }}", "0"),
    ] {
        assert_eq!(render(source), expected, "{source}");
    }
}

#[test]
fn typical_bodies_are_rendered() {
    assert_eq!(
        render(r#"{"text": {{ ("REGARDS " ~ status ~ " " ~ productId ~ ": " ~ message) | tojson }}}"#),
        r#"{"text": "REGARDS ERROR P \"1\": a\nb"}"#
    );
    for (source, expected) in [
        ("{{ status | lower }}", "error"),
        ("{{ tenant | replace('-', '_') | upper }}", "CNES_A"),
        ("{{ '  x ' | trim }}", "x"),
        ("{{ extra.deep | tojson }}", r#"{"list": [1, null, {"x": "y"}], "text": "t"}"#),
        ("{% for x in extra.deep.list %}{{ loop.index }}={{ x }};{% endfor %}", "1=1;2=;3={\"x\":\"y\"};"),
        ("{% set t = tenant | upper %}{{ t }}", "CNES-A"),
        ("{{ 'late' if status == 'ERROR' else 'fine' }}", "late"),
        ("{# nothing #}x{% raw %}{{ y | z }}{% endraw %}", "x{{ y | z }}"),
        ("{{ extra.n + 1 }}", "13"),
        ("{{ extra.yes }}", "true"),
    ] {
        assert_eq!(render(source), expected, "{source}");
    }
}

#[test]
fn null_in_an_address_is_an_error() {
    let mut told = Vec::new();
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
        told.push(format!("{source} -> {}", address(source)));
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
        a.{{ productId }} -> a.P "1""#]].assert_eq(&told.join("\n"));
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
fn mistakes_are_found_when_the_template_is_compiled() {
    let mut told = Vec::new();
    for source in [
        "{{ tenent }}",
        "{{ correlation_id }}",
        "{{ corelationId | upper }}",
        "{{ xyz }}",
        "{{ event.tenant }}",
        "{{ tenant.name }}",
        "{{ tenant.upper() }}",
        "{{ warnings.first }}",
        "{{ header.x }}",
        "{{ properties.correlationId }}",
        "{{ properties.headers.x }}",
        "{{ properties.app_id.x }}",
        "{{ tenant | uper }}",
        "{{ tenant | default(session | nope) }}",
        "{% filter nope %}x{% endfilter %}",
        "{{ tenant is nope }}",
        "{{ tenant is not nope }}",
        "{{ now() }}",
        "{{ debug() }}",
        "{{ tenant | replace }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
        "{% macro x() %}{% endmacro %}",
        "{{ tenant",
        "{{ }}",
        "a\nb\n{{ 1 + }}",
        "{% if x %}",
        "{{ tenant }} {{ tenent }}",
    ] {
        let error = Template::compile(source).expect_err(source);
        told.push(format!("{source:?}: {error}"));
    }
    expect![[r#"
        "{{ tenent }}": there is no tenent; did you mean tenant?
        "{{ correlation_id }}": there is no correlation_id; did you mean correlationId?
        "{{ corelationId | upper }}": there is no corelationId; did you mean correlationId?
        "{{ xyz }}": there is no xyz; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, session, source, status, tenant, time, type, warnings
        "{{ event.tenant }}": there is no event; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, session, source, status, tenant, time, type, warnings
        "{{ tenant.name }}": tenant is text and has no member name
        "{{ tenant.upper() }}": tenant is text and has no member upper; write tenant | upper
        "{{ warnings.first }}": warnings is a list and has no member first
        "{{ header.x }}": there is no header; did you mean headers?
        "{{ properties.correlationId }}": there is no properties.correlationId; did you mean correlation_id?
        "{{ properties.headers.x }}": `headers` is not in `properties`: write headers["…"]
        "{{ properties.app_id.x }}": properties.app_id has no members; remove .x
        "{{ tenant | uper }}": there is no filter uper; did you mean upper?
        "{{ tenant | default(session | nope) }}": there is no filter nope
        "{% filter nope %}x{% endfilter %}": there is no filter nope
        "{{ tenant is nope }}": there is no test nope; did you mean none?
        "{{ tenant is not nope }}": there is no test nope; did you mean none?
        "{{ now() }}": there is no now; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, session, source, status, tenant, time, type, warnings
        "{{ debug() }}": there is no debug; there are correlationId, expires, extra, headers, id, message, outcome, productId, properties, session, source, status, tenant, time, type, warnings
        "{{ tenant | replace }}": missing argument
        "{% include 'x' %}": syntax error: unknown statement include
        "{% import 'x' as y %}": syntax error: unknown statement import
        "{% extends 'x' %}": syntax error: unknown statement extends
        "{% macro x() %}{% endmacro %}": syntax error: unknown statement macro
        "{{ tenant": syntax error: unexpected end of input, expected end of variable block
        "{{ }}": syntax error: unexpected end of variable block
        "a\nb\n{{ 1 + }}": syntax error: unexpected end of variable block (line 3 of the template)
        "{% if x %}": syntax error: unexpected end of input, expected end of block
        "{{ tenant }} {{ tenent }}": there is no tenent; did you mean tenant?"#]].assert_eq(&told.join("\n"));
    assert!(Template::compile(&"x".repeat(MAX_SOURCE + 1)).is_err());
    assert!(Template::compile(&"x".repeat(MAX_SOURCE)).is_ok());
}

#[test]
fn filters_in_strings_and_comments_are_ignored() {
    for source in
        ["{{ 'a | nope is nope' }}", r#"{{ "it\"s | nope" ~ tenant }}"#, "{# | nope #}{{ 1 }}", "a | nope {{ 1 }}"]
    {
        compile(source);
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
fn the_cost_of_a_rendering_is_bounded() {
    let error = |source: &str| with_event(|view| compile(source).render(view)).expect_err(source).0;
    let too_long = "the template takes too long or produces too much text";
    assert_eq!(error("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}"), too_long);
    assert_eq!(error("{{ 'x' * 1000000000 }}"), too_long);
    assert_eq!(
        error("{% for a in range(9) %}{{ 'x' * 1000000 }}{% endfor %}"),
        "the template produces more than 8388608 bytes"
    );
    let long: String = "(".repeat(10_000);
    assert!(Template::compile(&format!("{{{{ {long} }}}}")).is_err());
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

proptest! {
    /// Simple templates render as minijinja renders them.
    #[test]
    fn simple_templates_render_like_minijinja(
        source in "([a.\\n\\r ]|\\{|\\}|%|#|\\{\\{ ?(tenant|session|message|id|nope)\\n?\\}\\}){0,8}"
    ) {
        let Some(simple) = SimpleTemplate::parse(&source, &EventSchema::Event) else { return Ok(()) };
        let jinja = JinjaTemplate::compile(&source, EventSchema::Event).expect("a simple template compiles");
        with_event(|view| {
            let by_jinja = |mode| jinja.render(mode, &view).map(|rendered| rendered.text);
            prop_assert_eq!(Ok(simple.render(view)), by_jinja(RenderMode::Text));
            prop_assert_eq!(simple.render_address(view), by_jinja(RenderMode::Address));
            prop_assert_eq!(simple.render_url(view), by_jinja(RenderMode::Url));
            prop_assert_eq!(simple.nullable(&EventSchema::Event), jinja.nullable());
            Ok(())
        })?;
    }

    #[test]
    fn what_is_inserted_comes_out_as_it_is(
        text in "([a\\\\\"'\n{}%#|-]|\\{\\{|\\}\\}|\\{%|raw|endraw|%\\}| ){0,12}"
    ) {
        let inserted = || Fragment::inserted(&*text);
        let tenant = || Fragment::written("{{ tenant }}");
        let render = |fragments: Vec<Fragment>| {
            let template = Template::compile_fragments(&fragments, EventSchema::Event).expect("whatever is inserted");
            with_event(|view| template.render(view)).expect("a text")
        };
        prop_assert_eq!(render(vec![Fragment::written("x{"), inserted(), Fragment::written("}"), tenant()]), format!("x{{{text}}}cnes-a"));
        let upper = Fragment::written("{{ tenant | upper -}}");
        prop_assert_eq!(render(vec![Fragment::written("{"), inserted(), upper.clone(), inserted()]), format!("{{{text}CNES-A{text}"));
        for (quote, length) in [("\"", "| length"), ("'", "|length")] {
            let open = Fragment::written(format!("{{{{ {quote}ab{{"));
            let rendered = render(vec![open, inserted(), Fragment::written(format!("{quote} {length} }}}}")), upper.clone()]);
            prop_assert_eq!(rendered, format!("{}CNES-A", 3 + text.chars().count()));
        }
        let raw = vec![Fragment::written("{% raw %}{{"), inserted(), Fragment::written("{% endraw %}{#"), inserted(), Fragment::written("#}")];
        prop_assert_eq!(render(raw), format!("{{{{{text}"));
    }

    #[test]
    fn no_source_makes_compiling_panic(source in "[{}%#|.a-e \"'\\\\\\n()\\[\\]-]{0,40}") {
        if let Ok(template) = Template::compile(&source) {
            with_event(|view| template.render(view)).ok();
        }
    }

    #[test]
    fn an_encoded_value_is_one_piece_of_a_path(text in any::<String>()) {
        let mut encoded = String::new();
        percent_encode(&mut encoded, &text);
        let mut url = url::Url::parse("https://example.org/a/").expect("a URL");
        url.set_path(&format!("/a/{encoded}/b"));
        let pieces: Vec<_> = url.path_segments().expect("segments").collect();
        // URL parsers remove segments that are only dots.
        if !["", ".", ".."].contains(&text.as_str()) {
            prop_assert_eq!(pieces, ["a", encoded.as_str(), "b"]);
        }
    }
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

#[test]
fn the_filter_date_formats_dates() {
    let shown = |source: &str| format!("{source}: {}", render(source));
    expect![[r#"
        {{ time | date }}: 2023-04-14
        {{ time | date("%Y/%m/%d %H:%M:%S") }}: 2023/04/14 08:46:17
        {{ properties.timestamp | date("%F") }}: 2023-04-14
        {{ "2025-05-01T01:00:00.5+02:00" | date("%FT%T") }}: 2025-04-30T23:00:00
        {{ session | date | default("never") }}: never
        {{ tenant | date }}: error: invalid operation: cnes-a is not a date
        {{ -1 | date }}: error: invalid operation: -1 is not a date"#]]
    .assert_eq(
        &[
            "{{ time | date }}",
            r#"{{ time | date("%Y/%m/%d %H:%M:%S") }}"#,
            r#"{{ properties.timestamp | date("%F") }}"#,
            r#"{{ "2025-05-01T01:00:00.5+02:00" | date("%FT%T") }}"#,
            r#"{{ session | date | default("never") }}"#,
            "{{ tenant | date }}",
            "{{ -1 | date }}",
        ]
        .map(shown)
        .join("\n"),
    );
    let wrong = |source: &str| Template::compile(source).expect_err("no form of a date").to_string();
    assert!(wrong(r#"{{ time | date("%Q") }}"#).contains("`%Q` is not a date format"));
    assert!(wrong(&format!("{{{{ time | date('{}') }}}}", "x".repeat(101))).contains("longer than 100 bytes"));
    assert_eq!(compile("{{ time | date }}").nullable(), ["time"], "null stays null");
}

#[test]
fn surrogate_halves_keep_their_neighbours_and_numbers_their_digits() {
    use crate::event::fixtures::with_body;

    let body = r#"{"correlationId":"c","responseStatus":"ERROR","o":{"bad":"a\ud800","big":123456789012345678901234567890,
        "long":0.1234567890123456789,"list":[1e999,2,"<'>"],"n":3,"e":{},"f":[]}}"#;
    let render = |source: &str| {
        with_body(body, |view| compile(source).render(view)).unwrap_or_else(|error| format!("error: {error}"))
    };
    for (source, expected) in [
        ("{{ extra.o.n }} {{ extra.o.bad }}", "3 a\u{fffd}"),
        ("{{ extra.o.big }} {{ extra.o.long }}", "123456789012345678901234567890 0.1234567890123456789"),
        (
            "{{ extra.o.big | tojson }} {{ extra.o.long | tojson }}",
            "123456789012345678901234567890 0.1234567890123456789",
        ),
        ("{{ extra.o.list | tojson }} {{ extra.o.list }}", r#"[1e999, 2, "\u003c\u0027\u003e"] [1e999,2,"<'>"]"#),
        (
            "{{ extra | tojson }}",
            "{\"o\": {\"bad\": \"a\u{fffd}\", \"big\": 123456789012345678901234567890, \"e\": {}, \"f\": [], \"list\": [1e999, 2, \"\\u003c\\u0027\\u003e\"], \"long\": 0.1234567890123456789, \"n\": 3}}",
        ),
        ("{{ [extra.o.long, {}] | tojson(indent=2) }}", "[\n  0.1234567890123456789,\n  {}\n]"),
        ("{{ ('x' ~ extra.o.long) | tojson }}", "\"x0.1234567890123456789\""),
        ("{{ extra.o.long | float > 0.1 }} {{ extra.o.long | round(2) }} {{ extra.o.big > 5 }}", "true 0.12 true"),
    ] {
        assert_eq!(render(source), expected, "{source}");
    }
    // Comparisons and calculations see the nearest doubles.
    for (source, expected) in [
        (
            "{{ extra.o.long > 5 }} {{ 5 > extra.o.long }} {{ extra.o.long == 0.1234567890123456789 }}",
            "false true true",
        ),
        ("{% if extra.o.long > 5 %}big{% else %}small{% endif %}", "small"),
        ("{%- for n in extra.o.list %}{% if n < 5 %}{{ n }}{% endif %}{% endfor -%}", "2"),
        (
            "{{ extra.o.long * 2 }} {{ extra.o.long is number }} {{ [extra.o.long, 0.5] | max }}",
            "0.24691357802469135 true 0.5",
        ),
        ("{{- extra.o.long -}}", "0.1234567890123456789"),
        ("{% if extra.o.list[0] > 5 and extra.o.n == 3 %}{{ extra.o.long }}{% endif %}", "0.1234567890123456789"),
    ] {
        assert_eq!(render(source), expected, "{source}");
    }
    // Indented as by minijinja.
    for layout in ["tojson", "tojson(true)", "tojson(indent=3)"] {
        let with = render(&format!("{{{{ [[extra.o.long], {{'a': [], 'b': {{'c': [1, 2]}}}}] | {layout} }}}}"));
        let without = render(&format!("{{{{ [[0.5], {{'a': [], 'b': {{'c': [1, 2]}}}}] | {layout} }}}}"));
        assert_eq!(with.replace("0.1234567890123456789", "0.5"), without, "{layout}");
    }
}
