//! The command line in daily use: in pipes, in a shell, in the wrong directory.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::configuration::Edit;
use crate::support::{Home, Response, until, with_webhook};

const ROUTES: &str = configuration! {
    sinks: {
        hook: r#"{ webhook: { url: "${HOOK}" } }"#,
    },
};

/// One more than the limit of concurrent redrives.
const REDRIVES: usize = 9;

fn offline() -> Home {
    let home = Home::new(ROUTES).with("REGARDS", "amqp://127.0.0.1:1").with("QUEUE", "q");
    home.with("HOOK", "http://127.0.0.1:1/")
}

#[test]
fn commands_in_an_unused_directory_fail_and_create_nothing() {
    let home = offline();
    let commands: [&[&str]; 7] = [
        &["pause", "--sink", "hook"],
        &["resume", "--source", "regards"],
        &["spool"],
        &["spool", "purge", "--sink", "gone", "--yes"],
        &["dead-letters", "list"],
        &["dead-letters", "redrive", "--yes"],
        &["dead-letters", "purge", "--yes"],
    ];
    for command in commands {
        let done = home.run(command);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("no relay has run here") && said.contains("data/spool.db"), "{command:?}: {said}");
    }
    assert!(!home.data("spool.db").exists());
}

#[test]
fn a_closed_pipe_is_no_error() {
    let home = offline();
    let commands: [&[&str]; 4] = [&["schema", "config"], &["schema", "event"], &["completions", "bash"], &["graph"]];
    for command in commands {
        let mut child = home.begin(command, Stdio::piped());
        // In most runs the reader closes the pipe before the first byte. In the others it reads one byte.
        let mut output = child.stdout.take().expect("its output");
        let _ = output.read(&mut [0]);
        drop(output);
        let done = child.wait_with_output().expect("ended");
        assert!(done.status.success(), "{command:?}: {}", done.status);
    }
}

#[test]
fn check_accepts_a_file_as_argument() {
    let home = offline();
    assert!(home.run(&["check"]).status.success());
    home.write("other.yaml", &home.read("routes.yaml"));
    assert!(home.run(&["check", "other.yaml"]).status.success());
    home.write("other.yaml", "version: 2\n");
    let done = home.run(&["check", "other.yaml"]);
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("other.yaml:1") && said.contains("version"), "{said}");
}

#[test]
fn bash_completes_behind_subcommands() {
    let home = offline();
    let completions = home.does(&["completions", "bash"]);
    let script = r#"
        eval "$1"
        COMP_WORDS=(regards-relay dead-letters redrive --s); COMP_CWORD=3
        function=$(complete -p regards-relay | sed 's/.*-F \([^ ]*\).*/\1/')
        "$function" regards-relay --s redrive
        echo "${COMPREPLY[@]}"
    "#;
    let done = Command::new("bash").arg("-c").arg(script).arg("bash").arg(completions).output().expect("bash");
    let completed = String::from_utf8_lossy(&done.stdout);
    assert!(completed.contains("--sink") && completed.contains("--since"), "{completed:?} {done:?}");
}

/// Ctrl-C ends a slow redrive. The test does this more often than the limit of concurrent redrives.
#[tokio::test]
async fn a_redrive_stops_with_its_client() {
    let routes = ROUTES.edit("to: hook", "to: hook, when: { tenant: esa }");
    let (regards, receiver, home) = with_webhook(&routes).await;
    let relay = home.start_ready().await;
    for number in 0..=REDRIVES {
        regards.publish(&Response::new("other", &format!("dead-{number}"), "GRANTED")).await;
    }
    let letters = async |count: usize| {
        until(&format!("{count} dead letters"), async || {
            match home.does(&["dead-letters", "list", "--json"]).lines().count() {
                letters if letters == count => Ok(()),
                letters => Err(letters.to_string()),
            }
        })
        .await;
    };
    letters(REDRIVES + 1).await;
    for redriven in 1..=REDRIVES {
        let redrive = ["dead-letters", "redrive", "--rate", "1/h", "--yes", "--to", "hook"];
        let mut client = home.begin(&redrive, Stdio::null());
        // The relay redrives the first dead letter immediately and the second one an hour later.
        letters(REDRIVES + 1 - redriven).await;
        if redriven == 1 {
            let status: serde_json::Value = serde_json::from_str(&home.does(&["status", "--json"])).expect("JSON");
            assert_eq!(status["sources"][0]["state"], "consuming", "{status}");
            assert_eq!(status["sinks"][0]["state"], "delivering", "{status}");
            assert_eq!(status["jobs"][0]["kind"], "redrive of dead letters", "{status}");
            let id = status["jobs"][0]["id"].to_string();
            home.does(&["jobs", "stop", &id]);
            assert_eq!(client.wait().expect("ended").code(), Some(1));
            assert_eq!(home.does(&["jobs", "--json"]), "");
            continue;
        }
        client.kill().expect("killed");
        client.wait().expect("ended");
    }
    until("a purge to be answered", async || {
        let done = home.run(&["dead-letters", "purge", "--yes", "--json"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok(()) } else { Err(said) }
    })
    .await;
    letters(0).await;
    receiver.wait_for_accepted(REDRIVES).await;
    relay.stop().await;
}

#[test]
fn a_dead_letter_that_is_shown_can_be_explained() {
    let home = offline();
    let shown = r#"{"id":1,"reason":"refused","detail":"413","sink":"hook","source":"regards","tenant":"esa","status":"ERROR",
        "correlationId":"c","attempts":1,"at":"2025-05-01T12:00:00.000Z","properties":{"headers":{"regards.tenant":"esa"}},
        "body":"{\"correlationId\":\"c\",\"responseStatus\":\"ERROR\"}","event":null}"#;
    let mut explain = home.begin_reading(&["explain", "-", "--json"]);
    explain.stdin.take().expect("its input").write_all(shown.as_bytes()).expect("written");
    let done = explain.wait_with_output().expect("ended");
    assert!(done.status.success());
    assert!(String::from_utf8_lossy(&done.stdout).contains(r#""correlationId":"c""#));
}
