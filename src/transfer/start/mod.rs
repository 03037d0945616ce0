//! The start of a run: open the destination, read link and listing, plan and make the tree, or,
//! after a start of the agent, find out what the last process left unfinished.

mod settle;
mod survey;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::base::display::clean;
use crate::base::in_parallel::{self, Work};
use crate::base::keyed_locks::KeyedLocks;
use crate::base::locks;
use crate::dest::paths;
use crate::dest::plan::{EmptyDisk, PlanError, Planner, RootDisk};
use crate::dest::{DestError, Identity, Root, Traits};
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::listing::Listed;
use crate::model::problem::{Code, Problem};
use crate::model::request::{IfExists, RequestOptions};
use crate::model::selection::Chooser;
use crate::model::shard::Shard;
use crate::model::state::State;
use crate::model::table::{FileState, FileTable, ROOT};
use crate::store::StoreError;
use crate::store::saved::{Change, PackageName, Partial};
use crate::transfer::receipts::{SUFFIX, stem_of_part};
use crate::transfer::run::Run;
use crate::transfer::{WorkerContext, manifest, space};
use crate::upstream::session::SessionFault;
use crate::upstream::{Fault, Package};

/// Plans on one disk are made one after the other, so that each sees the names and the space that
/// the ones before it took. Another disk, which may hang, holds nobody up.
static PLANNING: KeyedLocks<u64> = KeyedLocks::new();

/// What a run begins with.
pub struct StartRequest {
    pub run: Arc<Run>,
    pub identity: Identity,
    /// The download goes on after a start: its files' state on disk is not known for certain.
    pub restarted: bool,
    /// So much so that a begun file may have its final name although its bytes are not all there.
    pub unsettled: bool,
}

/// A run that has begun.
pub struct Start {
    pub table: Arc<FileTable>,
    /// Complete files that could not be given their name: each is left to a job, which ends as any
    /// other does.
    pub unnamed: Vec<u32>,
    /// Where nodes share the folder, what they have on disk of files that this one is to bring.
    pub told: Option<BTreeMap<u32, Partial>>,
}

/// Why a run did not begin.
pub enum StartError {
    Stopped,
    /// To be tried again.
    Fault {
        message: String,
        retry_after: Option<Duration>,
        malformed: bool,
    },
    Broken(Problem),
}

impl StartError {
    /// What will do when it is tried again.
    fn passing(message: String) -> StartError {
        StartError::Fault {
            message,
            retry_after: None,
            malformed: false,
        }
    }

