//! Files that are wrong as a whole: no YAML, no mapping, unknown keys, missing ones.

use expect_test::expect;

use super::{Strictness, options, wrong};
use crate::config::Config;

#[test]
fn an_empty_file_says_what_to_start_with() {
    wrong(
        "",
        expect![[r#"
        error[empty-file]: the file has nothing in it
         --> routes.yaml:1:1
          |
        1 |
          | ^
          |
          = help: start with `version: 1`, then `sources:`, `sinks:`, `routes:` and `unrouted:`

    "#]],
    );
    wrong(
        "# nothing yet\n",
        expect![[r#"
        error[empty-file]: the file has nothing in it
         --> routes.yaml:1:1
          |
        1 | # nothing yet
          | ^
          |
          = help: start with `version: 1`, then `sources:`, `sinks:`, `routes:` and `unrouted:`

    "#]],
    );
}

#[test]
fn a_file_that_is_no_mapping() {
    wrong(
        "- sources\n- sinks\n",
        expect![[r#"
        error[wrong-type]: expected a mapping of keys to values, found a list
         --> routes.yaml:1:3
          |
        1 | - sources
          |   ^^^^^^^
          |
          = help: write a mapping of keys to values here

    "#]],
    );
    wrong(
        "version 1",
        expect![[r#"
        error[wrong-type]: expected a mapping of keys to values, found a single value
         --> routes.yaml:1:1
          |
        1 | version 1
          | ^^^^^^^^^
          |
          = help: write a mapping of keys to values here

    "#]],
    );
}

#[test]
fn what_is_required_and_missing_is_named() {
    wrong(
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
fn an_unknown_key_is_told_which_was_meant() {
    wrong(
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
              = help: known keys: `version`, `name`, `sources`, `sinks`, `routes`, `unrouted`, `dead_letters`, `spool`, `delivery`, `admin`

        "#]],
    );
}

#[test]
fn a_key_that_is_given_twice() {
    wrong(
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
fn what_is_not_yaml() {
    wrong(
        "version: 1\nsources: { a: b\nsinks: c\n",
        expect![[r#"
            error[yaml-syntax]: this is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
             --> routes.yaml:3:6
              |
            2 | sources: { a: b
              |          - opened here
            3 | sinks: c
              |      ^
              |
              = help: separate the entries by commas and close the bracket; quote a value that holds `{`, `}`, `[`, `]` or `,`

        "#]],
    );
    wrong(
        "version: 1\n\tsources: {}\n",
        expect![[r#"
            error[yaml-syntax]: this is not YAML: while scanning a plain scalar, found a tab
             --> routes.yaml:2:1
              |
            2 |     sources: {}
              | ^^^^
              |
              = help: indent with spaces: YAML takes no tabs there

        "#]],
    );
    wrong(
        "version: 1\nname: one: two\n",
        expect![[r#"
        error[yaml-syntax]: this is not YAML: mapping values are not allowed in this context
         --> routes.yaml:2:10
          |
        2 | name: one: two
          |          ^
          |
          = help: a value that has `: ` in it needs quotes; a key has to stand on a line of its own

    "#]],
    );
    wrong(
        "version: 1\nname: 'open\n",
        expect![[r#"
        error[yaml-syntax]: this is not YAML: unclosed quote
         --> routes.yaml:2:7
          |
        2 | name: 'open
          |       ^
          |
          = help: close the quote that was opened before

    "#]],
    );
    wrong(
        "version: 1\nname: *other\n",
        expect![[r#"
            error[yaml-syntax]: a value that begins with `*` is an alias for YAML, and there is no anchor of that name
             --> routes.yaml:2:7
              |
            2 | name: *other
              |       ^
              |
              = help: put the value into quotes, as in `"*"` or `"*-test"`

        "#]],
    );
    wrong(
        "version: 1\nname: !secret x\n",
        expect![[r#"
            error[yaml-tag]: YAML tags (`!…`) are not supported
             --> routes.yaml:2:7
              |
            2 | name: !secret x
              |       ^^^^^^^
              |
              = help: remove the tag; quote the value if it has to start with `!`

        "#]],
    );
    wrong(
        "version: 1\n---\nversion: 1\n",
        expect![[r#"
        error[several-documents]: the file holds more than one YAML document
         --> routes.yaml:2:1
          |
        2 | ---
          | ^^^
          |
          = help: keep one document: remove this `---` and what belongs to the other one

    "#]],
    );
    wrong(
        "version: 1\n? [a, b]\n: c\n",
        expect![[r#"
        error[yaml-key]: a key has to be a single word or text
         --> routes.yaml:2:3
          |
        2 | ? [a, b]
          |   ^^^^^^
          |
          = help: write `key: value`; a value that starts with `{` or `[` needs quotes

    "#]],
    );
}

#[test]
fn another_version_is_all_that_is_said() {
    wrong(
        "version: 2\nsauces: {}\n",
        expect![[r#"
            error[version]: version 2 is not supported
             --> routes.yaml:1:10
              |
            1 | version: 2
              |          ^
              |
              = help: write `version: 1`, or use a regards-relay that supports it

        "#]],
    );
}

#[test]
fn values_of_another_type() {
    wrong(
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
fn booleans_are_those_of_yaml_1_2() {
    wrong(
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

            error[wrong-type]: `true` is a text, as it stands in quotes: expected `true` or `false`
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
fn numbers_out_of_range() {
    wrong(
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
fn names_and_addresses_of_the_relay() {
    wrong(
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

#[test]
fn what_comes_later_is_refused_at_its_place() {
    wrong(
        "version: 1
sources:
  regards: { amqp: { url: amqp://localhost, queue: q }, expects: order }
sinks: { screen: { stdout: {}, when_full: drop_newest, format: { avro: { registry: x } } } }
routes:
  - name: quota
    to: screen
unrouted: drop
",
        expect![[r#"
            error[not-yet]: formats with settings come with a later version
             --> routes.yaml:4:64
              |
            4 | sinks: { screen: { stdout: {}, when_full: drop_newest, format: { avro: { registry: x } } } }
              |                                                                ^^^^^^^^^^^^^^^^^^^^^^^^^ not in this version
              |
              = help: remove it; write one of `normalized`, `original`, `cloudevents`

        "#]],
    );
}

#[test]
fn a_file_that_is_not_there_or_not_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    let errors = Config::load(&path, &options(Strictness::Run, &[])).unwrap_err().to_string();
    assert!(errors.starts_with("error[unreadable]: the configuration can't be read: No such file"), "{errors}");
    std::fs::write(&path, b"version: 1\nname: \xff\n").unwrap();
    let errors = Config::load(&path, &options(Strictness::Run, &[])).unwrap_err().to_string();
    assert!(errors.starts_with("error[not-utf8]: the file is not UTF-8: line 2 is the first that isn't"), "{errors}");
}
