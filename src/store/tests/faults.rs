//! Disks that fill up and disks that fail.

use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use super::super::disk::{Disk, SystemDisk};
use super::super::{JOURNAL, StoreError};
use super::*;
use crate::base::locks;

/// A disk with limited space, in bytes, whose syncs and truncations can be made to fail.
#[derive(Clone)]
struct Sick(Arc<Symptoms>);

struct Symptoms {
    space: AtomicU64,
    /// So many files can still be begun.
    new_files: AtomicU64,
    sync_fails: AtomicBool,
    dir_sync_fails: AtomicBool,
    truncate_fails: AtomicBool,
    syncs: AtomicU64,
    /// Where the space that was last set aside ends.
    reserved: AtomicU64,
    /// The number of the sync that waits for the test, twice, at the gate.
    held: AtomicU64,
    gate: Barrier,
}

impl Sick {
    fn new() -> Sick {
        Sick(Arc::new(Symptoms {
            space: AtomicU64::new(u64::MAX),
            new_files: AtomicU64::new(u64::MAX),
            sync_fails: AtomicBool::new(false),
            dir_sync_fails: AtomicBool::new(false),
            truncate_fails: AtomicBool::new(false),
            syncs: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            held: AtomicU64::new(0),
            gate: Barrier::new(2),
        }))
    }

    fn space(&self, bytes: u64) {
        self.0.space.store(bytes, Ordering::SeqCst);
    }

    /// Lets a sync wait at the gate: the next one, the one after, …
    fn hold(&self, ahead: u64) {
        let number = self.0.syncs.load(Ordering::SeqCst) + ahead;
        self.0.held.store(number, Ordering::SeqCst);
    }
}

fn failing(flag: &AtomicBool) -> io::Result<()> {
    if flag.load(Ordering::SeqCst) {
        Err(io::Error::other("the disk is sick"))
    } else {
        Ok(())
    }
}

impl Disk for Sick {
    fn write_at(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let new_files = self.0.new_files.load(Ordering::SeqCst);
        if at == 0 {
            if new_files == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.new_files.store(new_files - 1, Ordering::SeqCst);
        }
        let space = self.0.space.load(Ordering::SeqCst);
        let fits = (bytes.len() as u64).min(space);
        SystemDisk.write_at(file, &bytes[..fits as usize], at)?;
        if space != u64::MAX {
            self.space(space - fits);
        }
        if fits < bytes.len() as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn reserve(&self, file: &File, at: u64, len: u64) -> io::Result<()> {
        self.0.reserved.store(at + len, Ordering::SeqCst);
        SystemDisk.reserve(file, at, len)
    }

    fn truncate(&self, file: &File, len: u64) -> io::Result<()> {
        failing(&self.0.truncate_fails)?;
        SystemDisk.truncate(file, len)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        let number = self.0.syncs.fetch_add(1, Ordering::SeqCst) + 1;
        if number == self.0.held.load(Ordering::SeqCst) {
            self.0.gate.wait();
            self.0.gate.wait();
        }
        failing(&self.0.sync_fails)?;
        SystemDisk.sync_data(file)
    }

    fn sync_dir(&self, dir: &File) -> io::Result<()> {
        failing(&self.0.dir_sync_fails)?;
        SystemDisk.sync_dir(dir)
    }
}

fn sick_store() -> (tempfile::TempDir, Sick, Store<Log>) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Sick::new();
    let (store, _) = Store::open_on(Box::new(disk.clone()), dir.path(), BOOT).unwrap();
    (dir, disk, store)
}

#[test]
fn a_full_disk_refuses_a_change_and_takes_the_next() {
    for space in 0..60 {
        let (dir, disk, store) = sick_store();
        store.commit(&other([1])).unwrap();
        disk.space(space);
        let error = match space % 2 {
            0 => store.append(&other([2, 3, 4])).unwrap_err(),
            _ => store.commit(&other([2, 3, 4])).unwrap_err(),
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(dir.path().to_str().unwrap()), "{text}");
        disk.space(u64::MAX);
        store.commit(&other([5])).unwrap();
        drop(store);
        assert_eq!(reopened(dir.path(), BOOT), other([1, 5]), "space {space}");
    }
}

