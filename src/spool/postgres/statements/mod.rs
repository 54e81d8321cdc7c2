//! The statements of the writer. Each function is one step of a transaction, and can be repeated after a transaction with an unknown
//! outcome.

mod dead_letters;
mod deliveries;
mod digests;
mod requests;

use tokio_postgres::Row;

use crate::clock::ClockBase;
use crate::postgres::Connection;
use crate::postgres::PostgresError;
use crate::spool::Component;

impl Connection {
    pub(super) async fn save_state(&self, component: &Component, state: Option<&str>) -> Result<(), PostgresError> {
        let (kind, name) = component.parts();
        let saved = match state {
            Some(state) => {
                let save = "INSERT INTO states (kind, name, state) VALUES ($1, $2, $3) \
                            ON CONFLICT (kind, name) DO UPDATE SET state = excluded.state";
                self.execute(save, &[&kind, &name, &state]).await
            }
            None => self.execute("DELETE FROM states WHERE kind = $1 AND name = $2", &[&kind, &name]).await,
        };
        saved.map(drop)
    }

    /// All saved states: the component's kind, its name, and the state as JSON.
    pub(super) async fn states(&self) -> Result<Vec<(String, String, String)>, PostgresError> {
        let states = self.rows("SELECT kind, name, state FROM states", &[]).await?;
        self.decode(&states, |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
    }

    /// The start of due times, if an owner on this machine has stored it since its boot.
    pub(super) async fn clock(&self) -> Result<Option<ClockBase>, PostgresError> {
        let clock = "SELECT boot, base FROM shards WHERE boot = $1 LIMIT 1";
        let clock = self.rows(clock, &[&ClockBase::now().boot]).await?;
        Ok(self.decode(&clock, |row| Ok(ClockBase { boot: row.try_get(0)?, base: row.try_get(1)? }))?.pop())
    }

    /// The highest number that a dead letter ever had, and the highest id of the stored deliveries.
    pub(super) async fn last_ids(&self) -> Result<(i64, i64), PostgresError> {
        let last = "SELECT (SELECT last FROM dead_letter_numbers), coalesce((SELECT max(id) FROM deliveries), 0)";
        let last = self.rows(last, &[]).await?;
        Ok(self.decode(&last, |row| Ok((row.try_get(0)?, row.try_get(1)?)))?.pop().unwrap_or_default())
    }
}

/// The first column of each row.
fn ids(connection: &Connection, rows: &[Row]) -> Result<Vec<i64>, PostgresError> {
    connection.decode(rows, |row| row.try_get(0))
}

/// For counts and sizes, which are far below the bounds of both types.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
