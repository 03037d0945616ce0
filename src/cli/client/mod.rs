//! `haul ls`, `add`, `inspect`, `show`, `pause`, `resume`, `rm`, `wait`, `verify`, `settings` and
//! `health`: thin clients of a running agent's API, for people and scripts.

mod call;
mod folder;
mod show;
mod unix;
mod verify;
mod wait;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use self::call::{CallError, Server};
use self::show::Summary;
use crate::base::secret::Secret;
use crate::base::url::Url;
use crate::cli::get;
use crate::cli::human;
use crate::cli::{Ask, What};
use crate::model::request::{IfExists, RequestOptions};
use crate::model::state::State;

/// Characters of a whole identifier.
const WHOLE_ID: usize = 26;
/// How often an agent is asked at the most. One that cannot say by itself when something has
/// changed is asked so often.
const POLL: Duration = Duration::from_secs(1);

/// Asks, and prints the answer. Returns the exit code: 0, 1 for any failure, 2 for bad usage.
pub fn run(ask: &Ask) -> u8 {
    let result = Server::of(ask).and_then(|server| perform(&server, &ask.what));
    match result {
        Ok(exit) => exit,
        Err(error) => {
            complain(&error.to_string());
            match error {
                // A container's health is 0 or 1, and nothing else.
                CallError::Usage(_) if !matches!(ask.what, What::Health) => 2,
                // What the agent calls a bad request would have been bad usage here.
                CallError::Api { status: 400, .. } => 2,
                CallError::Usage(_) | CallError::Api { .. } | CallError::Server(_) => 1,
            }
        }
    }
}

fn complain(message: &str) {
    // Where stderr is gone, the exit code has to do.
    let _ = writeln!(io::stderr(), "haul: {}", human::clean(message));
}

fn perform(server: &Server, what: &What) -> Result<u8, CallError> {
    match what {
        What::List {
            states,
            watch: true,
            ..
        } => watch(server, states),
        What::List { states, json, .. } => list(server, states, *json),
        What::Health => health(server),
        What::Settings(said) => settings(server, said),
        What::Add {
            link,
            dir,
            password,
            if_exists,
            options,
            json,
        } => {
            let order = Wanted {
                link,
                dir,
                password: password.as_ref(),
                if_exists: *if_exists,
                options,
            };
            add(server, &order, *json)
        }
        What::Inspect {
            link,
            password,
            json,
        } => inspect(server, link, password.as_ref(), *json),
        What::Show { id, json } => {
            let path = format!("/downloads/{}", whole(server, id)?);
            if *json {
                return server.copy(&path, &mut io::stdout().lock()).map(|()| 0);
            }
            print(&show::details(&server.get(&path)?))
        }
        What::Pause(ids) => each(server, ids, |id| change(server, id, "pause", "paused")),
        What::Resume(ids) => each(server, ids, |id| change(server, id, "resume", "resumed")),
        What::PauseAll => change_all(server, "pause"),
        What::ResumeAll => change_all(server, "resume"),
        What::Remove { ids, files } => each(server, ids, |id| remove(server, id, *files)),
        What::Verify { ids, folders } => {
            let looked = folders.iter().map(|path| folder::verify(path)).max();
            let ids: Result<Vec<_>, _> = ids.iter().map(|id| whole(server, id)).collect();
            let verified = ids?.into_iter().map(|id| verify::verify(server, &id));
            verified
                .into_iter()
                .try_fold(looked.unwrap_or(0), |one, other| Ok(one.max(other?)))
        }
        What::Wait(ids) => {
            let ids: Result<Vec<_>, _> = ids.iter().map(|id| whole(server, id)).collect();
            // One after the other: all have ended when the last one has.
            let waited = ids?.into_iter().map(|id| wait::wait(server, &id));
            waited
                .reduce(|one, other| Ok(one?.max(other?)))
                .unwrap_or(Ok(0))
        }
    }
}

fn list_path(states: &[State]) -> String {
    let mut path = "/downloads".to_owned();
    if !states.is_empty() {
        let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
        path += &format!("?states={}", names.join(","));
    }
    path
}

/// Shows the table until it is interrupted: in place on a terminal, else anew whenever it has
/// changed.
fn watch(server: &Server, states: &[State]) -> Result<u8, CallError> {
    let path = list_path(states);
    let terminal = io::stdout().is_terminal();
    let mut shown = String::new();
    loop {
        let table = show::table(&server.get::<Vec<Summary>>(&path)?);
        if table != shown {
            // To the upper left corner, and nothing below (ECMA-48: CUP, ED).
            let clear = if terminal { "\x1b[H\x1b[2J" } else { "" };
            let exit = print(&format!("{clear}{table}"))?;
            if exit != 0 {
                return Ok(exit);
            }
            shown = table;
        }
        thread::sleep(POLL);
    }
}

