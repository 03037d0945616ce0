//! A pool of threads for calls that may take long, started when needed, gone when idle.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::base::thread_pool::{self, Handler};

/// Something to be done once.
pub type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads for calls that may take long. Clones are the same pool.
#[derive(Clone)]
pub struct ThreadPool {
    pool: thread_pool::ThreadPool<Job>,
}

impl ThreadPool {
    /// A pool of up to `most` threads; none is started yet.
    pub fn new(name: &'static str, most: usize) -> ThreadPool {
        let make_handler = || {
            let handler: Handler<Job> = Box::new(|job| {
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    log::error!("a request's answer panicked");
                }
            });
            handler
        };
        ThreadPool {
            pool: thread_pool::ThreadPool::new(name, most, make_handler, || ()),
        }
    }

    /// None if a job would be begun now; else how many wait already.
    pub fn queue(&self) -> Option<usize> {
        self.pool.queue()
    }

    /// Has the job done on one of the threads, after those that came before it. Where not even
    /// one thread can be started it is done here and now.
    pub fn run(&self, job: Job) {
        if let Err(job) = self.pool.try_send(job) {
            job();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Barrier, Mutex};
    use std::thread;
    use std::time::Duration;

    use super::*;

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
