//! What the writer is asked to do, as it comes in.

use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::Instant;

use super::{LAST_GRACE, Writer};
use crate::spool::Limits;
use crate::spool::change::{Before, Change};
use crate::spool::command::Command;
use crate::spool::delivery::News;
use crate::spool::letter::LetterRow;
use crate::spool::store::DeliveryRow;

impl Writer {
    /// Until something comes in, at most until then, and not beyond the end of the grace.
    pub(super) fn wait(&mut self, until: Instant) {
        // Once closing, nobody is there who would wake us.
        let end = self.closing.as_ref().map(|(end, _)| *end);
        let until = end.map_or(until, |end| until.min(end));
        let failed = self.database.is_none();
        loop {
            match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(command) => {
                    self.take(command);
                    // What comes in doesn't cut a back-off short; a close does, for one more try.
                    if !failed || (end.is_none() && self.closing.is_some()) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    if self.closing.is_none() {
                        self.closing = Some((Instant::now() + LAST_GRACE, None));
                        return;
                    }
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    return;
                }
            }
        }
    }

    pub(super) fn take_waiting(&mut self) {
        loop {
            match self.from.try_recv() {
                Ok(command) => self.take(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.closing.get_or_insert_with(|| (Instant::now() + LAST_GRACE, None));
                    return;
                }
            }
        }
    }

    pub(super) fn take(&mut self, command: Command) {
        let can_wait = command.is_new_row();
        match command {
            Command::Bury(letter, before) => {
                if let Before::Row(id, sink) = &before {
                    self.held.bury(sink, *id);
                }
                let row = LetterRow::new(
                    self.next_letter,
                    *letter,
                    matches!(before, Before::Message(_)),
                    &mut self.last_page,
                );
                self.next_letter = self.next_letter.saturating_add(1);
                let copy = self.copy_of(&row);
                let change = Change::Letter { row: Box::new(row), copy, before };
                self.is_urgent |= !can_wait;
                self.queue.push(change);
            }
            Command::Change { change, claim } => {
                if let (Some(id), Some(sink)) = (claim, change.sinks().next()) {
                    self.held.claim(sink, id);
                }
                self.is_urgent |= !can_wait;
                self.queue.push(change);
            }
            Command::Purge(purge) => self.purges.push_back(purge),
            Command::Close { until, done } => self.closing = Some((until, Some(done))),
        }
    }

    /// A copy of a dead letter, if one is wanted and there is room for it.
    pub(super) fn copy_of(&self, row: &LetterRow) -> Option<Box<DeliveryRow>> {
        let sink = self.shared.copies().clone()?;
        let copy = self.shared.row(row.copy(sink.clone()), Limits::Kept);
        if copy.is_none() {
            self.held.tell(&sink, News::NotCopied { letter: row.id });
        }
        copy.map(Box::new)
    }
}
