use std::fs;
use std::sync::Mutex;

use crossbeam_channel::unbounded;

use super::*;
use crate::base::intervals::Intervals;
use crate::model::problem::Code;
use crate::store::saved::SavedFiles;

/// The first sync of a root at one of these paths fails, and none after it: so does the kernel.
#[derive(Clone, Default)]
struct Sick(Arc<Mutex<Vec<std::path::PathBuf>>>);

impl Sick {
    fn fall_ill(&self, root: &Root) {
        self.0.lock().unwrap().push(root.path().to_owned());
    }
}

impl Disks for Sick {
    fn sync(&self, root: &Root) -> Result<(), DestError> {
        let mut sick = self.0.lock().unwrap();
        match sick.iter().position(|path| path == root.path()) {
            Some(at) => {
                let path = sick.remove(at);
                Err(DestError::Unwritable(format!("{} is sick", path.display())))
            }
            None => Ok(()),
        }
    }
}

/// Two downloads, 1 and 2, each with a destination of its own.
struct Desk {
    dir: tempfile::TempDir,
    disks: Sick,
    losses: Receiver<Loss>,
    roots: [Arc<Root>; 2],
    syncer: Syncer,
}

fn created(key: u32, root: &Root) -> Change {
    let dst_folder = root.path().display();
    let text = format!(
        r#"{{"created":[{key},{{"id":"{key}","order":{{"link":{{"public":"http://h/A","api":"http://h","id":"A","secret":"s"}},"dst_folder":"{dst_folder}"}},"created_at":"2026-11-23T10:00:00Z","identity":{{"dev":1,"ino":2,"fsid":3,"kind":4}},"state":"transferring"}}]}}"#
    );
    serde_json::from_str(&text).unwrap()
}

fn wrote(key: u32, start: u64, end: u64) -> Change {
    Change::Wrote(key, 0, start, end)
}

fn bytes(end: u64) -> Intervals {
    [(0, end)].into_iter().collect()
}

impl Desk {
    fn new() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(&dir.path().join("state"), "one").unwrap();
        let root = |name| Arc::new(Root::make(&dir.path().join(name)).unwrap().0);
        let (roots, disks) = ([root("a"), root("b")], Sick::default());
        store
            .commit(&[created(1, &roots[0]), created(2, &roots[1])])
            .unwrap();
        let (losses_out, losses) = unbounded();
        let syncer = Syncer::new(Arc::new(store), Arc::new(disks.clone()), losses_out);
        Desk {
            dir,
            disks,
            losses,
            roots,
            syncer,
        }
    }

    fn append(&self, changes: &[Change]) {
        self.syncer.store.append(changes).unwrap();
    }

    /// Both destinations are to be synced.
    fn serve(&mut self, rested: &[u32]) {
        let [first, second] = self.roots.clone();
        self.syncer.serve(SyncRequest {
            mark: self.syncer.store.mark(),
            roots: vec![(1, first), (2, second)],
            rested: rested.to_vec(),
        });
    }

    /// What a start in that boot makes of it; this process goes on.
    fn files(&self, boot: &str) -> [SavedFiles; 2] {
        let copy = tempfile::tempdir().unwrap();
        for name in ["downloads.json", "downloads.journal"] {
            let from = self.dir.path().join("state").join(name);
            fs::copy(from, copy.path().join(name)).unwrap();
        }
        let (_, mut saved) = Store::<Saved>::open_in_boot(copy.path(), boot).unwrap();
        [1, 2].map(|key| saved.downloads.remove(&key).unwrap().files)
    }
}

fn partial(files: &SavedFiles) -> Intervals {
    let partial = files.partial.get(&0).cloned();
    partial.unwrap_or_default().bytes
}

#[test]
fn what_could_not_be_synced_is_not_vouched_for_by_the_next_sync() {
    let mut desk = Desk::new();
    desk.append(&[wrote(1, 0, 10)]);
    desk.serve(&[]);
    let complete = Change::Complete(1, crate::base::clock::Timestamp(0), Box::default());
    desk.append(&[wrote(1, 10, 20), Change::Done(1, 0), Change::Done(1, 1)]);
    desk.append(&[complete]);
    desk.disks.fall_ill(&desk.roots[0]);
    desk.serve(&[]);
    // The disk says that all is well again.
    desk.serve(&[]);
    for boot in ["one", "another"] {
        let [files, _] = desk.files(boot);
        assert_eq!(partial(&files), bytes(10), "what was synced before stays");
        assert_eq!(files.done, Intervals::default(), "after a start in {boot}");
        assert!(files.unsettled, "names may be there that count no more");
    }
    let saved = desk.syncer.store.current();
    assert_eq!(saved.downloads[&1].state, State::Transferring);
}

#[test]
fn a_download_with_a_sick_disk_keeps_nobody_elses_progress_from_being_saved() {
    let mut desk = Desk::new();
    desk.append(&[wrote(1, 0, 10), wrote(2, 0, 10)]);
    desk.disks.fall_ill(&desk.roots[0]);
    desk.serve(&[]);
    let [_, well] = desk.files("another");
    assert_eq!(partial(&well), bytes(10));
    assert!(!desk.files("one")[1].unsettled);
}

