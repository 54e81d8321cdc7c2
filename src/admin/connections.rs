//! The connections of a listener. Their number is bounded, and a new client is always served: when there is no room, the oldest
//! connection that has sent no request yet is closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFuture};

/// The open connections, the oldest first. All of them are closed when this is dropped.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    open: VecDeque<Slot>,
    all: CancellationToken,
    _close_all: DropGuard,
}

/// One connection's place among the [`Connections`]; the place is free once the connection drops its copy.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    has_request: Arc<AtomicBool>,
    closed: CancellationToken,
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        let all = CancellationToken::new();
        Self { most, open: VecDeque::new(), all: all.clone(), _close_all: all.drop_guard() }
    }

    /// A slot for a new connection. If there are too many, it closes the oldest idle one, or else the oldest.
    pub(super) fn add(&mut self) -> Slot {
        self.open.retain(|slot| Arc::strong_count(&slot.has_request) > 1);
        if self.open.len() >= self.most {
            let at = self.open.iter().position(|slot| !slot.has_request()).unwrap_or(0);
            if let Some(evicted) = self.open.remove(at) {
                evicted.closed.cancel();
            }
        }
        let slot = Slot { has_request: Arc::default(), closed: self.all.child_token() };
        self.open.push_back(slot.clone());
        slot
    }
}

impl Slot {
    /// From now on the connection is not idle.
    pub(super) fn set_has_request(&self) {
        self.has_request.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_request(&self) -> bool {
        self.has_request.load(Ordering::Relaxed)
    }

    /// Waits until the connection has to be closed.
    pub(super) fn closed(&self) -> WaitForCancellationFuture<'_> {
        self.closed.cancelled()
    }
}
