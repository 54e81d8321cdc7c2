//! What the documents name exists: files, tests, commands and metrics. Their YAML is that of the examples, and the generated pages are up
//! to date.

mod configuration;
mod metrics;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const DOCUMENTS: [&str; 15] = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/configuration.md",
    "docs/event.md",
    "docs/high-availability.md",
    "docs/kafka.md",
    "docs/metrics.md",
    "docs/model/README.md",
    "docs/operations.md",
    "docs/performance.md",
    "docs/promises.md",
    "docs/routes.md",
];

/// Documents that show configurations and commands of the relay.
const FOR_USERS: [&str; 4] = ["README.md", "docs/kafka.md", "docs/operations.md", "docs/routes.md"];

/// Configurations that users copy and adapt.
const CONFIGURATIONS: [&str; 8] = [
    "examples/kafka-pipeline.yaml",
    "examples/kafka-avro.yaml",
    "examples/webhook-on-error.yaml",
    "examples/reroute-by-tenant.yaml",
    "examples/alerts-to-kafka.yaml",
    "deploy/routes.yaml",
    "deploy/routes.two-relays.yaml",
    "routes.yaml",
];

#[test]
fn named_files_exist() {
    let mut missing = Vec::new();
    let mut named = 0;
    for document in DOCUMENTS {
        let text = read(document);
        let folder = Path::new(document).parent().unwrap();
        let links = links(&text).into_iter().filter(|link| !link.contains("://") && !link.starts_with('#'));
        let linked = links.map(|link| folder.join(link.split('#').next().unwrap()));
        let quoted = quoted(&text).into_iter().filter(|text| is_path(text)).map(PathBuf::from);
        for path in linked.chain(quoted) {
            named += 1;
            if !root().join(&path).exists() {
                missing.push(format!("{document}: {}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "these are named and not there:\n{}", missing.join("\n"));
    assert!(named > 50, "only {named} were found");
}

#[test]
fn named_tests_exist() {
    let text = read("ARCHITECTURE.md");
    let tests: Vec<&str> = quoted(&text).into_iter().filter(|text| is_test(text)).collect();
    let missing: Vec<_> = tests.iter().filter(|test| !is_there(test)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names tests that are not there: {missing:#?}");
    assert!(tests.len() > 25, "only {} were found", tests.len());
}

#[test]
fn every_fault_has_a_test() {
    let text = read("ARCHITECTURE.md");
    let tables = text.split("| fault |").skip(1);
    let rows: Vec<&str> =
        tables.flat_map(|table| table.lines().skip(2).take_while(|line| line.starts_with('|'))).collect();
    assert!(rows.len() > 20, "only {} rows were found", rows.len());
    for row in rows {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap();
        assert!(quoted(last).into_iter().any(is_test), "no test is named: {row}");
    }
}

#[test]
fn yaml_of_the_readme_is_part_of_a_file() {
    let files: Vec<String> = CONFIGURATIONS.iter().map(|path| plain(&read(path))).collect();
    let blocks: Vec<String> =
        ["README.md", "docs/operations.md"].iter().flat_map(|document| blocks(&read(document), "yaml")).collect();
    assert!(blocks.len() >= 4, "{} blocks were found", blocks.len());
    for block in blocks {
        let block = plain(&block);
        assert!(files.iter().any(|file| file.contains(&block)), "this is in no file of {CONFIGURATIONS:?}:\n{block}");
    }
}

/// The other blocks of docs/kafka.md are excerpts, too: sinks of a valid configuration, properties and a program.
#[test]
fn excerpts_of_the_kafka_page_are_true() {
    let page = read("docs/kafka.md");
    let sinks = blocks(&page, "yaml");
    assert_eq!(sinks.len(), 4);
    for sinks in sinks {
        let folder = tempfile::tempdir().unwrap();
        let names = sinks.lines().filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
        let names: Vec<_> = names.map(|line| line.trim_end_matches(':')).collect();
        let path = folder.path().join("routes.yaml");
        let rest = format!("routes: [{{ name: all, to: [{}] }}]\nunrouted: dead_letter\n", names.join(", "));
        let sources = "sources: { samples: { recording: { path: samples.ndjson } } }\n";
        std::fs::write(&path, format!("version: 1\n{sources}{sinks}{rest}")).unwrap();
        let checked = regards_relay(&["--config", path.to_str().unwrap(), "check"], &[]);
        assert!(checked.status.success(), "{sinks}\n{}", String::from_utf8_lossy(&checked.stderr));
    }
    for (language, file) in
        [("properties", "examples/kafka-connect/worker.properties"), ("python", "examples/spark-events.py")]
    {
        let blocks = blocks(&page, language);
        assert_eq!(blocks.len(), 1, "{language}");
        assert!(plain(&read(file)).contains(&plain(&blocks[0])), "{file} has no such lines:\n{}", blocks[0]);
    }
}

#[test]
fn configurations_to_start_from_pass_the_check() {
    for path in CONFIGURATIONS {
        // `check` warns about the secret in the example.
        let variables = [
            ("REGARDS_PASSWORD", "any"),
            ("POSTGRES_PASSWORD", "any"),
            ("WEBHOOK_SECRET", "whsec_b25lIHRoYXQgaXMga25vd24gdG8gbm9ib2R5IGVsc2U="),
        ];
        let checked = regards_relay(&["--config", path, "check", "--strict"], &variables);
        assert!(checked.status.success(), "{path}:\n{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn commands_of_the_documents_are_understood() {
    let of = |language: &str| FOR_USERS.iter().flat_map(|page| blocks(&read(page), language)).collect::<Vec<_>>();
    let (commands, sessions) = (of("sh"), of("console"));
    let typed = sessions.iter().flat_map(|session| session.lines()).filter_map(|line| line.strip_prefix("$ "));
    let lines: Vec<&str> = commands.iter().flat_map(|block| block.lines()).chain(typed).collect();
    let (mut ours, mut targets) = (0, 0);
    for line in lines {
        // Removes the comments, pipes and redirections of the shell.
        let words: Vec<&str> = line.split(['#', '>', '|']).next().unwrap().split_whitespace().collect();
        match words.as_slice() {
            ["regards-relay", arguments @ ..] => {
                ours += 1;
                // With `--help` at the end, the program checks the arguments before it and runs nothing.
                let asked = regards_relay(&[arguments, &["--help"]].concat(), &[]);
                assert!(asked.status.success(), "{line}:\n{}", String::from_utf8_lossy(&asked.stderr));
            }
            [script, ..] if is_path(script) => assert!(root().join(script).exists(), "there is no {script}"),
            ["make", target] => {
                targets += 1;
                assert!(read("Makefile").contains(&format!("\n{target}: ")), "there is no `make {target}`");
            }
            _ => {}
        }
    }
    assert!(ours >= 20 && targets >= 1, "{ours} commands and {targets} targets were found");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines: move what is long to docs/");
}

#[test]
fn named_metrics_exist() {
    let shown = read("src/admin/metrics.rs");
    for document in DOCUMENTS {
        let text = read(document);
        for (at, _) in text.match_indices("regards_relay_") {
            let name = &text[at + "regards_relay_".len()..];
            let name = &name[..name.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(name.len())];
            assert!(name.is_empty() || shown.contains(&format!("\"{name}\"")), "{document}: there is no metric {name}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn regards_relay(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regards-relay"));
    command.current_dir(root()).args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("the relay's binary")
}

/// The texts between single backticks, outside code blocks.
fn quoted(text: &str) -> Vec<&str> {
    let mut quoted = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            quoted.extend(line.split('`').skip(1).step_by(2));
        }
    }
    quoted
}

/// The targets of links `[…](…)`.
fn links(text: &str) -> Vec<&str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

fn blocks(text: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
}

/// Removes comments and the space before them, since a document may omit them.
fn plain(yaml: &str) -> String {
    let lines = yaml.lines().map(|line| match line.find(" #") {
        Some(comment) => line[..comment].trim_end(),
        None => line.trim_end(),
    });
    let kept: Vec<&str> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    kept.join("\n") + "\n"
}

fn is_path(text: &str) -> bool {
    let folders = ["src/", "tests/", "examples/", "deploy/", "scripts/", "docs/"];
    folders.iter().any(|folder| text.starts_with(folder)) && !text.contains([' ', '{', '*'])
}

fn is_test(text: &str) -> bool {
    let of_a_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == ':';
    text.contains("::") && text.chars().all(of_a_name) && text.matches('_').count() > 1
}

/// `module::…::name` is `fn name` in that module of `tests/it`, of `src` or of its `tests`.
fn is_there(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap();
    let top = module.split("::").next().unwrap();
    let module = module.strip_suffix("::tests").unwrap_or(module);
    let function = [format!("fn {name}("), format!("fn {name}<")];
    let places = [root().join("tests/it").join(top), root().join("src").join(module.replace("::", "/"))];
    places.iter().any(|place| {
        let mut files = rust_files(place);
        files.push(place.with_extension("rs"));
        files
            .iter()
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .any(|text| function.iter().any(|function| text.contains(function)))
    })
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
