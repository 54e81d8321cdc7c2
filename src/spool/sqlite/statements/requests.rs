//! Statements on watched requests and raised alerts.

use rusqlite::{OptionalExtension, Row, params};

use super::unsigned;
use crate::clock::{ClockBase, MonotonicTime, WallTime};
use crate::event::AlertRequest;
use crate::failpoints::Failpoint;
use crate::rules::{AlertName, SinkName};
use crate::spool::SpoolError;
use crate::spool::outcome::EndOutcome;
use crate::spool::request::{
    DueKind, DueRequests, RequestEvent, RequestId, RequestState, RequestStep, Watch, WatchedRequest, request_hash,
    sinks_of_json,
};
use crate::spool::sqlite::database::Database;
use crate::spool::sqlite::rows::{optional_text, text};

/// Requests are removed or taken over from another boot in batches of this size.
const UPKEEP_BATCH: u32 = 5_000;

impl Database {
    /// Watches a request, unless its end was there before, or the alert watches it already. Returns whether it does so from now on.
    pub(in crate::spool) fn open_request(&self, event: &RequestEvent, watch: &Watch) -> Result<bool, SpoolError> {
        let alert = (watch.alert.as_str(), &*watch.limit);
        self.insert_request(event, alert, RequestState::Open, watch.due).map_err(self.failed())
    }

    fn insert_request(
        &self,
        event: &RequestEvent,
        (alert, limit): (&str, &str),
        state: RequestState,
        due: MonotonicTime,
    ) -> rusqlite::Result<bool> {
        let AlertRequest { tenant, correlation_id, product_id, session, expires } = &event.request;
        let insert = "INSERT INTO requests (request, alert, state, boot, due, tenant, correlation_id, product_id, session, expires, \
                      status, received, time_limit) \
                      SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13 WHERE NOT EXISTS (SELECT 1 FROM requests \
                      WHERE request = ?1 AND tenant = ?6 AND correlation_id = ?7 AND alert IN (?2, '') AND ?14)";
        let looks = !Failpoint::OpenRequestsAgain.is_enabled();
        let inserted = self.connection.prepare_cached(insert)?.execute(params![
            request_hash(tenant, correlation_id),
            alert,
            state as i64,
            ClockBase::now().boot,
            due.0,
            &**tenant,
            correlation_id,
            product_id,
            session,
            expires,
            event.status,
            event.received.0,
            limit,
            looks,
        ])?;
        Ok(inserted > 0)
    }

    /// Ends a request for all alerts that watch it. If none does, the end is remembered until `forget`, if given.
    pub(in crate::spool) fn end_request(
        &self,
        event: &RequestEvent,
        forget: Option<MonotonicTime>,
    ) -> Result<EndOutcome, SpoolError> {
        let end = || -> rusqlite::Result<EndOutcome> {
            let AlertRequest { tenant, correlation_id, .. } = &event.request;
            let found =
                "SELECT id, alert, state FROM requests WHERE request = ?1 AND tenant = ?2 AND correlation_id = ?3";
            let mut found = self.connection.prepare_cached(found)?;
            let request = params![request_hash(tenant, correlation_id), &**tenant, correlation_id];
            let rows = found.query_map(request, |row| Ok((row.get(0)?, text(row, 1)?, row.get(2)?)))?;
            let rows = rows.collect::<rusqlite::Result<Vec<(i64, String, i64)>>>()?;
            if rows.is_empty() {
                let Some(forget) = forget else { return Ok(EndOutcome::Unchanged) };
                self.insert_request(event, ("", ""), RequestState::EndedEarly, forget)?;
                return Ok(EndOutcome::Early);
            }
            let mut ended = Vec::new();
            for (id, alert, state) in rows {
                match RequestState::of_number(state) {
                    Some(RequestState::Open) => {
                        self.connection.prepare_cached("DELETE FROM requests WHERE id = ?")?.execute([id])?;
                        ended.push((AlertName::new(&alert), RequestState::Open));
                    }
                    Some(RequestState::Overdue) => {
                        let update = "UPDATE requests SET state = ?2, boot = ?3, due = ?4, status = ?5, received = ?6 WHERE id = ?1";
                        let (state, boot) = (RequestState::Ended as i64, ClockBase::now().boot);
                        let (now, received) = (MonotonicTime::now().0, event.received.0);
                        let values = params![id, state, boot, now, event.status, received];
                        self.connection.prepare_cached(update)?.execute(values)?;
                        ended.push((AlertName::new(&alert), RequestState::Overdue));
                    }
                    _ => {}
                }
            }
            Ok(if ended.is_empty() { EndOutcome::Unchanged } else { EndOutcome::Ended(ended) })
        };
        end().map_err(self.failed())
    }

