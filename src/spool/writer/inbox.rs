//! The commands that the writer gets.

use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::time::Instant;

use super::{DROPPED_GRACE, Writer};
use crate::spool::SizeLimits;
use crate::spool::change::{Change, DeadLetterOrigin};
use crate::spool::command::WriterCommand;
use crate::spool::dead_letter::DeadLetterRow;
use crate::spool::delivery::{DeliveryRow, SpoolEvent};

impl Writer {
    /// Waits for a command, at most until `until`, and not beyond the end of the grace.
    pub(super) fn wait_for_command(&mut self, until: Instant) {
        // Once the spool closes, no more commands come.
        let end = self.closing.as_ref().map(|(end, _)| *end);
        let until = end.map_or(until, |end| until.min(end));
        let failed = !self.store.is_open();
        loop {
            match self.from.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(command) => {
                    self.on_command(command);
                    // A command doesn't cut a back-off short; only a close does, for one more try.
                    if !failed || (end.is_none() && self.closing.is_some()) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => {
                    if self.closing.is_none() {
                        self.closing = Some((Instant::now() + DROPPED_GRACE, None));
                        return;
                    }
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    return;
                }
            }
        }
    }

    pub(super) fn receive_all(&mut self) {
        loop {
            match self.from.try_recv() {
                Ok(command) => self.on_command(command),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.closing.get_or_insert_with(|| (Instant::now() + DROPPED_GRACE, None));
                    return;
                }
            }
        }
    }

    fn on_command(&mut self, command: WriterCommand) {
        let can_wait = command.is_new_row();
        match command {
            WriterCommand::AddDeadLetters(letters, origin) => {
                self.is_urgent |= !can_wait;
                let is_received = match &origin {
                    DeadLetterOrigin::Message(_) => true,
                    DeadLetterOrigin::Deliveries(ids, sink, _) => {
                        for id in ids {
                            self.state.begin_dead_lettering(sink, *id);
                        }
                        false
                    }
                };
                let row = |letter| {
                    let number = self.next_dead_letter_number();
                    DeadLetterRow::new(number, letter, is_received, &mut self.current_page)
                };
                let rows = letters.into_iter().map(row).collect();
                self.add_dead_letters(rows, origin);
            }
            WriterCommand::AddDelivery { add, is_attempted } => {
                if is_attempted {
                    self.state.claim(&add.row.delivery.sink, [add.row.id]);
                }
                self.queue.push(Change::AddDelivery(add));
            }
            WriterCommand::Change(change) => {
                self.is_urgent |= !can_wait;
                self.queue.push(change);
            }
            WriterCommand::Purge(purge) => self.purges.push_back(purge),
            WriterCommand::Close { until, done } => self.closing = Some((until, Some(done))),
        }
    }

    /// The copy of a dead letter for `dead_letters.to`, if there is room for it.
    pub(super) fn copy_of(&self, row: &DeadLetterRow) -> Option<Box<DeliveryRow>> {
        let sink = self.shared.copy_sink().clone()?;
        let copy = self.shared.reserve(row.copy(sink.clone()), SizeLimits::Enforced);
        if copy.is_none() {
            self.state.notify(&sink, SpoolEvent::NotCopied { dead_letter: row.id });
        }
        copy.map(Box::new)
    }
}
