//! Redrives and purges are jobs of the relay: how they are shown, continued and stopped.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{Home, Regards, Response, until, with_webhook};

const ROUTES: &str = r#"
version: 1
sources: { regards: { amqp: { url: "${REGARDS}", queue: "${QUEUE}" }, expects: lta } }
sinks: { hook: { webhook: { url: "${HOOK}" } } }
routes: [{ name: all, to: hook, when: { tenant: esa } }]
unrouted: dead_letter
"#;
const LETTERS: usize = 5;

/// Publishes messages that become dead letters, and waits for the dead letters.
async fn dead_letters(regards: &Regards, home: &Home) {
    for number in 0..LETTERS {
        regards.publish(&Response::new("other", &format!("dead-{number}"), "GRANTED")).await;
    }
    letters(home, LETTERS).await;
}

/// Waits for this number of dead letters.
async fn letters(home: &Home, count: usize) {
    until(&format!("{count} dead letters"), async || {
        match home.does(&["dead-letters", "list", "--json"]).lines().count() {
            letters if letters == count => Ok(()),
            letters => Err(letters.to_string()),
        }
    })
    .await;
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn a_detached_redrive_goes_on_without_its_client_is_listed_and_can_be_stopped() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let relay = home.start_ready().await;
    dead_letters(&regards, &home).await;
    // The relay redrives the first dead letter immediately and the second one an hour later.
    let redrive = ["dead-letters", "redrive", "--rate", "1/h", "--yes", "--to", "hook", "--detach"];
    let started = json(&home.does(&[&redrive[..], &["--json"]].concat()));
    let id = started["job"].to_string();
    receiver.wait_for_accepted(1).await;
    letters(&home, LETTERS - 1).await;
    let listed = until("the first to be counted", async || {
        let listed = json(&home.does(&["jobs", "--json"]));
        if listed["done"] == 1 { Ok(listed) } else { Err(listed.to_string()) }
    })
    .await;
    assert_eq!(
        (&listed["id"], &listed["kind"], &listed["state"], &listed["total"]),
        (&started["job"], &"redrive of dead letters".into(), &"running".into(), &LETTERS.into()),
    );
    assert!(home.does(&["status"]).contains("redrive of dead letters"));
    home.does(&["jobs", "stop", &id]);
    until("no jobs", async || match home.does(&["jobs", "--json"]) {
        jobs if jobs.is_empty() => Ok(()),
        jobs => Err(jobs),
    })
    .await;
    until("the log to have the end of what nobody waited for", async || {
        match home.warnings_with(&["has stopped before its end", "jobs stop"]).len() {
            1 => Ok(()),
            lines => Err(format!("{lines} lines")),
        }
    })
    .await;

    let purge = json(&home.does(&["dead-letters", "purge", "--yes", "--detach", "--json"]));
    assert_eq!(purge["job"], 2, "{purge}");
    letters(&home, 0).await;
    relay.stop().await;
    assert_eq!(receiver.accepted().len(), 1);
    // Without dead letters the command has nothing to do. With dead letters but no relay, a detached redrive fails.
    let relay = home.start_ready().await;
    dead_letters(&regards, &home).await;
    relay.stop().await;
    let alone = home.run(&redrive);
    let said = String::from_utf8_lossy(&alone.stderr);
    assert_eq!(alone.status.code(), Some(2), "{said}");
    assert!(said.contains("no relay runs here"), "{said}");
}

#[tokio::test]
async fn status_is_one_object_and_watch_keeps_it_fresh() {
    let (regards, receiver, home) = with_webhook(ROUTES).await;
    let relay = home.start_ready().await;
    dead_letters(&regards, &home).await;
    let mut watch = home.begin(&["status", "--watch", "--json"], Stdio::piped());
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let mut next = || json(&lines.next().expect("a line").expect("UTF-8"));
    let status = loop {
        // The relay counts the dead letters a moment after it has written them.
        let status = next();
        if status["deadLetters"]["count"] == LETTERS {
            break status;
        }
    };
    let keys: Vec<&str> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    for key in ["sources", "sinks", "spool", "deadLetters", "jobs", "alerts", "uptime", "version"] {
        assert!(keys.contains(&key), "{key}: {status}");
    }
    assert_eq!(
        (&status["sources"][0]["name"], &status["sources"][0]["state"]),
        (&"regards".into(), &"consuming".into())
    );
    assert_eq!((&status["sinks"][0]["name"], &status["sinks"][0]["state"]), (&"hook".into(), &"delivering".into()));
    assert_eq!((&status["spool"]["deliveries"], &status["version"]), (&0.into(), &env!("CARGO_PKG_VERSION").into()));
    regards.publish(&Response::new("esa", "fresh", "GRANTED")).await;
    receiver.wait_for_accepted(1).await;
    while next()["sinks"][0]["delivered"] != 1 {}
    watch.kill().expect("killed");
    watch.wait().expect("ended");
    home.does(&["pause", "--source", "regards"]);
    relay.wait_until_unready(&["source regards is paused"]).await;
    assert_eq!(json(&home.does(&["status", "--json"]))["sources"][0]["state"], "paused", "the words of /readyz");
    relay.stop().await;
}

/// The redrive takes so long that a user needs to see its progress.
#[tokio::test]
async fn a_slow_redrive_shows_its_progress_with_and_without_a_relay() {
    let (regards, _receiver, home) = with_webhook(ROUTES).await;
    let redrive = || home.run(&["dead-letters", "redrive", "--rate", "1/s", "--yes", "--to", "hook"]);
    let says_so = |done: &Output| {
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{said}");
        assert!(said.contains(&format!("of {LETTERS} dead letters processed in")), "{said}");
    };
    let relay = home.start_ready().await;
    dead_letters(&regards, &home).await;
    says_so(&redrive());
    dead_letters(&regards, &home).await;
    relay.stop().await;
    says_so(&redrive());
}
