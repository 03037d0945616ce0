//! What is not about downloads: the clock, identifiers, intervals, addresses, threads, buffers.
//!
//! Knows no other room. What is here could serve any daemon; what cannot belongs higher up.

pub mod backoff;
pub mod base64;
pub mod byte_counter;
pub mod change_notifier;
pub mod clock;
pub mod copy_buffer;
pub mod digest;
pub mod display;
pub mod exit_on_panic;
pub mod id;
pub mod in_parallel;
pub mod in_time;
pub mod intervals;
pub mod json_uint;
pub mod keyed_locks;
pub mod listen;
pub mod locks;
pub mod permission;
pub mod pieces;
pub mod places;
pub mod secret;
pub mod suggest;
pub mod system_words;
#[cfg(test)]
pub mod test_strategies;
pub mod thread_pool;
pub mod url;