    /// Forgets the end that will be forgotten first anyway.
    pub(in crate::spool) fn forget_oldest_early_end(&self) -> Result<(), SpoolError> {
        let forget = "DELETE FROM requests WHERE id = (SELECT id FROM requests WHERE state = 3 ORDER BY due LIMIT 1)";
        let forgotten = self.connection.prepare_cached(forget).and_then(|mut forget| forget.execute([]));
        forgotten.map(drop).map_err(self.failed())
    }

    /// The requests that are due by `now`, at most `limit`, and when the next one is due. Those of another boot are left out.
    pub(in crate::spool) fn due_requests(
        &self,
        kind: DueKind,
        now: MonotonicTime,
        limit: usize,
    ) -> Result<DueRequests, SpoolError> {
        let read = || -> rusqlite::Result<DueRequests> {
            // Without an upper bound, the second one would read all open requests in search of others.
            let (which, until) = match kind {
                DueKind::All => ("due <= ?2", MonotonicTime(i64::MAX)),
                DueKind::Ended => ("due <= ?2 AND state <> 0", now),
            };
            let select = format!(
                "SELECT id, alert, state, due, tenant, correlation_id, product_id, session, expires, status, received, time_limit, overdue, \
                 receivers FROM requests WHERE boot = ?1 AND {which} ORDER BY due"
            );
            let mut select = self.connection.prepare_cached(&select)?;
            let mut rows = select.query([ClockBase::now().boot, until.0])?;
            let mut due = DueRequests { requests: Vec::new(), next: None };
            while let Some(row) = rows.next()? {
                let at = MonotonicTime(row.get(3)?);
                if at > now || due.requests.len() >= limit {
                    due.next = Some(at);
                    break;
                }
                due.requests.extend(watched_request(row, at)?);
            }
            Ok(due)
        };
        read().map_err(self.failed())
    }

    /// Does a step with a request that is still in that state. False: it no longer is, and nothing changes.
    pub(in crate::spool) fn advance_request(
        &self,
        id: RequestId,
        from: RequestState,
        step: RequestStep,
        receivers: &[&SinkName],
    ) -> Result<bool, SpoolError> {
        let advance = || match step {
            RequestStep::Raise { overdue } => {
                let raise = "UPDATE requests SET state = ?3, due = NULL, overdue = ?4, receivers = ?5 WHERE id = ?1 AND state = ?2";
                let receivers: Vec<_> = receivers.iter().map(|sink| sink.as_str()).collect();
                let receivers = serde_json::Value::from(receivers).to_string();
                let values = params![id.0, from as i64, RequestState::Overdue as i64, overdue.0, receivers];
                self.connection.prepare_cached(raise)?.execute(values)
            }
            RequestStep::Forget => {
                let forget = "DELETE FROM requests WHERE id = ? AND state = ?";
                self.connection.prepare_cached(forget)?.execute(params![id.0, from as i64])
            }
        };
        advance().map(|changed| changed > 0).map_err(self.failed())
    }

    /// Removes the open requests of these alerts, and makes the overdue ones due as if they had ended: at most a batch of each. Returns
    /// them.
    pub(in crate::spool) fn remove_requests(
        &self,
        alerts: &[AlertName],
    ) -> Result<Vec<(AlertName, RequestState)>, SpoolError> {
        let remove = || -> rusqlite::Result<_> {
            let mut removed = Vec::new();
            for alert in alerts {
                let end = "UPDATE requests SET state = 2, boot = ?3, due = ?4 WHERE id IN \
                           (SELECT id FROM requests WHERE alert = ?1 AND state = 1 LIMIT ?2)";
                let (boot, now) = (ClockBase::now().boot, MonotonicTime::now().0);
                let ended = self.connection.execute(end, params![alert.as_str(), UPKEEP_BATCH, boot, now])?;
                removed.extend(std::iter::repeat_n((alert.clone(), RequestState::Overdue), ended));
                let delete =
                    "DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE alert = ? AND state = 0 LIMIT ?)";
                let deleted = self.connection.execute(delete, params![alert.as_str(), UPKEEP_BATCH])?;
                removed.extend(std::iter::repeat_n((alert.clone(), RequestState::Open), deleted));
            }
            Ok(removed)
        };
        remove().map_err(self.failed())
    }

