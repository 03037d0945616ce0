//! A wall clock of the agent's own, that a test can set while it runs. The monotonic clock goes on
//! as it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Where Debian's and others' libfaketime is.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The clock, as far as programs that are started through it can tell.
pub struct Clock {
    library: &'static str,
    folder: TempDir,
}

impl Clock {
    /// A clock that is right. None, with the reason printed, where there is no libfaketime; in CI
    /// there must be.
    pub fn new() -> Option<Clock> {
        let found = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
        let Some(library) = found else {
            assert!(std::env::var_os("CI").is_none(), "CI needs libfaketime");
            eprintln!("skipped: no libfaketime here");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock { library, folder };
        clock.set("+0");
        Some(clock)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("time")
    }

    /// Sets it for all who look at it, from now on: `+10y`, `-3600`, as seconds or years from the
    /// true time.
    pub fn set(&self, offset: &str) {
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        // At once: nobody reads half of it.
        fs::rename(&new, self.file()).unwrap();
    }

    /// The words that a command line begins with to go by this clock.
    pub fn wrapper(&self) -> Vec<String> {
        let words = [
            "env".to_string(),
            format!("LD_PRELOAD={}", self.library),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file().display()),
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            "NO_FAKE_STAT=1".into(),
        ];
        words.into()
    }

    /// Whether a program goes by it: a static one knows no preloaded library.
    pub fn moves(&self, program: &Path) -> bool {
        // Of some static programs ldd says so, and fails with others.
        let found = Command::new("ldd").arg(program).output();
        let moves = found.is_ok_and(|output| {
            output.status.success() && String::from_utf8_lossy(&output.stdout).contains("libc.")
        });
        if !moves {
            eprintln!("skipped: {} is static", program.display());
        }
        moves
    }
}
