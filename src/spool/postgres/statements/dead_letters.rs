//! Statements on dead letters.

use std::collections::HashSet;

use super::{ids, signed};
use crate::clock::AgeCutoff;
use crate::postgres::Connection;
use crate::postgres::PostgresError;
use crate::rules::{RouteName, SinkName};
use crate::spool::counts::DeadLetterTotals;
use crate::spool::dead_letter::DeadLetterRow;
use crate::spool::outcome::{InsertOutcome, RemovedDeadLetter};
use crate::spool::postgres::filter::Conditions;
use crate::spool::postgres::rows::unsigned;
use crate::spool::postgres::text::{escape, escape_optional};
use crate::spool::purge::PurgeSelection;

impl Connection {
    /// Adds a dead letter. That of a redelivered message may be recognized as an existing row, but not as one of `recognized`.
    pub(in crate::spool::postgres) async fn add_dead_letter(
        &self,
        row: &DeadLetterRow,
        recognized: &HashSet<i64>,
    ) -> Result<InsertOutcome, PostgresError> {
        let letter = &row.letter;
        let sink = letter.sink.as_ref().map(SinkName::as_str);
        if letter.message.redelivered && row.is_received {
            let known = "SELECT -id FROM dead_letters WHERE identity = $1 AND sink IS NOT DISTINCT FROM $2 AND id < $3 ORDER BY id";
            let known = ids(self, &self.rows(known, &[&row.identity.as_slice(), &sink, &row.id]).await?)?;
            if let Some(id) = known.into_iter().find(|id| !recognized.contains(id)) {
                return Ok(InsertOutcome::Duplicate(id));
            }
        }
        let insert = "INSERT INTO dead_letters (id, at, boot, uptime, reason, detail, sink, source, tenant, status, correlation_id, \
                      event_id, identity, route, type, attempts, size, properties, body) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
                      ON CONFLICT (id) DO NOTHING";
        let inserted = self
            .execute(
                insert,
                &[
                    &row.id,
                    &row.at.wall.0,
                    &row.at.boot,
                    &row.at.uptime,
                    &letter.reason.as_str(),
                    &escape(&letter.detail),
                    &sink,
                    &letter.message.source.as_str(),
                    &escape_optional(letter.tenant.as_deref()),
                    &escape_optional(letter.status.as_deref()),
                    &escape_optional(letter.correlation_id.as_deref()),
                    &letter.event_id.as_ref().map(|id| id.as_bytes().as_slice()),
                    &row.identity.as_slice(),
                    &letter.route.as_ref().map(RouteName::as_str),
                    &letter.kind,
                    &i64::from(letter.attempts),
                    &signed(row.size),
                    &escape(&row.properties),
                    &&*letter.message.body,
                ],
            )
            .await?;
        self.execute("UPDATE dead_letter_numbers SET last = $1 WHERE last < $1", &[&row.id]).await?;
        Ok(if inserted > 0 { InsertOutcome::Inserted } else { InsertOutcome::AlreadyInserted })
    }

    /// Deletes a dead letter; `None` if it is gone already.
    pub(in crate::spool::postgres) async fn remove_dead_letter(
        &self,
        id: i64,
    ) -> Result<Option<RemovedDeadLetter>, PostgresError> {
        let delete = "DELETE FROM dead_letters WHERE id = $1 RETURNING reason, sink, size";
        let removed = self.rows(delete, &[&id]).await?;
        let removed = self.decode(&removed, |row| {
            Ok(RemovedDeadLetter {
                reason: row.try_get::<_, &str>(0)?.parse().ok(),
                sink: row.try_get::<_, Option<&str>>(1)?.map(SinkName::new),
                size: unsigned(row, 2)?,
            })
        })?;
        Ok(removed.into_iter().next())
    }

    /// How many dead letters there are by reason and sink, and the size of all.
    pub(in crate::spool::postgres) async fn dead_letter_totals(&self) -> Result<DeadLetterTotals, PostgresError> {
        let count =
            "SELECT reason, sink, count(*), coalesce(sum(size), 0)::bigint FROM dead_letters GROUP BY reason, sink";
        let rows = self.rows(count, &[]).await?;
        let (mut counts, mut bytes) = (Vec::new(), 0_u64);
        let rows = self.decode(&rows, |row| {
            let sink = row.try_get::<_, Option<&str>>(1)?.map(SinkName::new);
            Ok((row.try_get::<_, String>(0)?, sink, unsigned(row, 2)?, unsigned(row, 3)?))
        })?;
        for (reason, sink, count, size) in rows {
            bytes = bytes.saturating_add(size);
            // A reason that only a later version knows takes room, but has no counter here.
            if let Ok(reason) = reason.parse() {
                counts.push((reason, sink, count));
            }
        }
        Ok(DeadLetterTotals { counts, bytes })
    }

    /// Deletes dead letters, at most `limit`. Returns how many.
    pub(in crate::spool::postgres) async fn purge_dead_letters(
        &self,
        selection: &PurgeSelection<'_>,
        limit: u64,
    ) -> Result<u64, PostgresError> {
        let (mut conditions, order) = match selection {
            PurgeSelection::Requested(filter) => (Conditions::of(filter), Conditions::order(filter)),
            PurgeSelection::ExpiredThisBoot(AgeCutoff { boot, uptime, .. }) => {
                let mut conditions = Conditions::default();
                conditions.add("boot = ", *boot).add("uptime < ", *uptime);
                (conditions, "ORDER BY uptime")
            }
            PurgeSelection::ExpiredOtherBoots(AgeCutoff { boot, wall, .. }) => {
                let mut conditions = Conditions::default();
                conditions.add("boot <> ", *boot).add("at < ", wall.0);
                (conditions, "ORDER BY at")
            }
        };
        let selected = conditions.text();
        let limit = conditions.value(signed(limit));
        let delete = format!(
            "DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE {selected} {order} LIMIT {limit})"
        );
        self.execute(&delete, &conditions.values()).await
    }
}
