//! Threads that the process cannot do without.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does what nothing goes on without. Should it panic, the process ends: a service manager starts
/// it again, and it goes on from its journal, whereas without this thread it would only look alive.
pub fn exit_on_panic<T>(work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        log::error!("haul itself failed and stops; start it again, and please report it");
        std::process::exit(70);
    })
}
