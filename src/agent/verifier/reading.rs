//! Reads the files of one download back on several threads, shows and saves how far that is, and
//! goes on where an earlier reading was paused.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Verifier;
use super::look::{Found, look};
use crate::base::intervals::Intervals;
use crate::base::locks;
use crate::base::system_words::words;
use crate::dest::{DestError, Root};
use crate::model::download::Download;
use crate::model::table::{FileState, FileTable};
use crate::model::verification::{BadFile, Damage, MAX_BAD_FILES, Position, Verification};
use crate::store::Store;
use crate::store::saved::{Change, Saved};
use crate::transfer::seals::{Seal, Seals};

/// How often progress is shown, at most.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// How often it is saved, at most: so much is read again after a power cut.
const SAVE_EVERY: Duration = Duration::from_secs(10);

/// A file that is to be fetched again, by its index, and why.
pub type Bad = (u32, String);

/// One reading under way.
pub struct Reading<'a> {
    verifier: &'a Verifier,
    download: &'a Download,
    table: &'a FileTable,
    root: Result<Root, DestError>,
    seals: Option<Seals>,
    /// Bytes of files that are being read.
    inside: AtomicU64,
    /// Set once a thread has left a file unread; the others then leave the rest, too.
    is_halted: AtomicBool,
    so_far: Mutex<SoFar>,
}

struct SoFar {
    /// The next file that nobody has taken.
    next: u32,
    /// Files that were looked at, by their indexes, or need not be.
    looked: Intervals,
    found: Verification,
    /// Those that count as not downloaded when it ends.
    bad: Vec<Bad>,
    /// Those of them that are named in `found`, each with its place there.
    named: Vec<(u32, u32)>,
    shown: Instant,
    saved: Instant,
}

impl<'a> Reading<'a> {
    /// Takes up a reading where it was left.
    pub fn go_on(
        verifier: &'a Verifier,
        download: &'a Download,
        table: &'a FileTable,
        begun: &Verification,
    ) -> Reading<'a> {
        let saved = verifier.store.current().downloads.remove(&download.key);
        let path = Path::new(&download.order.dst_folder);
        // Only the folder that the download went into: where its disk is not mounted, nothing is
        // known of the files.
        let (root, position) = match saved {
            Some(saved) => (Root::open(path, &saved.identity), saved.verified_to),
            None => (Root::existing(path), None),
        };
        let position = position.filter(|_| root.is_ok()).unwrap_or_default();
        let seals = Seals::open(&verifier.store, &download.id).ok();
        Reading {
            verifier,
            download,
            table,
            root,
            seals,
            inside: AtomicU64::new(0),
            is_halted: AtomicBool::new(false),
            so_far: Mutex::new(so_far(table, begun, &position)),
        }
    }

    /// Takes one file after the other, to the last; several threads may.
    pub fn read(&self) {
        while let Some(file) = self.take() {
            let Some(_open) = self.download.open_files().filter(|_| !self.stops()) else {
                break;
            };
            let inside = Cell::new(0);
            let may_read = |bytes: usize| {
                inside.set(inside.get() + bytes as u64);
                self.inside.fetch_add(bytes as u64, Ordering::Relaxed);
                self.may_read(bytes)
            };
            let found = match &self.root {
                Ok(root) => {
                    let seal = self.seals.as_ref().map(|seals| seals.get(file));
                    look(root, self.table, file, &seal.unwrap_or_default(), may_read)
                }
                Err(error) => Found::Bad(Damage::Unreadable, error.to_string()),
            };
            self.inside.fetch_sub(inside.get(), Ordering::Relaxed);
            if matches!(found, Found::Halted) {
                break;
            }
            self.note(file, found);
        }
        if self.stops() {
            self.is_halted.store(true, Ordering::Relaxed);
        }
    }

    /// What was found, and which files count as not downloaded from now on. None: it was left
    /// before its end, and how far it is was saved.
    pub fn end(self) -> Option<(Verification, Vec<Bad>)> {
        let mut so_far = self
            .so_far
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if so_far.looked.total() < u64::from(self.table.len()) {
            if self.root.is_ok() && !self.download.is_gone() {
                // Whoever goes on begins with what is shown.
                self.download.show_verification(so_far.found.clone());
                so_far.save(&self.verifier.store, self.download);
                let id = &self.download.id;
                log::info!("download {id}: verifying is paused");
            }
            return None;
        }
        Some((so_far.found, so_far.bad))
    }

    fn take(&self) -> Option<u32> {
        let mut so_far = locks::lock(&self.so_far);
        while so_far.next < self.table.len() {
            let file = so_far.next;
            so_far.next += 1;
            if so_far.looked.contains(file.into()) {
                continue;
            }
            match self.table.state(file) == FileState::Complete {
                true => return Some(file),
                false => so_far.looked.insert(file.into(), u64::from(file) + 1),
            }
        }
        None
    }

    fn stops(&self) -> bool {
        self.is_halted.load(Ordering::Relaxed)
            || self.verifier.stopping.load(Ordering::Relaxed)
            || self.download.is_gone()
            || !self.download.is_being_verified()
    }

    /// Waits until so many bytes may be read. False: it is time to stop.
    fn may_read(&self, bytes: usize) -> bool {
        let (limit, mut left) = (&self.verifier.limit, bytes);
        while left > 0 {
            match limit.take(self.download.key, left, || self.stops()) {
                Some(grant) => left -= grant.bytes.min(left),
                None => return false,
            }
        }
        self.show(&mut locks::lock(&self.so_far));
        !self.stops()
    }

    fn note(&self, file: u32, found: Found) {
        if let Found::Recorded(seal) = &found {
            self.keep(file, *seal);
        }
        let mut so_far = locks::lock(&self.so_far);
        so_far.note(self.download, self.table, file, found, self.root.is_ok());
        self.show(&mut so_far);
        if so_far.saved.elapsed() >= SAVE_EVERY && self.root.is_ok() {
            so_far.save(&self.verifier.store, self.download);
        }
    }

    fn show(&self, so_far: &mut SoFar) {
        if so_far.shown.elapsed() < SHOW_EVERY {
            return;
        }
        so_far.shown = Instant::now();
        let mut shown = so_far.found.clone();
        let inside = self.inside.load(Ordering::Relaxed);
        shown.bytes_done = (shown.bytes_done + inside).min(shown.bytes_total);
        self.download.show_verification(shown);
    }

    fn keep(&self, file: u32, seal: Seal) {
        let kept = self.seals.as_ref().map(|seals| seals.put(&[(file, seal)]));
        if let Some(Err(error)) = kept {
            let id = &self.download.id;
            log::warn!("download {id}: a checksum is not kept: {}", words(&error));
        }
    }
}

