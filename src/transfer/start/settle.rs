//! After a start of the agent: what the last process, or a power cut, left unfinished in the
//! destination.

use super::{StartError, StartRequest};
use crate::base::clock::Timestamp;
use crate::base::in_parallel::{self, Work};
use crate::dest::{DestError, Folder, Found, KEPT_TIMES, Published, Root};
use crate::model::download::Download;
use crate::model::outcome::Outcome;
use crate::model::request::IfExists;
use crate::model::table::{FileState, FileTable};
use crate::store::saved::Change;
use crate::transfer::{self, Place, WorkerContext};

/// How far apart two times may be that are the same, in nanoseconds (one day): FAT keeps local
/// time, servers have clocks of their own, and clocks are set.
const SAME_DAY: u64 = 24 * 3600 * 1_000_000_000;

/// After a start: files that were whole get their name, if they do not have it yet; files whose
/// bytes may have been lost in a power cut lose it again. Returns the files that could not be given
/// their name.
pub(super) fn settle(
    request: &StartRequest,
    root: &Root,
    table: &FileTable,
    context: &WorkerContext,
) -> Result<Vec<u32>, StartError> {
    let download = &request.run.download;
    let mut unnamed = Vec::new();
    // Where nodes share the folder, a `.part` is believed by receipts only, and a file is on the
    // disk before it has its name.
    if download.order.options.shard.is_none() {
        unnamed = name_all_whole(request, root, table, context)?;
        if request.unsettled {
            look_after_power_cut(request, root, table, context)?;
        }
    }
    if request.unsettled {
        context.store.append(&[Change::Settled(download.key)])?;
    }
    Ok(unnamed)
}

/// Gives the files that are whole their names. Returns those that could not be given one.
fn name_all_whole(
    request: &StartRequest,
    root: &Root,
    table: &FileTable,
    context: &WorkerContext,
) -> Result<Vec<u32>, StartError> {
    let run = &request.run;
    let unnamed = in_parallel::filter_map(table.len(), Work::Short, &|index| {
        if table.state(index) != FileState::Complete {
            return None;
        }
        let _call = run.disk.enter();
        let named = name_whole(&run.download, root, table, context, index);
        named.map(|named| (!named).then_some(index)).transpose()
    });
    unnamed.into_iter().collect()
}

/// Gives a whole file its name where it still is a `.part`. False: it could not be given.
///
/// # Errors
/// It cannot be told which of the names the file has, or what hinders will pass.
fn name_whole(
    download: &Download,
    root: &Root,
    table: &FileTable,
    context: &WorkerContext,
    index: u32,
) -> Result<bool, StartError> {
    let folder = open_folder(root, table, index)?;
    let names = table.names(index);
    if folder.file(&names.part)?.is_none() {
        return Ok(true);
    }
    let place = Place {
        key: download.key,
        table,
        index,
        if_exists: download.order.if_exists,
        traits: root.traits(),
        is_shared: false,
    };
    match transfer::publish(&place, &folder, names, &context.store) {
        Ok(_) => Ok(true),
        Err(Outcome::Transient {
            message,
            retry_after,
            ..
        }) => Err(StartError::Fault {
            message,
            retry_after,
            malformed: false,
        }),
        Err(Outcome::DownloadFailed(problem)) => Err(StartError::Broken(problem)),
        Err(other) => {
            let (id, path) = (&download.id, table.path(index));
            log::warn!("download {id}: {path} has no name yet: {other:?}");
            Ok(false)
        }
    }
}

/// The folder of a file; it is made where somebody has removed it since they were made.
fn open_folder(root: &Root, table: &FileTable, file: u32) -> Result<Folder, DestError> {
    root.folder(&table.dir_components(table.dir_of(file)), true)
}

