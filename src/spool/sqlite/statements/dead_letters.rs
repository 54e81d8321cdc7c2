//! Statements on dead letters.

use std::collections::HashSet;

use rusqlite::types::ToSql;
use rusqlite::{OptionalExtension, params, params_from_iter};

use super::{first_unrecognized, signed, unsigned};
use crate::clock::AgeCutoff;
use crate::rules::{RouteName, SinkName};
use crate::spool::SpoolError;
use crate::spool::counts::DeadLetterTotals;
use crate::spool::dead_letter::DeadLetterRow;
use crate::spool::outcome::{InsertOutcome, RemovedDeadLetter};
use crate::spool::purge::PurgeSelection;
use crate::spool::sqlite::database::Database;
use crate::spool::sqlite::rows::{optional_text, text};

impl Database {
    /// Adds a dead letter. That of a redelivered message may be recognized as an existing row, but not as one of `recognized`.
    pub(in crate::spool) fn add_dead_letter(
        &self,
        row: &DeadLetterRow,
        recognized: &HashSet<i64>,
    ) -> Result<InsertOutcome, SpoolError> {
        self.insert_dead_letter(row, recognized).map_err(self.failed())
    }

    fn insert_dead_letter(&self, row: &DeadLetterRow, recognized: &HashSet<i64>) -> rusqlite::Result<InsertOutcome> {
        let letter = &row.letter;
        let sink = letter.sink.as_ref().map(SinkName::as_str);
        if letter.message.redelivered && row.is_received {
            let known = "SELECT -id FROM dead_letters WHERE identity = ? AND sink IS ? AND id < ? ORDER BY id";
            let mut known = self.connection.prepare_cached(known)?;
            let known = known.query(params![row.identity.as_slice(), sink, row.id])?;
            if let Some(id) = first_unrecognized(known, recognized)? {
                return Ok(InsertOutcome::Duplicate(id));
            }
        }
        let insert = "INSERT INTO dead_letters (id, at, boot, uptime, reason, detail, sink, source, tenant, status, correlation_id, \
                      event_id, identity, route, type, attempts, size, properties, body) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
                      ON CONFLICT (id) DO NOTHING";
        let inserted = self.connection.prepare_cached(insert)?.execute(params![
            row.id,
            row.at.wall.0,
            row.at.boot,
            row.at.uptime,
            letter.reason.as_str(),
            letter.detail,
            sink,
            letter.message.source.as_str(),
            letter.tenant,
            letter.status,
            letter.correlation_id,
            letter.event_id.as_ref().map(|id| id.as_bytes().as_slice()),
            row.identity.as_slice(),
            letter.route.as_ref().map(RouteName::as_str),
            letter.kind,
            letter.attempts,
            signed(row.size),
            row.properties,
            &*letter.message.body,
        ])?;
        Ok(if inserted > 0 { InsertOutcome::Inserted } else { InsertOutcome::AlreadyInserted })
    }

    /// Deletes a dead letter; `None` if it is gone already.
    pub(in crate::spool) fn remove_dead_letter(&self, id: i64) -> Result<Option<RemovedDeadLetter>, SpoolError> {
        let remove = || {
            let delete = "DELETE FROM dead_letters WHERE id = ? RETURNING reason, sink, size";
            let mut delete = self.connection.prepare_cached(delete)?;
            let removed = delete.query_row([id], |row| {
                Ok(RemovedDeadLetter {
                    reason: text(row, 0)?.parse().ok(),
                    sink: optional_text(row, 1)?.as_deref().map(SinkName::new),
                    size: unsigned(row.get(2)?),
                })
            });
            removed.optional()
        };
        remove().map_err(self.failed())
    }

    /// How many dead letters there are by reason and sink, and the size of all.
    pub(in crate::spool) fn dead_letter_totals(&self) -> Result<DeadLetterTotals, SpoolError> {
        let count = || -> rusqlite::Result<_> {
            let count = "SELECT reason, sink, count(*), coalesce(sum(size), 0) FROM dead_letters GROUP BY reason, sink";
            let mut statement = self.connection.prepare(count)?;
            let mut rows = statement.query([])?;
            let (mut counts, mut bytes) = (Vec::new(), 0_u64);
            while let Some(row) = rows.next()? {
                bytes = bytes.saturating_add(unsigned(row.get(3)?));
                let sink = optional_text(row, 1)?;
                // A reason that only a later version knows takes room, but has no counter here.
                if let Ok(reason) = text(row, 0)?.parse() {
                    counts.push((reason, sink.as_deref().map(SinkName::new), unsigned(row.get(2)?)));
                }
            }
            Ok(DeadLetterTotals { counts, bytes })
        };
        count().map_err(self.failed())
    }

    /// Deletes dead letters, at most `limit`. Returns how many.
    pub(in crate::spool) fn purge_dead_letters(
        &self,
        selection: &PurgeSelection<'_>,
        limit: u64,
    ) -> Result<u64, SpoolError> {
        let (selected, mut values): (String, Vec<Box<dyn ToSql>>) = match selection {
            PurgeSelection::Requested(filter) => {
                let (conditions, values) = filter.conditions();
                (format!("{conditions} {}", filter.order()), values)
            }
            PurgeSelection::ExpiredThisBoot(AgeCutoff { boot, uptime, .. }) => {
                ("boot = ? AND uptime < ? ORDER BY uptime".to_owned(), vec![Box::new(*boot), Box::new(*uptime)])
            }
            PurgeSelection::ExpiredOtherBoots(AgeCutoff { boot, wall, .. }) => {
                ("boot <> ? AND at < ? ORDER BY at".to_owned(), vec![Box::new(*boot), Box::new(wall.0)])
            }
        };
        values.push(Box::new(signed(limit)));
        let query =
            format!("DELETE FROM dead_letters WHERE id IN (SELECT id FROM dead_letters WHERE {selected} LIMIT ?)");
        let purged = self.connection.execute(&query, params_from_iter(values)).map_err(self.failed())?;
        Ok(u64::try_from(purged).unwrap_or(u64::MAX))
    }
}
