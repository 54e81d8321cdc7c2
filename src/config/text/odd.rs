//! Characters that look like a space or a quote and are none. They come with copied text, and nobody sees them.

use super::diagnostic::Diagnostic;
use super::tree::{Kind, Node, Span};

/// The plain character that it looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Like {
    Space,
    Quote,
}

/// The characters with the names that Unicode gives them.
const CHARACTERS: [(char, Like, &str); 17] = [
    ('\u{a0}', Like::Space, "no-break space"),
    ('\u{2002}', Like::Space, "en space"),
    ('\u{2003}', Like::Space, "em space"),
    ('\u{2007}', Like::Space, "figure space"),
    ('\u{2009}', Like::Space, "thin space"),
    ('\u{200b}', Like::Space, "zero width space"),
    ('\u{202f}', Like::Space, "narrow no-break space"),
    ('\u{3000}', Like::Space, "ideographic space"),
    ('\u{feff}', Like::Space, "byte order mark"),
    ('\u{ab}', Like::Quote, "left-pointing double angle quotation mark"),
    ('\u{bb}', Like::Quote, "right-pointing double angle quotation mark"),
    ('\u{2018}', Like::Quote, "left single quotation mark"),
    ('\u{2019}', Like::Quote, "right single quotation mark"),
    ('\u{201a}', Like::Quote, "single low-9 quotation mark"),
    ('\u{201c}', Like::Quote, "left double quotation mark"),
    ('\u{201d}', Like::Quote, "right double quotation mark"),
    ('\u{201e}', Like::Quote, "double low-9 quotation mark"),
];

/// A look-alike character at its place.
#[derive(Debug, Clone, Copy)]
pub struct Odd {
    pub span: Span,
    char: char,
    like: Like,
    name: &'static str,
}

impl Odd {
    /// The name and number of the character, for a message.
    pub fn named(&self) -> String {
        format!("{} (U+{:04X})", self.name, u32::from(self.char))
    }

    pub fn help(&self) -> &'static str {
        match self.like {
            Like::Space => "delete it and type a space: copied text often contains such characters",
            Like::Quote => "type `\"` or `'` instead; if this character is meant, put the whole text into `'…'`",
        }
    }

    /// The character as the cause of a mistake.
    pub fn error(&self, code: &'static str) -> Diagnostic {
        let what = match self.like {
            Like::Space => "is not white space here",
            Like::Quote => "is not a quote here",
        };
        Diagnostic::error(code, self.span, format!("this character, a {}, {what}", self.named())).help(self.help())
    }
}

fn odd(at: usize, char: char) -> Option<Odd> {
    let span = Span::new(at, at + char.len_utf8());
    let (_, like, name) = CHARACTERS.iter().find(|(known, ..)| *known == char)?;
    Some(Odd { span, char, like: *like, name })
}

/// The first look-alike character in a part of the text.
pub fn first(text: &str, part: Span) -> Option<Odd> {
    let inside = text.get(part.start..part.end).unwrap_or_default();
    // Nearly no text has any character beyond ASCII.
    if inside.is_ascii() {
        return None;
    }
    inside.char_indices().find_map(|(at, char)| odd(part.start + at, char))
}

/// The first look-alike character in the code of an expression, or in the expressions of a template. In strings they are meant.
pub fn in_code(text: &str, part: Span, is_template: bool) -> Option<Odd> {
    first(text, part)?;
    let written = text.get(part.start..part.end)?;
    // The quotes of the YAML scalar.
    let outer = written.chars().next().filter(|quote| ['"', '\''].contains(quote) && written.len() > 1);
    let start = outer.map_or(0, char::len_utf8);
    let inside = written.get(start..written.len() - start)?;
    let (mut is_code, mut quote) = (!is_template, None);
    for (at, char) in inside.char_indices() {
        let rest = inside.get(at..)?;
        match (quote, char) {
            (Some(open), _) if char == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') if is_code => quote = Some(char),
            (None, '{') if is_template && ["{{", "{%"].iter().any(|open| rest.starts_with(open)) => is_code = true,
            (None, '}' | '%') if is_template && ["}}", "%}"].iter().any(|close| rest.starts_with(close)) => {
                is_code = false;
            }
            _ if is_code => {
                if let Some(odd) = odd(part.start + start + at, char) {
                    return Some(odd);
                }
            }
            _ => {}
        }
    }
    None
}

/// Reports the look-alike characters in keys and in unquoted values, where they were hardly meant: at an end, or after a colon.
pub fn in_tree(text: &str, root: &Node, report: &mut impl FnMut(Diagnostic)) {
    if text.is_ascii() {
        return;
    }
    match &root.kind {
        Kind::Scalar(scalar) if scalar.plain => in_plain(text, root.span, false, report),
        Kind::Scalar(_) => {}
        Kind::Sequence(items) => items.iter().for_each(|item| in_tree(text, item, report)),
        Kind::Mapping(entries) => {
            for (key, value) in entries {
                in_plain(text, key.span, true, report);
                in_tree(text, value, report);
            }
        }
    }
}

fn in_plain(text: &str, span: Span, is_key: bool, report: &mut impl FnMut(Diagnostic)) {
    let inside = text.get(span.start..span.end).unwrap_or_default();
    if inside.is_ascii() || inside.starts_with(['"', '\'']) {
        return;
    }
    let mut before = None;
    for (at, char) in inside.char_indices() {
        let found = odd(span.start + at, char);
        let is_at_an_end = at == 0 || at + char.len_utf8() == inside.len();
        let slipped = found.filter(|odd| match odd.like {
            Like::Space => is_key || is_at_an_end || before == Some(':'),
            Like::Quote => is_key || at == 0,
        });
        if let Some(odd) = slipped {
            let message = format!("this character, a {}, is a part of the text", odd.named());
            report(Diagnostic::warning("odd-character", odd.span, message).help(odd.help()));
            return;
        }
        before = Some(char);
    }
}
