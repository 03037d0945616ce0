//! The calls about downloads: asks the agent and the board, and renders what they say.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Answer, Body};
use super::calls::NewDownload;
use super::error::ApiError;
use super::events::Hub;
use crate::agent::{Agent, Refusal};
use crate::model::board::{Board, Code, Download, Order, State};
use crate::model::link::Origins;

/// Files up to which a download's details are rendered in memory and sent with their length.
const SMALL_TABLE: u32 = 2_000;
/// Files rendered at a time beyond that.
const SLICE: u32 = 256;

/// The array of summaries, oldest first, of the downloads in these states; of all where there
/// are none.
pub fn list(board: &Board, states: Option<&[State]>) -> Answer {
    Answer::json(200, summaries(board, states))
}

/// One download with its files: as it is now, or once its state or its error has changed,
/// `wait` seconds from now at the most. One that does not transfer has nothing to wait for.
///
/// # Errors
/// `DownloadNotFound`, then or now; `overloaded` without a thread to wait on.
pub fn details(hub: &Arc<Hub>, agent: &dyn Agent, id: &str, wait: u64) -> Result<Answer, ApiError> {
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
pub fn create(new: NewDownload, agent: &dyn Agent, origins: &Origins) -> Result<Answer, ApiError> {
    let link = origins.parse(new.url.reveal())?;
    let download = agent.create(Order {
        link,
        password: new.password,
        dst_folder: new.dst_folder,
        if_exists: new.if_exists,
        options: new.options,
    })?;
    let mut answer = summary(201, &download);
    let location = format!("/api/v1/downloads/{}", download.id);
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

fn summaries(board: &Board, states: Option<&[State]>) -> Vec<u8> {
    let wanted = |state| states.is_none_or(|states| states.contains(&state));
    let all = board.all();
    let mut out = Vec::with_capacity(if states.is_none() { all.len() * 512 } else { 0 } + 2);
    out.push(b'[');
    for download in all.iter().filter(|download| wanted(download.state())) {
        let summary = download.summary();
        // The state may have changed since the look before, which only saves work.
        if wanted(summary.state) {
            if out.len() > 1 {
                out.push(b',');
            }
            put(&summary, &mut out);
        }
    }
    out.push(b']');
    out
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
