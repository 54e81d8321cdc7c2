//! The configurations of `examples/` and of the README have no errors or warnings and pass their test cases.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(super) fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = std::fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let is_yaml = |path: &Path| path.extension().is_some_and(|extension| extension == "yaml");
    let has_cases = |path: &Path| path.to_str().expect("UTF-8").ends_with(".test.yaml");
    let mut files: Vec<_> = files.filter(|path| is_yaml(path) && !has_cases(path)).collect();
    files.sort();
    files
}

fn run(file: &Path, command: &str) -> Output {
    let mut relay = Command::new(env!("CARGO_BIN_EXE_regards-relay"));
    relay
        .env_clear()
        .env("REGARDS_PASSWORD", "any")
        .env("KAFKA_CLIENT_SECRET", "any")
        .env("KAFKA_KEYTAB", Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/example.keytab"))
        // `check` warns about the secret in an example.
        .env("WEBHOOK_SECRET", "whsec_b25lIHRoYXQgaXMga25vd24gdG8gbm9ib2R5IGVsc2U=")
        .arg("--config")
        .arg(file)
        .arg(command)
        .output()
        .expect("the relay's binary")
}

#[test]
fn every_example_is_valid_and_passes_its_cases() {
    let files = examples();
    assert!(files.len() >= 11, "{files:?}");
    for file in files {
        let checked = run(&file, "check");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said}");
        // Knative's brokers use no TLS inside a cluster unless it is enabled.
        let known = said.contains("warning[unencrypted]") && file.ends_with("knative-cloudevents.yaml");
        assert!(said.ends_with("; no warnings\n") || known && said.ends_with("; 1 warning\n"), "{said}");
        let tested = run(&file, "test");
        let said = String::from_utf8_lossy(&tested.stdout);
        assert!(tested.status.success(), "{}: {said}{}", file.display(), String::from_utf8_lossy(&tested.stderr));
        assert!(said.contains("none failed"), "{said}");
    }
}

#[test]
fn the_default_configuration_passes_its_cases() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("routes.yaml");
    let tested = run(&file, "test");
    let said = String::from_utf8_lossy(&tested.stdout);
    assert!(tested.status.success(), "{said}{}", String::from_utf8_lossy(&tested.stderr));
    assert!(said.contains("none failed"), "{said}");
}

/// The code blocks of a document in that language.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).expect("the document");
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("an end").to_owned());
    blocks.collect()
}

#[test]
fn every_whole_configuration_in_the_documents_is_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let blocks = ["README.md", "docs/operations.md"].map(|document| blocks(document, "yaml")).concat();
    // The other blocks are excerpts of the examples.
    let blocks: Vec<_> = blocks.into_iter().filter(|block| block.starts_with("version:")).collect();
    assert!(blocks.len() >= 2, "{blocks:?}");
    for block in blocks {
        let file = folder.path().join("routes.yaml");
        std::fs::write(&file, &block).expect("a file");
        let checked = run(&file, "check");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success() && said.ends_with("; no warnings\n"), "{block}{said}");
    }
}

#[test]
fn the_commands_of_the_readme_work_in_a_checkout() {
    let block =
        blocks("README.md", "sh").into_iter().find(|block| block.contains("regards-relay explain")).expect("a block");
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
