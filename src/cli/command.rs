//! What can be asked for on the command line, with every flag read.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::listen::{Address, TlsFiles};
use crate::base::secret::Secret;
use crate::model::request::{IfExists, RequestOptions};
use crate::model::schedule::Rate;
use crate::model::settings::Days;
use crate::model::state::State;
use crate::share::Options as Share;
use crate::upstream::Outlet;

/// What to run.
#[derive(Debug)]
pub enum Command {
    Serve(Serve),
    Share(Share),
    Get(Get),
    Batch(Batch),
    Ask(Ask),
    /// Print this text on stdout and exit 0.
    Help(String),
    /// Print the version on stdout and exit 0.
    Version,
}

/// How downloads are made, by `serve` and `get` alike.
#[derive(Debug)]
pub struct Transfers {
    /// 1 to 256.
    pub workers: usize,
    pub rate_limit: Rate,
    /// How long a connection may bring nothing.
    pub silence_timeout: Duration,
    /// How long without a byte before a fault is final.
    pub retry_for: Duration,
    pub ca_file: Option<PathBuf>,
    /// Whether a server may be asked for several things at once.
    pub pipelining: bool,
    pub outlet: Outlet,
    /// What is taken from the permissions of files and folders that are made; the process's own
    /// where it is not given.
    pub umask: Option<u32>,
}

/// `haul serve`.
#[derive(Debug)]
pub struct Serve {
    pub listen: Vec<Address>,
    /// A group's number.
    pub socket_group: Option<u32>,
    pub tls: Option<TlsFiles>,
    pub state_dir: PathBuf,
    pub transfers: Transfers,
    pub verify_rate: Rate,
    pub verify_every_days: Option<Days>,
    /// `LINK_BASE=API_BASE` pairs, as given.
    pub origins: Vec<String>,
    pub token_file: Option<PathBuf>,
    /// Folders that destinations may lie in; none are all.
    pub roots: Vec<PathBuf>,
    /// What goes before every path: empty, or `/` and words without a `/` at the end.
    pub base_path: String,
    /// Programs to be run; as given.
    pub on_complete: Option<PathBuf>,
    pub on_error: Option<PathBuf>,
}

/// `haul get`.
#[derive(Debug)]
pub struct Get {
    /// As given; `-` and `@FILE` say where it is.
    pub link: Secret,
    /// As given; the current directory where it was not.
    pub dir: PathBuf,
    pub password: Option<Secret>,
    pub if_exists: IfExists,
    /// Which files, and how.
    pub order_options: RequestOptions,
    pub state_dir: PathBuf,
    pub transfers: Transfers,
    /// `LINK_BASE=API_BASE` pairs, as given.
    pub origins: Vec<String>,
    pub output: Output,
}

/// `haul get --batch`.
#[derive(Debug)]
pub struct Batch {
    /// The list; `-` is stdin.
    pub file: PathBuf,
    /// Flags for every package, as given.
    pub flags: Vec<OsString>,
    pub password: Option<Secret>,
    pub output: Output,
}

/// What `haul get` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Bars on a terminal, else lines.
    Human,
    Json,
    Quiet,
}

/// A question to a running agent, or an order.
#[derive(Debug)]
pub struct Ask {
    /// `http://host:port` without a slash at its end, https too, or `unix:` and a socket's path.
    pub server: String,
    pub ca_file: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub what: What,
}

/// What the agent is asked.
#[derive(Debug)]
pub enum What {
    List {
        states: Vec<State>,
        json: bool,
        watch: bool,
    },
    Health,
    /// Names, with dashes, and the JSON values that they get.
    Settings(Vec<(&'static str, serde_json::Value)>),
    Add {
        /// As given; `-` and `@FILE` say where it is.
        link: Secret,
        dir: PathBuf,
        password: Option<Secret>,
        if_exists: IfExists,
        /// Which files, and how.
        options: Box<RequestOptions>,
        json: bool,
    },
    Inspect {
        /// As given; `-` and `@FILE` say where it is.
        link: Secret,
        password: Option<Secret>,
        json: bool,
    },
    Show {
        id: String,
        json: bool,
    },
    Pause(Vec<String>),
    Resume(Vec<String>),
    PauseAll,
    ResumeAll,
    Remove {
        ids: Vec<String>,
        files: bool,
    },
    Wait(Vec<String>),
    Verify {
        ids: Vec<String>,
        /// Folders with a list of checksums, which are looked at without an agent.
        folders: Vec<PathBuf>,
    },
}
