//! Waiting for sockets, with a deadline.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until there is something to read (or an end, or an error); false once the deadline has
/// passed.
///
/// # Errors
/// What the system reports, interruptions aside.
pub fn readable(source: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    let mut sources = [PollFd::new(source, PollFlags::IN)];
    Ok(any(&mut sources, Some(deadline))? > 0)
}

/// Waits for any of the events; 0 once the deadline has passed.
///
/// # Errors
/// What the system reports, interruptions aside.
pub fn any(sources: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<usize> {
    loop {
        let left = deadline.map(|at| timespec(at.saturating_duration_since(Instant::now())));
        match poll(sources, left.as_ref()) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}
