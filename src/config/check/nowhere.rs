//! Events of which it is known before they come that no route matches them.

use std::collections::{BTreeMap, BTreeSet};

use super::meaning::{Steps, families_of};
use super::overlap::Overlap;
use super::source;
use crate::config::diagnostic::Diagnostic;
use crate::config::raw;
use crate::config::reader::Reader;
use crate::config::words::list;
use crate::event::{Family, Outcome};
use crate::rules::{Condition, Field, Glob, Rules, Unrouted};

/// So many tenants or sources are named in one message; of the others it says how many there are.
const NAMED: usize = 3;

/// Says which statuses, of which tenants that the file names, would all become dead letters. Where `unrouted:` says anything else,
/// that is meant.
pub(super) fn check(raw: &raw::Root, rules: &Rules, overlap: &Overlap, reader: &mut Reader<'_>, steps: &mut Steps<'_>) {
    let (Unrouted::DeadLetter, Some(unrouted)) = (rules.unrouted(), &raw.unrouted) else { return };
    let Some(nowhere) = nowhere(raw, rules, overlap, steps) else { return };
    for ((statuses, whose), names) in nowhere {
        let mut message = format!("no route is for {}", list(statuses));
        if let Some(whose) = whose {
            let (several, others) = (if names.len() > 1 { "s" } else { "" }, names.len().saturating_sub(NAMED));
            let named = list(names.iter().take(NAMED).map(String::as_str));
            let others = if others > 0 { format!(" and {others} others") } else { String::new() };
            message = format!("{message} of the {whose}{several} {named}{others}");
        }
        reader.report(
            Diagnostic::warning("no-route", unrouted.span, message)
                .label("each becomes a dead letter")
                .help("name them in a route; one with `to: []` drops what nobody needs"),
        );
    }
}

/// The names of tenants or of sources, by which of the two they are and by the statuses that go nowhere.
type Nowhere = BTreeMap<(Vec<&'static str>, Option<&'static str>), BTreeSet<String>>;

/// Whose responses with which statuses no route matches; none where finding out would take too long.
fn nowhere(raw: &raw::Root, rules: &Rules, overlap: &Overlap, steps: &mut Steps<'_>) -> Option<Nowhere> {
    let tenants = Tenants::of(rules);
    let mut nowhere = Nowhere::new();
    let sources: Vec<_> = raw.sources.iter().flat_map(|sources| &sources.value.0).collect();
    for (key, source) in &sources {
        for family in families_of(&source.value) {
            for (name, tenant) in origins(&key.text, &source.value, &tenants) {
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
                    nowhere.entry((missing, whose)).or_default().insert(who);
                }
            }
        }
    }
    Some(nowhere)
}

/// The names of the sources that an entry stands for, each with every tenant of it that is known: none where none is.
fn origins<'a>(key: &str, source: &'a raw::Source, named: &Tenants<'a>) -> Vec<(String, Option<&'a str>)> {
    if let Some(own) = &source.tenants {
        let names = source::each(key, source).into_iter().map(|(name, _)| name);
        return names.zip(own.value.0.iter().map(|tenant| Some(tenant.value.text.as_str()))).collect();
    }
    if named.of.is_empty() {
        return vec![(key.to_owned(), None)];
    }
    named.of.keys().map(|tenant| (key.to_owned(), Some(*tenant))).collect()
}

/// All events like this one.
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

/// Which routes are for a tenant that they name, and which may be for any.
struct Tenants<'a> {
    of: BTreeMap<&'a str, Vec<usize>>,
    any: Vec<usize>,
}

impl<'a> Tenants<'a> {
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

    /// Whether a route may match some of these events; none where there are no steps left to find out.
    fn any_matches(
        &self,
        events: &Condition,
        tenant: Option<&str>,
        rules: &Rules,
        overlap: &Overlap,
        steps: &mut Steps<'_>,
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
