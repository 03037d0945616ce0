//! A new generation: the JSON file written anew, and a journal with only what it does not hold.
//!
//! First the JSON file is replaced. Should the end come then, the old journal follows the new JSON
//! file, which says up to which number it holds the changes, so that nothing is applied twice. Then
//! the journal is replaced. Appends go on all the while, except for the two moments in which the
//! tail is copied and the files are swapped; commits wait, so that none is acknowledged that only
//! the old journal holds.

use std::io;
use std::sync::Arc;

use super::folder::Draft;
use super::journal::{Entry, Journal};
use super::line::{self, Header};
use super::replay::{Found, Snapshot};
use super::{Base, JOURNAL, JSON, State, Store, StoreError, Syncs};
use crate::base::locks;

/// The journal may always grow this long (256 KiB), however small the JSON file is.
pub(super) const SMALL: u64 = 256 << 10;

impl<S: State> Store<S> {
    /// Puts what is settled into the base.
    pub(super) fn absorb(&self, base: &mut Base<S>) {
        let (ready, through) = locks::lock(&self.journal).take_ready();
        base.seq = through;
        for entry in ready {
            base.state.apply(entry.change);
        }
    }

    /// Writes both files anew.
    pub(super) fn renew(&self, base: &mut Base<S>) -> Result<(), StoreError> {
        self.absorb(base);
        let generation = base.generation.saturating_add(1);
        let whole = Snapshot::new(generation, base.seq, &base.state);
        let json_len = self
            .folder
            .replace(&*self.disk, JSON, |out| {
                serde_json::to_writer(&mut *out, &whole)?;
                out.write_all(b"\n")
            })
            .map_err(|error| self.fault("write", JSON, error))?;
        base.generation = generation;
        self.renew_journal(generation, json_len)
            .map_err(|error| self.fault("write", JOURNAL, error))
    }

    fn renew_journal(&self, generation: u64, json_len: u64) -> io::Result<()> {
        let mut sync = locks::lock(&self.sync);
        let draft = self.folder.draft(JOURNAL)?;
        let mut text = Vec::new();
        let mut copied = {
            let journal = locks::lock(&self.journal);
            let header = Header {
                generation,
                boot: self.boot.clone(),
                synced: journal.synced,
            };
            line::push_header(&mut text, &header);
            push_entries(&mut text, &journal, 0)?;
            Copied {
                last: journal.last,
                synced: journal.synced,
                len: 0,
            }
        };
        self.disk.write_at(&draft.file, &text, 0)?;
        self.disk.sync_data(&draft.file)?;
        copied.len = text.len() as u64;
        self.swap(&mut sync, draft, copied, json_len)
    }

    /// Puts the new journal in the old one's place.
    fn swap(
        &self,
        sync: &mut Syncs,
        draft: Draft<'_>,
        copied: Copied,
        json_len: u64,
    ) -> io::Result<()> {
        let mut journal = locks::lock(&self.journal);
        let mut rest = Vec::new();
        push_entries(&mut rest, &journal, copied.last)?;
        if journal.synced > copied.synced {
            line::push_synced(&mut rest, journal.synced);
        }
        if !rest.is_empty() {
            self.disk.write_at(&draft.file, &rest, copied.len)?;
        }
        let len = copied.len + rest.len() as u64;
        journal.file = Arc::new(draft.publish()?);
        journal.len = len;
        journal.full_at = len + json_len.max(SMALL);
        journal.reserved = 0;
        journal.reserve(&*self.disk);
        journal.owed.clear();
        let (file, last, synced) = (journal.file.clone(), journal.last, journal.synced);
        // Until the new file and its name are known to be on disk, nobody may rely on it.
        journal.suspect = true;
        drop(journal);

        self.disk.sync_data(&file)?;
        self.folder.sync(&*self.disk)?;

        let mut journal = locks::lock(&self.journal);
        journal.suspect = false;
        journal.marked = synced;
        journal.waiting.retain(|ticket| ticket.last > last);
        sync.durable = last;
        Ok(())
    }

    /// Goes on with the journal that was found at the start, for want of space for a new one: a
    /// user whose disk is full must be able to start haul and delete something.
    pub(super) fn keep_journal(&self, found: Found) -> io::Result<()> {
        let base = locks::lock(&self.base);
        let mut journal = locks::lock(&self.journal);
        journal.file = Arc::new(self.folder.write(JOURNAL)?);
        journal.len = found.end;
        if found.torn {
            self.disk.truncate(&journal.file, found.end)?;
        }
        if !found.same_boot {
            let header = Header {
                generation: base.generation,
                boot: self.boot.clone(),
                synced: journal.synced,
            };
            journal.push_header(&*self.disk, &header)?;
        }
        // A new one is due as soon as it has grown a little.
        journal.full_at = journal.len + SMALL / 4;
        self.disk.sync_data(&journal.file)
    }
}

/// What of the old journal is in the new one before they are swapped.
struct Copied {
    /// Every change up to this number.
    last: u64,
    /// The synced mark.
    synced: u64,
    /// The new journal's length.
    len: u64,
}

/// Adds the lines of the tail's changes after number `after`.
fn push_entries<C: serde::Serialize>(
    out: &mut Vec<u8>,
    journal: &Journal<C>,
    after: u64,
) -> io::Result<()> {
    let from = journal.tail.partition_point(|entry| entry.seq <= after);
    let mut json = Vec::new();
    for Entry { seq, change, .. } in journal.tail.range(from..) {
        json.clear();
        serde_json::to_writer(&mut json, change)?;
        line::push_change(out, *seq, &json);
    }
    Ok(())
}
