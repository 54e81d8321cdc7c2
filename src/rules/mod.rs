//! Compiled routes: from [`Event`] to [`Plan`].
//!
//! This module knows nothing of YAML and brokers, and of sinks only their names. The plan of an event is made once, when its
//! message is received.

mod alert;
mod condition;
mod explain;
mod glob;
mod index;
mod names;
#[cfg(test)]
mod tests;

pub use alert::{Alert, AlertName, Overdue, Trigger, in_words};
pub use condition::{Condition, Field};
pub use glob::Glob;
pub use names::{RouteName, SinkIndex, SinkName};

use foldhash::HashMap;

use crate::event::{Event, EventView, ExpressionError, Message, Reason, Transform};
use index::Index;

/// The routes of a configuration in their order, and `unrouted:`.
#[derive(Debug, Clone)]
pub struct Rules {
    routes: Vec<Route>,
    by_name: HashMap<RouteName, usize>,
    index: Index,
    unrouted: Unrouted,
}

#[derive(Debug, Clone)]
pub struct Route {
    pub name: RouteName,
    pub when: Condition,
    /// Empty drops the event on purpose.
    pub to: Vec<SinkIndex>,
    pub transform: Option<Transform>,
    /// If this route matches, later routes are not evaluated.
    pub is_final: bool,
}

/// What happens to an event that no route matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrouted {
    /// The event is counted and dropped.
    Drop,
    /// The event becomes a dead letter with the reason `unrouted`.
    DeadLetter,
    Sinks(Vec<SinkIndex>),
}

/// The deliveries of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The routes that match, as indices of [`Rules::routes`].
    pub matched: Vec<usize>,
    /// Each sink once, with the first route that leads to it; none for `unrouted:`.
    pub deliveries: Vec<(SinkIndex, Option<usize>)>,
    /// The routes whose `if:` could not be evaluated. They count as not matching.
    pub failed: Vec<(usize, ExpressionError)>,
    /// No route matches, and none failed.
    pub unrouted: bool,
}

impl Rules {
    /// `routes` are in the order of the file.
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

    #[must_use]
    pub fn route(&self, name: &RouteName) -> Option<&Route> {
        self.routes.get(*self.by_name.get(name)?)
    }

    #[must_use]
    pub fn unrouted(&self) -> &Unrouted {
        &self.unrouted
    }

    /// Plans an event for the sinks of every route that matches, from the top, up to the first final one.
    #[must_use]
    pub fn plan(&self, event: &Event, message: &Message) -> Plan {
        let mut plan = Plan::default();
        for (place, matches) in self.index.matching(EventView::of(event, message)) {
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
    /// Why the event can't be routed: the `if:` of a route could not be evaluated, and no other route matches.
    #[must_use]
    pub fn rule_error(&self, rules: &Rules) -> Option<String> {
        let (place, error) = self.failed.first().filter(|_| self.matched.is_empty())?;
        Some(format!("`if:` of the route {}: {error}", rules.routes.get(*place)?.name))
    }

    /// Why the event becomes a dead letter, if it does.
    #[must_use]
    pub fn dead_letter_reason(&self, rules: &Rules) -> Option<(Reason, String)> {
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
