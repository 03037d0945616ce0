//! What a fault means for its job.

use crate::dest::DestError;
use crate::model::outcome::Outcome;
use crate::model::problem::{Code, FileProblem, Problem};
use crate::upstream::Fault;
use crate::upstream::session::SessionFault;

/// Why a request for bytes came to nothing.
pub(super) enum Refusal {
    /// The address was refused; the outcome holds if another is, too.
    Address(Outcome),
    Other(Outcome),
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        let (Refusal::Address(outcome) | Refusal::Other(outcome)) = refusal;
        outcome
    }
}

impl From<DestError> for Outcome {
    fn from(error: DestError) -> Outcome {
        if let DestError::Short(message) = error {
            return Outcome::transient(message);
        }
        Outcome::Failed(FileProblem {
            code: error.code(),
            message: error.to_string(),
        })
    }
}

/// The outcome of a destination that cannot be used at all.
pub(super) fn broken(error: &DestError) -> Outcome {
    if let DestError::Short(message) = error {
        return Outcome::transient(message);
    }
    Outcome::DownloadFailed(Problem {
        code: error.code(),
        message: error.to_string(),
        recoverable: true,
        retry_at: None,
    })
}

impl From<SessionFault> for Outcome {
    fn from(fault: SessionFault) -> Outcome {
        match fault {
            SessionFault::Link(problem) => Outcome::DownloadFailed(problem),
            SessionFault::Call(Fault::Stopped) => Outcome::Stopped,
            SessionFault::Call(Fault::Transient {
                message,
                retry_after,
            }) => Outcome::Transient {
                message,
                retry_after,
                gained: false,
            },
            SessionFault::Call(Fault::Unauthorized) => failed(
                "the server refuses the file's address, also with a fresh token; ask the sender",
            ),
            SessionFault::Call(Fault::Forbidden(reason)) => failed(&format!(
                "the server refuses the file's address, also with a fresh token: {reason}; ask the sender"
            )),
            SessionFault::Call(Fault::NotFound | Fault::Gone) => {
                failed("the server no longer has this file; ask the sender")
            }
            SessionFault::Call(Fault::Refused(answer)) => failed(&format!(
                "the server refuses the file's address ({answer}); ask the sender"
            )),
            SessionFault::Call(Fault::Malformed(message)) => failed(&message),
        }
    }
}

/// A file that is not the listed one has the name, in a folder that several nodes share.
pub(super) fn taken() -> Outcome {
    failed_with(
        Code::DestinationUnwritable,
        "another file has its name, and a shard gives it no other one, which the other shards \
         would not know; move that file, or choose with --if-exists whether to overwrite or to \
         skip it",
    )
}

pub(super) fn failed(message: &str) -> Outcome {
    failed_with(Code::ProtocolError, message)
}

pub(super) fn failed_with(code: Code, message: &str) -> Outcome {
    Outcome::Failed(FileProblem {
        code,
        message: message.into(),
    })
}
