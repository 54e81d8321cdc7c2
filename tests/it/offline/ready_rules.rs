//! The files of `examples/`: each is right, and does what the cases beside it expect.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn rules() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut rules: Vec<_> = files.filter(|path| !path.to_str().expect("UTF-8").ends_with(".test.yaml")).collect();
    rules.sort();
    rules
}

fn run(rules: &Path, command: &str) -> Output {
    let mut relay = Command::new(env!("CARGO_BIN_EXE_regards-relay"));
    relay.env_clear().arg("--config").arg(rules).arg(command).output().expect("the relay's binary")
}

#[test]
fn each_is_right_and_does_what_is_expected() {
    let rules = rules();
    assert!(rules.len() >= 11, "{rules:?}");
    for rules in rules {
        let checked = run(&rules, "check");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said}");
        // Inside a cluster, Knative's brokers have no TLS unless it is turned on.
        let known = said.contains("warning[unencrypted]") && rules.ends_with("knative-cloudevents.yaml");
        assert!(said.ends_with("; no warnings\n") || known && said.ends_with("; 1 warning\n"), "{said}");
        let tested = run(&rules, "test");
        let said = String::from_utf8_lossy(&tested.stdout);
        assert!(tested.status.success(), "{}: {said}{}", rules.display(), String::from_utf8_lossy(&tested.stderr));
        assert!(said.contains("none failed"), "{said}");
    }
}
