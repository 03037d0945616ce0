//! The listing: an array of up to millions of elements, read one by one from the wire and never
//! held as a whole.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::fault::Fault;
use super::json::{self, Text};
use super::web_page;
use crate::base::clock::Timestamp;
use crate::model::listing::Listed;

/// Longer elements are refused, in bytes of JSON; looked at once a chunk.
const MAX_ELEMENT: u64 = 256 * 1024;

/// Longer lists are refused, in bytes: 2 KiB for each of as many files as a package may have.
/// Without an end to it a list of nothing but archives, which are passed over, could go on for
/// ever.
const MAX_LIST: u64 = 8 << 30;

/// An element's id, path and name together are at most this long, in bytes.
const MAX_STRINGS: usize = 64 * 1024;

/// Bytes taken from the connection at a time.
const CHUNK: usize = 64 * 1024;

/// Hands each element of the array in `body` to `each`, in order, until one is refused.
///
/// # Errors
/// `lost` says what a failed read stands for; `host` is who sent the body. Malformed if the body
/// is no such array, or with `each`'s own text.
pub fn read(
    body: impl Read,
    host: &str,
    lost: impl Fn(io::Error) -> Fault,
    each: &mut dyn FnMut(Listed) -> Result<(), String>,
) -> Result<(), Fault> {
    let meter = Meter::default();
    let source = Source {
        body,
        chunk: vec![0; CHUNK],
        end: 0,
        lost,
        host,
        meter: &meter,
    };
    let mut json = serde_json::Deserializer::from_reader(source);
    let result = json
        .deserialize_seq(Elements {
            each,
            meter: &meter,
        })
        .and_then(|()| json.end());
    // What the source or an element had to say is more than serde can.
    match (meter.fault.take(), result) {
        (Some(fault), _) => Err(fault),
        (None, Err(error)) => Err(json::fault(&error, "the list of files")),
        (None, Ok(())) => Ok(()),
    }
}

/// What the source and the elements tell one another past serde.
#[derive(Default)]
struct Meter {
    /// Bytes of the list before the chunk.
    before: Cell<u64>,
    /// Bytes of the chunk that were taken.
    at: Cell<usize>,
    /// Where in the list the last whole element ended.
    ended: Cell<u64>,
    fault: RefCell<Option<Fault>>,
}

impl Meter {
    fn refuse(&self, why: impl Into<String>) {
        *self.fault.borrow_mut() = Some(Fault::Malformed(why.into()));
    }

    fn taken(&self) -> u64 {
        self.before.get() + self.at.get() as u64
    }

    fn end_element(&self) {
        self.ended.set(self.taken());
    }

    /// What is too long of the list so far.
    fn too_long(&self) -> Option<&'static str> {
        let taken = self.taken();
        if taken > MAX_LIST {
            return Some("the list of files is longer than 8 GiB");
        }
        (taken - self.ended.get() > MAX_ELEMENT)
            .then_some("the list of files has an element of more than 256 KiB")
    }
}

/// The body, buffered, with an end to the length of an element: serde would collect a string of any
/// size.
struct Source<'a, R, L> {
    body: R,
    chunk: Vec<u8>,
    end: usize,
    lost: L,
    host: &'a str,
    meter: &'a Meter,
}

impl<R: Read, L: Fn(io::Error) -> Fault> Source<'_, R, L> {
    #[cold]
    fn refill(&mut self) -> io::Result<()> {
        // After an error serde_json looks for the ends of what is open, and would wait for a silent
        // server each time.
        if self.meter.fault.borrow().is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        if let Some(why) = self.meter.too_long() {
            self.meter.refuse(why);
            return Err(io::ErrorKind::Other.into());
        }
        self.meter.before.set(self.meter.taken());
        self.meter.at.set(0);
        self.end = 0;
        self.end = self.body.read(&mut self.chunk).map_err(|error| {
            *self.meter.fault.borrow_mut() = Some((self.lost)(error));
            io::Error::from(io::ErrorKind::Other)
        })?;
        if self.meter.before.get() == 0 && web_page::begins(&self.chunk[..self.end]) {
            *self.meter.fault.borrow_mut() = Some(web_page::fault(self.host));
            return Err(io::ErrorKind::Other.into());
        }
        Ok(())
    }
}

