//! A few hosts of which something was found out.

use std::sync::{Mutex, MutexGuard};

use crate::base::locks;

/// A hostile listing could name many.
const MOST: usize = 64;

/// At most [`MOST`] hosts; what is added beyond that is not kept.
#[derive(Debug, Default)]
pub struct Hosts(Mutex<Vec<String>>);

impl Hosts {
    fn hosts(&self) -> MutexGuard<'_, Vec<String>> {
        locks::lock(&self.0)
    }

    pub fn has(&self, host: &str) -> bool {
        self.hosts().iter().any(|known| known == host)
    }

    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.hosts().len() >= MOST
    }

    pub fn add(&self, host: &str) {
        let mut hosts = self.hosts();
        if hosts.len() < MOST && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_each_host_once_and_only_so_many() {
        let hosts = Hosts::default();
        hosts.add("a:1");
        hosts.add("a:1");
        assert!(hosts.has("a:1") && !hosts.has("a"));
        for number in 1..MOST {
            assert!(!hosts.is_full());
            hosts.add(&number.to_string());
        }
        assert!(hosts.is_full());
        hosts.add("late");
        assert!(!hosts.has("late"));
    }
}
