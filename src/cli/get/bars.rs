//! A bar for each file on its way and one for all of them, drawn anew in place.
//!
//! Written by hand: what is needed is one block of lines at the bottom of the terminal, which a
//! dozen lines of escape sequences do; indicatif 0.18 would bring five crates and 92 KB to a static
//! binary of 3.4 MB that has to stay small. Nothing is switched on that would have to be switched
//! off again (no hidden cursor, no wrap mode), so that a kill leaves a sound terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::notes::Holding;
use super::report::{End, Lines, Report, name, waiting};
use crate::cli::human;
use crate::model::download::{Download, Summary};
use crate::model::state::State;
use crate::model::table::{FileState, FileTable};

/// Bars of files, at the most; a higher terminal does not make more of them readable.
const MAX_BARS: usize = 16;
/// Files are begun in their order: after so many untouched ones there is none on its way.
const UNTOUCHED: u32 = 4096;

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub color: bool,
    /// Block characters rather than ASCII.
    pub blocks: bool,
}

/// The size of the terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub columns: usize,
    pub rows: usize,
}

/// A line, and the columns that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    text: String,
    columns: usize,
}

/// The bars of one download on a terminal.
pub struct Bars {
    style: Style,
    lines: Lines,
    /// What is on the terminal now, below everything else.
    shown: Vec<Line>,
    size: Size,
    notes: Option<Holding>,
    out: io::Stdout,
}

impl Bars {
    /// None if stdout is no terminal that can move its cursor. `resumed` as for [`Lines::new`].
    pub fn on_terminal(resumed: bool, env: &dyn Fn(&str) -> Option<String>) -> Option<Bars> {
        let out = io::stdout();
        let style = style(env)?;
        if !out.is_terminal() {
            return None;
        }
        Some(Bars {
            style,
            lines: Lines::new(resumed),
            shown: Vec::new(),
            size: size(&out),
            notes: io::stderr().is_terminal().then(Holding::begin),
            out,
        })
    }

    /// Replaces the block by `lines`, with `above` over it for good.
    fn draw(&mut self, above: Option<&str>, lines: Vec<Line>) -> io::Result<()> {
        let size = size(&self.out);
        let notes = self.notes.as_ref().map(Holding::take).unwrap_or_default();
        if above.is_none() && notes.is_empty() && size == self.size && lines == self.shown {
            return Ok(());
        }
        let mut frame = up(&self.shown, size.columns);
        if !notes.is_empty() {
            frame.push_str("\x1b[J");
            self.write(&frame)?;
            io::stderr().write_all(&notes)?;
            frame.clear();
        }
        for text in above
            .into_iter()
            .chain(lines.iter().map(|line| line.text.as_str()))
        {
            // The rest of the line that stood there goes.
            frame.push_str(text);
            frame.push_str("\x1b[K\n");
        }
        frame.push_str("\x1b[J");
        self.write(&frame)?;
        self.shown = lines;
        self.size = size;
        Ok(())
    }

    fn write(&mut self, frame: &str) -> io::Result<()> {
        self.out.write_all(frame.as_bytes())?;
        self.out.flush()
    }
}

impl Report for Bars {
    fn pace(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn look(&mut self, download: &Download) -> io::Result<()> {
        let summary = download.summary();
        let head = self.lines.head(&summary);
        let frame = frame(download, &summary, size(&self.out), self.style);
        self.draw(head.as_deref(), frame)
    }

    fn end(
        &mut self,
        download: Option<&Download>,
        files: Option<&FileTable>,
        end: &End,
    ) -> io::Result<()> {
        self.draw(None, Vec::new())?;
        self.notes = None;
        self.lines.end(download, files, end)
    }
}

/// Colour unless NO_COLOR is set (no-color.org); block characters where the locale is UTF-8. None
/// for a terminal that calls itself dumb.
fn style(env: &dyn Fn(&str) -> Option<String>) -> Option<Style> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    if set("TERM").is_none_or(|term| term == "dumb") {
        return None;
    }
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    Some(Style {
        color: set("NO_COLOR").is_none(),
        blocks: locale.contains("utf-8") || locale.contains("utf8"),
    })
}

/// Asked for each frame, so that a resize needs no signal.
fn size(out: &io::Stdout) -> Size {
    let or = |value: u16, default: usize| match value {
        0 => default,
        _ => usize::from(value),
    };
    let found = rustix::termios::tcgetwinsize(out);
    Size {
        columns: or(found.as_ref().map_or(0, |size| size.ws_col), 80),
        rows: or(found.as_ref().map_or(0, |size| size.ws_row), 24),
    }
}

/// Moves to where the block begins. A terminal that has become narrower has wrapped its lines.
fn up(shown: &[Line], columns: usize) -> String {
    let rows: usize = shown
        .iter()
        .map(|line| line.columns.max(1).div_ceil(columns.max(1)))
        .sum();
    match rows {
        0 => "\r".into(),
        _ => format!("\r\x1b[{rows}A"),
    }
}

