//! haul: a download agent for large packages. The README says how to use it; this page says how it
//! is built.
//!
//! # The rooms
//!
//! Every folder of `src` is a room. A room imports rooms below it only, and two rooms on one level
//! do not know each other. `scripts/check-rooms` holds the code to this picture, and finds circles
//! inside a room too.
//!
//! ```text
//!  main            turns the command line into a call, and signals into a clean stop
//!  cli             flags, help, the commands `serve`, `get` and those that ask an agent
//!  api, share      the REST API and the page; `haul share`, which offers a folder as a package
//!  agent           the engine: controller, syncer, cleaner, start and stop of downloads
//!  transfer        worker threads: how a file's bytes come from a server into a `.part` file
//!  store           the state directory: snapshot, journal, what of it counts after a crash
//!  dest, upstream  the destination folder and its file system; the servers of packages
//!  model           what a download is: its record, files, ranges, settings; no input or output
//!  base            clock, identifiers, intervals, addresses: nothing that is about downloads
//! ```
//!
//! # Threads, what each waits for and what it sends
//!
//! | thread | waits for | sends |
//! | --- | --- | --- |
//! | `api-accept`, `api-client` (one a connection) | sockets; see `api::gate` | whole requests to tiny_http, answers back |
//! | `api` | tiny_http's next request | what may take long to one of the `api-…` pools |
//! | `api-create`, `api-change` | the link's server; a commit to the journal; the controller's answer | [`Command`](agent::messages::Command) |
//! | `api-events`, `api-wait`, `api-hub` | a change on the board | events and long-poll answers |
//! | `controller` | commands, [`Report`](transfer::worker::Report)s, losses, removals, the next due time | batches and start requests to the pools, requests to syncer and cleaner |
//! | `worker` (pool) | a [`Batch`](transfer::worker::Batch), a worker slot, leave of the host, the rate limiter, a socket | one report for each batch |
//! | `addresses`, `start` (pools) | a [`Task`](transfer::worker::Task): addresses to fetch, a download to begin | the batch on to the workers; a report |
//! | `syncer` | a [`SyncRequest`](agent::syncer::SyncRequest), at most one at a time; its `sync` thread, which is replaced where a disk hangs | losses |
//! | `in-time` | a disk that is asked whether it answers | its answer, if it comes in time |
//! | `checksums` (pool) | a whole file that is long, to be compared or to have its hash kept | a report |
//! | `verifier` (a pool) | a complete download to be read back, one for each disk; it shares the reading with rayon's threads | a loss, where files are not as saved |
//! | `cleaner` (a pool of one for each disk) | a [`Removal`](agent::messages::Removal) | what it removed |
//! | `live-settings` | a change of the settings, the next change of the schedule | the number of workers to the controller, the rate to the limiter; downloads whose verification is due to the `verifier` |
//! | `hook-…` | a download that ended | nothing; it runs the user's program |
//!
//! Pools grow with their work and shrink to nothing when idle, so that an agent at rest has few
//! threads.
//!
//! # The life of a POST
//!
//! 1. `api::gate` reads the request whole, within its limits, and hands it to tiny_http;
//!    `api::guard` checks `Host`, `Origin` and token; `api::calls` turns it into a `Call`.
//! 2. On an `api-create` thread `agent::local` makes the destination folder (`agent::claims` keeps
//!    track of who uses it), asks the controller for a key (`PrepareCreate`), and resolves the link
//!    (`upstream::Client::resolve`).
//! 3. The same thread commits the new download to the journal (`store::Store::commit`): what the
//!    API answers is on disk.
//! 4. `ApplyCreate` hands it to the controller, which puts it on the board. The answer 201 goes
//!    out.
//! 5. The controller's `dispatch` picks `Begin`; on a `start` thread `transfer::start` opens
//!    the destination, reads the listing, plans the names (`dest::plan`) and makes the folders.
//! 6. From the next `dispatch` on, ranges of files go to the workers. The first byte comes in
//!    `transfer::fetch`.
//!
//! # The life of a byte
//!
//! 1. The controller takes a range of a file (`model::ranges`) and puts it in a `Job`; an
//!    `addresses` thread asks the API of the package for the file's address, some files ahead.
//! 2. A worker asks for the range (`transfer::fetch`, `upstream::fetch`), over a kept connection
//!    if there is one. Where its host has refused requests (429, 503), it waits for leave first
//!    (`upstream::permits`, `upstream::host_limit`).
//! 3. `transfer::copy` takes the rate limiter's leave, reads into the buffer or splices into a
//!    pipe, and writes at the range's offset into `NAME.part`. Between two chunks it looks at the
//!    pause flag.
//! 4. What was written counts as progress; the controller journals it every 200 ms, and the syncer
//!    syncs it about once a second.
//! 5. The worker that brings the last byte holds the file against what the server tells of it
//!    (`transfer::check`), and gives it its time and its name (`transfer::publish`), after the
//!    journal was told. A long file is left to a `checksums` thread for that.
//!
//! # Many nodes, one folder
//!
//! `haul get --shard K/N` brings one part of a package. The nodes do not talk to each other.
//! `model::shard` says by the list of files alone who brings what, and `transfer::start` names the
//! files as if nothing were in the folder, so that all nodes find the same names. A file that is
//! divided has one `.part` for all of them (`transfer::shared`). Each node syncs its bytes and then
//! says so in a receipt beside the `.part` (`transfer::receipts`); the one that finds all bytes
//! told gives the file its name. What others have done is looked at when a run begins
//! (`transfer::start::survey`).
//!
//! # Invariants
//!
//! - Only the controller decides a download's state. Others that write to its view
//!   (`transfer::start` its name, `cli::serve` an error found while stopping) do so for a download
//!   that the controller has lent to them.
//! - The controller never waits for the network or a destination.
//! - What the API has answered is on disk. A refused request changed nothing.
//! - A file has its final name only when all of its bytes are in place, and never with a content
//!   that is known to be another than the server's.
//! - Where nodes share a folder, a file is on the disk before it has its name, and nobody makes a
//!   `.part` shorter.
//! - Data before record: a change that says that bytes are in place counts after a power cut only
//!   behind a sync mark.
//! - Below the destination folder no symbolic link is followed, and no file is removed that this
//!   download did not make.
//! - No secret is in an answer, in a log line or in a `Debug` text.
//! - A disk whose calls do not return holds up the downloads into it alone: who hangs in a call
//!   holds no lock that others need, and another thread takes its place.
//! - There is no async runtime, no unsafe code, and no timer thread; nothing wakes up while nothing
//!   is to be done.
//!
//! # Locks, in the order in which they are taken
//!
//! 1. `agent::claims` (folders are made and removed under it)
//! 2. `transfer::start::PLANNING` (on each disk one plan at a time)
//! 3. a file's `progress` in `transfer::open_file` (one file's at a time, except for the
//!    controller)
//! 4. the store's own: `backlog`, `base`, `sync`, `journal` (see [`store`])
//! 5. short ones that are held over no call: the board, a download's view and content, pools, the
//!    rate limiter, `upstream::permits`
//!
//! # Where to add
//!
//! | what | where |
//! | --- | --- |
//! | an API call | `api::routes` (path and methods), `api::calls` (its parameters), `api::mod` (what it does), `openapi.json`, a line in `api::tests::lines` |
//! | an error code | `api::error` for an answer; `model` `Code` for a record |
//! | a field of a record | its type in `model`, `store::saved` (`SavedDownload` and a `Change`, with a default for older states), the summary, `openapi.json` |
//! | what to do about a server's answer | `upstream::fault` says what it means, `transfer::verdict` what it means for a file, `model::record` what happens next |
//! | a file system | `dest::traits` |
//! | a flag | `cli::flags`, `cli::values` |
//! | a scheduler of many nodes | `cli::shard` (its variables), `scripts/packaging/batch` |
//! | a kind of proxy | `upstream::proxy` (its address), `upstream::tunnel` (how it is spoken to) |
//!
//! # Words
//!
//! | word | meaning |
//! | --- | --- |
//! | link | what the user pastes; it leads to a package and holds a secret |
//! | package | a listed tree of files at a server |
//! | download | one package on its way into one folder |
//! | record | the state machine of one download |
//! | view | the part of a download that readers see and that changes as a whole |
//! | board | all downloads, as readers see them |
//! | run | one stretch of transferring, from start or resume to pause, error or end |
//! | job | one range of one file for one worker; a batch is several small ones |
//! | range | a contiguous part of a file |
//! | shard | one node's part of a package that several nodes bring into one folder |
//! | slice | the bytes of a divided file that one shard brings |
//! | receipt | a small file by which a node tells the others what is on disk of a `.part` |
//! | seal | what is known of a file since it was whole: its inode, its hash, how it was verified |
//! | part | `NAME.part`, the unfinished file beside its final name |
//! | journal | the file of changes since the last snapshot of the state |
//! | mark | a point in the journal's sequence; a sync mark says that the data before it is on disk |
#![forbid(unsafe_code)]
// The map is for those who work on haul; `cargo doc --document-private-items` shows all that it
// links to.
#![allow(rustdoc::private_intra_doc_links)]

mod agent;
mod api;
pub mod base;
pub mod cli;
mod dest;
mod model;
pub mod share;
mod store;
mod transfer;
mod upstream;
