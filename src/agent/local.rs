//! The agent as the API sees it: checks what needs the network or the disk on the caller's own
//! thread, and asks the controller for the rest.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use crate::agent::claims::Claims;
use crate::agent::live_settings::LiveSettings;
use crate::agent::messages::{Command, NewDownload, Prepared};
use crate::agent::restore;
use crate::agent::verifications::Verifications;
use crate::agent::{Agent, AgentStats, Deleted, Inspected, Refusal, Which};
use crate::base::clock;
use crate::base::secret::Secret;
use crate::dest::Owner;
use crate::dest::{self, Root};
use crate::model::board::Board;
use crate::model::download::{Download, View};
use crate::model::link::Link;
use crate::model::record::Event;
use crate::model::request::DownloadRequest;
use crate::model::settings::{Settings, SettingsOverrides};
use crate::model::state::State;
use crate::model::table::FileTable;
use crate::store::Store;
use crate::store::saved::{Change, Saved, SavedDownload, SavedFiles};
use crate::transfer::WorkerContext;
use crate::upstream::{Fault, Package, Place, Watch};

/// A POST answers within this time, whatever the link's server does.
const CHECK: Duration = Duration::from_millis(9_500);

/// The running engine, for the API and for `haul get`.
pub struct LocalAgent {
    pub board: Arc<Board>,
    pub store: Arc<Store<Saved>>,
    pub context: Arc<WorkerContext>,
    pub commands: Sender<Command>,
    pub live_settings: Arc<LiveSettings>,
    pub claims: Arc<Claims>,
    pub verifications: Arc<Verifications>,
    /// Set when the agent stops: no POST waits for its link any longer.
    pub stopping: Arc<AtomicBool>,
}

impl LocalAgent {
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<T, Refusal> {
        let (reply, answer) = bounded(1);
        self.commands
            .send(command(reply))
            .map_err(|_| Refusal::ShuttingDown)?;
        answer.recv().map_err(|_| Refusal::ShuttingDown)
    }

    fn change_state(&self, id: &str, state: State) -> Result<Arc<Download>, Refusal> {
        let prepared = self.ask(|reply| Command::PrepareState {
            id: id.to_owned(),
            state,
            reply,
        })??;
        let (key, change) = match prepared {
            Prepared::Already(download) => return Ok(download),
            Prepared::Commit(key, change) => (key, change),
        };
        let saved = self.store.commit(&[change]);
        let committed = saved.is_ok();
        let applied = self.ask(|reply| Command::ApplyState {
            key,
            state,
            committed,
            reply,
        })?;
        saved.map_err(|error| Refusal::StateUnwritable(error.to_string()))?;
        applied
    }

    /// Asks what the link leads to. What may pass by itself is no refusal: it is what the download
    /// begins with.
    fn check_link(&self, order: &DownloadRequest) -> Result<Result<Package, Event>, Refusal> {
        let watch = Watch {
            stop: self.stopping.clone(),
            deadline: Some(Instant::now() + CHECK),
            wanted: None,
        };
        match self
            .context
            .client
            .resolve(&order.link, order.password.as_ref(), &watch)
        {
            Ok(package) => Ok(Ok(package)),
            Err(Fault::Unauthorized) if order.password.is_none() => {
                Err(Refusal::LinkPasswordRequired)
            }
            Err(Fault::Unauthorized) => Err(Refusal::LinkPasswordWrong),
            Err(Fault::Forbidden(reason)) => Err(Refusal::LinkRefused(reason)),
            Err(Fault::Gone) => Err(Refusal::LinkExpired),
            Err(Fault::NotFound | Fault::Refused { .. }) => Err(Refusal::LinkNotFound),
            Err(Fault::Stopped) => Err(Refusal::ShuttingDown),
            Err(Fault::Transient {
                message,
                retry_after,
            }) => Ok(Err(not_begun(message, retry_after, false))),
            Err(Fault::Malformed(message)) => Ok(Err(not_begun(message, None, true))),
        }
    }
}

impl Agent for LocalAgent {
    fn board(&self) -> &Board {
        &self.board
    }

    fn stats(&self) -> AgentStats {
        let journal = self.store.journal_health();
        AgentStats {
            workers: self.settings().workers,
            workers_busy: self.context.slots.acquired(),
            bytes_received: self.context.meter.received(),
            journal_bytes: journal.bytes,
            state_writable: journal.writable,
        }
    }

    fn files(&self, download: &Download) -> Option<Arc<FileTable>> {
        restore::files(download, &self.store)
    }

