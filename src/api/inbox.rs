//! Bytes that were read and are not yet dealt with.

use std::io::{self, Read};

/// The bytes of a connection that were read and not used yet.
pub struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// An empty inbox with room for `room` bytes; it grows when asked to.
    pub fn new(room: usize) -> Inbox {
        Inbox {
            bytes: vec![0; room],
            start: 0,
            end: 0,
        }
    }

    /// What lies here, oldest byte first.
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Forgets the oldest `count` bytes, which must be here.
    pub fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end, "only what is here can be consumed");
    }

    /// Reads once, growing up to `most` bytes. Returns 0 at the end of the source, or when
    /// `most` bytes are here already.
    ///
    /// # Errors
    /// What the source reports, interruptions aside.
    pub fn fill(&mut self, source: &mut impl Read, most: usize) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.bytes.len() {
            self.make_room(most);
        }
        loop {
            match source.read(&mut self.bytes[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn make_room(&mut self, most: usize) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            let room = (self.bytes.len() * 2).min(most).max(self.bytes.len());
            self.bytes.resize(room, 0);
        }
    }
}
