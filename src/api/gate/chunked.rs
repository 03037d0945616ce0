//! The chunked transfer coding (RFC 9112, 7.1), followed byte by byte.

/// Bytes of a line with a chunk's size, its extensions included.
const MAX_SIZE_LINE: usize = 256;
/// Bytes of all trailer fields.
const MAX_TRAILER: usize = 8 << 10;

/// What is no chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// Where in a chunked body we are.
#[derive(Debug)]
pub struct Chunked {
    at: At,
    /// Bytes of the current line, or of the trailer.
    line: usize,
}

#[derive(Debug, Clone, Copy)]
enum At {
    /// In the size; the number so far, and whether it has a digit yet.
    Size(u64, bool),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line.
    Trailer,
    TrailerLine,
    TrailerLf,
    LastLf,
    Done,
}

impl Default for Chunked {
    fn default() -> Chunked {
        Chunked {
            at: At::Size(0, false),
            line: 0,
        }
    }
}

impl Chunked {
    /// Whether the body is whole.
    pub fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// Goes on through `input`, hands decoded data to `data`, and returns how many bytes belong
    /// to the body: all of them, or fewer at its end.
    ///
    /// # Errors
    /// What is no chunked body. Bare line feeds, spaces around the size, and lines that never
    /// end are not let pass.
    pub fn advance(
        &mut self,
        input: &[u8],
        mut data: impl FnMut(&[u8]),
    ) -> Result<usize, Malformed> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            if let At::Data(left) = self.at {
                let here = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(input.len() - used);
                data(&input[used..used + here]);
                used += here;
                self.at = match left - here as u64 {
                    0 => At::DataCr,
                    left => At::Data(left),
                };
            } else {
                self.at = self.step(input[used])?;
                used += 1;
            }
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<At, Malformed> {
        self.line += 1;
        match (self.at, byte) {
            (At::Size(..) | At::Extension(_), _) if self.line > MAX_SIZE_LINE => Err(Malformed),
            (At::Trailer | At::TrailerLine, _) if self.line > MAX_TRAILER => Err(Malformed),
            (At::Size(size, true) | At::Extension(size), b'\r') => Ok(At::SizeLf(size)),
            (At::Size(size, true), b';') => Ok(At::Extension(size)),
            (At::Size(size, _), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                let size = size.checked_mul(16).ok_or(Malformed)?;
                Ok(At::Size(size + u64::from(digit), true))
            }
            (At::Extension(size), byte) if is_text(byte) => Ok(At::Extension(size)),
            (At::SizeLf(size), b'\n') => {
                self.line = 0;
                Ok(if size == 0 {
                    At::Trailer
                } else {
                    At::Data(size)
                })
            }
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => {
                self.line = 0;
                Ok(At::Size(0, false))
            }
            (At::Trailer, b'\r') => Ok(At::LastLf),
            (At::TrailerLine, b'\r') => Ok(At::TrailerLf),
            (At::Trailer | At::TrailerLine, byte) if is_text(byte) => Ok(At::TrailerLine),
            (At::TrailerLf, b'\n') => Ok(At::Trailer),
            (At::LastLf, b'\n') => Ok(At::Done),
            _ => Err(Malformed),
        }
    }
}

/// What may stand in a header line: no control character but the tab.
pub fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), Malformed> {
        let (mut chunked, mut out, mut used) = (Chunked::default(), Vec::new(), 0);
        for piece in input.chunks(step) {
            let here = chunked.advance(piece, |data| out.extend_from_slice(data))?;
            used += here;
            if here < piece.len() {
                break;
            }
        }
        Ok((out, used, chunked.is_done()))
    }

    proptest! {
        #[test]
        fn what_was_cut_into_chunks_comes_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            step in 1_usize..50,
        ) {
            let mut coded = Vec::new();
            for chunk in &chunks {
                coded.extend_from_slice(format!("{:X};a=b\r\n", chunk.len()).as_bytes());
                coded.extend_from_slice(chunk);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\nX: y\r\n\r\n");
            let length = coded.len();
            coded.extend_from_slice(b"GET / HTTP/1.1");
            let (out, used, done) = decode(&coded, step).unwrap();
            prop_assert_eq!(out, chunks.concat());
            prop_assert_eq!((used, done), (length, true));
        }

        #[test]
        fn hostile_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&input, 7);
        }
    }

    #[test]
    fn sloppy_framing_is_refused() {
        for input in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            " 1\r\na\r\n",
            "1 \r\na\r\n",
            "1\na\n0\n\n",
            "1\r\nab\r\n",
            "0x1\r\na\r\n",
            "fffffffffffffffff\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n\n",
        ] {
            assert_eq!(decode(input.as_bytes(), 100), Err(Malformed), "{input:?}");
        }
        let endless = format!("1;{}", "x".repeat(300));
        assert_eq!(decode(endless.as_bytes(), 100), Err(Malformed));
        let endless = format!("0\r\nX: {}", "x".repeat(9000));
        assert_eq!(decode(endless.as_bytes(), 100), Err(Malformed));
    }
}
