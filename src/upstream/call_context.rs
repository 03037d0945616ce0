//! When to give up: the caller's wish, looked at wherever a call may block.
//!
//! The sockets live inside ureq, which knows nothing of our callers. So the call that is under way
//! leaves its [`Watch`] with the thread, and the transport looks there whenever a socket has had
//! nothing to say for [`SLICE`].

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// How long a socket may block before the watch is looked at again.
pub const SLICE: Duration = Duration::from_millis(250);

/// Bytes that may come from a connection before the call has anything of them: much more than the
/// frames of any chunk or TLS record take, and all trailers together.
const MAX_OVERHEAD: usize = 1 << 20;

/// When a call gives up, also while it is blocked.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Once true, the call ends with `Fault::Stopped` within about 250 ms.
    pub stop: Arc<AtomicBool>,
    /// From here on the call ends as a transient fault.
    pub deadline: Option<Instant>,
    /// Once true, one call for bytes that waits for leave to be sent ends with `Fault::Stopped`,
    /// and makes this false.
    pub wanted: Option<Arc<AtomicBool>>,
}

impl Watch {
    /// Whether the call is to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Why a transport gave up; the payload of the `io::Error` that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortReason {
    Stopped,
    /// The caller's deadline, or the limit of a part of the call.
    Late,
    /// No byte for so long.
    Silent(Duration),
    ConnectTimeout,
    /// The peer reset the connection.
    Reset,
    /// More than [`MAX_OVERHEAD`], such as trailers without an end.
    Empty,
    /// The machine has not the address that connections are to come from, or none of the host's
    /// is of its kind.
    NoSuchAddress,
    ProxyUnreachable,
    /// It wants another user or password than it was given, or one at all.
    ProxyLocked,
    /// It does not connect to the host, for this status of HTTP or reply of SOCKS.
    ProxyRefused(u16),
    /// What is there does not speak as a proxy does.
    NoProxy,
    /// Not a failure: the socket was lent to the call, and ureq is to let go of it.
    LentSocket,
    /// Not a failure: nothing has come yet, and the call does not want to wait.
    Dry,
}

/// What to do where a proxy does not know us.
pub const PROXY_WANTS: &str = "the proxy wants a user and a password: give its address as \
                               http://USER:PASSWORD@HOST:PORT";

impl fmt::Display for AbortReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AbortReason::Stopped => f.write_str("the call was stopped"),
            AbortReason::Late => f.write_str("the call took too long"),
            AbortReason::Silent(wait) => write!(f, "no byte came for {} s", wait.as_secs_f32()),
            AbortReason::ConnectTimeout => f.write_str("connecting took too long"),
            AbortReason::LentSocket => f.write_str("the connection was handed over"),
            AbortReason::Dry => f.write_str("nothing has come yet"),
            AbortReason::NoSuchAddress => {
                f.write_str("it cannot be reached from the address that --bind names")
            }
            AbortReason::ProxyUnreachable => f.write_str("the proxy cannot be reached"),
            AbortReason::ProxyLocked => f.write_str(PROXY_WANTS),
            AbortReason::ProxyRefused(status) => {
                write!(f, "the proxy does not connect to it (status {status})")
            }
            AbortReason::NoProxy => f.write_str("what is at the proxy's address is no proxy"),
            AbortReason::Reset => f.write_str("the connection was reset"),
            AbortReason::Empty => f.write_str("the answer goes on and on without any content"),
        }
    }
}

impl std::error::Error for AbortReason {}

impl From<AbortReason> for io::Error {
    fn from(cut: AbortReason) -> io::Error {
        // ErrorKind::Other on purpose: ureq and rustls retry some kinds and take others for a
        // body's regular end.
        io::Error::other(cut)
    }
}

/// Host and port.
pub type Peer = (String, u16);

/// A socket on loan to a call.
#[derive(Debug)]
pub struct LentSocket {
    pub stream: Arc<TcpStream>,
    pub peer: Peer,
    pub silence: Duration,
}

/// What the transport and the call tell one another through the thread.
#[derive(Debug, Default)]
pub struct Context {
    pub watch: Option<Watch>,
    /// An end that the call set itself, for a part of it.
    pub limit: Option<Instant>,
    /// Pooled connections are to be passed over.
    pub force_new_connection: bool,
    /// A connection was made, rather than taken from the pool.
    pub connected: bool,
    /// A byte of the answer has come.
    pub answered: bool,
    /// Bytes that came since the call last had something of them.
    pub overhead: usize,
    /// The targets of the requests that this thread will make next at the same place, with the same
    /// headers.
    pub follow: Vec<String>,
    /// How many of them are on their way on the connection that was used last.
    pub ahead: usize,
    /// The answer was read to its declared end: what there is behind it belongs to the next one.
    pub whole: bool,
    /// No byte for so long is silence, if that is sooner than usual.
    pub patience: Option<Duration>,
    /// The server may hold back what it has to say until it has heard that the last of it arrived.
    pub prompt: bool,
    /// The call wants the socket itself as soon as nothing is buffered.
    pub lend: bool,
    /// And here it is.
    pub lent: Option<LentSocket>,
    /// The call has something already: where nothing more has come, it does not wait.
    pub eager: bool,
}

