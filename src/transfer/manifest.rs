//! The list of checksums that a download leaves beside its files, written when all are whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::ascmhl::{self, Entry};
use super::check::{ReadBack, digest_of};
use super::run::Run;
use super::{WorkerContext, part_free, shared_list};
use crate::base::clock;
use crate::base::digest::{Algorithm, Digest};
use crate::base::system_words::words;
use crate::dest::{self, DestError, Folder, Published, Root, Traits, paths};
use crate::model::manifest::{Manifest, ManifestFile, line};
use crate::model::table::{FileState, FileTable};
use crate::store::saved::Change;

/// Longer chains of lists are not read, in bytes.
const MAX_CHAIN: u64 = 4 << 20;

/// Writes the list where one is wanted, every file is in place, and it is not there yet. A list
/// that cannot be written does not hold up the files.
pub fn write_or_log(run: &Run, table: &FileTable, context: &WorkerContext) {
    if let Err(error) = write_if_whole(run, table, context) {
        let id = &run.download.id;
        log::error!("download {id}: the list of checksums cannot be written: {error}");
    }
}

fn write_if_whole(run: &Run, table: &FileTable, context: &WorkerContext) -> Result<(), DestError> {
    let (Some(manifest), Some(root)) = (run.download.order.options.manifest, run.root()) else {
        return Ok(());
    };
    let counts = table.counts();
    if counts.files_complete + counts.files_skipped < counts.files_total {
        return Ok(());
    }
    // Whoever comes second finds it written.
    let _writing = run.begin_manifest();
    if run.download.manifest_file().is_some() {
        return Ok(());
    }
    if let Some(shard) = run.download.order.options.shard {
        let of_all = shared_list::leave(run, root, table, (manifest, shard), context)?;
        return of_all.map_or(Ok(()), |written| record(run, written, context));
    }
    let sums = sums(run, root, table, manifest, context)?;
    let written = match manifest {
        Manifest::AscMhl => add_generation(run, root, table, &sums)?,
        _ => {
            let lines = sums
                .iter()
                .map(|(path, _, sum)| line(&sum.hex(), path))
                .collect::<String>();
            publish(
                &root.folder(&[], true)?,
                root.traits(),
                manifest.file_name(),
                &lines,
            )?
        }
    };
    record(run, written, context)
}

/// Remembers the list, and shows it.
fn record(run: &Run, written: ManifestFile, context: &WorkerContext) -> Result<(), DestError> {
    let change = Change::ManifestWritten(run.download.key, Box::new(written.clone()));
    if let Err(error) = context.store.append(&[change]) {
        log::warn!("download {}: {error}", run.download.id);
    }
    run.download.set_manifest_file(Some(written));
    Ok(())
}

/// Paths, indices and digests of all files that are in place, in the order of the paths.
fn sums(
    run: &Run,
    root: &Root,
    table: &FileTable,
    manifest: Manifest,
    context: &WorkerContext,
) -> Result<Vec<(String, u32, Digest)>, DestError> {
    let kept = run.sums(&context.store);
    let mut sums = Vec::new();
    for file in (0..table.len()).filter(|&file| table.state(file) == FileState::Complete) {
        let known = kept.and_then(|sums| sums.get(file));
        let found = match known {
            Some(known) => known,
            None => read_anew(run, root, table, file, manifest.algorithm())?,
        };
        sums.push((table.path(file), file, found));
    }
    sums.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(sums)
}

/// Adds a generation to the history of the folder that the package's files are in.
fn add_generation(
    run: &Run,
    root: &Root,
    table: &FileTable,
    sums: &[(String, u32, Digest)],
) -> Result<ManifestFile, DestError> {
    let own_folder = run.download.order.options.create_package_folder == Some(true);
    let package = table.dirs().get(1).filter(|_| own_folder);
    let above: Vec<&str> = package.iter().map(|dir| dir.name.as_str()).collect();
    let below = match package {
        Some(dir) => format!("{}/", dir.name),
        None => String::new(),
    };
    let dst_folder = Path::new(&run.download.order.dst_folder);
    let name = package.map_or_else(
        || {
            dst_folder
                .file_name()
                .map_or_else(|| "root".into(), OsStr::to_string_lossy)
        },
        |dir| dir.name.as_str().into(),
    );
    let entries: Vec<Entry> = sums
        .iter()
        .map(|(path, file, sum)| Entry {
            path: path.strip_prefix(&below).unwrap_or(path).to_owned(),
            size: table.size(*file),
            mtime: table.saved_mtime(*file).or(table.mtime(*file)),
            xxh64: sum.hex(),
        })
        .collect();
    let components: Vec<&str> = above.into_iter().chain([ascmhl::FOLDER]).collect();
    let folder = root.folder(&components, true)?;
    let known = read_chain(&folder)?;
    let generation = known
        .as_deref()
        .map_or(0, ascmhl::generations)
        .saturating_add(1);
    let at = clock::now();
    let host = rustix::system::uname();
    let text = ascmhl::list(&entries, &host.nodename().to_string_lossy(), at);
    let wanted = ascmhl::file_name(generation, &name, at);
    let refused = || DestError::Other(format!("{} is no chain of ASC MHL", ascmhl::CHAIN));
    let written = publish(&folder, root.traits(), &wanted, &text)?;
    let chain = ascmhl::chain(known.as_deref(), generation, &written.name, &text);
    let chain = chain.ok_or_else(refused)?;
    let part = write_part(&folder, root.traits(), ascmhl::CHAIN, &chain)?;
    folder.publish(&part, ascmhl::CHAIN, true)?;
    Ok(ManifestFile {
        name: format!("{below}{}/{}", ascmhl::FOLDER, written.name),
        ..written
    })
}