    /// The outcome of a panic on the way.
    pub fn panicked() -> StartError {
        broken(
            Code::InternalError,
            "haul itself failed on this package; resume to try again, and please report it".into(),
        )
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> StartError {
        StartError::passing(error.to_string())
    }
}

impl From<DestError> for StartError {
    fn from(error: DestError) -> StartError {
        if let DestError::Short(message) = error {
            return StartError::passing(message);
        }
        broken(error.code(), error.to_string())
    }
}

fn broken(code: Code, message: String) -> StartError {
    StartError::Broken(Problem {
        code,
        message,
        recoverable: true,
        retry_at: None,
    })
}

/// There is nothing to be downloaded, and that stays so.
fn gone(code: Code, message: &str) -> StartError {
    StartError::Broken(Problem {
        code,
        message: message.into(),
        recoverable: false,
        retry_at: None,
    })
}

impl From<SessionFault> for StartError {
    fn from(fault: SessionFault) -> StartError {
        let malformed = |message: String| StartError::Fault {
            message,
            retry_after: None,
            malformed: true,
        };
        match fault {
            SessionFault::Link(problem) => StartError::Broken(problem),
            SessionFault::Call(Fault::Stopped) => StartError::Stopped,
            SessionFault::Call(Fault::Transient {
                message,
                retry_after,
            }) => StartError::Fault {
                message,
                retry_after,
                malformed: false,
            },
            SessionFault::Call(Fault::Malformed(message)) => malformed(message),
            SessionFault::Call(Fault::Unauthorized) => {
                malformed("the server refuses the list of files, also with a fresh token".into())
            }
            SessionFault::Call(Fault::Forbidden(reason)) => malformed(format!(
                "the server refuses the list of files, also with a fresh token: {reason}"
            )),
            SessionFault::Call(Fault::NotFound) => gone(
                Code::LinkNotFound,
                "the link leads to a package that the server does not have; ask the sender for a \
                 new link",
            ),
            SessionFault::Call(Fault::Gone) => gone(
                Code::LinkExpired,
                "the link leads to a package that has expired or was deleted; ask the sender for a \
                 new link",
            ),
            SessionFault::Call(Fault::Refused(answer)) => {
                malformed(format!("the server refuses the list of files ({answer})"))
            }
        }
    }
}

/// Begins a run. On return the download has its file table, its folders are made, and every file
/// whose bytes are in place has its name or is among [`Start::unnamed`].
///
/// # Errors
/// See [`StartError`].
pub fn begin(
    request: &StartRequest,
    context: &WorkerContext,
    board: &Board,
) -> Result<Start, StartError> {
    let run = &request.run;
    let call = run.disk.enter();
    let root = run.open_root(&request.identity)?.clone();
    run.check_destination(&root)?;
    drop(call);
    let table = match run.download.table() {
        Some(table) => table,
        None => list(run, &root, context, board)?,
    };
    {
        let planning = PLANNING.of(root.identity().device());
        let _one_at_a_time = locks::lock(&planning);
        space::check(run, &root, &table, board).map_err(StartError::Broken)?;
    }
    make_folders(run, &root, &table)?;
    let told = match run.download.order.options.shard {
        Some(_) => Some(survey::survey(run, &root, &table, context)?),
        None => None,
    };
    let unnamed = match request.restarted {
        true => settle::settle(request, &root, &table, context)?,
        false => Vec::new(),
    };
    // The last process may have ended between the last file and its list.
    if unnamed.is_empty() {
        manifest::write_or_log(run, &table, context);
    }
    Ok(Start {
        table,
        unnamed,
        told,
    })
}

fn list(
    run: &Run,
    root: &Root,
    context: &WorkerContext,
    board: &Board,
) -> Result<Arc<FileTable>, StartError> {
    let download = &run.download;
    let package = run
        .session
        .package(&context.client, &download.order, &run.watch())?;
    show_package(download, &package, context)?;
    let unusable = |error: PlanError| broken(Code::ProtocolError, error.to_string());
    let mut reading = Reading::new(download, &package, root).map_err(unusable)?;
    run.session
        .call(&context.client, &download.order, &run.watch(), |place| {
            reading = Reading::new(download, &package, root)
                .map_err(|error| Fault::Malformed(error.to_string()))?;
            context.client.list(place, &run.watch(), &mut |listed| {
                reading.add(listed).map_err(|error| error.to_string())
            })
        })?;
    context.keep_token(run)?;
    let planner = reading.finish(&download.order.options)?;
    let table = match download.order.options.shard {
        Some(shard) => share(planner, shard, &package.package_id, root.traits()),
        None => plan(planner, run, root, board),
    };
    let table = Arc::new(table.map_err(unusable)?);
    let saved = context
        .store
        .write_side(&side_name(&download.id), &mut |out| {
            table.save(out).map_err(std::io::Error::other)
        })
        .and_then(|()| context.store.commit(&[Change::Listed(download.key)]));
    saved?;
    download.set_table(table.clone());
    Ok(table)
}

/// The files under names that nothing on the disk and no other download has.
fn plan(planner: Planner, run: &Run, root: &Root, board: &Board) -> Result<FileTable, PlanError> {
    let download = &run.download;
    let planning = PLANNING.of(root.identity().device());
    let _one_at_a_time = locks::lock(&planning);
    let call = run.disk.enter();
    let disk = RootDisk::new(root, reserved(download, board), || call.goes_on());
    planner.finish(&disk, download.order.if_exists)
}

/// One shard of the files, under names that every node finds for them.
fn share(
    planner: Planner,
    shard: Shard,
    package_id: &str,
    traits: Traits,
) -> Result<FileTable, PlanError> {
    let all = planner.finish(&EmptyDisk, IfExists::Overwrite)?;
    let odd = odd_names(&all);
    let part_name = |file: u32| {
        let name = all.names(file).last;
        let mut what = format!("{package_id}\0{}\0{}", all.id(file), all.size(file));
        loop {
            let part = paths::shared_part_name(&name, &what, traits);
            let near = (all.dir_of(file), stem_of_part(&part).to_lowercase());
            let next = odd.range(near.clone()..).next();
            if next.is_none_or(|(dir, name)| *dir != near.0 || !name.starts_with(&near.1)) {
                return part;
            }
            what.push('\0');
        }
    };
    Ok(all.share(shard, part_name)?)
}

/// The files of a package whose names are like those that nodes give to what they share, each with
/// its folder. A sender could have chosen them.
fn odd_names(all: &FileTable) -> BTreeSet<(u32, String)> {
    let name = |file: u32| (all.dir_of(file), all.names(file).last.to_lowercase());
    let is_odd =
        |(_, name): &(u32, String)| [paths::PART, SUFFIX].iter().any(|end| name.ends_with(end));
    (0..all.len()).map(name).filter(is_odd).collect()
}

/// What a listing has been found to hold so far.
struct Reading {
    planner: Planner,
    chooser: Chooser,
    /// The first flagged file.
    flagged: Option<String>,
    chosen: bool,
}

impl Reading {
    fn new(download: &Download, package: &Package, root: &Root) -> Result<Reading, PlanError> {
        let options = &download.order.options;
        let planner = match options.create_package_folder {
            Some(true) => {
                let name = package.name.as_deref().unwrap_or_default();
                Planner::into_package_folder(root.traits(), name)?
            }
            _ => Planner::new(root.traits()),
        };
        // They were looked at when the download was asked for.
        let chooser = options
            .selection
            .compile()
            .map_err(|_| PlanError::Selection)?;
        Ok(Reading {
            planner,
            chooser,
            flagged: None,
            chosen: false,
        })
    }

