//! Statements on watched requests and raised alerts.

use tokio_postgres::{Error, Row};

use crate::clock::{ClockBase, MonotonicTime, WallTime};
use crate::event::AlertRequest;
use crate::failpoints::Failpoint;
use crate::postgres::PostgresError;
use crate::rules::{AlertName, SinkName};
use crate::spool::outcome::EndOutcome;
use crate::spool::postgres::connection::Connection;
use crate::spool::postgres::rows::{optional_text, text, unsigned};
use crate::spool::postgres::text::{escape, escape_optional};
use crate::spool::request::{
    DueKind, DueRequests, RequestEvent, RequestId, RequestState, RequestStep, Watch, WatchedRequest, request_hash,
    sinks_of_json,
};

/// Requests are removed or taken over from another boot in batches of this size.
const UPKEEP_BATCH: i64 = 5_000;

impl Connection {
    /// Watches a request, unless its end was there before, or the alert watches it already. Returns whether it does so from now on.
    pub(in crate::spool::postgres) async fn open_request(
        &self,
        event: &RequestEvent,
        watch: &Watch,
    ) -> Result<bool, PostgresError> {
        self.insert_request(event, (watch.alert.as_str(), &watch.limit), RequestState::Open, watch.due).await
    }

    async fn insert_request(
        &self,
        event: &RequestEvent,
        (alert, limit): (&str, &str),
        state: RequestState,
        due: MonotonicTime,
    ) -> Result<bool, PostgresError> {
        let AlertRequest { tenant, correlation_id, product_id, session, expires } = &event.request;
        let insert = "INSERT INTO requests (request, alert, state, boot, due, tenant, correlation_id, product_id, session, expires, \
                      status, received, time_limit) \
                      SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13 WHERE NOT EXISTS (SELECT 1 FROM requests \
                      WHERE request = $1 AND tenant = $6 AND correlation_id = $7 AND alert IN ($2, '') AND $14)";
        let looks = !Failpoint::OpenRequestsAgain.is_enabled();
        let inserted = self
            .execute(
                insert,
                &[
                    &request_hash(tenant, correlation_id),
                    &alert,
                    &(state as i64),
                    &ClockBase::now().boot,
                    &due.0,
                    &escape(tenant),
                    &escape(correlation_id),
                    &escape_optional(product_id.as_deref()),
                    &escape_optional(session.as_deref()),
                    &escape_optional(expires.as_deref()),
                    &escape(&event.status),
                    &event.received.0,
                    &limit,
                    &looks,
                ],
            )
            .await?;
        Ok(inserted > 0)
    }

    /// Ends a request for all alerts that watch it. If none does, the end is remembered until `forget`, if given.
    pub(in crate::spool::postgres) async fn end_request(
        &self,
        event: &RequestEvent,
        forget: Option<MonotonicTime>,
    ) -> Result<EndOutcome, PostgresError> {
        let AlertRequest { tenant, correlation_id, .. } = &event.request;
        let found = "SELECT id, alert, state FROM requests WHERE request = $1 AND tenant = $2 AND correlation_id = $3";
        let hash = request_hash(tenant, correlation_id);
        let rows = self.rows(found, &[&hash, &escape(tenant), &escape(correlation_id)]).await?;
        let rows: Vec<(i64, String, i64)> =
            self.decode(&rows, |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))?;
        if rows.is_empty() {
            let Some(forget) = forget else { return Ok(EndOutcome::Unchanged) };
            self.insert_request(event, ("", ""), RequestState::EndedEarly, forget).await?;
            return Ok(EndOutcome::Early);
        }
        let mut ended = Vec::new();
        for (id, alert, state) in rows {
            match RequestState::of_number(state) {
                Some(RequestState::Open) => {
                    self.execute("DELETE FROM requests WHERE id = $1", &[&id]).await?;
                    ended.push((AlertName::new(&alert), RequestState::Open));
                }
                Some(RequestState::Overdue) => {
                    let update =
                        "UPDATE requests SET state = $2, boot = $3, due = $4, status = $5, received = $6 WHERE id = $1";
                    let (state, boot) = (RequestState::Ended as i64, ClockBase::now().boot);
                    let (now, received) = (MonotonicTime::now().0, event.received.0);
                    self.execute(update, &[&id, &state, &boot, &now, &escape(&event.status), &received]).await?;
                    ended.push((AlertName::new(&alert), RequestState::Overdue));
                }
                _ => {}
            }
        }
        Ok(if ended.is_empty() { EndOutcome::Unchanged } else { EndOutcome::Ended(ended) })
    }

    /// Forgets the end that will be forgotten first anyway.
    pub(in crate::spool::postgres) async fn forget_oldest_early_end(&self) -> Result<(), PostgresError> {
        let forget = "DELETE FROM requests WHERE id = (SELECT id FROM requests WHERE state = 3 ORDER BY due LIMIT 1)";
        self.execute(forget, &[]).await.map(drop)
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
