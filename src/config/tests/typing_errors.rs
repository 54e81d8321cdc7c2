//! Typing errors in YAML: the message points at the error, and says what to type.

use expect_test::expect;

use super::{check_errors, check_warnings, routes, sink, source};

#[test]
fn a_value_that_begins_with_an_asterisk_needs_quotes() {
    check_errors(
        &routes("- { name: r, when: { tenant: * }, to: [a, b] }"),
        expect![[r#"
        error[yaml-syntax]: a value that begins with `*` is an alias for YAML, and there is no anchor of that name
         --> routes.yaml:5:34
          |
        5 |     - { name: r, when: { tenant: * }, to: [a, b] }
          |                                  ^
          |
          = help: put the value into quotes, as in `"*"` or `"*-test"`

    "#]],
    );
    check_errors(
        &routes("- name: r\n  when:\n    tenant: *-prod\n  to: [a, b]"),
        expect![[r#"
        error[yaml-syntax]: a value that begins with `*` is an alias for YAML, and there is no anchor of that name
         --> routes.yaml:7:17
          |
        7 |         tenant: *-prod
          |                 ^
          |
          = help: put the value into quotes, as in `"*"` or `"*-test"`

    "#]],
    );
}

#[test]
fn a_quote_inside_quotes_ends_the_text() {
    check_errors(
        &sink("stdout: {}\nbody: '{\"text\": {{ message | default('none') | tojson }}}'"),
        expect![[r#"
        error[yaml-syntax]: the text ends at this `'`, and more follows
         --> routes.yaml:6:42
          |
        6 |     body: '{"text": {{ message | default('none') | tojson }}}'
          |                                          ^
          |
          = help: between `'` and `'`, write `''` for one `'`, or use `"` inside

    "#]],
    );
    check_errors(
        &sink("stdout: {}\nbody: \"{\"text\": {{ message | tojson }}}\""),
        expect![[r#"
        error[yaml-syntax]: the text ends at this `"`, and more follows
         --> routes.yaml:6:13
          |
        6 |     body: "{"text": {{ message | tojson }}}"
          |             ^
          |
          = help: between `"` and `"`, write `\"` for one `"`; or put the text between `'` and `'`

    "#]],
    );
}

#[test]
fn a_wrong_indentation_is_compared_with_the_nearest_line() {
    check_errors(
        &routes("- name: r\n  when:\n    tenant: esa\n   status: ERROR\n  to: [a, b]"),
        expect![[r#"
            error[yaml-syntax]: no line above has the indentation of this line
             --> routes.yaml:8:8
              |
            7 |         tenant: esa
              |         ------ begins in column 9
            8 |        status: ERROR
              |        ^^^^^^ begins in column 8
              |
              = help: indent the keys of one mapping by the same number of spaces: one of these two lines is wrong

        "#]],
    );
    check_errors(
        &source("amqp:\n url: amqp://h\n  queue: q"),
        expect![[r#"
            error[yaml-syntax]: no line above has the indentation of this line
             --> routes.yaml:6:7
              |
            5 |      url: amqp://h
              |      --- begins in column 6
            6 |       queue: q
              |       ^^^^^ begins in column 7
              |
              = help: indent the keys of one mapping by the same number of spaces: one of these two lines is wrong

        "#]],
    );
    check_errors(
        "version: 1\nsources:\n   regards:\n    amqp: { url: amqp://h, queue: q }\n  other: {}\n",
        expect![[r#"
            error[yaml-syntax]: no line above has the indentation of this line
             --> routes.yaml:5:3
              |
            3 |    regards:
              |    ------- begins in column 4
            4 |     amqp: { url: amqp://h, queue: q }
            5 |   other: {}
              |   ^^^^^ begins in column 3
              |
              = help: indent the keys of one mapping by the same number of spaces: one of these two lines is wrong

        "#]],
    );
    check_errors(
        &routes("- name: r\n   when: { tenant: esa }\n  to: a"),
        expect![[r#"
            error[yaml-syntax]: no line above has the indentation of this line
             --> routes.yaml:6:8
              |
            5 |     - name: r
              |       ---- begins in column 7
            6 |        when: { tenant: esa }
              |        ^^^^ begins in column 8
              |
              = help: indent the keys of one mapping by the same number of spaces: one of these two lines is wrong

        "#]],
    );
    check_errors(
        &routes("- name: r\n  when:\n  tenant: esa\n  to: [a, b]"),
        expect![[r#"
            error[missing-value]: `when` has no value
             --> routes.yaml:6:7
              |
            6 |       when:
              |       ^^^^
              |
              = help: write it after the colon (which events the route matches; without it, all), or remove `when:`

            error[unknown-key]: unknown key `tenant`
             --> routes.yaml:7:7
              |
            6 |       when:
              |       ---- has no value
            7 |       tenant: esa
              |       ^^^^^^
              |
              = help: indent `tenant:` deeper than `when:` if it belongs to that; known keys: `name`, `when`, `to`, `final`, `transform`

        "#]],
    );
}

#[test]
fn a_missing_space_after_a_colon_is_reported() {
    check_errors(
        &routes("- name: r\n  when:{ tenant: esa }\n  to: [a, b]"),
        expect![[r#"
        error[unknown-key]: unknown key `when:{ tenant`
         --> routes.yaml:6:7
          |
        6 |       when:{ tenant: esa }
          |       ^^^^^^^^^^^^^ there is no space after `when:`
          |
          = help: write `when: …`

    "#]],
    );
    check_errors(
        &routes("- { name: r, when:{ tenant: esa }, to: [a, b] }"),
        expect![[r#"
        error[yaml-syntax]: there is no space after this colon
         --> routes.yaml:5:22
          |
        5 |     - { name: r, when:{ tenant: esa }, to: [a, b] }
          |                      ^
          |
          = help: write a space there, as in `when: {`

    "#]],
    );
    check_errors(
        &routes("- { name: r, when: { tenant:esa }, to: [a, b] }"),
        expect![[r#"
        error[unknown-key]: unknown key `tenant:esa`
         --> routes.yaml:5:26
          |
        5 |     - { name: r, when: { tenant:esa }, to: [a, b] }
          |                          ^^^^^^^^^^ there is no space after `tenant:`
          |
          = help: write `tenant: …`

    "#]],
    );
    check_errors(
        &routes("- name:r\n  to:a"),
        expect![[r#"
        warning[unused-sink]: no route leads to the sink `a`
         --> routes.yaml:3:10
          |
        3 | sinks: { a: { stdout: {} }, b: { stdout: {} } }
          |          ^
          |
          = help: name it in the `to:` of a route or an alert, or remove it

        warning[unused-sink]: no route leads to the sink `b`
         --> routes.yaml:3:29
          |
        3 | sinks: { a: { stdout: {} }, b: { stdout: {} } }
          |                             ^
          |
          = help: name it in the `to:` of a route or an alert, or remove it

        error[wrong-type]: expected a mapping of keys to values, found a single value
         --> routes.yaml:5:7
          |
        5 |       - name:r
          |  _______^
        6 | |       to:a
          | |__________^
          |
          = help: write a space after the colon, as in `name: …`

    "#]],
    );
}

#[test]
fn a_bracket_that_is_not_closed_is_shown_where_it_was_opened() {
    check_errors(
        &routes("- name: r\n  when: { tenant: esa\n  to: [a, b]"),
        expect![[r#"
        error[yaml-syntax]: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
         --> routes.yaml:7:9
          |
        6 |       when: { tenant: esa
          |             - opened here
        7 |       to: [a, b]
          |         ^
          |
          = help: separate the entries by commas and close the bracket; quote a value that holds `{`, `}`, `[`, `]` or `,`

    "#]],
    );
}

#[test]
fn a_reference_inside_another_one_is_an_error() {
    check_errors(
        &source("amqp: { url: amqp://h, queue: q, password: ${file:${DIR}/x} }"),
        expect![[r#"
            error[interpolation]: one `${…}` can't be inside another
             --> routes.yaml:4:48
              |
            4 |     amqp: { url: amqp://h, queue: q, password: *** }
              |                                                ^^^
              |
              = help: write `${VAR}`, `${VAR:-default}` or `${file:PATH}`, and `$$` for a dollar

        "#]],
    );
    check_errors(
        &source("amqp:\n  url: amqp://h\n  queue: \"${file:${DIR}/x}\""),
        expect![[r#"
            error[interpolation]: one `${…}` can't be inside another
             --> routes.yaml:6:15
              |
            6 |       queue: "${file:${DIR}/x}"
              |               ^^^^^^^^^^^^^
              |
              = help: write `${VAR}`, `${VAR:-default}` or `${file:PATH}`, and `$$` for a dollar

        "#]],
    );
}

#[test]
fn a_variable_without_braces_is_a_warning() {
    check_warnings(
        &source("amqp: { url: amqp://$HOST:5672, queue: $QUEUE }"),
        expect![[r#"
        warning[bare-variable]: `$HOST` is not replaced: a variable is written with braces
         --> routes.yaml:4:25
          |
        4 |     amqp: { url: amqp://$HOST:5672, queue: $QUEUE }
          |                         ^^^^^
          |
          = help: write `${NAME}` for a variable, and `$$` for a dollar

        warning[bare-variable]: `$QUEUE` is not replaced: a variable is written with braces
         --> routes.yaml:4:44
          |
        4 |     amqp: { url: amqp://$HOST:5672, queue: $QUEUE }
          |                                            ^^^^^^
          |
          = help: write `${NAME}` for a variable, and `$$` for a dollar

    "#]],
    );
    check_warnings(
        &source("amqp: { url: amqp://h, queue: q, username: u, password: $PASSWORD }"),
        expect![[r#"
        warning[bare-variable]: this value is not replaced: a variable is written with braces
         --> routes.yaml:4:61
          |
        4 |     amqp: { url: amqp://h, queue: q, username: u, password: *** }
          |                                                             ^^^
          |
          = help: write `${NAME}` for a variable, and `$$` for a dollar

        warning[secret-in-clear]: the password is written in the file itself
         --> routes.yaml:4:61
          |
        4 |     amqp: { url: amqp://h, queue: q, username: u, password: *** }
          |                                                             ^^^
          |
          = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

    "#]],
    );
}

#[test]
fn the_column_on_a_masked_line_is_that_of_the_file() {
    check_errors(
        &source("amqp: { password: hunter2hunter2hunter2, ur: amqp://h, queue: q }"),
        expect![[r#"
            error[missing-key]: `url` is missing
             --> routes.yaml:4:11
              |
            4 |     amqp: { password: ***, ur: amqp://h, queue: q }
              |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ needs `url`
              |
              = help: add `url:`, the address of the broker, `amqp://HOST` or `amqps://HOST`; the URLs of a list are tried in turn

            warning[secret-in-clear]: the password is written in the file itself
             --> routes.yaml:4:23
              |
            4 |     amqp: { password: ***, ur: amqp://h, queue: q }
              |                       ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            error[unknown-key]: unknown key `ur`
             --> routes.yaml:4:46
              |
            4 |     amqp: { password: ***, ur: amqp://h, queue: q }
              |                            ^^ did you mean `url`?
              |
              = help: write `url:`

        "#]],
    );
    check_errors(
        &source("amqp: { password: hunter2hunter2hunter2, url: amqp://h, queue: q }, bad: ["),
        expect![[r#"
            error[yaml-syntax]: this is not YAML: while parsing a block mapping, did not find expected key
             --> routes.yaml:4:71
              |
            4 |     amqp: { password: ***
              |                       ^^^ at column 71 of the line, which is masked here
              |
              = help: look for a wrong indentation, or a missing colon or quote, on this line or the one before

        "#]],
    );
    check_errors(
        &source("amqp: { password: 'hunter2', url: amqp://h, queue: q } }"),
        expect![[r#"
        error[yaml-syntax]: this is not YAML: misplaced bracket
         --> routes.yaml:4:60
          |
        4 |     amqp: { password: ***
          |                       ^^^ at column 60 of the line, which is masked here
          |
          = help: look for a wrong indentation, or a missing colon or quote, on this line or the one before

    "#]],
    );
}
