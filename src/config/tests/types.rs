//! Values of the wrong type, or out of range.

use expect_test::expect;

use super::{check_errors, routes, sink};

#[test]
fn a_value_of_the_wrong_type_is_an_error() {
    check_errors(
        "version: one
name: [a]
sources: regards
sinks: { screen: { stdout: {}, retry: { initial_backoff: 5, max_backoff: 10 minutes, max_attempts: few } } }
routes: { name: all }
unrouted: drop
dead_letters: { keep: always, max_size: 2GB }
delivery: { shutdown_grace: 20, max_in_flight_bytes: \"64\" }
spool: { max_share: 0.5 }
",
        expect![[r#"
            error[wrong-value]: `one` is not a whole number
             --> routes.yaml:1:10
              |
            1 | version: one
              |          ^^^
              |
              = help: write digits only, without quotes, as in `100`

            error[wrong-type]: expected a text, found a list
             --> routes.yaml:2:7
              |
            2 | name: [a]
              |       ^^^
              |
              = help: write it as in `name: urn:example:institute`

            error[wrong-type]: expected a mapping of keys to values, found a single value
             --> routes.yaml:3:10
              |
            3 | sources: regards
              |          ^^^^^^^
              |
              = help: write it as in `sources: { regards: { amqp: { url: "amqps://HOST", queue: QUEUE } } }`

            error[wrong-value]: `5` is not a duration
             --> routes.yaml:4:58
              |
            4 | sinks: { screen: { stdout: {}, retry: { initial_backoff: 5, max_backoff: 10 minutes, max_attempts: few } } }
              |                                                          ^
              |
              = help: write a number and a unit, as in `250ms`, `20s`, `5m`, `24h`, `7d`

            error[wrong-value]: `10 minutes` is not a duration
             --> routes.yaml:4:74
              |
            4 | sinks: { screen: { stdout: {}, retry: { initial_backoff: 5, max_backoff: 10 minutes, max_attempts: few } } }
              |                                                                          ^^^^^^^^^^
              |
              = help: write a number and a unit, as in `250ms`, `20s`, `5m`, `24h`, `7d`

            error[wrong-value]: `few` is not `unlimited` or a whole number
             --> routes.yaml:4:100
              |
            4 | sinks: { screen: { stdout: {}, retry: { initial_backoff: 5, max_backoff: 10 minutes, max_attempts: few } } }
              |                                                                                                    ^^^
              |
              = help: write `unlimited`, or digits only, as in `10`

            error[wrong-type]: expected a list, found a mapping of keys to values
             --> routes.yaml:5:9
              |
            5 | routes: { name: all }
              |         ^^^^^^^^^^^^^
              |
              = help: write it as in `routes: [{ name: everything, to: pipeline }]`

            error[wrong-value]: `always` is not `forever` or a duration
             --> routes.yaml:7:23
              |
            7 | dead_letters: { keep: always, max_size: 2GB }
              |                       ^^^^^^
              |
              = help: write `forever`, or a number and a unit, as in `250ms`, `20s`, `5m`, `24h`, `7d`

            error[wrong-value]: `2GB` is not a size
             --> routes.yaml:7:41
              |
            7 | dead_letters: { keep: always, max_size: 2GB }
              |                                         ^^^
              |
              = help: write a number and a unit, as in `512B`, `64KiB`, `1MiB`, `10GiB`

            error[wrong-value]: `20` is not a duration
             --> routes.yaml:8:29
              |
            8 | delivery: { shutdown_grace: 20, max_in_flight_bytes: "64" }
              |                             ^^
              |
              = help: write a number and a unit, as in `250ms`, `20s`, `5m`, `24h`, `7d`

            error[wrong-value]: `64` is not a size
             --> routes.yaml:8:54
              |
            8 | delivery: { shutdown_grace: 20, max_in_flight_bytes: "64" }
              |                                                      ^^^^
              |
              = help: write a number and a unit, as in `512B`, `64KiB`, `1MiB`, `10GiB`

            error[wrong-value]: `0.5` is not a share
             --> routes.yaml:9:21
              |
            9 | spool: { max_share: 0.5 }
              |                     ^^^
              |
              = help: write a share of the whole between `1%` and `100%`

        "#]],
    );
}

#[test]
fn only_the_booleans_of_yaml_1_2_are_accepted() {
    check_errors(
        "version: 1
sources: { regards: { amqp: { url: amqp://localhost, queue: q, exclusive: yes } } }
sinks: { screen: { stdout: {} } }
routes: [{ name: all, to: screen, final: \"true\" }]
unrouted: drop
",
        expect![[r#"
            error[wrong-value]: `yes` is not `true` or `false`
             --> routes.yaml:2:75
              |
            2 | sources: { regards: { amqp: { url: amqp://localhost, queue: q, exclusive: yes } } }
              |                                                                           ^^^
              |
              = help: write `true` or `false`, without quotes

            error[wrong-type]: `true` is a text, because it is in quotes: expected `true` or `false`
             --> routes.yaml:4:42
              |
            4 | routes: [{ name: all, to: screen, final: "true" }]
              |                                          ^^^^^^
              |
              = help: remove the quotes

        "#]],
    );
}

#[test]
fn a_number_out_of_range_is_an_error() {
    check_errors(
        "version: 1
sources: { regards: { amqp: { url: amqp://localhost, queue: q, prefetch: 0 }, max_body: 12B } }
sinks: { hook: { webhook: { url: \"https://localhost/\", timeout: 2h, concurrency: 5000 } } }
routes: [{ name: all, to: hook }]
unrouted: drop
delivery: { max_in_flight_bytes: 99999999999999999999GiB }
",
        expect![[r#"
            error[out-of-range]: `0` is out of range
             --> routes.yaml:2:74
              |
            2 | sources: { regards: { amqp: { url: amqp://localhost, queue: q, prefetch: 0 }, max_body: 12B } }
              |                                                                          ^
              |
              = help: write something between `1` and `65535`

            error[out-of-range]: `12B` is out of range
             --> routes.yaml:2:89
              |
            2 | sources: { regards: { amqp: { url: amqp://localhost, queue: q, prefetch: 0 }, max_body: 12B } }
              |                                                                                         ^^^
              |
              = help: write something between `1KiB` and `1GiB`

            error[out-of-range]: `2h` is out of range
             --> routes.yaml:3:65
              |
            3 | sinks: { hook: { webhook: { url: "https://localhost/", timeout: 2h, concurrency: 5000 } } }
              |                                                                 ^^
              |
              = help: write something between `100ms` and `1h`

            error[out-of-range]: `5000` is out of range
             --> routes.yaml:3:82
              |
            3 | sinks: { hook: { webhook: { url: "https://localhost/", timeout: 2h, concurrency: 5000 } } }
              |                                                                                  ^^^^
              |
              = help: write something between `1` and `1000`

            error[wrong-value]: `99999999999999999999GiB` is not a size
             --> routes.yaml:6:34
              |
            6 | delivery: { max_in_flight_bytes: 99999999999999999999GiB }
              |                                  ^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write a number and a unit, as in `512B`, `64KiB`, `1MiB`, `10GiB`

        "#]],
    );
}

#[test]
fn the_error_for_a_wrong_type_shows_an_example_of_the_key() {
    check_errors(
        &routes("- { name: r, when: [tenant, esa], to: { a: b } }\n- all"),
        expect![[r#"
        error[wrong-type]: expected a mapping of keys to values, found a list
         --> routes.yaml:5:24
          |
        5 |     - { name: r, when: [tenant, esa], to: { a: b } }
          |                        ^^^^^^^^^^^^^
          |
          = help: write it as in `when: { tenant: esa, outcome: [failed, rejected] }`

        error[wrong-type]: expected a text, found a mapping of keys to values
         --> routes.yaml:5:43
          |
        5 |     - { name: r, when: [tenant, esa], to: { a: b } }
          |                                           ^^^^^^^^
          |
          = help: write it as in `to: [pipeline, archive]`

        error[wrong-type]: expected a mapping of keys to values, found a single value
         --> routes.yaml:6:7
          |
        6 |     - all
          |       ^^^
          |
          = help: write it as in `routes: [{ name: everything, to: pipeline }]`

    "#]],
    );
    check_errors(
        &sink("stdout: {}\nretry: 5"),
        expect![[r#"
        error[wrong-type]: expected a mapping of keys to values, found a single value
         --> routes.yaml:6:12
          |
        6 |     retry: 5
          |            ^
          |
          = help: write it as in `retry: { initial_backoff: 5s, max_backoff: 10m }`

    "#]],
    );
    check_errors(
        &sink("kafka: { brokers: { h: 1 }, topic: [t] }"),
        expect![[r#"
        error[wrong-type]: expected a text, found a mapping of keys to values
         --> routes.yaml:5:23
          |
        5 |     kafka: { brokers: { h: 1 }, topic: [t] }
          |                       ^^^^^^^^
          |
          = help: write it as in `brokers: ["HOST-1:9092", "HOST-2:9092"]`

        error[wrong-type]: expected a text, found a list
         --> routes.yaml:5:40
          |
        5 |     kafka: { brokers: { h: 1 }, topic: [t] }
          |                                        ^^^
          |
          = help: write it as in `topic: "regards.{{ tenant }}"`

    "#]],
    );
}

#[test]
fn the_error_for_a_wrong_block_shows_an_example_of_the_key() {
    check_errors(
        &sink(
            "webhook: { url: 'https://h/x', auth: token, headers: [a], tls: true, responses: { retry: { a: 409 } } }",
        ),
        expect![[r#"
            error[wrong-type]: expected a mapping of keys to values, found a single value
             --> routes.yaml:5:42
              |
            5 |     webhook: { url: 'https://h/x', auth: ***, headers: [a], tls: true, responses: { retry: { a: 409 } } }
              |                                          ^^^
              |
              = help: write it as in `auth: { bearer: "${file:/run/secrets/NAME}" }`

            error[wrong-type]: expected a mapping of keys to values, found a list
             --> routes.yaml:5:58
              |
            5 |     webhook: { url: 'https://h/x', auth: ***, headers: [a], tls: true, responses: { retry: { a: 409 } } }
              |                                                        ^^^
              |
              = help: write it as in `headers: { X-Team: ground-segment }`

            error[wrong-type]: expected a mapping of keys to values, found a single value
             --> routes.yaml:5:68
              |
            5 |     webhook: { url: 'https://h/x', auth: ***, headers: [a], tls: true, responses: { retry: { a: 409 } } }
              |                                                                  ^^^^
              |
              = help: write it as in `tls: { ca: ca.pem }`

            error[wrong-type]: expected a whole number, found a mapping of keys to values
             --> routes.yaml:5:94
              |
            5 |     webhook: { url: 'https://h/x', auth: ***, headers: [a], tls: true, responses: { retry: { a: 409 } } }
              |                                                                                            ^^^^^^^^^^
              |
              = help: write it as in `retry: [422]`

        "#]],
    );
    check_errors(
        "version: 1\nsources: [{ amqp: { url: amqp://h, queue: q } }]\nsinks: [{ stdout: {} }]\nroutes: { name: all, to: a }\nunrouted: {}\ndead_letters: forever\nspool: 10GiB\ndelivery: 2s\nadmin: 9464\n",
        expect![[r#"
            error[wrong-type]: expected a mapping of keys to values, found a list
             --> routes.yaml:2:10
              |
            2 | sources: [{ amqp: { url: amqp://h, queue: q } }]
              |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write it as in `sources: { regards: { amqp: { url: "amqps://HOST", queue: QUEUE } } }`

            error[wrong-type]: expected a mapping of keys to values, found a list
             --> routes.yaml:3:8
              |
            3 | sinks: [{ stdout: {} }]
              |        ^^^^^^^^^^^^^^^^
              |
              = help: write it as in `sinks: { screen: { stdout: {} } }`

            error[wrong-type]: expected a list, found a mapping of keys to values
             --> routes.yaml:4:9
              |
            4 | routes: { name: all, to: a }
              |         ^^^^^^^^^^^^^^^^^^^^
              |
              = help: write it as in `routes: [{ name: everything, to: pipeline }]`

            error[wrong-type]: expected a text, found a mapping of keys to values
             --> routes.yaml:5:11
              |
            5 | unrouted: {}
              |           ^^
              |
              = help: write it as in `unrouted: dead_letter`

            error[wrong-type]: expected a mapping of keys to values, found a single value
             --> routes.yaml:6:15
              |
            6 | dead_letters: forever
              |               ^^^^^^^
              |
              = help: write it as in `dead_letters: { keep: 30d, max_size: 2GiB }`

            error[wrong-type]: expected a mapping of keys to values, found a single value
             --> routes.yaml:7:8
              |
            7 | spool: 10GiB
              |        ^^^^^
              |
              = help: write it as in `spool: { max_size: 10GiB }`

            error[wrong-type]: expected a mapping of keys to values, found a single value
             --> routes.yaml:8:11
              |
            8 | delivery: 2s
              |           ^^
              |
              = help: write it as in `delivery: { shutdown_grace: 20s }`

            error[wrong-type]: expected a mapping of keys to values, found a single value
             --> routes.yaml:9:8
              |
            9 | admin: 9464
              |        ^^^^
              |
              = help: write it as in `admin: { listen: "127.0.0.1:9464" }`

        "#]],
    );
}
