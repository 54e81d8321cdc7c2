//! Keys: missing, unknown or repeated ones.

use expect_test::expect;

use super::check_errors;

#[test]
fn a_missing_required_key_is_an_error_with_its_meaning() {
    check_errors(
        "version: 1\nsources:\n",
        expect![[r#"
            error[missing-key]: `sinks` is missing
             --> routes.yaml:1:1
              |
            1 | version: 1
              | ^^^^^^^ needs `sinks`
              |
              = help: add `sinks:`, the sinks, by name: where events are delivered to

            error[missing-key]: `routes` is missing
             --> routes.yaml:1:1
              |
            1 | version: 1
              | ^^^^^^^ needs `routes`
              |
              = help: add `routes:`, the routes: which events go to which sinks; all routes that match apply, from the top

            error[missing-key]: `unrouted` is missing
             --> routes.yaml:1:1
              |
            1 | version: 1
              | ^^^^^^^ needs `unrouted`
              |
              = help: add `unrouted:`, what happens to events that no route matches: `drop`, `dead_letter`, or names of sinks

            error[missing-value]: `sources` has no value
             --> routes.yaml:2:1
              |
            2 | sources:
              | ^^^^^^^
              |
              = help: write it after the colon: the sources, by name: where messages are read from

        "#]],
    );
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    check_errors(
        "version: 1
sources:
  regards: { amqp: { url: amqp://localhost, queue: q, prefech: 5 } }
sinks: { screen: { stdout: {} } }
route: [{ name: all, to: screen, wen: {} }]
routes: [{ name: all, to: screen, wen: {} }]
unrouted: drop
metrics: { port: 1 }
",
        expect![[r#"
            error[unknown-key]: unknown key `prefech`
             --> routes.yaml:3:55
              |
            3 |   regards: { amqp: { url: amqp://localhost, queue: q, prefech: 5 } }
              |                                                       ^^^^^^^ did you mean `prefetch`?
              |
              = help: write `prefetch:`

            error[unknown-key]: unknown key `route`
             --> routes.yaml:5:1
              |
            5 | route: [{ name: all, to: screen, wen: {} }]
              | ^^^^^ did you mean `routes`?
              |
              = help: write `routes:`

            error[unknown-key]: unknown key `wen`
             --> routes.yaml:6:35
              |
            6 | routes: [{ name: all, to: screen, wen: {} }]
              |                                   ^^^ did you mean `when`?
              |
              = help: write `when:`

            error[unknown-key]: unknown key `metrics`
             --> routes.yaml:8:1
              |
            8 | metrics: { port: 1 }
              | ^^^^^^^
              |
              = help: known keys: `version`, `name`, `sources`, `sinks`, `routes`, `unrouted`, `alerts`, `dead_letters`, `spool`, `journal`, `delivery`, `admin`

        "#]],
    );
}

#[test]
fn a_duplicate_key_is_an_error() {
    check_errors(
        "version: 1
sources: { regards: { amqp: { url: amqp://localhost, queue: q } } }
sinks:
  screen: { stdout: {} }
  screen: { stdout: {} }
routes: [{ name: all, to: screen }]
unrouted: drop
",
        expect![[r#"
            error[duplicate-key]: `screen` is given twice
             --> routes.yaml:5:3
              |
            4 |   screen: { stdout: {} }
              |   ------ first here
            5 |   screen: { stdout: {} }
              |   ^^^^^^ given again
              |
              = help: keep one of the two

        "#]],
    );
}

#[test]
fn a_wrong_name_or_address_is_an_error() {
    check_errors(
        "version: 1
name: my relay
sources: { \"a b\": { amqp: { url: amqp://localhost, queue: q } } }
sinks: { drop: { stdout: {} } }
routes: [{ name: \"\", to: drop }]
unrouted: drop
admin: { listen: localhost }
",
        expect![[r#"
            error[relay-name]: `my relay` is not a URI
             --> routes.yaml:2:7
              |
            2 | name: my relay
              |       ^^^^^^^^
              |
              = help: write one of at most 200 characters, as in `urn:example:institute`

            error[illegal-name]: `a b` can't be the name of a source
             --> routes.yaml:3:12
              |
            3 | sources: { "a b": { amqp: { url: amqp://localhost, queue: q } } }
              |            ^^^^^
              |
              = help: use letters, digits, `-`, `_` and `.`, at most 100 of them

            error[illegal-name]: a sink can't be named `drop`
             --> routes.yaml:4:10
              |
            4 | sinks: { drop: { stdout: {} } }
              |          ^^^^
              |
              = help: choose another name: this word has a special meaning in `unrouted:`

            error[illegal-name]: `` can't be the name of a route
             --> routes.yaml:5:18
              |
            5 | routes: [{ name: "", to: drop }]
              |                  ^^
              |
              = help: write 1 to 100 bytes of text on one line

            error[listen-address]: `localhost` is not an address and a port
             --> routes.yaml:7:18
              |
            7 | admin: { listen: localhost }
              |                  ^^^^^^^^^
              |
              = help: write `IP:PORT`, as in `127.0.0.1:9464` or `0.0.0.0:9464`; `none` for no listener

        "#]],
    );
}
