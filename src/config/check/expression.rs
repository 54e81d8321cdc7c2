//! Expressions in CEL, wherever they stand.

use crate::config::decode::At;
use crate::config::diagnostic::Diagnostic;
use crate::config::odd;
use crate::config::reader::Reader;
use crate::config::scalar::Text;
use crate::event::{CompiledExpression, Expression, Finding};

/// A checked expression; what is wrong with it, or may be, is said.
pub(super) fn compile(
    at: &At<Text>,
    compile: fn(&str) -> Result<CompiledExpression, Vec<Finding>>,
    reader: &mut Reader<'_>,
) -> Option<Expression> {
    if at.value.inserted {
        let message = "with what `${…}` stands for, this is not an expression: what is inserted is a text";
        reader.report(
            Diagnostic::error("expression", at.span, message)
                .help("write it out: it is no secret; a field of `when:`, as `tenant: ${TENANT}`, can be inserted"),
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
            if let Some(odd) = odd::in_code(reader.text, at.span, false) {
                reader.report(odd.error("expression"));
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
