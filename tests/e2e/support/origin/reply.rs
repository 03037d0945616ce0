//! How the upstream answers one request: as it should, or wrongly in a way that a test describes.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};

/// Closed until a test opens it; what stands before it is silent.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn new() -> Gate {
        Gate::default()
    }

    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(super) fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(open, |open| !*open).unwrap());
    }
}

/// An answer that takes the place of the true one.
#[derive(Clone)]
pub(super) struct Instead {
    pub status: u16,
    pub body: String,
}

/// Writes a body as it goes.
pub(super) type Writer = Arc<dyn Fn(&mut dyn Write) -> io::Result<()> + Send + Sync>;

/// The true answer, with what a test wants to be wrong with it.
#[derive(Clone, Default)]
pub struct Reply {
    pub(super) instead: Option<Instead>,
    /// 200 with a body that is made while it is sent.
    pub(super) made: Option<Writer>,
    pub(super) headers: Vec<(String, String)>,
    /// Bytes in place of head and body, and then the end of the connection.
    pub(super) raw: Option<Writer>,
    /// The connection ends after so many bytes of the body.
    pub(super) cut: Option<u64>,
    /// The connection ends before the head.
    pub(super) no_head: bool,
    /// It ends with a reset rather than in order.
    pub(super) reset: bool,
    pub(super) hold_head: Option<Gate>,
    pub(super) hold_body: Option<(u64, Gate)>,
    pub(super) ignore_range: bool,
    /// The range answered begins so many bytes after the one asked for.
    pub(super) shift: u64,
    pub(super) etag: Option<String>,
    /// The total that `Content-Range` claims.
    pub(super) total: Option<u64>,
    /// The content is so many bytes longer than listed.
    pub(super) resize: i64,
    /// Content of another seed.
    pub(super) seed: Option<u64>,
    /// Half of the JSON, well framed.
    pub(super) half: bool,
    pub(super) framing: Framing,
    /// The body of content goes on for so many bytes after the end that its head names.
    pub(super) overrun: u64,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Framing {
    #[default]
    Length,
    Chunks,
    /// By the end of the connection.
    Close,
}

impl Reply {
    /// The true answer.
    pub fn serve() -> Reply {
        Reply::default()
    }

    pub fn status(status: u16) -> Reply {
        Reply::answer(status, "")
    }

    /// 200 with this body in place of the true JSON.
    pub fn json(body: &str) -> Reply {
        Reply::answer(200, body)
    }

    /// 200 with a body that `write` makes while it is sent: it may be larger than memory, and says
    /// nowhere how large.
    pub fn made(write: impl Fn(&mut dyn Write) -> io::Result<()> + Send + Sync + 'static) -> Reply {
        Reply {
            made: Some(Arc::new(write)),
            ..Reply::default()
        }
    }

    /// What `write` writes, which need not be HTTP, in place of an answer.
    pub fn raw(write: impl Fn(&mut dyn Write) -> io::Result<()> + Send + Sync + 'static) -> Reply {
        Reply {
            raw: Some(Arc::new(write)),
            ..Reply::default()
        }
    }

    fn answer(status: u16, body: &str) -> Reply {
        let body = body.to_string();
        Reply {
            instead: Some(Instead { status, body }),
            ..Reply::default()
        }
    }

    pub fn redirect(to: &str) -> Reply {
        Reply::status(302).header("Location", to)
    }

    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The connection closes after `bytes` of the body, though more was announced.
    pub fn cut(bytes: u64) -> Reply {
        Reply {
            cut: Some(bytes),
            ..Reply::default()
        }
    }

    /// The same, added to another fault.
    pub fn and_cut(mut self, bytes: u64) -> Reply {
        self.cut = Some(bytes);
        self
    }

    /// The connection is reset after `bytes` of the body.
    pub fn reset(bytes: u64) -> Reply {
        Reply {
            reset: true,
            ..Reply::cut(bytes)
        }
    }

    /// The connection closes without an answer.
    pub fn hang_up() -> Reply {
        Reply {
            no_head: true,
            ..Reply::default()
        }
    }

    /// Silence, not even a head, until the gate opens.
    pub fn stall(gate: &Gate) -> Reply {
        Reply {
            hold_head: Some(gate.clone()),
            ..Reply::default()
        }
    }

    /// The same, and then another fault.
    pub fn and_stall(mut self, gate: &Gate) -> Reply {
        self.hold_head = Some(gate.clone());
        self
    }

    /// Silence after `bytes` of the body, until the gate opens.
    pub fn stall_after(bytes: u64, gate: &Gate) -> Reply {
        Reply {
            hold_body: Some((bytes, gate.clone())),
            ..Reply::default()
        }
    }

    /// 200 with everything, whatever range was asked for.
    pub fn ignore_range() -> Reply {
        Reply {
            ignore_range: true,
            ..Reply::default()
        }
    }

    /// The same, added to another fault.
    pub fn and_ignore_range(mut self) -> Reply {
        self.ignore_range = true;
        self
    }

    /// The end of the body is told in this way, added to another fault.
    pub fn and_framed(mut self, framing: Framing) -> Reply {
        self.framing = framing;
        self
    }

    /// The body goes on for `bytes` after the end of the range that `Content-Range` names. It needs
    /// another framing than a length.
    pub fn and_overrun(mut self, bytes: u64) -> Reply {
        self.overrun = bytes;
        self
    }

    /// 206 with a range that begins `bytes` later than asked for.
    pub fn shifted(bytes: u64) -> Reply {
        Reply {
            shift: bytes,
            ..Reply::default()
        }
    }

    pub fn etag(etag: &str) -> Reply {
        Reply {
            etag: Some(etag.into()),
            ..Reply::default()
        }
    }

    /// `Content-Range` claims this total.
    pub fn total(bytes: u64) -> Reply {
        Reply {
            total: Some(bytes),
            ..Reply::default()
        }
    }

    /// The content is `bytes` longer than listed (shorter, where negative).
    pub fn resized(bytes: i64) -> Reply {
        Reply {
            resize: bytes,
            ..Reply::default()
        }
    }

    /// Other content, and another `ETag` with it, as when a file was replaced.
    pub fn content_of(seed: u64) -> Reply {
        Reply {
            seed: Some(seed),
            ..Reply::default()
        }
    }

    /// The first half of the true JSON, as if that were all.
    pub fn half() -> Reply {
        Reply {
            half: true,
            ..Reply::default()
        }
    }

    /// The gates that a connection with this answer may stand before.
    pub(super) fn gates(&self) -> impl Iterator<Item = &Gate> {
        let body = self.hold_body.as_ref().map(|(_, gate)| gate);
        self.hold_head.iter().chain(body)
    }
}
