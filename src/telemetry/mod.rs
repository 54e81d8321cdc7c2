//! Logs: to standard error, as text for people or JSON for machines.
//!
//! What comes from outside can't forge a line or steer a terminal: control characters are escaped in both formats.
//!
//! A running relay never waits for whoever reads its log (`queue`).

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

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line of text.
    Pretty,
    /// A JSON object a line.
    Json,
}

/// What is logged without `RUST_LOG`. librdkafka repeats at info what the relay itself says better, and lapin at error: each
/// of its errors also comes back to whoever asked, also those that are no trouble, as when a connection is being closed.
const DEFAULT_FILTER: &str = "info,lapin=off,rdkafka=warn,librdkafka=warn";
const QUIET_FILTER: &str = "error,lapin=off,rdkafka=off,librdkafka=off";

/// What the last lines get to be written before the process ends.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The queue of a running relay's log. A command that a person runs once has none: it waits for its reader.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// Starts logging, once: later calls do nothing.
pub fn start(format: LogFormat) {
    start_with(format, DEFAULT_FILTER, std::io::stderr);
}

/// The same for a command whose output is for a person who runs it once: without `RUST_LOG`, errors only.
pub fn start_quietly(format: LogFormat) {
    start_with(format, QUIET_FILTER, std::io::stderr);
}

/// The same for a relay: nothing that logs waits for whoever reads the log, and a panic is a line of it.
pub fn start_for_relay(format: LogFormat) -> std::io::Result<()> {
    let queue = LogQueue::start(std::io::stderr())?;
    let queue = QUEUE.get_or_init(|| queue);
    start_with(format, DEFAULT_FILTER, queue.clone());
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Writes text that is for people to standard error, in its place among the lines of the log.
pub fn say(text: &str) {
    match QUEUE.get() {
        Some(queue) => queue.push(text.as_bytes()),
        // Nobody is there to read it.
        None => drop(std::io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Gives the last lines of the log the time to be written, where somebody reads them. For who is about to end the process.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_LINES);
    }
}

fn start_with<W>(format: LogFormat, default: &str, to: W)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.trim().is_empty());
    let (filter, wrong) = match wanted.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(cause)) => (EnvFilter::new(default), Some(cause)),
        None => (EnvFilter::new(default), None),
    };
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let subscriber =
        tracing_subscriber::registry().with(FilterFn::new(may_speak)).with(filter).with(layer(format, colours, to));
    // Fails only where logging was started before, in tests.
    if subscriber.try_init().is_ok()
        && let Some(cause) = wrong
    {
        tracing::warn!("RUST_LOG can't be understood and is not used: {cause}");
    }
}

/// The standard library's own hook writes to standard error, and waits for whoever reads it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("without a name");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let what = panic.payload_as_str().unwrap_or("it said nothing");
    let backtrace = std::backtrace::Backtrace::capture();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => backtrace.to_string(),
        _ => String::new(),
    };
    tracing::error!(thread, place, error = what, backtrace, "a bug in the relay: please report it");
}

/// What writes the lines.
fn layer<S, W>(format: LogFormat, colours: bool, to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // A line that can't be written is lost; saying so on the same standard error would panic.
    let layer = tracing_subscriber::fmt::layer().with_writer(to).with_ansi(colours).log_internal_errors(false);
    match format {
        LogFormat::Pretty => layer.fmt_fields(format::debug_fn(write_field).delimited(" ")).boxed(),
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(false).with_span_list(false);
            layer.map_writer(PrintableJson).boxed()
        }
    }
}

/// Escapes in lines of JSON on the way what [`printable_json`] escapes: JSON itself lets it through.
struct PrintableJson<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for PrintableJson<W> {
    type Writer = PrintableJson<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        PrintableJson(self.0.make_writer())
    }
}

/// A line is written by one call.
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

/// Writes one field of a line of text. tracing-subscriber's own way lets line breaks through.
fn write_field(to: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => write!(Escaping(to), "{value:?}"),
        // What the bridge from the crate `log` adds; the line has it elsewhere.
        name if name.starts_with("log.") => Ok(()),
        name => {
            write!(to, "{name}=")?;
            write!(Escaping(to), "{value:?}")
        }
    }
}

/// Escapes on the way what [`printable`] escapes.
struct Escaping<'to, 'writer>(&'to mut Writer<'writer>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(&printable(text))
    }
}

/// lapin prints the bodies of returned messages at lower levels, so these are cut off whatever `RUST_LOG` says.
fn may_speak(metadata: &Metadata<'_>) -> bool {
    *metadata.level() == Level::ERROR || !metadata.target().starts_with("lapin")
}

/// `text` with control characters, and what turns the direction of writing, escaped.
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

/// The same for text of several lines, which keeps its lines and its tabs.
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

/// The same for JSON, which stays the same JSON: what is escaped can only stand in its texts.
#[must_use]
pub fn printable_json(json: &str) -> Cow<'_, str> {
    // What separates its parts; within its texts JSON escapes these itself.
    let is_escaped = |character: char| is_unprintable(character) && !matches!(character, '\n' | '\r' | '\t');
    if !json.contains(is_escaped) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 8);
    for character in json.chars() {
        if is_escaped(character) {
            // All of them are of the first 65,536 characters, which take one such escape.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters, also those of 8 bit, which some terminals obey (C1), and those that turn the direction of writing
/// (Unicode's property `Bidi_Control`) or end a line.
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
            .with(FilterFn::new(may_speak))
            .with(EnvFilter::new(filter))
            .with(layer(format, colours, move || to.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const EVIL: &str = "a\nINFO forged\u{1b}[2J\u{9b}31m\u{85}\u{202e}\u{2066}\u{61c}\u{200f}\u{2028}\r\0\u{7f}é";

    /// None of these reaches whoever reads.
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
    fn what_comes_from_outside_stays_on_its_line() {
        for colours in [false, true] {
            let text = logged(LogFormat::Pretty, colours, "info", || {
                tracing::warn!(tenant = EVIL, correlation_id = %EVIL, reason = ?EVIL, "evil {EVIL}");
            });
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            for forbidden in FORBIDDEN {
                assert!(!text.contains(forbidden), "{forbidden:?} in {text:?}");
            }
            assert!(text.contains("correlation_id=a\\nINFO forged\\u{1b}[2J"), "{text:?}");
            assert!(text.contains('é'), "what is harmless stays as it is: {text:?}");
        }
    }

    #[test]
    fn a_line_of_json_has_its_fields_beside_the_message() {
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
    fn lapin_speaks_of_errors_only_even_when_asked_for_more() {
        let text = logged(LogFormat::Pretty, false, "trace,lapin=trace", || {
            tracing::info!(target: "lapin::channel", "a returned body");
            tracing::error!(target: "lapin::channel", "an error");
        });
        assert!(!text.contains("a returned body"), "{text}");
        assert!(text.contains("an error"), "{text}");
    }

    #[test]
    fn librdkafka_speaks_of_warnings_by_default() {
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
    fn harmless_text_is_not_copied() {
        assert!(matches!(printable("Übersicht, 漢字"), Cow::Borrowed(_)));
        assert_eq!(printable("tab\there"), "tab\\there");
    }
}
