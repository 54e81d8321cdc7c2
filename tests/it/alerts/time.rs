//! Time limits of requests when the wall clock jumps, and across a reboot of the machine.

use std::collections::BTreeSet;

use regards_relay::clock::{VARIABLE, is_past_boot_grace};
use rusqlite::Connection;

use super::overdue::{by_request, ended, granted, wait_for_open};
use crate::support::{Home, Receiver, Regards, Response};

/// The file that contains the error of the clock.
const CLOCK: &str = "clock";
const HOUR: i64 = 3_600;
const TEN_DAYS: i64 = 10 * 24 * HOUR;

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks:
  pager: { webhook: { url: "${PAGER}" }, retry: { initial_backoff: 100ms, max_backoff: 500ms } }
  archive: { file: { path: archive.ndjson } }
routes: [{ name: all, to: archive }]
unrouted: dead_letter
alerts:
  - { name: day, overdue: { when: { outcome: accepted, tenant: "cnes-*" }, within: 24h }, to: pager }
  - { name: second, overdue: { when: { outcome: accepted, tenant: quick }, within: 1s }, to: pager }
delivery: { shutdown_grace: 1s }
"#;

#[tokio::test]
async fn a_wall_clock_that_jumps_by_ten_days_neither_raises_nor_delays_an_alert() {
    if !cfg!(debug_assertions) {
        // Only debug builds can simulate a wrong clock.
        return;
    }
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let home = Home::of(&regards, ROUTES).with("PAGER", &pager.url()).with(VARIABLE, CLOCK);
    home.write(CLOCK, "0");
    let mut relay = home.start_ready().await;
    regards.publish(&granted("in-time")).await;
    wait_for_open(&relay, 1).await;
    let mut quick = BTreeSet::new();
    for jump in [TEN_DAYS, 0, -TEN_DAYS, 0] {
        home.write(CLOCK, &jump.to_string());
        // The first one is raised by the running relay, the other one by the next, which starts with a wrong clock.
        for run in ["same", "next"] {
            if run == "next" {
                relay.kill();
                relay = home.start_ready().await;
            }
            let id = format!("{run}-{jump}-{}", quick.len());
            regards.publish(&Response::new("quick", &id, "GRANTED")).await;
            quick.insert(id);
            pager.wait_for_accepted(quick.len()).await;
            home.wait_until_waiting("pager", 0).await;
            wait_for_open(&relay, 1).await;
        }
    }
    regards.publish(&ended("in-time")).await;
    wait_for_open(&relay, 0).await;
    relay.stop().await;
    assert_eq!(by_request(&pager.accepted()).into_keys().collect::<BTreeSet<_>>(), quick);
}

/// Changes the spool as if the machine had been off for that time, in seconds, and had booted since.
fn reboot(home: &Home, off: i64) {
    let connection = Connection::open(home.data("spool.db")).expect("the spool");
    let off = off * 1_000;
    let change = format!(
        "UPDATE clock SET boot = boot + 2, base = base - {off}; \
         UPDATE requests SET boot = boot + 2, due = due - {off}, received = received - {off}, overdue = overdue - {off};"
    );
    connection.execute_batch(&change).expect("changed");
}

#[tokio::test]
async fn the_time_while_the_machine_was_off_counts() {
    if !is_past_boot_grace() {
        // Just after the boot of this machine, the relay doesn't trust the wall clock.
        return;
    }
    let (regards, pager) = (Regards::new().await, Receiver::start().await);
    let home = Home::of(&regards, ROUTES).with("PAGER", &pager.url());
    let relay = home.start_ready().await;
    regards.publish_all(&[granted("slow"), Response::new("quick", "raised-before", "GRANTED")]).await;
    pager.wait_for_accepted(1).await;
    relay.stop().await;
    reboot(&home, 12 * HOUR);
    let relay = home.start_ready().await;
    regards.publish(&granted("fresh")).await;
    regards.publish(&Response::new("quick", "raised-before", "SUCCESS")).await;
    pager.wait_for_accepted(2).await;
    wait_for_open(&relay, 2).await;
    relay.stop().await;
    reboot(&home, 13 * HOUR);
    let relay = home.start_ready().await;
    let raised = pager.wait_for_accepted(3).await[2].json();
    assert_eq!([&raised["correlationId"], &raised["status"]], ["slow", "RAISED"]);
    wait_for_open(&relay, 1).await;
    relay.stop().await;
    let told = by_request(&pager.accepted());
    assert_eq!(told["raised-before"], ["RAISED", "RESOLVED"]);
    assert_eq!(told.len(), 2, "the other one has half a day left: {told:?}");
}
