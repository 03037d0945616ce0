//! What the upstream offers: a package described in memory.

use serde_json::{Value, json};

/// One entry of a listing, and the truth behind it.
#[derive(Debug, Clone)]
pub struct Entry {
    pub id: String,
    pub kind: String,
    /// The folder inside the package; left out of the listing where None.
    pub path: Option<String>,
    pub name: String,
    /// Bytes that are really there.
    pub size: u64,
    /// Bytes that the listing claims.
    pub listed_size: u64,
    pub last_modified: String,
    pub virus_detected: bool,
    /// The sender has not uploaded all of it.
    pub incomplete: bool,
    /// Tells the content.
    pub seed: u64,
}

impl Entry {
    /// A file called `name` in the folder `path`, listed truthfully.
    pub fn new(path: &str, name: &str, size: u64) -> Entry {
        Entry {
            id: String::new(),
            kind: "file".into(),
            path: Some(path.into()),
            name: name.into(),
            size,
            listed_size: size,
            last_modified: "2021-03-04T05:06:07.000Z".into(),
            virus_detected: false,
            incomplete: false,
            seed: 0,
        }
    }

    pub fn kind(mut self, kind: &str) -> Entry {
        self.kind = kind.into();
        self
    }

    pub fn modified(mut self, rfc3339: &str) -> Entry {
        self.last_modified = rfc3339.into();
        self
    }

    pub fn infected(mut self) -> Entry {
        self.virus_detected = true;
        self
    }

    /// The sender has not uploaded all of it.
    pub fn incomplete(mut self) -> Entry {
        self.incomplete = true;
        self
    }

    /// The listing claims another size than the content has.
    pub fn listed_as(mut self, size: u64) -> Entry {
        self.listed_size = size;
        self
    }

    /// The listing does not say which folder it is in.
    pub fn without_path(mut self) -> Entry {
        self.path = None;
        self
    }

    fn listed(&self) -> Value {
        let mut value = json!({
            "id": self.id, "kind": self.kind, "name": self.name, "size": self.listed_size,
            "last_modified": self.last_modified, "virus_detected": self.virus_detected,
            "a_field_of_the_future": {"is": ["ignored"]},
        });
        if self.incomplete {
            value["completed"] = json!(false);
        }
        if let Some(path) = &self.path {
            value["path"] = json!(path);
        }
        value
    }
}

/// A package; its files are `F1`, `F2`, … in the order in which they were added.
#[derive(Debug, Clone)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub entries: Vec<Entry>,
}

impl Package {
    pub fn new() -> Package {
        Package {
            id: "PACKAGE1".into(),
            name: "Dailies 14".into(),
            entries: Vec::new(),
        }
    }

    /// Adds a file at `path`, its folders included.
    pub fn file(self, path: &str, size: u64) -> Package {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.entry(Entry::new(folder, name, size))
    }

    /// Adds an entry; the identifier and the content are given to it here.
    pub fn entry(mut self, mut entry: Entry) -> Package {
        let number = self.entries.len() as u64 + 1;
        entry.id = format!("F{number}");
        entry.seed = number;
        self.entries.push(entry);
        self
    }

    /// Adds `count` files of `size` bytes: `many/0000` and on.
    pub fn many(self, count: usize, size: u64) -> Package {
        (0..count).fold(self, |package, number| {
            package.file(&format!("many/{number:04}"), size)
        })
    }

    pub fn find(&self, id: &str) -> &Entry {
        self.lookup(id).unwrap()
    }

    pub fn lookup(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// The sum of what is there to be downloaded.
    pub fn size(&self) -> u64 {
        let wanted = |entry: &&Entry| entry.kind == "file" && !entry.virus_detected;
        self.entries.iter().filter(wanted).map(|e| e.size).sum()
    }

    pub fn listing(&self) -> String {
        Value::Array(self.entries.iter().map(Entry::listed).collect()).to_string()
    }
}