#[test]
fn refused_lines_that_cannot_be_cut_off_are_called_void() {
    for space in 0..60 {
        let (dir, disk, store) = sick_store();
        disk.0.truncate_fails.store(true, Ordering::SeqCst);
        disk.space(space);
        store.append(&other([2, 3, 4])).unwrap_err();
        disk.space(u64::MAX);
        store.append(&other([5])).unwrap();
        drop(store);
        assert_eq!(reopened(dir.path(), BOOT), other([5]), "space {space}");
    }
}

#[test]
fn a_commit_that_could_not_be_synced_does_not_come_back() {
    let (dir, disk, store) = sick_store();
    store.append(&other([1])).unwrap();
    disk.0.sync_fails.store(true, Ordering::SeqCst);
    store.commit(&other([2])).unwrap_err();
    // The journal cannot be trusted now, and the disk does not allow a new one yet.
    store.commit(&other([3])).unwrap_err();
    store.append(&other([4])).unwrap();
    store.synced(store.mark()).unwrap_err();
    let copy = tempfile::tempdir().unwrap();
    for name in [super::super::JSON, JOURNAL] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    assert_eq!(reopened(copy.path(), BOOT), other([1, 4]));

    disk.0.sync_fails.store(false, Ordering::SeqCst);
    store.commit(&other([5])).unwrap();
    drop(store);
    assert_eq!(reopened(dir.path(), OTHER_BOOT), other([1, 4, 5]));
}

#[test]
fn a_failed_sync_makes_the_background_thread_write_anew() {
    let (dir, disk, store) = sick_store();
    disk.0.sync_fails.store(true, Ordering::SeqCst);
    store.commit(&other([1])).unwrap_err();
    store.compact_if_needed().unwrap_err();
    disk.0.sync_fails.store(false, Ordering::SeqCst);
    assert!(store.compact_if_needed().unwrap());
    assert!(!store.compact_if_needed().unwrap());
    drop(store);
    assert_eq!(reopened(dir.path(), BOOT), other([]));
}

#[test]
fn writing_anew_on_a_full_disk_loses_nothing() {
    for space in 0..260 {
        let (dir, disk, store) = sick_store();
        store.append(&other([1])).unwrap();
        store.append(&data([2])).unwrap();
        store.commit(&other([3])).unwrap();
        disk.space(space);
        let result = store.close();
        match space {
            0..100 => assert!(matches!(result, Err(StoreError::Full { .. })), "{result:?}"),
            250.. => result.unwrap(),
            _ => {}
        }
        disk.space(u64::MAX);
        store.append(&data([4])).unwrap();
        drop(store);
        let all = [other([1]), data([2]), other([3]), data([4])].concat();
        assert_eq!(reopened(dir.path(), BOOT), all, "space {space}");
    }
}

#[test]
fn space_is_kept_ready_for_the_next_changes() {
    let (dir, disk, store) = sick_store();
    let ready = || {
        let len = fs::metadata(dir.path().join(JOURNAL)).unwrap().len();
        disk.0.reserved.load(Ordering::SeqCst) - len
    };
    assert!(ready() >= 64 << 10);
    store.append(&other(0..5000)).unwrap();
    store.compact_if_needed().unwrap();
    assert!(ready() >= 64 << 10);
}

