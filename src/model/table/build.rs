//! Building a table, folder by folder and file by file.

use super::*;

/// Builds a [`FileTable`], folder by folder and file by file.
pub struct TableBuilder {
    table: FileTable,
}

impl Default for TableBuilder {
    fn default() -> TableBuilder {
        let root = Dir {
            parent: ROOT,
            name: String::new(),
            ours: false,
        };
        TableBuilder {
            table: FileTable {
                dirs: vec![root],
                entries: Vec::new(),
                text: String::new(),
                states: Vec::new(),
                done: Vec::new(),
                verified: Vec::new(),
                extras: RwLock::default(),
                sums: Sums::default(),
            },
        }
    }
}

impl TableBuilder {
    /// Adds a folder and returns its index. Folders come before what is in them; [`ROOT`] is there
    /// already.
    ///
    /// # Errors
    /// A parent that does not exist, or more than `u32::MAX` folders.
    pub fn dir(&mut self, dir: Dir) -> Result<u32, TableError> {
        let index = u32::try_from(self.table.dirs.len()).map_err(|_| TableError::TooMany)?;
        if dir.parent >= index {
            return Err(TableError::Inconsistent);
        }
        self.table.dirs.push(dir);
        Ok(index)
    }

    /// Adds a file; its index is the number of files before it.
    ///
    /// # Errors
    /// A folder that does not exist, an identifier or name over 65,535 bytes, more than `u32::MAX`
    /// files.
    pub fn file(&mut self, file: NewFile) -> Result<u32, TableError> {
        let table = &mut self.table;
        let index = u32::try_from(table.entries.len()).map_err(|_| TableError::TooMany)?;
        if file.dir as usize >= table.dirs.len() {
            return Err(TableError::Inconsistent);
        }
        let own_size = match file.slice {
            Some((start, end)) if start < end && end <= file.size => end - start,
            Some(_) => return Err(TableError::Inconsistent),
            None => file.size,
        };
        table.entries.push(Entry {
            size: file.size,
            mtime: file.mtime.unwrap_or(i64::MIN),
            text: table.text.len() as u64,
            dir: file.dir,
            id_len: u16::try_from(file.id.len()).map_err(|_| TableError::TooLong)?,
            name_len: u16::try_from(file.name.len()).map_err(|_| TableError::TooLong)?,
        });
        table.text.push_str(&file.id);
        table.text.push_str(&file.name);
        let state = if file.skip.is_some() {
            FileState::Skipped
        } else {
            FileState::Pending
        };
        table.states.push(AtomicU8::new(state as u8));
        table.done.push(AtomicU64::new(0));
        table.verified.push(AtomicU8::new(0));
        match file.skip {
            Some(_) => *table.sums.skipped.get_mut() += 1,
            None => {
                let total = table.sums.bytes_total.get_mut();
                *total = total.checked_add(own_size).ok_or(TableError::TooMany)?;
            }
        }
        let is_plain = file.original.is_none() && file.part.is_none();
        if !is_plain || file.skip.is_some() || file.slice.is_some() {
            let problem = file.skip.and_then(Skip::problem);
            let extra = Extra {
                original: file.original,
                part: file.part,
                skip: file.skip,
                slice: file.slice,
                problem,
                ..Extra::default()
            };
            table
                .extras
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(index, extra);
        }
        Ok(index)
    }

    pub fn finish(mut self) -> FileTable {
        self.table.text.shrink_to_fit();
        self.table.entries.shrink_to_fit();
        self.table.states.shrink_to_fit();
        self.table.done.shrink_to_fit();
        self.table.verified.shrink_to_fit();
        self.table
    }
}
