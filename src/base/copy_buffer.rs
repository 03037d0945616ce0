//! What a worker carries from the network to the disk: a buffer, or a pipe through which the kernel
//! moves the bytes without showing them to us, which spares one copy of each.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes of the buffer: larger ones gain nothing.
const BUFFER: usize = 256 << 10;
/// Bytes that the pipe holds. It must be as large as an unprivileged process may have it: with the
/// usual 64 KiB it costs more than it saves.
pub const PIPE: usize = 1 << 20;

/// One worker's buffer and pipe. The pipe is made when it is first wanted.
pub struct CopyBuffer {
    buffer: Vec<u8>,
    pipe: Option<Pipe>,
    /// The system has no pipe for us, or a file system takes none.
    pipeless: bool,
}

struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Bytes that have come and are to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Bytes in the buffer: the index of the first, and their number.
    Buffer(usize, usize),
    /// Bytes in the pipe: their number.
    Pipe(usize),
}

impl Chunk {
    /// How many bytes it has.
    pub fn len(self) -> usize {
        match self {
            Chunk::Buffer(_, length) | Chunk::Pipe(length) => length,
        }
    }

    /// Whether it is the end of the body.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl Default for CopyBuffer {
    fn default() -> CopyBuffer {
        CopyBuffer {
            buffer: vec![0; BUFFER],
            pipe: None,
            pipeless: false,
        }
    }
}

impl CopyBuffer {
    /// The buffer to read into, up to `most` bytes of it.
    pub fn buffer(&mut self, most: usize) -> &mut [u8] {
        let most = most.min(self.buffer.len());
        &mut self.buffer[..most]
    }

    /// The pipe to splice into; it is empty. None if there is none to be had.
    pub fn pipe(&mut self) -> Option<BorrowedFd<'_>> {
        if self.pipe.is_none() && !self.pipeless {
            self.pipe = Pipe::new();
            self.pipeless = self.pipe.is_none();
        }
        self.pipe.as_ref().map(|pipe| pipe.into.as_fd())
    }

    /// Writes the first `count` bytes of a load at an offset; the rest is dropped.
    ///
    /// # Errors
    /// What the file system reports.
    pub fn write(&mut self, load: Chunk, count: usize, file: &File, at: u64) -> io::Result<()> {
        match load {
            Chunk::Buffer(start, _) => file.write_all_at(&self.buffer[start..start + count], at),
            Chunk::Pipe(length) => {
                let Some(pipe) = self.pipe.take() else {
                    return Ok(());
                };
                self.empty(&pipe, count, file, at)?;
                // With bytes left in it, or after an error, it is closed.
                self.pipe = (count == length).then_some(pipe);
                Ok(())
            }
        }
    }

    /// Drops a load, or what is left of it.
    pub fn discard(&mut self) {
        self.pipe = None;
    }

    fn empty(&mut self, pipe: &Pipe, mut count: usize, file: &File, mut at: u64) -> io::Result<()> {
        while count > 0 {
            match splice(
                &pipe.out,
                None,
                file,
                Some(&mut at),
                count,
                SpliceFlags::MOVE,
            ) {
                Ok(0) => return Err(Errno::IO.into()),
                Ok(moved) => count -= moved,
                Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.pipeless = true;
                    return self.copy_out(pipe, count, file, at);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// For file systems that no pipe can be spliced into.
    fn copy_out(
        &mut self,
        pipe: &Pipe,
        mut count: usize,
        file: &File,
        mut at: u64,
    ) -> io::Result<()> {
        while count > 0 {
            let room = count.min(self.buffer.len());
            let got = match read(&pipe.out, &mut self.buffer[..room]) {
                Ok(0) => return Err(Errno::IO.into()),
                Ok(got) => got,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            file.write_all_at(&self.buffer[..got], at)?;
            at += got as u64;
            count -= got;
        }
        Ok(())
    }
}

impl Pipe {
    fn new() -> Option<Pipe> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC).ok()?;
        let size = fcntl_setpipe_size(&into, PIPE).ok()?;
        (size >= PIPE).then_some(Pipe { out, into })
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::write;

    use super::*;

    fn load(buffer: &mut CopyBuffer, bytes: &[u8]) -> Chunk {
        let pipe = buffer.pipe().unwrap();
        assert_eq!(write(pipe, bytes).unwrap(), bytes.len());
        Chunk::Pipe(bytes.len())
    }

    fn content(file: &File, length: usize) -> Vec<u8> {
        let mut content = vec![0; length];
        file.read_exact_at(&mut content, 0).unwrap();
        content
    }

    #[test]
    fn a_piped_load_lands_at_its_offset_and_what_is_not_wanted_is_dropped() {
        let file = tempfile::tempfile().unwrap();
        let mut buffer = CopyBuffer::default();
        let first = load(&mut buffer, b"0123456789");
        buffer.write(first, 4, &file, 3).unwrap();
        let second = load(&mut buffer, b"abc");
        buffer.write(second, 3, &file, 0).unwrap();
        assert_eq!(content(&file, 7), b"abc0123");
        assert_eq!(file.metadata().unwrap().len(), 7);
    }

    #[test]
    fn a_file_that_takes_no_pipe_is_written_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        // splice(2) refuses files that are open for appending; what they are written at is their
        // end.
        let file = File::options()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .unwrap();
        let mut buffer = CopyBuffer::default();
        let bytes = vec![7; BUFFER + 10];
        let first = load(&mut buffer, &bytes);
        buffer.write(first, bytes.len(), &file, 0).unwrap();
        assert_eq!(content(&file, bytes.len()), bytes);
        assert!(buffer.pipe().is_some() && buffer.pipeless);
    }
}