#[derive(Deserialize)]
struct Health {
    status: String,
}

fn health(server: &Server) -> Result<u8, CallError> {
    let health: Health = server.get("/health")?;
    if health.status == "ok" {
        return print("ok\n");
    }
    let message = "the agent answers, but cannot save in its state directory; its log says why";
    complain(&format!("{}: {message}", health.status));
    Ok(1)
}

/// The settings, as far as they are shown.
#[derive(Deserialize)]
struct Settings {
    rate_limit: Option<u64>,
    workers: u64,
    effective_rate_limit: Option<u64>,
    manifest: Option<String>,
    verify_rate: Option<u64>,
    verify_every_days: Option<u64>,
    windows_names: Option<bool>,
}

fn settings(server: &Server, said: &[(&str, Value)]) -> Result<u8, CallError> {
    let now: Settings = match said {
        [] => server.get("/settings")?,
        _ => {
            let pairs = said.iter();
            let fields: serde_json::Map<String, Value> = pairs
                .map(|(name, value)| (name.replace('-', "_"), value.clone()))
                .collect();
            server.put("/settings", &fields)?
        }
    };
    let rate = |rate: Option<u64>| rate.map_or("none".to_owned(), human::exact_rate);
    let mut text = format!(
        "rate-limit={}\nworkers={}\n",
        rate(now.rate_limit),
        now.workers
    );
    // What came later is shown where it was set.
    let later = [
        ("manifest", now.manifest.map(|kind| human::clean(&kind))),
        ("verify-rate", now.verify_rate.map(human::exact_rate)),
        (
            "verify-every-days",
            now.verify_every_days.map(|days| days.to_string()),
        ),
        (
            "windows-names",
            now.windows_names.map(|wanted| wanted.to_string()),
        ),
    ];
    for (name, value) in later {
        if let Some(value) = value {
            text += &format!("{name}={value}\n");
        }
    }
    if now.effective_rate_limit != now.rate_limit {
        let effective = rate(now.effective_rate_limit);
        text += &format!("by its schedule the rate is limited now to: {effective}\n");
    }
    print(&text)
}

fn list(server: &Server, states: &[State], json: bool) -> Result<u8, CallError> {
    let path = list_path(states);
    if json {
        return server.copy(&path, &mut io::stdout().lock()).map(|()| 0);
    }
    print(&show::table(&server.get::<Vec<Summary>>(&path)?))
}

/// What `add` was told.
struct Wanted<'a> {
    link: &'a Secret,
    dir: &'a Path,
    password: Option<&'a Secret>,
    if_exists: IfExists,
    options: &'a RequestOptions,
}

/// The fields that were given. An agent of before does not know them, and is not sent what was not.
fn put_options(order: &mut Value, options: &RequestOptions) {
    let selection = &options.selection;
    for (name, list) in [
        ("file_ids", &selection.file_ids),
        ("include", &selection.include),
        ("exclude", &selection.exclude),
    ] {
        if !list.is_empty() {
            order[name] = json!(list);
        }
    }
    for (name, value) in [
        (
            "priority",
            json!((options.priority != 0).then_some(options.priority)),
        ),
        (
            "create_package_folder",
            json!(options.create_package_folder),
        ),
        ("uid", json!(options.uid)),
        ("gid", json!(options.gid)),
        (
            "bypass_package_quarantine",
            json!(options.bypass_package_quarantine),
        ),
        ("chunk_size", json!(options.chunk_size)),
        ("verify", json!(options.verify)),
        ("manifest", json!(options.no_manifest.then_some("none"))),
        ("manifest", json!(options.manifest)),
        ("windows_names", json!(options.windows_names)),
    ] {
        if !value.is_null() {
            order[name] = value;
        }
    }
}

fn inspect(
    server: &Server,
    link: &Secret,
    password: Option<&Secret>,
    json: bool,
) -> Result<u8, CallError> {
    let link = get::link_text(link).map_err(CallError::Usage)?;
    let mut asked = json!({ "url": link.reveal() });
    if let Some(password) = password {
        asked["password"] = password.reveal().into();
    }
    if json {
        let out = &mut io::stdout().lock();
        return server.post_copy("/links/inspect", &asked, out).map(|()| 0);
    }
    print(&show::package(&server.post("/links/inspect", &asked)?))
}

