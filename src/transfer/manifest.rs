//! The list of checksums that a download leaves beside its files, written when all are whole.

use std::os::unix::fs::FileExt;

use super::check::{ReadBack, digest_of};
use super::run::Run;
use super::sums::Sums;
use super::{WorkerContext, part_free};
use crate::base::digest::{Algorithm, Digest};
use crate::base::system_words::words;
use crate::dest::{DestError, Published, Root, paths};
use crate::model::manifest::{Manifest, ManifestFile, line};
use crate::model::table::{FileState, FileTable};
use crate::store::saved::Change;

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
    let text = text(run, root, table, manifest, context)?;
    let written = publish(root, manifest.file_name(), &text)?;
    let change = Change::ManifestWritten(run.download.key, Box::new(written.clone()));
    if let Err(error) = context.store.append(&[change]) {
        log::warn!("download {}: {error}", run.download.id);
    }
    run.download.set_manifest_file(Some(written));
    Ok(())
}

fn text(
    run: &Run,
    root: &Root,
    table: &FileTable,
    manifest: Manifest,
    context: &WorkerContext,
) -> Result<String, DestError> {
    let id = &run.download.id;
    let sums = Sums::open(&context.store, id, manifest);
    let mut lines = Vec::new();
    for file in (0..table.len()).filter(|&file| table.state(file) == FileState::Complete) {
        let known = sums.as_ref().ok().and_then(|sums| sums.get(file));
        let found = match known {
            Some(known) => known,
            None => read_anew(run, root, table, file, manifest.algorithm())?,
        };
        lines.push((table.path(file), found.hex()));
    }
    lines.sort();
    Ok(lines
        .iter()
        .map(|(path, digest)| line(digest, path))
        .collect())
}

/// The digest of a file that was saved before this process, or of which a power cut took it.
fn read_anew(
    run: &Run,
    root: &Root,
    table: &FileTable,
    file: u32,
    algorithm: Algorithm,
) -> Result<Digest, DestError> {
    let path = table.path(file);
    let fail = |why: String| DestError::Other(format!("{path} cannot be read back: {why}"));
    let folder = run.folder(root, table, table.dir_of(file))?;
    let opened = folder.open_saved(&table.names(file).last)?;
    let opened = opened.ok_or_else(|| fail("it is not there any more".into()))?;
    digest_of(&opened, table.size(file), algorithm, || run.is_halted()).map_err(|error| match error
    {
        ReadBack::Halted => DestError::Short("the download was stopped".into()),
        ReadBack::Failed(error) => fail(words(&error)),
    })
}

/// Saves the list under its name, or under the first free one like it.
fn publish(root: &Root, wanted: &str, text: &str) -> Result<ManifestFile, DestError> {
    let folder = root.folder(&[], true)?;
    let traits = root.traits();
    let (part, file) = loop {
        let part = part_free(&folder, wanted, traits);
        if let Some(file) = folder.create_part(&part)? {
            break (part, file);
        }
    };
    let written = file.write_all_at(text.as_bytes(), 0);
    if let Err(error) = written {
        let _ = folder.remove_part(&part);
        return Err(crate::dest::write_failed(&file, &error));
    }
    let mut name = wanted.to_owned();
    for number in 1.. {
        match folder.publish(&part, &name, false)? {
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
