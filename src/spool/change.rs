//! What is done to the spool: one step of a transaction each, and what follows once the transaction is on disk.

use std::collections::{HashMap, HashSet};

use tokio::sync::{mpsc, oneshot};

use super::damaged::Damaged;
use super::delivery::{News, Portion, RowId};
use super::letter::LetterRow;
use super::store::{DeliveryRow, GoneDelivery, GoneLetter, Remembered, Store, Taken, Written};
use super::{Shared, SpoolError};
use crate::clock::MonotonicTime;
use crate::rules::SinkName;
use crate::source::Receipt;

/// What a dispatcher is told when it begins.
#[derive(Debug)]
pub struct Watch {
    /// How many deliveries wait, by the low 16 bits of their key.
    pub lanes: Vec<(u16, u32)>,
    /// What it hears of from now on.
    pub news: mpsc::UnboundedReceiver<News>,
}

/// One step.
#[derive(Debug)]
pub(super) enum Change {
    /// A dead letter, in place of a message or of a delivery, and with it its copy.
    Letter { row: Box<LetterRow>, copy: Option<Box<DeliveryRow>>, before: Before },
    /// A delivery; its message need not be held any longer.
    Deliver(Box<DeliveryRow>, Receipt),
    /// A delivery is done.
    Done { id: RowId, sink: SinkName },
    /// A delivery is to be attempted again.
    /// Without `refusals` these stay as they are.
    Again { id: RowId, sink: SinkName, attempts: u32, refusals: Option<u32>, due: MonotonicTime, cause: String },
    /// All that would be due later is due then.
    MakeDue(SinkName, MonotonicTime),
    /// The sink's dispatcher wants deliveries that are due.
    Take { sink: SinkName, portion: Portion },
    /// The sink's dispatcher begins.
    Watch { sink: SinkName, begun: oneshot::Sender<Watch> },
    /// A sink's or a source's state.
    Remember(Remembered),
    /// Deliveries in place of what is redriven, unless that is gone.
    Redrive { from: Origin, rows: Vec<DeliveryRow>, done: oneshot::Sender<bool> },
}

/// What is redriven.
#[derive(Debug)]
pub enum Origin {
    /// The dead letter of that number.
    Letter(i64),
    /// A delivery for a sink that nobody delivers to.
    Orphan(RowId, SinkName),
}

/// It, when it is gone.
#[derive(Debug)]
pub(super) enum Gone {
    Letter(GoneLetter),
    Orphan(GoneDelivery),
}

/// What kept something before the spool does.
#[derive(Debug)]
pub(super) enum Before {
    /// Its message, unacknowledged.
    Message(Receipt),
    /// A delivery in the spool.
    Row(RowId, SinkName),
}

/// What a step came to.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    Delivery(Written),
    /// A dead letter is written, and its copy, and the delivery that it takes the place of is gone.
    Letter {
        written: Written,
        copied: Option<Written>,
        gone: Option<GoneDelivery>,
    },
    /// A delivery is gone; none: it was gone already.
    Removed(Option<GoneDelivery>),
    Taken(Taken),
    Begun(Vec<(u16, u32)>),
    /// The deliveries that took the place of what was redriven; none: it was gone.
    Redriven(Vec<Written>, Option<Gone>),
}

/// What the writer knows beside what is on disk.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The deliveries that a sink's dispatcher has in its hands.
    claimed: HashMap<SinkName, HashSet<RowId>>,
    /// Those of them that a dead letter takes the place of, which is not on disk yet: no other dispatcher gets these either.
    burying: HashMap<SinkName, HashSet<RowId>>,
    /// Rows that a redelivered message was recognized as, so that the next copy isn't taken for the same: deliveries, and dead letters
    /// under their negative ids.
    taken: HashSet<i64>,
    /// Those of them that the transaction under way added.
    noted: Vec<i64>,
    /// Deliveries that were due and can't be read.
    pub(super) damaged: Vec<Damaged>,
    dispatchers: HashMap<SinkName, mpsc::UnboundedSender<News>>,
}

