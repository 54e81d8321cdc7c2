//! Warns of events that no route can match.

use std::collections::{BTreeMap, BTreeSet};

use super::overlap::{Overlap, StepBudget};
use super::source::{self, families_of};
use crate::config::raw;
use crate::config::text::diagnostic::Diagnostic;
use crate::config::text::reader::Reader;
use crate::config::text::words::list;
use crate::event::{Family, Outcome};
use crate::rules::{Condition, Field, Glob, Rules, Unrouted};

/// The largest number of tenants or sources that a message names; it counts the others.
const NAMED: usize = 3;

/// Warns of statuses, and of tenants in the file, whose events would all become dead letters. With any other value of
/// `unrouted:` the events are handled as the user has chosen.
pub(super) fn check(
    raw: &raw::Root,
    rules: &Rules,
    overlap: &Overlap,
    reader: &mut Reader<'_>,
    steps: &mut StepBudget<'_>,
) {
    let (Unrouted::DeadLetter, Some(unrouted)) = (rules.unrouted(), &raw.unrouted) else { return };
    let Some(unmatched) = unmatched(raw, rules, overlap, steps) else { return };
    for ((statuses, whose), names) in unmatched {
        let mut message = format!("no route matches {}", list(statuses));
        if let Some(whose) = whose {
            let (several, others) = (if names.len() > 1 { "s" } else { "" }, names.len().saturating_sub(NAMED));
            let named = list(names.iter().take(NAMED).map(String::as_str));
            let others = if others > 0 { format!(" and {others} others") } else { String::new() };
            message = format!("{message} of the {whose}{several} {named}{others}");
        }
        reader.report(
            Diagnostic::warning("no-route", unrouted.span, message)
                .label("each becomes a dead letter")
                .help("add a route for them; a route with `to: []` drops events that are not needed"),
        );
    }
}

/// The names of tenants or sources, by the statuses that no route matches and by their kind (tenant or source).
type UnmatchedStatuses = BTreeMap<(Vec<&'static str>, Option<&'static str>), BTreeSet<String>>;

/// The statuses that no route matches. None if finding out would take too long.
fn unmatched(
    raw: &raw::Root,
    rules: &Rules,
    overlap: &Overlap,
    steps: &mut StepBudget<'_>,
) -> Option<UnmatchedStatuses> {
    let tenants = RoutesByTenant::of(rules);
    let mut unmatched = UnmatchedStatuses::new();
    let sources: Vec<_> = raw.sources.iter().flat_map(|sources| &sources.value.0).collect();
    for (key, source) in &sources {
        for family in families_of(&source.value) {
            for (name, tenant) in sources_with_tenants(&key.text, &source.value, &tenants) {
                let mut missing = Vec::new();
                for (status, outcome) in family.statuses {
                    let events = event(&name, family, status, *outcome, tenant);
                    if !tenants.any_matches(&events, tenant, rules, overlap, steps)? {
                        missing.push(*status);
                    }
                }
                let (whose, who) = match tenant {
                    Some(tenant) => (Some("tenant"), tenant.to_owned()),
                    None if sources.len() > 1 => (Some("source"), name),
                    None => (None, String::new()),
                };
                if !missing.is_empty() {
                    unmatched.entry((missing, whose)).or_default().insert(who);
                }
            }
        }
    }
    Some(unmatched)
}

/// The sources of an entry, each with its known tenants. None is any tenant.
fn sources_with_tenants<'a>(
    key: &str,
    source: &'a raw::Source,
    named: &RoutesByTenant<'a>,
) -> Vec<(String, Option<&'a str>)> {
    if let Some(own) = &source.tenants {
        let names = source::expand(key, source).into_iter().map(|(name, _)| name);
        return names.zip(own.value.0.iter().map(|tenant| Some(tenant.value.text.as_str()))).collect();
    }
    if named.of.is_empty() {
        return vec![(key.to_owned(), None)];
    }
    named.of.keys().map(|tenant| (key.to_owned(), Some(*tenant))).collect()
}

/// A condition for all events with these values.
fn event(source: &str, family: &Family, status: &str, outcome: Outcome, tenant: Option<&str>) -> Condition {
    let known = [
        (Field::Source, source),
        (Field::Type, family.kind),
        (Field::Status, status),
        (Field::Outcome, outcome.as_str()),
    ];
    let known = known.into_iter().chain(tenant.map(|tenant| (Field::Tenant, tenant)));
    let fields = known.map(|(field, value)| (field, vec![Glob::new(value)])).collect();
    Condition { fields, ..Condition::default() }
}

/// The routes by the tenants they name; and those that may match any tenant.
struct RoutesByTenant<'a> {
    of: BTreeMap<&'a str, Vec<usize>>,
    any: Vec<usize>,
}

impl<'a> RoutesByTenant<'a> {
    fn of(rules: &'a Rules) -> Self {
        let mut tenants = Self { of: BTreeMap::new(), any: Vec::new() };
        for (place, route) in rules.routes().iter().enumerate() {
            let globs = route.when.fields.iter().find(|(field, _)| *field == Field::Tenant).map(|(_, globs)| globs);
            match globs.filter(|globs| globs.iter().all(Glob::is_literal)) {
                Some(globs) => {
                    for glob in globs {
                        tenants.of.entry(glob.as_str()).or_default().push(place);
                    }
                }
                None => tenants.any.push(place),
            }
        }
        tenants
    }

    /// Whether a route may match some of these events. None if there are too few steps left to find out.
    fn any_matches(
        &self,
        events: &Condition,
        tenant: Option<&str>,
        rules: &Rules,
        overlap: &Overlap,
        steps: &mut StepBudget<'_>,
    ) -> Option<bool> {
        let own = tenant.and_then(|tenant| self.of.get(tenant)).into_iter().flatten();
        for &place in own.chain(&self.any) {
            steps.spend_on(place)?;
            if rules.routes().get(place).is_some_and(|route| !overlap.disjoint(&route.when, events)) {
                return Some(true);
            }
        }
        Some(false)
    }
}
