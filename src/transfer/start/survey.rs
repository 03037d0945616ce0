//! What other nodes have done in a folder that they share with this one: files that are there need
//! not be fetched, nor do bytes of which a receipt tells.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::StartError;
use crate::base::in_parallel::{self, Work};
use crate::base::intervals::Intervals;
use crate::dest::{DestError, FileIdentity, Folder, Found, Root};
use crate::model::request::IfExists;
use crate::model::table::{FileState, FileTable, Skip};
use crate::store::saved::{Change, Partial};
use crate::transfer::WorkerContext;
use crate::transfer::publish::done;
use crate::transfer::receipts::{Receipts, stem_of, stem_of_part};
use crate::transfer::run::Run;

/// What was found of a file.
enum Seen {
    /// It is whole and has its name.
    Whole(Found),
    /// Another file has its name, and is to stay.
    Other,
    /// So much of it is on disk.
    Part(Partial),
}

/// Looks at every file. Those that are whole are complete from now on; returns what is on disk of
/// the others.
pub(super) fn survey(
    run: &Run,
    root: &Root,
    table: &FileTable,
    context: &WorkerContext,
) -> Result<BTreeMap<u32, Partial>, StartError> {
    let mut by_dir = vec![Vec::new(); table.dirs().len()];
    for file in (0..table.len()).filter(|&file| table.state(file) != FileState::Skipped) {
        by_dir[table.dir_of(file) as usize].push(file);
    }
    let dirs = u32::try_from(by_dir.len()).unwrap_or(u32::MAX);
    let seen = in_parallel::filter_map(dirs, Work::Long, &|dir| {
        let files = &by_dir[dir as usize];
        let _call = run.disk.enter();
        (!files.is_empty()).then(|| look(run, root, table, dir, files))
    });
    let mut told = BTreeMap::new();
    let mut changes = Vec::new();
    for seen in seen {
        for (file, seen) in seen? {
            match seen {
                _ if table.state(file) == FileState::Complete => {}
                Seen::Part(partial) => {
                    told.insert(file, partial);
                }
                Seen::Whole(found) => {
                    table.complete(file);
                    changes.push(done(table, file, run.download.key, found.mtime));
                }
                Seen::Other => {
                    table.skip(file, Skip::Exists);
                    changes.push(Change::Skipped(run.download.key, file));
                }
            }
        }
    }
    context.store.commit(&changes)?;
    Ok(told)
}

/// Looks at files of one folder.
fn look(
    run: &Run,
    root: &Root,
    table: &FileTable,
    dir: u32,
    files: &[u32],
) -> Result<Vec<(u32, Seen)>, DestError> {
    let Ok(folder) = root.folder(&table.dir_components(dir), false) else {
        // Its files' errors say what hinders.
        return Ok(Vec::new());
    };
    let mut names = HashSet::new();
    let mut stems: HashMap<String, Vec<String>> = HashMap::new();
    let listed = folder.each_name(|name| {
        // No file of a package has a name that is not UTF-8.
        if let Ok(name) = str::from_utf8(name) {
            if let Some(stem) = stem_of(name) {
                let of_file = stems.entry(stem.to_owned()).or_default();
                of_file.push(name.to_owned());
            }
            names.insert(name.to_owned());
        }
    });
    listed.map_err(|error| DestError::of_io("list", folder.path(), &error))?;
    let mut seen = Vec::new();
    for &file in files {
        let own = table.names(file);
        let receipts = stems.remove(stem_of_part(&own.part));
        let has_receipts = receipts.is_some();
        if let Some(receipts) = receipts {
            run.receipts.note_found(file, receipts);
        }
        if names.contains(&own.last)
            && let Some(found) = look_at_name(run, table, file, &folder, &own.last)?
        {
            if matches!(found, Seen::Whole(_)) {
                // Left by a node that was killed right after it had given the file its name.
                Receipts::new(&folder, &own.part).remove(&run.receipts.found(file));
                run.receipts.take(file);
                if names.contains(&own.part) {
                    folder.remove_part(&own.part)?;
                }
            }
            seen.push((file, found));
        } else if has_receipts
            && names.contains(&own.part)
            && let Some(partial) = read_receipts(table, file, &folder, &own.part)?
        {
            seen.push((file, Seen::Part(partial)));
        }
    }
    Ok(seen)
}

fn look_at_name(
    run: &Run,
    table: &FileTable,
    file: u32,
    folder: &Folder,
    name: &str,
) -> Result<Option<Seen>, DestError> {
    let found = folder.file(name)?;
    let (size, mtime) = (table.size(file), table.mtime(file));
    Ok(match found {
        Some(found) if found.may_be(size, mtime) => Some(Seen::Whole(found)),
        _ if run.download.order.if_exists == IfExists::Skip => Some(Seen::Other),
        _ => None,
    })
}

/// What receipts tell of this node's bytes of a file. None: nothing.
fn read_receipts(
    table: &FileTable,
    file: u32,
    folder: &Folder,
    part: &str,
) -> Result<Option<Partial>, DestError> {
    let Some(opened) = folder.open_saved(part)? else {
        return Ok(None);
    };
    let size = table.size(file);
    let told = Receipts::new(folder, part).read(&FileIdentity::by_inode(&opened), size, None)?;
    let own: Intervals = [table.own_range(file)].into_iter().collect();
    let bytes = told.bytes.intersection(&own);
    let etag = told.etag;
    Ok((!bytes.is_empty()).then_some(Partial { bytes, etag }))
}
