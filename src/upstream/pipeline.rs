//! Requests that are sent ahead of their turn (pipelining, RFC 9112, 9.3.2).
//!
//! Where a thread knows what it will ask next on a connection, those requests go out with the first
//! one, in one write, and the answers come in a read or two: one round trip and a few system calls
//! for many small answers.
//!
//! This is done below ureq, which makes every request in its turn and reads every answer as usual.
//! If ureq's next request is the one that was already sent, byte for byte, nothing is sent. If it
//! differs, or an answer does not come, the connection is closed and the request is made again on
//! another.
//!
//! Not every server is up to it. So it is done only after some answers that came on the same
//! connection with their length declared, with one request at first, then with more. A host that
//! leaves a request unanswered that was sent ahead, or that answers anything with a body of another
//! length than its file's, is asked one thing at a time from then on. A server, or a proxy, that
//! answers in another order than it was asked breaks the protocol, and where the files are equally
//! long nobody can tell: for the network that has one, pipelining can be switched off.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ureq::Error;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::call_context::{self, AbortReason};
use super::hosts::Hosts;

/// So many requests at most go out with another.
pub const MAX_AHEAD: usize = 15;

/// And not more than this with it, in bytes, so that neither side can be stuck with both buffers
/// full.
const MAX_BURST: usize = 16 * 1024;

/// An answer to what was sent ahead comes within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(3);

/// Hosts that are asked one thing at a time.
#[derive(Debug)]
pub struct PipeliningBlocklist {
    all: bool,
    hosts: Hosts,
}

impl PipeliningBlocklist {
    /// None yet, or `all`.
    pub fn new(all: bool) -> PipeliningBlocklist {
        PipeliningBlocklist {
            all,
            hosts: Hosts::default(),
        }
    }

    /// `host` with its port, as in a URL. Where there are too many to be told apart, it is all.
    fn has(&self, host: &str) -> bool {
        self.all || self.hosts.is_full() || self.hosts.has(host)
    }

    /// From now on this host, too.
    pub fn add(&self, host: &str) {
        if !self.has(host) {
            log::info!("{host} is not up to pipelining: it is asked one thing at a time");
            self.keep(host);
        }
    }

    /// The same of a host that has not failed.
    pub fn keep(&self, host: &str) {
        self.hosts.add(host);
    }
}

/// Wraps every connection, TLS or not.
#[derive(Debug)]
pub struct Pipelining(pub Arc<PipeliningBlocklist>);

impl<In: Transport> Connector<In> for Pipelining {
    type Out = Pipeline<In>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Pipeline<In>>, Error> {
        let host = details.uri.authority().map_or("", |host| host.as_str());
        Ok(chained.map(|line| Pipeline {
            line,
            host: host.to_owned(),
            one_by_one: self.0.clone(),
            ahead: VecDeque::new(),
            answers: 0,
            nothing: LazyBuffers::new(1, 1),
            overdue: false,
        }))
    }
}

/// A connection. It also tells this thread's context when a byte of an answer came.
#[derive(Debug)]
pub struct Pipeline<T> {
    line: T,
    host: String,
    one_by_one: Arc<PipeliningBlocklist>,
    /// Requests that are on their way and whose turn has not come.
    ahead: VecDeque<Vec<u8>>,
    /// Answers that were read to a declared end.
    answers: u32,
    /// Shown to ureq where it must not see what has come of answers whose turn has not.
    nothing: LazyBuffers,
    /// The answer of the moment was asked for ahead, and nothing of it has come.
    overdue: bool,
}

impl<T: Transport> Pipeline<T> {
    /// How many requests may be sent ahead now.
    fn depth(&self) -> usize {
        let depth = match self.answers {
            0..8 => 0,
            8..16 => 1,
            16..32 => 3,
            32..64 => 7,
            _ => MAX_AHEAD,
        };
        if depth > 0 && self.one_by_one.has(&self.host) {
            return 0;
        }
        depth
    }

