//! What every topic needs: the agent, an upstream that can fail, and a look at the disk.

pub mod agent;
pub mod clock;
pub mod content;
pub mod forward;
pub mod http;
pub mod namespace;
pub mod nginx;
pub mod nodes;
pub mod origin;
pub mod package;
pub mod process;
pub mod rig;
pub mod tls;
pub mod tree;

use std::time::Duration;

/// How long a test waits for anything before it says what it was waiting for.
pub const PATIENCE: Duration = Duration::from_secs(30);
