//! Running the program: starting it, reading what it prints, ending it, always within bounds.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::PATIENCE;

/// The program under test, with none of the caller's settings.
pub fn haul() -> Command {
    let binary = std::env::var("HAUL_TEST_BINARY")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_haul").to_string());
    let mut command = Command::new(binary);
    // No test may touch the caller's own state.
    command.env("HOME", "/nowhere");
    for (name, _) in std::env::vars() {
        if name.starts_with("HAUL_")
            || name.to_lowercase().ends_with("_proxy")
            || ["STATE_DIRECTORY", "XDG_STATE_HOME", "NOTIFY_SOCKET"].contains(&name.as_str())
        {
            command.env_remove(name);
        }
    }
    command
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Every line of `--json`.
    pub fn events(&self) -> Vec<Value> {
        let read = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(read).collect()
    }

    /// The last of them.
    pub fn last_event(&self) -> Value {
        self.events().pop().expect("an event")
    }
}

/// Runs a program that must end by itself.
pub fn run(command: &mut Command) -> Finished {
    Running::start(command).finish()
}

/// A child whose output is read all the time; killed when dropped.
pub struct Running {
    child: Child,
    pub stdout: Output,
    pub stderr: Output,
}

impl Running {
    pub fn start(command: &mut Command) -> Running {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Running {
            child,
            stdout,
            stderr,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until somebody can connect there.
    pub fn await_listening(&mut self, address: SocketAddr) {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            assert!(!self.has_ended(), "it ended: {}", self.stderr.rest());
            assert!(Instant::now() < end, "nobody listens on {address}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill9(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits for its end; what it printed and how it ended.
    pub fn finish(mut self) -> Finished {
        Finished {
            status: self.wait_exit(),
            stdout: self.stdout.rest(),
            stderr: self.stderr.rest(),
        }
    }

    /// How it ended; panics where it goes on.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                start.elapsed() <= PATIENCE,
                "still running; stderr: {}",
                self.stderr.text()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// One output of a child, collected by a thread.
pub struct Output {
    text: Arc<Mutex<String>>,
    lines: Mutex<Receiver<String>>,
}

impl Output {
    fn of(source: impl Read + Send + 'static) -> Output {
        let text = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = mpsc::channel();
        let collected = text.clone();
        thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let read = String::from_utf8_lossy(&line).into_owned();
                collected.lock().unwrap().push_str(&read);
                // Nobody may be waiting for lines.
                let _ = sender.send(read);
                line.clear();
            }
        });
        let lines = Mutex::new(lines);
        Output { text, lines }
    }

    /// What was printed so far.
    pub fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// The next line, without its end; None where the output ended before.
    pub fn line(&self) -> Option<String> {
        let line = self.lines.lock().unwrap().recv_timeout(PATIENCE).ok()?;
        Some(line.trim_end_matches('\n').to_string())
    }

    /// Everything that was printed, once the output has ended.
    pub fn rest(&self) -> String {
        let lines = self.lines.lock().unwrap();
        while lines.recv_timeout(PATIENCE).is_ok() {}
        self.text()
    }
}
