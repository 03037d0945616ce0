//! `haul verify DIR`: holds the files of a folder against the lists of checksums in it, without an
//! agent.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use super::{complain, print};
use crate::base::digest::{Algorithm, Digest, Hasher, unhex};
use crate::base::in_parallel::{self, Work};
use crate::base::pieces;
use crate::base::system_words::words;
use crate::cli::human;
use crate::dest;
use crate::model::manifest::{self, Manifest};
use crate::transfer::ascmhl;

/// Longer lists are not read, in bytes.
const MAX_LIST: u64 = 1 << 30;

/// Digests by the path of their file in the folder.
type Listed = BTreeMap<String, Digest>;

/// Verifies a folder; answers the exit code: 0 all as listed, 1 some are not or a list cannot be
/// read, 2 there is no list.
pub(super) fn verify(folder: &Path) -> u8 {
    let shown = human::clean(&folder.to_string_lossy());
    let lists = match lists(folder) {
        Ok(lists) => lists,
        Err(error) => {
            complain(&format!("{shown}: {}", words(&error)));
            return 1;
        }
    };
    if !folder.is_dir() {
        complain(&format!("{shown} is no folder"));
        return 2;
    }
    if lists.is_empty() {
        complain(&format!(
            "{shown} has no list of checksums; get --manifest leaves one"
        ));
        return 2;
    }
    let all: Vec<_> = lists.iter().collect();
    let bad = in_parallel::filter_map(all.len() as u32, Work::Long, &|index| {
        let (path, digest) = all[index as usize];
        let why = look(folder, path, digest)?;
        Some(format!("{path}: {why}"))
    });
    for line in &bad {
        complain(line);
    }
    match bad.len() {
        0 => {
            let text = format!("{shown}: {} files are as listed\n", lists.len());
            print(&text).unwrap_or(1)
        }
        count => {
            complain(&format!(
                "{shown}: {count} of {} files not as listed; remove these, and the haul get that made them fetches them again",
                lists.len()
            ));
            1
        }
    }
}

/// What is wrong with a file; None: nothing is.
fn look(folder: &Path, path: &str, digest: &Digest) -> Option<String> {
    let is_inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !is_inside {
        return Some("the list names what is not in the folder".into());
    }
    match digest_of(&folder.join(path), digest.algorithm) {
        Ok(found) if found == *digest => None,
        Ok(_) => Some("its content is not what is listed".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("it is not there".into()),
        Err(error) => Some(format!("it cannot be read: {}", words(&error))),
    }
}

fn digest_of(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    let file = File::open(path)?;
    dest::forget_cached(&file);
    let mut hasher = Hasher::new(algorithm);
    pieces::read(&file, 0, u64::MAX, |piece| {
        hasher.update(piece);
        Ok::<_, io::Error>(())
    })?;
    Ok(hasher.finish())
}

/// All that the folder's lists hold; of a file that several name, the last one counts.
fn lists(folder: &Path) -> io::Result<Listed> {
    let mut listed = Listed::new();
    for manifest in Manifest::ALL.map(|(_, manifest)| manifest) {
        if manifest == Manifest::AscMhl {
            continue;
        }
        if let Some(text) = read(&folder.join(manifest.file_name()))? {
            let lines = text.lines().filter_map(manifest::read_line);
            listed.extend(lines.filter_map(|(digits, path)| {
                let digest = Digest::new(manifest.algorithm(), unhex(digits)?)?;
                Some((path, digest))
            }));
        }
    }
    let history = folder.join(Manifest::AscMhl.file_name());
    let mut generations: Vec<_> = match fs::read_dir(&history) {
        Ok(entries) => entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    generations.retain(|path| path.extension().is_some_and(|end| end == "mhl"));
    generations.sort();
    for path in generations {
        if let Some(text) = read(&path)? {
            listed.extend(ascmhl::read(&text));
        }
    }
    Ok(listed)
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_LIST).read_to_string(&mut text)?;
    Ok(Some(text))
}
