//! The key `alerts:`.

use std::time::Duration;

use expect_test::expect;

use super::*;
use crate::rules::Trigger;

/// A file with those alerts, the sinks `a` and `b`, and all else right.
fn alerts(alerts: &str) -> String {
    format!("{}alerts:\n{}", routes("- { name: all, to: [a, b] }"), indented(alerts))
}

#[test]
fn every_condition_has_its_defaults() {
    let config = valid(&alerts(
        "
- { name: silent, overdue: { within: [24h, expires] }, to: a }
- { name: sinks, sink_failing: {}, to: [a, b] }
- { name: sources, source_down: { for: 90s }, to: a }
- { name: filling, spool_filling: {}, to: a }
- { name: letters, dead_letters: {}, to: a }
- { name: reload, reload_failed: {}, to: a }",
    ));
    let [silent, sinks, sources, filling, letters, reload] = &*config.alerts else { panic!("{:?}", config.alerts) };
    let Trigger::Overdue(overdue) = &silent.trigger else { panic!("{silent:?}") };
    assert_eq!(
        (overdue.when.to_string(), overdue.limit()),
        ("outcome accepted".to_owned(), "1d or expires".to_owned())
    );
    let five = Duration::from_mins(5);
    assert!(
        matches!(&sinks.trigger, Trigger::SinkFailing { sinks, after } if sinks[0].as_str() == "*" && *after == five)
    );
    assert!(matches!(&sources.trigger, Trigger::SourceDown { after, .. } if after.as_secs() == 90));
    assert!(matches!(&filling.trigger, Trigger::SpoolFilling { above: 80 }));
    assert!(matches!(&letters.trigger, Trigger::DeadLetters { more_than: 0 }));
    assert!(matches!(&reload.trigger, Trigger::ReloadFailed));
}

