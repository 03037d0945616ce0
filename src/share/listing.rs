//! The listing of a package, written as it goes: it can have a million entries.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use time::OffsetDateTime;

use super::catalog::{Catalog, Shown};
use crate::base::base64;

/// A chunk has about this many bytes.
const CHUNK: usize = 64 * 1024;

/// One entry, in the words of the upstream protocol.
#[derive(Serialize)]
struct Item<'a> {
    id: &'a str,
    kind: &'a str,
    /// Displayable; what is no UTF-8 in it is shown as U+FFFD.
    name: Cow<'a, str>,
    /// The name itself in base64, where it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_bytes: Option<String>,
    path: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    size: u64,
    last_modified: String,
    virus_detected: bool,
}

/// Sends the whole listing: in chunks (RFC 9112, section 7.1), or up to the end of the connection.
///
/// # Errors
/// What the connection says.
pub fn send(catalog: &Catalog, out: &mut impl Write, chunked: bool) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK + 8 * 1024);
    buffer.push(b'[');
    for (index, entry) in catalog.iter().enumerate() {
        if index > 0 {
            buffer.extend_from_slice(b",\n");
        }
        serde_json::to_writer(&mut buffer, &item(&entry))?;
        if buffer.len() >= CHUNK {
            flush(&mut buffer, out, chunked)?;
        }
    }
    buffer.extend_from_slice(b"]\n");
    flush(&mut buffer, out, chunked)?;
    match chunked {
        true => out.write_all(b"0\r\n\r\n"),
        false => Ok(()),
    }
}

fn flush(buffer: &mut Vec<u8>, out: &mut impl Write, chunked: bool) -> io::Result<()> {
    if chunked {
        out.write_all(format!("{:x}\r\n", buffer.len()).as_bytes())?;
        buffer.extend_from_slice(b"\r\n");
    }
    out.write_all(buffer)?;
    buffer.clear();
    Ok(())
}

fn item<'a>(entry: &'a Shown<'_>) -> Item<'a> {
    Item {
        id: &entry.id,
        kind: match entry.is_folder {
            true => "directory",
            false => "file",
        },
        name: String::from_utf8_lossy(entry.name),
        name_bytes: bytes(entry.name),
        path: String::from_utf8_lossy(entry.path),
        path_bytes: bytes(entry.path),
        size: entry.size,
        last_modified: rfc3339(entry.modified),
        virus_detected: false,
    }
}

/// Names that are no UTF-8 cannot be told in JSON as they are.
fn bytes(name: &[u8]) -> Option<String> {
    str::from_utf8(name).is_err().then(|| base64::encode(name))
}

/// Milliseconds since 1970 as RFC 3339 with three digits of a second; what a four-digit year
/// cannot tell becomes the protocol's "unknown".
pub fn rfc3339(milliseconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000)
        .ok()
        .filter(|time| (1..=9999).contains(&time.year()));
    let Some(time) = time else {
        return "0001-01-01T00:00:00.000Z".into();
    };
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second, milli) = time.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_of_a_second() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_795_428_000_250), "2026-11-23T10:00:00.250Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(rfc3339(i64::MAX), "0001-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(i64::MIN), "0001-01-01T00:00:00.000Z");
    }
}
