//! Log lines while bars are on the terminal: held back, and written above the bars when these are
//! drawn next.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard};

use crate::base::locks;

/// More is dropped, in bytes: it is a screen's worth many times over.
const MOST: usize = 64 << 10;

/// None while lines go straight to stderr.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Vec<u8>>> {
    locks::lock(&HELD)
}

/// Where the log goes; the program's logger writes to it.
pub struct LogTarget;

impl Write for LogTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match held().as_mut() {
            Some(lines) if lines.len() + bytes.len() <= MOST => lines.extend_from_slice(bytes),
            Some(_) => {}
            None => io::stderr().write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// From now on lines are held back; dropping this lets them go.
pub struct Holding(());

impl Holding {
    pub fn begin() -> Holding {
        held().get_or_insert_default();
        Holding(())
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<u8> {
        held().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let lines = held().take().unwrap_or_default();
        // Where stderr is gone there is nobody to tell.
        let _ = io::stderr().write_all(&lines);
    }
}