#[test]
fn what_is_reported_until_the_download_rests_is_taken_back_too() {
    let mut desk = Desk::new();
    desk.append(&[wrote(1, 0, 10)]);
    desk.disks.fall_ill(&desk.roots[0]);
    desk.serve(&[]);
    desk.append(&[wrote(1, 10, 20), wrote(2, 0, 10)]);
    desk.serve(&[]);
    let [files, well] = desk.files("one");
    assert_eq!(partial(&files), Intervals::default());
    assert_eq!(partial(&well), bytes(10));
}

#[test]
fn a_loss_is_told_once_and_settled_when_the_download_rests() {
    let mut desk = Desk::new();
    desk.append(&[wrote(1, 0, 10)]);
    desk.serve(&[]);
    desk.append(&[wrote(1, 10, 20)]);
    desk.disks.fall_ill(&desk.roots[0]);
    desk.disks.fall_ill(&desk.roots[0]);
    desk.serve(&[]);
    desk.serve(&[]);
    let Loss::Found(1, problem) = desk.losses.try_recv().unwrap() else {
        panic!("it is to stop first");
    };
    assert_eq!(problem.code, Code::DestinationUnwritable);
    assert!(problem.recoverable);
    assert!(problem.message.contains("is sick"), "{}", problem.message);
    assert!(desk.losses.is_empty(), "it does not rest yet");
    desk.append(&[wrote(1, 20, 30)]);
    desk.serve(&[1]);
    let Loss::Settled(1, Some(left)) = desk.losses.try_recv().unwrap() else {
        panic!("once is enough");
    };
    assert_eq!(left.partial[&0].bytes, bytes(10));
    assert!(left.unsettled);
    // From here on it counts again.
    desk.append(&[wrote(1, 10, 20)]);
    desk.serve(&[1]);
    assert!(desk.losses.is_empty());
    assert_eq!(partial(&desk.files("another")[0]), bytes(20));
}

#[test]
fn a_loss_of_a_download_that_is_gone_is_settled_too() {
    let mut desk = Desk::new();
    desk.disks.fall_ill(&desk.roots[0]);
    desk.serve(&[]);
    desk.append(&[Change::Gone(vec![1])]);
    desk.serve(&[1]);
    let told: Vec<Loss> = desk.losses.try_iter().collect();
    assert!(matches!(
        told[..],
        [Loss::Found(1, _), Loss::Settled(1, None)]
    ));
}

#[test]
fn what_is_lost_last_is_taken_back_at_the_end() {
    let mut desk = Desk::new();
    desk.disks.fall_ill(&desk.roots[0]);
    desk.serve(&[]);
    desk.append(&[wrote(1, 0, 10)]);
    let (_, requests) = unbounded();
    desk.syncer.disks = Arc::new(SystemDisks);
    let lost = desk.syncer.work(requests);
    assert_eq!(lost.into_keys().collect::<Vec<_>>(), [1]);
    assert_eq!(partial(&desk.files("one")[0]), Intervals::default());
}

#[test]
fn what_a_killed_process_left_is_synced_before_it_counts() {
    let mut desk = Desk::new();
    desk.append(&[wrote(1, 0, 10), wrote(2, 0, 10)]);
    desk.disks.fall_ill(&desk.roots[0]);
    let (requests_out, requests) = unbounded();
    let request = SyncRequest {
        mark: desk.syncer.store.mark(),
        roots: Vec::new(),
        rested: Vec::new(),
    };
    requests_out.send(request).unwrap();
    drop(requests_out);
    desk.syncer.work(requests);
    assert!(matches!(desk.losses.try_recv(), Ok(Loss::Found(1, _))));
    let [sick, well] = desk.files("another");
    assert_eq!(partial(&sick), Intervals::default());
    assert_eq!(partial(&well), bytes(10));
}

#[test]
fn a_request_vouches_only_for_what_was_written_before_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open_in_boot(dir.path(), "one").unwrap();
    let store = Arc::new(store);
    let wrote = |file| Change::Wrote(1, file, 0, 10);
    store.append(&[wrote(0)]).unwrap();
    let mark = store.mark();
    let (requests, received) = crossbeam_channel::bounded(1);
    requests
        .send(SyncRequest {
            mark,
            roots: Vec::new(),
            rested: Vec::new(),
        })
        .unwrap();
    // Perhaps somewhere else, which nobody is asked to sync yet.
    store.append(&[wrote(1)]).unwrap();
    let (losses, _) = unbounded();
    let syncer = start(store.clone(), Arc::new(SystemDisks), received, losses).unwrap();
    drop(requests);
    syncer.join().unwrap();
    let waits = store.unsynced();
    assert!(
        matches!(waits[..], [Change::Wrote(1, 1, 0, 10)]),
        "{waits:?}"
    );
}
