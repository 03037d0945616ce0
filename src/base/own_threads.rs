//! Parallel work on threads that nobody else waits for.

/// Does `work` where its parallel iterators have threads of their own, as many as there are
/// processors: what hangs in it, such as a call to a disk whose server is away, holds nobody else
/// up. Where the system refuses threads, those of all do.
pub fn on_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match rayon::ThreadPoolBuilder::new().build() {
        Ok(threads) => threads.install(work),
        Err(_) => work(),
    }
}
