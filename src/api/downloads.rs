//! The calls about downloads: asks the agent and the board, and renders what they say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Body};
use super::calls::NewDownload;
use super::error::ApiError;
use super::events::Hub;
use super::listing;
use crate::agent::{Agent, Refusal};
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::link::Origins;
use crate::model::problem::Code;
use crate::model::request::DownloadRequest;
use crate::model::selection::Scratch;
use crate::model::state::State;

/// Files up to which a download's details are rendered in memory and sent with their length.
const SMALL_TABLE: u32 = 2_000;
/// Files rendered at a time beyond that.
const SLICE: u32 = 256;

/// The array of summaries, oldest first, of the downloads that are asked for.
pub fn list(board: &Board, which: &listing::Downloads) -> Answer {
    let all = board.all();
    let after = which.after.as_deref();
    let start = after.map_or(0, |after| {
        all.partition_point(|download| download.id.as_str() <= after)
    });
    let wanted = |download: &&Arc<Download>| which.wants(download.state());
    let total = all.iter().filter(wanted).count();
    let most = which.limit.unwrap_or(usize::MAX);
    let mut rest = all[start..].iter().filter(wanted);
    let mut out = Vec::with_capacity(512);
    out.push(b'[');
    let (mut count, mut last) = (0, None);
    for download in &mut rest {
        let summary = download.summary();
        // The state may have changed since the look before, which only saves work.
        if which.wants(summary.state) {
            if count > 0 {
                out.push(b',');
            }
            let put = which.put(&summary, &mut out);
            put.expect("strings and numbers can be written to memory");
            count += 1;
            last = Some(download);
        }
        if count == most {
            break;
        }
    }
    out.push(b']');
    let more = last.filter(|_| rest.next().is_some());
    let next = more.map(|last| listing::next_part(&which.target, "after", &last.id));
    let mut answer = Answer::json(200, out);
    listing::describe(&mut answer, total, next);
    answer
}

/// The identifiers of downloads that were paused or resumed, under the name of what they are now.
pub fn changed(to: State, ids: &[String]) -> Answer {
    let name = match to {
        State::Paused => "paused",
        _ => "resumed",
    };
    answer(&serde_json::json!({ name: ids }))
}

/// One download with its files: as it is now, or once its state or its error has changed,
/// `wait` seconds from now at the most. One that does not transfer has nothing to wait for.
///
/// # Errors
/// `DownloadNotFound`, then or now; `invalid_parameter` where `files.after` is no file of the
/// package; `overloaded` without a thread to wait on.
pub fn details(
    hub: &Arc<Hub>,
    agent: &dyn Agent,
    id: &str,
    wait: u64,
    files: listing::Files,
) -> Result<Answer, ApiError> {
    let board = agent.board();
    let find = || board.find(id).ok_or(Refusal::DownloadNotFound);
    let mut download = find()?;
    if wait > 0 && download.state() == State::Transferring {
        let deadline = Instant::now() + Duration::from_secs(wait);
        let before = standing(&download);
        let watcher = hub.watch().map_err(|_| ApiError::overloaded())?;
        watcher.wait_until(deadline, || {
            standing(&download) != before || board.find(id).is_none()
        });
        download = find()?;
    }
    if files.is_choice() {
        return part(agent, &download, &files);
    }
    Ok(rendered(agent, download))
}

/// What a long poll waits for to change. The time of the next attempt changes at each one, and
/// says nothing new.
fn standing(download: &Download) -> (State, Option<Code>) {
    let view = download.view();
    (view.state, view.problem.map(|problem| problem.code))
}

/// Adds a download.
///
/// # Errors
/// What the agent refuses, and links that cannot be.
pub fn create(
    new: NewDownload,
    agent: &dyn Agent,
    origins: &Origins,
    base_path: &str,
) -> Result<Answer, ApiError> {
    let link = origins.parse(new.url.reveal())?;
    let download = agent.create(DownloadRequest {
        link,
        password: new.password,
        dst_folder: new.dst_folder,
        if_exists: new.if_exists,
        location: None,
        options: new.options,
    })?;
    let mut answer = summary(201, &download);
    let location = format!("{base_path}/api/v1/downloads/{}", download.id);
    answer.fields.push(("Location", location.into()));
    Ok(answer)
}

/// A download's summary.
pub fn summary(status: u16, download: &Download) -> Answer {
    Answer::json(status, json(&download.summary()))
}

/// What is small and made of strings and numbers, as JSON.
pub fn answer(value: &impl serde::Serialize) -> Answer {
    Answer::json(200, json(value))
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    put(value, &mut out);
    out
}

fn put(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("strings and numbers can be written to memory");
}

/// The summary with those files that are asked for.
fn part(
    agent: &dyn Agent,
    download: &Arc<Download>,
    which: &listing::Files,
) -> Result<Answer, ApiError> {
    let summary = download.summary();
    if which.hidden {
        return Ok(answer(&summary));
    }
    let table = agent
        .files(download)
        .filter(|_| summary.files_total.is_some());
    let mut out = json(&summary);
    out.pop();
    out.extend_from_slice(b",\"files\":[");
    let (mut total, mut count, mut last) = (0, 0, None::<&str>);
    let (mut begun, mut more) = (which.after.is_none(), false);
    let most = which.limit.unwrap_or(usize::MAX);
    let mut scratch = Scratch::default();
    let in_folder = download.order.options.create_package_folder == Some(true);
    for file in table.iter().flat_map(|table| table.rows(summary.state)) {
        let wanted = which.wants(&file, in_folder, &mut scratch);
        total += usize::from(wanted);
        if !begun {
            begun = which.after.as_deref() == Some(file.file_id);
        } else if wanted && count < most {
            if count > 0 {
                out.push(b',');
            }
            put(&file, &mut out);
            count += 1;
            last = Some(file.file_id);
        } else {
            more |= wanted;
        }
    }
    if !begun {
        return Err(ApiError::invalid_parameter(
            "files_after must be the file_id of one of this download's files",
        ));
    }
    out.extend_from_slice(b"]}");
    let next = last
        .filter(|_| more)
        .map(|last| listing::next_part(&which.target, "files_after", last));
    let mut answer = Answer::json(200, out);
    listing::describe(&mut answer, total, next);
    Ok(answer)
}

/// The summary with `files` at its end.
fn rendered(agent: &dyn Agent, download: Arc<Download>) -> Answer {
    let summary = download.summary();
    // Files are shown as of the same state as the summary.
    let state = summary.state;
    let mut out = json(&summary);
    let brace = out.pop();
    debug_assert_eq!(brace, Some(b'}'), "a summary is a JSON object");
    out.extend_from_slice(b",\"files\":[");
    // The summary counts no files while the listing has not been read, and shows none.
    let table = agent
        .files(&download)
        .filter(|_| summary.files_total.is_some());
    let Some(table) = table else {
        out.extend_from_slice(b"]}");
        return Answer::json(200, out);
    };
    if table.len() <= SMALL_TABLE {
        table.render(0, SMALL_TABLE, state, &mut out);
        out.extend_from_slice(b"]}");
        return Answer::json(200, out);
    }
    let (mut start, mut at) = (Some(out), 0);
    let slices = move |slice: &mut Vec<u8>| {
        if let Some(start) = start.take() {
            slice.extend_from_slice(&start);
        }
        at = table.render(at, SLICE, state, slice);
        let more = at < table.len();
        if !more {
            slice.extend_from_slice(b"]}");
        }
        more
    };
    Answer {
        body: Body::Sliced(Box::new(slices)),
        ..Answer::json(200, Vec::new())
    }
}
