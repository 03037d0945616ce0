//! The list of checksums of a package that several nodes bring: each leaves the lines of its own
//! files beside them, and the node that finds those of all shards makes one list of them.

use std::collections::{BTreeMap, HashMap};

use super::WorkerContext;
use super::manifest::{publish, read_anew, read_whole, unreadable};
use super::receipts::Receipts;
use super::run::Run;
use crate::base::digest::Algorithm;
use crate::base::system_words::words;
use crate::dest::{DestError, Folder, Root, paths};
use crate::model::manifest::{Manifest, ManifestFile, line, read_line};
use crate::model::shard::Shard;
use crate::model::table::{FileState, FileTable};

/// Longer lists are not read, in bytes: four million lines of a kilobyte.
const MAX_LIST: u64 = 4 << 30;
/// Stands for the digest of a file that the node did not read: another one gave it its name.
const UNKNOWN: &str = "-";

/// Leaves the lines of this node's files and, where those of all shards are there, the list of the
/// whole package. None: others are still at work.
pub(super) fn leave(
    run: &Run,
    root: &Root,
    table: &FileTable,
    (manifest, shard): (Manifest, Shard),
    context: &WorkerContext,
) -> Result<Option<ManifestFile>, DestError> {
    let folder = root.folder(&[], true)?;
    if let Some(known) = known(&folder, run, table, manifest, context) {
        return Ok(Some(known));
    }
    let part = part_name(run, manifest, root);
    let receipts = Receipts::new(&folder, &part);
    receipts.write_text(shard, &own_lines(run, root, table, manifest, context)?)?;
    let names = receipts.names()?;
    let count = shard.count;
    let all = (0..count).map(|index| receipts.name(Shard { index, count }));
    let all: Vec<String> = all.filter(|name| names.contains(name)).collect();
    if all.len() < count as usize {
        return Ok(None);
    }
    let mut sums = BTreeMap::new();
    for name in &all {
        // Where another node was faster it is gone, and so is the need for it.
        let Some(text) = receipts.read_text(name, MAX_LIST) else {
            return Ok(None);
        };
        take_lines(&text, &mut sums);
    }
    let mut text = String::new();
    for (path, sum) in sums {
        let sum = match sum {
            Some(sum) => sum,
            None => read_path(run, root, &path, manifest.algorithm())?,
        };
        text += &line(&sum, &path);
    }
    let written = publish(&folder, root.traits(), manifest.file_name(), &text)?;
    receipts.remove_all();
    Ok(Some(written))
}

/// What the names of the lists begin with: other files of the package, or another package, are
/// another list.
fn part_name(run: &Run, manifest: Manifest, root: &Root) -> String {
    let options = &run.download.order.options;
    let package = run.download.view().package_id.clone().unwrap_or_default();
    let chosen = &options.selection;
    let what = format!("{package}\0{chosen:?}\0{:?}", options.create_package_folder);
    paths::shared_part_name(manifest.file_name(), &what, root.traits())
}

/// The list of the whole package, where it is there already: it names every file of this node, with
/// the digest that the node knows.
fn known(
    folder: &Folder,
    run: &Run,
    table: &FileTable,
    manifest: Manifest,
    context: &WorkerContext,
) -> Option<ManifestFile> {
    let name = manifest.file_name();
    let text = Receipts::new(folder, name).read_text(name, MAX_LIST)?;
    let lines = text.lines().filter_map(read_line);
    let listed: HashMap<String, &str> = lines.map(|(sum, path)| (path, sum)).collect();
    let kept = run.sums(&context.store);
    let has = |file: u32| {
        let known = kept.and_then(|sums| sums.get(file)).map(|sum| sum.hex());
        let listed = listed.get(&table.path(file));
        listed.is_some_and(|listed| known.is_none_or(|known| known == *listed))
    };
    let is_complete = |file: &u32| table.state(*file) == FileState::Complete;
    let has_all = (0..table.len()).filter(is_complete).all(has);
    has_all.then(|| ManifestFile {
        name: name.into(),
        size: text.len() as u64,
    })
}

fn own_lines(
    run: &Run,
    root: &Root,
    table: &FileTable,
    manifest: Manifest,
    context: &WorkerContext,
) -> Result<String, DestError> {
    let kept = run.sums(&context.store);
    let mut lines = String::new();
    for file in (0..table.len()).filter(|&file| table.state(file) == FileState::Complete) {
        let known = kept.and_then(|sums| sums.get(file));
        let sum = match known {
            Some(known) => known.hex(),
            None if table.slice(file).is_some() => UNKNOWN.into(),
            None => read_anew(run, root, table, file, manifest.algorithm())?.hex(),
        };
        lines += &line(&sum, &table.path(file));
    }
    Ok(lines)
}

fn take_lines(text: &str, sums: &mut BTreeMap<String, Option<String>>) {
    for (sum, path) in text.lines().filter_map(read_line) {
        let known = sums.entry(path).or_default();
        if sum != UNKNOWN {
            *known = Some(sum.to_owned());
        }
    }
}

fn read_path(
    run: &Run,
    root: &Root,
    path: &str,
    algorithm: Algorithm,
) -> Result<String, DestError> {
    let mut components: Vec<&str> = path.split('/').collect();
    let name = components.pop().unwrap_or_default();
    let file = root.folder(&components, false)?.open_saved(name)?;
    let file =
        file.ok_or_else(|| unreadable(path, "another shard has not brought its part yet"))?;
    let found = file
        .metadata()
        .map_err(|error| unreadable(path, &words(&error)))?;
    Ok(read_whole(run, path, &file, found.len(), algorithm)?.hex())
}
