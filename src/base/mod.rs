//! TODO room base

pub mod backoff;
pub mod change_notifier;
pub mod clock;
pub mod copy_buffer;
pub mod exit_on_panic;
pub mod id;
pub mod intervals;
pub mod json_uint;
pub mod listen;
pub mod meter;
#[cfg(test)]
pub mod test_strategies;
pub mod thread_pool;
pub mod url;
