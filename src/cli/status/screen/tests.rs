use std::time::Instant;

use expect_test::{Expect, expect};

use super::*;
use crate::admin::control::{DeadLettersStatus, SpoolStatus};
use crate::relay::{AlertSummary, JobStatus, RaisedSummary};

/// 2026-11-29T02:13:00Z
const NOW: WallTime = WallTime(1_795_918_380_000);

fn ago(seconds: i64) -> String {
    WallTime(NOW.0 - seconds * 1_000).to_rfc3339()
}

fn source(name: &str) -> SourceStatus {
    SourceStatus {
        name: name.to_owned(),
        state: "consuming".to_owned(),
        reason: None,
        received: 123_456,
        last_message: Some(ago(1)),
        reconnects: 0,
    }
}

fn sink(name: &str) -> SinkStatus {
    SinkStatus {
        name: name.to_owned(),
        state: "delivering".to_owned(),
        reason: None,
        next_attempt: None,
        spooled: 0,
        bytes: 0,
        oldest: None,
        in_flight: 3,
        delivered: 123_400,
        last_error: None,
        last_error_at: None,
    }
}

fn reading(sources: Vec<SourceStatus>, sinks: Vec<SinkStatus>) -> Reading {
    let status = Status {
        version: "1.2.3".to_owned(),
        uptime: 273_600,
        sources,
        sinks,
        spool: SpoolStatus {
            deliveries: 0,
            bytes: 0,
            max_bytes: 10 << 30,
            max_sink_bytes: 5 << 30,
            orphans: 0,
            problem: None,
            instances: Vec::new(),
        },
        dead_letters: DeadLettersStatus { count: 0, bytes: 0, max_bytes: Some(2 << 30) },
        jobs: Vec::new(),
        alerts: Vec::new(),
    };
    Reading { status, last_reload_failed: false, taken: Instant::now() }
}

/// The screen two seconds after a reading in which each counter was `increase` lower.
fn check(reading: &Reading, increase: u64, expected: &Expect) {
    let mut before = self::reading(reading.status.sources.iter().map(|one| source(&one.name)).collect(), Vec::new());
    for one in &mut before.status.sources {
        one.received = one.received.saturating_sub(increase);
    }
    before.status.sinks = reading.status.sinks.iter().map(|one| sink(&one.name)).collect();
    for (one, now) in before.status.sinks.iter_mut().zip(&reading.status.sinks) {
        one.delivered = now.delivered.saturating_sub(increase);
    }
    before.taken = reading.taken.checked_sub(Duration::from_secs(2)).unwrap();
    let lines = Screen { reading, before: Some(&before), error: None, size: None }.lines(NOW).unwrap();
    assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
    let is_small = reading.status.sources.len() + reading.status.sinks.len() <= 6;
    assert!(lines.len() <= 24 || !is_small, "{lines:#?}");
    expected.assert_eq(&(lines.join("\n") + "\n"));
}

