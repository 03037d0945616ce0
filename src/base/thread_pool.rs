//! Threads that come when there is work and go when there has been none for a while: an agent that
//! rests has no stacks and no buffers to keep.

use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::base::locks;

/// Time without a task after which a thread ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// Enough for TLS and JSON with room to spare; what is not touched costs nothing.
const STACK: usize = 512 << 10;

/// A pool of threads. Clones are the same pool; with the last of them it ends, once its tasks are
/// done.
pub struct ThreadPool<T> {
    tasks: Sender<T>,
    shared: Arc<Shared<T>>,
}

impl<T> Clone for ThreadPool<T> {
    fn clone(&self) -> ThreadPool<T> {
        ThreadPool {
            tasks: self.tasks.clone(),
            shared: self.shared.clone(),
        }
    }
}

/// What one thread does with each task; it may keep things from one to the next.
pub type Handler<T> = Box<dyn FnMut(T)>;

struct Shared<T> {
    name: &'static str,
    queue: Receiver<T>,
    state: Mutex<PoolState>,
    make_handler: Box<dyn Fn() -> Handler<T> + Send + Sync>,
    empty: Box<dyn Fn() + Send + Sync>,
}

struct PoolState {
    most: usize,
    threads: usize,
    /// Tasks that wait or are being done.
    tasks: usize,
    refused: bool,
}

impl<T: Send + 'static> ThreadPool<T> {
    /// A pool of up to `most` threads with this name, none of them at first. `make_handler` is
    /// called on each thread as it starts, and `empty` when the last one has ended. What
    /// `make_handler` returns must not panic.
    pub fn new(
        name: &'static str,
        most: usize,
        make_handler: impl Fn() -> Handler<T> + Send + Sync + 'static,
        empty: impl Fn() + Send + Sync + 'static,
    ) -> ThreadPool<T> {
        let (tasks, queue) = unbounded();
        let shared = Arc::new(Shared {
            name,
            queue,
            state: Mutex::new(PoolState {
                most,
                threads: 0,
                tasks: 0,
                refused: false,
            }),
            make_handler: Box::new(make_handler),
            empty: Box::new(empty),
        });
        ThreadPool { tasks, shared }
    }

    /// Queues a task for the next free thread.
    pub fn send(&self, task: T) {
        let mut state = self.shared.state();
        state.tasks += 1;
        self.shared.fill(&mut state);
        drop(state);
        // Its receiver lives as long as `shared`.
        let _ = self.tasks.send(task);
    }

    /// The same, unless there is no thread and none can be started: then the task comes back.
    ///
    /// # Errors
    /// The task.
    pub fn try_send(&self, task: T) -> Result<(), T> {
        let mut state = self.shared.state();
        state.tasks += 1;
        self.shared.fill(&mut state);
        if state.threads == 0 {
            state.tasks -= 1;
            return Err(task);
        }
        drop(state);
        // Its receiver lives as long as `shared`.
        let _ = self.tasks.send(task);
        Ok(())
    }

    /// None if a further task would be begun at once; else how many wait already.
    pub fn queue(&self) -> Option<usize> {
        let state = self.shared.state();
        state.tasks.checked_sub(state.most)
    }

    /// Whether a further task would have to wait.
    pub fn is_busy(&self) -> bool {
        let state = self.shared.state();
        state.tasks >= state.most
    }

    /// Lets the pool be this large, or larger where it was.
    pub fn raise_limit(&self, most: usize) {
        let mut state = self.shared.state();
        state.most = state.most.max(most);
        self.shared.fill(&mut state);
    }

    /// Tries again to start the threads that the system refused.
    pub fn retry_spawn(&self) {
        self.shared.fill(&mut self.shared.state());
    }
}

impl<T: Send + 'static> Shared<T> {
    fn state(&self) -> MutexGuard<'_, PoolState> {
        locks::lock(&self.state)
    }

    /// Starts threads until there is one for each task.
    fn fill(self: &Arc<Self>, state: &mut PoolState) {
        while state.threads < state.tasks.min(state.most) {
            let shared = self.clone();
            let started = thread::Builder::new()
                .name(self.name.into())
                .stack_size(STACK)
                .spawn(move || shared.serve());
            if let Err(error) = started {
                if !std::mem::replace(&mut state.refused, true) {
                    log::warn!("the system refuses threads, so some work has to wait: {error}");
                }
                return;
            }
            state.refused = false;
            state.threads += 1;
        }
    }

    fn serve(&self) {
        let mut handler = (self.make_handler)();
        loop {
            match self.queue.recv_timeout(IDLE_TIMEOUT) {
                Ok(task) => {
                    handler(task);
                    self.state().tasks -= 1;
                }
                Err(RecvTimeoutError::Timeout) if !self.may_leave() => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Counts a thread out, unless a task is on its way to it.
    fn may_leave(&self) -> bool {
        let mut state = self.state();
        if state.tasks >= state.threads {
            return false;
        }
        state.threads -= 1;
        if state.threads == 0 {
            (self.empty)();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A pool whose tasks wait until they are let go, and say when they begin.
    fn pool(most: usize) -> (ThreadPool<u32>, Receiver<u32>, Sender<()>) {
        let (begun_out, begun) = unbounded();
        let (go, gate) = unbounded::<()>();
        let make_handler = move || {
            let (begun, gate) = (begun_out.clone(), gate.clone());
            let handler: Handler<u32> = Box::new(move |task| {
                begun.send(task).unwrap();
                // Also let go when the test ends.
                let _ = gate.recv();
            });
            handler
        };
        (
            ThreadPool::new("pool", most, make_handler, || ()),
            begun,
            go,
        )
    }

    fn threads(pool: &ThreadPool<u32>) -> usize {
        pool.shared.state().threads
    }

    #[test]
    fn there_is_a_thread_for_each_task_but_never_too_many() {
        let (pool, begun, go) = pool(3);
        assert_eq!(threads(&pool), 0, "none without work");
        (0..5).for_each(|task| pool.send(task));
        assert_eq!(threads(&pool), 3);
        let first: Vec<u32> = (0..3).map(|_| begun.recv_timeout(LONG).unwrap()).collect();
        assert!(first.iter().all(|&task| task < 3), "{first:?}");
        assert!(begun.is_empty());
        go.send(()).unwrap();
        assert_eq!(begun.recv_timeout(LONG), Ok(3));
        pool.raise_limit(4);
        assert_eq!(begun.recv_timeout(LONG), Ok(4));
        assert_eq!(threads(&pool), 4);
    }

    #[test]
    fn threads_without_work_end_and_come_back() {
        let (ended_out, ended) = unbounded();
        let (did_out, did) = unbounded();
        let make_handler = move || {
            let did = did_out.clone();
            let handler: Handler<u32> = Box::new(move |task| did.send(task).unwrap());
            handler
        };
        let pool = ThreadPool::new("pool", 2, make_handler, move || ended_out.send(()).unwrap());
        for task in 0..2 {
            pool.send(task);
            assert_eq!(did.recv_timeout(LONG), Ok(task));
            ended.recv_timeout(LONG).unwrap();
            assert_eq!(threads(&pool), 0);
        }
    }
}
