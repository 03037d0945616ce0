//! How much and how long the gate puts up with.

use std::time::Duration;

/// Numbers, bytes and times that the gate allows each client.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// How long a client has for its next move before its connection can be given up for another.
    /// The default is more than a request takes to follow its connection.
    pub grace: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// For a whole head, from its first byte; also for the first byte on a new connection.
    pub head_time: Duration,
    /// For a whole body.
    pub body_time: Duration,
    /// Between one answer and the next request.
    pub idle_time: Duration,
    /// For the client to take anything of an answer.
    pub write_time: Duration,
    /// For the client to read a refusal and hang up.
    pub linger_time: Duration,
    /// For answers under way when the API stops.
    pub stop_time: Duration,
    /// Between attempts to accept while the system is out of descriptors or memory.
    pub accept_pause: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: connections(),
            grace: Duration::from_millis(20),
            head_bytes: 16 << 10,
            body_bytes: 1 << 20,
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(60),
            write_time: Duration::from_secs(30),
            linger_time: Duration::from_secs(2),
            stop_time: Duration::from_secs(2),
            accept_pause: Duration::from_millis(200),
        }
    }
}

/// 256, or fewer where the process may open only few descriptors: a connection with a request
/// under way takes four (its own, and three for the relay), and transfers need theirs.
fn connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let descriptors = limit.current.unwrap_or(u64::MAX);
    usize::try_from(descriptors / 6)
        .unwrap_or(usize::MAX)
        .clamp(8, 256)
}
