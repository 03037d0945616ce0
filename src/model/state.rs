//! The states of a download.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a download stands. There is no idle state: a download transfers from the moment of its
/// POST.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Transferring,
    Paused,
    Complete,
    Error,
}

impl State {
    /// Every state, in the order in which the API page lists them.
    pub const ALL: [State; 4] = [
        State::Transferring,
        State::Paused,
        State::Complete,
        State::Error,
    ];

    /// The state's name in the API.
    pub fn name(self) -> &'static str {
        match self {
            State::Transferring => "transferring",
            State::Paused => "paused",
            State::Complete => "complete",
            State::Error => "error",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
