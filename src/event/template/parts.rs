//! A template as texts and expressions, for whoever describes what it renders.

use super::Fragment;
use super::simple::OPENINGS;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePart {
    Text(String),
    /// The text of a `${…}`.
    Inserted(String),
    /// What is between `{{` and `}}`; `…` is in the place of a `${…}` in it.
    Expression(String),
}

/// An expression whose end has not been read.
#[derive(Default)]
struct OpenExpression {
    text: String,
    quote: Option<char>,
    escaped: bool,
}

/// None if the template has blocks or comments.
pub(super) fn of(fragments: &[Fragment]) -> Option<Vec<TemplatePart>> {
    let mut parts = Vec::new();
    let mut open: Option<OpenExpression> = None;
    for Fragment { text, is_inserted } in fragments {
        match &mut open {
            Some(expression) if *is_inserted => expression.text.push('…'),
            None if *is_inserted => parts.push(TemplatePart::Inserted(text.clone())),
            _ => of_written(text, &mut open, &mut parts)?,
        }
    }
    open.is_none().then_some(parts)
}

fn of_written(text: &str, open: &mut Option<OpenExpression>, parts: &mut Vec<TemplatePart>) -> Option<()> {
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(mut expression) = open.take() {
            let Some(end) = expression.end(rest) else {
                *open = Some(expression);
                return Some(());
            };
            parts.push(TemplatePart::Expression(expression.text.trim_matches(['-', '+']).trim().to_owned()));
            rest = rest.get(end..)?;
            continue;
        }
        let start = OPENINGS.iter().filter_map(|opening| rest.find(opening)).min().unwrap_or(rest.len());
        let (before, after) = rest.split_at_checked(start)?;
        if !before.is_empty() {
            parts.push(TemplatePart::Text(before.to_owned()));
        }
        rest = after;
        if !rest.is_empty() {
            rest = rest.strip_prefix("{{")?;
            *open = Some(OpenExpression::default());
        }
    }
    Some(())
}

impl OpenExpression {
    /// Takes the text of the expression; gives the place after its end, if the end is there.
    fn end(&mut self, rest: &str) -> Option<usize> {
        for (at, char) in rest.char_indices() {
            match self.quote {
                None if rest.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Some(at + 2),
                None if matches!(char, '"' | '\'') => self.quote = Some(char),
                Some(quote) if char == quote && !self.escaped => self.quote = None,
                Some(_) | None => {}
            }
            self.escaped = char == '\\' && !self.escaped && self.quote.is_some();
            self.text.push(char);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_texts_and_expressions() {
        let text = |text: &str| TemplatePart::Text(text.to_owned());
        let expression = |text: &str| TemplatePart::Expression(text.to_owned());
        let written = |source: &str| of(&[Fragment::written(source)]);
        assert_eq!(written("fixed"), Some(vec![text("fixed")]));
        assert_eq!(written("a.{{ tenant }}"), Some(vec![text("a."), expression("tenant")]));
        assert_eq!(
            written("{{- session | default('}}\\'') -}}{{x}}{y}"),
            Some(vec![expression("session | default('}}\\'')"), expression("x"), text("{y}")])
        );
        for source in ["{% if session %}x{% endif %}", "{# no #}x", "{{ open", "x{{ tenant }}{% raw %}{{{% endraw %}"] {
            assert_eq!(written(source), None, "{source}");
        }
        let fragments = [
            Fragment::inserted("{{ no }}"),
            Fragment::written(".{{ session | default(\""),
            Fragment::inserted("secret\" }}"),
            Fragment::written("\") }}"),
        ];
        let inserted = TemplatePart::Inserted("{{ no }}".to_owned());
        assert_eq!(of(&fragments), Some(vec![inserted, text("."), expression("session | default(\"…\")")]));
    }
}