impl<R: Read, L: Fn(io::Error) -> Fault> Read for Source<'_, R, L> {
    // serde_json takes single bytes, and so is given them: a copy of one byte costs more than the
    // byte.
    #[inline]
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.meter.at.get() == self.end {
            self.refill()?;
            if self.end == 0 {
                return Ok(0);
            }
        }
        let at = self.meter.at.get();
        let Some(first) = buf.first_mut() else {
            return Ok(0);
        };
        *first = self.chunk[at];
        self.meter.at.set(at + 1);
        Ok(1)
    }
}

struct Elements<'a> {
    each: &'a mut dyn FnMut(Listed) -> Result<(), String>,
    meter: &'a Meter,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element_seed(Element)? {
            self.meter.end_element();
            element.listed().and_then(&mut *self.each).map_err(|why| {
                self.meter.refuse(why);
                A::Error::custom("refused")
            })?;
        }
        Ok(())
    }
}

/// One element as it was sent. Absent, null, and what is of no use are all None.
#[derive(Default)]
struct Raw {
    id: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    path: Option<String>,
    size: Option<Size>,
    mtime: Option<i64>,
    virus: bool,
    incomplete: bool,
}

impl Raw {
    fn listed(self) -> Result<Listed, String> {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        if length(&self.id) + length(&self.path) + length(&self.name) > MAX_STRINGS {
            return Err("the list of files has a name of more than 64 KiB".to_owned());
        }
        let kind = self
            .kind
            .ok_or("the list of files has an element without a kind")?;
        let is_file = kind == "file";
        // Archives and directories are not downloaded: what is wrong with them harms nobody.
        let or_default = |text: Option<String>, what: &str| match text {
            Some(text) => Ok(text),
            None if is_file => Err(format!("the list of files has a file without {what}")),
            None => Ok(String::new()),
        };
        let size = match self.size {
            Some(Size::Bytes(size)) => size,
            Some(Size::Impossible) if is_file => {
                return Err("the list of files has a file whose size is impossible".to_owned());
            }
            None if is_file => {
                return Err("the list of files has a file without a size".to_owned());
            }
            _ => 0,
        };
        Ok(Listed {
            id: or_default(self.id.filter(|id| !id.is_empty()), "an id")?,
            name: or_default(self.name, "a name")?,
            path: self.path,
            kind,
            size,
            mtime: self.mtime,
            virus: self.virus,
            incomplete: self.incomplete,
        })
    }
}

