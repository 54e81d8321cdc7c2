//! Mistakes that compiling finds, and limits of rendering.

use expect_test::expect;

use super::*;

#[test]
fn mistakes_are_found_when_the_template_is_compiled() {
    let mut lines = Vec::new();
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
        lines.push(format!("{source:?}: {error}"));
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
        "{{ tenant }} {{ tenent }}": there is no tenent; did you mean tenant?"#]].assert_eq(&lines.join("\n"));
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
