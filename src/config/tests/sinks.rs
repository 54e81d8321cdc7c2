//! Settings that every sink has, and sinks to AMQP and files.

use expect_test::expect;

use super::{Strictness, check_errors, check_warnings, parse, sink, valid};

#[test]
fn a_sink_needs_exactly_one_kind() {
    check_errors(
        &sink("format: original"),
        expect![[r#"
        error[no-kind]: the sink `out` has no kind
         --> routes.yaml:4:3
          |
        4 |   out:
          |   ^^^
          |
          = help: add `kafka:`, `webhook:`, `amqp:`, `file:` or `stdout: {}` below it

    "#]],
    );
    check_errors(
        &sink("stdout: {}\nfile: { path: x }"),
        expect![[r#"
        error[two-kinds]: the sink `out` has two kinds
         --> routes.yaml:5:13
          |
        5 |     stdout: {}
          |             ^^
          |
          = help: make it two sinks, each with its own name

    "#]],
    );
    check_errors(
        &sink("kafak: { topic: t }"),
        expect![[r#"
        error[unknown-key]: unknown key `kafak`
         --> routes.yaml:5:5
          |
        5 |     kafak: { topic: t }
          |     ^^^^^ did you mean `kafka`?
          |
          = help: write `kafka:`

    "#]],
    );
}

#[test]
fn an_unknown_or_second_format_is_an_error() {
    check_errors(
        &sink("stdout: {}\nformat: cloudevent"),
        expect![[r#"
        error[unknown-format]: `cloudevent` is not a format
         --> routes.yaml:6:13
          |
        6 |     format: cloudevent
          |             ^^^^^^^^^^ did you mean `cloudevents`?
          |
          = help: write `cloudevents`

    "#]],
    );
    check_errors(
        &sink("stdout: {}\nformat: original\nbody: x"),
        expect![[r#"
        error[two-formats]: `body` replaces `format`
         --> routes.yaml:7:11
          |
        6 |     format: original
          |             -------- the other one
        7 |     body: x
          |           ^
          |
          = help: keep one of the two

    "#]],
    );
}

#[test]
fn a_wrong_retry_setting_is_reported() {
    check_errors(
        &sink("stdout: {}\nretry: { initial_backoff: 5m, max_backoff: 10s, max_attempts: 0 }"),
        expect![[r#"
            error[retry-order]: `max_backoff` is shorter than `initial_backoff`
             --> routes.yaml:6:48
              |
            6 |     retry: { initial_backoff: 5m, max_backoff: 10s, max_attempts: 0 }
              |                                                ^^^
              |
              = help: the back-off doubles from `initial_backoff` up to `max_backoff`: make `max_backoff` at least as long

            error[out-of-range]: `0` is out of range
             --> routes.yaml:6:67
              |
            6 |     retry: { initial_backoff: 5m, max_backoff: 10s, max_attempts: 0 }
              |                                                                   ^
              |
              = help: write something between `1` and `1000000`

        "#]],
    );
    check_warnings(
        &sink("stdout: {}\nretry: { give_up_after: 1m }"),
        expect![[r#"
        warning[gives-up-early]: deliveries are given up before the back-off reaches `max_backoff`
         --> routes.yaml:6:29
          |
        6 |     retry: { give_up_after: 1m }
          |                             ^^
          |
          = help: a longer `give_up_after` survives an outage of the destination

    "#]],
    );
}

#[test]
fn an_unknown_order_is_an_error() {
    check_errors(
        &sink("stdout: {}\norder_by: correlationid"),
        expect![[r#"
        error[unknown-word]: `correlationid` is not one of `correlationId`, `productId`, `session`, `tenant`, `none`
         --> routes.yaml:6:15
          |
        6 |     order_by: correlationid
          |               ^^^^^^^^^^^^^ did you mean `correlationId`?
          |
          = help: write `correlationId`

    "#]],
    );
}

#[test]
fn an_empty_list_of_sinks_is_an_error() {
    check_errors(
        "version: 1
sources: { regards: { amqp: { url: amqp://localhost, queue: q } } }
sinks: {}
routes: [{ name: all, to: [] }]
unrouted: drop
",
        expect![[r#"
            error[no-sink]: there is no sink
             --> routes.yaml:3:8
              |
            3 | sinks: {}
              |        ^^
              |
              = help: add one: a name, and below it `kafka:`, `webhook:`, `amqp:`, `file:` or `stdout: {}`

        "#]],
    );
}

#[test]
fn a_security_setting_without_a_value_is_an_error() {
    let of = |kind: &str, sink: &str| (kind.to_owned(), super::sink(sink));
    for (key, text) in [
        of("secret", "webhook:\n  url: https://h/\n  secret:\n  # - whsec_x"),
        of("auth", "webhook:\n  url: https://h/\n  auth:"),
        of("bearer", "webhook:\n  url: https://h/\n  auth: { bearer: }"),
        of("headers", "webhook:\n  url: https://h/\n  headers:"),
        of("proxy", "webhook:\n  url: https://h/\n  proxy:"),
        of("rate", "webhook:\n  url: https://h/\n  rate:"),
        of("tls", "webhook:\n  url: https://h/\n  tls:"),
        of("ca", "webhook:\n  url: https://h/\n  tls: { ca: }"),
        of("tls", "kafka: { brokers: h, topic: t, tls: }"),
        of("sasl", "kafka: { brokers: h, topic: t, sasl: }"),
        of("key", "kafka: { brokers: h, topic: t, key: }"),
        of("password", "amqp: { url: amqp://h, exchange: e, password: }"),
        of("vhost", "amqp: { url: amqp://h, exchange: e, vhost: null }"),
        of("routing_key", "amqp: { url: amqp://h, exchange: e, routing_key: }"),
        of("format", "stdout: {}\nformat:"),
        of("stdout", "stdout:"),
    ] {
        let diagnostics = parse(&text, Strictness::Run, &[]).expect_err(key.as_str());
        let found: Vec<_> = diagnostics.iter().map(|found| (found.code(), found.message().to_owned())).collect();
        assert_eq!(found, [("missing-value", format!("`{key}` has no value"))], "{diagnostics}");
    }
    for block in ["dead_letters:", "dead_letters: { to: null }", "spool:", "delivery:", "admin:"] {
        valid(&format!("{}{block}\n", super::sink("stdout: {}\nbody: null\nretry:")));
    }
    valid(&super::source("amqp: { url: amqp://h, queue: q }\ntenant: null"));
}

#[test]
fn a_file_outside_the_data_directory_is_an_error() {
    for (path, expected) in [
        (
            "/var/log/x",
            expect![[r#"
            error[file-path]: `/var/log/x` leaves the data directory
             --> routes.yaml:5:19
              |
            5 |     file: { path: /var/log/x }
              |                   ^^^^^^^^^^
              |
              = help: write a path below the data directory, as in `archive/{{ tenant }}.ndjson`; `--data-dir` sets that directory

        "#]],
        ),
        (
            "../x",
            expect![[r#"
            error[file-path]: `../x` leaves the data directory
             --> routes.yaml:5:19
              |
            5 |     file: { path: ../x }
              |                   ^^^^
              |
              = help: write a path below the data directory, as in `archive/{{ tenant }}.ndjson`; `--data-dir` sets that directory

        "#]],
        ),
        (
            "\"a/../../{{ tenant }}\"",
            expect![[r#"
            error[file-path]: `a/../../{{ tenant }}` leaves the data directory
             --> routes.yaml:5:19
              |
            5 |     file: { path: "a/../../{{ tenant }}" }
              |                   ^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write a path below the data directory, as in `archive/{{ tenant }}.ndjson`; `--data-dir` sets that directory

        "#]],
        ),
        (
            "./spool.db",
            expect![[r#"
            error[file-path]: this is the file of the spool
             --> routes.yaml:5:19
              |
            5 |     file: { path: ./spool.db }
              |                   ^^^^^^^^^^
              |
              = help: write to another file, or move the spool: `spool: { path: … }`

        "#]],
        ),
        (
            "spool.lock",
            expect![[r#"
            error[file-path]: the relay keeps a file of its own there
             --> routes.yaml:5:19
              |
            5 |     file: { path: spool.lock }
              |                   ^^^^^^^^^^
              |
              = help: write to another file: the spool, its lock, `journal.db` and `control.sock` are the relay's

        "#]],
        ),
        (
            "a/",
            expect![[r#"
            error[file-path]: this is not the path of a file
             --> routes.yaml:5:19
              |
            5 |     file: { path: a/ }
              |                   ^^
              |
              = help: write a path below the data directory, as in `archive/{{ tenant }}.ndjson`; `--data-dir` sets that directory

        "#]],
        ),
    ] {
        check_errors(&sink(&format!("file: {{ path: {path} }}")), expected);
    }
}

#[test]
fn a_loop_from_a_sink_to_a_source_is_an_error() {
    check_errors(
        "version: 1
sources:
  regards:
    amqp:
      url: amqp://broker.example.org
      vhost: regards.multitenant.manager
      queue: q
      declare: { bindings: [{ exchange: mine }] }
sinks:
  one: { amqp: { url: \"amqps://BROKER.example.org/regards.multitenant.manager\", exchange: mine } }
  two: { amqp: { url: \"amqp://broker.example.org:5672\", vhost: regards.multitenant.manager, exchange: regards.broadcast.fr.cnes.regards.modules.order.amqp.output.OrderResponseDtoEvent } }
  three: { amqp: { url: \"amqp://broker.example.org/regards.multitenant.manager\", exchange: \"\", routing_key: q } }
  dead: { amqp: { url: \"amqp://broker.example.org/regards.multitenant.manager\", exchange: regards.DLX } }
  elsewhere: { amqp: { url: \"amqp://broker.example.org/other\", exchange: mine } }
routes: [{ name: all, to: [one, two, three, dead, elsewhere] }]
unrouted: drop
",
        expect![[r#"
            error[loop]: a source consumes what is published here
              --> routes.yaml:10:91
               |
            10 |   one: { amqp: { url: "amqps://BROKER.example.org/regards.multitenant.manager", exchange: mine } }
               |                                                                                           ^^^^ every event would be received again
               |
               = help: publish to an exchange of your own

            error[loop]: a source consumes what is published here
              --> routes.yaml:11:103
               |
            11 | ...ange: regards.broadcast.fr.cnes.regards.modules.order.amqp.output.OrderResponseDtoEvent } }
               |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ every event would be received again
               |
               = help: publish to an exchange of your own

            error[loop]: a source consumes what is published here
              --> routes.yaml:12:92
               |
            12 |   three: { amqp: { url: "amqp://broker.example.org/regards.multitenant.manager", exchange: "", routing_key: q } }
               |                                                                                            ^^ every event would be received again
               |
               = help: publish to an exchange of your own

            error[regards-dead-letters]: this is where REGARDS keeps its own dead letters
              --> routes.yaml:13:91
               |
            13 |   dead: { amqp: { url: "amqp://broker.example.org/regards.multitenant.manager", exchange: regards.DLX } }
               |                                                                                           ^^^^^^^^^^^
               |
               = help: publish to an exchange of your own

        "#]],
    );
}

#[test]
fn headers_of_the_relay_and_of_the_broker_are_errors() {
    let headers = "headers: { regards-Relay-id: a, \"\": b, X-Retry: c, cc: d, Bcc: e, Authorization: f, team: \"{{ tenant }}\" }";
    check_errors(
        &sink(&format!("amqp:\n  url: amqp://h\n  exchange: out\n  {headers}")),
        expect![[r#"
        error[header-name]: the header `regards-Relay-id` can't be set here: the relay sets those with `regards-relay-`
         --> routes.yaml:8:18
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                  ^^^^^^^^^^^^^^^^
          |
          = help: choose another name

        error[header-name]: `` can't be the name of a header
         --> routes.yaml:8:39
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                                       ^^
          |
          = help: write 1 to 255 bytes of text without control characters

        error[header-name]: the header `X-Retry` can't be set here: `CC`, `BCC` and `x-…` are instructions to the broker
         --> routes.yaml:8:46
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                                              ^^^^^^^
          |
          = help: choose another name; `routing_key` decides where a message goes

        error[header-name]: the header `cc` can't be set here: `CC`, `BCC` and `x-…` are instructions to the broker
         --> routes.yaml:8:58
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                                                          ^^
          |
          = help: choose another name; `routing_key` decides where a message goes

        error[header-name]: the header `Bcc` can't be set here: `CC`, `BCC` and `x-…` are instructions to the broker
         --> routes.yaml:8:65
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                                                                 ^^^
          |
          = help: choose another name; `routing_key` decides where a message goes

        warning[secret-in-clear]: the value of this header is written in the file itself
         --> routes.yaml:8:88
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                                                                                        ^^^
          |
          = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

    "#]],
    );
    check_errors(
        &sink(&format!("kafka:\n  brokers: h\n  topic: t\n  {headers}")),
        expect![[r#"
        error[header-name]: the header `regards-Relay-id` can't be set here: the relay sets those with `regards-relay-`
         --> routes.yaml:8:18
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                  ^^^^^^^^^^^^^^^^
          |
          = help: choose another name

        error[header-name]: `` can't be the name of a header
         --> routes.yaml:8:39
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                                       ^^
          |
          = help: write 1 to 255 bytes of text without control characters

        warning[secret-in-clear]: the value of this header is written in the file itself
         --> routes.yaml:8:88
          |
        8 |       headers: { regards-Relay-id: a, "": b, X-Retry: c, cc: d, Bcc: e, Authorization: ***, team: "{{ tenant }}" }
          |                                                                                        ^^^
          |
          = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

    "#]],
    );
}
