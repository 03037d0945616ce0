//! Reads a file piece by piece, as whoever computes digests of it wants it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes that are read at once.
const PIECE: u64 = 256 << 10;

/// Hands the bytes of a file from `start` on to `each`, up to `end` or to the file's own end where
/// that comes first. Returns how many there were.
///
/// # Errors
/// What the system reports, and what `each` says to end it.
pub fn read<E: From<io::Error>>(
    file: &File,
    start: u64,
    end: u64,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<u64, E> {
    // It is as long as a piece at the most.
    let room = PIECE.min(end - start) as usize;
    let mut buffer = vec![0; room];
    let mut at = start;
    while at < end {
        let most = (end - at).min(PIECE) as usize;
        let read = file.read_at(&mut buffer[..most], at)?;
        if read == 0 {
            break;
        }
        each(&buffer[..read])?;
        at += read as u64;
    }
    Ok(at - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_where_it_is_told_to_or_where_the_file_does() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&vec![7; PIECE as usize + 5], 0).unwrap();
        let count = |start, end| {
            let mut seen = 0;
            let read = read(&file, start, end, |piece| {
                seen += piece.len() as u64;
                Ok::<_, io::Error>(())
            });
            assert_eq!(read.unwrap(), seen);
            seen
        };
        assert_eq!(count(0, 0), 0);
        assert_eq!(count(3, 10), 7);
        assert_eq!(count(0, u64::MAX), PIECE + 5);
        assert_eq!(count(PIECE, PIECE + 9), 5);
        let stopped = read(&file, 0, 9, |_| Err(io::Error::other("enough")));
        assert_eq!(stopped.unwrap_err().to_string(), "enough");
    }
}
