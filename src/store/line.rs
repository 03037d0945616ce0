//! The lines of the journal: how they are written, and how they are read without trusting them.
//!
//! A journal is text, one JSON object a line:
//! - `{"generation":7,"boot":"…","synced":120}` opens it: the boot it was written in, and how far
//!   data was synced by then (another such line may follow where a start in another boot had no
//!   space for a new journal);
//! - `{"n":123,"c":…}` is change number 123;
//! - `{"s":123}` says that the data behind every change up to 123 has been synced;
//! - `{"v":[120,123]}` says that the changes 120 to 123 were refused or taken back after they had
//!   been written, and do not count.

use std::io::{self, BufRead, Read, Write};

use serde::{Deserialize, Serialize};

/// The longest line that is written or believed, its newline included: 1 MiB.
pub(super) const MAX_LINE: usize = 1 << 20;

/// Sequence numbers stay below this (2^53, what every JSON reader can hold); a greater one is
/// damage.
pub(super) const MAX_SEQ: u64 = 1 << 53;

/// The journal's first line: the boot of the lines that follow.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub generation: u64,
    /// The boot that the journal's lines were written in.
    pub boot: String,
    /// The data behind every change up to this one had been synced when the journal was begun.
    pub synced: u64,
}

/// Any other line; which fields are there tells the kind.
#[derive(Deserialize)]
struct Fields<C> {
    n: Option<u64>,
    c: Option<C>,
    s: Option<u64>,
    v: Option<[u64; 2]>,
}

/// A line that was understood.
pub(super) enum Line<C> {
    Change(u64, C),
    Synced(u64),
    Void(u64, u64),
}

/// Reads a line that is no header; None if it is damaged.
pub(super) fn parse<C: serde::de::DeserializeOwned>(line: &[u8]) -> Option<Line<C>> {
    let fields: Fields<C> = serde_json::from_slice(line).ok()?;
    let parsed = match (fields.n, fields.c, fields.s, fields.v) {
        (Some(n), Some(change), None, None) if n > 0 => Line::Change(n, change),
        (None, None, Some(s), None) => Line::Synced(s),
        (None, None, None, Some([first, last])) if first <= last => Line::Void(first, last),
        _ => return None,
    };
    let greatest = match parsed {
        Line::Change(n, _) | Line::Synced(n) | Line::Void(_, n) => n,
    };
    (greatest < MAX_SEQ).then_some(parsed)
}

const INFALLIBLE: &str = "writing into memory cannot fail";

/// Adds the line of change number `n`, which is `json`.
pub(super) fn push_change(out: &mut Vec<u8>, n: u64, json: &[u8]) {
    write!(out, "{{\"n\":{n},\"c\":").expect(INFALLIBLE);
    out.extend_from_slice(json);
    out.extend_from_slice(b"}\n");
}

pub(super) fn push_synced(out: &mut Vec<u8>, upto: u64) {
    writeln!(out, "{{\"s\":{upto}}}").expect(INFALLIBLE);
}

pub(super) fn push_void(out: &mut Vec<u8>, first: u64, last: u64) {
    writeln!(out, "{{\"v\":[{first},{last}]}}").expect(INFALLIBLE);
}

pub(super) fn push_header(out: &mut Vec<u8>, header: &Header) {
    serde_json::to_writer(&mut *out, header).expect("a header is two numbers and a string");
    out.push(b'\n');
}

/// One step through a journal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A whole line is in the buffer, without its newline.
    Line,
    /// A line was longer than `MAX_LINE` and was passed over.
    TooLong,
    /// The last line has no newline: it was being written when the end came.
    Torn,
    End,
}

/// Reads the next line into `line`, never holding more than `MAX_LINE` bytes.
/// Returns also how many bytes it took from `from`.
pub(super) fn next_line(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<(Next, u64)> {
    line.clear();
    let limit = MAX_LINE as u64;
    let mut taken = from.by_ref().take(limit).read_until(b'\n', line)? as u64;
    if taken == 0 {
        return Ok((Next::End, 0));
    }
    if line.pop_if(|last| *last == b'\n').is_some() {
        return Ok((Next::Line, taken));
    }
    if line.len() < MAX_LINE {
        return Ok((Next::Torn, taken));
    }
    loop {
        line.clear();
        taken += from.by_ref().take(limit).read_until(b'\n', line)? as u64;
        match line.last() {
            None => return Ok((Next::Torn, taken)),
            Some(b'\n') => return Ok((Next::TooLong, taken)),
            Some(_) => {}
        }
    }
}
