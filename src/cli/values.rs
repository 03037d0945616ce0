//! From a flag's text to what it means. Every error is a short text without the flag's name.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value, json};

use super::UsageError;
use crate::base::listen::Address;
use crate::base::permission::explained;
use crate::base::secret::Secret;
use crate::model::manifest::Manifest;
use crate::model::request::IfExists;
use crate::model::schedule::Rate;
use crate::model::settings::{Days, MAX_DAYS};
use crate::model::state::State;

/// A token file is looked at this far, in bytes.
const TOKEN_FILE_LIMIT: u64 = 4096;

/// `127.0.0.1:8080`, `[::1]:8080` or `localhost:8080`.
///
/// A bare `:8080` means all interfaces to some programs and loopback to others, so it is refused.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:") {
        return port
            .parse()
            .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
            .map_err(|_| format!("{text:?} has no port from 0 to 65535"));
    }
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address and port such as 127.0.0.1:8080, [::1]:8080 or localhost:8080"
        )
    })
}

/// The same, or `unix:` and the path of a socket.
pub fn listen_or_path(text: &str) -> Result<Address, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') && !path.ends_with('/') => {
            Ok(Address::Unix(path.into()))
        }
        Some(_) => Err(format!(
            "{text:?} is no absolute path such as unix:/run/haul.sock"
        )),
        None => listen(text).map(Address::Tcp),
    }
}

/// A group's number, by its name in /etc/group (group(5)) or as it is.
pub fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let number = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(text);
        fields.nth(1).filter(|_| named)?.parse().ok()
    });
    number.ok_or_else(|| format!("there is no group {text:?} in /etc/group"))
}

/// Whether only this machine can reach the address.
pub fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// A whole number in a range.
pub fn number(text: &str, min: usize, max: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no number from {min} to {max}")),
    }
}

/// A whole number in a range, of any type.
pub fn integer<T: FromStr + PartialOrd + Display + Copy>(
    text: &str,
    min: T,
    max: T,
) -> Result<T, String> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no whole number from {min} to {max}")),
    }
}

/// Seconds, a fraction allowed, in a range.
pub fn seconds(text: &str, min: f64, max: f64) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (min..=max).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!(
            "{text:?} is no number of seconds from {min} to {max}"
        )),
    }
}

/// A flag without a value, said by its variable.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// Permissions that are taken away, in octal as a shell's `umask` has them.
pub fn umask(text: &str) -> Result<u32, String> {
    let mask = u32::from_str_radix(text, 8).ok();
    let mask = mask.filter(|mask| *mask <= 0o777 && text.bytes().all(|b| b.is_ascii_digit()));
    match mask {
        Some(mask) if mask & 0o700 == 0 => Ok(mask),
        Some(_) => Err("it would keep haul itself from what it makes".into()),
        None => Err("it is an octal number such as 002 or 027".into()),
    }
}

/// An IP address of this machine.
pub fn local_address(text: &str) -> Result<IpAddr, String> {
    // Whether the machine has it now says nothing about later.
    text.parse()
        .map_err(|_| "it is an IP address of this machine".to_owned())
}

/// Days between two verifications.
pub fn days(text: &str) -> Result<Days, String> {
    integer(text, 1, MAX_DAYS).map(Days)
}

/// What is to be done with a name that is taken.
pub fn if_exists(text: &str) -> Result<IfExists, String> {
    match text {
        "rename" => Ok(IfExists::Rename),
        "overwrite" => Ok(IfExists::Overwrite),
        "skip" => Ok(IfExists::Skip),
        _ => Err(format!("{text:?} is not rename, overwrite or skip")),
    }
}

/// States of downloads, separated by commas.
pub fn states(text: &str) -> Result<Vec<State>, String> {
    text.split(',')
        .map(|name| {
            State::from_name(name.trim())
                .ok_or_else(|| format!("{name:?} is not transferring, paused, complete or error"))
        })
        .collect()
}

/// A package link, or where it is to be read. Its text is never part of an error.
pub fn link(word: OsString) -> Result<Secret, UsageError> {
    word.into_string()
        .map(Secret::new)
        .map_err(|_| UsageError::new("the link is not UTF-8"))
}

/// A download's identifier, or enough of its end or beginning.
pub fn id(word: OsString) -> Result<String, UsageError> {
    let text = word.to_str().unwrap_or_default();
    if (1..=26).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(text.to_ascii_uppercase());
    }
    Err(UsageError::new(format!(
        "{word:?} is no download's ID; haul ls lists them"
    )))
}

/// Whether the word is `all`, which no identifier has in it: it has no L.
pub fn is_all(words: &[OsString]) -> bool {
    matches!(words, [word] if word == "all")
}

/// Several of them.
pub fn ids(words: Vec<OsString>) -> Result<Vec<String>, UsageError> {
    words.into_iter().map(id).collect()
}

/// A rate limit, as [`Rate`] reads it.
pub fn rate(text: &str) -> Result<Rate, String> {
    text.parse()
}

/// One of the settings, such as `rate-limit=RATE`: its name, and its value in JSON.
pub fn setting(word: OsString) -> Result<(&'static str, Value), UsageError> {
    let text = word.to_str().unwrap_or_default();
    let wrong = |what: &str| UsageError::new(format!("{word:?}: {what}"));
    let Some((name, value)) = text.split_once('=') else {
        return Err(wrong(&settings_are()));
    };
    let name = name.replace('_', "-");
    let known = SETTINGS.iter().find(|(known, ..)| *known == name);
    let Some((name, _, read)) = known else {
        return Err(wrong(&settings_are()));
    };
    let value = read(value).map_err(|what| wrong(&what))?;
    Ok((*name, value))
}

