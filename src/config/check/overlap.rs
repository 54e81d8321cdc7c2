//! Whether two conditions can match the same event, and whether one matches all that the other does.
//!
//! Conditions are compared as they are written, without events. If the result is uncertain, it is the one with fewer warnings.

use crate::event::Family;
use crate::rules::{Condition, Field, Glob};

/// Limit of the steps of each check that compares routes with each other: with ten thousand routes it would take too long.
const MAX_STEPS: usize = 100_000_000;

/// The values that events can have.
pub(super) struct Overlap {
    /// The possible combinations of type, status and outcome.
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

    /// Whether no event matches the condition, although events match each part of it.
    pub fn contradicts_itself(&self, when: &Condition) -> bool {
        let each_is_known = [Field::Type, Field::Status, Field::Outcome].into_iter().all(|field| {
            let mut values = self.known.iter().flatten().filter(|(of, _)| *of == field);
            values.any(|(_, value)| matches(patterns(when, field), value))
        });
        (each_is_known && !self.any_known(&[when])) || when.not.iter().any(|block| implies(when, block))
    }

    /// Whether some combination of type, status and outcome matches all of these conditions.
    fn any_known(&self, all: &[&Condition]) -> bool {
        self.known.iter().any(|known| {
            all.iter().all(|when| known.iter().all(|(field, value)| matches(patterns(when, *field), value)))
        })
    }

    /// Whether it is possible that no event matches both. Different `if:` count as excluding each other.
    pub fn disjoint(&self, one: &Condition, other: &Condition) -> bool {
        !self.any_known(&[one, other])
            || (one.expression.is_some() && other.expression.is_some() && one.expression != other.expression)
            || one.fields.iter().any(|(field, globs)| {
                patterns(other, *field).is_some_and(|others| {
                    globs.iter().all(|one| others.iter().all(|other| exclude_each_other(one, other)))
                })
            })
            || one.not.iter().any(|block| implies(other, block))
            || other.not.iter().any(|block| implies(one, block))
    }
}

/// Whether the other condition certainly matches every event that the one matches.
pub(super) fn implies(one: &Condition, other: &Condition) -> bool {
    other.fields.iter().all(|(field, globs)| {
        patterns(one, *field).is_some_and(|ones| ones.iter().all(|one| globs.iter().any(|other| covers(other, one))))
    }) && other.not.iter().all(|block| one.not.iter().any(|mine| implies(block, mine)))
        && (other.expression.is_none() || other.expression == one.expression)
}

/// The cost of comparing a condition: the bytes of all its patterns.
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

/// Whether `wide` matches every text that `narrow` matches.
fn covers(wide: &Glob, narrow: &Glob) -> bool {
    // If the wide pattern matches `*` as a character, it matches every text that the `*` matches. This does not hold for `?`.
    wide.as_str() == narrow.as_str()
        || (!narrow.as_str().contains('?') && wide.matches(narrow.as_str()) && has_no_question_mark(wide))
}

/// Without `?`, a pattern can be compared with another pattern as with a text.
fn has_no_question_mark(glob: &Glob) -> bool {
    !glob.as_str().contains('?')
}

fn exclude_each_other(one: &Glob, other: &Glob) -> bool {
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

/// The number of steps that comparisons may still take.
pub(super) struct StepBudget<'a> {
    /// The cost of comparing each route.
    weights: &'a [usize],
    left: usize,
}

impl<'a> StepBudget<'a> {
    pub fn new(weights: &'a [usize]) -> Self {
        Self { weights, left: MAX_STEPS }
    }

    /// Takes the cost of comparing two routes. False if too few steps are left.
    pub fn spend(&mut self, one: usize, other: usize) -> bool {
        self.take(self.weight(one).saturating_mul(self.weight(other))).is_some()
    }

    /// Takes the cost of one route. None if too few steps are left.
    pub fn spend_on(&mut self, one: usize) -> Option<()> {
        self.take(self.weight(one))
    }

    fn weight(&self, at: usize) -> usize {
        self.weights.get(at).copied().unwrap_or(usize::MAX)
    }

    fn take(&mut self, steps: usize) -> Option<()> {
        self.left = self.left.checked_sub(steps)?;
        Some(())
    }
}
