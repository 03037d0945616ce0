//! Tells who waits that nothing comes: without a network, the first fault that is final is a day
//! away.

use std::time::{Duration, Instant};

use crate::cli::human;
use crate::model::download::Summary;

/// Nothing for so long is told where a fault is known or the server has never answered.
const SOON: Duration = Duration::from_secs(5);
/// Nothing for so long is told where bytes have come before, or should.
const LATER: Duration = Duration::from_secs(8);

/// What of a download tells whether something comes.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The server has answered what the link leads to.
    resolved: bool,
    bytes_done: u64,
    bytes_total: Option<u64>,
    /// What is being retried.
    fault: Option<String>,
}

impl From<&Summary<'_>> for Seen {
    fn from(summary: &Summary<'_>) -> Seen {
        Seen {
            resolved: summary.package_id.is_some(),
            bytes_done: summary.bytes_done,
            bytes_total: summary.bytes_total,
            fault: summary
                .error
                .as_ref()
                .map(|problem| problem.message.clone()),
        }
    }
}

/// Watches one download for as long as it goes on.
pub struct Silence {
    /// Whom the link leads to, such as `get.massive.app`.
    server: String,
    retry_for: Duration,
    /// Whether bytes may be held back on purpose.
    limited: bool,
    since: Instant,
    bytes: u64,
    told: bool,
}

impl Silence {
    /// `retry_for` is how long faults are retried without a byte.
    pub fn new(server: String, retry_for: Duration, limited: bool, now: Instant) -> Silence {
        Silence {
            server,
            retry_for,
            limited,
            since: now,
            bytes: 0,
            told: false,
        }
    }

    /// What is to be said now, once for each time that nothing comes. There is no download before
    /// the server has been asked.
    pub fn look(&mut self, download: Option<&Seen>, now: Instant) -> Option<String> {
        let bytes = download.map_or(0, |seen| seen.bytes_done);
        if bytes != self.bytes {
            self.bytes = bytes;
            self.since = now;
            self.told = false;
        }
        let fault = download.and_then(|seen| seen.fault.as_deref());
        let most = match download {
            _ if fault.is_some() => SOON,
            None => SOON,
            Some(seen) if !seen.resolved => SOON,
            // A long list of files may take its time; so may a disk, once everything has come.
            Some(seen) if seen.bytes_total.is_none_or(|total| bytes >= total) => return None,
            Some(_) if self.limited => return None,
            Some(_) => LATER,
        };
        if self.told || now.duration_since(self.since) < most {
            return None;
        }
        self.told = true;
        Some(self.sentence(fault))
    }

    fn sentence(&self, fault: Option<&str>) -> String {
        let why = fault.map(|fault| fault.trim_end_matches("; trying again"));
        format!(
            "{} cannot be reached{}; haul goes on trying for {} without a byte. Ctrl-C stops it, \
             and the same command \
             goes on later",
            self.server,
            why.map_or_else(String::new, |why| format!(" ({why})")),
            human::time(self.retry_for.as_secs())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(limited: bool, begin: Instant) -> Silence {
        Silence::new(
            "own.example".into(),
            Duration::from_secs(86_400),
            limited,
            begin,
        )
    }

    fn seen(bytes_done: u64, resolved: bool, fault: bool) -> Option<Seen> {
        Some(Seen {
            resolved,
            bytes_done,
            bytes_total: resolved.then_some(100),
            fault: fault.then(|| "own.example: connection refused; trying again".into()),
        })
    }

    /// What was said, and after how many seconds, while `at` tells what there is to see.
    fn said(limited: bool, at: impl Fn(u64) -> Option<Seen>) -> Vec<(u64, String)> {
        let begin = Instant::now();
        let mut silence = silence(limited, begin);
        let look = |second| {
            let text = silence.look(at(second).as_ref(), begin + Duration::from_secs(second))?;
            Some((second, text))
        };
        (0..60).filter_map(look).collect()
    }

    #[test]
    fn it_is_said_within_ten_seconds_and_once() {
        for (limited, at) in [
            (false, None),
            (true, seen(0, false, false)),
            (true, seen(0, false, true)),
            (true, seen(50, true, true)),
            (false, seen(50, true, false)),
        ] {
            let has_fault = at.as_ref().is_some_and(|seen| seen.fault.is_some());
            let all = said(limited, |_| at.clone());
            let [(second, text)] = &all[..] else {
                panic!("{all:?}");
            };
            assert!(*second < 10, "{second}");
            for part in [
                "own.example cannot be reached",
                "for 1 d",
                "Ctrl-C",
                "same command",
            ] {
                assert!(text.contains(part), "{text}");
            }
            assert_eq!(
                text.contains("(own.example: connection refused)"),
                has_fault
            );
        }
    }

    #[test]
    fn who_gets_bytes_or_waits_for_something_else_hears_nothing() {
        let none: Vec<(u64, String)> = Vec::new();
        assert_eq!(said(false, |second| seen(second, true, false)), none);
        assert_eq!(said(false, |_| seen(100, true, false)), none);
        assert_eq!(said(true, |_| seen(1, true, false)), none);
        let mut listing = seen(0, true, false).unwrap();
        listing.bytes_total = None;
        assert_eq!(said(false, |_| Some(listing.clone())), none);
    }

    #[test]
    fn a_second_time_without_bytes_is_said_again() {
        let all = said(false, |second| seen(1 + second / 30, true, true));
        assert_eq!(all.len(), 2, "{all:?}");
    }
}
