//! Leave to send a request: those that a host would refuse wait here, and all threads share what is
//! known of the host.
//!
//! API calls and requests for bytes are counted apart, since servers that are both often limit only
//! one of them.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::call_context::{SLICE, Watch};
use super::fault::Fault;
use super::host_limit::{Hold, HostLimit};
use crate::base::locks;

/// A hostile listing could name many; those beyond are not limited.
const MAX_HOSTS: usize = 64;

/// A thread may go on before those that wait, over the connection that it has, while none has
/// waited for so long.
const FAIR: Duration = Duration::from_secs(1);

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Api,
    Bytes,
}

struct Host {
    api: HostLimit,
    bytes: HostLimit,
    /// Those that wait, the first one first: their number, purpose, and since when.
    waiting: Vec<(u64, Purpose, Instant)>,
}

impl Host {
    fn new(now: Instant) -> Host {
        Host {
            api: HostLimit::new(now),
            bytes: HostLimit::new(now),
            waiting: Vec::new(),
        }
    }

    /// What is known for this purpose, and for the other.
    fn limits(&mut self, purpose: Purpose) -> (&mut HostLimit, &mut HostLimit) {
        match purpose {
            Purpose::Api => (&mut self.api, &mut self.bytes),
            Purpose::Bytes => (&mut self.bytes, &mut self.api),
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.api.is_idle() && self.bytes.is_idle()
    }

    /// Takes leave for the request that waits with this number, or does not wait yet.
    fn begin(&mut self, turn: Option<u64>, asker: Asker, now: Instant) -> Result<(), Hold> {
        let mut queue = self.waiting.iter();
        let first = queue.find(|(_, purpose, _)| *purpose == asker.purpose);
        let waits_for_another = match (first, turn) {
            (Some((first, ..)), Some(turn)) => *first != turn,
            (Some((_, _, since)), None) => now.saturating_duration_since(*since) >= FAIR,
            (None, _) => false,
        };
        if waits_for_another {
            return Err(Hold::UntilFreed);
        }
        self.limits(asker.purpose).0.begin(asker.thread, now)
    }
}

/// Who asks for leave.
#[derive(Debug, Clone, Copy)]
struct Asker {
    thread: usize,
    purpose: Purpose,
}

#[derive(Default)]
struct State {
    hosts: HashMap<String, Host>,
    turns: u64,
}

/// What is known of all hosts.
#[derive(Default)]
pub struct Permits {
    state: Mutex<State>,
    changed: Condvar,
}

impl Permits {
    fn state(&self) -> MutexGuard<'_, State> {
        locks::lock(&self.state)
    }

    /// Whether requests to that host are limited now, so that none may be sent ahead.
    pub fn is_limited(&self, host: &str, purpose: Purpose) -> bool {
        let mut state = self.state();
        let host = state.hosts.get_mut(host);
        host.is_some_and(|host| host.limits(purpose).0.is_limited())
    }

    /// Waits for leave to send one request of `thread` to `host`, a name with its port.
    ///
    /// # Errors
    /// `Stopped`, also where the thread is wanted elsewhere; transient where the deadline has
    /// passed.
    pub fn acquire(
        self: &Arc<Permits>,
        host: String,
        purpose: Purpose,
        thread: usize,
        watch: &Watch,
    ) -> Result<Permit, Fault> {
        let asker = Asker { thread, purpose };
        let mut state = self.state();
        let mut turn = None;
        let result = loop {
            let now = Instant::now();
            let Some(known) = state.host(&host, now) else {
                return Ok(self.permit(None, asker));
            };
            let hold = match known.begin(turn, asker, now) {
                Ok(()) => break Ok(()),
                Err(hold) => hold,
            };
            if turn.is_none() {
                turn = Some(state.enqueue(&host, purpose, now));
            }
            if let Err(fault) = may_wait(purpose, watch, now) {
                break Err(fault);
            }
            let time = match hold {
                Hold::UntilFreed => SLICE,
                Hold::Until(at) => at.saturating_duration_since(now).min(SLICE),
            };
            let waited = self.changed.wait_timeout(state, time);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        if let (Some(turn), Some(known)) = (turn, state.hosts.get_mut(&host)) {
            known.waiting.retain(|(number, ..)| *number != turn);
            // The next in the row has its turn.
            self.changed.notify_all();
        }
        result.map(|()| self.permit(Some(host), asker))
    }

    fn permit(self: &Arc<Permits>, host: Option<String>, asker: Asker) -> Permit {
        Permit {
            permits: self.clone(),
            host,
            asker,
        }
    }
}

impl State {
    /// None if there are too many to be told apart.
    fn host(&mut self, host: &str, now: Instant) -> Option<&mut Host> {
        if !self.hosts.contains_key(host) {
            if self.hosts.len() >= MAX_HOSTS {
                self.hosts.retain(|_, host| !host.is_idle());
            }
            if self.hosts.len() >= MAX_HOSTS {
                return None;
            }
            self.hosts.insert(host.to_owned(), Host::new(now));
        }
        self.hosts.get_mut(host)
    }

    fn enqueue(&mut self, host: &str, purpose: Purpose, now: Instant) -> u64 {
        self.turns += 1;
        if let Some(host) = self.hosts.get_mut(host) {
            host.waiting.push((self.turns, purpose, now));
        }
        self.turns
    }
}

fn may_wait(purpose: Purpose, watch: &Watch, now: Instant) -> Result<(), Fault> {
    let is_wanted = || {
        let wanted = watch.wanted.as_ref();
        purpose == Purpose::Bytes
            && wanted.is_some_and(|wanted| wanted.swap(false, Ordering::Relaxed))
    };
    if watch.is_stopped() || is_wanted() {
        return Err(Fault::Stopped);
    }
    if watch.deadline.is_some_and(|deadline| deadline <= now) {
        return Err(Fault::transient("the server takes no more requests now"));
    }
    Ok(())
}

/// Leave for one request, which is under way until this is dropped.
pub struct Permit {
    permits: Arc<Permits>,
    /// None if the host's requests are not counted.
    host: Option<String>,
    asker: Asker,
}

impl Permit {
    fn note(&self, note: impl FnOnce(&mut HostLimit, &mut HostLimit, Instant)) {
        let Some(host) = &self.host else { return };
        let mut state = self.permits.state();
        let Some(known) = state.hosts.get_mut(host) else {
            return;
        };
        let (own, other) = known.limits(self.asker.purpose);
        note(own, other, Instant::now());
        // A call to the system for each request, where nobody waits, would be one too many.
        if !known.waiting.is_empty() {
            self.permits.changed.notify_all();
        }
    }

    /// The host took the request.
    pub fn answered(&self) {
        self.note(|own, _, now| own.answered(now));
    }

    /// The host said that there are too many requests.
    pub fn refused(&self, retry_after: Option<Duration>) {
        let host = self.host.as_deref().unwrap_or_default();
        self.note(|own, other, now| {
            own.refused(retry_after, now);
            // Where this was the only one of its purpose, the host counts both together.
            if own.under_way() == 1 && other.under_way() > 0 {
                other.shrink(other.under_way() - 1, now);
            }
        });
        log::debug!("{host} takes no more requests at once");
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.note(|own, _, now| own.end(self.asker.thread, now));
    }
}

#[cfg(test)]
mod tests;
