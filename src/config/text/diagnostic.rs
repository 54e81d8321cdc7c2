//! Diagnostics: each has a mistake in a file, its place, and what to write instead. They are shown as rustc shows its errors.

use std::fmt;
use std::path::{Path, PathBuf};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::mask::{MAX_LINE, Mask};
use super::tree::Span;
use super::words::{list, similar};

/// The largest number of mistakes that are shown.
const MAX_SHOWN: usize = 100;
/// The largest number of known words that a message lists.
const MAX_LISTED: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file can't be used like this.
    Error,
    /// The file can be used, but this is probably a mistake.
    Warning,
}

/// A mistake in a file, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    code: &'static str,
    message: String,
    span: Option<Span>,
    label: Option<String>,
    also: Vec<(Span, String)>,
    help: Option<String>,
    /// The column in the file itself, from 1, where the line is shown with secrets masked.
    column: Option<usize>,
}

impl Diagnostic {
    pub(crate) fn error(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            span: Some(span),
            label: None,
            also: Vec::new(),
            help: None,
            column: None,
        }
    }

    pub(crate) fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    /// An error of the file as a whole, without a place.
    pub(crate) fn of_file(code: &'static str, message: impl Into<String>) -> Self {
        Self { span: None, ..Self::error(code, Span::default(), message) }
    }

    /// The text beside the marked place.
    #[must_use]
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Marks another place, with a text beside it.
    #[must_use]
    pub(crate) fn also(mut self, span: Span, label: impl Into<String>) -> Self {
        self.also.push((span, label.into()));
        self
    }

    /// The last line: what to write instead.
    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Suggests the known word that is similar to this one; if there is none, lists the first known words.
    #[must_use]
    pub(crate) fn suggest_one_of<'w>(self, word: &str, known: impl Iterator<Item = &'w str> + Clone) -> Self {
        let listed = list(known.clone().take(MAX_LISTED));
        if listed.is_empty() { self } else { self.suggest(word, known, format!("write one of {listed}")) }
    }

    /// Suggests the known word that is similar to this one; if there is none, shows this help.
    #[must_use]
    pub(crate) fn suggest<'w>(
        self,
        word: &str,
        known: impl IntoIterator<Item = &'w str>,
        otherwise: impl Into<String>,
    ) -> Self {
        match similar(word, known) {
            Some(near) => self.label(format!("did you mean `{near}`?")).help(format!("write `{near}`")),
            None => self.help(otherwise),
        }
    }

    /// Whether this is an error within that part of the file.
    pub(crate) fn is_error_in(&self, part: Span) -> bool {
        self.severity == Severity::Error && self.span.is_some_and(|span| part.contains(span))
    }

    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The stable name of this kind of mistake, such as `unknown-key`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is wrong, in one sentence without the place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// All mistakes in a file, in the order of the file. It holds no secret of the file.
#[derive(Clone)]
pub struct Diagnostics {
    path: PathBuf,
    /// The text of the file with its secrets masked.
    text: String,
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(path: &Path, text: &str, mask: &Mask, mut list: Vec<Diagnostic>) -> Self {
        // A mistake in an anchor is found again at each alias, and reported once.
        list.sort_by_key(|diagnostic| (diagnostic.span, diagnostic.severity));
        list.dedup();
        let masked = mask.apply(text);
        for diagnostic in &mut list {
            if let Some(span) = &mut diagnostic.span {
                if let Some(column) = masked.column(text, span.start) {
                    diagnostic.column = Some(column);
                    if mask.covers(span.start) && diagnostic.label.is_none() {
                        diagnostic.label = Some(format!("at column {column} of the line, which is masked here"));
                    }
                }
                *span = masked.moved(*span);
            }
            for (span, _) in &mut diagnostic.also {
                *span = masked.moved(*span);
            }
        }
        Self { path: path.to_owned(), text: masked.text, list }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    #[must_use]
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count()
    }

    #[must_use]
    pub fn warnings(&self) -> usize {
        self.list.len() - self.errors()
    }

    /// All of them as text for people, with an empty line after each.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut out = String::new();
        for diagnostic in self.list.iter().take(MAX_SHOWN) {
            let shown = renderer.render(&[self.group(diagnostic)]);
            out.push_str(&self.with_own_column(shown, diagnostic));
            out.push_str("\n\n");
        }
        if let Some(more) = self.list.len().checked_sub(MAX_SHOWN).filter(|&more| more > 0) {
            out.push_str(&renderer.render(&[Group::with_title(
                Level::NOTE.primary_title(format!("{more} more like these are not shown")),
            )]));
            out.push_str("\n\n");
        }
        out
    }

    /// Replaces the column of the masked line by the column in the file.
    fn with_own_column(&self, shown: String, diagnostic: &Diagnostic) -> String {
        let (Some(column), Some(span)) = (diagnostic.column, diagnostic.span) else { return shown };
        let path = self.path.to_string_lossy();
        let (line, masked) = self.position(span);
        shown.replacen(&format!("{path}:{line}:{masked}"), &format!("{path}:{line}:{column}"), 1)
    }

    /// Line and column of a span's start, both from 1. Columns count characters.
    fn position(&self, span: Span) -> (usize, usize) {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        (line, before.get(line_start..).unwrap_or_default().chars().count() + 1)
    }

    fn group<'a>(&'a self, diagnostic: &'a Diagnostic) -> Group<'a> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = self.path.to_string_lossy();
        let group = Group::with_title(level.primary_title(&diagnostic.message).id(diagnostic.code));
        let group = match diagnostic.span {
            None => group.element(Origin::path(path)),
            Some(span) => {
                if let Some((excerpt, start, line)) = self.excerpt(span, &diagnostic.also) {
                    let place = AnnotationKind::Primary.span(span.start - start..span.end - start);
                    let others = diagnostic.also.iter().map(|(also, label)| {
                        AnnotationKind::Context.span(also.start - start..also.end - start).label(label.as_str())
                    });
                    let snippet = Snippet::source(excerpt).line_start(line).path(path);
                    group.element(snippet.annotation(place.label(diagnostic.label.as_deref())).annotations(others))
                } else {
                    let (line, column) = self.position(span);
                    group.element(Origin::path(path).line(line).char_column(column))
                }
            }
        };
        match &diagnostic.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }

    /// The lines of the marked places, where they begin in the text, and the number of the first.
    fn excerpt(&self, span: Span, also: &[(Span, String)]) -> Option<(&str, usize, usize)> {
        let first = also.iter().map(|(span, _)| span.start).chain([span.start]).min()?;
        let last = also.iter().map(|(span, _)| span.end).chain([span.end]).max()?;
        let start = self.text.get(..first)?.rfind('\n').map_or(0, |at| at + 1);
        let end = self.text.get(last..)?.find('\n').map_or(self.text.len(), |at| last + at);
        let excerpt = self.text.get(start..end)?;
        if excerpt.lines().any(|line| line.len() > MAX_LINE) {
            return None;
        }
        Some((excerpt, start, self.position(Span::new(start, start)).0))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
