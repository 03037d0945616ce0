//! Threads of one kind, started as they are needed: one is always in reserve, until there are as many as are allowed.
//!
//! An agent that has downloaded nothing yet has one of each kind, rather than one for each connection that it may make.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Enough for TLS and JSON with room to spare; what is not touched costs nothing.
const STACK: usize = 512 << 10;

/// See the module's page.
pub struct Reserve {
    name: &'static str,
    ranks: Mutex<Ranks>,
    work: Work,
}

/// What each thread does until there will be no more work: it calls `Reserve::called` at its first.
type Work = Box<dyn Fn(&Arc<Reserve>) + Send + Sync>;

#[derive(Default)]
struct Ranks {
    allowed: usize,
    started: usize,
    /// The last one that was started has had no work yet.
    rested: bool,
}

impl Reserve {
    /// No thread yet: `allow` starts the first.
    pub fn new(
        name: &'static str,
        work: impl Fn(&Arc<Reserve>) + Send + Sync + 'static,
    ) -> Arc<Reserve> {
        Arc::new(Reserve {
            name,
            ranks: Mutex::default(),
            work: Box::new(work),
        })
    }

    /// Allows so many threads; those that there are stay.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn allow(self: &Arc<Self>, threads: usize) -> io::Result<()> {
        let mut ranks = self.ranks();
        ranks.allowed = threads.max(ranks.allowed);
        self.fill(&mut ranks)
    }

    /// Said by the newest thread when it gets its first work: another one has to be in reserve.
    pub fn called(self: &Arc<Self>) {
        let mut ranks = self.ranks();
        ranks.rested = false;
        if let Err(error) = self.fill(&mut ranks) {
            log::warn!(
                "the system refuses threads, so there are only {} of {}: {error}",
                ranks.started,
                self.name
            );
        }
    }

    fn ranks(&self) -> MutexGuard<'_, Ranks> {
        self.ranks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill(self: &Arc<Self>, ranks: &mut Ranks) -> io::Result<()> {
        if ranks.rested || ranks.started >= ranks.allowed {
            return Ok(());
        }
        let reserve = self.clone();
        thread::Builder::new()
            .name(format!("{}-{}", self.name, ranks.started))
            .stack_size(STACK)
            .spawn(move || (reserve.work)(&reserve))?;
        ranks.started += 1;
        ranks.rested = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::{Receiver, Sender, unbounded};

    use super::*;

    /// Threads that report each job and then wait to be released.
    struct Rig {
        reserve: Arc<Reserve>,
        jobs: Sender<()>,
        begun: Receiver<()>,
        release: Sender<()>,
    }

    fn rig() -> Rig {
        let (jobs, jobs_in) = unbounded::<()>();
        let (begun_out, begun) = unbounded();
        let (release, released) = unbounded::<()>();
        let reserve = Reserve::new("test", move |reserve| {
            let mut fresh = true;
            for () in &jobs_in {
                if std::mem::take(&mut fresh) {
                    reserve.called();
                }
                begun_out.send(()).unwrap();
                let _ = released.recv();
            }
        });
        Rig {
            reserve,
            jobs,
            begun,
            release,
        }
    }

    impl Rig {
        fn work(&self, jobs: usize) {
            for _ in 0..jobs {
                self.jobs.send(()).unwrap();
            }
            for _ in 0..jobs {
                self.begun.recv_timeout(Duration::from_secs(10)).unwrap();
            }
        }

        fn started(&self) -> usize {
            self.reserve.ranks().started
        }
    }

    #[test]
    fn one_is_in_reserve_until_all_are_there() {
        let rig = rig();
        rig.reserve.allow(3).unwrap();
        assert_eq!(rig.started(), 1);
        rig.work(1);
        assert_eq!(rig.started(), 2);
        // All at the same time, though nobody has asked for a thread.
        rig.work(2);
        assert_eq!(rig.started(), 3);
        drop(rig.release);
    }

    #[test]
    fn more_can_be_allowed_while_all_are_busy() {
        let rig = rig();
        rig.reserve.allow(1).unwrap();
        rig.work(1);
        assert_eq!(rig.started(), 1);
        rig.reserve.allow(2).unwrap();
        rig.reserve.allow(1).unwrap();
        rig.work(1);
        assert_eq!(rig.started(), 2);
        drop(rig.release);
    }
}
