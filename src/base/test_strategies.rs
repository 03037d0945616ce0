//! For tests: texts that nearly make sense, as somebody would send who is looking for a hole.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Pieces that parsers have tripped over.
const PIECES: &[&str] = &[
    "",
    "\0",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    "[[[[[[[[",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "1e400",
    "18446744073709551616",
    "9007199254740993",
    "4294967295",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "%",
    "%00",
    "%ff",
    "?",
    "#",
    "/",
    "../",
    "\u{feff}",
    "\u{202e}",
    "é",
];

#[derive(Debug, Clone)]
enum Edit {
    /// A piece replaces this many bytes.
    Put(Index, usize, &'static str),
    /// So do bytes of any kind.
    Noise(Index, usize, Vec<u8>),
    /// A stretch is there twice.
    Repeat(Index, usize),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<Index>(), 0..12_usize, select(PIECES)).prop_map(|(at, gone, piece)| Edit::Put(at, gone, piece)),
        2 => (any::<Index>(), 0..6_usize, vec(any::<u8>(), 0..6)).prop_map(|(at, gone, noise)| Edit::Noise(at, gone, noise)),
        1 => (any::<Index>(), 1..60_usize).prop_map(|(at, length)| Edit::Repeat(at, length)),
        1 => any::<Index>().prop_map(Edit::Cut),
    ]
}

fn change(text: &mut Vec<u8>, edit: Edit) {
    let place = |at: Index, text: &[u8]| at.index(text.len() + 1);
    match edit {
        Edit::Put(at, gone, piece) => {
            let at = place(at, text);
            let end = text.len().min(at + gone);
            text.splice(at..end, piece.bytes());
        }
        Edit::Noise(at, gone, noise) => {
            let at = place(at, text);
            let end = text.len().min(at + gone);
            text.splice(at..end, noise);
        }
        Edit::Repeat(at, length) => {
            let at = place(at, text);
            let end = text.len().min(at + length);
            let again = text[at..end].to_vec();
            text.splice(at..at, again);
        }
        Edit::Cut(at) => {
            let at = place(at, text);
            text.truncate(at);
        }
    }
}

/// One of these texts with a few changes.
pub fn near(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    (select(texts), vec(edit(), 0..6)).prop_map(|(text, edits)| {
        let mut text = text.as_bytes().to_vec();
        edits.into_iter().for_each(|edit| change(&mut text, edit));
        text
    })
}
