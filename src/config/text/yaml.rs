//! Parses YAML into a tree of nodes, each with its place in the file.
//!
//! The tree is bounded in size and depth, with aliases followed, so that no file can make the relay slow or big.

use std::collections::HashMap;
use std::sync::Arc;

use serde_saphyr::granit_parser::{
    ErrorKind, Event, Parser, ScalarStyle, ScanError, StrInput, StructureStyle, options,
};

use super::diagnostic::Diagnostic;
use super::references::ParserInput;
use super::syntax;
use super::tree::{Key, Kind, MAX_DEPTH, Node, Scalar, Span};

/// The longest file that is read, in MiB. Ten thousand routes take about two.
pub const MAX_FILE_MIB: usize = 8;
pub const MAX_FILE: usize = MAX_FILE_MIB << 20;
/// How many values a file may have, aliases followed.
const MAX_NODES: usize = 500_000;

/// A mapping or list whose end has not been parsed yet.
struct Open {
    start: usize,
    flow: bool,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    Sequence(Vec<Arc<Node>>),
    Mapping(Vec<(Key, Arc<Node>)>, Option<Key>),
}

/// Reads the one document of `text`. `start` is what to write into an empty file.
pub fn read(text: &str, start: &str) -> Result<Arc<Node>, Box<Diagnostic>> {
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let input = ParserInput::new(text);
    let parser = Parser::new_from_str_with_options(&input.text, options);
    let builder = Builder { text, input: &input, open: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0 };
    builder.build(parser)?.ok_or_else(|| {
        Diagnostic::error("empty-file", Span::default(), "the file has nothing in it").help(start).into()
    })
}

struct Builder<'a> {
    text: &'a str,
    input: &'a ParserInput<'a>,
    open: Vec<Open>,
    anchors: HashMap<usize, Arc<Node>>,
    root: Option<Arc<Node>>,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn build(mut self, parser: Parser<'a, StrInput<'a>>) -> Result<Option<Arc<Node>>, Box<Diagnostic>> {
        for event in parser {
            let (event, place) = event.map_err(|error| Box::new(self.syntax_error(&error)))?;
            if event.tag().is_some_and(|tag| !tag.is_yaml_core_schema_tag("str")) {
                return Err(tagged(self.span(place.tag_span().unwrap_or(place).byte_range())).into());
            }
            let place = self.span(place.byte_range());
            self.event(event, place)?;
        }
        Ok(self.root)
    }

    /// The byte range as a span that lies inside the text and on boundaries of characters, even if the range of the parser does not.
    fn span(&self, range: Option<std::ops::Range<usize>>) -> Span {
        let range = range.unwrap_or_default();
        let inside = |at: usize| {
            let mut at = self.input.original_place(at).min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = inside(range.start);
        Span::new(start, inside(range.end).max(start))
    }

    fn event(&mut self, event: Event<'a>, place: Span) -> Result<(), Box<Diagnostic>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                // The only tag that is left is `!!str`.
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let kind = Kind::Scalar(Scalar { text: self.input.restore(text), plain });
                self.add(Node { span: place, head: place, kind, depth: 1, size: 1 }, anchor, false)
            }
            Event::SequenceStart(style, anchor, _) => {
                self.start(place, style, anchor, OpenKind::Sequence(Vec::new()));
                Ok(())
            }
            Event::MappingStart(style, anchor, _) => {
                self.start(place, style, anchor, OpenKind::Mapping(Vec::new(), None));
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(place),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    // Counted at each use, or a few lines could become millions of values.
                    let size = node.size;
                    self.place(node, place, size)
                }
                None => {
                    Err(Diagnostic::error("yaml-alias", place, "an alias refers to the value that it is a part of")
                        .help("write the value out")
                        .into())
                }
            },
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Diagnostic::error("several-documents", place, "the file holds more than one YAML document")
                    .help("keep one document: remove this `---` and what belongs to the other one")
                    .into())
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, place: Span, style: StructureStyle, anchor: usize, kind: OpenKind) {
        self.open.push(Open { start: place.start, flow: style == StructureStyle::Flow, anchor, kind });
    }

    fn end(&mut self, place: Span) -> Result<(), Box<Diagnostic>> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let (kind, depth, size, last) = match open.kind {
            OpenKind::Sequence(items) => {
                let (depth, size) = measure(items.iter());
                let last = items.last().map(|item| item.span.end);
                (Kind::Sequence(items), depth, size, last)
            }
            OpenKind::Mapping(entries, _) => {
                let (depth, size) = measure(entries.iter().map(|(_, value)| value));
                let last = entries.last().map(|(key, value)| value.span.end.max(key.span.end));
                (Kind::Mapping(entries), depth, size, last)
            }
        };
        // The parser ends a block where the next value begins: the block's own last value ends before.
        let end = if open.flow { place.end } else { last.unwrap_or(place.end) };
        let span = Span::new(open.start, end.max(open.start));
        self.add(Node { span, head: span, kind, depth, size }, open.anchor, !open.flow)
    }

    /// Stores a complete value under its anchor, and puts it into the collection it belongs to.
    fn add(&mut self, mut node: Node, anchor: usize, block: bool) -> Result<(), Box<Diagnostic>> {
        if block {
            node.head = match self.open.last().map(|open| &open.kind) {
                Some(OpenKind::Mapping(_, Some(key))) => key.span,
                _ => first_key(&node),
            };
        }
        let place = node.span;
        let node = Arc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.place(node, place, 1)
    }

    fn place(&mut self, node: Arc<Node>, place: Span, count: usize) -> Result<(), Box<Diagnostic>> {
        if self.open.len() + node.depth > MAX_DEPTH {
            return Err(Diagnostic::error("too-deep", place, format!("more than {MAX_DEPTH} nested levels"))
                .help("no configuration needs that many: look for a wrong indentation")
                .into());
        }
        self.nodes = self.nodes.saturating_add(count);
        if self.nodes > MAX_NODES {
            return Err(Diagnostic::error(
                "too-many-values",
                place,
                format!("more than {MAX_NODES} values, aliases counted where they are used"),
            )
            .help("split the file, or write patterns instead of one route for each name")
            .into());
        }
        match self.open.last_mut().map(|open| &mut open.kind) {
            None => self.root = Some(node),
            Some(OpenKind::Sequence(items)) => items.push(node),
            Some(OpenKind::Mapping(entries, pending)) => match pending.take() {
                Some(key) => entries.push((key, node)),
                None => match &node.kind {
                    Kind::Scalar(scalar) => *pending = Some(Key { text: scalar.text.clone(), span: place }),
                    _ => {
                        return Err(Diagnostic::error("yaml-key", place, "a key has to be a single word or text")
                            .help("write `key: value`; a value that starts with `{` or `[` needs quotes")
                            .into());
                    }
                },
            },
        }
        Ok(())
    }
}