#[test]
fn a_start_on_a_full_disk_goes_on_with_the_old_files() {
    for (files, boot) in [(0, BOOT), (0, OTHER_BOOT), (1, BOOT), (1, OTHER_BOOT)] {
        let (dir, disk, store) = sick_store();
        store.append(&data([1])).unwrap();
        store.synced(store.mark()).unwrap();
        store.append(&data([2])).unwrap();
        store.commit(&other([3])).unwrap();
        drop(store);
        let mut journal = fs::read(dir.path().join(JOURNAL)).unwrap();
        journal.extend_from_slice(b"{\"n\":5,\"c\":{\"o\":9}}");
        fs::write(dir.path().join(JOURNAL), journal).unwrap();

        disk.0.new_files.store(files, Ordering::SeqCst);
        let on_disk = Box::new(disk.clone());
        let (store, state) = Store::<Log>::open_on(on_disk, dir.path(), boot).unwrap();
        let unsynced = if boot == BOOT { data([2]) } else { data([]) };
        let kept = [data([1]), unsynced, other([3])].concat();
        assert_eq!(state.0, kept, "{files} files, {boot}");
        store.append(&data([4])).unwrap();
        store.commit(&other([5])).unwrap();
        drop(store);

        let copy = tempfile::tempdir().unwrap();
        for name in [super::super::JSON, JOURNAL] {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let all = [kept, data([4]), other([5])].concat();
        assert_eq!(reopened(copy.path(), boot), all, "{files} files, {boot}");
        let durable = [data([1]), other([3, 5])].concat();
        let third = reopened(dir.path(), "boot-3");
        assert_eq!(third, durable, "{files} files, {boot}");
    }
}

#[test]
fn a_folder_that_cannot_be_synced_fails_the_commit_until_it_can() {
    let (dir, disk, store) = sick_store();
    store.append(&other([1])).unwrap();
    disk.0.dir_sync_fails.store(true, Ordering::SeqCst);
    store.close().unwrap_err();
    store.append(&other([2])).unwrap();
    disk.0.dir_sync_fails.store(false, Ordering::SeqCst);
    store.commit(&other([3])).unwrap();
    drop(store);
    assert_eq!(reopened(dir.path(), OTHER_BOOT), other([1, 2, 3]));
}

/// Two commits come while a third is being synced; returns how the three went.
fn three_at_once(disk: &Sick, store: &Store<Log>, fail: bool) -> [bool; 3] {
    disk.hold(1);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| store.commit(&other([1])).is_ok());
        disk.0.gate.wait();
        let after_first = store.mark();
        let later = [2, 3].map(|n| scope.spawn(move || store.commit(&other([n])).is_ok()));
        while store.mark().0 < after_first.0 + 2 {
            std::thread::yield_now();
        }
        disk.0.sync_fails.store(fail, Ordering::SeqCst);
        disk.0.gate.wait();
        let first = first.join().unwrap();
        let [second, third] = later.map(|thread| thread.join().unwrap());
        [first, second, third]
    })
}

#[test]
fn commits_that_come_during_a_sync_share_the_next() {
    let (dir, disk, store) = sick_store();
    let before = disk.0.syncs.load(Ordering::SeqCst);
    assert_eq!(three_at_once(&disk, &store, false), [true; 3]);
    assert_eq!(disk.0.syncs.load(Ordering::SeqCst) - before, 2);
    drop(store);
    assert_eq!(reopened(dir.path(), OTHER_BOOT).len(), 3);
}

#[test]
fn commits_that_share_a_failed_sync_all_fail() {
    let (dir, disk, store) = sick_store();
    assert_eq!(three_at_once(&disk, &store, true), [false; 3]);
    disk.0.sync_fails.store(false, Ordering::SeqCst);
    store.commit(&other([4])).unwrap();
    drop(store);
    assert_eq!(reopened(dir.path(), OTHER_BOOT), other([4]));
}

#[test]
fn a_commit_that_is_not_durable_yet_stays_out_of_the_json_file() {
    let (dir, disk, store) = sick_store();
    disk.hold(1);
    std::thread::scope(|scope| {
        let commit = scope.spawn(|| store.commit(&other([1])).is_ok());
        disk.0.gate.wait();
        assert!(!store.compact_if_needed().unwrap());
        disk.0.sync_fails.store(true, Ordering::SeqCst);
        disk.0.gate.wait();
        assert!(!commit.join().unwrap());
    });
    disk.0.sync_fails.store(false, Ordering::SeqCst);
    store.close().unwrap();
    drop(store);
    assert_eq!(reopened(dir.path(), BOOT), other([]));
}

