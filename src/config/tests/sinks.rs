//! Wrong sinks.

use expect_test::expect;

use super::{parse, right, sink, warned, wrong};
use crate::config::Strictness;

#[test]
fn a_sink_has_one_kind() {
    wrong(
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
    wrong(
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
    wrong(
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
fn formats() {
    wrong(
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
    wrong(
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
fn retries() {
    wrong(
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
    warned(
        &sink("stdout: {}\nretry: { give_up_after: 1m }"),
        expect![[r#"
        warning[gives-up-early]: deliveries are given up before the waits between attempts reach `max`
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
fn order() {
    wrong(
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
fn kafka() {
    wrong(
        &sink("kafka: { topic: t }"),
        expect![[r#"
            error[missing-key]: `brokers` is missing
             --> routes.yaml:5:12
              |
            5 |     kafka: { topic: t }
              |            ^^^^^^^^^^^^ needs `brokers`
              |
              = help: add `brokers:`, bootstrap brokers, `HOST:PORT`, as a list or separated by commas

        "#]],
    );
    wrong(
        &sink(
            "kafka:\n  brokers: [one:9092, \"kafka://two\"]\n  topic: all events\n  partitioner: murmur\n  timestamp: now",
        ),
        expect![[r#"
            error[kafka-broker]: `kafka://two` is not the address of a broker: it has a scheme
             --> routes.yaml:6:27
              |
            6 |       brokers: [one:9092, "kafka://two"]
              |                           ^^^^^^^^^^^^^
              |
              = help: write only `HOST:PORT`; for brokers with TLS, add `tls: {}`

            error[kafka-topic]: `all events` can't be the name of a topic
             --> routes.yaml:7:14
              |
            7 |       topic: all events
              |              ^^^^^^^^^^
              |
              = help: Kafka takes letters, digits, `.`, `_` and `-`, at most 249 of them

            error[unknown-word]: `murmur` is not one of librdkafka's partitioners
             --> routes.yaml:8:20
              |
            8 |       partitioner: murmur
              |                    ^^^^^^ did you mean `murmur2`?
              |
              = help: write `murmur2`

            error[unknown-word]: `now` is not one of `sent`, `event`
             --> routes.yaml:9:18
              |
            9 |       timestamp: now
              |                  ^^^
              |
              = help: write one of these

        "#]],
    );
}

#[test]
fn kafka_options_that_do_not_go_together() {
    for (options, named, why) in [
        ("{ linger.ms: 60000 }", "linger.ms", "message.timeout.ms"),
        (
            "{ reconnect.backoff.ms: 5000, reconnect.backoff.max.ms: 100 }",
            "reconnect.backoff",
            "reconnect.backoff.max.ms",
        ),
    ] {
        let text = sink(&format!("kafka: {{ brokers: localhost, topic: t, options: {options} }}"));
        let said = parse(&text, Strictness::Run, &[]).unwrap_err().to_string();
        assert!(said.contains("kafka-option") && said.contains(named) && said.contains(why), "{said}");
    }
    right(&sink("kafka: { brokers: localhost, topic: t, options: { linger.ms: 20, reconnect.backoff.ms: 50 } }"));
}

#[test]
fn kafka_options() {
    wrong(
        &sink(
            "kafka:
  brokers: one:9092
  topic: t
  options:
    acks: 1
    max.in.flight: 10
    compression.tpye: zstd
    compression.type: zst
    linger.ms: 5
    bootstrap.servers: two:9092
    sasl.kerberos.keytab: x
    group.id: relay
    delivery.timeout.ms: 1000",
        ),
        expect![[r#"
            error[kafka-option]: `acks` can't be an option: nothing is acknowledged to RabbitMQ before all in-sync replicas have it
             --> routes.yaml:9:9
              |
            9 |         acks: 1
              |         ^^^^
              |
              = help: remove it: the relay sets it itself

            error[kafka-option]: `max.in.flight` can't be an option: the order of records depends on it
              --> routes.yaml:10:9
               |
            10 |         max.in.flight: 10
               |         ^^^^^^^^^^^^^
               |
               = help: remove it: the relay sets it itself

            error[kafka-option]: librdkafka's producer has no option `compression.tpye`
              --> routes.yaml:11:9
               |
            11 |         compression.tpye: zstd
               |         ^^^^^^^^^^^^^^^^ did you mean `compression.type`?
               |
               = help: write `compression.type`

            error[kafka-option]: librdkafka does not accept this value of `compression.type`
              --> routes.yaml:12:27
               |
            12 |         compression.type: zst
               |                           ^^^
               |
               = help: its CONFIGURATION.md describes the values

            error[kafka-option]: `bootstrap.servers` can't be an option
              --> routes.yaml:14:9
               |
            14 |         bootstrap.servers: two:9092
               |         ^^^^^^^^^^^^^^^^^
               |
               = help: write it as `brokers` of `kafka`

            error[kafka-option]: `sasl.kerberos.keytab` can't be an option
              --> routes.yaml:15:9
               |
            15 |         sasl.kerberos.keytab: ***
               |         ^^^^^^^^^^^^^^^^^^^^
               |
               = help: write it as `sasl` of `kafka`

            error[kafka-option]: librdkafka's producer has no option `group.id`
              --> routes.yaml:16:9
               |
            16 |         group.id: relay
               |         ^^^^^^^^
               |
               = help: its CONFIGURATION.md lists the names (those marked P or *)

            error[kafka-option]: `delivery.timeout.ms` can't be an option: the relay's own retries depend on it
              --> routes.yaml:17:9
               |
            17 |         delivery.timeout.ms: 1000
               |         ^^^^^^^^^^^^^^^^^^^
               |
               = help: remove it: the relay sets it itself

        "#]],
    );
}

#[test]
fn kafka_login() {
    wrong(
        &sink(
            "kafka:\n  brokers: one:9092\n  topic: t\n  sasl: { mechanism: scram-sha-512, username: me }\n  tls: { server_name: x }",
        ),
        expect![[r#"
            error[missing-key]: `password` is missing
             --> routes.yaml:8:13
              |
            8 |       sasl: { mechanism: scram-sha-512, username: *** }
              |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ needs `password`
              |
              = help: add `password:`, the password for the SASL login

            error[unknown-word]: `scram-sha-512` is not one of `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`
             --> routes.yaml:8:26
              |
            8 |       sasl: { mechanism: scram-sha-512, username: *** }
              |                          ^^^^^^^^^^^^^ did you mean `SCRAM-SHA-512`?
              |
              = help: write `SCRAM-SHA-512`

            error[server-name]: each broker of a Kafka cluster has a name of its own
             --> routes.yaml:9:27
              |
            9 |       tls: { server_name: x }
              |                           ^
              |
              = help: remove `server_name`, and let the brokers advertise the names in their certificates

        "#]],
    );
    warned(
        &sink("kafka:\n  brokers: one:9092\n  topic: t\n  sasl: { mechanism: PLAIN, username: me, password: hunter2 }"),
        expect![[r#"
            warning[password-unencrypted]: `PLAIN` without `tls` sends the password as it is
             --> routes.yaml:8:26
              |
            8 |       sasl: { mechanism: PLAIN, username: ***, password: *** }
              |                          ^^^^^
              |
              = help: add `tls: {}` (or with the cluster's `ca`), or use `SCRAM-SHA-512`

            warning[secret-in-clear]: the password is written in the file itself
             --> routes.yaml:8:57
              |
            8 |       sasl: { mechanism: PLAIN, username: ***, password: *** }
              |                                                          ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

        "#]],
    );
}

#[test]
fn templates() {
    wrong(
        &sink("kafka: { brokers: one, topic: \"regards.{{ tennant }}\", key: \"{{ tenant \" }"),
        expect![[r#"
            error[template]: this is not a template: there is no tennant; did you mean tenant?
             --> routes.yaml:5:35
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ tennant }}", key: "{{ tenant " }
              |                                   ^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

            error[template]: this is not a template: syntax error: unexpected end of input, expected end of variable block
             --> routes.yaml:5:65
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ tennant }}", key: "{{ tenant " }
              |                                                                 ^^^^^^^^^^^^
              |
              = help: write fields of the event between `{{` and `}}`, as in `{{ tenant }}`; `schema event` lists them

        "#]],
    );
}

#[test]
fn addresses_that_an_event_may_lack() {
    warned(
        &sink(
            "amqp: { url: amqp://localhost, exchange: e, routing_key: \"{{ tenant }}.{{ productId }}.{{ session | default('x') }}\" }",
        ),
        expect![[r#"
            warning[nullable-address]: `productId` can be null: such an event has no address here
             --> routes.yaml:5:79
              |
            5 |     amqp: { url: amqp://localhost, exchange: e, routing_key: "{{ tenant }}.{{ productId }}.{{ session | default('x') }}" }
              |                                                                               ^^^^^^^^^
              |
              = help: it becomes a dead letter, `render_failed`; give it a default: `{{ productId | default('none') }}`

        "#]],
    );
}

#[test]
fn urls_of_webhooks() {
    for (url, expected) in [
        (
            "pager.example.org",
            expect![[r#"
                error[url]: this URL has no scheme
                 --> routes.yaml:5:21
                  |
                5 |     webhook: { url: pager.example.org }
                  |                     ^^^^^^^^^^^^^^^^^
                  |
                  = help: write `https://HOST/PATH`

            "#]],
        ),
        (
            "ftp://example.org/",
            expect![[r#"
                error[url]: the URL of a webhook begins with `https://` or `http://`
                 --> routes.yaml:5:21
                  |
                5 |     webhook: { url: ftp://example.org/ }
                  |                     ^^^^^^^^^^^^^^^^^^
                  |
                  = help: write `https://HOST/PATH`

            "#]],
        ),
        (
            "\"https://{{ tenant }}.example.org/\"",
            expect![[r#"
            error[templated-host]: scheme and host of a URL can't be templates
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "https://{{ tenant }}.example.org/" }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write them without templates: the content of a message must not choose the receiver

        "#]],
        ),
        (
            "\"https://example.org:{{ tenant }}/\"",
            expect![[r#"
            error[templated-host]: scheme and host of a URL can't be templates
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "https://example.org:{{ tenant }}/" }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write them without templates: the content of a message must not choose the receiver

        "#]],
        ),
        (
            "http://169.254.169.254/latest",
            expect![[r#"
            error[forbidden-host]: the relay never sends to this host: it is link-local, where clouds keep their metadata service
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: http://169.254.169.254/latest }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write the address of the receiver

        "#]],
        ),
        (
            "\"http://[fe80::1]/\"",
            expect![[r#"
            error[forbidden-host]: the relay never sends to this host: it is link-local
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "http://[fe80::1]/" }
              |                     ^^^^^^^^^^^^^^^^^^^
              |
              = help: write the address of the receiver

        "#]],
        ),
        (
            "\"https://me:hunter2@example.org/{{ tenant }}\"",
            expect![[r#"
            error[url-password]: a URL with a template can't hold a user or password
             --> routes.yaml:5:21
              |
            5 |     webhook: { url: "https://me:***@example.org/{{ tenant }}" }
              |                     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: write them as `auth: { basic: { username: …, password: … } }`

        "#]],
        ),
    ] {
        wrong(&sink(&format!("webhook: {{ url: {url} }}")), expected);
    }
    warned(
        &sink("webhook: { url: \"http://example.org/\" }"),
        expect![[r#"
        warning[unencrypted]: `http://` sends events and credentials without encryption
         --> routes.yaml:5:21
          |
        5 |     webhook: { url: "http://example.org/" }
          |                     ^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write `https://` if the receiver has it

    "#]],
    );
}

#[test]
fn webhooks() {
    wrong(
        &sink(
            "webhook:
  url: https://example.org/
  secret: [whsec_hunter2, \"\"]
  headers: { Content-Length: 5, webhook-id: x, \"a b\": c, X-A: \"1\", x-a: \"2\", X-B: \"a\\nb\", X-Api-Key: hunter2 }
  auth: { bearer: hunter2, basic: { username: me } }
  rate: 50
  proxy: socks5://proxy",
        ),
        expect![[r#"
            error[webhook-secret]: the secret is not base64
             --> routes.yaml:7:16
              |
            7 |       secret: [***, ""]
              |                ^^^
              |
              = help: `echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it

            warning[secret-in-clear]: the secret is written in the file itself
             --> routes.yaml:7:16
              |
            7 |       secret: [***, ""]
              |                ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            error[webhook-secret]: the secret is empty
             --> routes.yaml:7:31
              |
            7 |       secret: [***, ""]
              |                     ^^
              |
              = help: `echo whsec_$(openssl rand -base64 32)` makes one; sender and receiver share it

            error[header-name]: the header `content-length` can't be set here: HTTP itself sets it
             --> routes.yaml:8:18
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                  ^^^^^^^^^^^^^^
              |
              = help: remove it

            error[header-name]: the header `webhook-id` can't be set here: Standard Webhooks sets it
             --> routes.yaml:8:37
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                     ^^^^^^^^^^
              |
              = help: remove it

            error[header-name]: `a b` can't be the name of a header
             --> routes.yaml:8:52
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                    ^^^^^
              |
              = help: HTTP takes letters, digits and `-`

            error[duplicate-key]: the header `x-a` is given twice
             --> routes.yaml:8:72
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                                        ^^^
              |
              = help: keep one of the two: the names of headers are not case-sensitive

            error[header-value]: this can't be the value of a header
             --> routes.yaml:8:87
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                                                       ^^^^^^
              |
              = help: HTTP takes one line of text without control characters

            warning[secret-in-clear]: the value of this header is written in the file itself
             --> routes.yaml:8:106
              |
            8 |       headers: { Content-Length: 5, webhook-id: x, "a b": c, X-A: "1", x-a: "2", X-B: "a\nb", X-Api-Key: *** }
              |                                                                                                          ^^^
              |
              = help: keep it outside of this file: write `${VAR}`, or `${file:/run/secrets/NAME}`

            error[missing-key]: `password` is missing
             --> routes.yaml:9:39
              |
            9 |       auth: { bearer: ***, basic: { username: *** } }
              |                                   ^^^^^^^^^^^^^^^^^ needs `password`
              |
              = help: add `password:`, the password for basic authentication

            error[wrong-value]: `50` is not a rate
              --> routes.yaml:10:13
               |
            10 |       rate: 50
               |             ^^
               |
               = help: write a number and a unit of time, as in `50/s`, `10/m`, `100/h`

            error[url]: the URL of a proxy begins with `https://` or `http://`
              --> routes.yaml:11:14
               |
            11 |       proxy: socks5://proxy
               |              ^^^^^^^^^^^^^^
               |
               = help: write `https://HOST/PATH`

        "#]],
    );
}

#[test]
fn files_stay_below_the_data_directory() {
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
              = help: write to another file: the spool, what lies beside it and `control.sock` are the relay's

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
        wrong(&sink(&format!("file: {{ path: {path} }}")), expected);
    }
}

#[test]
fn what_is_published_must_not_come_again() {
    wrong(
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
fn an_order_that_readers_of_kafka_never_see() {
    let kafka = |more: &str, topic: &str| format!("kafka: {{ brokers: one, topic: \"{topic}\"{more} }}");
    for (sink, expected) in [
        (
            kafka("", "regards.{{ tenant }}.{{ status | lower }}"),
            expect![[r#"
                warning[order-undone]: events with the same correlationId can differ in `status`, and lose their order in different topics
                 --> routes.yaml:5:60
                  |
                5 |     kafka: { brokers: one, topic: "regards.{{ tenant }}.{{ status | lower }}" }
                  |                                                            ^^^^^^
                  |
                  = help: leave `status` out, or write `order_by: none` if the order does not matter

            "#]],
        ),
        (
            kafka(", key: \"{{ tenant }}/{{ outcome }}\"", "regards"),
            expect![[r#"
                warning[order-undone]: events with the same correlationId can differ in `outcome`, and lose their order in different partitions
                 --> routes.yaml:5:68
                  |
                5 |     kafka: { brokers: one, topic: "regards", key: "{{ tenant }}/{{ outcome }}" }
                  |                                                                    ^^^^^^^
                  |
                  = help: write `key: "{{ correlationId }}"`, or `order_by: none` if the order does not matter

            "#]],
        ),
        (
            format!("{}\norder_by: tenant", kafka("", "regards")),
            expect![[r#"
                warning[order-undone]: events with the same tenant can differ in `correlationId`, and lose their order in different partitions
                 --> routes.yaml:6:15
                  |
                6 |     order_by: tenant
                  |               ^^^^^^
                  |
                  = help: write `key: "{{ tenant }}"`, or `order_by: none` if the order does not matter

            "#]],
        ),
        (
            format!(
                "{}\norder_by: session",
                kafka(", key: \"{{ session }}\"", "regards.{{ productId | default('none') }}")
            ),
            expect![[r#"
                warning[free-text-topic]: `productId` can have characters that the name of a topic must not have
                 --> routes.yaml:5:47
                  |
                5 |     kafka: { brokers: one, topic: "regards.{{ productId | default('none') }}", key: "{{ session }}" }
                  |                                               ^^^^^^^^^
                  |
                  = help: such an event becomes a dead letter, `render_failed`; replace these characters, as in `{{ session | replace(':', '-') }}`

                warning[order-undone]: events with the same session can differ in `productId`, and lose their order in different topics
                 --> routes.yaml:5:47
                  |
                5 |     kafka: { brokers: one, topic: "regards.{{ productId | default('none') }}", key: "{{ session }}" }
                  |                                               ^^^^^^^^^
                  |
                  = help: leave `productId` out, or write `order_by: none` if the order does not matter

            "#]],
        ),
    ] {
        warned(&self::sink(&sink), expected);
    }
    right(&sink(&kafka(", key: \"{{ productId | default(correlationId) }}\"", "regards.{{ tenant }}")));
    right(&sink(&format!("{}\norder_by: none", kafka("", "regards.{{ status }}"))));
    right(&sink(&format!("{}\norder_by: tenant", kafka(", key: \"{{ tenant }}\"", "regards"))));
}

#[test]
fn auth_that_says_nothing_or_too_much() {
    let auth = |auth: &str| sink(&format!("webhook: {{ url: \"https://example.org\", auth: {auth} }}"));
    wrong(
        &auth("{}"),
        expect![[r#"
        error[auth]: `auth` is empty
         --> routes.yaml:5:50
          |
        5 |     webhook: { url: "https://example.org", auth: {} }
          |                                                  ^^
          |
          = help: write `bearer: TOKEN`, or `basic: { username: …, password: … }`

    "#]],
    );
    wrong(
        &auth("{ bearer: \"${T:-x}\", basic: { username: u, password: \"${P:-x}\" } }"),
        expect![[r#"
        error[auth]: `auth` is given twice
         --> routes.yaml:5:50
          |
        5 |     webhook: { url: "https://example.org", auth: { bearer: "${T:-***}", basic: { username: ***, password: "${P:-***}" } } }
          |                                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: write `bearer: TOKEN`, or `basic: { username: …, password: … }`

    "#]],
    );
}

#[test]
fn a_file_without_sinks() {
    wrong(
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
fn a_topic_that_events_may_give_no_name_of_one() {
    let kafka = |topic: &str| sink(&format!("kafka: {{ brokers: one, topic: \"{topic}\" }}\norder_by: none"));
    wrong(
        &kafka("regards/{{ tenant }}"),
        expect![[r#"
        error[kafka-topic]: `regards/{{ tenant }}` can't become the name of a topic
         --> routes.yaml:5:35
          |
        5 |     kafka: { brokers: one, topic: "regards/{{ tenant }}" }
          |                                   ^^^^^^^^^^^^^^^^^^^^^^
          |
          = help: Kafka takes letters, digits, `.`, `_` and `-`, at most 249 of them

    "#]],
    );
    warned(
        &kafka("regards.{{ session | default('none') }}"),
        expect![[r#"
            warning[free-text-topic]: `session` can have characters that the name of a topic must not have
             --> routes.yaml:5:47
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ session | default('none') }}" }
              |                                               ^^^^^^^
              |
              = help: such an event becomes a dead letter, `render_failed`; replace these characters, as in `{{ session | replace(':', '-') }}`

        "#]],
    );
    warned(
        &kafka("regards.{{ correlationId }}"),
        expect![[r#"
            warning[free-text-topic]: `correlationId` can have characters that the name of a topic must not have
             --> routes.yaml:5:47
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ correlationId }}" }
              |                                               ^^^^^^^^^^^^^
              |
              = help: such an event becomes a dead letter, `render_failed`; replace these characters, as in `{{ session | replace(':', '-') }}`

        "#]],
    );
    warned(
        &kafka("regards.{{ headers['site'] | default('none') }}"),
        expect![[r#"
            warning[free-text-topic]: `headers` can have characters that the name of a topic must not have
             --> routes.yaml:5:47
              |
            5 |     kafka: { brokers: one, topic: "regards.{{ headers['site'] | default('none') }}" }
              |                                               ^^^^^^^
              |
              = help: such an event becomes a dead letter, `render_failed`; replace these characters, as in `{{ session | replace(':', '-') }}`

        "#]],
    );
    for topic in ["regards.{{ tenant }}.{{ status }}", "{{ correlationId | replace(':', '-') }}", "{{ type }}"] {
        right(&kafka(topic));
    }
}

#[test]
fn a_key_without_a_value_lifts_no_protection() {
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
        let said = parse(&text, Strictness::Run, &[]).expect_err(key.as_str());
        let found: Vec<_> = said.iter().map(|found| (found.code(), found.message().to_owned())).collect();
        assert_eq!(found, [("missing-value", format!("`{key}` has no value"))], "{said}");
    }
    for block in ["dead_letters:", "dead_letters: { to: null }", "spool:", "delivery:", "admin:"] {
        right(&format!("{}{block}\n", super::sink("stdout: {}\nbody: null\nretry:")));
    }
    right(&super::source("amqp: { url: amqp://h, queue: q }\ntenant: null"));
}

#[test]
fn responses_and_refusals() {
    wrong(
        &sink(
            "webhook: { url: \"https://h/\", responses: { refuse: [409, 200], retry: [409], pause: 600 } }\nretry: { refuse_after: 0 }",
        ),
        expect![[r#"
            error[out-of-range]: `200` is not a status that can be listed here
             --> routes.yaml:5:62
              |
            5 |     webhook: { url: "https://h/", responses: { refuse: [409, 200], retry: [409], pause: 600 } }
              |                                                              ^^^
              |
              = help: write statuses from 300 to 599; with 2xx a receiver confirms the event

            error[two-meanings]: 409 is listed twice
             --> routes.yaml:5:76
              |
            5 |     webhook: { url: "https://h/", responses: { refuse: [409, 200], retry: [409], pause: 600 } }
              |                                                         --- the other one  ^^^
              |
              = help: keep it in one list

            error[out-of-range]: `600` is not a status that can be listed here
             --> routes.yaml:5:89
              |
            5 |     webhook: { url: "https://h/", responses: { refuse: [409, 200], retry: [409], pause: 600 } }
              |                                                                                         ^^^
              |
              = help: write statuses from 300 to 599; with 2xx a receiver confirms the event

            error[out-of-range]: `0` is out of range
             --> routes.yaml:6:28
              |
            6 |     retry: { refuse_after: 0 }
              |                            ^
              |
              = help: write something between `1` and `1000`

        "#]],
    );
}
