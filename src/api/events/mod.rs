//! `GET /api/v1/events`: what happens to the downloads, as server-sent events.
//!
//! A stream begins with every download as it is, then tells each that changes, comes or goes.
//! With the number of the last event that a reader has seen (`Last-Event-ID`) it goes on from
//! there. Numbers before a stream's first whole picture are 1, 2, 3…, which no later stream
//! knows: who is cut off in the middle of the picture gets it anew.

mod hub;
mod ledger;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use self::hub::{News, Watcher};
use self::ledger::Change;
use super::answer::{Answer, Body};
use crate::model::download::Download;

pub use self::hub::Hub;

/// Silence after which a stream says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Downloads of the first picture that are rendered at a time.
const SLICE: usize = 64;

/// The answer: a stream that goes on until its reader or the API ends it.
///
/// # Errors
/// The system has no thread to give.
pub fn answer(hub: &Arc<Hub>, after: Option<u64>) -> io::Result<Answer> {
    let mut stream = Stream::new(hub.watch()?, after);
    Ok(Answer {
        content_type: "text/event-stream",
        // Told to proxies that would wait for an end (nginx).
        fields: vec![("X-Accel-Buffering", "no".into())],
        body: Body::Sliced(Box::new(move |out| stream.next(out))),
        ..Answer::json(200, Vec::new())
    })
}

struct Stream {
    watcher: Watcher,
    begun: bool,
    /// The downloads of the first picture, as far as they are not told yet.
    picture: Option<Picture>,
}

struct Picture {
    downloads: Arc<Vec<Arc<Download>>>,
    told: usize,
}

impl Stream {
    fn new(mut watcher: Watcher, after: Option<u64>) -> Stream {
        let goes_on = after.is_some_and(|number| watcher.go_back(number));
        // Taken after the watcher's number, so that nothing falls between the two.
        let picture = (!goes_on).then(|| Picture {
            downloads: watcher.downloads(),
            told: 0,
        });
        Stream {
            watcher,
            begun: false,
            picture,
        }
    }

    /// The next slice; false at the end.
    fn next(&mut self, out: &mut Vec<u8>) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(b"retry: 2000\n\n");
            return true;
        }
        if let Some(picture) = &mut self.picture {
            if picture.tell(self.watcher.number(), out) {
                self.picture = None;
            }
            return true;
        }
        match self.watcher.next(Instant::now() + KEEP_ALIVE) {
            News::End => return false,
            News::Nothing => out.extend_from_slice(b": keep-alive\n\n"),
            News::Changes(changes) => changes
                .into_iter()
                .for_each(|(number, change)| tell(number, &change, out)),
        }
        true
    }
}

impl Picture {
    /// Tells some more; true once all are told. The last one bears the number that a reader
    /// can come back with.
    fn tell(&mut self, last: u64, out: &mut Vec<u8>) -> bool {
        let count = self.downloads.len();
        let end = count.min(self.told + SLICE);
        for download in &self.downloads[self.told..end] {
            self.told += 1;
            let number = if self.told == count {
                last
            } else {
                self.told as u64
            };
            event(number, "download", &download.summary(), out);
        }
        self.told == count
    }
}

fn tell(number: u64, change: &Change, out: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Deleted<'a> {
        download_id: &'a str,
    }
    match change {
        Change::Download(download) => event(number, "download", &download.summary(), out),
        Change::Deleted(id) => event(number, "deleted", &Deleted { download_id: id }, out),
    }
}

/// One event: JSON has no line ends of its own, so it is one line of data.
fn event(number: u64, name: &str, data: &impl Serialize, out: &mut Vec<u8>) {
    let put = "writing to memory cannot fail";
    write!(out, "id: {number}\nevent: {name}\ndata: ").expect(put);
    serde_json::to_writer(&mut *out, data).expect(put);
    out.extend_from_slice(b"\n\n");
}
