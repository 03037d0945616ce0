//! What a package's server lists.

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
}
