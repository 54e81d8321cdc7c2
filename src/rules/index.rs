//! Which routes an event can match, found by its tenant and status: among the routes of ten thousand tenants, an event costs what
//! its own tenant's do.

use foldhash::{HashMap, HashSet};

use super::{Condition, Field, Glob, Route};
use crate::event::{ExpressionError, Scope};

/// One route has at most so many pairs of tenant and status of its own here; one that names more has its statuses looked at.
const MAX_PAIRS: usize = 4096;

/// Routes by the tenants and statuses that they name.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    of_tenant: HashMap<String, Statuses>,
    of_any: Statuses,
    /// What is left to look at of each route that was found here.
    rest: Vec<Condition>,
}

/// Routes by status, each list in the order of the file.
#[derive(Debug, Clone, Default)]
struct Statuses {
    of_status: HashMap<String, Vec<usize>>,
    of_any: Vec<usize>,
}

impl Index {
    pub(super) fn of(routes: &[Route]) -> Self {
        let mut index = Self::default();
        for (place, route) in routes.iter().enumerate() {
            let mut rest = route.when.clone();
            let tenants = take_literals(&mut rest, Field::Tenant, usize::MAX);
            let most = MAX_PAIRS / tenants.as_ref().map_or(1, HashSet::len).max(1);
            let statuses = take_literals(&mut rest, Field::Status, most);
            match tenants {
                Some(tenants) => {
                    for tenant in tenants {
                        index.of_tenant.entry(tenant).or_default().add(statuses.as_ref(), place);
                    }
                }
                None => index.of_any.add(statuses.as_ref(), place),
            }
            index.rest.push(rest);
        }
        index
    }

    /// The places of all routes that match, or for which that can't be said, in the order of the file.
    pub(super) fn matching(&self, scope: Scope<'_>) -> impl Iterator<Item = (usize, Result<(), ExpressionError>)> {
        let event = scope.event;
        let [mut first, mut second] = self.of_any.lists(event.status);
        let [mut third, mut fourth] =
            self.of_tenant.get(&*event.tenant).map_or([&[][..]; 2], |of| of.lists(event.status));
        let candidates = std::iter::from_fn(move || {
            let lists = [&mut first, &mut second, &mut third, &mut fourth];
            let list = lists.into_iter().filter(|list| !list.is_empty()).min_by_key(|list| list.first().copied())?;
            list.split_off_first().copied()
        });
        candidates.filter_map(move |place| match self.rest.get(place)?.matches(scope) {
            Ok(matches) => matches.then_some((place, Ok(()))),
            Err(error) => Some((place, Err(error))),
        })
    }
}

impl Statuses {
    fn add(&mut self, statuses: Option<&HashSet<String>>, place: usize) {
        match statuses {
            Some(statuses) => {
                for status in statuses {
                    self.of_status.entry(status.clone()).or_default().push(place);
                }
            }
            None => self.of_any.push(place),
        }
    }

    fn lists(&self, status: &str) -> [&[usize]; 2] {
        [&self.of_any, self.of_status.get(status).map_or(&[], Vec::as_slice)]
    }
}

/// The texts that a condition wants that field to be one of, without them from then on; none where it has a wildcard for it,
/// nothing at all, or more than that.
fn take_literals(condition: &mut Condition, field: Field, most: usize) -> Option<HashSet<String>> {
    let place = condition.fields.iter().position(|(of, globs)| *of == field && globs.iter().all(Glob::is_literal))?;
    let literals: HashSet<String> =
        condition.fields.get(place)?.1.iter().map(|glob| glob.as_str().to_owned()).collect();
    if literals.len() > most {
        return None;
    }
    condition.fields.remove(place);
    Some(literals)
}
