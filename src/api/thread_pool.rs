//! A pool of threads for calls that may take long, started when needed, gone when idle.

use crate::base::locks;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Something to be done once.
pub type Job = Box<dyn FnOnce() + Send>;

/// How long a thread waits for more before it ends.
const IDLE: Duration = Duration::from_secs(10);
/// Enough for a request upstream with TLS; only what is touched costs memory.
const STACK: usize = 1 << 20;

/// A pool of threads for calls that may take long. Clones are the same pool.
#[derive(Clone)]
pub struct ThreadPool {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    most: usize,
    state: Mutex<State>,
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    waiting: usize,
}

impl ThreadPool {
    /// A pool of up to `most` threads; none is started yet.
    pub fn new(name: &'static str, most: usize) -> ThreadPool {
        ThreadPool {
            shared: Arc::new(Shared {
                name,
                most,
                state: Mutex::default(),
                wanted: Condvar::new(),
            }),
        }
    }

    /// None where a job would be begun now; else how many wait already. Jobs that a thread is about
    /// to take count as waiting.
    pub fn queue(&self) -> Option<usize> {
        let state = self.shared.lock();
        let free = state.waiting + (self.shared.most - state.threads);
        (state.jobs.len() >= free).then(|| state.jobs.len() - free)
    }

    /// Has the job done on one of the threads, after those that came before it. Where not even
    /// one thread can be started it is done here and now.
    pub fn run(&self, job: Job) {
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.waiting >= state.jobs.len() {
            self.shared.wanted.notify_one();
            return;
        }
        if state.threads == self.shared.most {
            return;
        }
        let shared = self.shared.clone();
        let started = thread::Builder::new()
            .name(self.shared.name.into())
            .stack_size(STACK)
            .spawn(move || shared.work());
        match started {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                log::warn!("no thread could be started for a request: {error}");
                let job = state.jobs.pop_back();
                drop(state);
                if let Some(job) = job {
                    job();
                }
            }
            Err(error) => log::warn!("no further thread could be started: {error}"),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        locks::lock(&self.state)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                log::error!("a request's answer panicked");
            }
        }
    }

    /// The next job; None counts the thread out.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            state.waiting += 1;
            let (again, wait) = self
                .wanted
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.waiting -= 1;
            if wait.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::mpsc::channel;

    #[test]
    fn jobs_run_beside_each_other_and_the_rest_wait_their_turn() {
        let pool = ThreadPool::new("test", 2);
        let both = Arc::new(Barrier::new(2));
        let (done, finished) = channel();
        for _ in 0..6 {
            let (both, done) = (both.clone(), done.clone());
            pool.run(Box::new(move || {
                both.wait();
                done.send(()).unwrap();
            }));
        }
        for _ in 0..6 {
            finished.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        assert!(pool.shared.lock().threads <= 2);
    }

    #[test]
    fn a_job_waits_when_every_thread_has_one() {
        let pool = ThreadPool::new("test", 2);
        let comes_to = |queue| {
            let end = std::time::Instant::now() + Duration::from_secs(10);
            while pool.queue() != queue {
                assert!(std::time::Instant::now() < end, "{queue:?}");
                thread::yield_now();
            }
        };
        let (go, gone) = channel::<()>();
        let gone = Arc::new(Mutex::new(gone));
        for _ in 0..2 {
            // A thread that has just been started takes its job in a moment.
            comes_to(None);
            let gone = gone.clone();
            pool.run(Box::new(move || {
                // Until the other end is dropped.
                let _ = gone.lock().unwrap().recv();
            }));
        }
        comes_to(Some(0));
        pool.run(Box::new(|| ()));
        comes_to(Some(1));
        drop(go);
        comes_to(None);
    }

    #[test]
    fn a_job_that_panics_costs_nobody_else_their_turn() {
        let pool = ThreadPool::new("test", 1);
        let (done, finished) = channel();
        pool.run(Box::new(|| panic!("on purpose")));
        pool.run(Box::new(move || done.send(()).unwrap()));
        finished.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