thread_local! {
    static CONTEXT: RefCell<Context> = RefCell::default();
}

/// Reads or changes this thread's context.
pub fn context<T>(look: impl FnOnce(&mut Context) -> T) -> T {
    CONTEXT.with_borrow_mut(look)
}

/// Runs `work` under `own` context. Whatever was installed on this thread before is back
/// afterwards, also after a panic, and `own` is in its place again: no clone, no allocation, so
/// that a body can do this at each read.
pub fn under<T>(own: &mut Context, work: impl FnOnce() -> T) -> T {
    struct Back<'a>(&'a mut Context);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            context(|installed| mem::swap(installed, self.0));
        }
    }
    context(|installed| mem::swap(installed, own));
    let _back = Back(own);
    work()
}

/// Whether to go on.
///
/// # Errors
/// `Stopped` and `Late`.
pub fn check() -> Result<(), AbortReason> {
    context(|context| {
        let deadline = match &context.watch {
            Some(watch) if watch.stop.load(Ordering::Relaxed) => return Err(AbortReason::Stopped),
            Some(watch) => watch.deadline,
            None => None,
        };
        // The clock is read only where there is something to compare it with.
        match [deadline, context.limit].into_iter().flatten().min() {
            Some(end) if Instant::now() >= end => Err(AbortReason::Late),
            _ => Ok(()),
        }
    })
}

/// Bytes have come from the connection.
///
/// # Errors
/// `Empty`, where that are too many since [`Context::overhead`] was 0.
pub fn came(bytes: usize) -> Result<(), AbortReason> {
    context(|context| {
        context.overhead = context.overhead.saturating_add(bytes);
        match context.overhead > MAX_OVERHEAD {
            true => Err(AbortReason::Empty),
            false => Ok(()),
        }
    })
}

/// Reads from a body on behalf of the installed context.
pub struct Reading<R>(pub R);

impl<R: io::Read> io::Read for Reading<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        context(|context| context.overhead = 0);
        self.0.read(buf)
    }
}

/// Counts the time in which a socket had nothing to say.
pub struct Silence {
    allowed: Duration,
    since: Option<Instant>,
}

impl Silence {
    pub fn new(allowed: Duration) -> Silence {
        Silence {
            allowed,
            since: None,
        }
    }

    /// The socket's time ran out without a byte.
    ///
    /// # Errors
    /// The watch's, or `Silent`.
    pub fn tick(&mut self) -> Result<(), AbortReason> {
        check()?;
        let now = Instant::now();
        // The first tick comes one slice after the silence began.
        let since = *self
            .since
            .get_or_insert_with(|| now.checked_sub(SLICE).unwrap_or(now));
        if now.duration_since(since) >= self.allowed {
            return Err(AbortReason::Silent(self.allowed));
        }
        Ok(())
    }

    /// A byte moved.
    pub fn over(&mut self) {
        self.since = None;
    }
}

/// Whether an error on a socket is the end of it, or only of a slice.
pub fn classify_io_error(error: io::Error, silence: &mut Silence) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if is_slice_end(&error) => {
            Ok(silence.tick()?)
        }
        io::ErrorKind::Interrupted => Ok(check()?),
        // ureq takes a reset for the regular end of a body without a length; a reset says that it
        // is none.
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Err(AbortReason::Reset.into())
        }
        _ => Err(error),
    }
}

/// ETIMEDOUT is the kernel giving the connection up, not a slice that has passed.
pub fn is_slice_end(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_context_gives_way_to_the_outer_one_again() {
        let stopped = Watch::default();
        stopped.stop.store(true, Ordering::Relaxed);
        let mut outer = Context {
            watch: Some(Watch::default()),
            ..Context::default()
        };
        let mut inner = Context {
            watch: Some(stopped),
            ..Context::default()
        };
        under(&mut outer, || {
            assert_eq!(check(), Ok(()));
            under(&mut inner, || {
                assert_eq!(check(), Err(AbortReason::Stopped));
            });
            assert_eq!(check(), Ok(()));
        });
        assert!(inner.watch.is_some() && outer.watch.is_some());
        assert!(context(|context| context.watch.is_none()));
    }

    #[test]
    fn the_earlier_of_deadline_and_limit_counts() {
        let past = Instant::now();
        for (deadline, limit) in [(Some(past), None), (None, Some(past))] {
            let watch = Watch {
                deadline,
                ..Watch::default()
            };
            let mut own = Context {
                watch: Some(watch),
                limit,
                ..Context::default()
            };
            under(&mut own, || assert_eq!(check(), Err(AbortReason::Late)));
        }
    }
}
