//! Whether a package fits: found out when its listing is known, before a byte is fetched.

use std::sync::atomic::{AtomicU64, Ordering};

use super::run::Run;
use crate::base::in_parallel::{self, Work};
use crate::dest::Root;
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::problem::{Code, Problem};
use crate::model::state::State;
use crate::model::table::{FileState, FileTable};

/// Refuses a download that needs more than is free. What it has already, and what is set aside for
/// it, is not needed again; what other transferring downloads of this agent still need on the same
/// file system is not free.
///
/// # Errors
/// `InsufficientStorage`, with both figures.
pub fn check(run: &Run, root: &Root, table: &FileTable, board: &Board) -> Result<(), Problem> {
    // Some file systems do not say: they are given the benefit of the doubt.
    let Some(free) = root.bytes_free() else {
        return Ok(());
    };
    let own = needed(run, root, table);
    let others = needed_by_others(&run.download, board);
    if own == 0 || own.saturating_add(others) <= free {
        return Ok(());
    }
    let also = match others {
        0 => String::new(),
        others => format!(", of which other downloads need {}", figure(others)),
    };
    Err(Problem {
        code: Code::InsufficientStorage,
        message: format!(
            "the download needs {} more, and {} has {} free{also}: make room or choose another \
             folder, then resume",
            figure(own),
            root.path().display(),
            figure(free)
        ),
        recoverable: true,
        retry_at: None,
    })
}

fn is_unfinished(table: &FileTable, file: u32) -> bool {
    !matches!(table.state(file), FileState::Complete | FileState::Skipped)
}

/// Bytes that this download still takes from what is free.
fn needed(run: &Run, root: &Root, table: &FileTable) -> u64 {
    let needed = |file: u32| {
        let size = table.own_size(file);
        match run.parts.has(file) {
            // What others have written to it takes nothing from this node's share.
            true if table.slice(file).is_some() => size.saturating_sub(table.done(file)),
            true => {
                let _call = run.disk.enter();
                size.saturating_sub(allocated(root, table, file))
            }
            false => size,
        }
    };
    let is_wanted = |&file: &u32| is_unfinished(table, file);
    // A new download has no file on the disk to be asked about.
    if run.parts.bound() == 0 {
        return (0..table.len()).filter(is_wanted).map(needed).sum();
    }
    let all = AtomicU64::new(0);
    in_parallel::each(table.len(), Work::Short, &|file| {
        if is_wanted(&file) {
            all.fetch_add(needed(file), Ordering::Relaxed);
        }
    });
    all.into_inner()
}

/// Bytes that a file's `.part` takes on the disk.
fn allocated(root: &Root, table: &FileTable, file: u32) -> u64 {
    let folder = root.folder(&table.dir_components(table.dir_of(file)), false);
    folder.map_or(0, |folder| folder.allocated(&table.names(file).part))
}

/// Bytes that others will take on the same file system. What has begun is set aside already.
fn needed_by_others(download: &Download, board: &Board) -> u64 {
    let here = download.order.location();
    let all = board.all();
    let others = all.iter().filter(|other| {
        other.id != download.id
            && other.state() == State::Transferring
            && other.order.location().shares_disk(&here)
    });
    let needs = others.filter_map(|other| {
        let table = other.table()?;
        let waits = |file: &u32| is_unfinished(&table, *file) && table.done(*file) == 0;
        Some(
            (0..table.len())
                .filter(waits)
                .map(|file| table.size(file))
                .sum::<u64>(),
        )
    });
    needs.sum()
}

/// A number of bytes, decimal, as the page writes them.
fn figure(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} bytes");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if value < 9.95 { 1 } else { 0 };
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1500, "1.5 kB"),
            (331_000_000, "331 MB"),
            (999_999_999, "1.0 GB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(figure(bytes), text);
        }
    }
}
