//! What a package's listing says, before it becomes a file table.

/// One element of a listing, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub id: String,
    pub kind: String,
    pub name: String,
    pub path: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Nanoseconds since 1970, where it is known.
    pub mtime: Option<i64>,
    /// The sender's virus scan found something.
    pub virus: bool,
}
