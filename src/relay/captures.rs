//! Live copies of incoming messages, for `capture`. A slow reader misses messages; it never blocks a source.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::event::{Message, SourceName};

/// The largest number of messages queued for a reader. Further ones are left out.
const MAX_QUEUED: usize = 100;
/// The largest number of bytes queued for a reader. A larger message is queued alone.
const MAX_QUEUED_BYTES: u32 = 4 * 1024 * 1024;

/// All captures that are open.
#[derive(Debug, Default)]
pub(super) struct Captures {
    /// If it is zero, as usual, no message locks the mutex.
    count: AtomicUsize,
    captures: Mutex<Vec<Capture>>,
}

#[derive(Debug)]
struct Capture {
    source: SourceName,
    to: mpsc::Sender<CapturedMessage>,
    /// One permit for each byte.
    room: Arc<Semaphore>,
}

#[derive(Debug)]
pub struct CapturedMessage {
    pub message: Message,
    _room: OwnedSemaphorePermit,
}

impl Captures {
    /// Copies the messages of `source` to the receiver until that is dropped.
    pub(super) fn open(&self, source: SourceName) -> mpsc::Receiver<CapturedMessage> {
        let (to, messages) = mpsc::channel(MAX_QUEUED);
        let mut captures = self.lock();
        let room = Arc::new(Semaphore::new(usize::try_from(MAX_QUEUED_BYTES).unwrap_or(Semaphore::MAX_PERMITS)));
        captures.push(Capture { source, to, room });
        self.count.store(captures.len(), Ordering::Relaxed);
        messages
    }

    pub(super) fn copy(&self, message: &Message) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut captures = self.lock();
        captures.retain(|capture| !capture.to.is_closed());
        self.count.store(captures.len(), Ordering::Relaxed);
        for capture in captures.iter().filter(|capture| capture.source == message.source) {
            let bytes = u32::try_from(message.size()).unwrap_or(u32::MAX).min(MAX_QUEUED_BYTES);
            if let Ok(room) = Arc::clone(&capture.room).try_acquire_many_owned(bytes) {
                let _ = capture.to.try_send(CapturedMessage { message: message.clone(), _room: room });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Capture>> {
        self.captures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Properties;

    #[test]
    fn the_bytes_queued_for_a_reader_are_bounded() {
        let source = SourceName::new("regards");
        let message = |bytes: usize| Message {
            source: source.clone(),
            body: vec![b'x'; bytes].into(),
            properties: Properties::default(),
            redelivered: false,
        };
        let captures = Captures::default();
        let mut messages = captures.open(source.clone());
        let queued = |messages: &mut mpsc::Receiver<CapturedMessage>| {
            std::iter::from_fn(|| messages.try_recv().ok()).map(|captured| captured.message.size()).sum::<usize>()
        };
        for _ in 0..MAX_QUEUED {
            captures.copy(&message(1 << 20));
        }
        assert_eq!(queued(&mut messages), 4 << 20);
        captures.copy(&message(64 << 20));
        captures.copy(&message(1));
        assert_eq!(queued(&mut messages), 64 << 20, "a message above the bound is captured alone");
        captures.copy(&message(1));
        assert_eq!(queued(&mut messages), 1);
    }
}