/// More recognized rows than these are forgotten. All that is unacknowledged at a restart is far less.
const MAX_TAKEN: usize = 1_000_000;

impl Held {
    /// A dispatcher still attempts what it hands in.
    pub(super) fn claim(&mut self, sink: &SinkName, id: RowId) {
        self.claimed.entry(sink.clone()).or_default().insert(id);
    }

    /// A dead letter is to take its place.
    pub(super) fn bury(&mut self, sink: &SinkName, id: RowId) {
        self.claim(sink, id);
        self.burying.entry(sink.clone()).or_default().insert(id);
    }

    fn buried(&mut self, sink: &SinkName, id: RowId) {
        if let Some(burying) = self.burying.get_mut(sink) {
            burying.remove(&id);
        }
    }

    /// A sink has another dispatcher: what the one before it had in its hands is due again, but for what becomes a dead letter.
    fn begin(&mut self, sink: &SinkName) {
        let burying = self.burying.get(sink).cloned().unwrap_or_default();
        self.claimed.insert(sink.clone(), burying);
    }

    fn release(&mut self, sink: &SinkName, id: RowId) {
        if let Some(claimed) = self.claimed.get_mut(sink) {
            claimed.remove(&id);
        }
    }

    /// A row that was recognized is not to be taken for the next copy.
    fn note(&mut self, written: Written) -> Written {
        if let Written::Known(id) = written {
            if self.taken.len() >= MAX_TAKEN {
                self.taken.clear();
            }
            self.taken.insert(id);
            self.noted.push(id);
        }
        written
    }

    /// The transaction is on disk.
    pub(super) fn keep_noted(&mut self) {
        self.noted.clear();
    }

    /// The transaction is not: what it recognized is recognized again.
    pub(super) fn forget_noted(&mut self) {
        for id in self.noted.drain(..) {
            self.taken.remove(&id);
        }
    }

    /// Somebody delivers what waits for that sink.
    pub(super) fn has_dispatcher(&self, sink: &SinkName) -> bool {
        self.dispatchers.get(sink).is_some_and(|dispatcher| !dispatcher.is_closed())
    }

    pub(super) fn tell(&self, sink: &SinkName, news: News) -> bool {
        self.dispatchers.get(sink).is_some_and(|dispatcher| dispatcher.send(news).is_ok())
    }
}