/// What an earlier reading that came to `position` has found.
fn so_far(table: &FileTable, begun: &Verification, position: &Position) -> SoFar {
    let counts = table.counts();
    let mut found = Verification::new(begun.started_at, counts.files_complete, counts.bytes_done);
    found.files_recorded = begun.files_recorded;
    let mut looked = position.looked.clone();
    looked.truncate(table.len().into());
    let is_looked_at = |file: u32| looked.contains(file.into());
    let is_counted = |file: &u32| is_looked_at(*file) && table.state(*file) == FileState::Complete;
    for file in (0..table.len()).filter(is_counted) {
        found.files_done += 1;
        found.bytes_done += table.size(file);
    }
    let (mut bad, mut named) = (Vec::new(), Vec::new());
    for (place, known) in (0..).zip(&begun.files_bad) {
        let file = position.bad.iter().find(|&&(_, at)| at == place);
        match file {
            Some(&(file, _)) if is_looked_at(file) => {
                bad.push((file, known.reason.clone()));
                named.push((file, found.files_bad.len() as u32));
            }
            // It is found again.
            _ if known.damage != Damage::Retimed => continue,
            _ => {}
        }
        found.note_bad(known.clone());
    }
    // More of them may have been found than were named.
    found.files_retimed = found.files_retimed.max(begun.files_retimed);
    SoFar {
        next: 0,
        looked,
        found,
        bad,
        named,
        shown: Instant::now(),
        saved: Instant::now(),
    }
}

impl SoFar {
    fn note(
        &mut self,
        download: &Download,
        table: &FileTable,
        file: u32,
        found: Found,
        is_taken_back: bool,
    ) {
        self.looked.insert(file.into(), u64::from(file) + 1);
        self.found.files_done += 1;
        self.found.bytes_done += table.size(file);
        match found {
            Found::AsSaved | Found::Halted => {}
            Found::Recorded(_) => self.found.files_recorded += 1,
            Found::Bad(damage, reason) => {
                let path = table.path(file);
                log::warn!("download {}: {path}: {reason}", download.id);
                if is_taken_back && damage != Damage::Retimed {
                    let place = self.found.files_bad.len();
                    if place < MAX_BAD_FILES {
                        self.named.push((file, place as u32));
                    }
                    self.bad.push((file, reason.clone()));
                }
                self.found.note_bad(BadFile {
                    path,
                    damage,
                    reason,
                });
            }
        }
    }

    /// Saves how far it is. A bad file that is not named is looked at again.
    fn save(&mut self, store: &Store<Saved>, download: &Download) {
        self.saved = Instant::now();
        let is_named = |file: u32| self.named.iter().any(|&(named, _)| named == file);
        let mut looked = self.looked.clone();
        let unnamed = self.bad.iter().map(|&(file, _)| file);
        for file in unnamed.filter(|&file| !is_named(file)) {
            looked.remove(file.into());
        }
        let position = Position {
            looked,
            bad: self.named.clone(),
        };
        let change = Change::VerifiedTo(download.key, Box::new((self.found.clone(), position)));
        if let Err(error) = store.commit(&[change]) {
            let id = &download.id;
            log::warn!("download {id}: how far verifying is was not saved: {error}");
        }
    }
}
