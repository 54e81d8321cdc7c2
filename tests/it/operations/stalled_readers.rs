//! A stalled reader of the log or of standard output does not block anything else.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, ExitStatus, Stdio};

use serde_json::Value;

use crate::configuration::Edit;
use crate::support::relay::sum_of;
use crate::support::response::lives;
use crate::support::{until, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" } }"#,
    },
};

/// Reads the log up to the line with the address of the admin listener.
fn admin(log: &mut BufReader<ChildStderr>) -> String {
    let lines = log.lines().map(|line| line.expect("a line of the log"));
    let mut lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let started = lines.find(|line| line["admin"].is_string()).expect("a line about the start");
    started["admin"].as_str().expect("an address").to_owned()
}

async fn terminated(child: &mut Child) -> ExitStatus {
    let sent = std::process::Command::new("kill").arg("-TERM").arg(child.id().to_string()).status();
    assert!(sent.expect("kill").success());
    until("the relay to end", async || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        still => Err(format!("{still:?}")),
    })
    .await
}

/// The reader is a container's log driver, journald or `less`, and it has stopped reading.
#[tokio::test]
async fn a_stalled_reader_of_the_log_blocks_nothing() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let home = home.with("RUST_LOG", "trace");
    regards.use_cheap_queue().await;
    for reads_again in [false, true] {
        let mut relay = home.begin_run(Stdio::null(), Stdio::piped());
        let mut log = BufReader::with_capacity(1, relay.stderr.take().expect("its log"));
        let admin = admin(&mut log);
        let page = async |path: &str| {
            let answer = reqwest::get(format!("{admin}{path}")).await.map_err(|error| error.to_string())?;
            answer.text().await.map_err(|error| error.to_string())
        };
        let mut accepted = receiver.wait_for_accepted(0).await.len();
        until("lines of the log to be dropped", async || {
            let more = lives("t", &format!("log-{accepted}"), 50);
            regards.publish_all(&more).await;
            accepted += more.len();
            receiver.wait_for_accepted(accepted).await;
            assert_eq!(page("/livez").await, Ok("alive\n".to_owned()));
            let metrics = page("/metrics").await?;
            let dropped = sum_of(&metrics, "regards_relay_log_lines_dropped_total", &[]);
            if dropped > Some(0.0) { Ok(()) } else { Err(format!("{dropped:?}")) }
        })
        .await;
        let rest = reads_again.then(|| {
            // Until here the reader took single bytes, to consume no more than needed. Now it has to keep up with the
            // log.
            let log = BufReader::new(log.into_inner());
            std::thread::spawn(move || log.lines().map(|line| line.expect("a line of the log")).collect::<Vec<_>>())
        });
        assert_eq!(terminated(&mut relay).await.code(), Some(0));
        if let Some(rest) = rest {
            let rest = rest.join().expect("the rest of the log");
            assert!(rest.iter().any(|line| line.contains("log lines were dropped")), "it says what is missing");
            let last = rest.iter().rev().find(|line| line.contains("\"INFO\"")).expect("a last line");
            assert!(last.contains("stopped"), "{last}");
        }
    }
    regards.assert_left_as_found().await;
}

#[tokio::test]
async fn a_stalled_reader_of_the_output_blocks_only_its_sink() {
    let both = ROUTES.edit("  hook:", "  screen: { stdout: {} }\n  hook:").edit("to: hook", "to: [hook, screen]");
    let (regards, receiver, home) = with_webhook(&both).await;
    regards.use_cheap_queue().await;
    let mut relay = home.begin_run(Stdio::piped(), Stdio::null());
    // Several times the capacity of a pipe.
    let published = lives("t", "screen", 1_000);
    regards.publish_all(&published).await;
    receiver.wait_for_accepted(published.len()).await;
    assert_eq!(terminated(&mut relay).await.code(), Some(0));
    drop(relay.stdout.take());
    assert!(home.waiting("screen") > 0, "what its reader did not take waits for the next run");
    regards.assert_left_as_found().await;
}
