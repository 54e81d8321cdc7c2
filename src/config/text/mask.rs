//! Masks the parts of a file that must never be shown: passwords, secrets, tokens, and the passwords in URLs.
//!
//! In valid YAML, all values below a key whose name suggests a secret are masked. In a file that is not YAML, the rest of such
//! a line and the deeper lines after it are masked. A `${…}` stays readable, except its default: it names the place of the
//! secret, not the secret.

use super::FileKeys;
use super::interpolate;
use super::tree::{Kind, Node, Span};

/// Shown in the place of a secret.
pub const STARS: &str = "***";
/// A key that contains one of these words has a secret value.
const SECRET_WORDS: [&str; 13] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "bearer",
    "auth",
    "sasl",
    "credential",
    "cookie",
    "signature",
    "api-key",
    "api_key",
    "apikey",
];
/// Words whose misspellings count as secret keys too.
const OFTEN_MISSPELT: [&str; 4] = ["password", "secret", "bearer", "token"];
/// Longer keys do not count as misspellings of these, in bytes.
const MAX_MISSPELT: usize = 16;
/// Longer lines are never shown, in bytes: a part of them would be of no help.
pub const MAX_LINE: usize = 10_000;

/// The spans of a file that must not be shown, sorted and apart from each other.
#[derive(Debug, Default)]
pub struct Mask(Vec<Span>);

/// A text whose secrets are replaced by [`STARS`].
pub struct MaskedText {
    pub text: String,
    replaced: Vec<Span>,
}

impl Mask {
    /// The mask of a file that is valid YAML.
    pub fn of_tree(text: &str, root: &Node, keys: &FileKeys) -> Self {
        let mut mask = Self::default();
        mask.root(text, root, keys);
        mask.userinfo(text);
        mask.sorted()
    }

    /// The mask of a file that is not YAML.
    pub fn of_lines(text: &str) -> Self {
        let mut mask = Self::default();
        mask.lines(text);
        mask.userinfo(text);
        mask.sorted()
    }

    /// Whether a part of the span is masked.
    pub fn touches(&self, span: Span) -> bool {
        let first = self.0.partition_point(|masked| masked.end <= span.start);
        self.0.get(first).is_some_and(|masked| masked.start < span.end)
    }

    /// Whether this byte is masked, and the one before it too.
    pub fn covers(&self, at: usize) -> bool {
        let first = self.0.partition_point(|masked| masked.end <= at);
        self.0.get(first).is_some_and(|masked| masked.start < at)
    }

    fn sorted(mut self) -> Self {
        self.0.retain(|span| span.start < span.end);
        self.0.sort_unstable();
        let mut merged: Vec<Span> = Vec::with_capacity(self.0.len());
        for span in self.0 {
            match merged.last_mut() {
                Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                _ => merged.push(span),
            }
        }
        Self(merged)
    }

    /// Masks a file; names that the user chose are no secrets.
    fn root(&mut self, text: &str, root: &Node, keys: &FileKeys) {
        let Kind::Mapping(entries) = &root.kind else { return self.tree(text, root, false, keys) };
        for (key, value) in entries {
            match &value.kind {
                Kind::Mapping(named) if keys.named.contains(&key.text.as_str()) => {
                    for (_, value) in named {
                        self.tree(text, value, false, keys);
                    }
                }
                _ => self.tree(text, value, is_secret(&key.text), keys),
            }
        }
    }

