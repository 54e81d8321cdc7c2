//! Routes, compiled: from [`Event`] to [`Plan`].
//!
//! This module knows nothing of YAML, brokers or sinks beyond their names. A plan is fixed when the event is received.

mod because;
mod condition;
mod glob;
mod index;
mod names;
#[cfg(test)]
mod tests;

pub use condition::{Condition, Field};
pub use glob::Glob;
pub use names::{RouteName, SinkIndex, SinkName};

use foldhash::HashMap;

use crate::event::{Event, ExpressionError, Message, Reason, Scope, Transform};
use index::Index;

/// All routes of a configuration, from the top.
#[derive(Debug, Clone)]
pub struct Rules {
    routes: Vec<Route>,
    by_name: HashMap<RouteName, usize>,
    index: Index,
    unrouted: Unrouted,
}

/// One route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name: in metrics, logs and `explain`.
    pub name: RouteName,
    /// When it matches.
    pub when: Condition,
    /// Where its events go; empty drops them on purpose.
    pub to: Vec<SinkIndex>,
    /// What its sinks see changed.
    pub transform: Option<Transform>,
    /// No later route is looked at once this one matched.
    pub is_final: bool,
}

/// What becomes of events that no route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrouted {
    /// Counted and forgotten.
    Drop,
    /// A dead letter, reason `unrouted`.
    DeadLetter,
    /// These sinks get them.
    Sinks(Vec<SinkIndex>),
}

/// Where one event goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every route that matched, by its place in [`Rules::routes`].
    pub matched: Vec<usize>,
    /// Each sink once, by the first route that names it; `None`: `unrouted:` names it.
    pub deliveries: Vec<(SinkIndex, Option<usize>)>,
    /// Routes whose `if:` could not be evaluated, and why: they didn't match.
    pub failed: Vec<(usize, ExpressionError)>,
    /// No route matched, and none failed.
    pub unrouted: bool,
}

impl Rules {
    /// These routes, in the order of the file, and what becomes of an event that none of them matches.
    #[must_use]
    pub fn new(routes: Vec<Route>, unrouted: Unrouted) -> Self {
        let index = Index::of(&routes);
        let by_name = routes.iter().enumerate().map(|(place, route)| (route.name.clone(), place)).collect();
        Self { routes, by_name, index, unrouted }
    }

    /// In the order of the file.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The one of that name.
    #[must_use]
    pub fn route(&self, name: &RouteName) -> Option<&Route> {
        self.routes.get(*self.by_name.get(name)?)
    }

    /// What becomes of an event that no route matches.
    #[must_use]
    pub fn unrouted(&self) -> &Unrouted {
        &self.unrouted
    }

    /// Where that event goes: to the sinks of every route that matches, from the top, until a final one.
    #[must_use]
    pub fn plan(&self, event: &Event, message: &Message) -> Plan {
        let mut plan = Plan::default();
        for (place, matches) in self.index.matching(Scope::of(event, message)) {
            if let Err(error) = matches {
                plan.failed.push((place, error));
                continue;
            }
            let Some(route) = self.routes.get(place) else { continue };
            plan.matched.push(place);
            plan.add(&route.to, Some(place));
            if route.is_final {
                break;
            }
        }
        if plan.matched.is_empty() && plan.failed.is_empty() {
            plan.unrouted = true;
            if let Unrouted::Sinks(sinks) = &self.unrouted {
                plan.add(sinks, None);
            }
        }
        plan
    }
}

impl Plan {
    /// Why the event can't be routed at all: a route's `if:` could not be evaluated, and no other route took it.
    #[must_use]
    pub fn rule_error(&self, rules: &Rules) -> Option<String> {
        let (place, error) = self.failed.first().filter(|_| self.matched.is_empty())?;
        Some(format!("`if:` of the route {}: {error}", rules.routes.get(*place)?.name))
    }

    /// Why an event that goes nowhere is a dead letter, if it is one.
    #[must_use]
    pub fn why_dead(&self, rules: &Rules) -> Option<(Reason, String)> {
        if let Some(detail) = self.rule_error(rules) {
            return Some((Reason::RuleError, detail));
        }
        let is_dead = self.unrouted && rules.unrouted == Unrouted::DeadLetter;
        is_dead.then(|| (Reason::Unrouted, "no route matches, and `unrouted:` is dead_letter".to_owned()))
    }

    fn add(&mut self, sinks: &[SinkIndex], route: Option<usize>) {
        for sink in sinks {
            if !self.deliveries.iter().any(|(known, _)| known == sink) {
                self.deliveries.push((*sink, route));
            }
        }
    }
}
