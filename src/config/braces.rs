//! Keeps `${…}` whole while YAML is read.
//!
//! In `{ password: ${SECRET} }` the braces of the reference would open and close a mapping: YAML takes none in a value that is
//! not quoted there. While the text is parsed other characters stand for them.

use std::borrow::Cow;

/// What stands for the braces: Unicode calls these no characters, and keeps them for uses like this.
const STAND_INS: [(char, char); 2] = [('{', '\u{fdd0}'), ('}', '\u{fdd1}')];
/// How many bytes longer a stand-in is.
const LONGER: usize = 2;

/// References inside each other are kept whole so far: what is wrong with them is said later.
const MAX_NESTED: usize = 4;

/// What stands in a reference, up to the brace that closes it on the same line, and what follows.
fn reference(after: &str) -> Option<(&str, &str)> {
    let mut open = 1;
    let mut before = None;
    for (at, char) in after.char_indices() {
        match char {
            // In a text or a list, what follows belongs to the next value.
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

/// A text whose references have other characters for braces.
pub(super) struct Guarded<'a> {
    pub text: Cow<'a, str>,
    /// Where the stand-ins end in it.
    ends: Vec<usize>,
}

impl<'a> Guarded<'a> {
    pub fn new(text: &'a str) -> Self {
        let untouched = Self { text: Cow::Borrowed(text), ends: Vec::new() };
        if !text.contains("${") || text.contains(STAND_INS.map(|(_, stand_in)| stand_in)) {
            return untouched;
        }
        let [(_, open), (_, close)] = STAND_INS;
        let mut guarded = String::with_capacity(text.len() + text.len() / 8);
        let mut ends = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            guarded.push_str(before);
            let Some((inside, after)) = reference(after) else {
                guarded.push_str("${");
                rest = after;
                continue;
            };
            guarded.push('$');
            for char in std::iter::once('{').chain(inside.chars()).chain(['}']) {
                match char {
                    '{' => guarded.push(open),
                    '}' => guarded.push(close),
                    char => guarded.push(char),
                }
                if matches!(char, '{' | '}') {
                    ends.push(guarded.len());
                }
            }
            rest = after;
        }
        guarded.push_str(rest);
        Self { text: Cow::Owned(guarded), ends }
    }

    /// Where a place of the guarded text is in the text itself.
    pub fn original(&self, at: usize) -> usize {
        at - LONGER * self.ends.partition_point(|end| *end <= at)
    }

    /// A piece of the guarded text as it stands in the text itself.
    pub fn restore(&self, piece: Cow<'_, str>) -> String {
        if self.ends.is_empty() {
            return piece.into_owned();
        }
        STAND_INS.iter().fold(piece.into_owned(), |piece, (brace, stand_in)| {
            if piece.contains(*stand_in) { piece.replace(*stand_in, brace.encode_utf8(&mut [0; 4])) } else { piece }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_pieces_are_those_of_the_text() {
        let text = "é { a: ${A}, b: x${B:-y}z, c: ${file:${C}/d} } ${ { \n }";
        let guarded = Guarded::new(text);
        assert!(guarded.text.contains("$\u{fdd0}A\u{fdd1},"));
        assert!(guarded.text.ends_with("${ { \n }"));
        for word in [", b", "z,", "/d", " } ${", "\n }"] {
            let at = guarded.text.find(word).unwrap();
            assert_eq!(guarded.original(at), text.find(word).unwrap());
        }
        assert_eq!(guarded.original(guarded.text.len()), text.len());
        assert_eq!(guarded.restore(Cow::Borrowed(&guarded.text)), text);
    }

    #[test]
    fn a_text_that_has_the_stand_ins_itself_is_left_alone() {
        let text = "a: \u{fdd0}${B}";
        assert_eq!(Guarded::new(text).text, text);
    }
}
