//! The log, on standard error, as text for people or JSON for programs.
//!
//! Text from outside can neither forge a line nor control a terminal: control characters are escaped in both formats.
//!
//! A running relay never waits for the reader of its log (`queue`).

mod queue;

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::field::Field;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use queue::LogQueue;
pub use queue::dropped_lines;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of text, for people
    Pretty,
    /// One JSON object per line, for programs
    Json,
}

/// The fields of all log lines, with their meaning; a test reads the source and fails on another one. Everything else belongs in
/// the message.
pub const LOG_FIELDS: [(&str, &str); 16] = [
    ("event_id", "the id of the event"),
    ("tenant", "the tenant of the event"),
    ("correlation_id", "the correlation id of the event"),
    ("source", "the name of the source"),
    ("route", "the name of the route"),
    ("sink", "the name of the sink"),
    ("alert", "the name of the alert"),
    ("attempt", "the number of the delivery attempt, starting at 1"),
    ("reason", "the reason of a dead letter, see [event.md](event.md#dead-letters)"),
    ("detail", "the detail of a dead letter"),
    ("error", "why something failed"),
    ("suppressed", "how many similar lines were left out since the last one"),
    ("file", "the path of a file: the configuration, the spool, a recording"),
    ("queue", "the queue of the source"),
    ("version", "the version of the relay, at its start"),
    ("admin", "the URL of the admin listener, at the start of the relay"),
];

/// The default of `RUST_LOG`. The relay logs errors of librdkafka and lapin itself, with more context. lapin also logs errors that
/// do not matter, such as those of a connection that is being closed.
const DEFAULT_FILTER: &str = "info,lapin=off,rdkafka=warn,librdkafka=warn";
const QUIET_FILTER: &str = "error,lapin=off,rdkafka=off,librdkafka=off";

/// The time limit for writing the last lines before the process ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The queue of a running relay's log. Other commands have none, and wait for their reader.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// Starts the log of a command. Later calls do nothing.
pub fn start(format: LogFormat) {
    start_with(format, DEFAULT_FILTER, std::io::stderr);
}

/// Starts a log that has only errors, unless `RUST_LOG` asks for more.
pub fn start_quietly(format: LogFormat) {
    start_with(format, QUIET_FILTER, std::io::stderr);
}

/// Starts the log of a relay: nothing waits for the reader of the log, and a panic is logged.
pub fn start_for_relay(format: LogFormat) -> std::io::Result<()> {
    let queue = LogQueue::start(std::io::stderr())?;
    let queue = QUEUE.get_or_init(|| queue);
    start_with(format, DEFAULT_FILTER, queue.clone());
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Writes text for people to standard error, in order with the lines of the log.
pub fn print_stderr(text: &str) {
    match QUEUE.get() {
        Some(queue) => queue.push(text.as_bytes()),
        // If it can't be written, standard error has no reader.
        None => drop(std::io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Waits until the last lines are written, before the process ends.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_LINES);
    }
}

/// Whether to colour text on standard error (<https://no-color.org>).
#[must_use]
pub fn use_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn start_with<W>(format: LogFormat, default: &str, to: W)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.trim().is_empty());
    let (filter, invalid) = match wanted.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default), Some(error)),
        None => (EnvFilter::new(default), None),
    };
    let layer = layer(format, use_colour(), to);
    let subscriber = tracing_subscriber::registry().with(FilterFn::new(is_allowed)).with(filter).with(layer);
    // It fails if a log was started before, as in tests.
    if subscriber.try_init().is_ok()
        && let Some(error) = invalid
    {
        tracing::warn!(%error, "RUST_LOG is invalid and is ignored");
    }
}

/// Replaces the standard library's hook, which writes to standard error and waits for its reader.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let error = panic.payload_as_str().unwrap_or("a panic without a message");
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    tracing::error!(error, "a bug in the relay; please report it: a panic in thread {thread} at {place}{backtrace}");
}

fn layer<S, W>(format: LogFormat, colours: bool, to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // A line that can't be written is lost: reporting it on the same standard error would panic.
    let layer = tracing_subscriber::fmt::layer().with_writer(to).with_ansi(colours).log_internal_errors(false);
    match format {
        LogFormat::Pretty => layer.fmt_fields(format::debug_fn(write_field).delimited(" ")).boxed(),
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            layer.map_writer(PrintableJson).boxed()
        }
    }
}

/// Applies [`printable_json`] to each line.
struct PrintableJson<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for PrintableJson<W> {
    type Writer = PrintableJson<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        PrintableJson(self.0.make_writer())
    }
}

