//! The system's words for an error, as a user is to read them.

use std::io;

/// What an error says, without the number that the standard library adds to the system's words, and
/// as the middle of a sentence.
pub fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => {
            let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
            first.to_lowercase() + &rest[..end - first.len()]
        }
        None => text,
    }
}

/// What to say where stdout takes no more.
pub fn stdout_failed(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::BrokenPipe => "stdout is closed".to_owned(),
        _ => format!("cannot write to stdout: {}", words(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_left_out() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(words(&refused), "connection refused");
        assert_eq!(
            words(&io::Error::other("Nothing to read")),
            "Nothing to read"
        );
    }
}