fn read_chain(folder: &Folder) -> Result<Option<String>, DestError> {
    let Some(file) = folder.open_saved(ascmhl::CHAIN)? else {
        return Ok(None);
    };
    let mut text = String::new();
    let read = file.take(MAX_CHAIN).read_to_string(&mut text);
    read.map_err(|error| {
        DestError::Other(format!(
            "{} cannot be read: {}",
            ascmhl::CHAIN,
            words(&error)
        ))
    })?;
    Ok(Some(text))
}

/// The digest of a file that was saved before this process, or of which a power cut took it.
pub(super) fn read_anew(
    run: &Run,
    root: &Root,
    table: &FileTable,
    file: u32,
    algorithm: Algorithm,
) -> Result<Digest, DestError> {
    let path = table.path(file);
    let opened = run.open_saved(root, table, file)?;
    let opened = opened.ok_or_else(|| unreadable(&path, "it is not there any more"))?;
    read_whole(run, &path, &opened, table.size(file), algorithm)
}

/// The digest of the `size` bytes of an open file; `path` names it.
pub(super) fn read_whole(
    run: &Run,
    path: &str,
    file: &File,
    size: u64,
    algorithm: Algorithm,
) -> Result<Digest, DestError> {
    digest_of(file, size, algorithm, || run.is_halted()).map_err(|error| match error {
        ReadBack::Halted => DestError::Short("the download was stopped".into()),
        ReadBack::Failed(error) => unreadable(path, &words(&error)),
    })
}

pub(super) fn unreadable(path: &str, why: &str) -> DestError {
    DestError::Other(format!("{path} cannot be read back: {why}"))
}

/// Writes a text into a new `.part` of the folder; answers its name.
fn write_part(
    folder: &Folder,
    traits: Traits,
    wanted: &str,
    text: &str,
) -> Result<String, DestError> {
    let (part, file) = loop {
        let part = part_free(folder, wanted, traits);
        if let Some(file) = folder.create_part(&part)? {
            break (part, file);
        }
    };
    if let Err(error) = file.write_all_at(text.as_bytes(), 0) {
        // What hinders the writing is what matters.
        let _ = folder.remove_part(&part);
        return Err(dest::write_failed(&file, &error));
    }
    Ok(part)
}

/// Saves a list under its name, or under the first free one like it.
pub(super) fn publish(
    folder: &Folder,
    traits: Traits,
    wanted: &str,
    text: &str,
) -> Result<ManifestFile, DestError> {
    let part = write_part(folder, traits, wanted, text)?;
    let mut name = wanted.to_owned();
    for number in 1.. {
        match folder.publish(&part, &name, false)? {
            // Another node has put the same lists together.
            Published::Taken if is_same(folder, &name, text)? => {
                folder.remove_part(&part)?;
                break;
            }
            Published::Taken => name = paths::numbered(wanted, number, traits),
            Published::Done => break,
            Published::PartMissing => {
                let why = format!("{part} was removed by another program");
                return Err(DestError::Other(why));
            }
        }
    }
    Ok(ManifestFile {
        name,
        size: text.len() as u64,
    })
}

fn is_same(folder: &Folder, name: &str, text: &str) -> Result<bool, DestError> {
    if folder.file_len(name) != Some(text.len() as u64) {
        return Ok(false);
    }
    let Some(file) = folder.open_saved(name)? else {
        return Ok(false);
    };
    let mut known = String::new();
    let read = file.take(text.len() as u64).read_to_string(&mut known);
    Ok(read.is_ok() && known == text)
}
