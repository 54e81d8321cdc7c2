//! Statements on watched requests and raised alerts.

use std::borrow::Cow;
use std::collections::HashSet;

use tokio_postgres::{Error, Row};

use super::signed;

use crate::clock::{ClockBase, MonotonicTime, WallTime};
use crate::event::AlertRequest;
use crate::failpoints::Failpoint;
use crate::postgres::Connection;
use crate::postgres::PostgresError;
use crate::rules::{AlertName, SinkName};
use crate::spool::outcome::EndOutcome;
use crate::spool::postgres::rows::{optional_text, text, unsigned};
use crate::spool::postgres::text::{escape, escape_optional};
use crate::spool::request::{
    DueKind, DueRequests, RequestEvent, RequestId, RequestState, RequestStep, Watch, WatchedRequest, sinks_of_json,
};

/// Requests are removed or taken over from another boot in batches of this size.
const UPKEEP_BATCH: i64 = 5_000;

/// Each of the new requests, unless it is there already for the same alert, or has ended.
const INSERT: &str = "INSERT INTO requests (request, alert, state, boot, due, tenant, correlation_id, product_id, session, expires, \
                      status, received, time_limit) \
                      SELECT request, alert, $1, $2, due, tenant, correlation_id, product_id, session, expires, status, received, time_limit \
                      FROM unnest($4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], \
                      $12::text[], $13::bigint[], $14::text[]) new (request, alert, due, tenant, correlation_id, product_id, session, \
                      expires, status, received, time_limit) \
                      WHERE NOT EXISTS (SELECT 1 FROM requests known WHERE known.request = new.request AND known.tenant = new.tenant \
                      AND known.correlation_id = new.correlation_id AND known.alert IN (new.alert, '') AND $3) \
                      RETURNING request, alert";

/// A request that an alert is to watch; without an alert: an end that came before its request.
struct NewRequest<'a> {
    event: &'a RequestEvent,
    alert: &'a str,
    limit: &'a str,
    due: MonotonicTime,
}

/// Overdue requests that have ended: their ids, and the event that ended each.
#[derive(Default)]
struct Resolved<'a> {
    ids: Vec<i64>,
    statuses: Vec<Cow<'a, str>>,
    received: Vec<i64>,
}

impl<'a> Resolved<'a> {
    fn push(&mut self, id: i64, event: &'a RequestEvent) {
        self.ids.push(id);
        self.statuses.push(escape(&event.status));
        self.received.push(event.received.0);
    }
}

impl Connection {
    /// Watches requests, each by an alert. One whose end was there before is not watched, and none twice by the same alert. Returns of which
    /// that is true from now on. No request of one hash may be among them twice.
    pub(in crate::spool::postgres) async fn open_requests(
        &self,
        watches: &[(&RequestEvent, &Watch)],
    ) -> Result<Vec<bool>, PostgresError> {
        let new = watches.iter().map(|(event, watch)| NewRequest {
            event,
            alert: watch.alert.as_str(),
            limit: &watch.limit,
            due: watch.due,
        });
        self.insert_requests(&new.collect::<Vec<_>>(), RequestState::Open).await
    }