/// While the new journal is being synced for the `nth` time, others append, commit and mark.
fn busy_while_renewing(nth: u64) {
    let (dir, disk, store) = sick_store();
    store.append(&data([1])).unwrap();
    // The first sync is the JSON file's.
    disk.hold(1 + nth);
    std::thread::scope(|scope| {
        let renewal = scope.spawn(|| store.close());
        disk.0.gate.wait();
        store.append(&data([2])).unwrap();
        let (store, mark) = (&store, store.mark());
        let marked = scope.spawn(move || store.synced(mark));
        if nth == 1 {
            while locks::lock(&store.journal).synced < 2 {
                std::thread::yield_now();
            }
        }
        store.append(&data([3])).unwrap();
        let commit = scope.spawn(|| store.commit(&other([4])));
        disk.0.gate.wait();
        renewal.join().unwrap().unwrap();
        commit.join().unwrap().unwrap();
        marked.join().unwrap().unwrap();
    });
    drop(store);
    let copy = tempfile::tempdir().unwrap();
    for name in [super::super::JSON, JOURNAL] {
        fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let all = [data([1, 2, 3]), other([4])].concat();
    assert_eq!(reopened(copy.path(), BOOT), all, "sync {nth}");
    let durable = [data([1, 2]), other([4])].concat();
    assert_eq!(reopened(dir.path(), OTHER_BOOT), durable, "sync {nth}");
}

#[test]
fn what_comes_while_the_journal_is_written_anew_is_carried_over() {
    busy_while_renewing(1);
    busy_while_renewing(2);
}

#[test]
fn what_waits_for_room_goes_before_what_comes_later() {
    let (dir, disk, store) = sick_store();
    disk.space(0);
    store.queue(other([1])).unwrap_err();
    store.queue(data([2])).unwrap_err();
    assert!(store.has_backlog());
    store.commit(&other([3])).unwrap_err();
    store.append(&other([3])).unwrap_err();
    disk.space(u64::MAX);
    store.commit(&other([4])).unwrap();
    assert!(!store.has_backlog());
    store.queue(other([5])).unwrap();
    drop(store);
    let wanted = [other([1]), data([2]), other([4, 5])].concat();
    assert_eq!(reopened(dir.path(), BOOT), wanted);
}

#[test]
fn what_waits_for_room_is_saved_at_a_clean_stop() {
    let (dir, disk, store) = sick_store();
    disk.space(0);
    store.queue(other([1])).unwrap_err();
    disk.space(u64::MAX);
    store.close().unwrap();
    drop(store);
    assert_eq!(reopened(dir.path(), BOOT), other([1]));
}

#[test]
fn too_much_that_waits_costs_the_oldest_news_of_data() {
    let (dir, disk, store) = sick_store();
    let limit = super::super::backlog::LIMIT as u32;
    disk.space(0);
    store.queue(other([0])).unwrap_err();
    store.queue(data(1..=limit)).unwrap_err();
    disk.space(u64::MAX);
    store.commit(&other([limit + 1])).unwrap();
    drop(store);
    let kept = reopened(dir.path(), BOOT);
    assert_eq!(kept.first(), Some(&Note::Other(0)));
    assert_eq!(
        kept[kept.len() - 2..],
        [data([limit]), other([limit + 1])].concat()
    );
    assert!(kept.len() < limit as usize);
}

#[test]
fn what_was_taken_back_does_not_come_back() {
    let even = |note: &Note| matches!(note, Note::Data(n) | Note::Other(n) if n % 2 == 0);
    let (dir, disk, store) = sick_store();
    store.append(&data([2])).unwrap();
    store.synced(store.mark()).unwrap();
    store.append(&data([4, 5, 6, 8])).unwrap();
    store.append(&other([10])).unwrap();
    disk.space(0);
    store.queue(data([12, 13])).unwrap_err();
    store.take_back(even).unwrap_err();
    disk.space(u64::MAX);
    disk.0.sync_fails.store(true, Ordering::SeqCst);
    store.take_back(even).unwrap_err();
    disk.0.sync_fails.store(false, Ordering::SeqCst);
    store.take_back(even).unwrap();
    store.append(&data([14])).unwrap();
    store.synced(store.mark()).unwrap();
    drop(store);
    let kept = [data([2, 5]), other([10]), data([13, 14])].concat();
    assert_eq!(reopened(dir.path(), OTHER_BOOT), kept);
}

#[test]
fn what_is_taken_back_while_the_journal_is_written_anew_is_not_in_the_new_one() {
    let (dir, disk, store) = sick_store();
    store.append(&data([1, 2])).unwrap();
    // The first sync is the JSON file's.
    disk.hold(2);
    std::thread::scope(|scope| {
        let renewal = scope.spawn(|| store.close());
        disk.0.gate.wait();
        let taken = scope.spawn(|| store.take_back(|note| *note == Note::Data(1)));
        disk.0.gate.wait();
        renewal.join().unwrap().unwrap();
        taken.join().unwrap().unwrap();
    });
    drop(store);
    assert_eq!(reopened(dir.path(), BOOT), data([2]));
}