#[test]
fn an_alert_has_a_name_of_its_own_one_condition_and_a_sink() {
    check_errors(
        &alerts(
            "
- { name: one, to: a }
- { name: one, dead_letters: {}, reload_failed: {}, to: c }
- { name: two, reload_failed: {}, to: [] }
- { name: three, overdue: { within: [] }, to: a }",
        ),
        expect![[r#"
            error[no-trigger]: this alert has no condition: nothing raises it
             --> routes.yaml:9:7
              |
            9 |     - { name: one, to: a }
              |       ^^^^^^^^^^^^^^^^^^^^
              |
              = help: add one of `overdue`, `sink_failing`, `source_down`, `spool_filling`, `dead_letters`, `reload_failed`; a condition without settings is `{}`

            error[duplicate-alert]: there are two alerts named `one`
              --> routes.yaml:10:15
               |
             9 |     - { name: one, to: a }
               |               --- first here
            10 |     - { name: one, dead_letters: {}, reload_failed: {}, to: c }
               |               ^^^
               |
               = help: give each alert its own name: its events and metrics have it

            error[two-triggers]: an alert has one condition
              --> routes.yaml:10:53
               |
            10 |     - { name: one, dead_letters: {}, reload_failed: {}, to: c }
               |                                                     ^^
               |
               = help: make it two alerts, each with its own name

            error[unknown-sink]: there is no sink `c`
              --> routes.yaml:10:61
               |
            10 |     - { name: one, dead_letters: {}, reload_failed: {}, to: c }
               |                                                             ^
               |
               = help: write one of `a`, `b`

            error[empty-list]: nobody gets this alert
              --> routes.yaml:11:43
               |
            11 |     - { name: two, reload_failed: {}, to: [] }
               |                                           ^^
               |
               = help: name the sinks that get it, or remove the alert

            error[empty-list]: no time limit: the alert is never raised
              --> routes.yaml:12:41
               |
            12 |     - { name: three, overdue: { within: [] }, to: a }
               |                                         ^^
               |
               = help: write a duration, as in `24h`, or `expires`

        "#]],
    );
}

#[test]
fn an_alert_that_is_never_raised_is_a_mistake() {
    check_errors(
        &alerts(
            "
- { name: ends, overdue: { when: { outcome: failed }, within: 24h }, to: a }
- { name: full, spool_filling: { above: 100% }, to: a }
- { name: none, sink_failing: { sink: pager }, to: a }
- { name: gone, source_down: { source: \"esa-*\" }, to: a }
- { name: never, overdue: { when: { outcome: allowed }, within: 24h }, to: a }
- { name: both, overdue: { when: { status: GRANTED, outcome: failed }, within: 24h }, to: a }",
        ),
        expect![[r#"
            error[never-fires]: this matches only events that end their request: none is ever overdue
             --> routes.yaml:9:38
              |
            9 |     - { name: ends, overdue: { when: { outcome: failed }, within: 24h }, to: a }
              |                                      ^^^^^^^^^^^^^^^^^^^
              |
              = help: write what opens a request, as in `when: { outcome: accepted }`

            error[never-fires]: the spool is never filled to more than `100%`
              --> routes.yaml:10:45
               |
            10 |     - { name: full, spool_filling: { above: 100% }, to: a }
               |                                             ^^^^
               |
               = help: write a smaller share, as in `80%`

            error[unknown-sink]: there is no sink `pager`
              --> routes.yaml:11:43
               |
            11 |     - { name: none, sink_failing: { sink: pager }, to: a }
               |                                           ^^^^^
               |
               = help: write one of `a`, `b`

            error[unknown-source]: there is no source `esa-*`
              --> routes.yaml:12:44
               |
            12 |     - { name: gone, source_down: { source: "esa-*" }, to: a }
               |                                            ^^^^^^^
               |
               = help: write one of `regards`

            error[never-matches]: no event has the outcome `allowed`
              --> routes.yaml:13:50
               |
            13 |     - { name: never, overdue: { when: { outcome: allowed }, within: 24h }, to: a }
               |                                                  ^^^^^^^
               |
               = help: write one of `accepted`, `rejected`, `succeeded`, `failed`, `progress`

            warning[never-fires]: no event opens a request here: the conditions exclude each other
              --> routes.yaml:14:38
               |
            14 |     - { name: both, overdue: { when: { status: GRANTED, outcome: failed }, within: 24h }, to: a }
               |                                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
               |
               = help: `type`, `status` and `outcome` have to be possible together, and `not:` must not exclude everything

        "#]],
    );
}

#[test]
fn expires_alone_is_no_limit_where_no_event_has_such_a_date() {
    let file = alerts("- { name: silent, overdue: { within: expires }, to: a }");
    check_errors(
        &file.replace("queue: q }", "queue: q }, expects: order"),
        expect![[r#"
        error[never-fires]: the events of these sources have no `expires`
         --> routes.yaml:9:42
          |
        9 |     - { name: silent, overdue: { within: expires }, to: a }
          |                                          ^^^^^^^
          |
          = help: write a duration, as in `within: 24h`

    "#]],
    );
}

#[test]
fn a_limit_that_regards_never_keeps_is_warned_of() {
    check_warnings(
        &alerts("- { name: silent, overdue: { within: 10s }, to: a }"),
        expect![[r#"
        warning[overdue-too-soon]: REGARDS needs longer than this for any request
         --> routes.yaml:9:42
          |
        9 |     - { name: silent, overdue: { within: 10s }, to: a }
          |                                          ^^^ every request becomes overdue
          |
          = help: write how long a request may take at most, as in `24h`

    "#]],
    );
}

#[test]
fn a_sink_that_alone_hears_of_its_own_failure_is_warned_of() {
    check_warnings(
        &alerts("- { name: trouble, sink_failing: { sink: \"*\" }, to: a }"),
        expect![[r#"
        warning[alert-about-itself]: nobody hears when `a` fails: an alert about a sink never goes to that sink
         --> routes.yaml:9:57
          |
        9 |     - { name: trouble, sink_failing: { sink: "*" }, to: a }
          |                                                         ^
          |
          = help: name a second sink in `to`, with another destination

    "#]],
    );
}

#[test]
fn the_address_of_an_alert_about_no_request_needs_a_default() {
    let file =
        alerts("- { name: silent, overdue: { within: 24h }, to: a }\n- { name: reload, reload_failed: {}, to: b }");
    let file = file.replace("stdout: {}", "file: { path: \"{{ tenant }}.ndjson\" }");
    check_warnings(
        &file,
        expect![[r#"
        warning[nullable-address]: `tenant` can be null: such an event or alert has no address here
         --> routes.yaml:3:79
          |
        3 | sinks: { a: { file: { path: "{{ tenant }}.ndjson" } }, b: { file: { path: "{{ tenant }}.ndjson" } } }
          |                                                                               ^^^^^^
          |
          = help: it becomes a dead letter, `render_failed`; give it a default: `{{ tenant | default('none') }}`

    "#]],
    );
}
