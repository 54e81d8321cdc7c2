//! Messages as they come in, for who looks on: nothing is held up by that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::event::{Message, SourceName};

/// So many messages wait for who looks on; the next ones are left out …
const BEHIND: usize = 100;
/// … and so many bytes of them. One that alone has more takes all of it.
const BEHIND_BYTES: u32 = 4 * 1024 * 1024;

/// Who looks on.
#[derive(Debug, Default)]
pub(super) struct Taps {
    /// How many: mostly nobody, and then nothing is locked.
    count: AtomicUsize,
    taps: Mutex<Vec<Tap>>,
}

#[derive(Debug)]
struct Tap {
    source: SourceName,
    to: mpsc::Sender<TappedMessage>,
    /// A permit a byte.
    room: Arc<Semaphore>,
}

/// A message for who looks on.
#[derive(Debug)]
pub struct TappedMessage {
    /// As received.
    pub message: Message,
    /// Given back once it was looked at.
    _room: OwnedSemaphorePermit,
}

impl Taps {
    /// What comes in from that source, until it is dropped.
    pub(super) fn open(&self, source: SourceName) -> mpsc::Receiver<TappedMessage> {
        let (to, messages) = mpsc::channel(BEHIND);
        let mut taps = self.lock();
        let room = Arc::new(Semaphore::new(usize::try_from(BEHIND_BYTES).unwrap_or(Semaphore::MAX_PERMITS)));
        taps.push(Tap { source, to, room });
        self.count.store(taps.len(), Ordering::Relaxed);
        messages
    }

    /// Shows it to who looks on.
    pub(super) fn show(&self, message: &Message) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut taps = self.lock();
        taps.retain(|tap| !tap.to.is_closed());
        self.count.store(taps.len(), Ordering::Relaxed);
        for tap in taps.iter().filter(|tap| tap.source == message.source) {
            let bytes = u32::try_from(message.size()).unwrap_or(u32::MAX).min(BEHIND_BYTES);
            // Who is too slow misses it.
            if let Ok(room) = Arc::clone(&tap.room).try_acquire_many_owned(bytes) {
                let _ = tap.to.try_send(TappedMessage { message: message.clone(), _room: room });
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tap>> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Properties;

    #[test]
    fn what_waits_for_who_looks_on_is_bounded_in_bytes() {
        let source = SourceName::new("regards");
        let message = |bytes: usize| Message {
            source: source.clone(),
            body: vec![b'x'; bytes].into(),
            properties: Properties::default(),
            redelivered: false,
        };
        let taps = Taps::default();
        let mut messages = taps.open(source.clone());
        let waiting = |messages: &mut mpsc::Receiver<TappedMessage>| {
            std::iter::from_fn(|| messages.try_recv().ok()).map(|seen| seen.message.size()).sum::<usize>()
        };
        for _ in 0..BEHIND {
            taps.show(&message(1 << 20));
        }
        assert_eq!(waiting(&mut messages), 4 << 20);
        taps.show(&message(64 << 20));
        taps.show(&message(1));
        assert_eq!(waiting(&mut messages), 64 << 20, "one that is larger is seen alone");
        taps.show(&message(1));
        assert_eq!(waiting(&mut messages), 1);
    }
}
