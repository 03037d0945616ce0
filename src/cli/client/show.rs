//! Downloads as the API answers them, and as a terminal shows them.

use serde::Deserialize;

use crate::base::clock::Timestamp;
use crate::cli::human;
use crate::model::verification::{Progress, Verification};

/// Characters of an identifier that are shown: its end is random, its beginning only tells the
/// time.
const SHORT: usize = 8;

/// A download's summary, as far as it is shown. Read more loosely than `board::Summary` is written,
/// since the agent may be of another version: it may know other states and errors.
#[derive(Debug, Deserialize)]
pub struct Summary {
    pub download_id: String,
    pub state: String,
    pub name: Option<String>,
    pub link: String,
    pub dst_folder: String,
    pub created_at: String,
    pub completed_at: Option<String>,
    pub bytes_total: Option<u64>,
    pub bytes_done: u64,
    pub bytes_per_second: u64,
    pub eta_seconds: Option<u64>,
    pub files_total: Option<u64>,
    pub files_complete: u64,
    pub files_skipped: u64,
    pub files_failed: u64,
    pub error: Option<Problem>,
    pub verification: Option<Verification>,
    /// Only where one download was asked for.
    #[serde(default)]
    pub files: Vec<File>,
}

#[derive(Debug, Deserialize)]
pub struct Problem {
    pub message: String,
    pub retry_at: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct File {
    pub path: String,
    pub size: u64,
    pub bytes_done: u64,
    pub state: String,
    pub error: Option<FileProblem>,
}

#[derive(Debug, Deserialize)]
pub struct FileProblem {
    pub message: String,
}

impl Summary {
    /// What it is called: its link until its name is known.
    pub fn title(&self) -> String {
        human::clean(self.name.as_deref().unwrap_or(&self.link))
    }

    fn percent(&self) -> Option<u64> {
        let total = self.bytes_total?;
        Some(match self.state.as_str() {
            "complete" => 100,
            _ => human::percent(self.bytes_done, total),
        })
    }