impl Change {
    /// Whether it makes the file larger, and by how much, in bytes.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Letter { row, copy, .. } => row.size + copy.as_ref().map_or(0, |copy| copy.size),
            Self::Deliver(row, _) => row.size,
            Self::Redrive { rows, .. } => rows.iter().map(|row| row.size).sum(),
            _ => 0,
        }
    }

    /// The row that it writes, and that its sink's dispatcher knows of already.
    pub(super) fn row(&self) -> Option<RowId> {
        if let Self::Deliver(row, _) = self { Some(row.id) } else { None }
    }

    /// The row that has to be there before it.
    pub(super) fn refers_to(&self) -> Option<RowId> {
        match self {
            Self::Done { id, .. } | Self::Again { id, .. } | Self::Letter { before: Before::Row(id, _), .. } => {
                Some(*id)
            }
            _ => None,
        }
    }

    /// The lane of its delivery, where that is for this sink.
    pub(super) fn lane_for(&self, sink: &SinkName) -> Option<u16> {
        match self {
            Self::Deliver(row, _) if row.waiting.sink == *sink => u16::try_from(row.waiting.key & 0xffff).ok(),
            _ => None,
        }
    }

    /// Its delivery was over before it was written.
    pub(super) fn settle_unwritten(self, held: &mut Held, shared: &Shared) {
        if let Self::Deliver(row, receipt) = self {
            shared.budget().not_needed(&row.waiting.sink, row.size);
            held.release(&row.waiting.sink, row.id);
            receipt.settle();
        }
    }

    /// Whether it only reads.
    pub(super) fn is_question(&self) -> bool {
        matches!(self, Self::Take { .. } | Self::Watch { .. })
    }

    /// What it takes of the room for dead letters, in bytes, if it is one.
    pub(super) fn letter_size(&self) -> Option<u64> {
        match self {
            Self::Letter { row, .. } => Some(row.size),
            _ => None,
        }
    }

    /// A dead letter that is to be stored, though dead letters have no room: its source ends, and its message would be taken anew, for
    /// all sinks; or the broker is about to drop it. There are no more of these than the sources' prefetch.
    pub(super) fn is_letter_beyond_limits(&self) -> bool {
        matches!(self, Self::Letter { before: Before::Message(receipt), .. } if receipt.must_spill())
    }

    /// The sinks whose deliveries it changes.
    pub(super) fn sinks(&self) -> impl Iterator<Item = &SinkName> {
        let (one, other) = match self {
            Self::Deliver(row, _) => (Some(&row.waiting.sink), None),
            Self::Done { sink, .. } | Self::Redrive { from: Origin::Orphan(_, sink), .. } => (Some(sink), None),
            Self::Letter { copy, before, .. } => {
                let before = match before {
                    Before::Message(_) => None,
                    Before::Row(_, sink) => Some(sink),
                };
                (before, copy.as_ref().map(|copy| &copy.waiting.sink))
            }
            _ => (None, None),
        };
        one.into_iter().chain(other)
    }

    /// Its step of the transaction.
    pub(super) fn apply(&self, store: &impl Store, held: &mut Held) -> Result<Outcome, SpoolError> {
        Ok(match self {
            Self::Letter { row, copy, before } => {
                let gone = match before {
                    Before::Message(_) => None,
                    Before::Row(id, _) => store.remove(*id)?,
                };
                let written = held.note(store.add_letter(row, &held.taken)?);
                let copied = match (copy, written) {
                    // The one that is known was copied when it was written.
                    (_, Written::Known(_)) | (None, _) => None,
                    (Some(copy), _) => Some(store.add_delivery(copy, &held.taken)?),
                };
                Outcome::Letter { written, copied, gone }
            }
            Self::Deliver(row, _) => Outcome::Delivery(held.note(store.add_delivery(row, &held.taken)?)),
            Self::Done { id, .. } => Outcome::Removed(store.remove(*id)?),
            Self::Again { id, sink, attempts, refusals, due, cause } => {
                store.reschedule(*id, (*attempts, *refusals), *due, cause)?;
                // Not only once it is on disk: what is asked for in the same transaction is to have it.
                held.release(sink, *id);
                Outcome::Done
            }
            Self::MakeDue(sink, then) => {
                store.make_due(sink, *then)?;
                Outcome::Done
            }
            Self::Take { sink, portion } => {
                let claimed = held.claimed.entry(sink.clone()).or_default();
                Outcome::Taken(store.due(sink, MonotonicTime::now(), *portion, claimed)?)
            }
            Self::Watch { sink, .. } => Outcome::Begun(store.lanes(sink)?),
            Self::Redrive { from, rows, .. } => match from.remove(store, held)? {
                Some(gone) => {
                    let written = rows.iter().map(|row| store.add_delivery(row, &held.taken));
                    Outcome::Redriven(written.collect::<Result<_, _>>()?, Some(gone))
                }
                None => Outcome::Redriven(Vec::new(), None),
            },
            Self::Remember(remembered) => {
                store.remember(remembered)?;
                Outcome::Done
            }
        })
    }

    /// It is on disk: whoever waits for that hears of it.
    pub(super) fn settle(self, outcome: Outcome, held: &mut Held, shared: &Shared) {
        match (self, outcome) {
            (Self::Letter { row, copy, before }, Outcome::Letter { written, copied, gone }) => {
                let letter = &row.letter;
                if written == Written::New {
                    shared.tallies().stored(letter.reason, letter.sink.as_ref(), row.size);
                }
                if let Some(copy) = copy {
                    added(&copy, copied, held, shared);
                }
                if let Before::Row(id, sink) = &before {
                    held.buried(sink, *id);
                    held.tell(sink, News::Buried { id: *id, key: gone.map(|gone| gone.key) });
                }
                before.end(gone, held, shared);
            }
            (Self::Deliver(row, receipt), Outcome::Delivery(written)) => {
                let DeliveryRow { id, waiting, size, .. } = *row;
                shared.budget().written(&waiting.sink, size, written);
                if let Written::Known(_) = written {
                    held.release(&waiting.sink, id);
                    held.tell(&waiting.sink, News::Known { key: waiting.key });
                }
                receipt.settle();
            }
            (Self::Done { id, sink }, Outcome::Removed(gone)) => {
                Before::Row(id, sink).end(gone, held, shared);
            }
            (Self::Take { sink, .. }, Outcome::Taken(Taken { due, damaged })) => {
                let ids: Vec<_> = due.rows.iter().map(|(id, _)| *id).collect();
                if held.tell(&sink, News::Due(due)) {
                    held.claimed.entry(sink).or_default().extend(ids);
                    held.damaged.extend(damaged);
                }
            }
            (Self::Redrive { from, rows, done }, Outcome::Redriven(written, gone)) => {
                for (place, row) in rows.iter().enumerate() {
                    // None: what was redriven was gone.
                    added(row, written.get(place).copied(), held, shared);
                }
                let was_there = gone.is_some();
                match (from, gone) {
                    (_, Some(Gone::Letter(gone))) => {
                        shared.tallies().removed(gone.reason, gone.sink.as_ref(), gone.size);
                    }
                    (Origin::Orphan(id, sink), Some(Gone::Orphan(gone))) => {
                        Before::Row(id, sink).end(Some(gone), held, shared);
                    }
                    _ => {}
                }
                // Who asked may be gone.
                let _ = done.send(was_there);
            }
            (Self::Watch { sink, begun }, Outcome::Begun(lanes)) => {
                held.begin(&sink);
                let (to, news) = mpsc::unbounded_channel();
                held.dispatchers.insert(sink, to);
                // Who asked may be gone; then nothing is ever taken.
                let _ = begun.send(Watch { lanes, news });
            }
            _ => {}
        }
    }
}

