//! Wrong routes, and routes that can't be meant.

use expect_test::expect;

use super::{parse, right, routes, warned, wrong};
use crate::config::Strictness;

#[test]
fn a_route_has_a_name_of_its_own_and_known_sinks() {
    wrong(
        &routes("- to: a\n- { name: one, to: c }\n- { name: one, to: [a, bb] }\n- { name: two }"),
        expect![[r#"
            error[missing-key]: `name` is missing
             --> routes.yaml:5:7
              |
            5 |     - to: a
              |       ^^ needs `name`
              |
              = help: add `name:`, the name of the route in metrics, logs and `explain`

            error[unknown-sink]: there is no sink `c`
             --> routes.yaml:6:24
              |
            6 |     - { name: one, to: c }
              |                        ^
              |
              = help: write one of `a`, `b`

            error[duplicate-route]: there are two routes named `one`
             --> routes.yaml:7:15
              |
            6 |     - { name: one, to: c }
              |               --- first here
            7 |     - { name: one, to: [a, bb] }
              |               ^^^
              |
              = help: give each route its own name: metrics and `explain` show it

            error[unknown-sink]: there is no sink `bb`
             --> routes.yaml:7:28
              |
            7 |     - { name: one, to: [a, bb] }
              |                            ^^
              |
              = help: write one of `a`, `b`

            error[missing-key]: `to` is missing
             --> routes.yaml:8:7
              |
            8 |     - { name: two }
              |       ^^^^^^^^^^^^^ needs `to`
              |
              = help: add `to:`, the sinks the events go to; an empty list drops them on purpose

        "#]],
    );
}

#[test]
fn unrouted_says_what_becomes_of_the_rest() {
    let with = |unrouted: &str| routes("- { name: all, to: [a, b] }").replace("unrouted: drop", unrouted);
    wrong(
        &with(""),
        expect![[r#"
            error[missing-key]: `unrouted` is missing
             --> routes.yaml:1:1
              |
            1 | version: 1
              | ^^^^^^^ needs `unrouted`
              |
              = help: add `unrouted:`, what happens to events that no route matches: `drop`, `dead_letter`, or names of sinks

        "#]],
    );
    wrong(
        &with("unrouted: dead-letter"),
        expect![[r#"
        error[unknown-sink]: there is no sink `dead-letter`
         --> routes.yaml:7:11
          |
        7 | unrouted: dead-letter
          |           ^^^^^^^^^^^ did you mean `dead_letter`?
          |
          = help: write `dead_letter`

    "#]],
    );
    wrong(
        &with("unrouted: []"),
        expect![[r#"
        error[empty-list]: `unrouted` is empty: what becomes of events that no route matches?
         --> routes.yaml:7:11
          |
        7 | unrouted: []
          |           ^^
          |
          = help: write `drop` (they are counted), `dead_letter`, or names of sinks

    "#]],
    );
    wrong(
        &with("unrouted: [drop, a]"),
        expect![[r#"
        error[unknown-sink]: there is no sink `drop`
         --> routes.yaml:7:12
          |
        7 | unrouted: [drop, a]
          |            ^^^^
          |
          = help: write one of `a`, `b`

    "#]],
    );
}

#[test]
fn conditions() {
    wrong(
        &routes(
            "- name: one
  when: { outcome: [faild, \"*ed\"], tennant: esa, session: [], not: { type: [x, {}] } }
  to: [a, b]
- name: two
  when: { not: {} }
  to: []",
        ),
        expect![[r#"
            error[never-matches]: no event has the outcome `faild`
             --> routes.yaml:6:25
              |
            6 |       when: { outcome: [faild, "*ed"], tennant: esa, session: [], not: { type: [x, {}] } }
              |                         ^^^^^ did you mean `failed`?
              |
              = help: write `failed`

            error[unknown-key]: unknown key `tennant`
             --> routes.yaml:6:40
              |
            6 |       when: { outcome: [faild, "*ed"], tennant: esa, session: [], not: { type: [x, {}] } }
              |                                        ^^^^^^^ did you mean `tenant`?
              |
              = help: write `tenant:`

            error[empty-list]: an empty list matches nothing
             --> routes.yaml:6:63
              |
            6 |       when: { outcome: [faild, "*ed"], tennant: esa, session: [], not: { type: [x, {}] } }
              |                                                               ^^
              |
              = help: remove the field to match everything

            warning[never-matches]: no event has the type `x`
             --> routes.yaml:6:81
              |
            6 |       when: { outcome: [faild, "*ed"], tennant: esa, session: [], not: { type: [x, {}] } }
              |                                                                                 ^
              |
              = help: write one of `fr.cnes.regards.lta.submission.response`

            error[wrong-type]: expected a text, found a mapping of keys to values
             --> routes.yaml:6:84
              |
            6 |       when: { outcome: [faild, "*ed"], tennant: esa, session: [], not: { type: [x, {}] } }
              |                                                                                    ^^
              |
              = help: write it as in `type: "fr.cnes.regards.lta.*"`

            warning[contradiction]: no event matches this route: its conditions exclude each other
             --> routes.yaml:9:13
              |
            9 |       when: { not: {} }
              |             ^^^^^^^^^^^
              |
              = help: `type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything

            error[empty-not]: this `not` has no field in it: nothing would ever match
             --> routes.yaml:9:20
              |
            9 |       when: { not: {} }
              |                    ^^
              |
              = help: write what must not match, as in `not: { session: "test-*" }`

        "#]],
    );
}

#[test]
fn conditions_in_cel() {
    wrong(
        &routes(
            "- name: one
  when: { if: \"tennant == 'esa' && extra.size > '3' || status = 'ERROR'\" }
  to: [a, b]
- name: two
  when: { not: { if: tennant == 1 && session.contains(3) } }
  to: []
- name: three
  when: { if: [true] }
  to: []",
        ),
        expect![[r#"
            error[expression]: syntax error at character 48 of the expression: mismatched input '=' expecting the end
             --> routes.yaml:6:19
              |
            6 |       when: { if: "tennant == 'esa' && extra.size > '3' || status = 'ERROR'" }
              |                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write `==` for '='

            error[expression]: there is no `tennant`
             --> routes.yaml:9:26
              |
            9 |       when: { not: { if: tennant == 1 && session.contains(3) } }
              |                          ^^^^^^^
              |
              = help: did you mean tenant?

            error[expression]: `contains` takes text, and this is a whole number
             --> routes.yaml:9:50
              |
            9 |       when: { not: { if: tennant == 1 && session.contains(3) } }
              |                                                  ^^^^^^^^
              |
              = help: write text

            error[wrong-type]: expected a text, found a list
              --> routes.yaml:12:19
               |
            12 |       when: { if: [true] }
               |                   ^^^^^^
               |
               = help: write it as in `if: "message != null && message.contains('quota')"`

        "#]],
    );
    warned(
        &routes(
            "- name: one
  when: { if: \"message.contains('quota') && status in ['EROR', 'SUCCESS'] && outcome != 'failed'\" }
  to: [a, b]",
        ),
        expect![[r#"
            warning[nullable-operand]: `message` can be null: the expression fails for such an event
             --> routes.yaml:6:20
              |
            6 |       when: { if: "message.contains('quota') && status in ['EROR', 'SUCCESS'] && outcome != 'failed'" }
              |                    ^^^^^^^
              |
              = help: write `message != null && …` before it, or `message == null ? … : …` around it

            warning[never-matches]: no event has the status `EROR`
             --> routes.yaml:6:61
              |
            6 |       when: { if: "message.contains('quota') && status in ['EROR', 'SUCCESS'] && outcome != 'failed'" }
              |                                                             ^^^^ did you mean `ERROR`?
              |
              = help: write `ERROR`

        "#]],
    );
    let secret = routes("- { name: one, to: [a, b], when: { if: \"tenant == '${file:/etc/hostname}' && x\" } }");
    let errors = parse(&secret, Strictness::Run, &[]).unwrap_err().to_string();
    let expected = "error[expression]: `${…}` inserts a text, which is not allowed in an expression";
    assert!(errors.starts_with(expected) && !errors.contains("there is no"), "{errors}");
}

#[test]
fn routes_that_ask_in_cel_are_compared_as_far_as_that_can_be_said() {
    let two = |one: &str, other: &str| {
        routes(&format!("- {{ name: one, to: a, when: {one} }}\n- {{ name: two, to: [a, b], when: {other} }}"))
    };
    let small = "{ if: size(tenant) == 3 }";
    let large = "{ if: size(tenant) > 3 }";
    for silent in [
        two(small, large),
        two(small, &format!("{{ not: {small} }}")),
        two(&format!("{{ tenant: esa, not: {small} }}"), small),
    ] {
        right(&silent);
    }
    warned(
        &routes(&format!(
            "- {{ name: one, to: a, when: {small}, final: true }}
- {{ name: hidden, to: b, when: {{ tenant: esa, if: size(tenant) == 3 }} }}
- {{ name: seen, to: b, when: {{ tenant: nobody, if: size(tenant) > 3 }} }}"
        )),
        expect![[r#"
            warning[hidden-route]: no event reaches this route: all events that it matches stop at `one`
             --> routes.yaml:6:7
              |
            6 |     - { name: hidden, to: b, when: { tenant: esa, if: size(tenant) == 3 } }
              |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: put it above that one, or remove `final: true` there

        "#]],
    );
    warned(
        &two(small, "{ tenant: esa }"),
        expect![[r#"
        warning[sink-of-several]: an event that `one` matches as well goes to this sink once, by that route
         --> routes.yaml:6:24
          |
        6 |     - { name: two, to: [a, b], when: { tenant: esa } }
          |                        ^^^^^^
          |
          = help: remove the sink here, or make the two routes exclude each other (`not:`, or `final: true` on `one`)

    "#]],
    );
}

#[test]
fn patterns_that_match_nothing() {
    wrong(
        &routes(
            "- name: one\n  when: { status: [error, DONE, GRANT*], source: regard, type: fr.cnes.* }\n  to: [a, b]",
        ),
        expect![[r#"
            error[never-matches]: no event has the status `error`
             --> routes.yaml:6:24
              |
            6 |       when: { status: [error, DONE, GRANT*], source: regard, type: fr.cnes.* }
              |                        ^^^^^ did you mean `ERROR`?
              |
              = help: write `ERROR`

            warning[never-matches]: no event has the status `DONE`
             --> routes.yaml:6:31
              |
            6 |       when: { status: [error, DONE, GRANT*], source: regard, type: fr.cnes.* }
              |                               ^^^^
              |
              = help: write one of `GRANTED`, `DENIED`, `SUCCESS`, `ERROR`

            warning[never-matches]: no event has the source `regard`
             --> routes.yaml:6:54
              |
            6 |       when: { status: [error, DONE, GRANT*], source: regard, type: fr.cnes.* }
              |                                                      ^^^^^^ did you mean `regards`?
              |
              = help: write `regards`

        "#]],
    );
}

#[test]
fn routes_that_contradict_themselves() {
    for (when, expected) in [
        (
            "{ status: SUCCESS, outcome: failed }",
            expect![[r#"
            warning[contradiction]: no event matches this route: its conditions exclude each other
             --> routes.yaml:5:26
              |
            5 |     - { name: one, when: { status: SUCCESS, outcome: failed }, to: [a, b] }
              |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: `type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything

        "#]],
        ),
        (
            "{ tenant: [cnes, esa], not: { tenant: \"*s*\" } }",
            expect![[r#"
            warning[contradiction]: no event matches this route: its conditions exclude each other
             --> routes.yaml:5:26
              |
            5 |     - { name: one, when: { tenant: [cnes, esa], not: { tenant: "*s*" } }, to: [a, b] }
              |                          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: `type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything

        "#]],
        ),
    ] {
        warned(&routes(&format!("- {{ name: one, when: {when}, to: [a, b] }}")), expected);
    }
    right(&routes(
        "- { name: one, when: { status: [SUCCESS, ERROR], outcome: failed, not: { tenant: cnes } }, to: [a, b] }",
    ));
}

#[test]
fn routes_that_are_never_reached() {
    warned(
        &routes(
            "- { name: esa, when: { tenant: \"esa*\" }, to: a, final: true }
- { name: esa-errors, when: { tenant: esa-2, status: ERROR }, to: b }
- { name: all, to: [a, b], final: true }
- { name: more, to: a }",
        ),
        expect![[r#"
            warning[hidden-route]: no event reaches this route: all events that it matches stop at `esa`
             --> routes.yaml:6:7
              |
            6 |     - { name: esa-errors, when: { tenant: esa-2, status: ERROR }, to: b }
              |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: put it above that one, or remove `final: true` there

            warning[sink-of-several]: an event that `esa-errors` matches as well goes to this sink once, by that route
             --> routes.yaml:7:24
              |
            7 |     - { name: all, to: [a, b], final: true }
              |                        ^^^^^^
              |
              = help: remove the sink here, or make the two routes exclude each other (`not:`, or `final: true` on `esa-errors`)

            warning[hidden-route]: no event reaches this route: all events that it matches stop at `all`
             --> routes.yaml:8:7
              |
            8 |     - { name: more, to: a }
              |       ^^^^^^^^^^^^^^^^^^^^^
              |
              = help: put it above that one, or remove `final: true` there

        "#]],
    );
}

#[test]
fn a_sink_of_two_routes_that_match_the_same() {
    warned(
        &routes(
            "- { name: errors, when: { outcome: failed }, to: [a, b] }\n- { name: esa, when: { tenant: \"esa-*\" }, to: [b, b] }",
        ),
        expect![[r#"
            warning[sink-of-several]: an event that `errors` matches as well goes to this sink once, by that route
             --> routes.yaml:6:51
              |
            6 |     - { name: esa, when: { tenant: "esa-*" }, to: [b, b] }
              |                                                   ^^^^^^
              |
              = help: remove the sink here, or make the two routes exclude each other (`not:`, or `final: true` on `errors`)

            warning[sink-twice]: `b` is named twice
             --> routes.yaml:6:55
              |
            6 |     - { name: esa, when: { tenant: "esa-*" }, to: [b, b] }
              |                                                       ^
              |
              = help: once is enough: each sink gets an event once

        "#]],
    );
}

#[test]
fn routes_that_exclude_each_other_share_sinks_in_silence() {
    for pair in [
        ["when: { tenant: esa }", "when: { tenant: [cnes, dlr] }"],
        ["when: { tenant: \"cnes-*\" }", "when: { tenant: \"esa-*\" }"],
        ["when: { tenant: \"*-a\" }", "when: { tenant: \"*-b\" }"],
        ["when: { outcome: failed }", "when: { status: [GRANTED, SUCCESS] }"],
        ["when: { tenant: esa }", "when: { not: { tenant: \"es*\" } }"],
        ["when: { tenant: esa }, final: true", "when: { status: ERROR }"],
    ] {
        let [one, other] = pair;
        right(&routes(&format!("- {{ name: one, to: [a, b], {one} }}\n- {{ name: two, to: a, {other} }}")));
    }
}

#[test]
fn a_sink_that_nothing_leads_to() {
    warned(
        &routes("- { name: all, to: a }"),
        expect![[r#"
        warning[unused-sink]: no route leads to the sink `b`
         --> routes.yaml:3:29
          |
        3 | sinks: { a: { stdout: {} }, b: { stdout: {} } }
          |                             ^
          |
          = help: name it in the `to:` of a route, or remove it

    "#]],
    );
}

#[test]
fn a_status_of_a_tenant_that_no_route_is_for() {
    let file = |routes: &str, unrouted: &str| {
        format!(
            "version: 1
sources:
  one: {{ amqp: {{ url: amqp://localhost, queue: q }}, expects: lta }}
sinks: {{ a: {{ stdout: {{}} }} }}
routes:
{routes}
unrouted: {unrouted}
"
        )
    };
    warned(
        &file("- { name: some, when: { status: [SUCCESS, ERROR] }, to: a }", "dead_letter"),
        expect![[r#"
        warning[no-route]: no route matches `GRANTED`, `DENIED`
         --> routes.yaml:7:11
          |
        7 | unrouted: dead_letter
          |           ^^^^^^^^^^^ each becomes a dead letter
          |
          = help: add a route for them; a route with `to: []` drops events that nobody needs

    "#]],
    );
    let named = "- { name: failed, when: { outcome: failed }, to: a }
- { name: cnes, when: { tenant: cnes, not: { status: [DENIED, ERROR] } }, to: [] }
- { name: others, when: { tenant: [b, c, d, e, f], status: SUCCESS }, to: a }";
    warned(
        &file(named, "dead_letter"),
        expect![[r#"
            warning[no-route]: no route matches `DENIED` of the tenant `cnes`
             --> routes.yaml:9:11
              |
            9 | unrouted: dead_letter
              |           ^^^^^^^^^^^ each becomes a dead letter
              |
              = help: add a route for them; a route with `to: []` drops events that nobody needs

            warning[no-route]: no route matches `GRANTED`, `DENIED` of the tenants `b`, `c`, `d` and 2 others
             --> routes.yaml:9:11
              |
            9 | unrouted: dead_letter
              |           ^^^^^^^^^^^ each becomes a dead letter
              |
              = help: add a route for them; a route with `to: []` drops events that nobody needs

        "#]],
    );
    // What may match is not said to go nowhere, and what is dropped is meant to be.
    right(&file("- { name: some, when: { status: SUCCESS }, to: a }", "drop"));
    right(&file(
        "- { name: some, when: { status: [SUCCESS, ERROR], tenant: cnes }, to: a }
- { name: rest, when: { tenant: c*, status: \"*\", if: session != null }, to: [] }",
        "dead_letter",
    ));
}

#[test]
fn a_status_of_a_source_that_no_route_is_for() {
    warned(
        "version: 1
sources:
  one: { amqp: { url: amqp://localhost, queue: q }, expects: lta }
  two: { amqp: { url: amqp://localhost, queue: p }, expects: order }
  each: { amqp: { url: amqp://localhost, queue: p, vhost: 'regards.{tenant}' }, tenants: [cnes, esa], expects: lta }
sinks: { a: { stdout: {} } }
routes:
- { name: lta, when: { source: one }, to: a }
- { name: done, when: { type: fr.cnes.regards.order.response, outcome: [succeeded, failed] }, to: [] }
- { name: cnes, when: { source: each.cnes }, to: [] }
unrouted: dead_letter
",
        expect![[r#"
            warning[no-route]: no route matches `GRANTED`, `DENIED`, `SUCCESS`, `ERROR` of the tenant `esa`
              --> routes.yaml:11:11
               |
            11 | unrouted: dead_letter
               |           ^^^^^^^^^^^ each becomes a dead letter
               |
               = help: add a route for them; a route with `to: []` drops events that nobody needs

            warning[no-route]: no route matches `GRANTED`, `SUBORDER_DONE`, `DENIED` of the source `two`
              --> routes.yaml:11:11
               |
            11 | unrouted: dead_letter
               |           ^^^^^^^^^^^ each becomes a dead letter
               |
               = help: add a route for them; a route with `to: []` drops events that nobody needs

        "#]],
    );
}

#[test]
fn a_pattern_that_is_too_long() {
    wrong(
        &routes(&format!("- {{ name: one, when: {{ tenant: {} }}, to: [a, b] }}", "x".repeat(2_000))),
        expect![[r#"
        error[long-pattern]: a pattern is at most 1024 bytes long
         --> routes.yaml:5:36
          |
        5 | ...t: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx },...
          |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^...^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: shorten it with `*`

    "#]],
    );
}

#[test]
fn a_key_without_a_value_never_means_anything() {
    wrong(
        &routes(
            "- { name: status, when: { status: }, to: a }\n- { name: tenant, when: { tenant: null }, to: a }\n- name: when\n  when:\n  #  status: DENIED\n  to: a\n- { name: if, when: { if: ~ }, to: a }\n- { name: not, when: { not: }, to: a }\n- { name: not-session, when: { not: { session: } }, to: a }\n- { name: last, when: { status: [ERROR, null] }, to: [a, ], transform: , final: }",
        ),
        expect![[r#"
            error[missing-value]: `status` has no value
             --> routes.yaml:5:31
              |
            5 |     - { name: status, when: { status: }, to: a }
              |                               ^^^^^^
              |
              = help: write it after the colon (the status in the words of the response family, as in GRANTED, DENIED, SUCCESS, ERROR), or remove `status:`

            error[missing-value]: `tenant` has no value
             --> routes.yaml:6:31
              |
            6 |     - { name: tenant, when: { tenant: null }, to: a }
              |                               ^^^^^^
              |
              = help: write it after the colon (the tenant of the event), or remove `tenant:`

            error[missing-value]: `when` has no value
             --> routes.yaml:8:7
              |
            8 |       when:
              |       ^^^^
              |
              = help: write it after the colon (which events the route matches; without it, all), or remove `when:`

            error[missing-value]: `if` has no value
              --> routes.yaml:11:27
               |
            11 |     - { name: if, when: { if: ~ }, to: a }
               |                           ^^
               |
               = help: write it after the colon (a CEL expression over the event that must be true), or remove `if:`

            error[missing-value]: `not` has no value
              --> routes.yaml:12:28
               |
            12 |     - { name: not, when: { not: }, to: a }
               |                            ^^^
               |
               = help: write it after the colon (conditions of which none may match), or remove `not:`

            error[missing-value]: `session` has no value
              --> routes.yaml:13:43
               |
            13 |     - { name: not-session, when: { not: { session: } }, to: a }
               |                                           ^^^^^^^
               |
               = help: write it after the colon (the session of the requester), or remove `session:`

            error[wrong-type]: expected a text, found nothing
              --> routes.yaml:14:45
               |
            14 |     - { name: last, when: { status: [ERROR, null] }, to: [a, ], transform: , final: }
               |                                             ^^^^
               |
               = help: write it as in `status: [ERROR, DENIED]`

            error[missing-value]: `transform` has no value
              --> routes.yaml:14:65
               |
            14 |     - { name: last, when: { status: [ERROR, null] }, to: [a, ], transform: , final: }
               |                                                                 ^^^^^^^^^
               |
               = help: write it after the colon (changes of the event that the formats and templates of these sinks use), or remove `transform:`

            error[missing-value]: `final` has no value
              --> routes.yaml:14:78
               |
            14 |     - { name: last, when: { status: [ERROR, null] }, to: [a, ], transform: , final: }
               |                                                                              ^^^^^
               |
               = help: write it after the colon (stop after this route if it matches: later routes are not evaluated), or remove `final:`

        "#]],
    );
    for key in ["productId", "outcome", "type", "source", "session", "correlationId"] {
        let said = parse(&routes(&format!("- {{ name: one, when: {{ {key}: }}, to: [a, b] }}")), Strictness::Run, &[]);
        let said = said.expect_err(key);
        assert_eq!(said.iter().map(crate::config::Diagnostic::code).collect::<Vec<_>>(), ["missing-value"], "{said}");
    }
}

#[test]
fn an_empty_pattern_excludes_nothing() {
    let text = routes(
        "- { name: one, when: { not: { session: \"${TESTS}\" } }, to: [a, b] }\n- { name: two, when: { tenant: '', not: [{ productId: [x, \"\"] }] }, to: [] }",
    );
    let said = parse(&text, Strictness::Run, &[("TESTS", "")]).unwrap_err();
    expect![[r#"
        error[empty-pattern]: the value of `${…}` is empty, and matches no event
         --> routes.yaml:5:44
          |
        5 |     - { name: one, when: { not: { session: "${TESTS}" } }, to: [a, b] }
          |                                            ^^^^^^^^^^
          |
          = help: write a value, or remove the key to match all events; `if: "session == null"` matches events without one

        error[empty-pattern]: an empty text matches no event
         --> routes.yaml:6:36
          |
        6 |     - { name: two, when: { tenant: '', not: [{ productId: [x, ""] }] }, to: [] }
          |                                    ^^
          |
          = help: write a value, or remove the key to match all events; `if: "session == null"` matches events without one

        error[empty-pattern]: an empty text matches no event
         --> routes.yaml:6:63
          |
        6 |     - { name: two, when: { tenant: '', not: [{ productId: [x, ""] }] }, to: [] }
          |                                                               ^^
          |
          = help: write a value, or remove the key to match all events; `if: "session == null"` matches events without one

    "#]].assert_eq(&said.to_string());
}
