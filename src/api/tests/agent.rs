//! An agent without transfers: a board, and answers that a test sets.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::agent::{Agent, AgentStats, Deleted, Inspected, Refusal, Which};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::model::board::Board;
use crate::model::download::{Download, View};
use crate::model::link::Link;
use crate::model::request::DownloadRequest;
use crate::model::schedule::Rate;
use crate::model::settings::{Defaults, Settings, SettingsOverrides};
use crate::model::state::State;
use crate::model::table::{NewFile, ROOT, TableBuilder};
use crate::upstream::Package;

#[derive(Default)]
pub struct FakeAgent {
    board: Board,
    /// What the next calls are refused with.
    pub refusal: Mutex<Option<Refusal>>,
    pub orders: Mutex<Vec<DownloadRequest>>,
    pub deletions: Mutex<Vec<(Which, bool)>>,
    pub said: Mutex<SettingsOverrides>,
    /// Whether calls that change something panic.
    pub panics: AtomicBool,
    /// Whether the state directory refuses writes.
    pub unwritable: AtomicBool,
    /// While true, calls that change something wait.
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    holding: bool,
    waiting: usize,
}

pub fn download(number: u32, state: State) -> Download {
    let link = Link {
        public: "https://get.massive.app/L1".into(),
        api: "https://api.massive.app/v1".into(),
        id: "L1".into(),
        secret: Secret::new("s3cret"),
    };
    let order = DownloadRequest {
        link,
        password: Some(Secret::new("passw0rd")),
        dst_folder: "/in".into(),
        if_exists: Default::default(),
        location: None,
        options: Default::default(),
    };
    let view = View {
        state,
        name: None,
        package_id: None,
        completed_at: None,
        problem: None,
        priority: 0,
    };
    Download::new(format!("01{number:08}"), number, order, Timestamp(0), view)
}

/// Gives a download that many files.
pub fn fill(download: &Download, files: u32) {
    let mut builder = TableBuilder::default();
    for number in 0..files {
        let file = NewFile {
            id: format!("f{number}"),
            dir: ROOT,
            name: format!("name {number}"),
            size: 10,
            mtime: None,
            original: None,
            part: None,
            skip: None,
            slice: None,
        };
        builder.file(file).unwrap();
    }
    download.set_table(Arc::new(builder.finish()));
}

impl FakeAgent {
    pub fn publish(&self, downloads: impl IntoIterator<Item = Download>) {
        self.board
            .publish(downloads.into_iter().map(Arc::new).collect());
    }

    pub fn all(&self) -> Arc<Vec<Arc<Download>>> {
        self.board.all()
    }

    pub fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock().unwrap() = Some(refusal);
    }

    /// Makes calls that change something wait until [`FakeAgent::release`].
    pub fn hold(&self) {
        self.held.lock().unwrap().holding = true;
    }

    pub fn release(&self) {
        self.held.lock().unwrap().holding = false;
        self.changed.notify_all();
    }

    /// Waits until that many calls are held.
    pub fn await_held(&self, count: usize) {
        let held = self.held.lock().unwrap();
        drop(
            self.changed
                .wait_while(held, |held| held.waiting < count)
                .unwrap(),
        );
    }

    fn begin(&self) -> Result<(), Refusal> {
        assert!(!self.panics.load(Ordering::SeqCst), "on purpose");
        let mut held = self.held.lock().unwrap();
        held.waiting += 1;
        self.changed.notify_all();
        let mut held = self.changed.wait_while(held, |held| held.holding).unwrap();
        held.waiting -= 1;
        drop(held);
        self.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn find(&self, id: &str) -> Result<Arc<Download>, Refusal> {
        self.board.find(id).ok_or(Refusal::DownloadNotFound)
    }
}

impl Agent for FakeAgent {
    fn board(&self) -> &Board {
        &self.board
    }

    fn stats(&self) -> AgentStats {
        AgentStats {
            workers: 4,
            workers_busy: 1,
            bytes_received: 1 << 40,
            journal_bytes: 300,
            state_writable: !self.unwritable.load(Ordering::SeqCst),
        }
    }

    fn create(&self, order: DownloadRequest) -> Result<Arc<Download>, Refusal> {
        self.begin()?;
        self.orders.lock().unwrap().push(order);
        Ok(Arc::new(download(7, State::Transferring)))
    }

    fn pause(&self, id: &str) -> Result<Arc<Download>, Refusal> {
        self.begin()?;
        let download = self.find(id)?;
        download.update(|view| view.state = State::Paused);
        Ok(download)
    }

    fn verify(&self, id: &str) -> Result<Arc<Download>, Refusal> {
        self.begin()?;
        self.find(id)
    }

    fn resume(&self, id: &str) -> Result<Arc<Download>, Refusal> {
        self.begin()?;
        let download = self.find(id)?;
        download.update(|view| view.state = State::Transferring);
        Ok(download)
    }

    fn change_all(&self, from: &[State], to: State) -> Result<Vec<String>, Refusal> {
        self.begin()?;
        let all = self.board.all();
        let some = all.iter().filter(|one| from.contains(&one.state()));
        Ok(some
            .map(|one| {
                one.update(|view| view.state = to);
                one.id.clone()
            })
            .collect())
    }

    fn set_priority(&self, id: &str, priority: i32) -> Result<Arc<Download>, Refusal> {
        self.begin()?;
        let download = self.find(id)?;
        download.update(|view| view.priority = priority);
        Ok(download)
    }

    fn inspect(
        &self,
        _: &Link,
        _: Option<&Secret>,
        entry: &mut dyn FnMut(Inspected) -> bool,
    ) -> Result<(), Refusal> {
        self.begin()?;
        entry(Inspected::Package(Package {
            package_id: "P".into(),
            name: None,
            token: None,
            expires_at: None,
        }));
        Ok(())
    }

    fn delete(&self, which: Which, remove_files: bool) -> Result<Deleted, Refusal> {
        self.begin()?;
        if let Which::One(id) = &which {
            self.find(id)?;
        }
        self.deletions.lock().unwrap().push((which, remove_files));
        Ok(Deleted {
            deleted: vec!["01A".into()],
            files_removed: 3,
            files_left: Vec::new(),
        })
    }

    fn settings(&self) -> Settings {
        let defaults = Defaults {
            rate_limit: Rate(None),
            workers: 16,
            verify_rate: Rate(None),
            verify_every_days: None,
        };
        Settings::new(&self.said.lock().unwrap(), defaults, Timestamp(0))
    }

    fn change_settings(&self, said: SettingsOverrides) -> Result<Settings, Refusal> {
        self.begin()?;
        let mut before = self.said.lock().unwrap();
        *before = before.and(said);
        drop(before);
        Ok(self.settings())
    }
}