/// Written by hand: a derived struct would take an array for an object, and refuse a field that
/// comes twice.
struct Element;

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Element {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut raw = Raw::default();
        let text = |value: Option<Text>| value.map(|Text(text)| text);
        while let Some(field) = map.next_key()? {
            match field {
                Field::Id => raw.id = text(map.next_value()?),
                Field::Kind => raw.kind = text(map.next_value()?),
                Field::Name => raw.name = text(map.next_value()?),
                Field::Path => raw.path = text(map.next_value()?),
                Field::Size => raw.size = map.next_value()?,
                Field::LastModified => raw.mtime = map.next_value_seed(Mtime)?,
                Field::VirusDetected => {
                    raw.virus = map.next_value::<Option<bool>>()?.unwrap_or(false);
                }
                Field::Completed => {
                    raw.incomplete = map.next_value::<Option<bool>>()? == Some(false);
                }
                Field::Other => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(raw)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Id,
    Kind,
    Name,
    Path,
    Size,
    LastModified,
    VirusDetected,
    Completed,
    #[serde(other)]
    Other,
}

/// A whole number of bytes, also where it is written `1.0` or `1e3`, as some languages do.
enum Size {
    Bytes(u64),
    /// Negative, broken, or more than any file can have.
    Impossible,
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes")
            }

            fn visit_u64<E>(self, size: u64) -> Result<Size, E> {
                // No file system goes further.
                Ok(i64::try_from(size).map_or(Size::Impossible, |_| Size::Bytes(size)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Size, E> {
                Ok(Size::Impossible)
            }

            fn visit_f64<E>(self, size: f64) -> Result<Size, E> {
                // Beyond 2^53 a float no longer tells one byte from the next.
                let whole = (0.0..=9_007_199_254_740_992.0).contains(&size) && size.fract() == 0.0;
                Ok(if whole {
                    Size::Bytes(size as u64)
                } else {
                    Size::Impossible
                })
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// A time in nanoseconds; None for whatever is no time, whichever type it has: an mtime is not
/// worth a download.
struct Mtime;

impl<'de> DeserializeSeed<'de> for Mtime {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<i64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Mtime {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<i64>, E> {
        Ok(Timestamp::from_rfc3339(text).map(|time| time.0))
    }

    fn visit_unit<E>(self) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<i64>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Option<i64>, A::Error> {
        IgnoredAny.visit_seq(seq).map(|_| None)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<i64>, A::Error> {
        IgnoredAny.visit_map(map).map(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::test_strategies;

    const LISTINGS: &[&str] = &[
        "[]",
        r#"[{"id":"F1","kind":"file","name":"a.mov","path":"day 1/cam","size":28176354,"last_modified":"2026-11-23T10:00:00.5Z","virus_detected":true}]"#,
        r#"[{"id":"F1","kind":"file","name":"a","size":1,"completed":false},{"id":"F2","kind":"file","name":"b","size":1,"completed":null}]"#,
        r#"[{"id":"D","kind":"directory","path":"empty","name":null,"size":-1},{"id":"F","kind":"file","name":"\u00e9\n","size":1e3,"x":{"y":[null,{}]}}]"#,
        r#"[{"id":"Z","kind":"zip_mac","name":"all.zip"},{"id":"F2","kind":"file","name":"b","path":null,"size":0,"last_modified":"0001-01-01T00:00:00.000Z","virus_detected":false}]"#,
    ];

    proptest! {
        #[test]
        fn hostile_listings_are_read_or_refused(text in test_strategies::near(LISTINGS)) {
            let lost = |error: io::Error| Fault::Malformed(error.to_string());
            let mut all = Vec::new();
            let read = read(&text[..], "h", lost, &mut |listed| {
                all.push(listed);
                Ok(())
            });
            if read.is_ok() {
                let text = text.trim_ascii();
                prop_assert!(text.starts_with(b"[") && text.ends_with(b"]"));
            }
            for listed in all {
                let path = listed.path.as_ref().map_or(0, String::len);
                prop_assert!(listed.id.len() + listed.name.len() + path <= MAX_STRINGS);
            }
        }
    }

    #[test]
    fn a_body_that_has_failed_is_not_read_again() {
        struct Fails(Cell<u32>);
        impl Read for &Fails {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0.set(self.0.get() + 1);
                if self.0.get() > 1 {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let text = br#"[{"id":"F1","x":{"y":[1,"#;
                buf[..text.len()].copy_from_slice(text);
                Ok(text.len())
            }
        }
        let body = Fails(Cell::new(0));
        let read = read(&body, "h", |_| Fault::transient("silent"), &mut |_| Ok(()));
        assert_eq!(read, Err(Fault::transient("silent")));
        assert_eq!(body.0.get(), 2);
    }

    #[test]
    fn a_list_has_an_end_and_an_element_has_one() {
        let meter = Meter::default();
        for element in 0..1000 {
            meter.before.set(element * (MAX_ELEMENT - 1));
            meter.at.set(MAX_ELEMENT as usize - 1);
            assert_eq!(meter.too_long(), None);
            meter.end_element();
        }
        meter.before.set(meter.ended.get());
        meter.at.set(MAX_ELEMENT as usize + 1);
        assert!(meter.too_long().unwrap().contains("element"));
        meter.end_element();
        meter.before.set(MAX_LIST);
        assert!(meter.too_long().unwrap().contains("8 GiB"));
    }
}
