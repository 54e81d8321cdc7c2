//! CEL expressions, in `if:` and in `cel:`.

use crate::config::text::decode::At;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::lookalike;
use crate::config::text::reader::Reader;
use crate::config::text::scalar::Text;
use crate::event::{CompiledExpression, Expression, Finding};

/// Compiles an expression, and reports its mistakes and warnings.
pub(super) fn compile(
    at: &At<Text>,
    compile: fn(&str) -> Result<CompiledExpression, Vec<Finding>>,
    reader: &mut Reader<'_>,
) -> Option<Expression> {
    if at.value.inserted {
        let message = "`${…}` inserts a text, which is not allowed in an expression";
        reader.report(
            Diagnostic::error("expression", at.span, message)
                .help("write the value itself; a field of `when:` may have one, as in `tenant: ${TENANT}`"),
        );
        return None;
    }
    match compile(&at.value.text) {
        Ok(checked) => {
            for Finding { word, message, help } in checked.warnings {
                let span = reader.word_in(at.span, &word);
                reader.report(Diagnostic::warning("nullable-operand", span, message).help(help));
            }
            Some(checked.expression)
        }
        Err(errors) => {
            if let Some(found) = lookalike::in_code(reader.text, at.span, false) {
                reader.report(found.error("expression"));
                return None;
            }
            for Finding { word, message, help } in errors {
                let span = reader.word_in(at.span, &word);
                reader.report(Diagnostic::error("expression", span, message).help(help));
            }
            None
        }
    }
}