/// How a setting's value is read from the command line.
type ReadValue = fn(&str) -> Result<Value, String>;

/// The settings' names, how they are written, and how they are read.
const SETTINGS: &[(&str, &str, ReadValue)] = &[
    ("rate-limit", "rate-limit=RATE", rate_or_none),
    ("workers", "workers=N", |text| {
        number(text, 1, 256).map(Value::from)
    }),
    ("manifest", "manifest=KIND", |text| {
        Manifest::or_none(text).map(|kind| json!(kind))
    }),
    ("verify-rate", "verify-rate=RATE", rate_or_none),
    (
        "verify-every-days",
        "verify-every-days=N",
        |text| match text {
            "none" => Ok(Value::Null),
            _ => days(text).map(|days| json!(days)),
        },
    ),
    ("windows-names", "windows-names=BOOL", |text| {
        boolean(text).map(Value::from)
    }),
];

fn rate_or_none(text: &str) -> Result<Value, String> {
    match text {
        "none" => Ok(Value::Null),
        _ => rate(text).map(|_| text.into()),
    }
}

fn settings_are() -> String {
    let names: Vec<&str> = SETTINGS.iter().map(|&(_, written, _)| written).collect();
    format!(
        "a setting is {}, such as rate-limit=10M or rate-limit=none",
        names.join(", ")
    )
}

/// The agent to be asked: a URL, `host:port` alone, or `unix:` and the path of a socket.
pub fn server(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return match path.starts_with('/') {
            true => Ok(text.to_owned()),
            false => Err(format!(
                "{text:?} is no absolute path such as unix:/run/haul.sock"
            )),
        };
    }
    match text.contains("://") {
        true => base_url(text),
        false => base_url(&format!("http://{text}")),
    }
}

/// Text for people: a package's name.
pub fn name(text: &str) -> Result<String, String> {
    if text.len() > 250 || text.chars().any(char::is_control) {
        return Err("must be at most 250 bytes without control characters".into());
    }
    Ok(text.to_owned())
}

/// A secret that goes into a header or a query. Its text is never part of the error.
pub fn secret(text: &str) -> Result<Secret, String> {
    if text.len() > 1024 || text.chars().any(char::is_control) || text.trim() != text {
        return Err(
            "must be at most 1024 bytes, without control characters or spaces at its ends".into(),
        );
    }
    Ok(Secret::new(text))
}

/// A link's identifier: what a URL's path can hold as it is (RFC 3986, section 2.3).
pub fn link_id(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte);
    if text.len() > 128 || !text.bytes().all(plain) || text.bytes().all(|byte| byte == b'.') {
        return Err(format!(
            "{text:?} must be at most 128 letters, digits, '-', '_', '~' and '.'"
        ));
    }
    Ok(text.to_owned())
}

/// An http or https URL without query and fragment; the slashes at its end are dropped.
pub fn base_url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    let odd = |byte: u8| !byte.is_ascii_graphic() || b"?#\"<>\\^`{|}@".contains(&byte);
    match rest {
        Some(rest)
            if !rest.starts_with(['/', ':']) && !rest.is_empty() && !rest.bytes().any(odd) =>
        {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "{text:?} is no URL such as https://example.com/packages"
        )),
    }
}

/// The state directory where none was asked for; None if the environment does not tell.
pub fn default_state_dir(env: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| {
        env(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    // systemd gives a list where a unit has more than one state directory (systemd.exec(5)).
    let unit = env("STATE_DIRECTORY")
        .and_then(|list| std::env::split_paths(&list).next())
        .filter(|path| path.is_absolute());
    unit.or_else(|| absolute("XDG_STATE_HOME").map(|dir| dir.join("haul")))
        .or_else(|| absolute("HOME").map(|dir| dir.join(".local/state/haul")))
}

/// A path that goes before all others: `/haul`, `haul/` and `/haul/` are the same, `/` is none.
pub fn base_path(text: &str) -> Result<String, String> {
    let path = text.trim_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '/');
    let dots = |part: &str| matches!(part, "" | "." | "..");
    match path {
        "" => Ok(String::new()),
        path if path.chars().all(is_plain) && !path.split('/').any(dots) => Ok(format!("/{path}")),
        _ => Err("give a path such as /haul, of letters, digits, -, _, . and ~".into()),
    }
}

/// Reads an API token: the file's first line, 1 to 1024 printable ASCII characters without spaces,
/// which is what an `Authorization` header can carry.
///
/// # Errors
/// A text that names the file and what is wrong with it, never what is in it.
pub fn read_token(path: &Path) -> Result<Secret, String> {
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(TOKEN_FILE_LIMIT).read_to_end(&mut text))
        .map_err(|error| {
            format!(
                "cannot read the token file {path:?}: {}",
                explained(&error, path)
            )
        })?;
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok(token)
            if (1..=1024).contains(&token.len())
                && token.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(Secret::new(token))
        }
        _ => Err(format!(
            "the first line of the token file {path:?} must be 1 to 1024 printable ASCII \
             characters without spaces"
        )),
    }
}
