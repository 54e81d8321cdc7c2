//! What the writer's thread and the callers of [`Spool`](super::Spool) share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

#[cfg(test)]
use super::SpoolError;
use super::budget::Budget;
#[cfg(test)]
use super::change::AppliedChange;
use super::counts::{DeadLetterCounts, DeadLetterTotals};
use super::delivery::{DeliveryRow, RowId, SpooledDelivery};
use super::request::{RequestCounts, RequestState};
#[cfg(test)]
use super::store::{FailedBatch, FailedChanges};
use super::{BlockReason, Component, SizeLimits, Usage};
use crate::clock::{MonotonicTime, Timestamp};
use crate::config::SpoolConfig;
use crate::journal::Journal;
use crate::rules::{AlertName, SinkName};

#[derive(Debug)]
pub(super) struct Shared {
    dead_letter_counts: Mutex<DeadLetterCounts>,
    budget: Mutex<Budget>,
    problem: Mutex<Option<(BlockReason, String)>>,
    last_row: AtomicI64,
    states: Mutex<BTreeMap<Component, String>>,
    request_counts: Mutex<RequestCounts>,
    /// When the first request is due.
    next_due_request: AtomicI64,
    /// The state of each raised alert about no request as JSON, by its name and subject.
    raised_alerts: Mutex<BTreeMap<(AlertName, String), String>>,
    /// The sink that gets a copy of each dead letter.
    copy_sink: Mutex<Option<SinkName>>,
    /// Where new dead letters are recorded.
    journal: OnceLock<Journal>,
    /// Whether due times were written in this boot.
    is_same_boot: AtomicBool,
    /// Whether attempts were in flight when their dispatcher ended: they may still arrive.
    has_cut_attempts: AtomicBool,
    /// How many of the next commits succeed but are reported as failed, as after an fsync that fails.
    #[cfg(test)]
    pub(super) unknown_commits: std::sync::atomic::AtomicUsize,
}

impl Shared {
    pub(super) fn new(config: &SpoolConfig) -> Self {
        Self {
            dead_letter_counts: Mutex::default(),
            budget: Mutex::new(Budget::new(config)),
            problem: Mutex::default(),
            last_row: AtomicI64::new(0),
            states: Mutex::default(),
            request_counts: Mutex::default(),
            next_due_request: AtomicI64::new(i64::MAX),
            raised_alerts: Mutex::default(),
            copy_sink: Mutex::default(),
            journal: OnceLock::new(),
            is_same_boot: AtomicBool::new(true),
            has_cut_attempts: AtomicBool::new(false),
            #[cfg(test)]
            unknown_commits: 0.into(),
        }
    }

