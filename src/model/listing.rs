//! What a package's server lists.

use std::borrow::Cow;

/// One entry of a listing, as upstream wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    /// `file`, `directory`, or an archive of the same content, which is not downloaded.
    pub kind: String,
    /// The last component; may be anything.
    pub name: String,
    /// The folder inside the package, `/`-separated; may be anything.
    pub path: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970, where it is known.
    pub mtime: Option<i64>,
    /// Upstream found a virus in it.
    pub virus: bool,
    /// The sender has not uploaded all of it yet.
    pub incomplete: bool,
}

impl Listed {
    /// The path inside the package, as listed, without slashes around the folder's.
    pub fn full_path(&self) -> Cow<'_, str> {
        match self.path.as_deref().unwrap_or_default().trim_matches('/') {
            "" => Cow::Borrowed(&self.name),
            folder => Cow::Owned([folder, "/", &self.name].concat()),
        }
    }
}
