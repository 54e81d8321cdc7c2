//! Sinks to Kafka.

use expect_test::expect;

use super::{Strictness, check_errors, check_warnings, parse, sink, valid};
use crate::config::{Sasl, SinkKind};

#[test]
fn a_wrong_kafka_sink_is_an_error() {
    check_errors(
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
    check_errors(
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
fn incompatible_kafka_options_are_an_error() {
    for (options, named, why) in [
        ("{ linger.ms: 60000 }", "linger.ms", "message.timeout.ms"),
        (
            "{ reconnect.backoff.ms: 5000, reconnect.backoff.max.ms: 100 }",
            "reconnect.backoff",
            "reconnect.backoff.max.ms",
        ),
    ] {
        let text = sink(&format!("kafka: {{ brokers: localhost, topic: t, options: {options} }}"));
        let diagnostics = parse(&text, Strictness::Run, &[]).unwrap_err().to_string();
        assert!(
            diagnostics.contains("kafka-option") && diagnostics.contains(named) && diagnostics.contains(why),
            "{diagnostics}"
        );
    }
    valid(&sink("kafka: { brokers: localhost, topic: t, options: { linger.ms: 20, reconnect.backoff.ms: 50 } }"));
}

#[test]
fn a_kafka_option_that_is_unknown_or_reserved_is_an_error() {
    check_errors(
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
fn a_wrong_or_unsafe_kafka_login_is_reported() {
    check_errors(
        &sink(
            "kafka:\n  brokers: one:9092\n  topic: t\n  sasl: { mechanism: scram-sha-512, username: me }\n  tls: { server_name: x }",
        ),
        expect![[r#"
            error[unknown-word]: `scram-sha-512` is not one of `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `OAUTHBEARER`, `GSSAPI`
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
    check_warnings(
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
fn a_topic_or_key_that_breaks_the_order_is_a_warning() {
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
        check_warnings(&self::sink(&sink), expected);
    }
    valid(&sink(&kafka(", key: \"{{ productId | default(correlationId) }}\"", "regards.{{ tenant }}")));
    valid(&sink(&format!("{}\norder_by: none", kafka("", "regards.{{ status }}"))));
    valid(&sink(&format!("{}\norder_by: tenant", kafka(", key: \"{{ tenant }}\"", "regards"))));
}

#[test]
fn a_partitioner_or_an_empty_key_that_breaks_the_order_is_a_warning() {
    check_warnings(
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
    check_warnings(
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
fn a_topic_with_illegal_or_free_text_is_reported() {
    let kafka = |topic: &str| sink(&format!("kafka: {{ brokers: one, topic: \"{topic}\" }}\norder_by: none"));
    check_errors(
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
    check_warnings(
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
    check_warnings(
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
    check_warnings(
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
        valid(&kafka(topic));
    }
}

#[test]
fn a_wrong_address_of_a_kafka_broker_is_an_error() {
    check_errors(
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
    check_errors(
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
    check_errors(
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
fn a_login_by_token_takes_no_password() {
    let token = "token_url: https://idp.example.org/token, client_id: relay, client_secret: '${S:-x}'";
    let kafka = |sasl: &str| sink(&format!("kafka:\n  brokers: h\n  topic: t\n  tls: {{}}\n  sasl: {{ {sasl} }}"));
    check_errors(
        &kafka(&format!("mechanism: OAUTHBEARER, username: me, oauth2: {{ {token} }}")),
        expect![[r#"
            error[sasl-login]: `OAUTHBEARER` logs in by access token; this user name is not used
             --> routes.yaml:9:49
              |
            9 |       sasl: { mechanism: OAUTHBEARER, username: ***, oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secre...
              |                                                 ^^^
              |
              = help: remove it, or write `mechanism: SCRAM-SHA-512` or `PLAIN`

        "#]],
    );
    check_errors(
        &kafka("mechanism: OAUTHBEARER"),
        expect![[r#"
        error[missing-key]: `oauth2` is missing
         --> routes.yaml:9:13
          |
        9 |       sasl: { mechanism: OAUTHBEARER }
          |             ^^^^^^^^^^^^^^^^^^^^^^^^^^ needs `oauth2`
          |
          = help: add `oauth2:`, as in `oauth2: { token_url: https://HOST/PATH, client_id: relay, … }`

    "#]],
    );
    check_errors(
        &kafka(&format!("mechanism: PLAIN, username: me, oauth2: {{ {token} }}")),
        expect![[r#"
            error[sasl-login]: `PLAIN` logs in by user name and password; this block `oauth2` is not used
             --> routes.yaml:9:55
              |
            9 | ...ername: ***, oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secret: '${S:-***}' } }
              |                         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: remove it, or write `mechanism: OAUTHBEARER`

        "#]],
    );
    check_warnings(
        &sink(&format!(
            "kafka:\n  brokers: h\n  topic: t\n  sasl: {{ mechanism: OAUTHBEARER, oauth2: {{ {token} }} }}"
        )),
        expect![[r#"
            warning[unencrypted]: `OAUTHBEARER` without `tls` sends the access tokens as they are
             --> routes.yaml:8:26
              |
            8 |       sasl: { mechanism: OAUTHBEARER, oauth2: { token_url: https://idp.example.org/token, client_id: ***, client_secret: '${S:-***}' } }
              |                          ^^^^^^^^^^^
              |
              = help: add `tls: {}` (or with the cluster's `ca`)

        "#]],
    );
}

#[test]
fn extensions_of_a_login_by_token_have_names_and_values_of_rfc_7628() {
    let token = "oauth2: { token_url: https://idp.example.org/token, client_id: relay, client_secret: '${S:-x}' }";
    let kafka = |extensions: &str| {
        let sasl = format!("sasl:\n    mechanism: OAUTHBEARER\n    {token}\n    extensions: {extensions}");
        sink(&format!("kafka:\n  brokers: h\n  topic: t\n  tls: {{}}\n  {sasl}"))
    };
    let config = valid(&kafka("{ logicalCluster: lkc-1, identityPoolId: '${S:-pool 2}' }"));
    let SinkKind::Kafka(found) = &config.sinks[0].kind else { panic!("kafka") };
    let Some(Sasl::OAuth2 { extensions, .. }) = &found.sasl else { panic!("tokens") };
    let expected = [("logicalCluster", "lkc-1"), ("identityPoolId", "pool 2")];
    assert_eq!(*extensions, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    check_errors(
        &kafka("{ auth: x, logical-cluster: y, other: 'é', empty: '' }"),
        expect![[r#"
        error[sasl-extension]: the extension `auth` can't be set: it is the access token itself
          --> routes.yaml:12:23
           |
        12 |         extensions: { auth: ***, logical-cluster: ***, other: '***', empty: '' }
           |                       ^^^^
           |
           = help: choose another name

        error[sasl-extension]: `logical-cluster` can't be the name of an extension
          --> routes.yaml:12:32
           |
        12 |         extensions: { auth: ***, logical-cluster: ***, other: '***', empty: '' }
           |                                  ^^^^^^^^^^^^^^^
           |
           = help: use letters only (RFC 7628, 3.1)

        error[sasl-extension]: this can't be the value of an extension
          --> routes.yaml:12:59
           |
        12 |         extensions: { auth: ***, logical-cluster: ***, other: '***', empty: '' }
           |                                                               ^^^^^
           |
           = help: use ASCII characters that can be printed, and white space (RFC 7628, 3.1)

        error[sasl-extension]: this can't be the value of an extension
          --> routes.yaml:12:71
           |
        12 |         extensions: { auth: ***, logical-cluster: ***, other: '***', empty: '' }
           |                                                                             ^^
           |
           = help: use ASCII characters that can be printed, and white space (RFC 7628, 3.1)

    "#]],
    );
    check_errors(
        &sink(
            "kafka:\n  brokers: h\n  topic: t\n  tls: {}\n  sasl: { mechanism: PLAIN, username: '${U:-x}', password: '${P:-x}', extensions: { a: b } }",
        ),
        expect![[r#"
            error[sasl-login]: `PLAIN` logs in by user name and password; this block `extensions` is not used
             --> routes.yaml:9:87
              |
            9 |       sasl: { mechanism: PLAIN, username: '${U:-***}', password: '${P:-***}', extensions: { a: *** } }
              |                                                                                           ^^^^^^^^^^
              |
              = help: remove it, or write `mechanism: OAUTHBEARER`

        "#]],
    );
}
