//! A damaged row of the spool becomes a dead letter and blocks no other delivery. A failpoint shows that the test would
//! notice a relay that stops at it.

use regards_relay::failpoints::{Failpoint, VARIABLE};

use crate::support::damage::damage_row;
use crate::support::response::lives;
use crate::support::{Answer, Home, Receiver, Regards, start_with_backlog, until, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 100ms, max_backoff: 1s } }"#,
    },
    "delivery: { shutdown_grace: 1s }",
};
const REQUESTS: usize = 20;
/// Number of write failures that prove that the spool writer retries.
const FAILURES: usize = 3;

/// Creates a backlog and damages one of its rows while the relay is stopped.
async fn with_a_damaged_row(failpoint: Option<Failpoint>) -> (Regards, Receiver, Home) {
    let (regards, receiver, mut home) = with_webhook(ROUTES).await;
    let relay = start_with_backlog(&home, &regards, &receiver, "hook", &lives("t", "damaged", REQUESTS)).await;
    relay.stop().await;
    damage_row(&home, "hook", |_| true).expect("a row");
    if let Some(failpoint) = failpoint {
        home = home.with(VARIABLE, failpoint.name());
    }
    receiver.answers(|_| Answer::Status(204));
    (regards, receiver, home)
}

#[tokio::test]
async fn a_damaged_row_becomes_a_dead_letter_and_blocks_no_other() {
    let (regards, receiver, home) = with_a_damaged_row(None).await;
    let relay = home.start_ready().await;
    receiver.wait_for_accepted(2 * REQUESTS - 1).await;
    home.wait_until_waiting("hook", 0).await;
    relay.stop().await;
    assert_eq!(receiver.accepted().len(), 2 * REQUESTS - 1, "each once");
    let letters = home.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["reason"], &letters[0]["sink"]), (&"render_failed".into(), &"hook".into()));
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_relay_that_stops_at_a_damaged_row_is_noticed() {
    if !cfg!(debug_assertions) {
        println!("a release build has no failpoints");
        return;
    }
    let (_regards, receiver, home) = with_a_damaged_row(Some(Failpoint::StopAtADamagedRow)).await;
    let relay = home.start();
    until("the spool to fail again and again", async || match home.warnings_with(&["spool.db", "trying again"]) {
        failures if failures.len() >= FAILURES => Ok(()),
        failures => Err(failures.join("\n")),
    })
    .await;
    assert_eq!(receiver.accepted().len(), 0, "the row holds up all others");
    relay.kill();
}