impl Origin {
    fn remove(&self, store: &impl Store, held: &Held) -> Result<Option<Gone>, SpoolError> {
        Ok(match self {
            Self::Letter(id) => store.remove_letter(*id)?.map(Gone::Letter),
            Self::Orphan(_, sink) if held.has_dispatcher(sink) => None,
            Self::Orphan(id, _) => store.remove(*id)?.map(Gone::Orphan),
        })
    }
}

/// A delivery was put there that its sink's dispatcher doesn't know of; none: it wasn't, after all.
fn added(row: &DeliveryRow, written: Option<Written>, held: &Held, shared: &Shared) {
    let written = written.unwrap_or(Written::Again);
    shared.budget().written(&row.waiting.sink, row.size, written);
    if written == Written::New {
        held.tell(&row.waiting.sink, News::Added { key: row.waiting.key });
    }
}

impl Before {
    /// The spool has what it kept, and a delivery is gone.
    fn end(self, gone: Option<GoneDelivery>, held: &mut Held, shared: &Shared) {
        match self {
            Self::Message(receipt) => receipt.settle(),
            Self::Row(id, sink) => {
                held.release(&sink, id);
                held.taken.remove(&id.0);
                if let Some(gone) = gone {
                    shared.budget().removed(&sink, gone.size);
                }
            }
        }
    }
}
