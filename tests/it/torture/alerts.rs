//! The alerts that the topic of the sink `alarms` received, reduced while they are read: which requests were raised and
//! resolved, and whether in that order.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use super::plan::{Plan, key_of};
use super::taken::Kept;

/// The alert that watches the requests of the plan's silent tenants. Another one watches all requests, and is never
/// raised: no run takes as long as its limit.
pub const ALERT: &str = "silent";

/// The received alerts.
#[derive(Debug, Default)]
pub struct Alerts {
    keys: HashMap<u32, Pairs>,
    /// Copies of an event beyond the first.
    pub duplicates: u64,
    /// Requests that were raised before their time was over.
    pub early: Kept<u32>,
    /// Alerts about no request of the plan that an alert may watch.
    pub invented: Kept<String>,
}

/// What was said about the request of one key.
#[derive(Debug, Default)]
pub struct Pairs {
    raised: Vec<Notice>,
    resolved: Vec<Notice>,
    /// A RESOLVED came before the RAISED of the same moment.
    pub is_out_of_order: bool,
}

impl Pairs {
    /// How often the request was raised, copies not counted.
    pub fn raised(&self) -> usize {
        self.raised.len()
    }

    pub fn resolved(&self) -> usize {
        self.resolved.len()
    }
}

/// One event of an alert: both of a pair have the same `since`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub id: String,
    pub since: String,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    tenant: Cow<'a, str>,
    #[serde(borrow, rename = "correlationId")]
    correlation_id: Cow<'a, str>,
    #[serde(borrow)]
    extra: Extra<'a>,
}

#[derive(Deserialize)]
struct Extra<'a> {
    #[serde(borrow)]
    alert: Cow<'a, str>,
    #[serde(borrow)]
    since: Cow<'a, str>,
}

impl Body<'_> {
    /// The key of the request, whether it is raised, and the rest. None: no alert may say that.
    fn notice(self, plan: Plan) -> Option<(u32, bool, Notice)> {
        let key = key_of(&self.correlation_id).filter(|&key| plan.watched(key).is_some())?;
        let is_raised = match &*self.status {
            "RAISED" => true,
            "RESOLVED" => false,
            _ => return None,
        };
        let notice = Notice { id: self.id.into_owned(), since: self.extra.since.into_owned() };
        (self.extra.alert == ALERT && self.tenant == plan.tenant(key)).then_some((key, is_raised, notice))
    }
}

impl Alerts {
    /// Records the next body. `is_early`: less time than the limit has passed since the request of that key was
    /// published.
    pub fn take_body(&mut self, plan: Plan, body: &[u8], is_early: impl Fn(u32) -> bool) {
        let read = serde_json::from_slice::<Body<'_>>(body).ok();
        let Some((key, is_raised, notice)) = read.and_then(|read| read.notice(plan)) else {
            return self.invented.push(String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned());
        };
        if is_raised && is_early(key) {
            self.early.push(key);
        }
        self.take(key, is_raised, notice);
    }

    /// Records the next copy of an event.
    pub fn take(&mut self, key: u32, is_raised: bool, notice: Notice) {
        let Pairs { raised, resolved, is_out_of_order } = self.keys.entry(key).or_default();
        if !is_raised && !raised.iter().any(|raised| raised.since == notice.since) {
            *is_out_of_order = true;
        }
        let same = if is_raised { raised } else { resolved };
        if same.iter().any(|known| known.id == notice.id) {
            self.duplicates += 1;
        } else {
            same.push(notice);
        }
    }

    pub fn of(&self, key: u32) -> Option<&Pairs> {
        self.keys.get(&key)
    }

    /// The keys of all requests about which there is an alert.
    pub fn keys(&self) -> impl Iterator<Item = u32> {
        self.keys.keys().copied()
    }
}
