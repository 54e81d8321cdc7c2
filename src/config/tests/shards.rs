//! Sources with several queues.

use expect_test::expect;

use super::{check_errors, source, valid};
use crate::config::{SourceKind, UNDIVIDED};

const SPOOL: &str = "spool: { postgres: { url: postgres://relay@db/relay } }";

fn with_spool(amqp: &str, spool: &str) -> String {
    format!("{}{spool}\n", source(&format!("amqp: {{ url: amqp://localhost, {amqp} }}")))
}

#[test]
fn an_entry_with_shards_becomes_a_source_for_each_queue() {
    let config = valid(&with_spool("queue: 'lta.{shard}', shards: 3", SPOOL));
    let sources: Vec<_> = config.sources.iter().map(|source| (source.name.as_str(), source.shard())).collect();
    let names = ["regards.0", "regards.1", "regards.2"];
    assert_eq!(sources, names.map(|name| (name, name)));
    let queue = |kind: &SourceKind| if let SourceKind::Amqp(amqp) = kind { amqp.queue.clone() } else { String::new() };
    assert_eq!(
        config.sources.iter().map(|source| queue(&source.kind)).collect::<Vec<_>>(),
        ["lta.0", "lta.1", "lta.2"]
    );
    assert_eq!(config.shards(), [&[UNDIVIDED][..], &names[..]].concat());
    let (spool, dead_letters) = config.spool_of("regards.1");
    assert_eq!((spool.max_size, dead_letters.max_size), (config.spool.max_size / 4, config.dead_letters.max_size / 4));
    assert_eq!(spool.store.shard(), "regards.1");
    assert_eq!(valid(&with_spool("queue: lta", SPOOL)).shards(), [UNDIVIDED]);
}

#[test]
fn wrong_shards_are_an_error() {
    check_errors(
        &with_spool("queue: q, shards: 3", SPOOL),
        expect![[r#"
            error[no-shards]: several queues need a name each
             --> routes.yaml:4:54
              |
            4 |     amqp: { url: amqp://localhost, queue: q, shards: 3 }
              |                                                      ^
              |
              = help: write `{shard}` in the name of the queue, as in `queue: "partner.lta.{shard}"`

        "#]],
    );
    check_errors(
        &with_spool("queue: 'q.{shard}'", SPOOL),
        expect![[r#"
            error[no-shards]: `{shard}` in the name of a queue needs the number of queues
             --> routes.yaml:4:43
              |
            4 |     amqp: { url: amqp://localhost, queue: 'q.{shard}' }
              |                                           ^^^^^^^^^^^
              |
              = help: write it beside `queue`, as in `shards: 4`

        "#]],
    );
    check_errors(
        &with_spool("queue: 'q.{shard}', shards: 0", SPOOL),
        expect![[r#"
            error[out-of-range]: `0` is out of range
             --> routes.yaml:4:64
              |
            4 |     amqp: { url: amqp://localhost, queue: 'q.{shard}', shards: 0 }
              |                                                                ^
              |
              = help: write something between `1` and `64`

        "#]],
    );
    check_errors(
        &with_spool("queue: 'q.{shard}', shards: 65", SPOOL),
        expect![[r#"
            error[out-of-range]: `65` is out of range
             --> routes.yaml:4:64
              |
            4 |     amqp: { url: amqp://localhost, queue: 'q.{shard}', shards: 65 }
              |                                                                ^^
              |
              = help: write something between `1` and `64`

        "#]],
    );
    check_errors(
        &with_spool("queue: 'q.{shard}', shards: 2, declare: { queue: {} }", SPOOL),
        expect![[r#"
            error[two-keys]: several queues are not declared by the relay
             --> routes.yaml:4:76
              |
            4 |     amqp: { url: amqp://localhost, queue: 'q.{shard}', shards: 2, declare: { queue: {} } }
              |                                                                            ^^^^^^^^^^^^^
              |
              = help: remove `declare`; `regards-relay topology` prints the exchange, the queues and the bindings to make

        "#]],
    );
    check_errors(
        &with_spool("queue: 'q.{shard}', shards: 2", ""),
        expect![[r#"
        error[shards]: several queues are shared out by a spool in PostgreSQL, and this one is in a file
         --> routes.yaml:4:64
          |
        4 |     amqp: { url: amqp://localhost, queue: 'q.{shard}', shards: 2 }
          |                                                                ^
          |
          = help: write `spool: { postgres: { url: … } }`, or remove `shards` and consume one queue

    "#]],
    );
    let long = SPOOL.replace(" } }", &format!(", schema: {} }} }}", "s".repeat(52)));
    check_errors(
        &with_spool("queue: 'q.{shard}', shards: 2", &long),
        expect![[r#"
            error[illegal-schema]: with `shards`, this name may have at most 51 bytes
             --> routes.yaml:9:62
              |
            9 | spool: { postgres: { url: postgres://relay@db/relay, schema: ssssssssssssssssssssssssssssssssssssssssssssssssssss } }
              |                                                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
              |
              = help: shorten it: each shard has a schema whose name is this one and `_shard_NUMBER`

        "#]],
    );
    let tenants = "amqp: { url: amqp://localhost, vhost: '{tenant}', queue: 'q.{shard}', shards: 40 }\ntenants: [a, b]";
    check_errors(
        &format!("{}{SPOOL}\n", source(tenants)),
        expect![[r#"
            error[shards]: all sources together have 80 shards, more than 64
             --> routes.yaml:4:83
              |
            4 |     amqp: { url: amqp://localhost, vhost: '{tenant}', queue: 'q.{shard}', shards: 40 }
              |                                                                                   ^^
              |
              = help: write fewer, or split the sources between several spools

        "#]],
    );
}