    /// Adds the requests that are known to follow to the one in the output buffer. Returns how many
    /// bytes that makes.
    fn add_ahead(&mut self, amount: usize) -> usize {
        let depth = self.depth();
        if depth == 0 {
            return amount;
        }
        let output = self.line.buffers().output();
        let Some(rest) = after_target(&output[..amount]) else {
            return amount;
        };
        let rest = output[rest..amount].to_vec();
        let room = output.len().min(MAX_BURST);
        let mut end = amount;
        call_context::context(|context| {
            for target in context.follow.iter().take(depth) {
                let request = [b"GET ", target.as_bytes(), &rest].concat();
                let Some(place) = output[..room].get_mut(end..end + request.len()) else {
                    break;
                };
                place.copy_from_slice(&request);
                end += request.len();
                self.ahead.push_back(request);
            }
        });
        end
    }
}

/// Where the request's line goes on after its target, if this is a whole GET without a body.
fn after_target(request: &[u8]) -> Option<usize> {
    let target = request.strip_prefix(b"GET ")?;
    let length = target.iter().position(|&byte| byte == b' ')?;
    request.ends_with(b"\r\n\r\n").then_some(4 + length)
}

impl<T: Transport> Transport for Pipeline<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        let whole = call_context::context(|context| std::mem::take(&mut context.whole));
        if whole {
            self.answers = self.answers.saturating_add(1);
            if !self.ahead.is_empty() {
                // This is ureq's look whether there is more than it had asked for.
                return &mut self.nothing;
            }
        }
        self.line.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let Some(sent) = self.ahead.pop_front() else {
            self.overdue = false;
            let amount = self.add_ahead(amount);
            call_context::context(|context| context.ahead = self.ahead.len());
            return self.line.transmit_output(amount, timeout);
        };
        call_context::context(|context| context.ahead = self.ahead.len());
        let buffers = self.line.buffers();
        self.overdue = buffers.input().is_empty();
        if buffers.output()[..amount] != sent {
            // Something else is wanted now: the answers that are to come are nobody's.
            return Err(io::Error::from(AbortReason::Reset).into());
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let patience = self.overdue.then_some(PATIENCE);
        // Answers in a row are small writes in a row, of which a server sends the second when the
        // first is acknowledged (Nagle's algorithm), and we acknowledge after 40 ms or with our
        // next request, which is out already.
        let prompt = self.overdue || !self.ahead.is_empty();
        call_context::context(|context| (context.patience, context.prompt) = (patience, prompt));
        let more = self.line.await_input(timeout);
        call_context::context(|context| {
            (context.patience, context.prompt) = (None, false);
            context.answered |= matches!(more, Ok(true));
        });
        match &more {
            Ok(true) => self.overdue = false,
            Err(error) if self.overdue && is_silence(error) => {
                self.one_by_one.add(&self.host);
                return Err(io::Error::from(AbortReason::Reset).into());
            }
            _ => {}
        }
        more
    }

    /// A connection on which answers are still to come may have something to read.
    fn is_open(&mut self) -> bool {
        if self.ahead.is_empty() {
            return self.line.is_open();
        }
        !call_context::context(|context| context.force_new_connection)
    }

    fn is_tls(&self) -> bool {
        self.line.is_tls()
    }
}

fn is_silence(error: &Error) -> bool {
    let Error::Io(error) = error else {
        return false;
    };
    let cut = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(cut, Some(AbortReason::Silent(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_get_is_followed() {
        let rest = |request: &str| after_target(request.as_bytes());
        assert_eq!(rest("GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"), Some(8));
        assert_eq!(rest("GET /a?b HTTP/1.1\r\nHost: h\r\n"), None);
        assert_eq!(rest("GET /a"), None);
        assert_eq!(rest("X-Long: GET \r\n\r\n"), None);
        assert_eq!(rest("POST / HTTP/1.1\r\n\r\nx\r\n\r\n"), None);
    }
}
