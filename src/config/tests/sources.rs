//! Sources, their queues and their tenants.

use expect_test::expect;

use super::{check_errors, check_warnings, source, valid};
use crate::config::SourceKind;

#[test]
fn a_source_needs_exactly_one_kind() {
    check_errors(
        &source("expects: lta"),
        expect![[r#"
        error[no-kind]: the source `regards` has no kind
         --> routes.yaml:3:3
          |
        3 |   regards:
          |   ^^^^^^^
          |
          = help: add `amqp:` (a queue) or `recording:` (a file of messages) below it

    "#]],
    );
    check_errors(
        &source("amqp: { url: amqp://localhost, queue: q }\nrecording: { path: Cargo.toml }"),
        expect![[r#"
        error[two-kinds]: the source `regards` has two kinds
         --> routes.yaml:5:16
          |
        5 |     recording: { path: Cargo.toml }
          |                ^^^^^^^^^^^^^^^^^^^^
          |
          = help: make it two sources, each with its own name

    "#]],
    );
    check_errors(
        "version: 1\nsources: {}\nsinks: { screen: { stdout: {} } }\nroutes: []\nunrouted: screen\n",
        expect![[r#"
        error[no-source]: there is no source
         --> routes.yaml:2:10
          |
        2 | sources: {}
          |          ^^
          |
          = help: add one: a name, and below it `amqp:` with `url:` and `queue:`

    "#]],
    );
}

#[test]
fn an_amqp_source_needs_a_url_and_a_queue() {
    check_errors(
        &source("amqp:\n  vhost: v\n  prefetch: 5"),
        expect![[r#"
            error[missing-key]: `url` is missing
             --> routes.yaml:4:5
              |
            4 |     amqp:
              |     ^^^^ needs `url`
              |
              = help: add `url:`, the address of the broker, `amqp://HOST` or `amqps://HOST`; the URLs of a list are tried in turn

            error[missing-key]: `queue` is missing
             --> routes.yaml:4:5
              |
            4 |     amqp:
              |     ^^^^ needs `queue`
              |
              = help: add `queue:`, the queue to consume; it must exist, unless `declare` is given

        "#]],
    );
    check_errors(
        &source("amqp:\n  url:\n  queue: ''"),
        expect![[r#"
            error[missing-value]: `url` has no value
             --> routes.yaml:5:7
              |
            5 |       url:
              |       ^^^
              |
              = help: write it after the colon: the address of the broker, `amqp://HOST` or `amqps://HOST`; the URLs of a list are tried in turn

            error[amqp-name]: this can't be the name of a queue
             --> routes.yaml:6:14
              |
            6 |       queue: ''
              |              ^^
              |
              = help: AMQP takes 1 to 255 bytes

        "#]],
    );
}

#[test]
fn an_unknown_family_or_validation_is_an_error() {
    check_errors(
        &source("amqp: { url: amqp://localhost, queue: q }\nexpects: ltaa\nvalidation: Strict"),
        expect![[r#"
            error[unknown-family]: `ltaa` is not a family of responses
             --> routes.yaml:5:14
              |
            5 |     expects: ltaa
              |              ^^^^ did you mean `lta`?
              |
              = help: write `lta`

            error[unknown-word]: `Strict` is not one of `lenient`, `strict`
             --> routes.yaml:6:17
              |
            6 |     validation: Strict
              |                 ^^^^^^ did you mean `strict`?
              |
              = help: write `strict`

        "#]],
    );
}

#[test]
fn a_wrong_declaration_is_reported() {
    check_errors(
        &source(
            "amqp:
  url: amqp://localhost
  queue: q
  declare:
    queue: { type: quorumm, arguments: { x-queue-type: classic, x-max-priority: [1] }, durable: true }
    bindings:
      - routing_key: a",
        ),
        expect![[r#"
            error[unknown-word]: `quorumm` is not one of `classic`, `quorum`
             --> routes.yaml:8:24
              |
            8 |         queue: { type: quorumm, arguments: { x-queue-type: classic, x-max-priority: [1] }, durable: true }
              |                        ^^^^^^^ did you mean `quorum`?
              |
              = help: write `quorum`

            error[amqp-argument]: the type of a queue has a key of its own
             --> routes.yaml:8:46
              |
            8 |         queue: { type: quorumm, arguments: { x-queue-type: classic, x-max-priority: [1] }, durable: true }
              |                                              ^^^^^^^^^^^^
              |
              = help: write `type: classic` or `type: quorum` beside `arguments`

            error[wrong-type]: expected a single value, found a list
             --> routes.yaml:8:85
              |
            8 |         queue: { type: quorumm, arguments: { x-queue-type: classic, x-max-priority: [1] }, durable: true }
              |                                                                                     ^^^
              |
              = help: write it as in `arguments: { x-single-active-consumer: true }`

            error[unknown-key]: unknown key `durable`
             --> routes.yaml:8:92
              |
            8 |         queue: { type: quorumm, arguments: { x-queue-type: classic, x-max-priority: [1] }, durable: true }
              |                                                                                            ^^^^^^^
              |
              = help: known keys: `type`, `arguments`

            error[missing-key]: `exchange` is missing
              --> routes.yaml:10:13
               |
            10 |           - routing_key: a
               |             ^^^^^^^^^^^ needs `exchange`
               |
               = help: add `exchange:`, the exchange to bind to; it must exist

        "#]],
    );
    check_warnings(
        &source("amqp:\n  url: amqp://localhost\n  queue: q\n  declare: { queue: { type: quorum } }"),
        expect![[r#"
        warning[quorum-queue]: a quorum queue has no exclusive consumer: two relays would share it, and break the order
         --> routes.yaml:7:25
          |
        7 |       declare: { queue: { type: quorum } }
          |                         ^^^^^^^^^^^^^^^^
          |
          = help: add `arguments: { x-single-active-consumer: true }`

    "#]],
    );
}

#[test]
fn a_shared_queue_with_ordered_sinks_is_an_error() {
    check_errors(
        &source("amqp:\n  url: amqp://localhost\n  queue: q\n  exclusive: false"),
        expect![[r#"
        error[shared-order]: two relays that share a queue break the order that sinks ask for
         --> routes.yaml:7:18
          |
        7 |       exclusive: false
          |                  ^^^^^
          |
          = help: remove `exclusive: false` (a second relay then stands by), or write `order_by: none` on every sink, as on `screen`

    "#]],
    );
}

#[test]
fn a_missing_recording_is_an_error() {
    check_errors(
        &source("recording: { path: no-such.ndjson, repeat: 0 }"),
        expect![[r#"
            error[missing-file]: the file `HERE/no-such.ndjson` can't be read: No such file or directory (os error 2)
             --> routes.yaml:4:24
              |
            4 |     recording: { path: no-such.ndjson, repeat: 0 }
              |                        ^^^^^^^^^^^^^^
              |
              = help: relative paths begin at the directory of this file

            error[out-of-range]: `0` is out of range
             --> routes.yaml:4:48
              |
            4 |     recording: { path: no-such.ndjson, repeat: 0 }
              |                                                ^
              |
              = help: write something between `1` and `4294967295`

        "#]],
    );
}

#[test]
fn wrong_tenants_are_an_error() {
    let each = r#"amqp: { url: amqp://localhost, queue: q, vhost: "regards.{tenant}" }"#;
    for (source, expected) in [
        (
            each.to_owned(),
            expect![[r#"
            error[no-tenants]: `{tenant}` in a virtual host needs a list of tenants
             --> routes.yaml:4:53
              |
            4 |     amqp: { url: amqp://localhost, queue: q, vhost: "regards.{tenant}" }
              |                                                     ^^^^^^^^^^^^^^^^^^
              |
              = help: list the tenants beside `amqp:`, as in `tenants: [cnes, esa]`

        "#]],
        ),
        (
            format!("{each}\ntenants: [esa, ESA, \"d l r\"]"),
            expect![[r#"
            error[duplicate-tenant]: `ESA` is listed before
             --> routes.yaml:5:20
              |
            5 |     tenants: [esa, ESA, "d l r"]
              |                    ^^^
              |
              = help: remove it: virtual hosts are named in lower case

            error[illegal-tenant]: this tenant can't be a part of a source's name
             --> routes.yaml:5:25
              |
            5 |     tenants: [esa, ESA, "d l r"]
              |                         ^^^^^^^
              |
              = help: use letters, digits, `-`, `_` and `.`; for other tenants, write a source with `vhost` and `tenant`

        "#]],
        ),
        (
            format!("{each}\ntenants: []"),
            expect![[r#"
            error[empty-list]: there is no tenant in the list
             --> routes.yaml:5:14
              |
            5 |     tenants: []
              |              ^^
              |
              = help: write at least one

        "#]],
        ),
        (
            format!("{each}\ntenant: esa\ntenants: [cnes]"),
            expect![[r#"
            error[tenants]: `tenants` needs a virtual host for each tenant
             --> routes.yaml:6:14
              |
            6 |     tenants: [cnes]
              |              ^^^^^^
              |
              = help: write `vhost: regards.{tenant}` under `amqp:`, and no `tenant:`; in a shared virtual host, each message names its tenant

        "#]],
        ),
        (
            "amqp: { url: amqp://localhost, queue: q, vhost: regards }\ntenants: [cnes]".to_owned(),
            expect![[r#"
            error[tenants]: `tenants` needs a virtual host for each tenant
             --> routes.yaml:5:14
              |
            5 |     tenants: [cnes]
              |              ^^^^^^
              |
              = help: write `vhost: regards.{tenant}` under `amqp:`, and no `tenant:`; in a shared virtual host, each message names its tenant

        "#]],
        ),
    ] {
        check_errors(&self::source(&source), expected);
    }
}

#[test]
fn an_entry_with_tenants_becomes_a_source_for_each_tenant() {
    let source = r#"amqp: { url: amqp://localhost, queue: q, vhost: "regards.{tenant}" }
tenants: [CNES-a, esa]"#;
    let config = valid(&self::source(source));
    let sources = config.sources.iter().map(|source| {
        let SourceKind::Amqp(amqp) = &source.kind else { panic!() };
        (
            source.name.as_str(),
            amqp.connection.vhost.as_deref().unwrap(),
            source.decode_options.tenant.as_deref().unwrap(),
        )
    });
    let expected = [("regards.CNES-a", "regards.cnes-a", "CNES-a"), ("regards.esa", "regards.esa", "esa")];
    assert_eq!(sources.collect::<Vec<_>>(), expected);
}

#[test]
fn the_name_of_a_tenant_source_must_be_unique() {
    check_errors(
        "version: 1
sources:
  regards: { amqp: { url: amqp://localhost, queue: q, vhost: \"regards.{tenant}\" }, tenants: [esa] }
  regards.esa: { amqp: { url: amqp://localhost, queue: q } }
sinks: { screen: { stdout: {} } }
routes: [{ name: all, to: screen }]
unrouted: drop
",
        expect![[r#"
            error[duplicate-source]: two sources are named `regards.esa`: one entry with `tenants` becomes a source for each tenant
             --> routes.yaml:2:1
              |
            2 | sources:
              | ^^^^^^^
              |
              = help: rename one of the two

        "#]],
    );
}
