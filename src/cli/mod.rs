//! The command line: from arguments and environment to a command, or to one line about what is
//! wrong. What runs a command is here too: `serve`, `get`, and the `client` of a running agent.

pub mod client;
mod command;
mod completions;
mod flags;
pub mod get;
mod given;
pub mod human;
mod man;
pub mod ready;
pub mod serve;
mod shard;
mod values;
mod wrap;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fmt;

use lexopt::Arg;

use self::given::Given;
use crate::base::suggest;

/// `haul share`: its flags are the share's own options.
pub use crate::share::Options as Share;
pub use command::{Ask, Batch, Command, Get, Output, Serve, Transfers, What};
pub use flags::{FLAGS, Flag, Verb, help, of as flags_of, overview};
pub use values::{is_loopback, read_token};

/// Bad usage. Its text is one line, for stderr; the exit status is 2.
#[derive(Debug)]
pub struct UsageError {
    line: String,
    /// The command that it is about, if there is one.
    verb: Option<Verb>,
}

impl UsageError {
    /// `message` is what was wrong; control characters in it are escaped, so that it stays one
    /// line.
    pub fn new(message: impl AsRef<str>) -> UsageError {
        let mut line = String::new();
        for character in message.as_ref().chars() {
            match character.is_control() {
                true => line.extend(character.escape_default()),
                false => line.push(character),
            }
        }
        UsageError { line, verb: None }
    }

    /// The same, about this command.
    pub fn of(self, verb: Verb) -> UsageError {
        UsageError {
            verb: Some(verb),
            ..self
        }
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verb {
            Some(verb) => write!(f, "{} (try 'haul {} --help')", self.line, verb.name()),
            None => write!(f, "{} (try 'haul --help')", self.line),
        }
    }
}

impl std::error::Error for UsageError {}

/// Reads the arguments, without the program's name, and the environment.
///
/// # Errors
/// Bad usage, said in one line.
pub fn parse(
    args: impl Iterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    let mut parser = lexopt::Parser::from_args(args);
    let verb = match parser.next().map_err(unusable)? {
        Some(Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help(overview())),
        Some(Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
        Some(Arg::Value(word)) => verb_of(&word)?,
        Some(Arg::Long(name)) => {
            let meant = suggest::nearest(name, &["help", "version"]);
            let meant = meant.map(|name| format!("; did you mean --{name}?"));
            let meant = meant.unwrap_or_default();
            return Err(UsageError::new(format!("invalid option '--{name}'{meant}")));
        }
        Some(other) => return Err(unusable(other.unexpected())),
        None => {
            return Err(UsageError::new(
                "a command is missing, such as get, serve or share",
            ));
        }
    };
    parse_rest(verb, parser, env).map_err(|error| error.of(verb))
}

fn verb_of(word: &OsStr) -> Result<Verb, UsageError> {
    let found = Verb::ALL.into_iter().find(|verb| word == verb.name());
    found.ok_or_else(|| {
        let names = Verb::ALL.map(Verb::name);
        let meant = suggest::nearest(&word.to_string_lossy(), &names);
        let meant = meant.map(|name| format!("; did you mean {name}?"));
        let meant = meant.unwrap_or_default();
        UsageError::new(format!("there is no command {word:?}{meant}"))
    })
}

fn unknown_flag(verb: Verb, name: &str) -> UsageError {
    let known = flags::of(verb).map(|flag| flag.name);
    let known: Vec<&str> = known.chain(["help", "version"]).collect();
    let meant = suggest::nearest(name, &known);
    let meant = meant.map(|name| format!("; did you mean --{name}?"));
    UsageError::new(format!(
        "invalid option '--{name}'{}",
        meant.unwrap_or_default()
    ))
}

fn parse_rest(
    verb: Verb,
    mut parser: lexopt::Parser,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Command, UsageError> {
    // An empty variable counts as unset, wherever it is looked at.
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let mut given = Given::new(verb, &env);
    while let Some(arg) = parser.next().map_err(unusable)? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help(help(verb))),
            Arg::Short('V') | Arg::Long("version") => return Ok(Command::Version),
            Arg::Long(name) => {
                let flag = flags::of(verb).find(|flag| flag.name == name);
                let Some(flag) = flag else {
                    return Err(unknown_flag(verb, name));
                };
                let value = match flag.value {
                    "" => "true".into(),
                    _ => parser.value().map_err(unusable)?,
                };
                given.flags.push((flag.name, value));
            }
            Arg::Value(word) if given.operands.len() < verb.operands().1 => {
                given.operands.push(word);
            }
            other => return Err(unusable(other.unexpected())),
        }
    }
    match verb {
        Verb::Serve => given.serve().map(Command::Serve),
        Verb::Share => given.share().map(Command::Share),
        Verb::Get => given.get_or_batch(),
        Verb::Completions => given.completions().map(Command::Help),
        Verb::Man => Ok(Command::Help(man::page())),
        Verb::Version => Ok(Command::Version),
        Verb::Help => match given.operands.first() {
            Some(word) => verb_of(word).map(|verb| Command::Help(help(verb))),
            None => Ok(Command::Help(overview())),
        },
        Verb::Add
        | Verb::Inspect
        | Verb::Ls
        | Verb::Show
        | Verb::Pause
        | Verb::Resume
        | Verb::Rm
        | Verb::Wait
        | Verb::Verify
        | Verb::Settings
        | Verb::Health => given.ask().map(Command::Ask),
    }
}

fn unusable(error: lexopt::Error) -> UsageError {
    UsageError::new(error.to_string())
}