/// Each call writes one line.
impl<W: std::io::Write> std::io::Write for PrintableJson<W> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(printable_json(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Writes one field of a line of text. tracing-subscriber's own function does not escape line breaks.
fn write_field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(EscapingWriter(to), "{value:?}"),
        // Added by the bridge from the crate `log`; the line already has them.
        name if name.starts_with("log.") => Ok(()),
        name => {
            write!(to, "{name}=")?;
            write!(EscapingWriter(to), "{value:?}")
        }
    }
}

/// Applies [`printable`] to all that is written.
struct EscapingWriter<'to, 'writer>(&'to mut Writer<'writer>);

impl fmt::Write for EscapingWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&printable(text))
    }
}

/// Suppresses lapin's lower levels even if `RUST_LOG` enables them: there it logs the bodies of returned messages.
fn is_allowed(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::ERROR || !metadata.target().starts_with("lapin")
}

/// Text of one line with control characters and bidirectional controls escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unprintable(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// As [`printable`] for text of several lines, which keeps its line breaks and tabs.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .split('\n')
        .map(|line| {
            let parts: Vec<_> = line.trim_end_matches('\r').split('\t').map(printable).collect();
            parts.join("\t")
        })
        .collect();
    lines.join("\n")
}

/// As [`printable`] for JSON, which keeps its meaning: such characters can only occur in its strings.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    // These separate tokens; inside strings JSON escapes them itself.
    let is_escaped = |character: char| is_unprintable(character) && !matches!(character, '\n' | '\r' | '\t');
    if !json.contains(is_escaped) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 8);
    for character in json.chars() {
        if is_escaped(character) {
            // All of them are below U+10000, so one escape is enough.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, including C1, which some terminals execute; bidirectional controls (Unicode's property `Bidi_Control`)
/// and line separators.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, colours: bool, filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::registry()
            .with(FilterFn::new(is_allowed))
            .with(EnvFilter::new(filter))
            .with(layer(format, colours, move || to.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const EVIL: &str = "a\nINFO forged\u{1b}[2J\u{9b}31m\u{85}\u{202e}\u{2066}\u{61c}\u{200f}\u{2028}\r\0\u{7f}é";

    /// None of these may occur in a line.
    const FORBIDDEN: [&str; 11] = [
        "\r",
        "\u{1b}[2J",
        "\u{9b}",
        "\u{85}",
        "\u{202e}",
        "\u{2066}",
        "\u{61c}",
        "\u{200f}",
        "\u{2028}",
        "\0",
        "\u{7f}",
    ];

    #[test]
    fn text_from_outside_stays_on_its_line() {
        for colours in [false, true] {
            let text = logged(LogFormat::Pretty, colours, "info", || {
                tracing::warn!(tenant = EVIL, correlation_id = %EVIL, reason = ?EVIL, "evil {EVIL}");
            });
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            for forbidden in FORBIDDEN {
                assert!(!text.contains(forbidden), "{forbidden:?} in {text:?}");
            }
            assert!(text.contains("correlation_id=a\\nINFO forged\\u{1b}[2J"), "{text:?}");
            assert!(text.contains('é'), "printable characters stay as they are: {text:?}");
        }
    }

    #[test]
    fn a_json_line_has_the_fields_beside_the_message() {
        let text = logged(LogFormat::Json, false, "info", || {
            tracing::warn!(tenant = EVIL, correlation_id = %EVIL, attempt = 3, "evil {EVIL}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        for forbidden in FORBIDDEN {
            assert!(!text.contains(forbidden), "{forbidden:?} in {text:?}");
        }
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["tenant"], EVIL);
        assert_eq!(line["correlation_id"], EVIL);
        assert_eq!(line["message"], format!("evil {EVIL}"));
        assert_eq!(line["attempt"], 3);
        assert_eq!(line["level"], "WARN");
    }

    #[test]
    fn only_errors_of_lapin_are_logged_even_if_rust_log_enables_more() {
        let text = logged(LogFormat::Pretty, false, "trace,lapin=trace", || {
            tracing::info!(target: "lapin::channel", "a returned body");
            tracing::error!(target: "lapin::channel", "an error");
        });
        assert!(!text.contains("a returned body"), "{text}");
        assert!(text.contains("an error"), "{text}");
    }

    #[test]
    fn by_default_warnings_of_librdkafka_are_logged() {
        let text = logged(LogFormat::Pretty, false, DEFAULT_FILTER, || {
            tracing::info!(target: "librdkafka", "chatter");
            tracing::warn!(target: "librdkafka", "trouble");
            tracing::info!("ours");
            tracing::debug!("too fine");
        });
        assert!(!text.contains("chatter") && text.contains("trouble"), "{text}");
        assert!(text.contains("ours") && !text.contains("too fine"), "{text}");
    }

    #[test]
    fn printable_text_is_not_copied() {
        assert!(matches!(printable("Übersicht, 漢字"), Cow::Borrowed(_)));
        assert_eq!(printable("tab\there"), "tab\\there");
    }
}
