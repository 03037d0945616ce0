//! Proxies that others wrote: tinyproxy for HTTP, microsocks for SOCKS5.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::nginx::free_address;
use super::process::Running;

/// A proxy that runs, and ends with this.
pub struct Forward {
    pub address: SocketAddr,
    running: Running,
    dir: TempDir,
}

impl Forward {
    /// tinyproxy, with more lines for its configuration. None, with the reason printed, where it is
    /// not installed; with `CI=true` it must be.
    pub fn http(address: SocketAddr, more: &str) -> Option<Forward> {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("tinyproxy.conf");
        let log = dir.path().join("log");
        let lines = [
            format!("Listen {}", address.ip()),
            format!("Port {}", address.port()),
            format!("LogFile \"{}\"", log.display()),
            "LogLevel Connect\nTimeout 60\nMaxClients 100\n".into(),
            more.into(),
        ];
        fs::write(&config, lines.join("\n")).unwrap();
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&config);
        Forward::start(command, address, dir)
    }

    /// microsocks.
    pub fn socks(user: Option<(&str, &str)>) -> Option<Forward> {
        let address = free_address();
        let mut command = Command::new("microsocks");
        command.args(["-i", &address.ip().to_string()]);
        command.args(["-p", &address.port().to_string()]);
        if let Some((user, password)) = user {
            command.args(["-u", user, "-P", password]);
        }
        Forward::start(command, address, tempfile::tempdir().unwrap())
    }

    fn start(mut command: Command, address: SocketAddr, dir: TempDir) -> Option<Forward> {
        let program = command.get_program().to_owned();
        if let Err(error) = Command::new(&program).arg("-h").output() {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "{program:?}: {error}"
            );
            eprintln!("skipped: {program:?} is not installed: {error}");
            return None;
        }
        let mut running = Running::start(&mut command);
        running.await_listening(address);
        Some(Forward {
            address,
            running,
            dir,
        })
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        let file = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        file + &self.running.stderr.text()
    }
}
