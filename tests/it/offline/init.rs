//! `init`: the file that it writes, and that it never replaces one.

use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut relay = Command::new(env!("CARGO_BIN_EXE_regards-relay"));
    relay.env_clear().current_dir(folder).args(arguments).output().expect("the relay's binary")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_is_written_can_be_checked_explained_and_tested_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let done = run(folder.path(), &["init"]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(
        said(&done).contains("routes.yaml is written") && said(&done).contains("regards-relay check"),
        "{}",
        said(&done)
    );
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing beside it");

    let checked = run(folder.path(), &["check", "--strict"]);
    assert!(checked.status.success() && said(&checked).ends_with("; no warnings\n"), "{}", said(&checked));

    let message = folder.path().join("message.json");
    std::fs::write(&message, r#"{"correlationId": "c-1", "productId": "P", "responseStatus": "ERROR"}"#)
        .expect("written");
    let explained = run(folder.path(), &["explain", "message.json", "--tenant", "esa", "--json"]);
    let explanation: serde_json::Value = serde_json::from_slice(&explained.stdout).expect("JSON");
    let sinks: Vec<_> = explanation["deliveries"].as_array().expect("a list").iter().map(|one| &one["sink"]).collect();
    assert_eq!(sinks, ["on_call", "partner"], "{explanation}");

    let cases = r#"
tests:
  - { name: a success feeds Kafka, tenant: cnes-a, message: { body: { correlationId: c, responseStatus: SUCCESS } }, expect: { pipeline: { topic: regards.cnes-a, key: c } } }
  - { name: an error calls the webhook, tenant: cnes-a, message: { body: { correlationId: c, responseStatus: ERROR } },
      expect: { pipeline: {}, on_call: { body: { text: "REGARDS cnes-a: ERROR for c: no cause given" } } } }
  - { name: a tenant is rerouted, tenant: esa, message: { body: { correlationId: c, responseStatus: GRANTED } }, expect: { partner: { routingKey: esa.GRANTED } } }
"#;
    std::fs::write(folder.path().join("routes.test.yaml"), cases).expect("written");
    let tested = run(folder.path(), &["test"]);
    assert!(tested.status.success(), "{}{}", String::from_utf8_lossy(&tested.stdout), said(&tested));
}

#[test]
fn a_file_is_never_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.yaml");
    std::fs::write(&path, "version: 1\n").expect("written");
    let done = run(folder.path(), &["--config", "mine.yaml", "init"]);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(said(&done).contains("mine.yaml exists already"), "{}", said(&done));
    assert_eq!(std::fs::read_to_string(&path).expect("a file"), "version: 1\n");

    let done = run(folder.path(), &["init", "--config", "no/such/folder/routes.yaml"]);
    assert_eq!(done.status.code(), Some(1), "{}", said(&done));
    assert!(
        said(&done).contains("can't write no/such/folder/routes.yaml: No such file or directory"),
        "{}",
        said(&done)
    );

    let done = run(folder.path(), &["init", "--config", "new.yaml"]);
    assert!(done.status.success() && said(&done).contains("regards-relay --config new.yaml check"), "{}", said(&done));
}
