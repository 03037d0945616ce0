//! Threads that come when there is work and go when there has been none for a while: an agent that rests has no
//! stacks and no buffers to keep.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

/// So long after its last task a thread ends.
const DROWSY: Duration = Duration::from_secs(5);
/// Enough for TLS and JSON with room to spare; what is not touched costs nothing.
const STACK: usize = 512 << 10;

/// A crew that does tasks. Clones are the same crew; with the last of them it ends, once the tasks are done.
pub struct Crew<T> {
    tasks: Sender<T>,
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Crew<T> {
    fn clone(&self) -> Crew<T> {
        Crew {
            tasks: self.tasks.clone(),
            shared: self.shared.clone(),
        }
    }
}

/// What one thread does with each task; it may keep things from one to the next.
pub type Hand<T> = Box<dyn FnMut(T)>;

struct Shared<T> {
    name: &'static str,
    queue: Receiver<T>,
    muster: Mutex<Muster>,
    hire: Box<dyn Fn() -> Hand<T> + Send + Sync>,
    empty: Box<dyn Fn() + Send + Sync>,
}

struct Muster {
    most: usize,
    threads: usize,
    /// Tasks that wait or are being done.
    tasks: usize,
    refused: bool,
}

impl<T: Send + 'static> Crew<T> {
    /// A crew of up to `most` threads with this name, none of them at first. `hire` is called on each thread as it
    /// starts, and `empty` when the last one has ended. What `hire` returns must not panic.
    pub fn new(
        name: &'static str,
        most: usize,
        hire: impl Fn() -> Hand<T> + Send + Sync + 'static,
        empty: impl Fn() + Send + Sync + 'static,
    ) -> Crew<T> {
        let (tasks, queue) = unbounded();
        let shared = Arc::new(Shared {
            name,
            queue,
            muster: Mutex::new(Muster {
                most,
                threads: 0,
                tasks: 0,
                refused: false,
            }),
            hire: Box::new(hire),
            empty: Box::new(empty),
        });
        Crew { tasks, shared }
    }

    /// Gives a task to whoever is free, or will be first.
    pub fn send(&self, task: T) {
        let mut muster = self.shared.muster();
        muster.tasks += 1;
        self.shared.fill(&mut muster);
        drop(muster);
        // Its receiver lives as long as `shared`.
        let _ = self.tasks.send(task);
    }

    /// Whether a further task would have to wait.
    pub fn is_busy(&self) -> bool {
        let muster = self.shared.muster();
        muster.tasks >= muster.most
    }

    /// Lets the crew be this large, or larger where it was.
    pub fn allow(&self, most: usize) {
        let mut muster = self.shared.muster();
        muster.most = muster.most.max(most);
        self.shared.fill(&mut muster);
    }

    /// Tries again to start the threads that the system refused.
    pub fn tend(&self) {
        self.shared.fill(&mut self.shared.muster());
    }
}

impl<T: Send + 'static> Shared<T> {
    fn muster(&self) -> MutexGuard<'_, Muster> {
        self.muster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts threads until there is one for each task.
    fn fill(self: &Arc<Self>, muster: &mut Muster) {
        while muster.threads < muster.tasks.min(muster.most) {
            let shared = self.clone();
            let started = thread::Builder::new()
                .name(self.name.into())
                .stack_size(STACK)
                .spawn(move || shared.serve());
            if let Err(error) = started {
                if !std::mem::replace(&mut muster.refused, true) {
                    log::warn!("the system refuses threads, so some work has to wait: {error}");
                }
                return;
            }
            muster.refused = false;
            muster.threads += 1;
        }
    }

    fn serve(&self) {
        let mut hand = (self.hire)();
        loop {
            match self.queue.recv_timeout(DROWSY) {
                Ok(task) => {
                    hand(task);
                    self.muster().tasks -= 1;
                }
                Err(RecvTimeoutError::Timeout) if !self.may_leave() => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Takes a thread off the muster, unless a task is on its way to it.
    fn may_leave(&self) -> bool {
        let mut muster = self.muster();
        if muster.tasks >= muster.threads {
            return false;
        }
        muster.threads -= 1;
        if muster.threads == 0 {
            (self.empty)();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A crew whose tasks wait until they are let go, and say when they begin.
    fn crew(most: usize) -> (Crew<u32>, Receiver<u32>, Sender<()>) {
        let (begun_out, begun) = unbounded();
        let (go, gate) = unbounded::<()>();
        let hire = move || {
            let (begun, gate) = (begun_out.clone(), gate.clone());
            let hand: Hand<u32> = Box::new(move |task| {
                begun.send(task).unwrap();
                // Also let go when the test ends.
                let _ = gate.recv();
            });
            hand
        };
        (Crew::new("crew", most, hire, || ()), begun, go)
    }

    fn threads(crew: &Crew<u32>) -> usize {
        crew.shared.muster().threads
    }

    #[test]
    fn there_is_a_thread_for_each_task_but_never_too_many() {
        let (crew, begun, go) = crew(3);
        assert_eq!(threads(&crew), 0, "none without work");
        (0..5).for_each(|task| crew.send(task));
        assert_eq!(threads(&crew), 3);
        let first: Vec<u32> = (0..3).map(|_| begun.recv_timeout(LONG).unwrap()).collect();
        assert!(first.iter().all(|&task| task < 3), "{first:?}");
        assert!(begun.is_empty());
        go.send(()).unwrap();
        assert_eq!(begun.recv_timeout(LONG), Ok(3));
        crew.allow(4);
        assert_eq!(begun.recv_timeout(LONG), Ok(4));
        assert_eq!(threads(&crew), 4);
    }

    #[test]
    fn threads_without_work_end_and_come_back() {
        let (ended_out, ended) = unbounded();
        let (did_out, did) = unbounded();
        let hire = move || {
            let did = did_out.clone();
            let hand: Hand<u32> = Box::new(move |task| did.send(task).unwrap());
            hand
        };
        let crew = Crew::new("crew", 2, hire, move || ended_out.send(()).unwrap());
        for task in 0..2 {
            crew.send(task);
            assert_eq!(did.recv_timeout(LONG), Ok(task));
            ended.recv_timeout(LONG).unwrap();
            assert_eq!(threads(&crew), 0);
        }
    }
}
