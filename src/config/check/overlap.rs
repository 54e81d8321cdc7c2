//! Whether two conditions can match the same event, and whether one matches all that the other does.
//!
//! Both answers err on the side of silence or of a warning, as the caller needs it: conditions are compared as they are
//! written, not by what events there are.

use crate::event::Family;
use crate::rules::{Condition, Field, Glob};

/// What is known of the values that events can have.
pub(super) struct Overlap {
    /// What goes together of an event's type, status and outcome.
    known: Vec<[(Field, &'static str); 3]>,
}

impl Overlap {
    pub fn of(families: &[&'static Family]) -> Self {
        let of_family = |family: &&'static Family| {
            let kind = family.kind;
            family.statuses.iter().map(move |(status, outcome)| {
                [(Field::Type, kind), (Field::Status, *status), (Field::Outcome, outcome.as_str())]
            })
        };
        Self { known: families.iter().flat_map(of_family).collect() }
    }

    /// No event matches, though each part of the condition has some that match it.
    pub fn contradicts_itself(&self, when: &Condition) -> bool {
        let each_is_known = [Field::Type, Field::Status, Field::Outcome].into_iter().all(|field| {
            let mut values = self.known.iter().flatten().filter(|(of, _)| *of == field);
            values.any(|(_, value)| matches(patterns(when, field), value))
        });
        (each_is_known && !self.any_known(&[when])) || when.not.iter().any(|block| implies(when, block))
    }

    /// Whether an event's type, status and outcome can be such that all of these match.
    fn any_known(&self, all: &[&Condition]) -> bool {
        self.known.iter().any(|known| {
            all.iter().all(|when| known.iter().all(|(field, value)| matches(patterns(when, *field), value)))
        })
    }

    /// No event matches both, for all that can be said: two `if:` may exclude each other.
    pub fn disjoint(&self, one: &Condition, other: &Condition) -> bool {
        !self.any_known(&[one, other])
            || (one.expression.is_some() && other.expression.is_some() && one.expression != other.expression)
            || one.fields.iter().any(|(field, globs)| {
                patterns(other, *field)
                    .is_some_and(|others| globs.iter().all(|one| others.iter().all(|other| never_both(one, other))))
            })
            || one.not.iter().any(|block| implies(other, block))
            || other.not.iter().any(|block| implies(one, block))
    }
}

/// Every event that the one matches is matched by the other, for certain.
pub(super) fn implies(one: &Condition, other: &Condition) -> bool {
    other.fields.iter().all(|(field, globs)| {
        patterns(one, *field).is_some_and(|ones| ones.iter().all(|one| globs.iter().any(|other| covers(other, one))))
    }) && other.not.iter().all(|block| one.not.iter().any(|mine| implies(block, mine)))
        && (other.expression.is_none() || other.expression == one.expression)
}

/// What comparing a condition takes: the bytes of all its patterns.
pub(super) fn weight(when: &Condition) -> usize {
    let own: usize = when.fields.iter().flat_map(|(_, globs)| globs).map(|glob| glob.as_str().len() + 1).sum();
    let expression = when.expression.as_ref().map_or(0, |expression| expression.source().len());
    1 + own + expression + when.not.iter().map(weight).sum::<usize>()
}

fn patterns(when: &Condition, field: Field) -> Option<&[Glob]> {
    when.fields.iter().find(|(known, _)| *known == field).map(|(_, globs)| globs.as_slice())
}

fn matches(globs: Option<&[Glob]>, text: &str) -> bool {
    globs.is_none_or(|globs| globs.iter().any(|glob| glob.matches(text)))
}

/// Every text that `narrow` matches is matched by `wide`.
fn covers(wide: &Glob, narrow: &Glob) -> bool {
    // A `*` that the wide one takes as text stands for all that it could be; `?` is no more than one character.
    wide.as_str() == narrow.as_str()
        || (!narrow.as_str().contains('?') && wide.matches(narrow.as_str()) && starred(wide))
}

/// Only `*` in it: then matching a pattern as if it were text says that all its matches match.
fn starred(glob: &Glob) -> bool {
    !glob.as_str().contains('?')
}

fn never_both(one: &Glob, other: &Glob) -> bool {
    let (a, b) = (one.as_str(), other.as_str());
    let wild = |text: &str| text.contains(['*', '?']);
    match (wild(a), wild(b)) {
        (false, _) => !other.matches(a),
        (_, false) => !one.matches(b),
        _ => {
            let start = |text: &str| text.split(['*', '?']).next().unwrap_or_default().to_owned();
            let end = |text: &str| text.rsplit(['*', '?']).next().unwrap_or_default().to_owned();
            let (sa, sb, ea, eb) = (start(a), start(b), end(a), end(b));
            !(sa.starts_with(&sb) || sb.starts_with(&sa)) || !(ea.ends_with(&eb) || eb.ends_with(&ea))
        }
    }
}