    async fn insert_requests(&self, new: &[NewRequest<'_>], state: RequestState) -> Result<Vec<bool>, PostgresError> {
        if new.is_empty() {
            return Ok(Vec::new());
        }
        macro_rules! column {
            (|$new:ident| $value:expr) => {
                new.iter().map(|$new| $value).collect::<Vec<_>>()
            };
        }
        let inserted = self
            .rows(
                INSERT,
                &[
                    &(state as i64),
                    &ClockBase::now().boot,
                    &!Failpoint::OpenRequestsAgain.is_enabled(),
                    &column!(|new| new.event.hash()),
                    &column!(|new| new.alert),
                    &column!(|new| new.due.0),
                    &column!(|new| escape(&new.event.request.tenant)),
                    &column!(|new| escape(&new.event.request.correlation_id)),
                    &column!(|new| escape_optional(new.event.request.product_id.as_deref())),
                    &column!(|new| escape_optional(new.event.request.session.as_deref())),
                    &column!(|new| escape_optional(new.event.request.expires.as_deref())),
                    &column!(|new| escape(&new.event.status)),
                    &column!(|new| new.event.received.0),
                    &column!(|new| new.limit),
                ],
            )
            .await?;
        let inserted: HashSet<(i64, String)> =
            self.decode(&inserted, |row| Ok((row.try_get(0)?, row.try_get(1)?)))?.into_iter().collect();
        Ok(column!(|new| inserted.contains(&(new.event.hash(), new.alert.to_owned()))))
    }

    /// Ends requests, each for all alerts that watch it. If none does, the end is remembered until the given time, if any. No request of
    /// one hash may be among them twice.
    pub(in crate::spool::postgres) async fn end_requests(
        &self,
        ends: &[(&RequestEvent, Option<MonotonicTime>)],
    ) -> Result<Vec<EndOutcome>, PostgresError> {
        let mut found = vec![Vec::new(); ends.len()];
        for (place, watched) in self.find_requests(ends).await? {
            if let Some(found) = found.get_mut(place) {
                found.push(watched);
            }
        }
        let (mut removed, mut resolved, mut early) = (Vec::new(), Resolved::default(), Vec::new());
        let mut outcomes = Vec::with_capacity(ends.len());
        for ((event, forget), found) in ends.iter().zip(found) {
            if found.is_empty() {
                early.extend(forget.map(|due| NewRequest { event, alert: "", limit: "", due }));
                outcomes.push(forget.map_or(EndOutcome::Unchanged, |_| EndOutcome::Early));
                continue;
            }
            let mut ended = Vec::new();
            for (id, alert, state) in found {
                match RequestState::of_number(state) {
                    Some(RequestState::Open) => {
                        removed.push(id);
                        ended.push((AlertName::new(&alert), RequestState::Open));
                    }
                    Some(RequestState::Overdue) => {
                        resolved.push(id, event);
                        ended.push((AlertName::new(&alert), RequestState::Overdue));
                    }
                    _ => {}
                }
            }
            outcomes.push(if ended.is_empty() { EndOutcome::Unchanged } else { EndOutcome::Ended(ended) });
        }
        if !removed.is_empty() {
            self.execute("DELETE FROM requests WHERE id = ANY($1)", &[&removed]).await?;
        }
        self.resolve(&resolved).await?;
        self.insert_requests(&early, RequestState::EndedEarly).await?;
        Ok(outcomes)
    }

    /// Each watch of a request that ends, with the request's place among them: its id, its alert and its state.
    async fn find_requests(
        &self,
        ends: &[(&RequestEvent, Option<MonotonicTime>)],
    ) -> Result<Vec<(usize, (i64, String, i64))>, PostgresError> {
        let find = "SELECT place - 1, id, alert, state \
                    FROM unnest($1::bigint[], $2::text[], $3::text[]) WITH ORDINALITY ended (request, tenant, correlation_id, place) \
                    JOIN requests USING (request, tenant, correlation_id) ORDER BY place, id";
        let hashes: Vec<i64> = ends.iter().map(|(event, _)| event.hash()).collect();
        let tenants: Vec<_> = ends.iter().map(|(event, _)| escape(&event.request.tenant)).collect();
        let correlation_ids: Vec<_> = ends.iter().map(|(event, _)| escape(&event.request.correlation_id)).collect();
        let found = self.rows(find, &[&hashes, &tenants, &correlation_ids]).await?;
        self.decode(&found, |row| {
            let place = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(usize::MAX);
            Ok((place, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))
        })
    }

    /// Makes overdue requests due: their alerts are to be resolved.
    async fn resolve(&self, resolved: &Resolved<'_>) -> Result<(), PostgresError> {
        if resolved.ids.is_empty() {
            return Ok(());
        }
        let update = "UPDATE requests SET state = $1, boot = $2, due = $3, status = ended.status, received = ended.received \
                      FROM unnest($4::bigint[], $5::text[], $6::bigint[]) ended (id, status, received) \
                      WHERE requests.id = ended.id";
        let (state, boot, now) = (RequestState::Ended as i64, ClockBase::now().boot, MonotonicTime::now().0);
        let Resolved { ids, statuses, received } = resolved;
        self.execute(update, &[&state, &boot, &now, ids, statuses, received]).await.map(drop)
    }

    /// Forgets the ends that will be forgotten first anyway.
    pub(in crate::spool::postgres) async fn forget_oldest_early_ends(&self, count: u64) -> Result<(), PostgresError> {
        let forget = "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE state = 3 ORDER BY due LIMIT $1)";
        self.execute(forget, &[&signed(count)]).await.map(drop)
    }

    /// The requests that are due by `now`, at most `limit`, and when the next one is due. Those of another boot are left out.
    pub(in crate::spool::postgres) async fn due_requests(
        &self,
        kind: DueKind,
        now: MonotonicTime,
        limit: usize,
    ) -> Result<DueRequests, PostgresError> {
        // Without an upper bound, the second one would read all open requests in search of others.
        let (which, until) = match kind {
            DueKind::All => ("due <= $2", MonotonicTime(i64::MAX)),
            DueKind::Ended => ("due <= $2 AND state <> 0", now),
        };
        let select = format!(
            "SELECT id, alert, state, due, tenant, correlation_id, product_id, session, expires, status, received, time_limit, overdue, \
             receivers FROM requests WHERE boot = $1 AND {which} ORDER BY due LIMIT $3"
        );
        let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let rows = self.rows(&select, &[&ClockBase::now().boot, &until.0, &most]).await?;
        let mut due = DueRequests { requests: Vec::new(), next: None };
        for (at, request) in self.decode(&rows, watched_request)? {
            if at > now || due.requests.len() >= limit {
                due.next = Some(at);
                break;
            }
            due.requests.extend(request);
        }
        Ok(due)
    }

    /// Does a step with a request that is still in that state. False: it no longer is, and nothing changes.
    pub(in crate::spool::postgres) async fn advance_request(
        &self,
        id: RequestId,
        from: RequestState,
        step: RequestStep,
        receivers: &[&SinkName],
    ) -> Result<bool, PostgresError> {
        let from = from as i64;
        let changed = match step {
            RequestStep::Raise { overdue } => {
                let raise = "UPDATE requests SET state = $3, due = NULL, overdue = $4, receivers = $5 WHERE id = $1 AND state = $2";
                let receivers: Vec<_> = receivers.iter().map(|sink| sink.as_str()).collect();
                let receivers = serde_json::Value::from(receivers).to_string();
                self.execute(raise, &[&id.0, &from, &(RequestState::Overdue as i64), &overdue.0, &receivers]).await?
            }
            RequestStep::Forget => {
                self.execute("DELETE FROM requests WHERE id = $1 AND state = $2", &[&id.0, &from]).await?
            }
        };
        Ok(changed > 0)
    }

    /// Removes the open requests of these alerts, and makes the overdue ones due as if they had ended: at most a batch of each. Returns
    /// them.
    pub(in crate::spool::postgres) async fn remove_requests(
        &self,
        alerts: &[AlertName],
    ) -> Result<Vec<(AlertName, RequestState)>, PostgresError> {
        let mut removed = Vec::new();
        let mut note = |alert: &AlertName, state, count: u64| {
            removed.extend(std::iter::repeat_n((alert.clone(), state), usize::try_from(count).unwrap_or(0)));
        };
        for alert in alerts {
            let end = "UPDATE requests SET state = 2, boot = $3, due = $4 WHERE id IN \
                       (SELECT id FROM requests WHERE alert = $1 AND state = 1 LIMIT $2)";
            let (boot, now) = (ClockBase::now().boot, MonotonicTime::now().0);
            let ended = self.execute(end, &[&alert.as_str(), &UPKEEP_BATCH, &boot, &now]).await?;
            note(alert, RequestState::Overdue, ended);
            let delete =
                "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE alert = $1 AND state = 0 LIMIT $2)";
            note(alert, RequestState::Open, self.execute(delete, &[&alert.as_str(), &UPKEEP_BATCH]).await?);
        }
        Ok(removed)
    }

    /// Counts the due times of requests of another boot in this one, at most a batch. By `jump` the wall clock is ahead of
    /// [`MonotonicTime`]. Returns whether there may be more.
    pub(in crate::spool::postgres) async fn adopt_requests(&self, jump: i64) -> Result<bool, PostgresError> {
        let adopt = "UPDATE requests SET boot = $1, due = due - $2 WHERE id IN \
                     (SELECT id FROM requests WHERE boot < $1 OR boot > $1 LIMIT $3)";
        Ok(self.execute(adopt, &[&ClockBase::now().boot, &jump, &UPKEEP_BATCH]).await? > 0)
    }

    /// How many requests there are, by alert and state.
    pub(in crate::spool::postgres) async fn count_requests(
        &self,
    ) -> Result<Vec<(AlertName, RequestState, u64)>, PostgresError> {
        let count = "SELECT alert, state, count(*) FROM requests GROUP BY alert, state";
        let rows = self.rows(count, &[]).await?;
        let counted = self.decode(&rows, |row| {
            Ok((AlertName::new(row.try_get(0)?), RequestState::of_number(row.try_get(1)?), unsigned(row, 2)?))
        })?;
        Ok(counted.into_iter().filter_map(|(alert, state, count)| Some((alert, state?, count))).collect())
    }

    /// When the first request of this boot is due.
    pub(in crate::spool::postgres) async fn next_due_request(&self) -> Result<Option<MonotonicTime>, PostgresError> {
        let next = "SELECT due FROM requests WHERE boot = $1 AND due IS NOT NULL ORDER BY due LIMIT 1";
        let next = self.rows(next, &[&ClockBase::now().boot]).await?;
        Ok(self.decode(&next, |row| row.try_get(0).map(MonotonicTime))?.pop())
    }

    /// Stores that an alert is raised; `None`: that it is not.
    pub(in crate::spool::postgres) async fn save_alert(
        &self,
        alert: &AlertName,
        subject: &str,
        state: Option<&str>,
    ) -> Result<(), PostgresError> {
        let saved = if let Some(state) = state {
            let save = "INSERT INTO raised_alerts (alert, subject, state) VALUES ($1, $2, $3) \
                            ON CONFLICT (alert, subject) DO UPDATE SET state = excluded.state";
            self.execute(save, &[&alert.as_str(), &escape(subject), &escape(state)]).await
        } else {
            let delete = "DELETE FROM raised_alerts WHERE alert = $1 AND subject = $2";
            self.execute(delete, &[&alert.as_str(), &escape(subject)]).await
        };
        saved.map(drop)
    }

    /// The raised alerts: name, subject and state as JSON.
    pub(in crate::spool::postgres) async fn raised_alerts(
        &self,
    ) -> Result<Vec<(AlertName, String, String)>, PostgresError> {
        let raised = self.rows("SELECT alert, subject, state FROM raised_alerts", &[]).await?;
        self.decode(&raised, |row| Ok((AlertName::new(row.try_get(0)?), text(row, 1)?, text(row, 2)?)))
    }
}

/// When it is due; without the request if its state is one that only a later version knows.
fn watched_request(row: &Row) -> Result<(MonotonicTime, Option<WatchedRequest>), Error> {
    let due = MonotonicTime(row.try_get(3)?);
    let Some(state) = RequestState::of_number(row.try_get(2)?) else { return Ok((due, None)) };
    let request = AlertRequest {
        tenant: text(row, 4)?.into(),
        correlation_id: text(row, 5)?,
        product_id: optional_text(row, 6)?,
        session: optional_text(row, 7)?,
        expires: optional_text(row, 8)?,
    };
    let watched = WatchedRequest {
        id: RequestId(row.try_get(0)?),
        alert: AlertName::new(row.try_get(1)?),
        state,
        event: RequestEvent { request, status: text(row, 9)?, received: WallTime(row.try_get(10)?) },
        due,
        limit: row.try_get(11)?,
        overdue: row.try_get::<_, Option<i64>>(12)?.map(WallTime),
        receivers: row.try_get::<_, Option<&str>>(13)?.map(sinks_of_json).unwrap_or_default(),
    };
    Ok((due, Some(watched)))
}
