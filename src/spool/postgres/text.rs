//! Texts from messages. PostgreSQL's `text` can't have NUL, so that is written as `\0`, and `\` as `\\`.

use std::borrow::Cow;

pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', '\\']) {
        Cow::Owned(text.replace('\\', r"\\").replace('\0', r"\0"))
    } else {
        Cow::Borrowed(text)
    }
}

pub(super) fn escape_optional(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.map(escape)
}

pub(super) fn unescape(text: String) -> String {
    if !text.contains('\\') {
        return text;
    }
    let (mut plain, mut letters) = (String::with_capacity(text.len()), text.chars());
    while let Some(letter) = letters.next() {
        match (letter, letter == '\\') {
            (_, true) => match letters.next() {
                Some('0') => plain.push('\0'),
                Some(other) => plain.push(other),
                None => {}
            },
            (letter, false) => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_comes_back() {
        for text in ["", "plain", r"a\b", "a\0b", r"\0", "\\\0\\", "\0\0", r"ends with \"] {
            let escaped = escape(text).into_owned();
            assert!(!escaped.contains('\0'), "{text:?}");
            assert_eq!(unescape(escaped), text);
        }
    }
}
