//! An index of routes by tenant and status: with routes for ten thousand tenants, an event costs only as much as the routes of its
//! own tenant.

use foldhash::{HashMap, HashSet};

use super::{Condition, Field, Glob, Route};
use crate::event::{EventView, ExpressionError};

/// The largest number of pairs of tenant and status that one route is indexed by. With more, it is indexed by tenants only.
const MAX_PAIRS: usize = 4096;

#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    by_tenant: HashMap<String, RoutesByStatus>,
    any_tenant: RoutesByStatus,
    /// The part of each route's condition that the index doesn't check.
    rest: Vec<Condition>,
}

/// Indices of routes by status, each list in the order of the file.
#[derive(Debug, Clone, Default)]
struct RoutesByStatus {
    by_status: HashMap<String, Vec<usize>>,
    any_status: Vec<usize>,
}

impl Index {
    pub(super) fn of(routes: &[Route]) -> Self {
        let mut index = Self::default();
        for (position, route) in routes.iter().enumerate() {
            let mut rest = route.when.clone();
            let tenants = take_literals(&mut rest, Field::Tenant, usize::MAX);
            let max = MAX_PAIRS / tenants.as_ref().map_or(1, HashSet::len).max(1);
            let statuses = take_literals(&mut rest, Field::Status, max);
            match tenants {
                Some(tenants) => {
                    for tenant in tenants {
                        index.by_tenant.entry(tenant).or_default().add(statuses.as_ref(), position);
                    }
                }
                None => index.any_tenant.add(statuses.as_ref(), position),
            }
            index.rest.push(rest);
        }
        index
    }

    /// The indices of all routes that match or whose `if:` fails, in the order of the file.
    pub(super) fn matching(&self, view: EventView<'_>) -> impl Iterator<Item = (usize, Result<(), ExpressionError>)> {
        let event = view.event;
        let [mut first, mut second] = self.any_tenant.lists(event.status);
        let [mut third, mut fourth] =
            self.by_tenant.get(&*event.tenant).map_or([&[][..]; 2], |of| of.lists(event.status));
        let candidates = std::iter::from_fn(move || {
            let lists = [&mut first, &mut second, &mut third, &mut fourth];
            let list = lists.into_iter().filter(|list| !list.is_empty()).min_by_key(|list| list.first().copied())?;
            list.split_off_first().copied()
        });
        candidates.filter_map(move |position| match self.rest.get(position)?.matches(view) {
            Ok(matches) => matches.then_some((position, Ok(()))),
            Err(error) => Some((position, Err(error))),
        })
    }
}

impl RoutesByStatus {
    fn add(&mut self, statuses: Option<&HashSet<String>>, position: usize) {
        match statuses {
            Some(statuses) => {
                for status in statuses {
                    self.by_status.entry(status.clone()).or_default().push(position);
                }
            }
            None => self.any_status.push(position),
        }
    }

    fn lists(&self, status: &str) -> [&[usize]; 2] {
        [&self.any_status, self.by_status.get(status).map_or(&[], Vec::as_slice)]
    }
}

/// Takes the texts out of a condition that the field must be equal to. None if the condition has wildcards or nothing for the
/// field, or more than `max` texts.
fn take_literals(condition: &mut Condition, field: Field, max: usize) -> Option<HashSet<String>> {
    let place = condition.fields.iter().position(|(of, globs)| *of == field && globs.iter().all(Glob::is_literal))?;
    let literals: HashSet<String> =
        condition.fields.get(place)?.1.iter().map(|glob| glob.as_str().to_owned()).collect();
    if literals.len() > max {
        return None;
    }
    condition.fields.remove(place);
    Some(literals)
}
