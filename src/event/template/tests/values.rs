//! Values of events as text.

use expect_test::expect;

use super::*;
use crate::event::fixtures::with_body;

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
fn unpaired_surrogates_leave_other_members_readable_and_numbers_keep_their_digits() {
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
