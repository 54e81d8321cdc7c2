//! Messages as they come in, for who looks on: nothing is held up by that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::event::{Message, SourceName};

/// So many messages wait for who looks on; the next ones are left out.
const BEHIND: usize = 100;

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
    to: mpsc::Sender<Message>,
}

impl Taps {
    /// What comes in from that source, until it is dropped.
    pub(super) fn open(&self, source: SourceName) -> mpsc::Receiver<Message> {
        let (to, messages) = mpsc::channel(BEHIND);
        let mut taps = self.lock();
        taps.push(Tap { source, to });
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
            // Who is too slow misses it.
            let _ = tap.to.try_send(message.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Tap>> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
