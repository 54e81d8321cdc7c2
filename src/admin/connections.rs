//! The connections of a listener. Their number is bounded, and whoever comes next is always served: where there is no room, the
//! oldest that has asked nothing yet has to go.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::AbortHandle;

/// Those that are open, the oldest first.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    open: VecDeque<Connection>,
}

#[derive(Debug)]
struct Connection {
    idle: Idle,
    task: AbortHandle,
}

/// Whether a connection has asked nothing yet.
#[derive(Debug, Clone)]
pub(super) struct Idle(Arc<AtomicBool>);

impl Idle {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    pub(super) fn has_asked(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    fn is_idle(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Connections {
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: VecDeque::new() }
    }

    /// One more, which `task` serves. Where there are too many, another is ended for it: the oldest idle one, or else the oldest.
    pub(super) fn add(&mut self, idle: Idle, task: AbortHandle) {
        self.open.retain(|connection| !connection.task.is_finished());
        if self.open.len() >= self.most {
            let at = self.open.iter().position(|connection| connection.idle.is_idle()).unwrap_or(0);
            if let Some(evicted) = self.open.remove(at) {
                evicted.task.abort();
            }
        }
        self.open.push_back(Connection { idle, task });
    }
}
