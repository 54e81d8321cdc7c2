//! The queue of changes: which of them are written while there is no room.

use super::deliveries::{delivery, sink};
use super::*;
use crate::spool::change::{AddDeadLetters, NewDeadLetter};
use crate::spool::dead_letter::DeadLetterRow;
use crate::spool::delivery::DeliveryRow;
use crate::spool::queue::{Capacity, ChangeQueue};
use crate::spool::row_size::CurrentPage;
use crate::spool::writer_state::WriterState;
use crate::storage::DiskSpace;

const FULL: Capacity = Capacity { disk: DiskSpace::None, dead_letters: u64::MAX, may_grow: true };
const PLENTY: Capacity = Capacity { disk: DiskSpace::Plenty, dead_letters: u64::MAX, may_grow: true };

fn deliver(id: i64, receipt: Receipt) -> Change {
    let row =
        DeliveryRow { id: RowId(id), delivery: delivery(id.cast_unsigned(), 1), properties: String::new(), size: 100 };
    Change::AddDelivery(AddDelivery { row: Box::new(row), receipt, was_blocked: false })
}

fn receipt(entry: u64) -> Receipt {
    Receipt::new(EntryId(entry), unbounded_channel().0)
}

fn reschedule(id: i64) -> Change {
    Change::Reschedule(Reschedule {
        others: Vec::new(),
        id: RowId(id),
        sink: sink(),
        attempts: 1,
        refusals: None,
        due: MonotonicTime::now(),
        error: String::new(),
    })
}

fn complete(id: i64) -> Change {
    Change::Complete(Complete { id: RowId(id), sink: sink() })
}

/// The kind of each change, and its row.
fn described(changes: &[Change]) -> Vec<String> {
    let describe = |change: &Change| match change {
        Change::AddDelivery(add) => format!("deliver {}", add.row.id.0),
        Change::Reschedule(reschedule) => format!("reschedule {}", reschedule.id.0),
        Change::Complete(complete) => format!("complete {}", complete.id.0),
        other => format!("{other:?}"),
    };
    changes.iter().map(describe).collect()
}

#[test]
fn changes_that_make_room_overtake_others_but_not_those_of_their_own_row() {
    let mut queue = ChangeQueue::default();
    for change in [deliver(10, receipt(0)), deliver(11, receipt(1)), reschedule(10), complete(1), reschedule(2)] {
        queue.push(change);
    }
    assert_eq!(described(&queue.assemble(FULL).changes), ["complete 1", "reschedule 2"]);
    assert_eq!(queue.lanes(&sink()), [10, 11], "a new dispatcher of the sink has to know of them");
    assert_eq!(queue.lanes(&SinkName::new("other")), [0; 0]);
    queue.push(deliver(12, receipt(2)));
    assert_eq!(described(&queue.assemble(FULL).changes), [""; 0]);
    let batch = queue.assemble(PLENTY).changes;
    assert_eq!(described(&batch), ["deliver 10", "deliver 11", "reschedule 10", "deliver 12"]);

    // Nothing of a transaction that failed is lost or overtaken, and its size is halved.
    queue.push(complete(3));
    queue.requeue(batch);
    assert_eq!(described(&queue.assemble(Capacity { may_grow: false, ..PLENTY }).changes), ["complete 3"]);
    assert_eq!(described(&queue.assemble(PLENTY).changes), ["deliver 10", "deliver 11"]);
    assert_eq!(described(&queue.assemble(PLENTY).changes), ["reschedule 10", "deliver 12"]);
    assert_eq!((queue.len(), queue.blocked_count()), (0, 0));
}

#[test]
fn a_delivery_completed_before_it_is_written_settles_its_message() {
    let setup = Setup::new();
    let spool = setup.open();
    let (to, mut settled) = unbounded_channel();
    let mut queue = ChangeQueue::default();
    for change in [deliver(10, Receipt::new(EntryId(7), to)), reschedule(10), deliver(11, receipt(1)), complete(10)] {
        queue.push(change);
    }
    let batch = queue.assemble(FULL);
    assert_eq!(described(&batch.changes), [""; 0]);
    assert_eq!(batch.completed.iter().map(|add| add.row.id.0).collect::<Vec<_>>(), [10]);
    for delivery in batch.completed {
        delivery.settle_unwritten(&mut WriterState::default(), &spool.shared);
    }
    assert_eq!(settled.try_recv(), Ok(Settlement::Done(EntryId(7))));
    assert_eq!(described(&queue.assemble(PLENTY).changes), ["deliver 11"]);
}

fn dead_letter(receipt: Receipt) -> Change {
    let row = DeadLetterRow::new(1, letter("<1>"), true, &mut CurrentPage::default());
    let letters = vec![NewDeadLetter { row, copy: None }];
    Change::AddDeadLetters(AddDeadLetters { letters, origin: DeadLetterOrigin::Message(receipt) })
}

#[test]
fn dead_letters_exceed_their_limit_where_the_broker_is_about_to_drop_the_message() {
    const NO_LETTERS: Capacity = Capacity { dead_letters: 0, ..PLENTY };
    let mut queue = ChangeQueue::default();
    let signals = Arc::<crate::source::SourceSignals>::default();
    let under = |entry| Receipt::with_signals(EntryId(entry), unbounded_channel().0, Arc::clone(&signals));
    for change in [dead_letter(receipt(9)), dead_letter(under(1)), dead_letter(under(2)), dead_letter(under(3))] {
        queue.push(change);
    }
    assert!(queue.assemble(NO_LETTERS).changes.is_empty());
    signals.require_spill(EntryId(2));
    assert_eq!(queue.assemble(NO_LETTERS).changes.len(), 2, "the first two of that source");
    queue.push(dead_letter(under(2)));
    assert_eq!(queue.assemble(NO_LETTERS).changes.len(), 1, "it is written at once");
    signals.require_spill(EntryId(3));
    assert!(
        queue.assemble(Capacity { disk: DiskSpace::None, ..NO_LETTERS }).changes.is_empty(),
        "the disk has no room"
    );
    assert_eq!(queue.blocked_count(), 2);
    assert_eq!(queue.assemble(PLENTY).changes.len(), 2);
}

#[test]
fn blocked_dead_letters_do_not_delay_deliveries() {
    let mut queue = ChangeQueue::default();
    for change in [dead_letter(receipt(1)), deliver(10, receipt(1)), complete(1)] {
        queue.push(change);
    }
    assert_eq!(
        described(&queue.assemble(Capacity { dead_letters: 10, ..PLENTY }).changes),
        ["deliver 10", "complete 1"]
    );
    assert_eq!(queue.first_blocked_dead_letter().map(|(_, count)| count), Some(1));
    assert!(queue.assemble(FULL).changes.is_empty(), "the disk has no room either");
    assert_eq!(queue.assemble(PLENTY).changes.len(), 1);
}
