//! Numbers and foreign text as people read them on a terminal.

pub use crate::base::display::clean;

use crate::model::download::Summary;

use crate::base::clock::{self, Timestamp};

/// `512 B`, `1.5 MB`: powers of 1,000, as rates are given.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be shown as 1000.0 of one unit is 1.0 of the next.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `46 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub fn time(seconds: u64) -> String {
    let two = |large, large_unit, small, small_unit| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// ` in 4 s`: how long it is until then; nothing where the time has come.
pub fn retry_in(at: Timestamp) -> String {
    match clock::until(at).as_secs_f64().ceil() as u64 {
        0 => String::new(),
        seconds => format!(" in {}", time(seconds)),
    }
}

/// `1 file`, `12 files`.
pub fn files(count: u64) -> String {
    match count {
        1 => "1 file".into(),
        _ => format!("{count} files"),
    }
}

/// Whole per cent, rounded down so that 100 means all; nothing of nothing is all.
pub fn percent(done: u64, total: u64) -> u64 {
    match total {
        0 => 100,
        _ => u64::try_from(u128::from(done) * 100 / u128::from(total)).unwrap_or(100),
    }
}

/// `45 %, 12.3 MB of 27.0 MB, 3 of 12 files, 1.2 MB/s, 12 s left`.
pub fn progress(summary: &Summary<'_>) -> String {
    let (Some(bytes), Some(files)) = (summary.bytes_total, summary.files_total) else {
        return "reading the list of files".into();
    };
    let done = summary.bytes_done;
    format!(
        "{} %, {} of {}, {}",
        percent(done, bytes),
        size(done),
        size(bytes),
        pace(summary, files)
    )
}

/// `3 of 12 files, 1.2 MB/s, 12 s left`.
pub fn pace(summary: &Summary<'_>, files: u64) -> String {
    let mut text = format!(
        "{} of {}",
        summary.files_complete,
        self::files(files - summary.files_skipped.min(files))
    );
    if summary.bytes_per_second > 0 {
        text += &format!(", {}/s", size(summary.bytes_per_second));
    }
    if let Some(left) = summary.eta_seconds {
        text += &format!(", {} left", time(left));
    }
    text
}

/// Columns that a text takes on a terminal; close enough for scripts that are written from left to
/// right.
pub fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// The text's end, where it does not fit into so many columns: what tells files apart is rather
/// there.
pub fn fit(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let mut left = most.saturating_sub(1);
    let mut begin = text.len();
    for (at, c) in text.char_indices().rev() {
        if width(c) > left {
            break;
        }
        left -= width(c);
        begin = at;
    }
    // An ellipsis takes one column; three dots would take three.
    format!("{}{}", if most > 0 { "…" } else { "" }, &text[begin..])
}

/// After Unicode's East Asian Width (UAX #11), in broad strokes.
fn width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1faff
        | 0x2_0000..=0x3_fffd => 2,
        _ => 1,
    }
}

/// A rate as it is written on the command line: `10M`, with the largest unit that loses nothing.
pub fn exact_rate(bytes_per_second: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let fits = units
        .into_iter()
        .find(|(unit, _)| bytes_per_second > 0 && bytes_per_second.is_multiple_of(*unit));
    match fits {
        Some((unit, letter)) => format!("{}{letter}", bytes_per_second / unit),
        None => bytes_per_second.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_999, "1.0 MB"),
            (28_176_354, "28.2 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size(bytes), shown);
        }
    }

    #[test]
    fn a_retry_is_told_by_the_wait_for_it() {
        let wait = |seconds| retry_in(clock::now().after(std::time::Duration::from_secs(seconds)));
        assert_eq!(wait(4), " in 4 s");
        assert_eq!(wait(0), "");
    }

    #[test]
    fn times_have_two_units_at_the_most() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (200, "3 min 20 s"),
            (7500, "2 h 5 min"),
            (273_600, "3 d 4 h"),
        ] {
            assert_eq!(time(seconds), shown);
        }
    }

    #[test]
    fn all_but_a_byte_is_not_all() {
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
        assert_eq!(percent(0, 0), 100);
        assert_eq!(percent(1, 3), 33);
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2J\nb\u{202e}c\u{9b}d"), "a?[2J?b?c?d");
        assert_eq!(clean("Dailies „14“ 日本"), "Dailies „14“ 日本");
    }

    #[test]
    fn a_long_name_keeps_its_end_and_a_wide_one_counts_twice() {
        assert_eq!(columns("日本e\u{301}"), 5);
        assert_eq!(fit("clip.mov", 8), "clip.mov");
        assert_eq!(fit("long/clip.mov", 9), "…clip.mov");
        assert_eq!(columns(&fit("日本語日本語", 6)), 5);
        assert_eq!(fit("abc", 0), "");
    }
}