    /// What went wrong, or why nothing moves.
    pub fn trouble(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        let at = error.retry_at.as_deref().and_then(Timestamp::from_rfc3339);
        let at = at.map(human::retry_in).unwrap_or_default();
        Some(human::clean(&format!("{}{at}", error.message)))
    }
}

/// The table of `haul ls`.
pub fn table(list: &[Summary]) -> String {
    let ids: Vec<&str> = list.iter().map(|one| one.download_id.as_str()).collect();
    let mut rows = vec![["ID", "STATE", "DONE", "SIZE", "RATE", "LEFT", "NAME"].map(String::from)];
    rows.extend(list.iter().map(|one| row(one, &ids)));
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = human::columns(cell).max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - human::columns(cell));
            // Numbers stand to the right.
            if (2..=5).contains(&at) {
                line += &format!("{padding}{cell}  ");
            } else {
                line += &format!("{cell}{padding}  ");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(one: &Summary, ids: &[&str]) -> [String; 7] {
    let mut name = one.title();
    if let Some(trouble) = one.trouble() {
        name += &format!(" ({trouble})");
    }
    let known = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let moving = one.bytes_per_second > 0;
    [
        short(&one.download_id, ids),
        human::clean(&one.state),
        known(one.percent().map(|percent| format!("{percent} %"))),
        known(one.bytes_total.map(human::size)),
        known(moving.then(|| format!("{}/s", human::size(one.bytes_per_second)))),
        known(one.eta_seconds.map(human::time)),
        name,
    ]
}

/// The shortest end of an identifier, from 8 characters on, that no other one has.
fn short(id: &str, all: &[&str]) -> String {
    let ends = |length: usize| {
        let end = id.get(id.len().saturating_sub(length)..)?;
        let same = all.iter().filter(|other| other.ends_with(end)).count();
        (same <= 1).then(|| end.to_owned())
    };
    let found = (SHORT..id.len()).find_map(ends);
    human::clean(&found.unwrap_or_else(|| id.to_owned()))
}

/// A package as the API answers it, as far as it is shown.
#[derive(Debug, Deserialize)]
pub struct Package {
    name: Option<String>,
    bytes_total: u64,
    files_total: u64,
    files: Vec<PackageEntry>,
}

#[derive(Debug, Deserialize)]
struct PackageEntry {
    path: String,
    size: u64,
    kind: String,
    virus_detected: bool,
}

/// What `haul inspect` prints: a line for each file, then their sum.
pub fn package(package: &Package) -> String {
    let mut text = String::new();
    for entry in &package.files {
        let path = human::clean(&entry.path);
        text += &match entry.kind.as_str() {
            "directory" => format!("{:>10}  {path}/", "-"),
            _ => format!("{:>10}  {path}", human::size(entry.size)),
        };
        text += match entry.virus_detected {
            true => "  (a virus was found in it)\n",
            false => "\n",
        };
    }
    let name = package.name.as_deref().map(human::clean);
    text + &format!(
        "{}: {}, {}\n",
        name.as_deref().unwrap_or("a package without a name"),
        human::files(package.files_total),
        human::size(package.bytes_total),
    )
}

/// How far reading the files back is, or what it has found.
fn verified(found: &Verification) -> String {
    let percent = human::percent(found.bytes_done, found.bytes_total);
    match found.state {
        Progress::Running => format!("{percent} % so far"),
        Progress::Paused => format!("{percent} %, then paused"),
        Progress::Done if found.bad() == 0 => "all files are as saved".into(),
        Progress::Done => format!(
            "{} of {} not as saved",
            found.bad(),
            human::files(found.files_done)
        ),
    }
}

/// What `haul show` prints.
pub fn details(one: &Summary) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        text.push_str(&format!("{name:<9} {value}\n"));
    };
    line("ID", human::clean(&one.download_id));
    line("Name", one.title());
    line("State", human::clean(&one.state));
    if let Some(trouble) = one.trouble() {
        line("Why", trouble);
    }
    line("Link", human::clean(&one.link));
    line("Folder", human::clean(&one.dst_folder));
    line("Added", human::clean(&one.created_at));
    if let Some(at) = &one.completed_at {
        line("Complete", human::clean(at));
    }
    if let (Some(percent), Some(total)) = (one.percent(), one.bytes_total) {
        let done = human::size(one.bytes_done);
        let mut value = format!("{percent} %, {done} of {}", human::size(total));
        if one.bytes_per_second > 0 {
            value += &format!(", {}/s", human::size(one.bytes_per_second));
        }
        if let Some(left) = one.eta_seconds {
            value += &format!(", {} left", human::time(left));
        }
        line("Done", value);
    }
    if let Some(found) = &one.verification {
        line("Verified", verified(found));
    }
    if let Some(total) = one.files_total {
        let mut value = format!("{} of {}", one.files_complete, human::files(total));
        for (count, what) in [(one.files_skipped, "skipped"), (one.files_failed, "failed")] {
            if count > 0 {
                value += &format!(", {count} {what}");
            }
        }
        line("Files", value);
    }
    for file in &one.files {
        let percent = human::percent(file.bytes_done, file.size);
        let (size, path) = (human::size(file.size), human::clean(&file.path));
        text += &format!(
            "  {:<12} {percent:>3} % {size:>10}  {path}",
            human::clean(&file.state)
        );
        if let Some(error) = &file.error {
            text += &format!(" ({})", human::clean(&error.message));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(id: &str, more: serde_json::Value) -> Summary {
        let mut value = serde_json::json!({
            "download_id": id, "state": "transferring", "name": "Dailies 14", "package_id": "P",
            "link": "https://get.massive.app/A", "dst_folder": "/in",
            "created_at": "2026-11-23T10:00:00Z", "completed_at": null,
            "bytes_total": 28_176_354, "bytes_done": 1_048_576, "bytes_per_second": 524_288,
            "eta_seconds": 52, "files_total": 12, "files_complete": 3, "files_skipped": 0,
            "files_failed": 0, "error": null, "of_the_future": 1,
        });
        for (name, field) in more.as_object().unwrap() {
            value[name] = field.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_table_has_a_row_for_each_in_straight_columns() {
        let unread = serde_json::json!({
            "name": null, "bytes_total": null, "bytes_done": 0, "bytes_per_second": 0,
            "eta_seconds": null, "files_total": null,
            "error": {"code": "upstream_unavailable", "message": "no\nnetwork", "retry_at": "T"},
        });
        let list = [
            summary("01JD0000000000000AAAAAAAAA", serde_json::json!({})),
            summary("01JD0000000000000BBBBBBBBB", unread),
        ];
        assert_eq!(
            table(&list),
            "ID        STATE         DONE     SIZE        RATE  LEFT  NAME\n\
             AAAAAAAA  transferring   3 %  28.2 MB  524.3 kB/s  52 s  Dailies 14\n\
             BBBBBBBB  transferring     -        -           -     -  https://get.massive.app/A \
             (no?network)\n"
        );
        assert_eq!(table(&[]).lines().count(), 1);
    }

    #[test]
    fn short_identifiers_are_told_apart() {
        let all = ["01AXBCDEFGH", "01CYBCDEFGH"];
        assert_eq!(short(all[0], &all), "XBCDEFGH");
        let all = ["0112345678", "0212345678"];
        assert_eq!(short(all[0], &all), "112345678");
        assert_eq!(short("short", &["short"]), "short");
    }

    #[test]
    fn details_say_what_is_wrong_with_a_file() {
        let more = serde_json::json!({
            "state": "error", "bytes_total": 1024, "bytes_done": 512, "files_total": 1, "files_complete": 0,
            "files_failed": 1, "error": {"message": "1 file could not be downloaded"},
            "files": [
                {"file_id": "F1", "path": "a\u{1b}[0m.mov", "size": 1024, "bytes_done": 512, "state": "error",
                 "error": {"code": "protocol_error", "message": "gone"}},
            ],
        });
        let text = details(&summary("01JD", more));
        assert!(
            text.contains("Why       1 file could not be downloaded\n"),
            "{text}"
        );
        assert!(text.contains("Files     0 of 1 file, 1 failed\n"), "{text}");
        assert!(
            text.ends_with("  error         50 %     1.0 kB  a?[0m.mov (gone)\n"),
            "{text}"
        );
    }
}
