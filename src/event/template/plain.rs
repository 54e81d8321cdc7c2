//! Templates that are texts and fields of the event in turn, such as `regards.{{ tenant }}`: rendered by joining them.
//!
//! They mean exactly what minijinja makes of them (a test compares both), many times faster.

use super::{Fragment, TemplateError, is_null};
use crate::event::vocabulary::{Field, Scope, Vocabulary};

/// What begins an expression, a block, a comment.
pub(super) const OPENINGS: [&str; 3] = ["{{", "{%", "{#"];

/// A template of texts and fields.
pub(super) struct Plain(Vec<Piece>);

enum Piece {
    Text(String),
    Field(Field),
}

impl Plain {
    /// None where it takes more than that, and where a name isn't known: minijinja's way then says what is wrong.
    pub(super) fn of(fragments: &[Fragment], vocabulary: &Vocabulary) -> Option<Self> {
        let mut pieces = Vec::new();
        for (at, Fragment { text, is_inserted }) in fragments.iter().enumerate() {
            if *is_inserted {
                push_text(&mut pieces, text);
                continue;
            }
            // As minijinja does, one line break at the end is left out.
            let is_last = at + 1 == fragments.len();
            let source = text.strip_suffix('\n').filter(|_| is_last).unwrap_or(text);
            let source = source.strip_suffix('\r').filter(|_| is_last).unwrap_or(source);
            parse_written(source, vocabulary, &mut pieces)?;
        }
        Some(Self(pieces))
    }

    #[cfg(test)]
    pub(super) fn parse(source: &str, vocabulary: &Vocabulary) -> Option<Self> {
        Self::of(&[Fragment::written(source)], vocabulary)
    }

    pub(super) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn render(&self, scope: Scope<'_>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => out.push_str(&field.of(&scope).unwrap_or_default()),
            }
        }
        out
    }

    pub(super) fn nullable(&self, vocabulary: &Vocabulary) -> Vec<String> {
        let mut names: Vec<_> =
            self.fields().filter(|field| vocabulary.can_be_null(*field)).map(|field| field.name().to_owned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Field(_) => None,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields().map(Field::name)
    }

    fn fields(&self) -> impl Iterator<Item = Field> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(*field),
            Piece::Text(_) => None,
        })
    }

    pub(super) fn render_key(&self, scope: Scope<'_>) -> Option<String> {
        let is_fixed = self.fields().next().is_none() && !self.0.is_empty();
        (is_fixed || self.fields().any(|field| field.of(&scope).is_some())).then(|| self.render(scope))
    }

    pub(super) fn render_address(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        self.render_each(scope, String::push_str)
    }

    pub(super) fn render_url(&self, scope: Scope<'_>) -> Result<String, TemplateError> {
        self.render_each(scope, percent_encode)
    }

    fn render_each(&self, scope: Scope<'_>, push: fn(&mut String, &str)) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => {
                    push(&mut out, &field.of(&scope).ok_or_else(|| is_null(field.name()))?);
                }
            }
        }
        Ok(out)
    }
}

fn parse_written(source: &str, vocabulary: &Vocabulary, pieces: &mut Vec<Piece>) -> Option<()> {
    let mut rest = source;
    while let Some((text, after)) = rest.split_once('{') {
        if after.starts_with(['%', '#']) {
            return None;
        }
        let Some(after) = after.strip_prefix('{') else {
            let (text, after) = rest.split_at_checked(text.len() + 1)?;
            push_text(pieces, text);
            rest = after;
            continue;
        };
        let (expression, after) = after.split_once("}}")?;
        push_text(pieces, text);
        pieces.push(Piece::Field(vocabulary.field(expression.trim_matches([' ', '\t', '\n', '\r']))?));
        rest = after;
    }
    push_text(pieces, rest);
    Some(())
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// Appends `value` with everything but RFC 3986's unreserved characters percent-encoded.
pub(in crate::event) fn percent_encode(out: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase();
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}
