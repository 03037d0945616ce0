//! The agent under test: the real binary on a free port, with a state directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::PATIENCE;
use super::http::{self, Answer};
use super::origin::Origin;
use super::process::{Running, haul};

/// Where the downloads are.
pub const DOWNLOADS: &str = "/api/v1/downloads";

/// How to start an agent.
pub struct Setup {
    home: TempDir,
    args: Vec<String>,
    /// A command line that the binary's is appended to, such as one that enters a namespace.
    wrapper: Vec<String>,
    log: &'static str,
}

impl Setup {
    pub fn new() -> Setup {
        Setup {
            home: tempfile::tempdir().unwrap(),
            args: Vec::new(),
            wrapper: Vec::new(),
            log: "debug",
        }
    }

    /// Logs what is usually logged, and no more.
    pub fn quiet(mut self) -> Setup {
        self.log = "warn";
        self
    }

    pub fn origin(self, origin: &Origin) -> Setup {
        let pair = format!("{}={}", origin.base(), origin.api());
        self.args(&["--origin", &pair])
    }

    pub fn args(mut self, args: &[&str]) -> Setup {
        self.args.extend(args.iter().map(ToString::to_string));
        self
    }

    pub fn wrapper<W: ToString>(mut self, words: &[W]) -> Setup {
        self.wrapper = words.iter().map(ToString::to_string).collect();
        self
    }

    pub fn state_dir(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The command line; `listen` is used where the arguments do not say.
    pub fn command(&self) -> Command {
        let bare = haul();
        let mut command = match self.wrapper.split_first() {
            None => bare,
            Some((program, args)) => {
                let mut command = Command::new(program);
                command.args(args).arg(bare.get_program());
                command
            }
        };
        command
            .arg("serve")
            .arg("--state-dir")
            .arg(self.state_dir());
        if !self.args.iter().any(|arg| arg == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .args(&self.args)
            .env("RUST_LOG", self.log)
            .env("HOME", self.home.path());
        command
    }

    pub fn start(self) -> Agent {
        let (running, address) = launch(&self);
        Agent {
            setup: self,
            running,
            address,
            earlier_logs: String::new(),
        }
    }
}

fn launch(setup: &Setup) -> (Running, SocketAddr) {
    let running = Running::start(&mut setup.command());
    let address = ready(&running);
    (running, address)
}

/// The address in the ready line.
pub fn ready(running: &Running) -> SocketAddr {
    let line = running.stdout.line();
    let address = line
        .as_deref()
        .and_then(|line| line.strip_prefix("listening on http://"))
        .and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("not ready: {line:?}; stderr: {}", running.stderr.text()))
}

pub struct Agent {
    setup: Setup,
    running: Running,
    pub address: SocketAddr,
    earlier_logs: String,
}

impl Agent {
    /// An agent that knows this upstream.
    pub fn of(origin: &Origin) -> Agent {
        Setup::new().origin(origin).start()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.setup.state_dir()
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub fn get(&self, target: &str) -> Answer {
        http::send(self.address, "GET", target, &[], None)
    }

    pub fn delete(&self, target: &str) -> Answer {
        http::send(self.address, "DELETE", target, &[], None)
    }

    /// A POST without a body.
    pub fn act(&self, target: &str) -> Answer {
        http::send(self.address, "POST", target, &[], None)
    }

    /// A POST of this text, said to be JSON.
    pub fn post(&self, target: &str, body: &str) -> Answer {
        let headers = [("Content-Type", "application/json")];
        http::send(self.address, "POST", target, &headers, Some(body))
    }

    pub fn order(&self, order: &Value) -> Answer {
        self.post(DOWNLOADS, &order.to_string())
    }

    /// Asks for the origin's package; the new download's identifier.
    pub fn create(&self, origin: &Origin, dst: &Path) -> String {
        self.create_with(origin, dst, json!({}))
    }

    /// The same, with further fields in the order.
    pub fn create_with(&self, origin: &Origin, dst: &Path, more: Value) -> String {
        let mut order = json!({"url": origin.link(), "dst_folder": dst});
        for (name, value) in more.as_object().unwrap() {
            order[name] = value.clone();
        }
        let summary = self.order(&order).expect(201);
        summary["download_id"].as_str().unwrap().to_string()
    }

    /// The whole record.
    pub fn inspect(&self, id: &str) -> Value {
        self.get(&one(id)).expect(200)
    }

    /// The record without what others change: how much is free on the disk.
    pub fn standing(&self, id: &str) -> Value {
        let mut record = self.inspect(id);
        record.as_object_mut().unwrap().remove("bytes_free");
        record
    }

    pub fn pause(&self, id: &str) -> Answer {
        self.act(&format!("{}/pause", one(id)))
    }

    pub fn resume(&self, id: &str) -> Answer {
        self.act(&format!("{}/resume", one(id)))
    }

    /// Identifiers of all downloads, in the order of the list.
    pub fn ids(&self) -> Vec<String> {
        let list = self.get(DOWNLOADS).expect(200);
        let list = list.as_array().unwrap().iter();
        list.map(|one| one["download_id"].as_str().unwrap().into())
            .collect()
    }

    /// Waits until the record is as wanted. The API has no events, so it is asked now and again.
    pub fn wait(&self, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let record = self.inspect(id);
            if wanted(&record) {
                return record;
            }
            let logs = self.running.stderr.text();
            let tail = logs.len().saturating_sub(4000);
            let tail = logs.get(tail..).unwrap_or(&logs);
            assert!(
                Instant::now() < end,
                "waited for {what}: {record:#}\n{tail}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait_state(&self, id: &str, state: &str) -> Value {
        self.wait(id, state, |record| {
            let now = record["state"].as_str().unwrap();
            let lost = state == "complete" && now == "error";
            assert!(!lost, "waited for complete: {record:#}");
            now == state
        })
    }

    /// Waits until nothing of it moves any more: complete or error.
    pub fn wait_end(&self, id: &str) -> Value {
        self.wait(id, "an end", |record| record["state"] != "transferring")
    }

    pub fn kill9(&mut self) {
        self.running.kill9();
        self.earlier_logs += &self.running.stderr.rest();
    }

    /// SIGTERM; how it ended and how long that took.
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        self.end_by(Signal::TERM)
    }

    pub fn end_by(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let start = Instant::now();
        self.running.signal(signal);
        let status = self.running.wait_exit();
        let took = start.elapsed();
        self.earlier_logs += &self.running.stderr.rest();
        (status, took)
    }

    /// Starts again on the same state directory; the port is another one.
    pub fn restart(&mut self) {
        (self.running, self.address) = launch(&self.setup);
    }

    /// Everything that was logged, earlier runs included.
    pub fn logs(&self) -> String {
        format!("{}{}", self.earlier_logs, self.running.stderr.text())
    }

    /// Everything after the ready line; what there is once the agent has ended.
    /// Waits until the log has that text so many times.
    pub fn await_log(&self, text: &str, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.logs().matches(text).count() < count {
            assert!(Instant::now() < end, "no {text}: {}", self.logs());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn stdout(&self) -> String {
        self.running.stdout.text()
    }
}

/// Where one download is.
pub fn one(id: &str) -> String {
    format!("{DOWNLOADS}/{id}")
}

/// A file's row in a record.
pub fn row(record: &Value, file: &str) -> Value {
    let rows = record["files"].as_array().unwrap();
    let found = rows.iter().find(|row| row["file_id"] == file);
    found
        .unwrap_or_else(|| panic!("no {file} in {record:#}"))
        .clone()
}