    fn add(&mut self, listed: Listed) -> Result<(), PlanError> {
        if listed.virus && listed.kind == "file" && self.flagged.is_none() {
            self.flagged = Some(clean(&listed.full_path()));
        }
        if !self.chooser.wants(&listed) {
            return Ok(());
        }
        self.chosen = true;
        self.planner.add(listed)
    }

    /// The plan, where there is something that may be downloaded.
    fn finish(self, options: &RequestOptions) -> Result<Planner, StartError> {
        if options.bypass_package_quarantine == Some(false)
            && let Some(path) = self.flagged
        {
            let message = format!(
                "the sender's service found a virus in {path}, and a package with one is not to be \
                 downloaded; ask the sender, or download it with bypass_package_quarantine"
            );
            return Err(gone(Code::PackageQuarantined, &message));
        }
        if let Some(id) = self.chooser.first_missing(&options.selection) {
            let message = format!(
                "the package has no file with the identifier {}; look at what it has, and choose \
                 again",
                clean(paths::cut(id, 200))
            );
            return Err(gone(Code::FileNotFound, &message));
        }
        if !self.chosen && !options.selection.is_all() {
            return Err(gone(
                Code::NothingSelected,
                "no file of the package is chosen; look at what it has, and choose again",
            ));
        }
        Ok(self.planner)
    }
}

/// The name of the file beside `downloads.json` that holds a download's file list.
pub fn side_name(id: &str) -> String {
    format!("{id}.files")
}

fn show_package(
    download: &Download,
    package: &Package,
    context: &WorkerContext,
) -> Result<(), StartError> {
    if download.view().package_id.as_deref() == Some(&package.package_id) {
        return Ok(());
    }
    let called = PackageName {
        name: package.name.clone(),
        package_id: package.package_id.clone(),
    };
    context
        .store
        .append(&[Change::Named(download.key, Box::new(called))])?;
    download.update(|view| {
        view.name = package.name.clone();
        view.package_id = Some(package.package_id.clone());
    });
    Ok(())
}

/// The names, relative to this download's destination, that other unfinished downloads will put
/// files at.
fn reserved(download: &Download, board: &Board) -> HashSet<String> {
    let mut names = HashSet::new();
    for other in board
        .all()
        .iter()
        .filter(|other| other.id != download.id && other.state() != State::Complete)
    {
        let Some(table) = other.table() else { continue };
        if !other.order.overlaps(&download.order) {
            continue;
        }
        for file in (0..table.len()).filter(|&file| table.state(file) != FileState::Skipped) {
            let folder = table.dir_components(table.dir_of(file)).join("/");
            let file_names = table.names(file);
            for name in [file_names.last, file_names.part] {
                let path = Path::new(&folder).join(name);
                let here = other.order.relative_to(&download.order, &path);
                names.extend(here.and_then(|path| path.to_str().map(str::to_owned)));
            }
        }
    }
    names
}

fn make_folders(run: &Run, root: &Root, table: &FileTable) -> Result<(), StartError> {
    let mut has_children = vec![false; table.dirs().len()];
    for dir in table.dirs().iter().skip(1) {
        has_children[dir.parent as usize] = true;
    }
    // Making a folder makes those above it, so only the innermost ones need to be named.
    let innermost: Vec<u32> = (ROOT + 1..)
        .zip(&has_children[1..])
        .filter(|(_, parent)| !**parent)
        .map(|(dir, _)| dir)
        .collect();
    let failures = in_parallel::filter_map(innermost.len() as u32, Work::Short, &|index| {
        let _call = run.disk.enter();
        match root.folder(&table.dir_components(innermost[index as usize]), true) {
            // The error of each file in it, and of no other.
            Ok(_) | Err(DestError::Refused(_)) => None,
            Err(error) => Some(error),
        }
    });
    failures
        .into_iter()
        .next()
        .map_or(Ok(()), |error| Err(error.into()))
}
