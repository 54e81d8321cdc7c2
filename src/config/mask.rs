//! What of a file must never be shown: passwords, secrets, tokens, and the passwords in URLs.
//!
//! Where the file could be read as YAML, whatever stands below a key that speaks of a secret is masked; where it couldn't, the
//! rest of such a line and the deeper lines after it. `${…}` stays readable, but for a default in it: it says where the
//! secret comes from, not what it is.

use super::yaml::{Kind, Node, Span};

/// What stands for a secret.
const STARS: &str = "***";
/// Parts of keys that speak of secrets.
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
/// Words that people misspell.
const OFTEN_MISSPELT: [&str; 4] = ["password", "secret", "bearer", "token"];
/// Longer than any of them with a slip in it, in bytes: comparing would only take time.
const MAX_MISSPELT: usize = 16;
/// Keys below those that are no secret themselves, and say much in a mistake.
const PLAIN_KEYS: [&str; 2] = ["mechanism", "sasl.mechanism"];

/// The places of a file that must not be shown.
#[derive(Debug, Default)]
pub(super) struct Mask(Vec<Span>);

/// A text with its secrets replaced.
pub(super) struct Masked {
    pub text: String,
    replaced: Vec<Span>,
}

impl Mask {
    /// Of a file that was read.
    pub fn of_tree(text: &str, root: &Node) -> Self {
        let mut mask = Self::default();
        mask.root(text, root);
        mask.userinfo(text);
        mask.sorted()
    }

    /// Of a file that is not YAML.
    pub fn of_lines(text: &str) -> Self {
        let mut mask = Self::default();
        mask.lines(text);
        mask.userinfo(text);
        mask.sorted()
    }

    /// Whether something there is masked.
    pub fn touches(&self, span: Span) -> bool {
        self.0.iter().any(|masked| masked.start < span.end && span.start < masked.end)
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

    /// The names of sources and sinks are nobody's secret, whatever they are.
    fn root(&mut self, text: &str, root: &Node) {
        let Kind::Mapping(entries) = &root.kind else { return self.tree(text, root, false) };
        for (key, value) in entries {
            match &value.kind {
                Kind::Mapping(named) if matches!(key.text.as_str(), "sources" | "sinks") => {
                    named.iter().for_each(|(_, value)| self.tree(text, value, false));
                }
                _ => self.tree(text, value, is_secret(&key.text)),
            }
        }
    }

    fn tree(&mut self, text: &str, node: &Node, secret: bool) {
        match &node.kind {
            Kind::Scalar(_) if secret && !node.is_null() => self.but_references(text, node.span),
            Kind::Scalar(_) => {}
            Kind::Sequence(items) => items.iter().for_each(|item| self.tree(text, item, secret)),
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    let below = (secret && !PLAIN_KEYS.contains(&key.text.as_str())) || is_secret(&key.text);
                    self.tree(text, value, below);
                }
            }
        }
    }

    /// Masks a range, but for its quotes and for the `${…}` in it.
    fn but_references(&mut self, text: &str, span: Span) {
        let Some(mut rest) = text.get(span.start..span.end) else { return };
        let mut at = span.start;
        for quote in ['"', '\''] {
            if rest.len() >= 2 && rest.starts_with(quote) && rest.ends_with(quote) {
                rest = &rest[1..rest.len() - 1];
                at += 1;
            }
        }
        while !rest.is_empty() {
            let (literal, reference) = match rest.find("${").and_then(|open| Some((open, rest[open..].find('}')?))) {
                Some((open, length)) => (open, length + 1),
                None => (rest.len(), 0),
            };
            self.0.push(Span::new(at, at + literal));
            if let Some(default) = rest[literal..literal + reference].find(":-") {
                self.0.push(Span::new(at + literal + default + 2, at + literal + reference - 1));
            }
            at += literal + reference;
            rest = &rest[literal + reference..];
        }
    }

    /// Passwords in URLs, wherever they are: from the first colon after `://` to the last `@` of the same word.
    fn userinfo(&mut self, text: &str) {
        for (scheme, _) in text.match_indices("://") {
            let start = scheme + 3;
            let rest = &text[start..];
            let word =
                rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')).map_or(rest, |end| &rest[..end]);
            if let Some((userinfo, _)) = word.rsplit_once('@')
                && let Some((user, _)) = userinfo.split_once(':')
            {
                self.but_references(text, Span::new(start + user.len() + 1, start + userinfo.len()));
            }
        }
    }

    /// Line by line: from a key that speaks of a secret to the end of its line, and all deeper lines after it.
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
            if below.is_some() {
                self.but_references(text, Span::new(start + indent.min(content.len()), span.end));
            } else if let Some(value) = secret_value(content) {
                below = Some(indent);
                self.but_references(text, Span::new(start + value, span.end));
            }
            start += line.len();
        }
    }
}

/// Where on the line the value of a secret key begins.
fn secret_value(line: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(colon) = line[from..].find(':') {
        let at = from + colon;
        let key = line[..at].rsplit([' ', '{', ',', '[', '"', '\'']).find(|word| !word.is_empty()).unwrap_or_default();
        if is_secret(key) {
            let value = &line[at + 1..];
            return Some(at + 1 + (value.len() - value.trim_start().len()));
        }
        from = at + 1;
    }
    None
}

/// Whether a key speaks of a secret.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
        || (key.len() <= MAX_MISSPELT && OFTEN_MISSPELT.iter().any(|word| strsim::osa_distance(word, &key) <= 2))
}

impl Mask {
    /// The text as it may be shown.
    pub fn apply(&self, text: &str) -> Masked {
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for span in &self.0 {
            out.push_str(text.get(from..span.start).unwrap_or_default());
            out.push_str(STARS);
            from = span.end;
        }
        out.push_str(text.get(from..).unwrap_or_default());
        Masked { text: out, replaced: self.0.clone() }
    }
}

impl Masked {
    /// Where a place of the text is now.
    pub fn moved(&self, span: Span) -> Span {
        let start = self.point(span.start, false);
        Span::new(start, self.point(span.end, true).max(start))
    }

    fn point(&self, at: usize, end: bool) -> usize {
        let mut moved = at;
        for span in &self.replaced {
            if span.end <= at {
                moved = moved + STARS.len() - (span.end - span.start);
            } else if span.start < at {
                // Inside what was replaced: its begin or its end.
                moved = moved - (at - span.start) + if end { STARS.len() } else { 0 };
            }
        }
        moved
    }
}
