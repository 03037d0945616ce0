//! The calls about downloads: asks the agent and the board, and renders what they say.

use std::sync::Arc;

use super::answer::{Answer, Body};
use super::calls::{Call, NewDownload};
use super::error::ApiError;
use crate::agent::{Agent, Refusal};
use crate::board::{Board, Download, Order, State};
use crate::link::Origins;

/// Files up to which a download's details are rendered in memory and sent with their length.
const SMALL_TABLE: u32 = 2_000;
/// Files rendered at a time beyond that.
const SLICE: u32 = 256;

/// Answers the call.
///
/// # Errors
/// What the agent refuses, and links that cannot be.
pub fn perform(call: Call, agent: &dyn Agent, origins: &Origins) -> Result<Answer, ApiError> {
    match call {
        Call::Index => Ok(Answer::json(200, INDEX.into())),
        Call::Health => Ok(Answer::json(200, br#"{"status":"ok"}"#.into())),
        Call::List(states) => Ok(Answer::json(200, list(agent.board(), states.as_deref()))),
        Call::Details(id) => {
            let found = agent.board().find(&id);
            let found = found.ok_or(Refusal::DownloadNotFound)?;
            Ok(details(agent, found))
        }
        Call::Create(new) => create(new, agent, origins),
        Call::Pause(id) => Ok(summary(200, &*agent.pause(&id)?)),
        Call::Resume(id) => Ok(summary(200, &*agent.resume(&id)?)),
        Call::Delete {
            which,
            remove_files,
        } => {
            let deleted = agent.delete(which, remove_files)?;
            Ok(Answer::json(200, json(&deleted)))
        }
        Call::Settings => Ok(Answer::json(200, json(&agent.settings()))),
        Call::ChangeSettings(said) => {
            let settings = agent.change_settings(said)?;
            Ok(Answer::json(200, json(&settings)))
        }
    }
}

const INDEX: &str = r#"{"calls":["GET /api/v1/health","POST /api/v1/downloads","GET /api/v1/downloads","GET /api/v1/downloads/{download_id}","POST /api/v1/downloads/{download_id}/pause","POST /api/v1/downloads/{download_id}/resume","DELETE /api/v1/downloads/{download_id}","DELETE /api/v1/downloads","GET /api/v1/settings","PUT /api/v1/settings"]}"#;

fn create(new: NewDownload, agent: &dyn Agent, origins: &Origins) -> Result<Answer, ApiError> {
    let link = origins.parse(new.url.reveal())?;
    let download = agent.create(Order {
        link,
        password: new.password,
        dst_folder: new.dst_folder,
        if_exists: new.if_exists,
    })?;
    let mut answer = summary(201, &download);
    let location = format!("/api/v1/downloads/{}", download.id);
    answer.fields.push(("Location", location.into()));
    Ok(answer)
}

fn summary(status: u16, download: &Download) -> Answer {
    Answer::json(status, json(&download.summary()))
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    put(value, &mut out);
    out
}

fn put(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("strings and numbers can be written to memory");
}

/// The array of summaries, oldest first.
fn list(board: &Board, states: Option<&[State]>) -> Vec<u8> {
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
fn details(agent: &dyn Agent, download: Arc<Download>) -> Answer {
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
