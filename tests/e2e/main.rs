//! The program from the outside: the real binary, a real socket, a real folder, and an upstream
//! that fails in every way known. Written from the contracts alone; nothing here reads `src/`.
//!
//! One module a topic, each reading like a specification. `HAUL_TEST_BINARY` names another binary
//! to be tested, such as the static build.
#![forbid(unsafe_code)]

mod all_at_once;
mod batch;
mod checksums;
mod cli;
mod client;
mod clock_jumps;
mod create;
mod crowds;
mod delete;
mod durability;
mod errors;
mod events;
mod failed_sync;
mod fairness;
mod faults_disk;
mod faults_state;
mod faults_upstream;
mod foreign_disks;
mod forward_proxy;
mod get;
mod hanging_disk;
mod hooks;
mod https;
mod inspect;
mod large_listings;
mod list_and_inspect;
mod listening;
mod messages;
mod metrics;
mod mounts;
mod names;
mod nginx;
mod order_options;
mod own_folders;
mod packaging;
mod parts_of_lists;
mod pause_resume;
mod power_cut;
mod priority;
mod proxy;
mod resume_after_kill;
mod security;
mod selection;
mod settings;
mod shards;
mod share;
mod share_cache;
mod signals;
mod slow_connections;
mod support;
mod system_calls;
mod taken;
mod verify;
mod wait;