    fn tree(&mut self, text: &str, node: &Node, secret: bool, keys: &FileKeys) {
        match &node.kind {
            Kind::Scalar(_) if secret && !node.is_null() => self.mask_except_references(text, node.span),
            Kind::Scalar(_) => {}
            Kind::Sequence(items) => items.iter().for_each(|item| self.tree(text, item, secret, keys)),
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    let below = !keys.shown.contains(&key.text.as_str()) && (secret || is_secret(&key.text));
                    self.tree(text, value, below, keys);
                }
            }
        }
    }

    /// Masks a span except its quotes and the `${…}` in it.
    fn mask_except_references(&mut self, text: &str, span: Span) {
        let Some(mut rest) = text.get(span.start..span.end) else { return };
        let mut at = span.start;
        for quote in ['"', '\''] {
            if let Some(inside) = rest.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
                rest = inside;
                at += 1;
            }
        }
        while !rest.is_empty() {
            let found = rest
                .split_once("${")
                .and_then(|(literal, after)| Some((literal, after.split_once('}')?.0)))
                .filter(|(_, inside)| interpolate::is_reference(inside));
            let (literal, reference) = found.map_or((rest.len(), 0), |(literal, inside)| {
                // The default of a reference is written in the file itself.
                if let Some((name, default)) = inside.split_once(":-") {
                    let start = at + literal.len() + 2 + name.len() + 2;
                    self.0.push(Span::new(start, start + default.len()));
                }
                (literal.len(), inside.len() + 3)
            });
            self.each_line(rest.get(..literal).unwrap_or_default(), at);
            at += literal + reference;
            rest = rest.get(literal + reference..).unwrap_or_default();
        }
    }

    /// Masks a text line by line, so that the lines keep their numbers.
    fn each_line(&mut self, text: &str, mut at: usize) {
        for line in text.split('\n') {
            let start = at + (line.len() - line.trim_start().len());
            self.0.push(Span::new(start, start + line.trim().len()));
            at += line.len() + 1;
        }
    }

    /// Masks the passwords in URLs, wherever they are: from the first colon after `://` to the last `@` of the same word, and
    /// parameters with the name of a secret.
    fn userinfo(&mut self, text: &str) {
        let mut start = 0;
        for word in text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')) {
            if let Some((scheme, rest)) = word.split_once("://")
                && let Some((userinfo, _)) = rest.rsplit_once('@')
                && let Some((user, _)) = userinfo.split_once(':')
            {
                let rest_at = start + scheme.len() + 3;
                self.mask_except_references(text, Span::new(rest_at + user.len() + 1, rest_at + userinfo.len()));
            }
            if word.contains("://") {
                self.parameters(text, word, start);
            }
            // What separates words may be longer than a byte.
            start += word.len();
            start += text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        }
    }

    /// Masks the secret parameters of a URL, which begins at this place of the text.
    fn parameters(&mut self, text: &str, url: &str, start: usize) {
        let Some((before, parameters)) = url.split_once('?') else { return };
        let mut at = start + before.len() + 1;
        for parameter in parameters.split('&') {
            if let Some((name, value)) = parameter.split_once('=')
                && is_secret(name)
            {
                let value_at = at + name.len() + 1;
                let outside: &[char] = if value.contains("${") { &[','] } else { &[',', '}', ']'] };
                let end = value.trim_end_matches(outside).len();
                self.mask_except_references(text, Span::new(value_at, value_at + end));
            }
            at += parameter.len() + 1;
        }
    }

    /// Masks the rest of each line with a secret key, and all deeper lines after it.
    fn lines(&mut self, text: &str) {
        let mut start = 0;
        let mut below: Option<usize> = None;
        for line in text.split_inclusive('\n') {
            let content = line.trim_end();
            let indent = content.len() - content.trim_start_matches([' ', '-', '\t']).len();
            if below.is_some_and(|key| !content.is_empty() && indent <= key) {
                below = None;
            }
            let span = Span::new(start, start + content.len());
            if content.len() > MAX_LINE {
                // Such a line is never shown.
            } else if below.is_some() {
                self.mask_except_references(text, Span::new(start + indent.min(content.len()), span.end));
            } else if let Some(value) = secret_value(content) {
                below = Some(indent);
                self.mask_except_references(text, Span::new(start + value, span.end));
            }
            start += line.len();
        }
    }
}

/// The place on the line where the value of a secret key begins.
fn secret_value(line: &str) -> Option<usize> {
    line.match_indices(':').find_map(|(at, _)| {
        let (before, value) = line.split_at(at);
        let key = before.rsplit([' ', '{', ',', '[', '"', '\'']).find(|word| !word.is_empty()).unwrap_or_default();
        let value = value.get(1..).unwrap_or_default();
        is_secret(key).then_some(at + 1 + (value.len() - value.trim_start().len()))
    })
}

/// Whether the name of a key suggests that its value is secret.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || (key.len() <= MAX_MISSPELT && OFTEN_MISSPELT.iter().any(|word| strsim::osa_distance(word, &key) <= 2))
}

impl Mask {
    /// The text with its secrets replaced.
    pub fn apply(&self, text: &str) -> MaskedText {
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for span in &self.0 {
            out.push_str(text.get(from..span.start).unwrap_or_default());
            out.push_str(STARS);
            from = span.end;
        }
        out.push_str(text.get(from..).unwrap_or_default());
        MaskedText { text: out, replaced: self.0.clone() }
    }
}

impl MaskedText {
    /// The span of the masked text that corresponds to a span of the original.
    pub fn moved(&self, span: Span) -> Span {
        let start = self.point(span.start, false);
        Span::new(start, self.point(span.end, true).max(start))
    }

