//! What one of several nodes brings of a package's files, as a table of its own.

use super::*;
use crate::model::shard::{Division, Shard, Share};

/// Stands for a folder that is left out.
const OUT: u32 = u32::MAX;

impl FileTable {
    /// The files of one shard, and the folders that they are in; folders without any file are
    /// shared out in turn. `part_name` names each file's `.part`, which other nodes write to as
    /// well, by the index of the file here.
    ///
    /// # Errors
    /// As [`TableBuilder::file`].
    pub fn share(
        &self,
        shard: Shard,
        part_name: impl Fn(u32) -> String,
    ) -> Result<FileTable, TableError> {
        let sizes = (0..self.len()).map(|file| self.size(file));
        let mut division = Division::new(shard, sizes);
        let own: Vec<(u32, Option<(u64, u64)>)> = (0..self.len())
            .filter_map(|file| match division.next(self.size(file)) {
                Share::Nothing => None,
                Share::Whole => Some((file, None)),
                Share::Slice(start, end) => Some((file, Some((start, end)))),
            })
            .collect();
        let mut builder = TableBuilder::default();
        let places = self.own_dirs(shard, &own, &mut builder)?;
        let extras = locks::read(&self.extras);
        for (file, slice) in own {
            let extra = extras.get(&file);
            builder.file(NewFile {
                id: self.id(file).to_owned(),
                dir: places[self.dir_of(file) as usize],
                name: self.planned_name(file).to_owned(),
                size: self.size(file),
                mtime: self.mtime(file),
                original: extra.and_then(|extra| extra.original.clone()),
                part: Some(part_name(file)),
                skip: extra.and_then(|extra| extra.skip),
                slice,
            })?;
        }
        Ok(builder.finish())
    }

    /// Gives `builder` the folders of a shard. Returns where each folder of this table is there.
    fn own_dirs(
        &self,
        shard: Shard,
        own: &[(u32, Option<(u64, u64)>)],
        builder: &mut TableBuilder,
    ) -> Result<Vec<u32>, TableError> {
        let mut has_entries = vec![false; self.dirs.len()];
        for entry in &self.entries {
            has_entries[entry.dir as usize] = true;
        }
        for dir in &self.dirs[1..] {
            has_entries[dir.parent as usize] = true;
        }
        let mut wanted = vec![false; self.dirs.len()];
        for &(file, _) in own {
            wanted[self.dir_of(file) as usize] = true;
        }
        let empty = (0..).zip(&has_entries).filter(|(_, has)| !**has);
        for (number, (dir, _)) in (0u32..).zip(empty) {
            wanted[dir] |= number % shard.count == shard.index;
        }
        // A parent comes before its children: from the last one up, all above a wanted one are.
        for dir in (1..self.dirs.len()).rev() {
            let parent = self.dirs[dir].parent as usize;
            wanted[parent] |= wanted[dir];
        }
        let mut places = vec![OUT; self.dirs.len()];
        places[ROOT as usize] = ROOT;
        for dir in (1..self.dirs.len()).filter(|&dir| wanted[dir]) {
            let Dir { parent, name, ours } = self.dirs[dir].clone();
            let parent = places[parent as usize];
            places[dir] = builder.dir(Dir { parent, name, ours })?;
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn whole() -> FileTable {
        let mut builder = TableBuilder::default();
        let mut dir = |parent, name: &str| {
            let (name, ours) = (name.to_owned(), true);
            builder.dir(Dir { parent, name, ours }).unwrap()
        };
        let a = dir(ROOT, "a");
        let b = dir(a, "b");
        dir(b, "empty 1");
        dir(ROOT, "empty 2");
        let mut file = |dir, name: &str, size, skip| {
            let file = NewFile {
                id: format!("id of {name}"),
                dir,
                name: name.into(),
                size,
                mtime: Some(7),
                original: Some(format!("listed {name}")),
                part: None,
                skip,
                slice: None,
            };
            builder.file(file).unwrap();
        };
        file(a, "small 1", 10, None);
        file(b, "large", 4 * MIB, None);
        file(ROOT, "small 2", 10, Some(Skip::Virus));
        builder.finish()
    }

    #[test]
    fn the_parts_of_all_nodes_are_the_whole() {
        let table = whole();
        let parts: Vec<FileTable> = (0..2)
            .map(|index| {
                let name = |file: u32| format!("{file}.x.part");
                table.share(Shard { index, count: 2 }, name).unwrap()
            })
            .collect();
        let paths = |part: &FileTable| (0..part.len()).map(|n| part.path(n)).collect::<Vec<_>>();
        assert_eq!(paths(&parts[0]), ["a/small 1", "a/b/large"]);
        assert_eq!(paths(&parts[1]), ["a/b/large", "small 2"]);
        assert_eq!(parts[0].slice(1), Some((0, 2 * MIB)));
        assert_eq!(parts[1].slice(0), Some((2 * MIB, 4 * MIB)));
        assert_eq!(parts[0].counts().bytes_total, 2 * MIB + 10);
        assert_eq!(parts[1].counts().files_skipped, 1);
        for part in &parts {
            let large = (0..part.len()).find(|&file| part.slice(file).is_some());
            assert_eq!(
                part.names(large.unwrap()).part,
                "1.x.part",
                "the same for all"
            );
            assert_eq!(part.size(large.unwrap()), 4 * MIB);
            assert_eq!(part.id(large.unwrap()), "id of large");
        }
        let dirs = |part: &FileTable| {
            part.dirs()[1..]
                .iter()
                .map(|d| d.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(dirs(&parts[0]), ["a", "b", "empty 1"]);
        assert_eq!(dirs(&parts[1]), ["a", "b", "empty 2"]);
    }

    #[test]
    fn a_share_is_saved_with_its_slices() {
        let name = |_| "p".to_owned();
        let part = whole().share(Shard { index: 1, count: 2 }, name).unwrap();
        let mut saved = Vec::new();
        part.save(&mut saved).unwrap();
        let read = FileTable::load(&mut saved.as_slice()).unwrap();
        assert_eq!(read.slice(0), Some((2 * MIB, 4 * MIB)));
        assert_eq!(read.own_size(0), 2 * MIB);
        assert_eq!(read.counts(), part.counts());
    }
}
