//! Heads that ureq does not understand: header lines that go on in the next line (obs-fold; RFC
//! 9112, 5.2), and interim answers.
//!
//! A client may read them as one line, with spaces in place of the fold, and some old servers and
//! appliances still send them. ureq refuses them, so they are mended above TLS, before ureq sees
//! the head.

use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Wraps every connection.
#[derive(Debug)]
pub struct Unfolding;

impl<In: Transport> Connector<In> for Unfolding {
    type Out = Unfolded<In>;

    fn connect(
        &self,
        _: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Unfolded<In>>, Error> {
        Ok(chained.map(|line| Unfolded {
            line,
            in_head: false,
        }))
    }
}

/// A connection whose answers have no folded header lines.
#[derive(Debug)]
pub struct Unfolded<T> {
    line: T,
    /// A request was sent, and the end of its answer's head was not seen yet.
    in_head: bool,
}

impl<T: Transport> Transport for Unfolded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        if self.in_head {
            let buffers = self.line.buffers();
            drop_interim(buffers);
            self.in_head = !unfold_head(buffers);
        }
        self.line.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.in_head = true;
        self.line.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.line.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.line.is_open()
    }

    fn is_tls(&self) -> bool {
        self.line.is_tls()
    }
}

/// Puts spaces where a header line goes on in the next one. True if the head was there to its
/// end.
fn unfold_head(buffers: &mut dyn Buffers) -> bool {
    let input = buffers.input();
    let end = head_end(input);
    let head = &input[..end.unwrap_or(input.len())];
    if !has_fold(head) {
        return end.is_some();
    }
    let mut mended = input.to_vec();
    unfold(&mut mended[..end.unwrap_or(input.len())]);
    buffers.input_consume(mended.len());
    // The bytes that were just given back are room again.
    buffers.input_append_buf()[..mended.len()].copy_from_slice(&mended);
    buffers.input_appended(mended.len());
    end.is_some()
}

/// Takes out the heads of interim answers (RFC 9110, 15.2), which mean nothing to a GET: ureq knows
/// only the plainest.
fn drop_interim(buffers: &mut dyn Buffers) {
    loop {
        let input = buffers.input();
        let Some(end) = head_end(input).filter(|_| is_interim(input)) else {
            return;
        };
        let rest = &input[end..];
        let blank = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(rest.len(), |at| at + 1);
        buffers.input_consume(end + blank);
    }
}

/// Whether a head of the status 1xx comes first; 101 changes the protocol, which nobody has asked
/// for.
fn is_interim(input: &[u8]) -> bool {
    input.starts_with(b"HTTP/1.1 1") && !input.starts_with(b"HTTP/1.1 101")
}

/// Where the head ends, its empty line left out.
fn head_end(input: &[u8]) -> Option<usize> {
    let mut line = 0;
    while let Some(length) = input[line..].iter().position(|&byte| byte == b'\n') {
        let text = &input[line..line + length];
        if line > 0 && matches!(text, b"" | b"\r") {
            return Some(line);
        }
        line += length + 1;
    }
    None
}

fn is_fold(pair: &[u8]) -> bool {
    matches!(pair, [b'\n', b' ' | b'\t'])
}

fn has_fold(head: &[u8]) -> bool {
    head.windows(2).any(is_fold)
}

fn unfold(head: &mut [u8]) {
    for at in 1..head.len().saturating_sub(1) {
        if is_fold(&head[at..at + 2]) {
            head[at] = b' ';
            if head[at - 1] == b'\r' {
                head[at - 1] = b' ';
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ureq::unversioned::transport::LazyBuffers;

    use super::*;

    fn unfolded(input: &str) -> (bool, String) {
        let mut buffers = LazyBuffers::new(256, 16);
        buffers.input_append_buf()[..input.len()].copy_from_slice(input.as_bytes());
        buffers.input_appended(input.len());
        let whole = unfold_head(&mut buffers);
        (whole, String::from_utf8(buffers.input().to_vec()).unwrap())
    }

    #[test]
    fn a_folded_line_becomes_one_and_the_body_stays_as_it_is() {
        let (whole, text) = unfolded("HTTP/1.1 200 OK\r\nA: b,\r\n\tc\r\nD: e\r\n\r\nf\r\n g");
        assert!(whole);
        assert_eq!(text, "HTTP/1.1 200 OK\r\nA: b,  \tc\r\nD: e\r\n\r\nf\r\n g");
    }

    #[test]
    fn a_head_that_is_not_whole_yet_is_looked_at_again() {
        assert_eq!(
            unfolded("HTTP/1.1 200 OK\r\nA: b\r\n"),
            (false, "HTTP/1.1 200 OK\r\nA: b\r\n".into())
        );
        assert_eq!(
            unfolded("HTTP/1.1 200 OK\nA: b\n c").1,
            "HTTP/1.1 200 OK\nA: b  c"
        );
        assert_eq!(unfolded(""), (false, String::new()));
    }
}
