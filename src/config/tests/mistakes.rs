//! Values that are right as YAML and can't be meant: of another type, unusable, unescaped, undone.

use expect_test::expect;

use super::{Strictness, parse, routes, sink, source, warned, wrong};

#[test]
fn a_value_of_another_type_comes_with_an_example_of_its_key() {
    wrong(
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
    wrong(
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
    wrong(
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
fn a_block_of_another_type_comes_with_an_example_of_its_key() {
    wrong(
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
    wrong(
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

#[test]
fn a_status_that_no_family_has_is_an_error_where_the_families_are_known() {
    wrong(
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
    warned(
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
    warned(
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
fn a_body_that_looks_like_json_has_its_fields_escaped() {
    warned(
        &sink("webhook: { url: 'https://h/x' }\nbody: '{\"text\": \"{{ status }}: {{ message }}\"}'"),
        expect![[r#"
            warning[json-unescaped]: this body looks like JSON, and `message` goes into it unescaped: a quote or a line break in it breaks the JSON
             --> routes.yaml:6:39
              |
            6 |     body: '{"text": "{{ status }}: {{ message }}"}'
              |                                       ^^^^^^^
              |
              = help: write `{{ message | tojson }}`, or `{{ ("text " ~ message) | tojson }}`, without quotes around it, as `tojson` adds them

        "#]],
    );
}

#[test]
fn addresses_of_kafka_brokers() {
    wrong(
        &sink("kafka: { brokers: 'host:99092', topic: t }"),
        expect![[r#"
        error[kafka-broker]: `host:99092` is not the address of a broker: its port is not a number from 1 to 65535
         --> routes.yaml:5:23
          |
        5 |     kafka: { brokers: 'host:99092', topic: t }
          |                       ^^^^^^^^^^^^
          |
          = help: write `HOST:PORT`, several in a list or separated by commas

    "#]],
    );
    wrong(
        &sink("kafka: { brokers: 'kafka://host:9092', topic: t }"),
        expect![[r#"
        error[kafka-broker]: `kafka://host:9092` is not the address of a broker: it has a scheme
         --> routes.yaml:5:23
          |
        5 |     kafka: { brokers: 'kafka://host:9092', topic: t }
          |                       ^^^^^^^^^^^^^^^^^^^
          |
          = help: write only `HOST:PORT`; for brokers with TLS, add `tls: {}`

    "#]],
    );
    wrong(
        &sink("kafka: { brokers: 'host:9092/x', topic: t }"),
        expect![[r#"
        error[kafka-broker]: `host:9092/x` is not the address of a broker: its port is not a number from 1 to 65535
         --> routes.yaml:5:23
          |
        5 |     kafka: { brokers: 'host:9092/x', topic: t }
          |                       ^^^^^^^^^^^^^
          |
          = help: write `HOST:PORT`, several in a list or separated by commas

    "#]],
    );
}

#[test]
fn filters_and_tests_of_templates_by_their_names_elsewhere() {
    wrong(
        &sink("kafka: { brokers: h, topic: 't.{{ tenant | lowercase }}' }"),
        expect![[r#"
        error[template]: this is not a template: there is no filter lowercase; did you mean lower?
         --> routes.yaml:5:33
          |
        5 |     kafka: { brokers: h, topic: 't.{{ tenant | lowercase }}' }
          |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

    "#]],
    );
    wrong(
        &sink("kafka: { brokers: h, topic: 't.{% if session is null %}x{% endif %}' }"),
        expect![[r#"
        error[template]: this is not a template: there is no test null; did you mean none?
         --> routes.yaml:5:33
          |
        5 |     kafka: { brokers: h, topic: 't.{% if session is null %}x{% endif %}' }
          |                                 ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

    "#]],
    );
}

#[test]
fn an_order_that_the_partitions_undo() {
    warned(
        &sink("kafka: { brokers: h, topic: t, partitioner: random }"),
        expect![[r#"
        warning[order-undone]: the partitioner `random` ignores the key: events with the same correlationId lose their order
         --> routes.yaml:5:49
          |
        5 |     kafka: { brokers: h, topic: t, partitioner: random }
          |                                                 ^^^^^^
          |
          = help: remove it, or write `order_by: none` if the order does not matter

    "#]],
    );
    warned(
        &sink("kafka: { brokers: h, topic: t, key: '' }\norder_by: session"),
        expect![[r#"
        warning[order-undone]: a record without a key goes to any partition: events with the same session lose their order
         --> routes.yaml:5:41
          |
        5 |     kafka: { brokers: h, topic: t, key: '' }
          |                                         ^^
          |
          = help: remove it, or write `order_by: none` if the order does not matter

    "#]],
    );
}

#[test]
fn the_secret_of_the_examples_is_no_secret() {
    warned(
        &sink(
            "webhook: { url: 'https://h/x', secret: '${UNSET_WEBHOOK_SECRET:-whsec_dGhpcyBpcyBhIHNlY3JldCB0aGF0IGV2ZXJ5Ym9keSBrbm93cw==}' }",
        ),
        expect![[r#"
            warning[known-secret]: this is the secret of an example: everybody can sign with it
             --> routes.yaml:5:44
              |
            5 |     webhook: { url: 'https://h/x', secret: '${UNSET_WEBHOOK_SECRET:-***}' }
              |                                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: `echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it

        "#]],
    );
}

#[test]
fn what_is_known_as_the_secret_of_the_examples_is_that() {
    for text in [include_str!("../../../examples/webhook-on-error.yaml"), include_str!("../../cli/demo/mod.rs")] {
        let secrets = text.split("whsec_").skip(1).map(|after| after.split(['}', '"']).next().unwrap_or_default());
        for secret in secrets {
            let file = sink(&format!("webhook: {{ url: 'https://h/x', secret: whsec_{secret} }}"));
            let (_, warnings) = parse(&file, Strictness::Run, &[]).unwrap();
            assert!(warnings.iter().any(|warning| warning.code() == "known-secret"), "{secret}: {warnings}");
        }
    }
}

#[test]
fn nothing_to_log_in_with() {
    let empty = [("EMPTY", ""), ("MARKED", "\u{feff}token")];
    for (text, expected) in [
        (
            source("amqp: { url: amqp://h, queue: q, username: '${EMPTY}', password: '${EMPTY}' }"),
            expect![[r#"
            error[empty-secret]: the user's name is empty: the variable or file has no content
             --> routes.yaml:4:48
              |
            4 |     amqp: { url: amqp://h, queue: q, username: '${EMPTY}', password: '${EMPTY}' }
              |                                                ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

            error[empty-secret]: the password is empty: the variable or file has no content
             --> routes.yaml:4:70
              |
            4 |     amqp: { url: amqp://h, queue: q, username: '${EMPTY}', password: '${EMPTY}' }
              |                                                                      ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

        "#]],
        ),
        (
            sink("webhook: { url: 'https://h/x', secret: '${EMPTY}', auth: { bearer: '${EMPTY}' } }"),
            expect![[r#"
            error[empty-secret]: the secret is empty: the variable or file has no content
             --> routes.yaml:5:44
              |
            5 |     webhook: { url: 'https://h/x', secret: '${EMPTY}', auth: { bearer: '${EMPTY}' } }
              |                                            ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

            error[empty-secret]: the token is empty: the variable or file has no content
             --> routes.yaml:5:72
              |
            5 |     webhook: { url: 'https://h/x', secret: '${EMPTY}', auth: { bearer: '${EMPTY}' } }
              |                                                                        ^^^^^^^^^^
              |
              = help: put the value there, or remove the key

        "#]],
        ),
        (
            sink(
                "webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }",
            ),
            expect![[r#"
                error[byte-order-mark]: the secret begins with a byte order mark (U+FEFF), which is sent as a part of it
                 --> routes.yaml:5:44
                  |
                5 |     webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }
                  |                                            ^^^^^^^^^^^
                  |
                  = help: save the file as UTF-8 without a byte order mark: `sed -i '1s/^\xEF\xBB\xBF//' FILE` removes it

                error[empty-secret]: the user's name is empty: the variable or file has no content
                 --> routes.yaml:5:84
                  |
                5 |     webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }
                  |                                                                                    ^^^^^^^^^^
                  |
                  = help: put the value there, or remove the key

                error[byte-order-mark]: the password begins with a byte order mark (U+FEFF), which is sent as a part of it
                 --> routes.yaml:5:106
                  |
                5 |     webhook: { url: 'https://h/x', secret: '${MARKED}', auth: { basic: { username: '${EMPTY}', password: '${MARKED}' } } }
                  |                                                                                                          ^^^^^^^^^^^
                  |
                  = help: save the file as UTF-8 without a byte order mark: `sed -i '1s/^\xEF\xBB\xBF//' FILE` removes it

            "#]],
        ),
        (
            sink(
                "kafka: { brokers: h, topic: t, tls: {}, sasl: { mechanism: PLAIN, username: '${EMPTY}', password: '${MARKED}' } }",
            ),
            expect![[r#"
                error[empty-secret]: the user's name is empty: the variable or file has no content
                 --> routes.yaml:5:81
                  |
                5 |     kafka: { brokers: h, topic: t, tls: {}, sasl: { mechanism: PLAIN, username: '${EMPTY}', password: '${MARKED}' } }
                  |                                                                                 ^^^^^^^^^^
                  |
                  = help: put the value there, or remove the key

                error[byte-order-mark]: the password begins with a byte order mark (U+FEFF), which is sent as a part of it
                 --> routes.yaml:5:103
                  |
                5 |     kafka: { brokers: h, topic: t, tls: {}, sasl: { mechanism: PLAIN, username: '${EMPTY}', password: '${MARKED}' } }
                  |                                                                                                       ^^^^^^^^^^^
                  |
                  = help: save the file as UTF-8 without a byte order mark: `sed -i '1s/^\xEF\xBB\xBF//' FILE` removes it

            "#]],
        ),
    ] {
        expected.assert_eq(&parse(&text, Strictness::Run, &empty).unwrap_err().to_string());
    }
    let (_, warnings) =
        parse(&source("amqp: { url: amqp://h, queue: q, password: '${EMPTY}' }"), Strictness::Offline, &empty).unwrap();
    assert!(warnings.iter().any(|warning| warning.code() == "empty-secret"), "{warnings}");
}

#[test]
fn a_file_that_is_too_large_is_not_even_parsed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("routes.yaml");
    // It is no YAML, and its end is no UTF-8: neither is what is said.
    let mut bytes = vec![b'['; 10_000_000];
    bytes.extend([0xff]);
    std::fs::write(&path, bytes).unwrap();
    let said = crate::config::Config::load(&path, &super::options(Strictness::Run, &[])).unwrap_err().to_string();
    let said = said.replace(&directory.path().display().to_string(), "HERE");
    expect![[r#"
        error[too-large]: the file is longer than 8 MiB, and is not read
        --> HERE/routes.yaml
         = help: check that this is the configuration; write patterns instead of one route for each name

    "#]]
    .assert_eq(&said);
    let said = parse(&"#".repeat(9 << 20), Strictness::Run, &[]).unwrap_err();
    assert_eq!(said.iter().next().map(super::super::Diagnostic::code), Some("too-large"));
}