    pub(super) fn dead_letter_counts(&self) -> MutexGuard<'_, DeadLetterCounts> {
        self.dead_letter_counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn states(&self) -> MutexGuard<'_, BTreeMap<Component, String>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn copy_sink(&self) -> MutexGuard<'_, Option<SinkName>> {
        self.copy_sink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request_counts(&self) -> MutexGuard<'_, RequestCounts> {
        self.request_counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn raised_alerts(&self) -> MutexGuard<'_, BTreeMap<(AlertName, String), String>> {
        self.raised_alerts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_raised_alerts(&self, raised: Vec<(AlertName, String, String)>) {
        self.raised_alerts().extend(raised.into_iter().map(|(alert, subject, state)| ((alert, subject), state)));
    }

    pub(super) fn recount_requests(&self, counted: Vec<(AlertName, RequestState, u64)>) {
        self.request_counts().recount(counted);
    }

    pub(super) fn next_due_request(&self) -> MonotonicTime {
        MonotonicTime(self.next_due_request.load(Ordering::Relaxed))
    }

    /// None: no request is due.
    pub(super) fn set_next_due_request(&self, due: Option<MonotonicTime>) {
        self.next_due_request.store(due.map_or(i64::MAX, |due| due.0), Ordering::Relaxed);
    }

    /// A request is due then, too.
    pub(super) fn request_due(&self, due: MonotonicTime) {
        self.next_due_request.fetch_min(due.0, Ordering::Relaxed);
    }

    pub(super) fn journal(&self) -> Option<&Journal> {
        self.journal.get()
    }

    pub(super) fn set_journal(&self, journal: Journal) {
        // It is set once, before anything is stored.
        let _ = self.journal.set(journal);
    }

    pub(super) fn problem(&self) -> Option<(BlockReason, String)> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_problem(&self, problem: Option<(BlockReason, String)>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    pub(super) fn has_cut_attempts(&self) -> bool {
        self.has_cut_attempts.load(Ordering::Relaxed)
    }

    pub(super) fn note_cut_attempts(&self) {
        self.has_cut_attempts.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_same_boot(&self) -> bool {
        self.is_same_boot.load(Ordering::Relaxed)
    }

    pub(super) fn set_is_same_boot(&self, is_same_boot: bool) {
        self.is_same_boot.store(is_same_boot, Ordering::Relaxed);
    }

    // What was read from the file is passed as an argument: no lock is held while the file is read.

    pub(super) fn recount_deliveries(&self, usage: Vec<(SinkName, Usage)>) {
        self.budget().recount(usage);
    }

    pub(super) fn recount_dead_letters(&self, totals: DeadLetterTotals) {
        self.dead_letter_counts().recount(totals);
    }

    pub(super) fn set_oldest(&self, sink: &SinkName, oldest: Option<Timestamp>) {
        self.budget().set_oldest(sink, oldest);
    }

    pub(super) fn set_states(&self, states: Vec<(String, String, String)>) {
        for (kind, name, state) in states {
            let component = if kind == "sink" { Component::Sink(name) } else { Component::Source(name) };
            self.states().insert(component, state);
        }
    }

    /// The ids up to `last` are used.
    pub(super) fn set_last_row(&self, last: RowId) {
        self.last_row.fetch_max(last.0, Ordering::Relaxed);
    }

    /// The last id that was given to a delivery.
    pub(super) fn last_row(&self) -> RowId {
        RowId(self.last_row.load(Ordering::Relaxed))
    }

    /// Reserves room and an id for a delivery; `None`: there is no room.
    pub(super) fn reserve(&self, delivery: SpooledDelivery, limits: SizeLimits) -> Option<DeliveryRow> {
        let properties = delivery.message.properties.to_json();
        let row_size = delivery.row_size(&properties);
        let size = self.budget().reserve_row(&delivery.sink, &row_size, limits)?;
        let id = RowId(self.last_row.fetch_add(1, Ordering::Relaxed).saturating_add(1));
        Some(DeliveryRow { id, delivery, properties, size })
    }

    /// Reserves room for all of the deliveries; the error says for which sink there is none.
    pub(super) fn reserve_all(
        &self,
        deliveries: Vec<SpooledDelivery>,
        limits: SizeLimits,
    ) -> Result<Vec<DeliveryRow>, String> {
        let mut rows = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let sink = delivery.sink.clone();
            if let Some(row) = self.reserve(delivery, limits) {
                rows.push(row);
                continue;
            }
            for row in rows {
                self.budget().release(&row.delivery.sink, row.size);
            }
            return Err(format!("the spool has no room for sink {sink}"));
        }
        Ok(rows)
    }

    /// Reports a successful commit as one with an unknown outcome, where a test asks for it.
    #[cfg(test)]
    pub(super) fn fail_commit_if_asked(
        &self,
        applied: Vec<AppliedChange>,
    ) -> Result<Vec<AppliedChange>, Box<FailedBatch>> {
        let less = |left: usize| left.checked_sub(1);
        if self.unknown_commits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            return Ok(applied);
        }
        let asked = std::io::Error::other("as the test asks");
        let error = SpoolError::io(std::path::Path::new("spool.db"), "the commit failed", asked);
        Err(Box::new(FailedBatch { error, changes: FailedChanges::Unknown(applied) }))
    }
}
