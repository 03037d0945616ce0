//! A generation of an ASC Media Hash List, version 2.0, as post houses keep it: the `ascmhl` folder
//! beside the files holds a list for each generation, and a chain that vouches for the lists.
//! American Society of Cinematographers, "ASC MHL Specification".

use crate::base::clock::Timestamp;
use crate::base::digest::{Algorithm, Digest, digest, unhex};

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

/// The digests of a list, each with the path of its file: of those kinds of digest that are known,
/// the first.
pub fn read(list: &str) -> Vec<(String, Digest)> {
    let hashes = list.split("<hash>").skip(1);
    hashes.filter_map(read_hash).collect()
}

fn read_hash(text: &str) -> Option<(String, Digest)> {
    let text = text.split("</hash>").next()?;
    let path = unescaped(element(text, "path")?);
    let kinds = [
        ("xxh64", Algorithm::Xxh64),
        ("xxh3", Algorithm::Xxh3),
        ("md5", Algorithm::Md5),
        ("sha1", Algorithm::Sha1),
    ];
    let digest = kinds
        .into_iter()
        .find_map(|(name, algorithm)| Digest::new(algorithm, unhex(element(text, name)?)?))?;
    Some((path, digest))
}

/// What is in the first element of that name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("<{name}");
    let after = text
        .split(begin.as_str())
        .skip(1)
        .find(|after| after.starts_with([' ', '>', '\n', '\t', '\r']))?;
    let content = after.split_once('>')?.1;
    Some(content.split_once("</")?.0.trim())
}

fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
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
    fn a_list_is_read_as_it_was_written() {
        let entry = Entry {
            path: "A001/a & <b>.mov".into(),
            size: 3,
            mtime: Some(0),
            xxh64: "4d704f18debe5937".into(),
        };
        let text = list(&[entry], "host", Timestamp(0));
        let digest = Digest::new(Algorithm::Xxh64, unhex("4d704f18debe5937").unwrap()).unwrap();
        assert_eq!(read(&text), [("A001/a & <b>.mov".to_owned(), digest)]);
        for broken in [
            "",
            "<hash>",
            "<hash><path>a</path>",
            "<hash><path",
            "<hash><pathx>a</pathx>",
        ] {
            assert_eq!(read(broken), [], "{broken}");
        }
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