#[test]
fn a_relay_without_problems() {
    check(
        &reading(vec![source("regards")], vec![sink("pipeline"), sink("archive")]),
        84,
        &expect![[r"
            regards-relay 1.2.3, up 3d 4h                               2026-11-29T02:13:00Z
            no problems: every source consumes and every sink delivers

            SOURCE   STATE      RECEIVED  RATE  LAST MESSAGE
            regards  consuming  123456    42/s  1s ago

            SINK      STATE       DELIVERED  RATE  IN FLIGHT  BACKLOG  OLDEST
            pipeline  delivering  123400     42/s  3          0        -
            archive   delivering  123400     42/s  3          0        -

            spool         no deliveries, 0 B of 10 GiB
            dead letters  0, 0 B of 2.0 GiB
        "]],
    );
}

#[test]
fn what_is_wrong_comes_first() {
    let blocked = SourceStatus {
        state: "blocked".to_owned(),
        reason: Some("the spool has no room for sink on_call: make room, or set `when_full`".to_owned()),
        ..source("regards")
    };
    let down = SourceStatus {
        state: "down".to_owned(),
        reason: Some("lost its connection (connection refused)".to_owned()),
        last_message: None,
        ..source("orders")
    };
    let unavailable = SinkStatus {
        state: "unavailable".to_owned(),
        reason: Some("can't connect to pager.example.org: Connection refused (os error 111)".to_owned()),
        next_attempt: Some(ago(-40)),
        spooled: 1_234,
        bytes: 5 << 30,
        oldest: Some(ago(7_400)),
        in_flight: 0,
        ..sink("on_call")
    };
    let paused =
        SinkStatus { state: "paused".to_owned(), reason: Some("paused: on request".to_owned()), ..sink("partner") };
    let failing = SinkStatus {
        spooled: 2,
        oldest: Some(ago(90)),
        last_error: Some("the topic regards.esa does not exist".to_owned()),
        last_error_at: Some(ago(30)),
        ..sink("pipeline")
    };
    let mut reading = reading(vec![blocked, down], vec![unavailable, failing, paused, sink("archive")]);
    reading.last_reload_failed = true;
    reading.status.spool.deliveries = 1_236;
    reading.status.spool.bytes = (5 << 30) + 900;
    reading.status.dead_letters.count = 3;
    reading.status.dead_letters.bytes = 12_345;
    reading.status.jobs.push(JobStatus {
        id: 1,
        kind: "redrive of dead letters".to_owned(),
        state: "running".to_owned(),
        done: 17,
        total: 20,
        seconds: 65,
    });
    check(
        &reading,
        1,
        &expect![[r"
            regards-relay 1.2.3, up 3d 4h                               2026-11-29T02:13:00Z
            ! source regards is blocked: the spool has no room for sink on_call: make room,…
            ! source orders lost its connection (connection refused)
            ! sink on_call is unavailable (next attempt in 40s): can't connect to pager.exa…
            ! the last reload failed, and the old configuration is in use: see `regards-rel…
            ! sink on_call uses 100 % of its share of the spool (`spool.max_share`)
            ! sink pipeline failed 30s ago: the topic regards.esa does not exist
            ! sink partner is paused (`regards-relay resume --sink partner` resumes it): on…

            SOURCE   STATE    RECEIVED  RATE   LAST MESSAGE
            regards  blocked  123456    0.5/s  1s ago
            orders   down     123456    0.5/s  -

            SINK      STATE        DELIVERED  RATE   IN FLIGHT  BACKLOG  OLDEST
            on_call   unavailable  123400     0.5/s  0          1234     2h 3m
            pipeline  delivering   123400     0.5/s  3          2        1m 30s
            partner   paused       123400     0.5/s  3          0        -
            archive   delivering   123400     0.5/s  3          0        -

            spool         1236 deliveries, 5.0 GiB of 10 GiB
            dead letters  3, 12 KiB of 2.0 GiB; see `dead-letters list`

            JOB  KIND                     DONE  TOTAL  SECONDS
            1    redrive of dead letters  17    20     65
        "]],
    );
}

/// The errors are at the upper bounds of what a relay tells, and come from outside.
#[test]
fn long_names_and_errors_are_cut() {
    let bad = |name: &str| SinkStatus {
        state: "unavailable".to_owned(),
        reason: Some("\u{1b}[2Jno ".to_owned() + &"x".repeat(500)),
        delivered: 123_456_789_012,
        spooled: 12_345_678,
        oldest: Some(ago(9_000_000)),
        ..sink(name)
    };
    let sinks = (0..100).map(|number| sink(&format!("quiet-{number}")));
    let sinks = sinks.chain([
        bad(&"a-sink-with-a-very-long-name".repeat(9)),
        bad("two"),
        bad("three"),
        bad("four"),
        bad("five"),
    ]);
    let sources = (0..20).map(|_| source(&"s".repeat(200))).collect();
    check(
        &reading(sources, sinks.collect()),
        1_000_000,
        &expect![[r"
            regards-relay 1.2.3, up 3d 4h                               2026-11-29T02:13:00Z
            ! sink a-sink-with-a-very-long-namea-sink-with-a-very-long-namea-sink-with-a-ve…
            ! sink two is unavailable (an attempt is due): \u{1b}[2Jno xxxxxxxxxxxxxxxxxxxx…
            ! sink three is unavailable (an attempt is due): \u{1b}[2Jno xxxxxxxxxxxxxxxxxx…
            ! sink four is unavailable (an attempt is due): \u{1b}[2Jno xxxxxxxxxxxxxxxxxxx…
            ! sink five is unavailable (an attempt is due): \u{1b}[2Jno xxxxxxxxxxxxxxxxxxx…

            SOURCE                                STATE      RECEIVED  RATE     LAST MESSAGE
            sssssssssssssssssssssssssssssssssss…  consuming  123456    61728/s  1s ago
            sssssssssssssssssssssssssssssssssss…  consuming  123456    61728/s  1s ago
            sssssssssssssssssssssssssssssssssss…  consuming  123456    61728/s  1s ago
            sssssssssssssssssssssssssssssssssss…  consuming  123456    61728/s  1s ago
            sssssssssssssssssssssssssssssssssss…  consuming  123456    61728/s  1s ago
            sssssssssssssssssssssssssssssssssss…  consuming  123456    61728/s  1s ago
            sssssssssssssssssssssssssssssssssss…  consuming  123456    61728/s  1s ago
            and 13 more sources; `--json` has all

            SINK           STATE        DELIVERED     RATE      IN FLIGHT  BACKLOG   OLDEST
            a-sink-with-…  unavailable  123456789012  500000/s  3          12345678  104d 4h
            two            unavailable  123456789012  500000/s  3          12345678  104d 4h
            three          unavailable  123456789012  500000/s  3          12345678  104d 4h
            four           unavailable  123456789012  500000/s  3          12345678  104d 4h
            five           unavailable  123456789012  500000/s  3          12345678  104d 4h
            quiet-0        delivering   123400        61700/s   3          0         -
            quiet-1        delivering   123400        61700/s   3          0         -
            and 98 more sinks; `--json` has all

            spool         no deliveries, 0 B of 10 GiB
            dead letters  0, 0 B of 2.0 GiB
        "]],
    );
}

#[test]
fn a_rate_is_unknown_after_a_restart() {
    let reading = reading(vec![source("regards")], vec![]);
    let mut before = self::reading(vec![SourceStatus { received: 1, ..source("regards") }], vec![]);
    before.status.uptime += 1;
    let line = |before| {
        let lines = Screen { reading: &reading, before, error: None, size: None }.lines(NOW).unwrap();
        lines.into_iter().find(|line| line.starts_with("regards ")).unwrap()
    };
    assert!(line(Some(&before)).contains("123456    -  "), "{}", line(Some(&before)));
    assert_eq!(line(None), line(Some(&before)));
}

#[test]
fn a_small_terminal_gets_lines_that_fit() {
    let reading = reading(vec![source("regards")], (0..20).map(|number| sink(&format!("sink-{number}"))).collect());
    let screen = Screen { reading: &reading, before: None, error: Some("no relay runs"), size: Some((10, 44)) };
    let lines = screen.lines(NOW).unwrap();
    assert_eq!(lines.len(), 9);
    assert!(lines.iter().all(|line| line.chars().count() <= 44), "{lines:#?}");
    assert!(lines[1].contains("no relay runs"), "what is wrong stays: {lines:#?}");
    let mut drawn = Vec::new();
    redraw(&lines, true, &mut drawn).unwrap();
    let drawn = String::from_utf8(drawn).unwrap();
    assert!(drawn.starts_with("\u{1b}[2J\u{1b}[H") && drawn.ends_with("\u{1b}[J"), "{drawn:?}");
    assert_eq!(drawn.matches("\r\n").count(), 9);
}

fn raised(subject: &str, seconds: i64) -> RaisedSummary {
    RaisedSummary {
        subject: subject.to_owned(),
        since: ago(seconds),
        message: "in words".to_owned(),
        tenant: None,
        correlation_id: None,
    }
}

fn alert(name: &str, open: Option<u64>, active: u64, raised: Vec<RaisedSummary>) -> AlertSummary {
    let condition = if open.is_some() { "overdue" } else { "sink_failing" }.to_owned();
    AlertSummary { name: name.to_owned(), condition, open, active, raised, raised_total: active, resolved_total: 0 }
}

#[test]
fn raised_alerts_are_named_with_their_subjects_and_since_when() {
    let mut reading = reading(vec![source("regards")], vec![sink("pipeline")]);
    let overdue = vec![raised("request cnes-a order-4712", 7_400), raised("request cnes-b order-9", 60)];
    reading.status.alerts = vec![
        alert("granted-and-silent", Some(1_234), 2, overdue),
        alert("sink-in-trouble", None, 1, vec![raised("sink pipeline", 725)]),
        alert("quiet", None, 0, Vec::new()),
    ];
    check(
        &reading,
        84,
        &expect![[r"
        regards-relay 1.2.3, up 3d 4h                               2026-11-29T02:13:00Z
        ! alert granted-and-silent: 2 requests are overdue

        SOURCE   STATE      RECEIVED  RATE  LAST MESSAGE
        regards  consuming  123456    42/s  1s ago

        SINK      STATE       DELIVERED  RATE  IN FLIGHT  BACKLOG  OLDEST
        pipeline  delivering  123400     42/s  3          0        -

        spool         no deliveries, 0 B of 10 GiB
        dead letters  0, 0 B of 2.0 GiB
        requests      1234 open, 2 overdue (alert granted-and-silent)

        ALERT               SINCE       SUBJECT
        sink-in-trouble     12m 5s ago  sink pipeline
        granted-and-silent  2h 3m ago   request cnes-a order-4712
        granted-and-silent  1m 0s ago   request cnes-b order-9
    "]],
    );
}

#[test]
fn of_many_overdue_requests_the_oldest_are_named_and_the_others_counted() {
    let mut reading = reading(vec![source("regards")], vec![sink("pipeline")]);
    let overdue = (0..10)
        .map(|number| {
            raised(
                &format!("request cnes-a {}", "1c0a8a5e-6b1f-4b9e-9d0e-".to_owned() + &format!("{number:012}")),
                9_000 - number,
            )
        })
        .collect();
    reading.status.alerts = vec![
        alert("granted-and-silent", Some(0), 12_345, overdue),
        alert("sink-in-trouble", None, 1, vec![raised("sink pipeline", 725)]),
    ];
    check(
        &reading,
        84,
        &expect![[r"
        regards-relay 1.2.3, up 3d 4h                               2026-11-29T02:13:00Z
        ! alert granted-and-silent: 12345 requests are overdue

        SOURCE   STATE      RECEIVED  RATE  LAST MESSAGE
        regards  consuming  123456    42/s  1s ago

        SINK      STATE       DELIVERED  RATE  IN FLIGHT  BACKLOG  OLDEST
        pipeline  delivering  123400     42/s  3          0        -

        spool         no deliveries, 0 B of 10 GiB
        dead letters  0, 0 B of 2.0 GiB
        requests      0 open, 12345 overdue (alert granted-and-silent)

        ALERT            SINCE       SUBJECT
        sink-in-trouble  12m 5s ago  sink pipeline
        granted-and-si…  2h 30m ago  request cnes-a 1c0a8a5e-6b1f-4b9e-9d0e-000000000000
        granted-and-si…  2h 29m ago  request cnes-a 1c0a8a5e-6b1f-4b9e-9d0e-000000000001
        granted-and-si…  2h 29m ago  request cnes-a 1c0a8a5e-6b1f-4b9e-9d0e-000000000002
        granted-and-si…  2h 29m ago  request cnes-a 1c0a8a5e-6b1f-4b9e-9d0e-000000000003
        granted-and-si…  2h 29m ago  request cnes-a 1c0a8a5e-6b1f-4b9e-9d0e-000000000004
        granted-and-si…  2h 29m ago  request cnes-a 1c0a8a5e-6b1f-4b9e-9d0e-000000000005
        and 12339 more raised; `--json` names the oldest of each alert
    "]],
    );
}
