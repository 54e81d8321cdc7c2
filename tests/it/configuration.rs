//! A configuration with one source and one route. Most tests begin with it and write only the part that they test.
//! Some edit it during the test.

/// A configuration with one source `regards`, which consumes `${QUEUE}` on `${REGARDS}`, the given sinks, and a route
/// `all` to every sink. Unrouted messages become dead letters. The given lines follow. The macro expands to a constant,
/// so tests can replace parts of the text.
macro_rules! configuration {
    ($(queue: $queue:literal,)? sinks: { $($name:ident: $sink:literal),+ $(,)? } $(, $line:literal)* $(,)?) => {
        concat!(
            "version: 1\nsources: { regards: { amqp: { url: \"${REGARDS}\", queue: \"${QUEUE}\"", $(", ", $queue,)?
            " }, expects: lta } }\nsinks:\n", $("  ", stringify!($name), ": ", $sink, "\n",)+
            "routes: [{ name: all, to: ", configuration!(@to $($name)+),
            " }]\nunrouted: dead_letter\n", $($line, "\n",)*
        )
    };
    (@to $name:ident) => { stringify!($name) };
    (@to $first:ident $($name:ident)+) => { concat!("[", stringify!($first), $(", ", stringify!($name),)+ "]") };
}

/// Edits of a configuration. An edit that does not find its text panics: its test would test something else.
pub trait Edit {
    /// Replaces `old`, which occurs once.
    fn edit(&self, old: &str, new: &str) -> String;

    /// Replaces `old`, which occurs that many times.
    fn edit_each(&self, times: usize, old: &str, new: &str) -> String;

    /// Removes the line that defines this sink.
    fn without_sink(&self, name: &str) -> String;
}

impl Edit for str {
    #[track_caller]
    fn edit(&self, old: &str, new: &str) -> String {
        self.edit_each(1, old, new)
    }

    #[track_caller]
    fn edit_each(&self, times: usize, old: &str, new: &str) -> String {
        assert_eq!(self.matches(old).count(), times, "occurrences of {old:?} in the configuration:\n{self}");
        self.replace(old, new)
    }

    #[track_caller]
    fn without_sink(&self, name: &str) -> String {
        let start = format!("  {name}: ");
        let line = self.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no line defines the sink {name}:\n{self}"));
        self.edit(&format!("{line}\n"), "")
    }
}

#[test]
fn an_edit_replaces_its_text() {
    let routes = "sinks:\n  a: { stdout: {} }\n  b: { stdout: {} }\nroutes: [{ to: [a, b] }]\n";
    let edited = "sinks:\n  b: { stdout: {} }\nroutes: [{ to: b }]\n";
    assert_eq!(routes.without_sink("a").edit("[a, b]", "b"), edited);
    assert_eq!(edited.edit_each(2, "b", "c"), "sinks:\n  c: { stdout: {} }\nroutes: [{ to: c }]\n");
}

#[test]
#[should_panic(expected = "occurrences of \"to: b\"")]
fn an_edit_that_finds_nothing_fails_its_test() {
    "to: a".edit("to: b", "to: c");
}
