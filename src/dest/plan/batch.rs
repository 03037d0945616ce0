//! Listed files on their way to the table: in batches, so that memory is given back as it goes.

use std::collections::VecDeque;

use crate::model::table::{Skip, TableError};

use super::{ENTRIES_MAX, PlanError};

/// Files in a batch: some 500 KB.
const BATCH: usize = 8192;

/// A file, its texts apart.
#[derive(Default)]
pub(super) struct Row {
    pub size: u64,
    pub mtime: Option<i64>,
    /// Where its identifier begins in the batch's text; the mended name follows.
    pub text: u32,
    pub id_len: u16,
    pub name_len: u16,
    pub folder: u32,
    /// Why it is not downloaded, whatever is on the disk.
    pub withheld: Option<Skip>,
    /// Its name is taken on the disk and stays so.
    pub exists: bool,
    /// It has its listed name, which nothing in the package contests.
    pub first: bool,
}

#[derive(Default)]
pub(super) struct Batch {
    text: String,
    pub rows: Vec<Row>,
}

impl Batch {
    pub fn id(&self, row: &Row) -> &str {
        let start = row.text as usize;
        &self.text[start..start + usize::from(row.id_len)]
    }

    pub fn name(&self, row: &Row) -> &str {
        let start = row.text as usize + usize::from(row.id_len);
        &self.text[start..start + usize::from(row.name_len)]
    }
}

/// All files, in listing order.
#[derive(Default)]
pub(super) struct Batches {
    batches: VecDeque<Batch>,
    len: u32,
}

impl Batches {
    /// Adds a file with its mended name; its index is the number of files before it.
    pub fn push(&mut self, id: &str, name: &str, row: Row) -> Result<u32, PlanError> {
        if self.len == ENTRIES_MAX {
            return Err(PlanError::TooMany);
        }
        if self
            .batches
            .back()
            .is_none_or(|batch| batch.rows.len() == BATCH)
        {
            self.batches.push_back(Batch {
                text: String::new(),
                rows: Vec::with_capacity(BATCH.min(64)),
            });
        }
        let batch = self
            .batches
            .back_mut()
            .expect("one was just added where none had room");
        let too_long = |_| TableError::TooLong;
        batch.rows.push(Row {
            // 8,192 texts of at most 2 * 65,535 bytes each: below 2^32.
            text: u32::try_from(batch.text.len()).map_err(too_long)?,
            id_len: u16::try_from(id.len()).map_err(too_long)?,
            name_len: u16::try_from(name.len()).map_err(too_long)?,
            ..row
        });
        batch.text.push_str(id);
        batch.text.push_str(name);
        self.len += 1;
        Ok(self.len - 1)
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn row(&self, file: u32) -> &Row {
        &self.batches[file as usize / BATCH].rows[file as usize % BATCH]
    }

    pub fn row_mut(&mut self, file: u32) -> &mut Row {
        &mut self.batches[file as usize / BATCH].rows[file as usize % BATCH]
    }

    /// A file's mended name.
    pub fn name(&self, file: u32) -> &str {
        let batch = &self.batches[file as usize / BATCH];
        batch.name(&batch.rows[file as usize % BATCH])
    }

    /// Takes the first batch out; indices mean nothing from here on.
    pub fn pop_front(&mut self) -> Option<Batch> {
        self.batches.pop_front()
    }

    /// Every file's index, folder by folder, in listing order within each.
    pub fn by_folder(&self, folders: u32) -> Vec<u32> {
        let mut next = vec![0u32; folders as usize + 1];
        for file in 0..self.len {
            next[self.row(file).folder as usize + 1] += 1;
        }
        for folder in 1..next.len() {
            next[folder] += next[folder - 1];
        }
        let mut order = vec![0; self.len as usize];
        for file in 0..self.len {
            let at = &mut next[self.row(file).folder as usize];
            order[*at as usize] = file;
            *at += 1;
        }
        order
    }
}
