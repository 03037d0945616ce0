//! A generation of an ASC Media Hash List, version 2.0, as post houses keep it: the `ascmhl` folder
//! beside the files holds a list for each generation, and a chain that vouches for the lists.
//! American Society of Cinematographers, "ASC MHL Specification".

use crate::base::clock::Timestamp;
use crate::base::digest::{Algorithm, digest};

/// The folder that holds the lists.
pub const FOLDER: &str = "ascmhl";
/// The file that vouches for them.
pub const CHAIN: &str = "ascmhl_chain.xml";

/// Characters in a C4 identifier: SMPTE ST 2114.
const C4_LENGTH: usize = 90;

/// One file as the list has it.
pub struct Entry {
    /// Relative to the folder that `ascmhl` is in.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970, where it is known.
    pub mtime: Option<i64>,
    /// Its XXH64 in hexadecimal digits.
    pub xxh64: String,
}

/// The name of the list of a generation, the first of which is 1.
pub fn file_name(generation: u32, folder: &str, at: Timestamp) -> String {
    let time = at.to_rfc3339();
    let (date, time) = time.split_once('T').unwrap_or((&time, ""));
    let time: String = time.chars().take(8).filter(char::is_ascii_digit).collect();
    format!("{generation:04}_{folder}_{date}_{time}Z.mhl")
}

/// The text of a list.
pub fn list(entries: &[Entry], host: &str, at: Timestamp) -> String {
    let now = at.to_rfc3339();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <hashlist version=\"2.0\" xmlns=\"urn:ASC:MHL:v2.0\">\n  <creatorinfo>\n    \
         <creationdate>{now}</creationdate>\n    <hostname>{}</hostname>\n    \
         <tool version=\"{}\">haul</tool>\n  </creatorinfo>\n  <processinfo>\n    \
         <process>transfer</process>\n    <ignore>\n      <pattern>.DS_Store</pattern>\n      \
         <pattern>ascmhl</pattern>\n      <pattern>ascmhl/</pattern>\n    </ignore>\n  \
         </processinfo>\n  <hashes>\n",
        escaped(host),
        env!("CARGO_PKG_VERSION"),
    );
    for entry in entries {
        let modified = entry.mtime.map_or(String::new(), |mtime| {
            let time = Timestamp(mtime).to_rfc3339();
            format!(" lastmodificationdate=\"{time}\"")
        });
        text += &format!(
            "    <hash>\n      <path size=\"{}\"{modified}>{}</path>\n      \
             <xxh64 action=\"original\" hashdate=\"{now}\">{}</xxh64>\n    </hash>\n",
            entry.size,
            escaped(&entry.path),
            entry.xxh64
        );
    }
    text += "  </hashes>\n</hashlist>\n";
    text
}

/// How many generations a chain has.
pub fn generations(chain: &str) -> u32 {
    u32::try_from(chain.matches("sequencenr=").count()).unwrap_or(u32::MAX)
}

/// The chain with another generation, whose list is `text` under this `name`. None: what is there
/// is no chain.
pub fn chain(known: Option<&str>, generation: u32, name: &str, text: &str) -> Option<String> {
    const END: &str = "</ascmhldirectory>";
    let begin = match known {
        None => {
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <ascmhldirectory xmlns=\"urn:ASC:MHL:DIRECTORY:v2.0\">\n"
        }
        Some(known) => known.rfind(END).map(|end| &known[..end])?,
    };
    Some(format!(
        "{begin}  <hashlist sequencenr=\"{generation}\">\n    <path>{}</path>\n    \
         <c4>{}</c4>\n  </hashlist>\n{END}\n",
        escaped(name),
        c4(text.as_bytes())
    ))
}

/// The C4 identifier of some content: its SHA-512 in base 58.
fn c4(content: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut number = digest(Algorithm::Sha512, content).bytes;
    let mut digits = Vec::new();
    while digits.len() < C4_LENGTH - 2 {
        let mut rest = 0_u32;
        for byte in &mut number {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 58).unwrap_or(u8::MAX);
            rest = value % 58;
        }
        digits.push(char::from(ALPHABET[rest as usize]));
    }
    digits.extend(['4', 'c']);
    digits.into_iter().rev().collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vector of the C4 framework.
    #[test]
    fn c4_identifiers_are_those_of_the_standard() {
        assert_eq!(
            c4(b""),
            "c459dsjfscH38cYeXXYogktxf4Cd9ibshE3BHUo6a58hBXmRQdZrAkZzsWcbWtDg5oQstpDuni4Hirj75GEmTc1sFT"
        );
        assert_eq!(c4(b"x").len(), C4_LENGTH);
    }

    #[test]
    fn a_chain_grows_by_a_generation() {
        let first = chain(None, 1, "0001_a&b.mhl", "one").unwrap();
        assert_eq!(generations(&first), 1);
        assert!(first.contains("<path>0001_a&amp;b.mhl</path>"));
        let second = chain(Some(&first), 2, "0002.mhl", "two").unwrap();
        assert_eq!(generations(&second), 2);
        assert!(second.starts_with(first.strip_suffix("</ascmhldirectory>\n").unwrap()));
        assert_eq!(chain(Some("not a chain"), 1, "a", "b"), None);
    }

    #[test]
    fn a_list_is_named_by_generation_folder_and_time() {
        let at = Timestamp(1_795_428_000_000_000_000);
        assert_eq!(
            file_name(12, "A001", at),
            "0012_A001_2026-11-23_100000Z.mhl"
        );
    }
}
