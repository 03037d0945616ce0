//! How it ended: in words on stderr, and as an exit code.

use std::io::{self, Write};

use super::report::{self, End};
use crate::agent::Refusal;
use crate::cli::human;
use crate::model::problem::{Code, FileProblem, Problem};
use crate::model::table::{FileState, FileTable};

/// Every file is in place.
pub const COMPLETE: u8 = 0;
/// It did not work out; the same command may.
pub const FAILED: u8 = 1;
/// Bad usage.
pub const USAGE: u8 = 2;
/// The link's server says no: no such link, expired, another password.
pub const REFUSED: u8 = 3;
/// Told to stop by SIGINT or SIGTERM: one code for both, so that scripts have to know only one.
pub const INTERRUPTED: u8 = 130;

/// Failed files that are named on stderr.
const NAMED: usize = 20;

/// Why there is nothing to report on.
pub(super) struct Fault {
    pub(super) exit: u8,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn usage(message: String) -> Fault {
        let exit = USAGE;
        Fault { exit, message }
    }

    pub(super) fn failed(message: impl ToString) -> Fault {
        let message = message.to_string();
        Fault {
            exit: FAILED,
            message,
        }
    }
}

pub(super) fn complain(message: &str) {
    // Where stderr is gone, the exit code has to do.
    let _ = writeln!(io::stderr(), "haul: {}", human::clean(message));
}

/// Says on stderr what went wrong, file by file unless a machine reads along. Returns the exit
/// code.
pub(super) fn explain(end: &End, table: Option<&FileTable>, machine_reads: bool) -> u8 {
    match end {
        End::Complete { .. } => COMPLETE,
        End::Interrupted => INTERRUPTED,
        End::Refused(problem) => {
            complain(&problem.message);
            exit_of(problem.code)
        }
        End::Failed(problem) => {
            if let Some(table) = table.filter(|_| !machine_reads) {
                name_failed_files(table);
            }
            complain(&advice(problem));
            exit_of(problem.code)
        }
    }
}

fn name_failed_files(table: &FileTable) {
    let mut count = 0;
    // Nothing in here fails.
    let _ = report::each_problem(table, |state, path, problem| {
        if let (FileState::Error, Some(problem)) = (state, problem) {
            count += 1;
            if count <= NAMED {
                complain(&format!("{path}: {}", problem.message));
            }
        }
        Ok(())
    });
    if count > NAMED {
        complain(&format!("and {} more", count - NAMED));
    }
}

fn exit_of(code: Code) -> u8 {
    match code {
        Code::LinkNotFound
        | Code::LinkExpired
        | Code::LinkPasswordRequired
        | Code::LinkPasswordWrong
        | Code::LinkRefused => REFUSED,
        _ => FAILED,
    }
}

fn advice(problem: &Problem) -> String {
    if exit_of(problem.code) == FAILED && problem.recoverable {
        format!(
            "{}; the same command again fetches what is missing",
            problem.message
        )
    } else {
        problem.message.clone()
    }
}

/// A refusal in the words of the command line.
pub(super) fn refused(refusal: &Refusal) -> FileProblem {
    let (code, message) = match refusal {
        Refusal::InvalidDestination(why) => (Code::DestinationUnwritable, why.clone()),
        Refusal::LinkPasswordRequired => (
            Code::LinkPasswordRequired,
            "this link needs a password: set HAUL_PASSWORD to it".into(),
        ),
        Refusal::LinkPasswordWrong => (
            Code::LinkPasswordWrong,
            "the link's password is wrong: ask the sender for the right one".into(),
        ),
        Refusal::LinkRefused(reason) => (
            Code::LinkRefused,
            format!("the server refuses the link: {reason}"),
        ),
        Refusal::LinkNotFound => (
            Code::LinkNotFound,
            "there is no package behind this link: check that it was copied whole".into(),
        ),
        Refusal::LinkExpired => (
            Code::LinkExpired,
            "this link has expired or was deleted: ask the sender for a new one".into(),
        ),
        Refusal::StateUnwritable(why) => (Code::InsufficientStorage, why.clone()),
        Refusal::Impossible(why) => (Code::DestinationUnwritable, why.clone()),
        Refusal::UpstreamUnavailable { message, .. } => {
            (Code::UpstreamUnavailable, message.clone())
        }
        Refusal::DownloadNotFound
        | Refusal::InvalidTransition { .. }
        | Refusal::Duplicate { .. }
        | Refusal::ShuttingDown => (
            Code::InternalError,
            format!("haul contradicts itself ({refusal:?}); please report it"),
        ),
    };
    FileProblem { code, message }
}
