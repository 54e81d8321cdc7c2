//! Templates of text and fields of the event only, such as `regards.{{ tenant }}`.
//!
//! The result is exactly that of minijinja (a test compares both), but many times faster.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Fragment, TemplateError, null_error};
use crate::event::EventView;
use crate::event::schema::{EventSchema, TextField};

/// The beginnings of an expression, a block and a comment.
pub(super) const OPENINGS: [&str; 3] = ["{{", "{%", "{#"];

pub(super) struct SimpleTemplate(Vec<Piece>);

enum Piece {
    Text(String),
    Field(TextField),
}

impl SimpleTemplate {
    /// None if the template needs minijinja, or has an unknown name, which is reported there.
    pub(super) fn of(fragments: &[Fragment], schema: &EventSchema) -> Option<Self> {
        let mut pieces = Vec::new();
        for (at, Fragment { text, is_inserted }) in fragments.iter().enumerate() {
            if *is_inserted {
                push_text(&mut pieces, text);
                continue;
            }
            // Like minijinja, leave out one line break at the end.
            let is_last = at + 1 == fragments.len();
            let source = text.strip_suffix('\n').filter(|_| is_last).unwrap_or(text);
            let source = source.strip_suffix('\r').filter(|_| is_last).unwrap_or(source);
            parse_written(source, schema, &mut pieces)?;
        }
        Some(Self(pieces))
    }

    #[cfg(test)]
    pub(super) fn parse(source: &str, schema: &EventSchema) -> Option<Self> {
        Self::of(&[Fragment::written(source)], schema)
    }

    pub(super) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    pub(super) fn render(&self, view: EventView<'_>) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => out.push_str(&field.of(&view).unwrap_or_default()),
            }
        }
        out
    }

    pub(super) fn render_with_topic(&self, topic: &str) -> Option<String> {
        self.0
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => Some(text.as_str()),
                Piece::Field(field) => (*field == TextField::Topic).then_some(topic),
            })
            .collect()
    }

    pub(super) fn nullable(&self, schema: &EventSchema) -> Vec<String> {
        let mut names: Vec<_> =
            self.fields().filter(|field| schema.can_be_null(*field)).map(|field| field.name().to_owned()).collect();
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
        self.fields().map(TextField::name)
    }

    fn fields(&self) -> impl Iterator<Item = TextField> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Field(field) => Some(*field),
            Piece::Text(_) => None,
        })
    }

    pub(super) fn render_key(&self, view: EventView<'_>) -> Option<String> {
        let is_fixed = self.fields().next().is_none() && !self.0.is_empty();
        (is_fixed || self.fields().any(|field| field.of(&view).is_some())).then(|| self.render(view))
    }

    pub(super) fn render_address(&self, view: EventView<'_>) -> Result<String, TemplateError> {
        self.render_each(view, String::push_str)
    }

    pub(super) fn render_url(&self, view: EventView<'_>) -> Result<String, TemplateError> {
        self.render_each(view, percent_encode)
    }

    fn render_each(&self, view: EventView<'_>, push: fn(&mut String, &str)) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Field(field) => {
                    push(&mut out, &field.of(&view).ok_or_else(|| null_error(field.name()))?);
                }
            }
        }
        Ok(out)
    }
}

fn parse_written(source: &str, schema: &EventSchema, pieces: &mut Vec<Piece>) -> Option<()> {
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
        pieces.push(Piece::Field(schema.field(expression.trim_matches([' ', '\t', '\n', '\r']))?));
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

/// Appends `value` percent-encoded, except RFC 3986's unreserved characters.
pub(crate) fn percent_encode(out: &mut String, value: &str) {
    const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    out.extend(utf8_percent_encode(value, RESERVED));
}
