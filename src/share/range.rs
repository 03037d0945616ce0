//! The part of a file that a request asks for (RFC 9110, section 14).

use std::time::{Duration, SystemTime};

/// What to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// 200.
    Whole,
    /// 206; `len` is at least 1.
    Range { start: u64, len: u64 },
    /// 416.
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `size` bytes.
///
/// What is not one range of bytes is ignored, as the RFC allows: several ranges, other units,
/// nonsense.
pub fn parse(header: &str, size: u64) -> Part {
    let Some((first, last)) = header
        .trim()
        .split_once('=')
        .filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"))
        .and_then(|(_, range)| range.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    match (position(first), position(last)) {
        (Some(Some(start)), Some(last)) => {
            if last.is_some_and(|last| last < start) {
                return Part::Whole;
            }
            if start >= size {
                return Part::Unsatisfiable;
            }
            let last = last.unwrap_or(u64::MAX).min(size - 1);
            let len = last - start + 1;
            Part::Range { start, len }
        }
        (Some(None), Some(Some(0))) => Part::Unsatisfiable,
        (Some(None), Some(Some(_))) if size == 0 => Part::Unsatisfiable,
        (Some(None), Some(Some(tail))) => {
            let len = tail.min(size);
            Part::Range {
                start: size - len,
                len,
            }
        }
        _ => Part::Whole,
    }
}

/// `Some(None)` where there is nothing, None if there is no number. A number beyond 2^64 is
/// beyond every file, so it may as well be the largest.
fn position(text: &str) -> Option<Option<u64>> {
    let text = text.trim();
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX)))
}

/// Whether the `If-Range` header means the file as it is: the same strong tag, or its very date
/// (RFC 9110, section 13.1.5).
pub fn if_range_holds(header: &str, etag: &str, modified: SystemTime) -> bool {
    let header = header.trim();
    if header.starts_with('"') {
        return header == etag;
    }
    let seconds = |time: SystemTime| {
        time.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    };
    // A date is a strong validator only where the file has not changed within the last second or
    // so.
    let settled = modified
        .elapsed()
        .is_ok_and(|age| age > Duration::from_secs(2));
    settled
        && httpdate::parse_http_date(header).is_ok_and(|date| seconds(date) == seconds(modified))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes() {
        let range = |start, len| Part::Range { start, len };
        for (header, part) in [
            ("bytes=0-0", range(0, 1)),
            ("bytes=2-5", range(2, 4)),
            ("bytes=2-", range(2, 8)),
            ("bytes=9-99", range(9, 1)),
            ("bytes=-3", range(7, 3)),
            ("bytes=-30", range(0, 10)),
            ("Bytes = 1-2", range(1, 2)),
            ("bytes=0-99999999999999999999", range(0, 10)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=99999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
        ] {
            assert_eq!(parse(header, 10), part, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Part::Unsatisfiable);
    }

    #[test]
    fn anything_else_means_the_whole_file() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=a-b",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "lines=1-2",
            "bytes=1--2",
            "bytes=0x1-",
        ] {
            assert_eq!(parse(header, 10), Part::Whole, "{header}");
        }
    }

    #[test]
    fn if_range_wants_the_same_tag_or_date() {
        let date = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_000_500);
        let text = httpdate::fmt_http_date(date);
        assert!(if_range_holds("\"a\"", "\"a\"", date));
        assert!(!if_range_holds("\"b\"", "\"a\"", date));
        assert!(!if_range_holds("W/\"a\"", "\"a\"", date));
        assert!(if_range_holds(&text, "\"a\"", date));
        assert!(!if_range_holds(
            &text,
            "\"a\"",
            date + Duration::from_secs(1)
        ));
        assert!(!if_range_holds("today", "\"a\"", date));
        let now = SystemTime::now();
        assert!(!if_range_holds(&httpdate::fmt_http_date(now), "\"a\"", now));
    }
}
