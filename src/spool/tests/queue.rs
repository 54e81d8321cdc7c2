//! What may be written where the disk has no room for more.

use super::deliveries::{sink, waiting};
use super::*;
use crate::spool::change::Held;
use crate::spool::disk::Room;
use crate::spool::footprint::LastPage;
use crate::spool::queue::{Queue, Space};

const FULL: Space = Space { disk: Room::None, letters: u64::MAX, may_grow: true };
const PLENTY: Space = Space { disk: Room::Plenty, letters: u64::MAX, may_grow: true };

fn deliver(id: i64, receipt: Receipt) -> Change {
    let row =
        DeliveryRow { id: RowId(id), waiting: waiting(id.cast_unsigned(), 1), properties: String::new(), size: 100 };
    Change::Deliver(Box::new(row), receipt)
}

fn of(entry: u64) -> Receipt {
    Receipt::new(EntryId(entry), unbounded_channel().0)
}

fn again(id: i64) -> Change {
    Change::Again {
        id: RowId(id),
        sink: sink(),
        attempts: 1,
        refusals: None,
        due: MonotonicTime::now(),
        cause: String::new(),
    }
}

fn over(id: i64) -> Change {
    Change::Done { id: RowId(id), sink: sink() }
}

/// What each is, and of which row.
fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Deliver(row, _) => format!("deliver {}", row.id.0),
        Change::Again { id, .. } => format!("again {}", id.0),
        Change::Done { id, .. } => format!("done {}", id.0),
        other => format!("{other:?}"),
    };
    changes.iter().map(word).collect()
}

#[test]
fn what_makes_room_overtakes_what_needs_some_but_not_the_changes_of_its_own_row() {
    let mut queue = Queue::default();
    for change in [deliver(10, of(0)), deliver(11, of(1)), again(10), over(1), again(2)] {
        queue.push(change);
    }
    assert_eq!(words(&queue.assemble(FULL).changes), ["done 1", "again 2"]);
    assert_eq!(queue.lanes(&sink()), [10, 11], "a new dispatcher of the sink has to know of them");
    assert_eq!(queue.lanes(&SinkName::new("other")), [0; 0]);
    queue.push(deliver(12, of(2)));
    assert_eq!(words(&queue.assemble(FULL).changes), [""; 0]);
    let batch = queue.assemble(PLENTY).changes;
    assert_eq!(words(&batch), ["deliver 10", "deliver 11", "again 10", "deliver 12"]);

    // Nothing of a transaction that failed is lost or overtaken, and its size is halved.
    queue.push(over(3));
    queue.put_back(batch);
    assert_eq!(words(&queue.assemble(Space { may_grow: false, ..PLENTY }).changes), ["done 3"]);
    assert_eq!(words(&queue.assemble(PLENTY).changes), ["deliver 10", "deliver 11"]);
    assert_eq!(words(&queue.assemble(PLENTY).changes), ["again 10", "deliver 12"]);
    assert_eq!((queue.len(), queue.held_up()), (0, 0));
}

#[test]
fn what_is_over_before_it_is_written_settles_its_message() {
    let setup = Setup::new();
    let spool = setup.open();
    let (to, mut settled) = unbounded_channel();
    let mut queue = Queue::default();
    for change in [deliver(10, Receipt::new(EntryId(7), to)), again(10), deliver(11, of(1)), over(10)] {
        queue.push(change);
    }
    let batch = queue.assemble(FULL);
    assert_eq!((words(&batch.changes), words(&batch.over)), (vec![], vec!["deliver 10".to_owned()]));
    for change in batch.over {
        change.settle_unwritten(&mut Held::default(), &spool.shared);
    }
    assert_eq!(settled.try_recv(), Ok(Settlement::Done(EntryId(7))));
    assert_eq!(words(&queue.assemble(PLENTY).changes), ["deliver 11"]);
}

fn dead(receipt: Receipt) -> Change {
    let row = crate::spool::letter::LetterRow::new(1, letter("<1>"), true, &mut LastPage::default());
    Change::Letter { row: Box::new(row), copy: None, before: Before::Message(receipt) }
}

#[test]
fn a_dead_letter_of_a_message_that_the_broker_is_about_to_drop_needs_no_room_among_them() {
    const NO_LETTERS: Space = Space { letters: 0, ..PLENTY };
    let mut queue = Queue::default();
    let signals = Arc::<crate::source::SourceSignals>::default();
    let under = |entry| Receipt::with_signals(EntryId(entry), unbounded_channel().0, Arc::clone(&signals));
    for change in [dead(of(9)), dead(under(1)), dead(under(2)), dead(under(3))] {
        queue.push(change);
    }
    assert!(queue.assemble(NO_LETTERS).changes.is_empty());
    signals.require_spill(EntryId(2));
    assert_eq!(queue.assemble(NO_LETTERS).changes.len(), 2, "the first two of that source");
    queue.push(dead(under(2)));
    assert_eq!(queue.assemble(NO_LETTERS).changes.len(), 1, "at once");
    signals.require_spill(EntryId(3));
    assert!(queue.assemble(Space { disk: Room::None, ..NO_LETTERS }).changes.is_empty(), "the disk has to have room");
    assert_eq!(queue.held_up(), 2);
    assert_eq!(queue.assemble(PLENTY).changes.len(), 2);
}

#[test]
fn a_dead_letter_without_room_holds_up_no_delivery() {
    let mut queue = Queue::default();
    for change in [dead(of(1)), deliver(10, of(1)), over(1)] {
        queue.push(change);
    }
    assert_eq!(words(&queue.assemble(Space { letters: 10, ..PLENTY }).changes), ["deliver 10", "done 1"]);
    assert_eq!(queue.first_letter().map(|(_, count)| count), Some(1));
    assert!(queue.assemble(FULL).changes.is_empty(), "nor is there room on the disk");
    assert_eq!(queue.assemble(PLENTY).changes.len(), 1);
}
