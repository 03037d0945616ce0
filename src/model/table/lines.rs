//! A table as JSON lines on disk: written once, when the package was listed.

use super::*;
use crate::base::locks;

impl FileTable {
    /// Writes folders and files as JSON lines, for [`FileTable::load`].
    ///
    /// # Errors
    /// What `out` reports.
    pub fn save(&self, out: &mut dyn Write) -> Result<(), TableError> {
        serde_json::to_writer(
            &mut *out,
            &Header {
                dirs: self.dirs.len() - 1,
                files: self.entries.len(),
            },
        )?;
        out.write_all(b"\n")?;
        for dir in &self.dirs[1..] {
            serde_json::to_writer(&mut *out, &(dir.parent, &dir.name, u8::from(dir.ours)))?;
            out.write_all(b"\n")?;
        }
        let extras = locks::read(&self.extras);
        for file in 0..self.len() {
            let extra = extras.get(&file);
            let rare = Rare {
                original: extra.and_then(|extra| extra.original.as_deref()),
                part: extra.and_then(|extra| extra.part.as_deref()),
                skip: extra.and_then(|extra| extra.skip),
                slice: extra.and_then(|extra| extra.slice),
            };
            let common = (
                self.dir_of(file),
                self.id(file),
                self.planned_name(file),
                self.size(file),
                self.mtime(file),
            );
            if rare.is_empty() {
                serde_json::to_writer(&mut *out, &common)?;
            } else {
                serde_json::to_writer(
                    &mut *out,
                    &(common.0, common.1, common.2, common.3, common.4, rare),
                )?;
            }
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Reads what [`FileTable::save`] wrote. Every file is pending or skipped.
    ///
    /// # Errors
    /// What `input` reports, a line that does not parse, an index out of range, lines missing.
    pub fn load(input: &mut dyn BufRead) -> Result<FileTable, TableError> {
        let mut builder = TableBuilder::default();
        let mut line = String::new();
        let mut next = |line: &mut String| -> Result<(), TableError> {
            line.clear();
            if input.read_line(line)? == 0 || !line.ends_with('\n') {
                return Err(TableError::Inconsistent);
            }
            Ok(())
        };
        next(&mut line)?;
        let header: Header = serde_json::from_str(&line)?;
        for _ in 0..header.dirs {
            next(&mut line)?;
            let (parent, name, ours): (u32, String, u8) = serde_json::from_str(&line)?;
            builder.dir(Dir {
                parent,
                name,
                ours: ours != 0,
            })?;
        }
        for _ in 0..header.files {
            next(&mut line)?;
            builder.file(saved_file(&line)?)?;
        }
        Ok(builder.finish())
    }
}

fn saved_file(line: &str) -> Result<NewFile, TableError> {
    let SavedFile(dir, id, name, size, mtime, rare) = serde_json::from_str(line)?;
    Ok(NewFile {
        id,
        dir,
        name,
        size,
        mtime,
        original: rare.original,
        part: rare.part,
        skip: rare.skip,
        slice: rare.slice,
    })
}

/// A file's line: folder, identifier, name, size, time, and what few files have.
#[derive(Deserialize)]
struct SavedFile(
    u32,
    String,
    String,
    u64,
    Option<i64>,
    #[serde(default)] SavedRare,
);

#[derive(Serialize, Deserialize)]
struct Header {
    dirs: usize,
    files: usize,
}

#[derive(Serialize)]
struct Rare<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip: Option<Skip>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<(u64, u64)>,
}

impl Rare<'_> {
    fn is_empty(&self) -> bool {
        self.original.is_none()
            && self.part.is_none()
            && self.skip.is_none()
            && self.slice.is_none()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SavedRare {
    original: Option<String>,
    part: Option<String>,
    skip: Option<Skip>,
    slice: Option<(u64, u64)>,
}