fn add(server: &Server, wanted: &Wanted<'_>, json: bool) -> Result<u8, CallError> {
    let &Wanted {
        link,
        dir,
        password,
        if_exists,
        options,
    } = wanted;
    let here = server.base().starts_with("unix:")
        || Url::parse(server.base()).is_ok_and(|url| url.is_loopback());
    if !here && !dir.is_absolute() {
        return Err(CallError::Usage(format!(
            "{dir:?} is a folder on the agent's machine, so it has to begin with /"
        )));
    }
    let link = get::link_text(link).map_err(CallError::Usage)?;
    let mut order = json!({
        "url": link.reveal(),
        "dst_folder": get::absolute(dir).map_err(CallError::Usage)?,
        "if_exists": if_exists,
    });
    if let Some(password) = password {
        order["password"] = password.reveal().into();
    }
    put_options(&mut order, options);
    let summary: Value = server.post("/downloads", &order)?;
    if json {
        return print(&format!("{summary}\n"));
    }
    let id = summary["download_id"].as_str().unwrap_or_default();
    print(&format!("{}\n", human::clean(id)))
}

/// Does something to each, whatever becomes of the others.
fn each(
    server: &Server,
    ids: &[String],
    act: impl Fn(&str) -> Result<String, CallError>,
) -> Result<u8, CallError> {
    let mut exit = 0;
    for id in ids {
        match whole(server, id).and_then(|id| act(&id)) {
            Ok(line) => exit = exit.max(print(&line)?),
            // Nobody there for this one, nobody there for the next.
            Err(error @ CallError::Server(_)) => return Err(error),
            Err(error) => {
                complain(&format!("{id}: {error}"));
                exit = 1;
            }
        }
    }
    Ok(exit)
}

fn change(server: &Server, id: &str, call: &str, done: &str) -> Result<String, CallError> {
    let summary: Summary = server.act(&format!("/downloads/{id}/{call}"))?;
    Ok(format!("{id} {done}: {}\n", summary.title()))
}

/// The identifiers of those that changed, under what they are now.
#[derive(Deserialize)]
struct Changed {
    #[serde(alias = "resumed")]
    paused: Vec<String>,
}

fn change_all(server: &Server, call: &str) -> Result<u8, CallError> {
    let changed: Changed = server.act(&format!("/downloads/{call}"))?;
    let lines: Vec<String> = changed
        .paused
        .iter()
        .map(|id| format!("{} {call}d\n", human::clean(id)))
        .collect();
    print(&lines.concat())
}

#[derive(Deserialize)]
struct Deleted {
    files_removed: u64,
    #[serde(default)]
    files_left: Vec<FileLeft>,
}

#[derive(Deserialize)]
struct FileLeft {
    path: String,
    reason: String,
}

fn remove(server: &Server, id: &str, files: bool) -> Result<String, CallError> {
    let query = if files { "?remove_files=true" } else { "" };
    let deleted: Deleted = server.delete(&format!("/downloads/{id}{query}"))?;
    for left in &deleted.files_left {
        let (path, reason) = (human::clean(&left.path), human::clean(&left.reason));
        complain(&format!("{path} stays: {reason}"));
    }
    Ok(match files {
        true => format!(
            "{id} removed, with {}\n",
            human::files(deleted.files_removed)
        ),
        false => format!("{id} removed\n"),
    })
}

#[derive(Deserialize)]
struct Identified {
    download_id: String,
}

/// The whole identifier that a part of it means: its end, as `haul ls` shows it, or its beginning.
fn whole(server: &Server, id: &str) -> Result<String, CallError> {
    if id.len() == WHOLE_ID {
        return Ok(id.to_owned());
    }
    let all: Vec<Identified> = server.get("/downloads")?;
    let all = all.into_iter().map(|one| one.download_id);
    let mut found = all.filter(|one| one.ends_with(id) || one.starts_with(id));
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(CallError::Api {
            status: 404,
            message: format!(
                "there is no download whose ID begins or ends with {id:?}; haul ls lists them"
            ),
        }),
        (Some(one), Some(other)) => Err(CallError::Api {
            status: 409,
            message: format!("this can mean {one} and {other}: give more of it"),
        }),
    }
}

/// Prints; the exit code. A reader that has seen enough is no failure to complain about.
fn print(text: &str) -> Result<u8, CallError> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(u8::from(written.is_err()))
}
