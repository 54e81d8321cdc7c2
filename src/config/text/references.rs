//! Keeps `${…}` whole while YAML is parsed.
//!
//! In `{ password: ${SECRET} }` YAML would read the braces of the reference as a mapping: a plain value inside `{…}` or `[…]` can't
//! contain any. During parsing, other characters replace them.

use std::borrow::Cow;

/// The replacements: noncharacters, which Unicode reserves for internal use.
const REPLACEMENTS: [(char, char); 2] = [('{', '\u{fdd0}'), ('}', '\u{fdd1}')];
/// By how many bytes a replacement is longer than a brace.
const EXTRA_BYTES: usize = 2;

/// References nested up to this depth are kept whole; the interpolation then reports that they can't be nested.
const MAX_NESTED: usize = 4;

/// Splits the text after `${` into the content of the reference, which ends on the same line, and the rest.
fn split_reference(after: &str) -> Option<(&str, &str)> {
    let mut open = 1;
    let mut before = None;
    for (at, char) in after.char_indices() {
        match char {
            // After one of these characters, inside a text or a list, the brace belongs to the next value.
            '{' if before == Some('$') && open < MAX_NESTED && !after.get(..at)?.contains([' ', ',', '"', '\'']) => {
                open += 1;
            }
            '{' | '\n' => return None,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some((after.get(..at)?, after.get(at + 1..)?));
        }
        before = Some(char);
    }
    None
}

/// A text with the braces of its references replaced.
pub struct ParserInput<'a> {
    pub text: Cow<'a, str>,
    /// The ends of the replacements in `text`.
    ends: Vec<usize>,
}

impl<'a> ParserInput<'a> {
    pub fn new(original: &'a str) -> Self {
        let unchanged = Self { text: Cow::Borrowed(original), ends: Vec::new() };
        if !original.contains("${") || original.contains(REPLACEMENTS.map(|(_, replacement)| replacement)) {
            return unchanged;
        }
        let [(_, open), (_, close)] = REPLACEMENTS;
        let mut text = String::with_capacity(original.len() + original.len() / 8);
        let mut ends = Vec::new();
        let mut rest = original;
        while let Some((before, after)) = rest.split_once("${") {
            text.push_str(before);
            let Some((content, after)) = split_reference(after) else {
                text.push_str("${");
                rest = after;
                continue;
            };
            text.push('$');
            for char in std::iter::once('{').chain(content.chars()).chain(['}']) {
                match char {
                    '{' => text.push(open),
                    '}' => text.push(close),
                    char => text.push(char),
                }
                if matches!(char, '{' | '}') {
                    ends.push(text.len());
                }
            }
            rest = after;
        }
        text.push_str(rest);
        Self { text: Cow::Owned(text), ends }
    }

    /// The place in the original text of a place in `text`.
    pub fn original_place(&self, at: usize) -> usize {
        at - EXTRA_BYTES * self.ends.partition_point(|end| *end <= at)
    }

    /// A piece of `text` with its braces restored.
    pub fn restore(&self, piece: Cow<'_, str>) -> String {
        if self.ends.is_empty() {
            return piece.into_owned();
        }
        REPLACEMENTS.iter().fold(piece.into_owned(), |piece, (brace, replacement)| {
            if piece.contains(*replacement) {
                piece.replace(*replacement, brace.encode_utf8(&mut [0; 4]))
            } else {
                piece
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_pieces_are_those_of_the_original_text() {
        let text = "é { a: ${A}, b: x${B:-y}z, c: ${file:${C}/d} } ${ { \n }";
        let input = ParserInput::new(text);
        assert!(input.text.contains("$\u{fdd0}A\u{fdd1},"));
        assert!(input.text.ends_with("${ { \n }"));
        for word in [", b", "z,", "/d", " } ${", "\n }"] {
            let at = input.text.find(word).unwrap();
            assert_eq!(input.original_place(at), text.find(word).unwrap());
        }
        assert_eq!(input.restore(input.text.clone()), text);
    }

    #[test]
    fn a_text_that_has_the_replacements_is_not_changed() {
        let text = "a: \u{fdd0}${B}";
        assert_eq!(ParserInput::new(text).text, text);
    }
}