/// The whole block: at least one row less than the terminal has, for the cursor.
fn frame(download: &Download, summary: &Summary<'_>, size: Size, style: Style) -> Vec<Line> {
    let columns = size.columns.saturating_sub(1);
    let mut lines = Vec::new();
    if let Some(table) = download.table() {
        let most = size.rows.saturating_sub(4).min(MAX_BARS);
        let (files, more) = active(&table, most);
        for file in files {
            let path = human::clean(&table.path(file));
            lines.push(bar(
                &path,
                table.done(file),
                table.size(file),
                columns,
                style,
            ));
        }
        if more > 0 {
            lines.push(text(&format!("and {more} more"), columns));
        }
        let total = summary.bytes_total.unwrap_or(0);
        lines.push(bar(
            &name(summary),
            summary.bytes_done,
            total,
            columns,
            style,
        ));
    }
    let problem = summary.error.as_ref();
    let below = match (problem, summary.files_total) {
        (Some(problem), _) if summary.state == State::Transferring => waiting(problem),
        (_, Some(files)) => human::pace(summary, files),
        (_, None) => "reading the list of files".into(),
    };
    lines.push(text(&below, columns));
    lines
}

/// Files on their way, `most` of them, and how many there are besides.
fn active(table: &FileTable, most: usize) -> (Vec<u32>, usize) {
    let (mut found, mut more, mut untouched) = (Vec::new(), 0, 0);
    for file in 0..table.len() {
        match table.state(file) {
            FileState::Transferring if found.len() < most => found.push(file),
            FileState::Transferring => more += 1,
            FileState::Pending if table.done(file) == 0 => untouched += 1,
            _ => untouched = 0,
        }
        if untouched > UNTOUCHED {
            break;
        }
    }
    (found, more)
}

fn text(text: &str, columns: usize) -> Line {
    let mut text: String = text.to_owned();
    while human::columns(&text) > columns {
        text.pop();
    }
    Line {
        columns: human::columns(&text),
        text,
    }
}

/// `name  ████░░░░  45 %  12.3 MB of 27.0 MB`; without the bar where it would be too short to be
/// read.
fn bar(name: &str, done: u64, total: u64, columns: usize, style: Style) -> Line {
    let name_columns = (columns * 3 / 10).clamp(1, 40);
    let name = human::fit(name, name_columns);
    let padding = " ".repeat(name_columns.saturating_sub(human::columns(&name)));
    let numbers = format!(
        "{:>3} %  {:>10} of {:<10}",
        human::percent(done, total),
        human::size(done),
        human::size(total)
    );
    let left = columns.saturating_sub(name_columns + human::columns(&numbers) + 4);
    if left < 8 {
        return text(&format!("{name}{padding}  {}", numbers.trim_end()), columns);
    }
    let filled = usize::try_from(u128::from(done) * left as u128 / u128::from(total.max(1)))
        .map_or(left, |filled| filled.min(left));
    let (full, empty) = if style.blocks {
        ("█", "░")
    } else {
        ("#", ".")
    };
    let (on, off) = if style.color {
        ("\x1b[32m", "\x1b[0m")
    } else {
        ("", "")
    };
    let numbers = numbers.trim_end();
    Line {
        text: format!(
            "{name}{padding}  {on}{}{}{off}  {numbers}",
            full.repeat(filled),
            empty.repeat(left - filled)
        ),
        columns: name_columns + 2 + left + 2 + human::columns(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style {
        color: false,
        blocks: false,
    };

    #[test]
    fn a_bar_fits_whatever_the_width() {
        for columns in 1..200 {
            for name in [
                "a",
                "folder/a rather long name of a file.mov",
                "日本語日本語日本語",
            ] {
                let line = bar(name, 1 << 29, 1 << 30, columns, PLAIN);
                assert!(line.columns <= columns, "{columns}: {line:?}");
                assert_eq!(line.columns, human::columns(&line.text));
            }
        }
        let line = bar("clip.mov", 1 << 29, 1 << 30, 79, PLAIN);
        let expected =
            "clip.mov                 ##########...........   50 %    536.9 MB of 1.1 GB";
        assert_eq!(line.text, expected);
    }

    #[test]
    fn color_takes_no_columns_and_is_switched_off_again() {
        let style = Style {
            color: true,
            blocks: true,
        };
        let plain = bar("a", 1, 2, 100, PLAIN);
        let colored = bar("a", 1, 2, 100, style);
        assert_eq!(plain.columns, colored.columns);
        assert!(colored.text.contains("\x1b[32m█") && colored.text.contains("░\x1b[0m"));
    }

    #[test]
    fn a_narrower_terminal_has_wrapped_what_was_there() {
        let line = |columns| Line {
            text: String::new(),
            columns,
        };
        assert_eq!(up(&[], 80), "\r");
        assert_eq!(up(&[line(79), line(0)], 80), "\r\x1b[2A");
        assert_eq!(up(&[line(79), line(40)], 40), "\r\x1b[3A");
    }

    #[test]
    fn the_environment_decides_on_style() {
        let with = |vars: &[(&str, &str)]| {
            style(&|name| {
                let found = vars.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("TERM", "dumb")]), None);
        let vars = [("TERM", "xterm"), ("LANG", "de_DE.UTF-8"), ("NO_COLOR", "")];
        let (color, blocks) = (true, true);
        assert_eq!(with(&vars), Some(Style { color, blocks }));
        let vars = [
            ("TERM", "xterm"),
            ("LC_ALL", "C"),
            ("LANG", "C.UTF-8"),
            ("NO_COLOR", "1"),
        ];
        assert_eq!(with(&vars), Some(PLAIN));
    }
}
