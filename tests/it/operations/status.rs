//! `status`: what a person sees of a relay with problems, and how `--watch` goes on and ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{Home, Receiver, Regards, Response, until};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" }, retry: { initial_backoff: 1h, max_backoff: 1h } }"#,
        archive: "{ file: { path: archive.ndjson } }",
    },
};

/// More than the failures that open a breaker.
const RESPONSES: usize = 7;

fn json(home: &Home) -> Value {
    serde_json::from_str(&home.does(&["status", "--json"])).expect("one JSON object")
}

/// Sends Ctrl-C, and returns the exit code.
fn interrupt(mut child: Child) -> Option<i32> {
    let sent = Command::new("kill").arg("-INT").arg(child.id().to_string()).status().expect("kill");
    assert!(sent.success());
    child.wait().expect("ended").code()
}

#[tokio::test]
async fn what_is_wrong_is_told_first_and_in_words() {
    let regards = Regards::new().await;
    let mut receiver = Receiver::start().await;
    let home = Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    let relay = home.start_ready().await;
    let shown = home.does(&["status"]);
    assert!(shown.contains("\nno problems: every source consumes and every sink delivers\n"), "{shown}");

    receiver.go_down().await;
    for number in 0..RESPONSES {
        regards.publish(&Response::new("esa", &format!("c-{number}"), "GRANTED")).await;
    }
    let status = until("the breaker to open", async || match json(&home) {
        status if status["sinks"][0]["state"] == "unavailable" && status["sinks"][0]["spooled"] == RESPONSES => {
            Ok(status)
        }
        status => Err(status.to_string()),
    })
    .await;
    let keys: Vec<_> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    let contract = ["alerts", "deadLetters", "jobs", "sinks", "sources", "spool", "uptime", "version"];
    assert_eq!(keys, contract, "these keys and no others");
    let hook = &status["sinks"][0];
    for key in ["reason", "lastError"] {
        assert!(hook[key].as_str().is_some_and(|error| error.contains("Connection refused")), "{key}: {hook}");
    }
    for time in ["nextAttempt", "lastErrorAt"] {
        assert!(hook[time].as_str().is_some_and(|time| time.ends_with('Z')), "{time}: {hook}");
    }
    assert_eq!(
        (&status["sources"][0]["received"], &status["sinks"][1]["delivered"]),
        (&RESPONSES.into(), &RESPONSES.into())
    );
    assert!(status["sources"][0]["lastMessage"].is_string(), "{status}");

    home.does(&["pause", "--sink", "archive"]);
    let shown = home.does(&["status"]);
    let lines: Vec<_> = shown.lines().collect();
    assert!(lines[1].starts_with("! sink hook is unavailable (next attempt in "), "{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let paused = "! sink archive is paused (`regards-relay resume --sink archive` resumes it): on request ";
    assert!(words.contains(paused), "{shown}");
    assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 80), "{shown}");
    home.write_routes("version: 2\n");
    until("the failed reload to be told", async || match home.does(&["status"]) {
        shown if shown.contains("! the last reload failed") => Ok(()),
        shown => Err(shown),
    })
    .await;
    relay.stop().await;
}

#[tokio::test]
async fn watch_prints_a_block_for_each_reading_until_ctrl_c_also_across_a_restart() {
    let regards = Regards::new().await;
    let receiver = Receiver::start().await;
    let home = Home::of(&regards, ROUTES).with("HOOK", &receiver.url());
    let none = home.run(&["status"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("no relay runs with the spool"), "{none:?}");
    assert_eq!(home.run(&["status", "--watch"]).status.code(), Some(1), "there is nothing to watch");

    let relay = home.start_ready().await;
    let mut watch = home.begin(&["status", "--watch"], Stdio::piped());
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    // The heading has the version, which is the same in each block.
    let mut block = || {
        let mut block = Vec::new();
        while block.last().is_none_or(|line: &String| !line.starts_with("dead letters ")) {
            block.push(lines.next().expect("a line").expect("UTF-8"));
        }
        block.join("\n")
    };
    assert!(!block().contains('\u{1b}'), "no terminal");
    regards.publish(&Response::new("esa", "c-1", "GRANTED")).await;
    while !block().contains("\nhook     delivering  1 ") {}
    relay.stop().await;
    let relay = home.start_ready().await;
    while !block().contains("\nhook     delivering  0 ") {}
    assert_eq!(interrupt(watch), Some(0));
    relay.stop().await;
}