    /// Counts the due times of requests of another boot in this one, at most a batch. By `jump` the wall clock is ahead of
    /// [`MonotonicTime`]. Returns whether there may be more.
    pub(in crate::spool) fn adopt_requests(&self, jump: i64) -> Result<bool, SpoolError> {
        let boot = ClockBase::now().boot;
        let adopt = "UPDATE requests SET boot = ?1, due = due - ?2 WHERE id IN \
                     (SELECT id FROM requests WHERE boot < ?1 OR boot > ?1 LIMIT ?3)";
        let adopted = self.connection.execute(adopt, params![boot, jump, UPKEEP_BATCH]).map_err(self.failed())?;
        Ok(adopted > 0)
    }

    /// How many requests there are, by alert and state.
    pub(in crate::spool) fn count_requests(&self) -> Result<Vec<(AlertName, RequestState, u64)>, SpoolError> {
        let count = || -> rusqlite::Result<_> {
            let mut count =
                self.connection.prepare("SELECT alert, state, count(*) FROM requests GROUP BY alert, state")?;
            let mut rows = count.query([])?;
            let mut counted = Vec::new();
            while let Some(row) = rows.next()? {
                if let Some(state) = RequestState::of_number(row.get(1)?) {
                    counted.push((AlertName::new(&text(row, 0)?), state, unsigned(row.get(2)?)));
                }
            }
            Ok(counted)
        };
        count().map_err(self.failed())
    }

    /// When the first request of this boot is due.
    pub(in crate::spool) fn next_due_request(&self) -> Result<Option<MonotonicTime>, SpoolError> {
        let next = "SELECT due FROM requests WHERE boot = ? AND due IS NOT NULL ORDER BY due LIMIT 1";
        let read = |row: &Row<'_>| row.get(0).map(MonotonicTime);
        self.connection.query_row(next, [ClockBase::now().boot], read).optional().map_err(self.failed())
    }

    /// Stores that an alert is raised; `None`: that it is not.
    pub(in crate::spool) fn save_alert(
        &self,
        alert: &AlertName,
        subject: &str,
        state: Option<&str>,
    ) -> Result<(), SpoolError> {
        let saved = match state {
            Some(state) => self.connection.execute(
                "INSERT INTO raised_alerts (alert, subject, state) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (alert, subject) DO UPDATE SET state = excluded.state",
                [alert.as_str(), subject, state],
            ),
            None => self
                .connection
                .execute("DELETE FROM raised_alerts WHERE alert = ? AND subject = ?", [alert.as_str(), subject]),
        };
        saved.map(|_| ()).map_err(self.failed())
    }

    /// The raised alerts: name, subject and state as JSON.
    pub(in crate::spool) fn raised_alerts(&self) -> Result<Vec<(AlertName, String, String)>, SpoolError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut raised = self.connection.prepare("SELECT alert, subject, state FROM raised_alerts")?;
            let raised =
                raised.query_map([], |row| Ok((AlertName::new(&text(row, 0)?), text(row, 1)?, text(row, 2)?)))?;
            raised.collect()
        };
        read().map_err(self.failed())
    }
}

/// None: a state that only a later version knows.
fn watched_request(row: &Row<'_>, due: MonotonicTime) -> rusqlite::Result<Option<WatchedRequest>> {
    let Some(state) = RequestState::of_number(row.get(2)?) else { return Ok(None) };
    let request = AlertRequest {
        tenant: text(row, 4)?.into(),
        correlation_id: text(row, 5)?,
        product_id: optional_text(row, 6)?,
        session: optional_text(row, 7)?,
        expires: optional_text(row, 8)?,
    };
    Ok(Some(WatchedRequest {
        id: RequestId(row.get(0)?),
        alert: AlertName::new(&text(row, 1)?),
        state,
        event: RequestEvent { request, status: text(row, 9)?, received: WallTime(row.get(10)?) },
        due,
        limit: text(row, 11)?,
        overdue: row.get::<_, Option<i64>>(12)?.map(WallTime),
        receivers: optional_text(row, 13)?.map(|receivers| sinks_of_json(&receivers)).unwrap_or_default(),
    }))
}
