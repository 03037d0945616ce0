//! From a hostile name to one safe path component, and what to do when two meet.
//!
//! Pure: knows no disk. What comes out is never empty, `.` or `..`, has no `/`, NUL or control
//! character, and is at most [`limit`] bytes, so that `.part` fits behind it.

use std::borrow::Cow;

use crate::base::digest::{Algorithm, digest};
use crate::dest::Traits;

/// What the name of an unfinished file ends with.
pub const PART: &str = ".part";

/// Characters of the tag by which nodes know what they share as theirs.
const TAG: usize = 12;

/// What lies beside a shared `.part` has a name of at most so many bytes more.
const BESIDE: usize = 28;

/// What stands for a name that has nothing left.
pub const UNNAMED: &str = "unnamed";

/// Room kept, in a name that has to be shortened, for ` (1)`.
const COUNTER_ROOM: usize = 4;

/// The longest extension, with its dot, that is kept when a name is shortened; beyond it is no
/// extension.
const EXTENSION_MAX: usize = 32;

/// Bytes a component may have, `.part` not counted: 250 nearly everywhere.
pub fn limit(traits: Traits) -> usize {
    traits.name_max - PART.len()
}

/// A folder's name, made safe. None: nothing is left of it, or it means the folder itself or the
/// one above.
pub fn mend_folder<'a>(component: &'a str, traits: Traits) -> Option<Cow<'a, str>> {
    mend(component, traits)
}

/// A file's name, made safe; `unnamed` where nothing is left of it.
pub fn mend_file<'a>(name: &'a str, traits: Traits) -> Cow<'a, str> {
    mend(name, traits).unwrap_or(Cow::Borrowed(UNNAMED))
}

fn mend<'a>(raw: &'a str, traits: Traits) -> Option<Cow<'a, str>> {
    let bad = |c: char| is_bad(c, traits.windows_names);
    let mut name = if raw.contains(bad) {
        Cow::Owned(raw.replace(bad, ""))
    } else {
        Cow::Borrowed(raw)
    };
    if matches!(&*name, "." | "..") {
        return None;
    }
    if traits.windows_names {
        trim_end(&mut name);
        replace_reserved(&mut name);
    }
    if name.len() > limit(traits) {
        let mut short = shorten(&name, limit(traits) - COUNTER_ROOM);
        if traits.windows_names {
            short.truncate(windows_end(&short));
        }
        name = Cow::Owned(short);
    }
    (!matches!(&*name, "" | "." | "..")).then_some(name)
}

fn is_bad(c: char, windows: bool) -> bool {
    c == '/' || c.is_control() || (windows && r#"<>:"\|?*"#.contains(c))
}

/// Where a name ends for Windows, which drops dots and spaces there.
fn windows_end(name: &str) -> usize {
    name.trim_end_matches(['.', ' ']).len()
}

fn trim_end(name: &mut Cow<'_, str>) {
    let end = windows_end(name);
    match name {
        Cow::Borrowed(text) => *text = &text[..end],
        Cow::Owned(text) => text.truncate(end),
    }
}

/// Windows takes `CON`, and `con.txt` too, for a device: what is before the first dot gives way to
/// `unnamed`.
fn replace_reserved(name: &mut Cow<'_, str>) {
    let stem_end = name.find('.').unwrap_or(name.len());
    if is_reserved(name[..stem_end].trim_end()) {
        *name = Cow::Owned(format!("{UNNAMED}{}", &name[stem_end..]));
    }
}

/// "Naming Files, Paths, and Namespaces" in Microsoft's Win32 documentation.
fn is_reserved(stem: &str) -> bool {
    const WHOLE: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
    let is_port = |stem: &str| {
        let mut chars = stem.chars();
        let digit = chars.next_back();
        let port = chars.as_str();
        (port.eq_ignore_ascii_case("COM") || port.eq_ignore_ascii_case("LPT"))
            && digit.is_some_and(|digit| "123456789¹²³".contains(digit))
    };
    WHOLE.iter().any(|word| word.eq_ignore_ascii_case(stem)) || is_port(stem)
}

/// What is before the last extension, and the extension with its dot. A leading dot begins no
/// extension.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_MAX => name.split_at(dot),
        _ => (name, ""),
    }
}

/// At most `most` bytes of a name, cut before the extension, between characters.
fn shorten(name: &str, most: usize) -> String {
    let (stem, extension) = split(name);
    let stem = cut(stem, most.saturating_sub(extension.len()));
    format!("{stem}{extension}")
}

/// At most `most` bytes of a text, cut between characters.
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `name (1).ext` for 1: a name's variant that is tried when the name is taken. Short enough for
/// `.part`.
pub fn numbered(name: &str, number: u32, traits: Traits) -> String {
    let (stem, extension) = split(name);
    let counter = format!(" ({number})");
    let room = limit(traits) - counter.len() - extension.len();
    format!("{}{counter}{extension}", cut(stem, room))
}

/// `NAME.part` for 0, `NAME (1).part` for 1: the name until a file is whole. Always fits.
pub fn part_name(name: &str, number: u32, traits: Traits) -> String {
    if number == 0 {
        return [name, PART].concat();
    }
    let counter = format!(" ({number})");
    let stem = cut(name, limit(traits) - counter.len());
    format!("{stem}{counter}{PART}")
}

/// `NAME.TAG.part`: the name until a file is whole to which other nodes write as well; `what` is
/// what makes it another file than those of the same name. Leaves room for the longer names of what
/// lies beside it.
pub fn shared_part_name(name: &str, what: &str, traits: Traits) -> String {
    let tag = digest(Algorithm::Sha256, what.as_bytes()).hex();
    let stem = cut(name, limit(traits) - TAG - 1 - BESIDE);
    format!("{stem}.{}{PART}", cut(&tag, TAG))
}

/// The characters by which two names are compared where case plays no part: each mapped to upper,
/// then to lower case, so that `ς`, `σ` and `Σ` are one. Coarser than most file systems, which
/// costs a needless ` (1)` at the worst.
pub fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().flat_map(|c| {
        let mut upper = c.to_uppercase();
        let single = upper.next().filter(|_| upper.next().is_none());
        single.unwrap_or(c).to_lowercase()
    })
}

#[cfg(test)]
mod tests;
