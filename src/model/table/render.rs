//! Files as the API shows them.

use super::*;
use crate::base::locks;

impl FileTable {
    /// Renders up to `most` files from index `from` on as JSON objects separated by commas,
    /// a comma first where `from` is not 0. Returns the index to go on from; `len()` at the end.
    pub fn render(&self, from: u32, most: u32, state: State, out: &mut Vec<u8>) -> u32 {
        let to = self.len().min(from.saturating_add(most));
        let mut dir_path = (u32::MAX, String::new());
        for file in from..to {
            let dir = self.dir_of(file);
            if dir_path.0 != dir {
                dir_path = (dir, self.dir_path(dir));
            }
            if file > 0 {
                out.push(b',');
            }
            let row = self.shown(file, &dir_path.1, state);
            serde_json::to_writer(&mut *out, &row)
                .expect("a row of strings and numbers can be written to memory");
        }
        to
    }

    /// Every file as it is shown, in the order of the listing.
    pub fn rows(&self, state: State) -> impl Iterator<Item = Shown<'_>> {
        let mut dir_path = (u32::MAX, String::new());
        (0..self.len()).map(move |file| {
            let dir = self.dir_of(file);
            if dir_path.0 != dir {
                dir_path = (dir, self.dir_path(dir));
            }
            self.shown(file, &dir_path.1, state)
        })
    }

    /// A folder's path, with a slash at its end unless it is the root.
    fn dir_path(&self, dir: u32) -> String {
        let mut path = self.dir_components(dir).join("/");
        if dir != ROOT {
            path.push('/');
        }
        path
    }

    fn shown<'a>(&'a self, file: u32, dir_path: &str, download: State) -> Shown<'a> {
        let planned = self.planned_name(file);
        let extras = locks::read(&self.extras);
        let extra = extras.get(&file);
        let renamed = extra
            .and_then(|extra| extra.renamed.as_ref())
            .filter(|names| names.last != planned);
        let name = renamed.map_or(planned, |names| names.last.as_str());
        let original = extra
            .and_then(|extra| extra.original.clone())
            .or_else(|| renamed.map(|_| format!("{dir_path}{planned}")));
        Shown {
            file_id: self.id(file),
            path: format!("{dir_path}{name}"),
            size: self.size(file),
            bytes_done: self.done(file),
            state: self.shown_state(file, download),
            verified: self.verified(file).map(Algorithm::name),
            original_path: original,
            error: extra.and_then(|extra| extra.problem.clone()),
        }
    }

    /// What a reader calls the file's state: begun files of a paused download are paused.
    fn shown_state(&self, file: u32, download: State) -> FileState {
        match self.state(file) {
            FileState::Transferring | FileState::Paused if download == State::Paused => {
                FileState::Paused
            }
            FileState::Pending if download == State::Paused && self.done(file) > 0 => {
                FileState::Paused
            }
            FileState::Transferring | FileState::Paused if download != State::Transferring => {
                FileState::Pending
            }
            FileState::Paused => FileState::Pending,
            state => state,
        }
    }
}

/// A file as the API shows it.
#[derive(Debug, Serialize)]
pub struct Shown<'a> {
    pub file_id: &'a str,
    /// As it is saved.
    pub path: String,
    pub size: u64,
    pub bytes_done: u64,
    pub state: FileState,
    /// By what kind of digest it was found to be what the server has, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<&'static str>,
    /// As it is listed, if that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<FileProblem>,
}
