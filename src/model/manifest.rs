//! Lists of checksums that a download leaves beside its files.

use serde::{Deserialize, Serialize};

use crate::base::digest::Algorithm;

/// Which list is written when every file is in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manifest {
    /// `SHA256SUMS`, which `sha256sum -c` reads.
    Sha256,
    /// `XXH64SUMS`, which `xxhsum -c` reads.
    Xxh64,
    /// `B3SUMS`, which `b3sum -c` reads.
    Blake3,
    /// A generation of an ASC Media Hash List, in the folder `ascmhl`.
    AscMhl,
}

impl Manifest {
    /// Every kind, with its name.
    pub const ALL: [(&'static str, Manifest); 4] = [
        ("sha256", Manifest::Sha256),
        ("xxh64", Manifest::Xxh64),
        ("blake3", Manifest::Blake3),
        ("ascmhl", Manifest::AscMhl),
    ];

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Manifest> {
        let found = Manifest::ALL.iter().find(|(known, _)| *known == name);
        found.map(|&(_, manifest)| manifest)
    }

    /// The one of that name; None for `none`.
    ///
    /// # Errors
    /// There is none of that name; the text names those that there are.
    pub fn or_none(name: &str) -> Result<Option<Manifest>, String> {
        match Manifest::from_name(name) {
            None if name != "none" => {
                let names = Manifest::ALL.map(|(name, _)| name).join(", ");
                Err(format!("must be one of {names}, or none"))
            }
            known => Ok(known),
        }
    }

    pub fn algorithm(self) -> Algorithm {
        match self {
            Manifest::Sha256 => Algorithm::Sha256,
            Manifest::Xxh64 | Manifest::AscMhl => Algorithm::Xxh64,
            Manifest::Blake3 => Algorithm::Blake3,
        }
    }

    /// The name of the list, in `dst_folder`; of an ASC MHL that of the folder.
    pub fn file_name(self) -> &'static str {
        match self {
            Manifest::Sha256 => "SHA256SUMS",
            Manifest::Xxh64 => "XXH64SUMS",
            Manifest::Blake3 => "B3SUMS",
            Manifest::AscMhl => "ascmhl",
        }
    }
}

/// A list that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its path in `dst_folder`.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// One line as coreutils write it: digest, two spaces, path. A path with a backslash, a newline or
/// a carriage return is written with escapes, which a backslash at the line's beginning says.
pub fn line(digest: &str, path: &str) -> String {
    if !path.contains(['\\', '\n', '\r']) {
        return format!("{digest}  {path}\n");
    }
    let path = path.replace('\\', r"\\").replace('\n', r"\n");
    let path = path.replace('\r', r"\r");
    format!("\\{digest}  {path}\n")
}

/// Digest and path of a line that [`line()`] or coreutils wrote, in text mode or binary. None: it
/// is no such line.
pub fn read_line(text: &str) -> Option<(&str, String)> {
    let (text, escaped) = match text.strip_prefix('\\') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let (digest, path) = text.split_once(' ')?;
    let path = path.strip_prefix([' ', '*'])?;
    if !escaped {
        return Some((digest, path.to_owned()));
    }
    let mut whole = String::new();
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        whole.push(match c {
            '\\' => match rest.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            c => c,
        });
    }
    Some((digest, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_coreutils() {
        assert_eq!(line("00ff", "a/b c.mov"), "00ff  a/b c.mov\n");
        assert_eq!(line("00", "a\\b\nc\r"), "\\00  a\\\\b\\nc\\r\n");
    }

    #[test]
    fn lines_are_read_as_they_were_written() {
        for path in ["a/b c.mov", "a\\b\nc\r", "*x", " y", ""] {
            let written = line("00ff", path);
            let read = read_line(written.strip_suffix('\n').unwrap());
            assert_eq!(read, Some(("00ff", path.to_owned())));
        }
        assert_eq!(read_line("00 *a"), Some(("00", "a".into())), "binary mode");
        for text in ["", "00", "00 a", "\\00  a\\x", "\\00  a\\"] {
            assert_eq!(read_line(text), None, "{text}");
        }
    }

    #[test]
    fn names_lead_back() {
        for (name, manifest) in Manifest::ALL {
            assert_eq!(Manifest::from_name(name), Some(manifest));
            assert_eq!(serde_json::to_value(manifest).unwrap(), name);
        }
        assert_eq!(Manifest::from_name("md5"), None);
    }
}
