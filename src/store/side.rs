//! Side files: what is too large for the state and written only once, such as a package's file
//! list.

use std::fs::File;
use std::io::{self, BufReader, Write};

use super::folder::is_temporary;
use super::{State, Store, StoreError};

/// The longest name of a side file, in bytes.
const MAX_NAME: usize = 200;

impl<S: State> Store<S> {
    /// Writes the side file `name` whole; on disk when this returns. `name` is made of at most 200
    /// ASCII letters, digits, `-`, `_` and `.`, does not begin with `.` and does not end with
    /// `.tmp`.
    ///
    /// # Errors
    /// Any fault of the disk, or of `write`; the file is then as it was before. A name that is not
    /// allowed.
    pub fn write_side(
        &self,
        name: &str,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        check(name)
            .and_then(|()| self.side.replace(&*self.disk, name, write))
            .map(|_| ())
            .map_err(|error| {
                StoreError::io(
                    "write",
                    &self.side.path.join(name),
                    &self.folder.path,
                    error,
                )
            })
    }

    /// Opens the side file `name`.
    ///
    /// # Errors
    /// `NotFound` if there is none; any other fault of the disk; a name that is not allowed.
    pub fn read_side(&self, name: &str) -> io::Result<BufReader<File>> {
        check(name)?;
        Ok(BufReader::with_capacity(64 << 10, self.side.read(name)?))
    }

    /// Opens the side file `name` for reading and writing in place, made where it is missing. What
    /// is written to it is on disk when it was synced.
    ///
    /// # Errors
    /// Any fault of the disk; a name that is not allowed.
    pub fn open_side(&self, name: &str) -> io::Result<File> {
        check(name)?;
        self.side.open_or_make(name)
    }

    /// Removes the side file `name`, if it is there. A failure is logged: the file is an orphan
    /// then, to be removed at the next start.
    pub fn remove_side(&self, name: &str) {
        if let Err(error) = check(name).and_then(|()| self.side.remove(name)) {
            let path = self.side.path.join(name);
            log::warn!("cannot remove {}: {error}", path.display());
        }
    }

    /// The names of all side files, so that orphans can be removed at the start; none if they
    /// cannot be listed.
    pub fn side_names(&self) -> Vec<String> {
        self.side.names().unwrap_or_else(|error| {
            log::warn!("cannot list {}: {error}", self.side.path.display());
            Vec::new()
        })
    }
}

fn check(name: &str) -> io::Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fit = !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.starts_with('.')
        && !is_temporary(name)
        && name.bytes().all(allowed);
    if fit {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a name for a side file",
        ))
    }
}
