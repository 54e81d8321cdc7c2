//! Which branch of a union a value takes. JSON doesn't say it: the first branch that the value fits takes it, those of the value's
//! own type before those that need a conversion.

use super::encode::Encoder;
use super::{Type, TypeId};
use crate::event::encoding::misfit::Misfit;
use crate::event::encoding::number;
use crate::event::encoding::varint::write_length;
use crate::event::json_value::JsonValue;

/// How well a value fits a branch; the lowest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// 0: of the value's own type; more: by a conversion.
    conversion: u8,
    /// The members of an object that the branch would leave out.
    left_out: usize,
}

impl Encoder<'_> {
    pub(super) fn union(
        &mut self,
        id: TypeId,
        branches: &[TypeId],
        value: &JsonValue<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Misfit> {
        let fits = branches.iter().enumerate();
        let fits = fits.filter_map(|(index, branch)| Some((fit(self.schema.get(*branch), value)?, index, *branch)));
        let mut candidates: Vec<(Fit, usize, TypeId)> = fits.collect();
        candidates.sort_by_key(|(fit, index, _)| (*fit, *index));
        let before = out.len();
        let mut first_misfit = None;
        for (_, index, branch) in &candidates {
            write_length(*index, out);
            match self.encode(*branch, value, out) {
                Ok(()) => return Ok(()),
                Err(misfit) => {
                    out.truncate(before);
                    if !self.count_wrong_branch() {
                        return Err(Misfit::new("a value with too many alternatives", "one that is recognized sooner"));
                    }
                    first_misfit.get_or_insert(misfit);
                }
            }
        }
        match (first_misfit, candidates.as_slice()) {
            // Only one branch can be meant: the place within it helps more.
            (Some(misfit), [_]) => Err(misfit),
            _ => Err(Misfit::of(value, self.schema.describe(id))),
        }
    }
}

/// None: a value of that type can never be encoded as the branch.
fn fit(branch: &Type, value: &JsonValue<'_>) -> Option<Fit> {
    let fit = |conversion| Some(Fit { conversion, left_out: 0 });
    match (branch, value) {
        (Type::Null, JsonValue::Null)
        | (Type::Boolean, JsonValue::Bool(_))
        | (Type::Decimal { .. } | Type::BigDecimal, JsonValue::Number(_))
        | (Type::String, JsonValue::Text(_))
        | (Type::Array(_), JsonValue::List(_))
        | (Type::Map(_), JsonValue::Map(_)) => fit(0),
        (Type::Int | Type::Long, JsonValue::Number(raw)) => fit(u8::from(raw.contains(['.', 'e', 'E']))),
        (Type::Float | Type::Double, JsonValue::Number(raw)) => fit(u8::from(number::integer(raw).is_some())),
        (Type::Enum { symbols, .. }, JsonValue::Text(text)) => {
            if symbols.iter().any(|symbol| symbol == text) {
                fit(0)
            } else {
                None
            }
        }
        (
            Type::Date | Type::Time(_) | Type::Timestamp(_) | Type::LocalTimestamp(_),
            JsonValue::Number(_) | JsonValue::Text(_),
        )
        | (Type::Uuid(_) | Type::Decimal { .. } | Type::BigDecimal, JsonValue::Text(_)) => fit(1),
        (Type::Bytes | Type::Fixed { .. }, JsonValue::Text(_)) => fit(2),
        (Type::Record { fields, .. }, JsonValue::Map(members)) => {
            let has_field = |name: &str| fields.iter().any(|field| field.name == name);
            let left_out = members.iter().filter(|(name, _)| !has_field(name)).count();
            Some(Fit { conversion: 0, left_out })
        }
        _ => None,
    }
}
