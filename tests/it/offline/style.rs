//! Rules for the text of the source: log fields, the length of functions, and doc comments that say something.

use std::path::Path;

use regards_relay::telemetry::LOG_FIELDS;

use super::layers::{files, is_of_tests, read, without_tests};

/// The largest number of lines of a function outside tests.
const MAX_FUNCTION: usize = 70;
/// A doc comment with at most this many words only repeats a name.
const SHORT_DOC: usize = 4;
/// The limit of short doc comments in all of `src`.
const MAX_SHORT_DOCS: usize = 60;

#[test]
fn log_lines_have_only_the_documented_fields() {
    let unknown = of_all_files(|path| {
        let fields = log_fields(&code(path)).into_iter();
        fields.filter(|(_, field)| !LOG_FIELDS.iter().any(|(known, _)| known == field)).collect()
    });
    assert!(unknown.is_empty(), "these are not in LOG_FIELDS of src/telemetry:\n{}", unknown.join("\n"));
}

#[test]
fn functions_are_short() {
    let long = of_all_files(|path| {
        let functions = functions(&code(path)).into_iter().filter(|(_, lines, _)| *lines > MAX_FUNCTION);
        functions.map(|(line, lines, name)| (line, format!("{name} has {lines} lines"))).collect()
    });
    assert!(long.is_empty(), "these have more than {MAX_FUNCTION} lines:\n{}", long.join("\n"));
}

#[test]
fn doc_comments_say_more_than_a_name() {
    let short = of_all_files(|path| short_docs(&read(path)));
    assert!(short.len() < MAX_SHORT_DOCS, "{} doc comments repeat a name:\n{}", short.len(), short.join("\n"));
}

/// The results of `find` for each file, as `FILE:LINE: TEXT`.
fn of_all_files(find: impl Fn(&Path) -> Vec<(usize, String)>) -> Vec<String> {
    let of_file = |path: &Path| {
        let found = find(path).into_iter();
        found.map(|(line, text)| format!("{}:{line}: {text}", path.display())).collect::<Vec<_>>()
    };
    files().iter().flat_map(|path| of_file(path)).collect()
}

/// The text of a file without its tests. Empty for a file of tests.
fn code(path: &Path) -> String {
    if is_of_tests(path) { String::new() } else { without_tests(&read(path)) }
}

/// The fields in calls of tracing's macros, with the lines of the calls.
fn log_fields(text: &str) -> Vec<(usize, String)> {
    let mut fields = Vec::new();
    for level in ["trace", "debug", "info", "warn", "error"] {
        let call = format!("{level}!(");
        let calls = text.match_indices(&call).map(|(at, _)| at);
        for at in calls.filter(|at| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_')) {
            let line = text[..at].matches('\n').count() + 1;
            // The message is a string, and its own arguments follow it.
            let arguments = arguments(&text[at + call.len()..]);
            let before_message = arguments.iter().take_while(|argument| !argument.starts_with('"'));
            let names = before_message.filter(|argument| !argument.starts_with("target:")).map(|argument| {
                let name = argument.trim_start_matches(['%', '?']).chars();
                name.take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
            });
            fields.extend(names.filter(|name| !name.is_empty()).map(|name| (line, name)));
        }
    }
    fields
}

/// The arguments of a call, up to its closing parenthesis.
fn arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut argument) = (Vec::new(), String::new());
    let (mut depth, mut is_string, mut is_escaped) = (0, false, false);
    for c in text.chars() {
        if is_string {
            is_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            argument.push(c);
            continue;
        }
        match c {
            ')' if depth == 0 => break,
            ',' if depth == 0 => {
                arguments.push(std::mem::take(&mut argument).trim().to_owned());
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            '"' => is_string = true,
            _ => {}
        }
        argument.push(c);
    }
    arguments.push(argument.trim().to_owned());
    arguments
}

/// Functions with a body: the line, the number of lines and the name. The search relies on rustfmt's layout.
fn functions(text: &str) -> Vec<(usize, usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let function = |(at, line): (usize, &&str)| {
        let name = function_name(line)?;
        let indent = &line[..line.len() - line.trim_start().len()];
        let closes = |line: &str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with('}'));
        let ends =
            |line: &str| line.strip_prefix(indent).is_some_and(|rest| rest.starts_with(')')) && line.ends_with(';');
        if line.ends_with(['}', ';']) {
            return None;
        }
        let length = lines[at + 1..].iter().position(|line| closes(line) || ends(line))?;
        (!ends(lines[at + 1 + length])).then(|| (at + 1, length + 2, name))
    };
    lines.iter().enumerate().filter_map(function).collect()
}

fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.split_once("fn ")?;
    let is_modifier =
        |word: &str| matches!(word, "const" | "async" | "pub") || word.starts_with("pub(") || word.ends_with(')');
    before
        .split_whitespace()
        .all(is_modifier)
        .then(|| after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

/// Blocks of `///` lines with few words.
fn short_docs(text: &str) -> Vec<(usize, String)> {
    let (mut short, mut block) = (Vec::new(), String::new());
    for (at, line) in text.lines().enumerate() {
        if let Some(doc) = line.trim_start().strip_prefix("///") {
            block.push_str(doc);
        } else if !block.is_empty() {
            if block.split_whitespace().count() <= SHORT_DOC {
                short.push((at, block.trim().to_owned()));
            }
            block.clear();
        }
    }
    short
}

#[test]
fn fields_are_found_in_every_form() {
    let text = r#"tracing::warn!(sink, %error, reason = f(a, "x, \"y"), target: "x", "message {}", not, a = 3);"#;
    assert_eq!(log_fields(text), ["sink", "error", "reason"].map(|field| (1, field.to_owned())));
    assert_eq!(log_fields("\ninfo!(\n    ?queue,\n    \"{x}\",\n    x = 1\n);"), [(2, "queue".to_owned())]);
}

#[test]
fn lengths_are_counted_from_the_signature_to_the_closing_brace() {
    let text = "impl A {\n    pub(super) async fn a(\n        b: u8,\n    ) -> u8 {\n        b\n    }\n\n    fn c(&self) {}\n    fn d(\n    ) -> u8;\n}\n";
    assert_eq!(functions(text), [(2, 5, "a".to_owned())]);
}

#[test]
fn the_words_of_all_lines_of_a_doc_comment_count() {
    let text = "/// Its name.\nstruct A;\n/// One two three\n/// four five.\nstruct B;\n";
    assert_eq!(short_docs(text), [(1, "Its name.".to_owned())]);
}