    /// The column of a byte of the original text, from 1. None if nothing before it on its line was replaced.
    pub fn column(&self, text: &str, at: usize) -> Option<usize> {
        let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
        let first = self.replaced.partition_point(|span| span.end <= start);
        self.replaced.get(first).filter(|span| span.start < at)?;
        Some(text.get(start..at)?.chars().count() + 1)
    }

    fn point(&self, at: usize, end: bool) -> usize {
        let mut moved = at;
        for span in &self.replaced {
            if span.end <= at {
                moved = moved + STARS.len() - (span.end - span.start);
            } else if span.start < at {
                // Inside a replaced span: its begin or its end.
                moved = moved - (at - span.start) + if end { STARS.len() } else { 0 };
            }
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text::yaml;

    const KEYS: FileKeys =
        FileKeys { start: "", example: |_| None, named: &["sources", "sinks"], shown: &["mechanism"] };

    fn tree(text: &str) -> String {
        Mask::of_tree(text, &yaml::read(text, KEYS.start).unwrap(), &KEYS).apply(text).text
    }

    fn lines(text: &str) -> String {
        Mask::of_lines(text).apply(text).text
    }

    #[test]
    fn values_below_a_secret_key_are_masked_except_references() {
        assert_eq!(tree("password: hunter2"), "password: ***");
        assert_eq!(tree("a: { pasword: 'hunter2', mechanism: PLAIN }"), "a: { pasword: '***', mechanism: PLAIN }");
        assert_eq!(tree("sasl:\n  mechanism: PLAIN\n  x: [a, é]"), "sasl:\n  mechanism: PLAIN\n  x: [***, ***]");
        assert_eq!(tree("secret: |\n  hunter\n\n  two\nb: c"), "secret: |\n  ***\n\n  ***\nb: c");
        assert_eq!(tree("token: a ${B}c${D:-e}"), "token: *** ${B}***${D:-***}");
        assert_eq!(tree("sinks:\n  secret-sink: { stdout: x }"), "sinks:\n  secret-sink: { stdout: x }");
        assert_eq!(tree("token: a${b c}d"), "token: ***");
        assert_eq!(tree("topic: a\nkey: b"), "topic: a\nkey: b");
    }

    #[test]
    fn passwords_in_urls_are_masked_wherever_they_are() {
        for (text, masked) in [
            ("a: amqp://me:hunter2@host/", "a: amqp://me:***@host/"),
            ("a: amqp://me:hun/t@er2@host/", "a: amqp://me:***@host/"),
            ("# amqp://me:hunter2@host", "# amqp://me:***@host"),
            ("a: amqp://me:${P}@host", "a: amqp://me:${P}@host"),
            ("a: ${U:-amqp://me:hunter2@host}", "a: ${U:-amqp://me:***@host}"),
            ("a: [\"a://b:c@d\",\u{a0}a://e:f@g]", "a: [\"a://b:***@d\",\u{a0}a://e:***@g]"),
            ("a: https://host:8080/path", "a: https://host:8080/path"),
            ("a: { b: c://d@e/f?g=h&password=hun&ter=2, i: j }", "a: { b: c://d@e/f?g=h&password=***&ter=2, i: j }"),
            ("a: [c://d?x=${P}&token=${P}, e]", "a: [c://d?x=${P}&token=${P}, e]"),
        ] {
            assert_eq!(lines(text), masked);
        }
    }

    #[test]
    fn a_file_that_is_not_yaml_is_masked_by_its_lines() {
        assert_eq!(lines("a: b\n  secret:\n  - x\n   y\n  c: d"), "a: b\n  secret:\n  - ***\n   ***\n  c: d");
        assert_eq!(lines("a: { token: x, b: c }\nd: e"), "a: { token: ***\nd: e");
    }

    #[test]
    fn spans_are_moved_by_the_replacements_before_them() {
        let text = "password: hunter2, b";
        let masked = Mask::of_lines("password: hunter2\nb").apply("password: hunter2\nb");
        let b = text.find('b').unwrap() - 1;
        assert_eq!(masked.moved(Span::new(b, b + 1)), Span::new(14, 15));
        assert_eq!(masked.moved(Span::new(0, 8)), Span::new(0, 8));
        assert_eq!(masked.moved(Span::new(10, 17)), Span::new(10, 13));
        assert_eq!(masked.moved(Span::new(12, 14)), Span::new(10, 13));
    }
}
