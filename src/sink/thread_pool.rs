//! A bounded pool of threads for blocking work: writing lines to files and standard output.
//!
//! A job runs on one thread at a time, so its lines keep their order, and a job that hangs blocks one thread. Threads are
//! started when they are needed and end when they have been idle for a while.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::tasks::{self, TaskKind};

/// A thread that has been idle for this long ends.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) trait PoolJob: Send + Sync + 'static {
    /// Does a part of the work, which may block. Returns whether there is more, to be done after the other jobs' turn.
    fn run(&self) -> bool;
}

/// The threads, and the queue of jobs.
pub(super) struct ThreadPool {
    name: &'static str,
    max_threads: usize,
    /// Called by a thread that ends because it was idle.
    on_idle: fn(),
    state: Mutex<PoolState>,
    work: Condvar,
}

#[derive(Default)]
struct PoolState {
    ready: VecDeque<Arc<dyn PoolJob>>,
    threads: usize,
    idle: usize,
}

impl ThreadPool {
    pub(super) fn new(name: &'static str, max_threads: usize, on_idle: fn()) -> Self {
        Self { name, max_threads, on_idle, state: Mutex::default(), work: Condvar::new() }
    }

    /// Runs the job on a thread of the pool. The error: the pool has no thread, and none can be started.
    pub(super) fn submit(self: &Arc<Self>, job: Arc<dyn PoolJob>) -> std::io::Result<()> {
        let mut state = self.lock();
        state.ready.push_back(job);
        if state.idle >= state.ready.len() {
            self.work.notify_one();
        } else if state.threads < self.max_threads {
            let pool = Arc::clone(self);
            match tasks::spawn_thread(TaskKind::LineWriter, self.name.to_owned(), move || pool.run_thread()) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.ready.pop_back();
                    return Err(error);
                }
                // The threads that exist will run it.
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn run_thread(&self) {
        while let Some(job) = self.next_job() {
            if job.run() {
                self.lock().ready.push_back(job);
            }
        }
        (self.on_idle)();
    }

    /// Waits for the next job. `None`: the thread was idle for too long, and is no longer counted.
    fn next_job(&self) -> Option<Arc<dyn PoolJob>> {
        let mut state = self.lock();
        if let Some(job) = state.ready.pop_front() {
            return Some(job);
        }
        state.idle += 1;
        let waited = self.work.wait_timeout_while(state, IDLE_TIMEOUT, |state| state.ready.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let job = state.ready.pop_front();
        if job.is_none() {
            state.threads -= 1;
        }
        job
    }

    fn lock(&self) -> MutexGuard<'_, PoolState> {
        // No job runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A job that reports when it runs, and waits for the test's permit.
    struct GatedJob {
        begun: Mutex<Sender<usize>>,
        permits: Mutex<Receiver<()>>,
        number: usize,
        left: AtomicUsize,
    }

    impl PoolJob for GatedJob {
        fn run(&self) -> bool {
            self.begun.lock().unwrap().send(self.number).unwrap();
            self.permits.lock().unwrap().recv().unwrap();
            self.left.fetch_sub(1, Ordering::Relaxed) > 1
        }
    }

    fn gated_job(number: usize, pieces: usize, begun: &Sender<usize>) -> (Arc<GatedJob>, Sender<()>) {
        let (permit, permits) = channel();
        let (begun, permits) = (Mutex::new(begun.clone()), Mutex::new(permits));
        (Arc::new(GatedJob { begun, permits, number, left: AtomicUsize::new(pieces) }), permit)
    }

    #[test]
    fn threads_are_bounded_and_jobs_take_turns() {
        let pool = Arc::new(ThreadPool::new("test", 2, || {}));
        let (begun, begins) = channel();
        let (jobs, permits): (Vec<_>, Vec<_>) = (0..3).map(|number| gated_job(number, 2, &begun)).unzip();
        for job in jobs {
            pool.submit(job).unwrap();
        }
        let mut first = [begins.recv().unwrap(), begins.recv().unwrap()];
        first.sort_unstable();
        assert_eq!(first, [0, 1]);
        assert_eq!(pool.lock().threads, 2);
        assert!(begins.try_recv().is_err(), "a third thread was started");
        // The first job has more to do, but it is the turn of the third.
        permits[0].send(()).unwrap();
        assert_eq!(begins.recv().unwrap(), 2);
        permits[2].send(()).unwrap();
        assert_eq!(begins.recv().unwrap(), 0);
        for permit in permits {
            let _ = permit.send(());
            let _ = permit.send(());
        }
    }
}