fn first_key(node: &Node) -> Span {
    match &node.kind {
        Kind::Mapping(entries) => entries.first().map_or(node.span, |(key, _)| key.span),
        Kind::Sequence(items) => items.first().map_or(node.span, |item| item.head),
        Kind::Scalar(_) => node.span,
    }
}

fn measure<'n>(parts: impl Iterator<Item = &'n Arc<Node>>) -> (usize, usize) {
    let (depth, size) =
        parts.fold((0, 0_usize), |(depth, size), part| (part.depth.max(depth), size.saturating_add(part.size)));
    (depth + 1, size.saturating_add(1))
}

fn tagged(place: Span) -> Diagnostic {
    Diagnostic::error("yaml-tag", place, "YAML tags (`!…`) are not supported")
        .help("remove the tag; quote the value if it has to start with `!`")
}

impl Builder<'_> {
    fn syntax_error(&self, error: &ScanError) -> Diagnostic {
        let at = error.marker().byte_offset().unwrap_or(self.input.text.len());
        let at = self.span(Some(at..at)).start;
        // The parser notices a tab only at the end of the word before it.
        let at = match error.kind() {
            ErrorKind::TabInPlainScalar | ErrorKind::TabInIndentation | ErrorKind::TabInBlockIndentation => {
                self.text.get(at..).and_then(|rest| rest.find('\t')).map_or(at, |tab| at + tab)
            }
            _ => at,
        };
        // At the end of a line there is no character to mark.
        let next = self.text.get(at..).and_then(|rest| rest.chars().next()).filter(|&next| next != '\n');
        let opened = self.open.iter().rev().find(|open| open.flow);
        let opened = opened.map(|open| Span::new(open.start, open.start + 1));
        syntax::explain(self.text, error.kind(), Span::new(at, next.map_or(at, |next| at + next.len_utf8())), opened)
    }
}
