//! `haul verify`: reads the files of a complete download back, and says which are not as saved.

use std::thread;

use serde::Deserialize;

use super::call::{CallError, Server};
use super::{POLL, complain, print};
use crate::cli::human;
use crate::model::verification::{Progress, Verification};

/// What `verify` looks at.
#[derive(Deserialize)]
struct Verified {
    name: Option<String>,
    link: String,
    verification: Option<Verification>,
}

pub(super) fn verify(server: &Server, id: &str) -> Result<u8, CallError> {
    let mut found: Verified = server.act(&format!("/downloads/{id}/verify"))?;
    let mut was_paused = false;
    loop {
        let is_paused = |found: &Verification| found.state == Progress::Paused;
        let paused = found.verification.as_ref().is_some_and(is_paused);
        if paused && !was_paused {
            complain(&format!("it is paused, and waits for haul resume {id}"));
        }
        was_paused = paused;
        match &found.verification {
            Some(done) if done.state == Progress::Done => return ended(&found, done),
            Some(_) => {}
            None => {
                complain("the agent gave up verifying; its log says why");
                return Ok(1);
            }
        }
        thread::sleep(POLL);
        found = server.get(&format!("/downloads/{id}?files=false"))?;
    }
}

fn ended(found: &Verified, done: &Verification) -> Result<u8, CallError> {
    let name = human::clean(found.name.as_deref().unwrap_or(&found.link));
    if done.bad() == 0 {
        let files = match (done.files_done, done.files_recorded) {
            (1, 0) => "1 file is as saved".to_owned(),
            (files, 0) => format!("{files} files are as saved"),
            (files, new) => {
                format!("{files} files can be read; of {new} no checksum was known, and it is now")
            }
        };
        return print(&format!("{name}: {files}\n"));
    }
    for bad in &done.files_bad {
        complain(&format!("{}: {}", bad.path, bad.reason));
    }
    complain(&format!(
        "{name}: {} of {} files not as saved; haul resume fetches them again",
        done.bad(),
        done.files_done
    ));
    Ok(1)
}
