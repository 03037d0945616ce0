//! The same work on many things, on threads that nobody else waits for: what hangs in it, such as a
//! call to a disk whose server is away, holds nobody else up.
//!
//! One function that is not generic does it for all, where rayon's parallel iterators would be
//! compiled anew for each kind of work, which a small binary feels.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::locks;

/// How long the work on one thing takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A few system calls. For few of them, starting threads takes longer.
    Short,
    /// Much more than starting a thread.
    Long,
}

impl Work {
    /// From so many things on it is worth threads.
    fn worth_threads(self) -> u32 {
        match self {
            Work::Short => 32,
            Work::Long => 2,
        }
    }
}

/// Does `work` for 0, 1, … up to `count`, in any order, on as many threads as there are processors.
/// Where the system refuses threads, the caller's own does it all.
pub fn each(count: u32, length: Work, work: &(dyn Fn(u32) + Sync)) {
    if count >= length.worth_threads()
        && let Ok(threads) = rayon::ThreadPoolBuilder::new().build()
    {
        let next = AtomicU32::new(0);
        let take = || {
            let more = |taken| (taken < count).then_some(taken + 1);
            next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
        };
        threads.broadcast(|_| {
            while let Ok(index) = take() {
                work(index);
            }
        });
        return;
    }
    (0..count).for_each(work);
}

/// What `work` returns for each of them where it returns something, in their order.
pub fn filter_map<T: Send>(
    count: u32,
    length: Work,
    work: &(dyn Fn(u32) -> Option<T> + Sync),
) -> Vec<T> {
    let found = Mutex::new(Vec::new());
    each(count, length, &|index| {
        if let Some(one) = work(index) {
            locks::lock(&found).push((index, one));
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_worked_on_once_and_what_comes_of_it_is_in_order() {
        for count in [0, 1, 2, 32, 10_000] {
            let odd = filter_map(count, Work::Short, &|index| {
                (index % 2 == 1).then_some(index)
            });
            let expected: Vec<u32> = (0..count).filter(|index| index % 2 == 1).collect();
            assert_eq!(odd, expected);
        }
    }
}
