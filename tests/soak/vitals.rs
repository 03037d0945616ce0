//! What a process holds: memory, descriptors, threads.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

pub struct Vitals {
    begun: Instant,
    /// The memory and the threads that count as normal are those of this much of the run.
    settling: Duration,
    first: u64,
    last: u64,
    files: usize,
    sockets: usize,
    threads: usize,
}

impl Vitals {
    /// Of a process that has nothing to do yet, for a run of so many seconds.
    pub fn of(pid: u32, seconds: u64) -> Vitals {
        let (files, sockets) = descriptors(pid);
        Vitals {
            begun: Instant::now(),
            settling: Duration::from_secs((seconds / 2).min(60)),
            first: memory(pid),
            last: 0,
            files,
            sockets,
            threads: threads(pid),
        }
    }

    /// Takes a look while it works.
    pub fn look(&mut self, pid: u32) {
        let now = memory(pid);
        if self.begun.elapsed() < self.settling {
            self.first = self.first.max(now);
            // Some are started when they are first needed.
            self.threads = self.threads.max(threads(pid));
        }
        self.last = now;
    }

    /// Asserts that memory has not grown, and that a process that has nothing to do again holds as
    /// much as before: connections that may be used again apart.
    pub fn assert_sound(&mut self, pid: u32, workers: usize) {
        assert!(
            self.last * 10 <= self.first * 12,
            "{} kB of memory after {} kB at first",
            self.last,
            self.first
        );
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let (files, sockets) = descriptors(pid);
            let threads = threads(pid);
            // What may be used again: upstream by each worker and each task, and a few inside the
            // API.
            let few = files <= self.files && sockets <= self.sockets + 2 * workers + 8;
            if few && threads <= self.threads {
                return;
            }
            assert!(
                Instant::now() < end,
                "{files} files, {sockets} sockets, {threads} threads are left; before: {self}"
            );
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kB of memory at first, {} kB at last; {} files, {} sockets, {} threads at rest",
            self.first, self.last, self.files, self.sockets, self.threads
        )
    }
}

/// Resident memory in kB.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().split(' ').next();
    kib.unwrap().parse().unwrap()
}

/// Open descriptors: sockets, and all others.
fn descriptors(pid: u32) -> (usize, usize) {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let links: Vec<_> = links
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    let sockets = links
        .iter()
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count();
    (links.len() - sockets, sockets)
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}
