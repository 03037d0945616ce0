//! A look into a package: its listing goes through as it comes, and is held nowhere as a whole.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::Serialize;

use super::answer::{Answer, Body};
use super::error::ApiError;
use crate::agent::{Agent, Inspected, Refusal};
use crate::base::clock::Timestamp;
use crate::base::display::clean;
use crate::base::secret::Secret;
use crate::model::link::Link;
use crate::model::listing::Listed;
use crate::upstream::Package;

/// Bytes of the answer that are sent at a time.
const SLICE: usize = 32 << 10;
/// Slices that wait for a slow reader.
const AHEAD: usize = 4;
/// Bytes of a path that are shown.
const MAX_PATH: usize = 4096;

/// One file or empty folder, as the API answers it.
#[derive(Serialize)]
struct Entry<'a> {
    file_id: &'a str,
    path: String,
    size: u64,
    last_modified: Option<Timestamp>,
    kind: &'a str,
    virus_detected: bool,
}

/// Some of the answer; the last of them says how the look ended.
enum Piece {
    Some(Vec<u8>),
    End(Result<Vec<u8>, Refusal>),
}

/// Looks into a package. The answer begins when the listing has begun to come.
///
/// # Errors
/// What the link's server says to it before that.
pub fn answer(
    agent: Arc<dyn Agent>,
    link: Link,
    password: Option<Secret>,
) -> Result<Answer, ApiError> {
    let (sender, pieces) = bounded(AHEAD);
    thread::Builder::new()
        .name("api-inspect".into())
        .spawn(move || look(&*agent, &link, password.as_ref(), &sender))
        .map_err(|_| ApiError::overloaded())?;
    match pieces.recv() {
        Ok(Piece::Some(first)) => Ok(streamed(first, pieces)),
        Ok(Piece::End(whole)) => Ok(Answer::json(200, whole?)),
        Err(_) => Err(ApiError::internal()),
    }
}

fn streamed(first: Vec<u8>, pieces: Receiver<Piece>) -> Answer {
    let mut first = Some(first);
    let slices = move |slice: &mut Vec<u8>| {
        let piece = first
            .take()
            .map_or_else(|| pieces.recv(), |first| Ok(Piece::Some(first)));
        match piece {
            Ok(Piece::Some(some)) => {
                *slice = some;
                true
            }
            Ok(Piece::End(Ok(rest))) => {
                *slice = rest;
                false
            }
            // The status is out already: that the answer breaks off is all that can be said.
            Ok(Piece::End(Err(refusal))) => {
                log::warn!(
                    "a look into a package broke off: {}",
                    ApiError::from(refusal).message
                );
                resume_unwind(Box::new("the listing broke off"))
            }
            Err(_) => resume_unwind(Box::new("the look has ended")),
        }
    };
    Answer {
        body: Body::Sliced(Box::new(slices)),
        ..Answer::json(200, Vec::new())
    }
}

fn look(agent: &dyn Agent, link: &Link, password: Option<&Secret>, sender: &Sender<Piece>) {
    let mut view = View::default();
    let result = agent.inspect(link, password, &mut |inspected| {
        match inspected {
            Inspected::Package(package) => view.begin(&package),
            Inspected::Entry(listed) => view.add(&listed),
        }
        if view.out.len() < SLICE {
            return true;
        }
        let some = std::mem::replace(&mut view.out, Vec::with_capacity(SLICE + MAX_PATH));
        sender.send(Piece::Some(some)).is_ok()
    });
    // Where nobody listens any more there is nothing to be told.
    let _ = sender.send(Piece::End(result.map(|()| view.end())));
}

/// The answer's text as far as it is not sent.
#[derive(Default)]
struct View {
    out: Vec<u8>,
    entries: bool,
    bytes_total: u64,
    files_total: u64,
}

impl View {
    fn begin(&mut self, package: &Package) {
        let name = package.name.as_deref().map(clean);
        let expires_at = package.expires_at.as_deref().map(clean);
        for (field, value) in [
            ("{\"name\":", name),
            (",\"package_id\":", Some(package.package_id.clone())),
            (",\"expires_at\":", expires_at),
        ] {
            self.out.extend_from_slice(field.as_bytes());
            self.put(&value);
        }
        self.out.extend_from_slice(b",\"files\":[");
    }

    fn add(&mut self, listed: &Listed) {
        match listed.kind.as_str() {
            "file" => {
                self.files_total += 1;
                self.bytes_total = self.bytes_total.saturating_add(listed.size);
            }
            "directory" => {}
            // Archives of the same content are not downloaded.
            _ => return,
        }
        if std::mem::replace(&mut self.entries, true) {
            self.out.push(b',');
        }
        let path = listed.full_path();
        self.put(&Entry {
            file_id: &listed.id,
            path: clean(crate::dest::paths::cut(&path, MAX_PATH)),
            size: listed.size,
            last_modified: listed.mtime.map(Timestamp),
            kind: &listed.kind,
            virus_detected: listed.virus,
        });
    }

    /// The totals come last: they are known only now.
    fn end(mut self) -> Vec<u8> {
        let (bytes, files) = (self.bytes_total, self.files_total);
        let end = format!("],\"bytes_total\":{bytes},\"files_total\":{files}}}");
        self.out.extend_from_slice(end.as_bytes());
        self.out
    }

    fn put(&mut self, value: &impl Serialize) {
        serde_json::to_writer(&mut self.out, value)
            .expect("strings and numbers can be written to memory");
    }
}