    fn create(&self, mut order: DownloadRequest) -> Result<Arc<Download>, Refusal> {
        let invalid = |error: dest::DestError| Refusal::InvalidDestination(error.to_string());
        let folder = Root::validate(&order.dst_folder).map_err(invalid)?;
        if let Some(text) = folder.to_str() {
            order.dst_folder = text.to_owned();
        }
        order.options.default_to(&self.settings());
        // Told before the server is asked; the controller looks again when the answer is there.
        let duplicate = self
            .board
            .all()
            .iter()
            .find(|other| is_duplicate(other, &order))
            .cloned();
        if let Some(duplicate) = duplicate {
            return Err(Refusal::Duplicate {
                download_id: duplicate.id.clone(),
            });
        }
        let (root, mut claim) = self.claims.make(&folder).map_err(invalid)?;
        order.location = Some(root.location());
        let owner = Owner::of(&order.options);
        root.check_owner(owner).map_err(Refusal::Impossible)?;
        let (package, fault) = match self.check_link(&order)? {
            Ok(package) => (Some(package), None),
            Err(fault) => (None, Some(fault)),
        };
        let wanted = Box::new(order.clone());
        let (key, id) = self.ask(|reply| Command::PrepareCreate {
            order: wanted,
            reply,
        })??;
        let new = new_download(key, id, order, &root, claim.take_over(), package);
        if let Err(error) = Root::give_made(&new.made, owner) {
            log::warn!("download {}: {error}", new.download.id);
        }
        let change = Change::Created(key, Box::new(saved(&new)));
        let committed = self.store.commit(&[change]);
        let download = new.download.clone();
        let kept = committed.is_ok().then(|| Box::new(new));
        self.ask(|reply| Command::ApplyCreate {
            key,
            new: kept,
            fault,
            reply,
        })?;
        committed.map_err(|error| Refusal::StateUnwritable(error.to_string()))?;
        claim.keep();
        Ok(download)
    }

    fn pause(&self, id: &str) -> Result<Arc<Download>, Refusal> {
        if let Some(download) = self.board.find(id)
            && self.verifications.pause(&download)?
        {
            return Ok(download);
        }
        self.change_state(id, State::Paused)
    }

    fn resume(&self, id: &str) -> Result<Arc<Download>, Refusal> {
        if let Some(download) = self.board.find(id)
            && self.verifications.resume(&download)?
        {
            return Ok(download);
        }
        self.change_state(id, State::Transferring)
    }

    fn change_all(&self, from: &[State], to: State) -> Result<Vec<String>, Refusal> {
        let keys = self.ask(|reply| Command::PrepareStates {
            from: from.to_vec(),
            state: to,
            reply,
        })?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let saved = self.store.commit(&[Change::States(keys.clone(), to)]);
        let committed = saved.is_ok();
        let changed = self.ask(|reply| Command::ApplyStates {
            keys,
            state: to,
            committed,
            reply,
        })?;
        saved.map_err(|error| Refusal::StateUnwritable(error.to_string()))?;
        Ok(changed)
    }

    fn verify(&self, id: &str) -> Result<Arc<Download>, Refusal> {
        let download = self.board.find(id).ok_or(Refusal::DownloadNotFound)?;
        self.verifications.begin(&download)?;
        Ok(download)
    }

    fn set_priority(&self, id: &str, priority: i32) -> Result<Arc<Download>, Refusal> {
        let id = id.to_owned();
        let key = self.ask(|reply| Command::PreparePriority { id, reply })??;
        let saved = self.store.commit(&[Change::Priority(key, priority)]);
        let applied = self.ask(|reply| Command::ApplyPriority {
            key,
            priority: saved.is_ok().then_some(priority),
            reply,
        })?;
        saved.map_err(|error| Refusal::StateUnwritable(error.to_string()))?;
        applied
    }

