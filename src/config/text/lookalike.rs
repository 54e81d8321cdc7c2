//! Characters that look like a space or a quote but are not. They come with copied text, and are hard to see.

use super::diagnostic::Diagnostic;
use super::tree::{Kind, Node, Span};

/// The plain character that a look-alike resembles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainCharacter {
    Space,
    Quote,
}

/// The characters with the names that Unicode gives them.
const CHARACTERS: [(char, PlainCharacter, &str); 17] = [
    ('\u{a0}', PlainCharacter::Space, "no-break space"),
    ('\u{2002}', PlainCharacter::Space, "en space"),
    ('\u{2003}', PlainCharacter::Space, "em space"),
    ('\u{2007}', PlainCharacter::Space, "figure space"),
    ('\u{2009}', PlainCharacter::Space, "thin space"),
    ('\u{200b}', PlainCharacter::Space, "zero width space"),
    ('\u{202f}', PlainCharacter::Space, "narrow no-break space"),
    ('\u{3000}', PlainCharacter::Space, "ideographic space"),
    ('\u{feff}', PlainCharacter::Space, "byte order mark"),
    ('\u{ab}', PlainCharacter::Quote, "left-pointing double angle quotation mark"),
    ('\u{bb}', PlainCharacter::Quote, "right-pointing double angle quotation mark"),
    ('\u{2018}', PlainCharacter::Quote, "left single quotation mark"),
    ('\u{2019}', PlainCharacter::Quote, "right single quotation mark"),
    ('\u{201a}', PlainCharacter::Quote, "single low-9 quotation mark"),
    ('\u{201c}', PlainCharacter::Quote, "left double quotation mark"),
    ('\u{201d}', PlainCharacter::Quote, "right double quotation mark"),
    ('\u{201e}', PlainCharacter::Quote, "double low-9 quotation mark"),
];

/// A look-alike character at its place.
#[derive(Debug, Clone, Copy)]
pub struct Lookalike {
    pub span: Span,
    char: char,
    like: PlainCharacter,
    name: &'static str,
}

impl Lookalike {
    /// The name and number of the character, for a message.
    pub fn named(&self) -> String {
        format!("{} (U+{:04X})", self.name, u32::from(self.char))
    }

    pub fn help(&self) -> &'static str {
        match self.like {
            PlainCharacter::Space => "delete it and type a space: copied text often contains such characters",
            PlainCharacter::Quote => "type `\"` or `'` instead; to keep this character, put the whole text into `'…'`",
        }
    }

    /// The character as the cause of a mistake.
    pub fn error(&self, code: &'static str) -> Diagnostic {
        let what = match self.like {
            PlainCharacter::Space => "is not white space here",
            PlainCharacter::Quote => "is not a quote here",
        };
        Diagnostic::error(code, self.span, format!("this character, a {}, {what}", self.named())).help(self.help())
    }
}

fn lookalike(at: usize, char: char) -> Option<Lookalike> {
    let span = Span::new(at, at + char.len_utf8());
    let (_, like, name) = CHARACTERS.iter().find(|(known, ..)| *known == char)?;
    Some(Lookalike { span, char, like: *like, name })
}

/// The first look-alike character in a part of the text.
pub fn first(text: &str, part: Span) -> Option<Lookalike> {
    let inside = text.get(part.start..part.end).unwrap_or_default();
    // Nearly no text has any character beyond ASCII.
    if inside.is_ascii() {
        return None;
    }
    inside.char_indices().find_map(|(at, char)| lookalike(part.start + at, char))
}

/// The first look-alike character in the code of an expression, or in the expressions of a template. Those in strings are ignored.
pub fn in_code(text: &str, part: Span, is_template: bool) -> Option<Lookalike> {
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
                if let Some(found) = lookalike(part.start + start + at, char) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    None
}

/// Reports the look-alike characters in keys and in unquoted values, where they are probably mistakes: at an end, or after a colon.
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
        let found = lookalike(span.start + at, char);
        let is_at_an_end = at == 0 || at + char.len_utf8() == inside.len();
        let mistake = found.filter(|found| match found.like {
            PlainCharacter::Space => is_key || is_at_an_end || before == Some(':'),
            PlainCharacter::Quote => is_key || at == 0,
        });
        if let Some(found) = mistake {
            let message = format!("this character, a {}, is a part of the text", found.named());
            report(Diagnostic::warning("odd-character", found.span, message).help(found.help()));
            return;
        }
        before = Some(char);
    }
}
