//! The shape of the source: imports point up, parts know nothing of what is none of their business, and files stay short.
//!
//! The order of the layers is the list in `src/lib.rs`, which is what people read.

use std::path::{Path, PathBuf};

/// The largest number of lines of a file without its tests.
const MAX_LINES: usize = 500;

#[test]
fn imports_point_up() {
    let layers = layers(&read(&source().join("lib.rs")));
    let wrong: Vec<_> = files()
        .iter()
        .flat_map(|path| {
            let module = module(path);
            downward(&layers, &module, &read(path)).into_iter().map(move |wrong| format!("{}:{wrong}", path.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "these point down the list of src/lib.rs:\n{}", wrong.join("\n"));
}

/// The table of layers in ARCHITECTURE.md. A module must not import the layers in the last column.
#[test]
fn modules_know_nothing_of_what_the_table_says() {
    let layers = layers(&read(&source().join("lib.rs")));
    let page = read(&source().join("../ARCHITECTURE.md"));
    let table = page.split("| knows nothing of |").nth(1).expect("the table of layers");
    let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let of_the_page: Vec<&str> = rows.iter().filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(of_the_page, layers, "the table has the modules of src/lib.rs, in the same order");
    let mut wrong = Vec::new();
    for (row, layer) in rows.iter().zip(&layers) {
        let unknown = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let unknown: Vec<&str> = unknown.split('`').skip(1).step_by(2).collect();
        for path in files().iter().filter(|path| module(path)[0] == *layer) {
            let text = without_comments(&without_tests(&read(path)));
            let used = named(&module(path), &text);
            let used = used.iter().filter(|(_, name)| unknown.contains(&name[0].as_str()));
            wrong.extend(used.map(|(line, name)| format!("{}:{line} uses {}", path.display(), name.join("::"))));
        }
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md says that these modules do not know each other:\n{}", wrong.join("\n"));
}

/// Modules and folders, and the paths that each must not use in addition to the table of ARCHITECTURE.md. `a::*` is
/// every item in `a` except the module itself.
const STRANGERS: [(&str, &[&str]); 9] = [
    // Pure modules: no clock, no randomness, no state.
    ("event", &["clock", "failpoints", "net", "tasks", "timer"]),
    ("config::text", &["config::*", "net", "rules"]),
    ("config::raw", &["config::check", "config::load", "config::model"]),
    ("config::model", &["config::check", "config::load", "config::raw"]),
    ("config::check::common", &["config::check::*"]),
    ("sink::amqp", &["sink::file", "sink::kafka", "sink::webhook"]),
    ("sink::file", &["amqp", "sink::amqp", "sink::kafka", "sink::webhook"]),
    ("sink::kafka", &["amqp", "sink::amqp", "sink::file", "sink::webhook"]),
    ("sink::webhook", &["amqp", "sink::amqp", "sink::file", "sink::kafka"]),
];

#[test]
fn folders_know_nothing_of_their_strangers() {
    let mut looked_at = vec![0; STRANGERS.len()];
    let mut wrong = Vec::new();
    for path in files().iter().filter(|path| !is_of_tests(path)) {
        let module = module(path);
        for ((part, strangers), looked_at) in STRANGERS.iter().zip(&mut looked_at) {
            if !begins(&module, part) {
                continue;
            }
            *looked_at += 1;
            for (line, named) in named(&module, &without_comments(&without_tests(&read(path)))) {
                if strangers.iter().any(|stranger| is_stranger(&named, stranger, part)) {
                    wrong.push(format!("{}:{line}: {part} uses {}", path.display(), named.join("::")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these modules must not use each other:\n{}", wrong.join("\n"));
    let gone: Vec<_> =
        STRANGERS.iter().zip(looked_at).filter(|(_, files)| *files == 0).map(|((part, _), _)| part).collect();
    assert!(gone.is_empty(), "no files are there any more of {gone:?}");
}

/// Whether that path is the module or an item in it.
fn begins(path: &[String], module: &str) -> bool {
    let module: Vec<_> = module.split("::").collect();
    path.len() >= module.len() && path.iter().zip(module).all(|(one, other)| one == other)
}

fn is_stranger(named: &[String], stranger: &str, part: &str) -> bool {
    match stranger.strip_suffix('*') {
        Some(above) => {
            let above = above.trim_end_matches("::");
            let is_inside = above.is_empty() || (begins(named, above) && named.len() > above.split("::").count());
            is_inside && !begins(named, part)
        }
        None => begins(named, stranger),
    }
}

#[test]
fn every_module_has_its_place() {
    let lib = read(&source().join("lib.rs"));
    let layers = layers(&lib);
    assert!(layers.len() > 5, "the list of src/lib.rs is not understood: {layers:?}");
    for module in lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        assert!(layers.iter().any(|layer| layer == module), "{module} is missing in the list of src/lib.rs");
    }
}

#[test]
fn files_tell_one_story() {
    let long: Vec<_> = files()
        .iter()
        .map(|path| (path, without_tests(&read(path)).lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "these are over {MAX_LINES} lines without their tests:\n{}", long.join("\n"));
}

/// A task that is started elsewhere could panic unnoticed.
#[test]
fn threads_and_tasks_are_helpers() {
    let ways = ["tokio::spawn(", "task::spawn(", "thread::spawn(", "thread::Builder"];
    // The tasks of `demo` are not part of a relay.
    let elsewhere =
        |path: &Path| !matches!(module(path)[0].as_str(), "tasks") && !module(path).contains(&"demo".into());
    let wrong: Vec<_> = files()
        .iter()
        .filter(|path| elsewhere(path) && !is_of_tests(path))
        .flat_map(|path| {
            let text = without_comments(&without_tests(&read(path)));
            let found: Vec<_> = ways.into_iter().filter(|way| text.contains(way)).collect();
            found.into_iter().map(move |way| format!("{}: {way}", path.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "start these by src/tasks.rs:\n{}", wrong.join("\n"));
}

/// The wall clock can jump, so timeouts and ages must not use it.
#[test]
fn the_wall_clock_is_asked_in_one_place() {
    let ways = ["SystemTime::now(", "Timestamp::now(", "Zoned::now(", "unixepoch", "strftime('", "datetime('now"];
    // `clock` defines its own `Timestamp`, which the other modules use.
    let is_asked = |text: &str, way: &str| {
        let asked = text.contains(way) && !(way == "Timestamp::now(" && text.contains("crate::clock"));
        asked || text.contains("jiff::Timestamp::now(")
    };
    let wrong: Vec<_> = files()
        .iter()
        .filter(|path| module(path) != ["clock"] && !is_of_tests(path))
        .flat_map(|path| {
            let text = without_comments(&without_tests(&read(path)));
            let found: Vec<_> = ways.into_iter().filter(|way| is_asked(&text, way)).collect();
            found.into_iter().map(move |way| format!("{}: {way}", path.display()))
        })
        .collect();
    assert!(wrong.is_empty(), "ask src/clock.rs instead:\n{}", wrong.join("\n"));
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All files of the library except its root.
pub(super) fn files() -> Vec<PathBuf> {
    fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&source(), &mut files);
    files.retain(|path| *path != source().join("main.rs") && *path != source().join("lib.rs"));
    files.sort();
    assert!(files.len() > 20, "only {} files were found", files.len());
    files
}

pub(super) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The module path of a file: `src/sink/kafka/mod.rs` is `["sink", "kafka"]`.
fn module(path: &Path) -> Vec<String> {
    let path = path.strip_prefix(source()).unwrap().with_extension("");
    let mut module: Vec<_> = path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// Whether it is `tests.rs` or a file in a folder `tests`.
pub(super) fn is_of_tests(path: &Path) -> bool {
    module(path).iter().any(|part| part == "tests")
}

/// The modules in the order of the crate's documentation: lines that begin ``//! - [`name`]``.
fn layers(lib: &str) -> Vec<String> {
    lib.lines().filter_map(|line| Some(line.strip_prefix("//! - [`")?.split_once("`]")?.0.to_owned())).collect()
}

/// The paths in the module's text that belong to layers below its own, each with its line.
fn downward(layers: &[String], module: &[String], text: &str) -> Vec<String> {
    let place = |name: &str| layers.iter().position(|layer| layer == name);
    let own = place(&module[0]).unwrap_or_else(|| panic!("{} is no layer", module[0]));
    named(module, &without_comments(text))
        .into_iter()
        .filter(|(_, path)| place(&path[0]).is_some_and(|place| place > own))
        .map(|(line, path)| format!("{line}: {} uses {}", module[0], path.join("::")))
        .collect()
}

/// The paths that begin with `crate::` or `super::`, relative to the crate root, with their lines. Groups are expanded.
fn named(module: &[String], text: &str) -> Vec<(usize, Vec<String>)> {
    let mut named = Vec::new();
    for (at, _) in text.match_indices("crate::").chain(text.match_indices("super::")) {
        let before = &text[..at];
        // `$crate::` counts too. `super::super::` is read from its beginning.
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') || before.ends_with("super::") {
            continue;
        }
        let mut rest = &text[at..];
        let mut root = Vec::new();
        if let Some(after) = rest.strip_prefix("crate::") {
            rest = after;
        } else {
            let mut ups = 0;
            while let Some(after) = rest.strip_prefix("super::") {
                (rest, ups) = (after, ups + 1);
            }
            // A module inside a file, such as a test module, needs one more `super` to reach the root. The check then
            // reports too many paths, never too few.
            root = module[..module.len().saturating_sub(ups)].to_vec();
        }
        let line = before.matches('\n').count() + 1;
        let paths = paths(rest).into_iter().map(|path| root.iter().cloned().chain(path).collect::<Vec<_>>());
        named.extend(paths.filter(|path| !path.is_empty()).map(|path| (line, path)));
    }
    named
}

/// `a::b` stays as it is; `{a::{b, c}, d}` becomes `a::b`, `a::c` and `d`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let Some(group) = text.strip_prefix('{') else {
        let name: String = text.chars().take_while(|c| is_name(*c)).collect();
        let rest = text[name.len()..].strip_prefix("::").map(paths).filter(|_| !name.is_empty());
        return match rest {
            Some(rest) => rest.into_iter().map(|path| std::iter::once(name.clone()).chain(path).collect()).collect(),
            None if name.is_empty() => vec![Vec::new()],
            None => vec![vec![name]],
        };
    };
    let (mut level, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            ',' | '}' if level == 0 => {
                parts.push(group[start..at].trim());
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => level -= 1,
            _ => {}
        }
    }
    parts.into_iter().filter(|part| !part.is_empty()).flat_map(paths).collect()
}

/// Removes the text after `//` and keeps the lines. String literals with `//` do not matter here.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect()
}

/// The text before the test module at the end of the file. Empty for a file of tests.
pub(super) fn without_tests(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_tests = |at: usize| {
        let rest = lines[at..].iter().skip(1).find(|line| !line.starts_with("#["));
        lines[at].starts_with("#[cfg(test)]")
            && rest.is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    match (0..lines.len()).find(|at| is_tests(*at)) {
        Some(at) => text.split_inclusive('\n').take(at).collect(),
        None if text.contains("#[test]") || text.contains("#[tokio::test]") => String::new(),
        None => text.to_owned(),
    }
}

#[test]
fn an_import_that_points_down_is_found_however_it_is_written() {
    let layers = ["event", "rules", "sink", "relay"].map(str::to_owned);
    let found = |module: &[&str], text: &str| {
        let module: Vec<_> = module.iter().map(|part| (*part).to_owned()).collect();
        downward(&layers, &module, text).len()
    };
    for text in [
        "use crate::relay::Relay;",
        "use crate::relay;",
        "pub use crate::{\n    event::{Event, Message},\n    relay::Relay,\n};",
        "fn f(x: &crate::relay::Relay) {}",
        "macro_rules! m { () => { $crate::relay::x() } }",
        "use super::super::relay::Relay;",
    ] {
        assert_eq!(found(&["sink", "kafka"], text), 1, "{text}");
    }
    assert_eq!(found(&["sink"], "use super::relay::Relay;"), 1);
    for text in [
        "use crate::event::{self, relay};",
        "use crate::{event::{relay, Event}, rules};",
        "//! See [`crate::relay`].",
        "use crate::sink::Sink; // crate::relay",
        "use super::relay::Pace;",
        "use other_crate::relay::x;",
        "pub(crate) fn relay() {}",
    ] {
        assert_eq!(found(&["sink", "kafka"], text), 0, "{text}");
    }
}

#[test]
fn paths_are_read_to_their_ends() {
    let module = ["config", "text", "mask"].map(str::to_owned);
    let found = |text: &str| named(&module, text).into_iter().map(|(_, path)| path.join("::")).collect::<Vec<_>>();
    assert_eq!(found("use super::tree::{Kind, Node};"), ["config::text::tree::Kind", "config::text::tree::Node"]);
    assert_eq!(found("use super::super::check;"), ["config::check"]);
    let group = "use crate::{\n    event::{self, template::{A, B}},\n    net::*,\n};";
    assert_eq!(found(group), ["event::self", "event::template::A", "event::template::B", "net"]);
    assert!(is_stranger(&["config".into(), "Secret".into()], "config::*", "config::text"));
    assert!(!is_stranger(&["config".into(), "text".into(), "tree".into()], "config::*", "config::text"));
    assert!(!is_stranger(&["config".into()], "config::*", "config::text"));
    assert!(is_stranger(&["clock".into()], "*", "timer"));
}

#[test]
fn tests_do_not_count() {
    let file = "//! Doc\nfn f() {}\n\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n}\n";
    assert_eq!(without_tests(file), "//! Doc\nfn f() {}\n\n");
    assert_eq!(without_tests("#[cfg(test)]\nmod tests;\n\nfn f() {}\n").lines().count(), 4);
    assert_eq!(without_tests("fn f() {}\n#[cfg(test)]\nfn helper() {}\n").lines().count(), 3);
    assert_eq!(without_tests("#[test]\nfn t() {}\n"), "");
}
