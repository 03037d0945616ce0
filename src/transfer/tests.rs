//! What the journal is told of a file's bytes, and in which order.

use super::*;
use crate::base::intervals::Intervals;
use crate::model::download::Download;
use crate::model::table::{NewFile, ROOT, TableBuilder};
use crate::store::saved::Partial;
use crate::upstream::Options;
use crate::upstream::session::Session;

const SIZE: u64 = 1000;
const KEY: u32 = 1;
const CREATED: &str = r#"{"created":[1,{"id":"D","order":{"link":{"public":"http://h/A","api":"http://h","id":"A","secret":"s"},"dst_folder":"/in"},"created_at":"2026-11-23T10:00:00Z","identity":{"dev":1,"ino":2,"fsid":3,"kind":4},"state":"transferring"}]}"#;

/// A download of one file, of which a job was given out.
struct Desk {
    dir: tempfile::TempDir,
    context: WorkerContext,
    job: Job,
}

impl Desk {
    fn new() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(dir.path(), "boot").unwrap();
        store
            .append(&[serde_json::from_str(CREATED).unwrap()])
            .unwrap();
        let context = WorkerContext {
            client: Client::new(Options::default()).unwrap(),
            store: Arc::new(store),
            meter: Arc::default(),
            limit: Arc::default(),
            slots: Arc::new(WorkerSlots::new(1)),
            waiting: Arc::default(),
            keeps_hashes: true,
        };
        let mut table = TableBuilder::default();
        let file = NewFile {
            id: "F1".into(),
            dir: ROOT,
            name: "a".into(),
            size: SIZE,
            mtime: None,
            original: None,
            part: None,
            skip: None,
            slice: None,
        };
        table.file(file).unwrap();
        let session = Session::new(None);
        let run = Run::new(
            Arc::new(Download::sample()),
            Arc::new(session),
            Arc::default(),
        );
        let file = OpenFile::new(0, SIZE, Partial::default(), false, None);
        let job = Job::new(Arc::new(run), Arc::new(table.finish()), file.into(), None);
        Desk { dir, context, job }
    }

    /// So many bytes of the next range come.
    fn write(&self, bytes: u64, etag: &str) {
        let range = self.job.file.take(1).unwrap();
        assert_eq!(range.claim(bytes), bytes);
        assert!(range.wrote(|| ()));
        self.job.file.progress().etag = Some(etag.into());
        self.job.file.put_back(&range);
    }

    fn report(&self) {
        let file = std::iter::once((KEY, &*self.job.file));
        report(file, |news| self.context.store.queue(news)).unwrap();
    }

    /// What a process that is started after a kill makes of it.
    fn remembered(self) -> Partial {
        drop(self.context);
        let (_, saved) = Store::<Saved>::open_in_boot(self.dir.path(), "boot").unwrap();
        let files = &saved.downloads[&KEY].files;
        files.partial.get(&0).cloned().unwrap_or_default()
    }
}

fn bytes(end: u64) -> Intervals {
    [(0, end)].into_iter().collect()
}

#[test]
fn bytes_that_are_taken_back_while_they_are_being_saved_count_no_more() {
    let desk = Desk::new();
    desk.write(600, "old");
    let Desk { context, job, .. } = &desk;
    let range = job.file.take(1).unwrap();
    std::thread::scope(|scope| {
        report(std::iter::once((KEY, &*job.file)), |news| {
            // Whoever could take them back now does so before they are saved.
            let free = job.file.progress.try_lock().is_ok();
            let worker = scope.spawn(|| job.changed(&range, "it is another file now", context));
            if free {
                worker.join().unwrap();
            }
            context.store.queue(news)
        })
        .unwrap();
    });
    desk.write(100, "new");
    desk.report();
    let remembered = desk.remembered();
    assert_eq!(remembered.etag.as_deref(), Some("new"));
    assert_eq!(remembered.bytes, bytes(100), "none of the old ones");
}

#[test]
fn bytes_that_the_part_has_lost_are_not_reported_afterwards() {
    let desk = Desk::new();
    desk.write(600, "tag");
    desk.job.keep_only(&bytes(200), &desk.context).unwrap_err();
    desk.report();
    let remembered = desk.remembered();
    assert_eq!(remembered.etag.as_deref(), Some("tag"));
    assert_eq!(remembered.bytes, bytes(200));
}

#[test]
fn bytes_after_a_start_over_come_with_their_tag_again() {
    let desk = Desk::new();
    desk.write(600, "tag");
    desk.report();
    desk.job.start_over(&mut desk.job.file.progress());
    desk.job.journal_reset(&desk.context).unwrap();
    desk.write(100, "tag");
    desk.report();
    let remembered = desk.remembered();
    assert_eq!(remembered.etag.as_deref(), Some("tag"));
    assert_eq!(remembered.bytes, bytes(100));
}

#[test]
fn a_start_over_is_owed_from_the_moment_at_which_others_can_take_the_bytes() {
    let desk = Desk::new();
    desk.write(600, "old");
    desk.job.start_over(&mut desk.job.file.progress());
    assert!(
        desk.job.file.progress().owes_void,
        "before the lock is free"
    );
    desk.job.journal_reset(&desk.context).unwrap();
    desk.write(100, "new");
    desk.report();
    // The one who started it over comes late: somebody else has settled it.
    desk.job.journal_reset(&desk.context).unwrap();
    assert_eq!(desk.remembered().bytes, bytes(100));
}
