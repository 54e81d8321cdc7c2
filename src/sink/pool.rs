//! A bounded number of threads for work that blocks: writing lines to files.
//!
//! A job runs on one thread at a time, so it keeps its order, and one that hangs holds one thread. Threads are started as they are
//! needed and end when they have had nothing to do for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::tasks::{self, TaskKind};

/// A thread that has had nothing to do for so long ends.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// Work for the pool.
pub(super) trait Job: Send + Sync + 'static {
    /// Does a piece of it, which may block. True: there is more, for which it takes its turn behind the other jobs.
    fn run(&self) -> bool;
}

/// The threads, and the jobs that wait for one.
pub(super) struct Pool {
    name: &'static str,
    max_threads: usize,
    /// What a thread does before it ends of idleness.
    on_idle: fn(),
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    ready: VecDeque<Arc<dyn Job>>,
    threads: usize,
    idle: usize,
}

impl Pool {
    pub(super) fn new(name: &'static str, max_threads: usize, on_idle: fn()) -> Self {
        Self { name, max_threads, on_idle, state: Mutex::default(), work: Condvar::new() }
    }

    /// Runs the job on a thread of the pool. An error: there is none, and none can be started.
    pub(super) fn submit(self: &Arc<Self>, job: Arc<dyn Job>) -> std::io::Result<()> {
        let mut state = self.lock();
        state.ready.push_back(job);
        if state.idle >= state.ready.len() {
            self.work.notify_one();
        } else if state.threads < self.max_threads {
            let pool = Arc::clone(self);
            match tasks::spawn_thread(TaskKind::LineWriter, self.name.to_owned(), move || pool.serve()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.ready.pop_back();
                    return Err(error);
                }
                // The others get to it.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// A thread's life.
    fn serve(&self) {
        while let Some(job) = self.next() {
            if job.run() {
                self.lock().ready.push_back(job);
            }
        }
        (self.on_idle)();
    }

    /// The next job, once there is one. None: the thread has had nothing to do for long, and is no longer counted.
    fn next(&self) -> Option<Arc<dyn Job>> {
        let mut state = self.lock();
        if let Some(job) = state.ready.pop_front() {
            return Some(job);
        }
        state.idle += 1;
        let waited = self.work.wait_timeout_while(state, IDLE, |state| state.ready.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let job = state.ready.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No job runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Says that it runs, and waits until it is let go.
    struct Held {
        begun: Mutex<Sender<usize>>,
        go: Mutex<Receiver<()>>,
        number: usize,
        left: AtomicUsize,
    }

    impl Job for Held {
        fn run(&self) -> bool {
            self.begun.lock().unwrap().send(self.number).unwrap();
            self.go.lock().unwrap().recv().unwrap();
            self.left.fetch_sub(1, Ordering::Relaxed) > 1
        }
    }

    fn held(number: usize, pieces: usize, begun: &Sender<usize>) -> (Arc<Held>, Sender<()>) {
        let (let_go, go) = channel();
        let job = Held { begun: Mutex::new(begun.clone()), go: Mutex::new(go), number, left: AtomicUsize::new(pieces) };
        (Arc::new(job), let_go)
    }

    #[test]
    fn threads_are_bounded_and_jobs_take_turns() {
        let pool = Arc::new(Pool::new("test", 2, || {}));
        let (begun, begins) = channel();
        let (jobs, let_go): (Vec<_>, Vec<_>) = (0..3).map(|number| held(number, 2, &begun)).unzip();
        for job in jobs {
            pool.submit(job).unwrap();
        }
        let mut first = [begins.recv().unwrap(), begins.recv().unwrap()];
        first.sort_unstable();
        assert_eq!(first, [0, 1]);
        assert_eq!(pool.lock().threads, 2);
        assert!(begins.try_recv().is_err(), "a third thread");
        // The first has more to do, but it is the third's turn.
        let_go[0].send(()).unwrap();
        assert_eq!(begins.recv().unwrap(), 2);
        let_go[2].send(()).unwrap();
        assert_eq!(begins.recv().unwrap(), 0);
        for let_go in let_go {
            let _ = let_go.send(());
            let _ = let_go.send(());
        }
    }
}
