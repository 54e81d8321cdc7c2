//! Conditions of routes.

use expect_test::expect;

use super::{Strictness, check_errors, check_warnings, parse, routes, valid};

#[test]
fn a_wrong_condition_is_reported() {
    check_errors(
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
fn a_wrong_cel_condition_is_reported() {
    check_errors(
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
    check_warnings(
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
fn routes_with_equal_cel_conditions_are_compared() {
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
        valid(&silent);
    }
    check_warnings(
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
              = help: move this route above `one`, or remove `final: true` from `one`

        "#]],
    );
    check_warnings(
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
fn a_pattern_that_matches_no_event_is_reported() {
    check_errors(
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
fn an_unknown_status_is_an_error_if_the_families_are_known() {
    check_errors(
        &routes("- { name: r, when: { status: error }, to: [a, b] }"),
        expect![[r#"
        error[never-matches]: no event has the status `error`
         --> routes.yaml:5:34
          |
        5 |     - { name: r, when: { status: error }, to: [a, b] }
          |                                  ^^^^^ did you mean `ERROR`?
          |
          = help: write `ERROR`

    "#]],
    );
    check_warnings(
        &routes("- { name: r, when: { status: DONE }, to: [a, b] }"),
        expect![[r#"
        warning[never-matches]: no event has the status `DONE`
         --> routes.yaml:5:34
          |
        5 |     - { name: r, when: { status: DONE }, to: [a, b] }
          |                                  ^^^^
          |
          = help: write one of `GRANTED`, `DENIED`, `SUCCESS`, `ERROR`

    "#]],
    );
    check_warnings(
        &routes("- { name: r, when: { status: error }, to: [a, b] }")
            .replace("queue: q }", "queue: q }, expects: auto")
            .replace("status: error", "status: [error, GRANTED]"),
        expect![[r#"
            warning[never-matches]: no event has the status `error`
             --> routes.yaml:5:35
              |
            5 |     - { name: r, when: { status: [error, GRANTED] }, to: [a, b] }
              |                                   ^^^^^ did you mean `ERROR`?
              |
              = help: write `ERROR`

        "#]],
    );
}

#[test]
fn a_pattern_that_is_too_long_is_an_error() {
    check_errors(
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
fn a_key_without_a_value_is_an_error() {
    check_errors(
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
        let diagnostics =
            parse(&routes(&format!("- {{ name: one, when: {{ {key}: }}, to: [a, b] }}")), Strictness::Run, &[]);
        let diagnostics = diagnostics.expect_err(key);
        assert_eq!(
            diagnostics.iter().map(crate::config::Diagnostic::code).collect::<Vec<_>>(),
            ["missing-value"],
            "{diagnostics}"
        );
    }
}

#[test]
fn an_empty_pattern_is_an_error() {
    let text = routes(
        "- { name: one, when: { not: { session: \"${TESTS}\" } }, to: [a, b] }\n- { name: two, when: { tenant: '', not: [{ productId: [x, \"\"] }] }, to: [] }",
    );
    let diagnostics = parse(&text, Strictness::Run, &[("TESTS", "")]).unwrap_err();
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

    "#]].assert_eq(&diagnostics.to_string());
}
