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
    relay
        .env_clear()
        .env("REGARDS_PASSWORD", "any")
        // The secret that stands in an example is warned of.
        .env("WEBHOOK_SECRET", "whsec_b25lIHRoYXQgaXMga25vd24gdG8gbm9ib2R5IGVsc2U=")
        .arg("--config")
        .arg(rules)
        .arg(command)
        .output()
        .expect("the relay's binary")
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

#[test]
fn the_file_of_a_checkout_does_what_the_cases_beside_it_expect() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("routes.yaml");
    let tested = run(&rules, "test");
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{said}{}", String::from_utf8_lossy(&tested.stderr));
    assert!(said.contains("none failed"), "{said}");
}

/// The code blocks of the README in that language.
fn blocks(language: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("an end").to_owned());
    blocks.collect()
}

#[test]
fn every_yaml_of_the_readme_pasted_alone_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let blocks = blocks("yaml");
    assert!(blocks.len() >= 4, "{blocks:?}");
    for block in blocks {
        let rules = folder.path().join("routes.yaml");
        std::fs::write(&rules, &block).expect("a file");
        let checked = run(&rules, "check");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && said.ends_with("; no warnings\n"), "{block}{said}");
    }
}

#[test]
fn what_the_readme_says_of_a_change_can_be_typed_in_a_checkout() {
    let block = blocks("sh").into_iter().find(|block| block.contains("regards-relay explain")).expect("a block");
    for line in block.lines() {
        let command = line.split("  #").next().expect("a command").trim();
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("regards-relay"), "{line}");
        let mut relay = Command::new(env!("CARGO_BIN_EXE_regards-relay"));
        relay.env_clear().args(words).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = relay.output().expect("the relay's binary");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{line}");
    }
}
