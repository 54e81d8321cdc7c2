//! Reads the file while a relay may be running, in transactions so short that they never delay its writer.

mod backlog;
mod dead_letters;
mod filter;
mod requests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use rusqlite::Connection;
use uuid::Uuid;

use super::database::open_to_read;
use crate::rules::AlertName;
use crate::spool::SpoolError;
use crate::spool::delivery::RowId;
use crate::spool::reader::{
    BacklogSummary, DeadLetterReader, DeliveryFilter, ListedDelivery, OverdueRequest, StoreReader, WatchedBy,
};

#[derive(Debug, Clone)]
pub(in crate::spool) struct SqliteReader {
    path: PathBuf,
}

impl SqliteReader {
    pub(in crate::spool) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// None: there is no file, or nothing was ever stored in it.
    fn open(&self) -> Result<Option<Connection>, SpoolError> {
        open_to_read(&self.path)
    }

    /// `empty` if nothing was ever stored.
    fn read<T>(&self, empty: T, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, SpoolError> {
        let Some(connection) = self.open()? else { return Ok(empty) };
        read(&connection).map_err(SpoolError::sqlite(&self.path))
    }
}

impl StoreReader for SqliteReader {
    fn name(&self) -> Option<String> {
        Some(self.path.canonicalize().ok()?.display().to_string())
    }

    fn exists(&self) -> Result<bool, SpoolError> {
        self.path.try_exists().map_err(|error| SpoolError::io(&self.path, "the spool can't be read", error))
    }

    fn backlogs(&self) -> Result<Vec<BacklogSummary>, SpoolError> {
        self.read(Vec::new(), backlog::summaries)
    }

    fn delivery_page(&self, filter: &DeliveryFilter, after: RowId) -> Result<Vec<ListedDelivery>, SpoolError> {
        self.read(Vec::new(), |connection| backlog::delivery_page(connection, filter, after))
    }

    fn deliveries_of_event(&self, sink: &str, key: u64, event: Uuid) -> Result<Vec<ListedDelivery>, SpoolError> {
        self.read(Vec::new(), |connection| backlog::deliveries_of_event(connection, sink, key, event))
    }

    fn deliveries_of_events(
        &self,
        sink: &str,
        events: &BTreeSet<Uuid>,
    ) -> Result<Vec<(Uuid, ListedDelivery)>, SpoolError> {
        self.read(Vec::new(), |connection| backlog::deliveries_of_events(connection, sink, events))
    }

    fn watches(&self, tenant: &str, correlation_id: &str) -> Result<Vec<WatchedBy>, SpoolError> {
        self.read(Vec::new(), |connection| requests::watches(connection, tenant, correlation_id))
    }

    fn overdue(&self, alert: &AlertName, limit: usize) -> Result<Vec<OverdueRequest>, SpoolError> {
        self.read(Vec::new(), |connection| requests::overdue(connection, alert, limit))
    }

    fn dead_letters(&self) -> Result<Box<dyn DeadLetterReader>, SpoolError> {
        Ok(Box::new(self.open_dead_letters()?))
    }
}
