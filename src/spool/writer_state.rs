//! The writer's state in memory: which deliveries dispatchers hold, and which rows redelivered messages were matched to.

use std::collections::{HashMap, HashSet};

use tokio::sync::mpsc;

use super::delivery::{RowId, SpoolEvent};
use super::outcome::{EndOutcome, InsertOutcome};
use super::request::{RequestLimits, RequestState, RequestStep};
use super::unreadable::UnreadableDelivery;
use crate::rules::{AlertName, SinkName};

/// With more recognized rows than this, all are forgotten. The messages that are unacknowledged at a restart are far fewer.
const MAX_RECOGNIZED: usize = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct WriterState {
    /// The deliveries that a sink's dispatcher holds: it doesn't get them a second time.
    claimed: HashMap<SinkName, HashSet<RowId>>,
    /// The claimed deliveries whose dead letters are not on disk yet: a new dispatcher of the sink doesn't get them either.
    dead_lettering: HashMap<SinkName, HashSet<RowId>>,
    /// Rows that a redelivered message was recognized as, or for which one was stored: the next copy of the message isn't recognized as the
    /// same row. Deliveries by their ids, dead letters by their negative ids.
    recognized: HashSet<i64>,
    /// The recognized rows that the current transaction added.
    recognized_in_transaction: Vec<i64>,
    /// Due deliveries that could not be read. They become dead letters.
    pub(super) unreadable: Vec<UnreadableDelivery>,
    /// Watched requests in the file, with the changes of the current transaction.
    pub(super) requests: u64,
    /// Ends in the file that came before their requests were opened, likewise.
    pub(super) early_ends: u64,
    pub(super) request_limits: RequestLimits,
    dispatchers: HashMap<SinkName, mpsc::UnboundedSender<SpoolEvent>>,
}

impl WriterState {
    pub(super) fn new(request_limits: RequestLimits) -> Self {
        Self { request_limits, ..Self::default() }
    }

    pub(super) fn claim(&mut self, sink: &SinkName, ids: impl IntoIterator<Item = RowId>) {
        self.claimed.entry(sink.clone()).or_default().extend(ids);
    }

    pub(super) fn claimed(&mut self, sink: &SinkName) -> &HashSet<RowId> {
        self.claimed.entry(sink.clone()).or_default()
    }

    pub(super) fn release(&mut self, sink: &SinkName, id: RowId) {
        if let Some(claimed) = self.claimed.get_mut(sink) {
            claimed.remove(&id);
        }
    }

    /// Claims a delivery until [`end_dead_lettering`](Self::end_dead_lettering), even if the sink gets a new dispatcher meanwhile.
    pub(super) fn begin_dead_lettering(&mut self, sink: &SinkName, id: RowId) {
        self.claim(sink, [id]);
        self.dead_lettering.entry(sink.clone()).or_default().insert(id);
    }

    pub(super) fn end_dead_lettering(&mut self, sink: &SinkName, id: RowId) {
        if let Some(ids) = self.dead_lettering.get_mut(sink) {
            ids.remove(&id);
        }
    }

    /// Replaces a sink's dispatcher. The deliveries that the previous one held are due again, except those that become dead letters.
    pub(super) fn set_dispatcher(&mut self, sink: SinkName) -> mpsc::UnboundedReceiver<SpoolEvent> {
        let dead_lettering = self.dead_lettering.get(&sink).cloned().unwrap_or_default();
        self.claimed.insert(sink.clone(), dead_lettering);
        let (to, events) = mpsc::unbounded_channel();
        self.dispatchers.insert(sink, to);
        events
    }

    pub(super) fn has_dispatcher(&self, sink: &SinkName) -> bool {
        self.dispatchers.get(sink).is_some_and(|dispatcher| !dispatcher.is_closed())
    }

    /// Returns false if the sink has no dispatcher.
    pub(super) fn notify(&self, sink: &SinkName, event: SpoolEvent) -> bool {
        self.dispatchers.get(sink).is_some_and(|dispatcher| dispatcher.send(event).is_ok())
    }

    pub(super) fn recognized(&self) -> &HashSet<i64> {
        &self.recognized
    }

    /// Remembers the row of a redelivered message: an existing one, or `own`.
    pub(super) fn record(&mut self, inserted: InsertOutcome, own: Option<i64>) -> InsertOutcome {
        let row = if let InsertOutcome::Duplicate(id) = inserted { Some(id) } else { own };
        if let Some(id) = row {
            if self.recognized.len() >= MAX_RECOGNIZED {
                self.recognized.clear();
            }
            self.recognized.insert(id);
            self.recognized_in_transaction.push(id);
        }
        inserted
    }

    pub(super) fn forget_recognized(&mut self, id: RowId) {
        self.recognized.remove(&id.0);
    }

    /// Counts what became of a request with its end. True: one early end too many is remembered now, and the oldest has to be forgotten.
    pub(super) fn count_end(&mut self, outcome: &EndOutcome) -> bool {
        match outcome {
            EndOutcome::Early if self.early_ends >= self.request_limits.early_ends => return true,
            EndOutcome::Early => self.early_ends += 1,
            EndOutcome::Unchanged => {}
            EndOutcome::Ended(ended) => self.count_removed_requests(ended),
        }
        false
    }

    pub(super) fn count_removed_requests(&mut self, removed: &[(AlertName, RequestState)]) {
        self.requests = self.requests.saturating_sub(u64::try_from(removed.len()).unwrap_or(0));
    }

    /// Counts a step that was done with a request in the state `from`.
    pub(super) fn count_step(&mut self, step: RequestStep, from: RequestState) {
        match (step, from) {
            (RequestStep::Forget, RequestState::EndedEarly) => self.early_ends = self.early_ends.saturating_sub(1),
            (RequestStep::Forget, RequestState::Open | RequestState::Overdue) => {
                self.requests = self.requests.saturating_sub(1);
            }
            (RequestStep::Forget, RequestState::Ended) | (RequestStep::Raise { .. }, _) => {}
        }
    }

    pub(super) fn on_commit(&mut self) {
        self.recognized_in_transaction.clear();
    }

    /// The rows that the transaction recognized are recognized again when it is repeated.
    pub(super) fn on_rollback(&mut self) {
        for id in self.recognized_in_transaction.drain(..) {
            self.recognized.remove(&id);
        }
    }
}