/// After a power cut a rename or a `.part` may be on disk, but neither the bytes nor what the
/// journal said of them. Looks at every file that may have been on its way.
fn look_after_power_cut(
    request: &StartRequest,
    root: &Root,
    table: &FileTable,
    context: &WorkerContext,
) -> Result<(), StartError> {
    let run = &request.run;
    let begun = run.parts.bound().min(table.len());
    let has_part = in_parallel::filter_map(begun, Work::Short, &|index| {
        if matches!(table.state(index), FileState::Complete | FileState::Skipped) {
            return None;
        }
        let _call = run.disk.enter();
        let has_part = find_part(&run.download, root, table, index);
        has_part.map(|has| has.then_some(index)).transpose()
    });
    let has_part = has_part
        .into_iter()
        .collect::<Result<Vec<u32>, DestError>>()?;
    let note = |&file: &u32| Change::Part(run.download.key, file);
    let changes: Vec<Change> = has_part.iter().map(note).collect();
    context.store.append(&changes)?;
    has_part.into_iter().for_each(|file| run.parts.add(file));
    Ok(())
}

/// Whether a file has a `.part` that may be this download's, once a final name that may have come
/// too early is a `.part` again. What is to be overwritten may be the user's own file from before,
/// which nothing tells from such a one; it keeps its name, and what has it is replaced once the
/// file is whole.
fn find_part(
    download: &Download,
    root: &Root,
    table: &FileTable,
    index: u32,
) -> Result<bool, DestError> {
    let folder = open_folder(root, table, index)?;
    let names = table.names(index);
    let may_be_ours = |name: &str| {
        let found = folder.file(name)?;
        Ok(found.is_some_and(|found| {
            let (size, mtime) = (table.size(index), table.mtime(index));
            may_be_ours(found, size, mtime, download.created_at)
        }))
    };
    // The name was free when the download was planned: what has it now is ours, or the user put it
    // there later.
    if download.order.if_exists != IfExists::Overwrite
        && may_be_ours(&names.last)?
        && folder.publish(&names.last, &names.part, false)? == Published::Done
    {
        let (id, path) = (&download.id, table.path(index));
        log::info!("download {id}: {path} is fetched again after a power cut");
        return Ok(true);
    }
    may_be_ours(&names.part)
}

/// Whether a file may be what a power cut left of a file of `size` bytes, listed with the time
/// `mtime` (nanoseconds since 1970), of a download from `created_at`. Time and length come to the
/// disk together, if not as they were last: where there is a byte, the time is that of a write, or
/// the listed one. A file with an older time is the user's; one that the user wrote since, or a
/// copy of the listed one, cannot be told apart.
fn may_be_ours(found: Found, size: u64, mtime: Option<i64>, created_at: Timestamp) -> bool {
    if found.length > size {
        return false;
    }
    let (Some(time), 1..) = (found.mtime, found.length) else {
        return true;
    };
    let written_since = time >= created_at.0.saturating_sub_unsigned(SAME_DAY);
    let has_listed_time = mtime
        .is_some_and(|listed| time.abs_diff(listed) <= SAME_DAY || !KEPT_TIMES.contains(&listed));
    written_since || has_listed_time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_users_where_its_length_or_time_says_so() {
        const DAY: i64 = SAME_DAY as i64;
        const LISTED: i64 = KEPT_TIMES.start + 100 * DAY;
        const CREATED: i64 = LISTED + 100 * DAY;
        let ours = |length, time, listed| {
            let mtime = Some(time);
            may_be_ours(Found { length, mtime }, 10, listed, Timestamp(CREATED))
        };
        assert!(ours(10, LISTED, Some(LISTED)), "whole, as it seems");
        assert!(
            ours(3, LISTED + DAY, Some(LISTED)),
            "cut short, and in another time zone"
        );
        assert!(ours(10, CREATED - DAY, Some(LISTED)), "its time was lost");
        assert!(ours(0, 0, Some(LISTED)), "nothing of it is left");
        assert!(
            ours(10, 0, Some(KEPT_TIMES.start - DAY)),
            "the disk has changed its time"
        );
        assert!(!ours(11, LISTED, Some(LISTED)), "too long");
        assert!(
            !ours(10, LISTED - 2 * DAY, Some(LISTED)),
            "older than listed"
        );
        assert!(
            !ours(10, CREATED - 2 * DAY, Some(LISTED)),
            "from before the download"
        );
        assert!(!ours(10, LISTED, None), "from before the download, too");
    }
}