    fn inspect(
        &self,
        link: &Link,
        password: Option<&Secret>,
        entry: &mut dyn FnMut(Inspected) -> bool,
    ) -> Result<(), Refusal> {
        let client = &self.context.client;
        let mut watch = Watch {
            stop: self.stopping.clone(),
            deadline: Some(Instant::now() + CHECK),
            ..Watch::default()
        };
        let refusal = |fault| refusal(fault, password.is_some());
        let package = client.resolve(link, password, &watch).map_err(refusal)?;
        if !entry(Inspected::Package(package.clone())) {
            return Ok(());
        }
        let none = Secret::new("");
        let place = Place {
            api: &link.api,
            package_id: &package.package_id,
            token: package.token.as_ref().unwrap_or(&none),
        };
        watch.deadline = None;
        let mut unread = false;
        let listed = client.list(&place, &watch, &mut |listed| {
            unread = !entry(Inspected::Entry(listed));
            match unread {
                true => Err("nobody reads it any more".into()),
                false => Ok(()),
            }
        });
        match listed {
            _ if unread => Ok(()),
            Err(Fault::Unauthorized) => Err(unavailable(
                "the server refuses the list of files, also with a fresh token".into(),
                None,
            )),
            Err(Fault::Forbidden(reason)) => Err(unavailable(
                format!("the server refuses the list of files, also with a fresh token: {reason}"),
                None,
            )),
            Err(Fault::Refused(answer)) => Err(unavailable(
                format!("the server refuses the list of files ({answer})"),
                None,
            )),
            result => result.map_err(refusal),
        }
    }

    fn delete(&self, which: Which, remove_files: bool) -> Result<Deleted, Refusal> {
        let keys = self.ask(|reply| Command::PrepareDelete { which, reply })??;
        let committed = match keys.is_empty() {
            true => Ok(()),
            false => self
                .store
                .commit(&[Change::Deleting(keys.clone(), remove_files)]),
        };
        let go = committed.is_ok().then_some(remove_files);
        let deleted = self.ask(|reply| Command::ApplyDelete {
            keys,
            remove_files: go,
            reply,
        });
        committed.map_err(|error| Refusal::StateUnwritable(error.to_string()))?;
        deleted
    }

    fn settings(&self) -> Settings {
        self.live_settings.settings()
    }

    fn change_settings(&self, said: SettingsOverrides) -> Result<Settings, Refusal> {
        self.live_settings
            .change(said)
            .map_err(|error| Refusal::StateUnwritable(error.to_string()))
    }
}

fn unavailable(message: String, retry_after: Option<Duration>) -> Refusal {
    Refusal::UpstreamUnavailable {
        message,
        retry_after,
    }
}

/// What a fault means to who asks what a link leads to.
fn refusal(fault: Fault, has_password: bool) -> Refusal {
    match fault {
        Fault::Forbidden(reason) => Refusal::LinkRefused(reason),
        Fault::Unauthorized if has_password => Refusal::LinkPasswordWrong,
        Fault::Unauthorized => Refusal::LinkPasswordRequired,
        Fault::Gone => Refusal::LinkExpired,
        Fault::NotFound | Fault::Refused { .. } => Refusal::LinkNotFound,
        Fault::Stopped => Refusal::ShuttingDown,
        Fault::Transient {
            message,
            retry_after,
        } => unavailable(message, retry_after),
        Fault::Malformed(message) => unavailable(message, None),
    }
}

fn not_begun(message: String, retry_after: Option<Duration>, malformed: bool) -> Event {
    log::warn!("the link cannot be read yet, and is tried again: {message}");
    Event::NotBegun {
        message,
        retry_after,
        malformed,
    }
}

fn is_duplicate(other: &Download, order: &DownloadRequest) -> bool {
    matches!(other.state(), State::Transferring | State::Paused) && other.order.same_target(order)
}

fn new_download(
    key: u32,
    id: String,
    order: DownloadRequest,
    root: &Root,
    made: &[PathBuf],
    package: Option<Package>,
) -> NewDownload {
    let view = View {
        state: State::Transferring,
        name: package.as_ref().and_then(|package| package.name.clone()),
        package_id: package.as_ref().map(|package| package.package_id.clone()),
        completed_at: None,
        problem: None,
        priority: order.options.priority,
    };
    let download = Arc::new(Download::new(id, key, order, clock::now(), view));
    download.set_bytes_free(root.bytes_free());
    NewDownload {
        download,
        identity: root.identity(),
        made: made.to_vec(),
        package,
    }
}

fn saved(new: &NewDownload) -> SavedDownload {
    let view = new.download.view();
    SavedDownload {
        id: new.download.id.clone(),
        order: new.download.order.clone(),
        created_at: new.download.created_at,
        identity: new.identity,
        made: new
            .made
            .iter()
            .filter_map(|path| path.to_str().map(str::to_owned))
            .collect(),
        state: view.state,
        name: view.name,
        package_id: view.package_id,
        token: new
            .package
            .as_ref()
            .and_then(|package| package.token.clone()),
        completed_at: None,
        counts: None,
        problem: None,
        listed: false,
        deleting: None,
        manifest_file: None,
        verification: None,
        verified_to: None,
        files: SavedFiles::default(),
    }
}
