//! `haul wait`: until a download has ended.

use std::thread;
use std::time::Instant;

use serde::Deserialize;

use super::call::{CallError, Server};
use super::{POLL, complain, print, show};
use crate::cli::human;

/// Failures in a row after which `wait` gives up on an agent that was there: one that is started
/// anew is waited for.
const LOST: u32 = 30;

/// What `wait` looks at; the files of a long answer are passed over.
#[derive(Deserialize)]
struct Awaited {
    state: String,
    name: Option<String>,
    link: String,
    error: Option<show::Problem>,
}

pub(super) fn wait(server: &Server, id: &str) -> Result<u8, CallError> {
    let (mut polls, mut seen, mut lost) = (false, false, 0);
    loop {
        let path = match polls {
            true => format!("/downloads/{id}"),
            false => format!("/downloads/{id}?wait=30"),
        };
        let asked = Instant::now();
        match server.get::<Awaited>(&path) {
            Ok(found) if found.state == "transferring" => (seen, lost) = (true, 0),
            Ok(found) => return ended(&found),
            // An agent that cannot wait does not know the parameter.
            Err(CallError::Api { status: 400, .. }) if !polls => {
                polls = true;
                continue;
            }
            Err(CallError::Server(_) | CallError::Api { status: 503, .. })
                if seen && lost < LOST =>
            {
                lost += 1;
            }
            Err(error) => return Err(error),
        }
        // Nobody is asked more often than this, however fast the answers come.
        thread::sleep(POLL.saturating_sub(asked.elapsed()));
    }
}

fn ended(found: &Awaited) -> Result<u8, CallError> {
    let name = human::clean(found.name.as_deref().unwrap_or(&found.link));
    if found.state == "complete" {
        return print(&format!("complete: {name}\n"));
    }
    let why = found.error.as_ref();
    let why = why.map(|error| format!(": {}", error.message));
    complain(&format!(
        "{name} is {}{}",
        match found.state.as_str() {
            "error" => "in error",
            state => state,
        },
        why.unwrap_or_default()
    ));
    Ok(1)
}
