//! What a user asks for: a link, a destination folder, and how to bring the one into the other.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::secret::Secret;
use crate::model::link::Link;
use crate::model::location::Location;
use crate::model::manifest::Manifest;
use crate::model::selection::Selection;
use crate::model::settings::Settings;
use crate::model::shard::Shard;

/// What to do with a final name that is taken by a file that this download did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Save as `name (1).ext`.
    #[default]
    Rename,
    /// Replace the file that is there.
    Overwrite,
    /// Leave the file that is there, and do not download this one.
    Skip,
}

/// What was asked for at POST.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DownloadRequest {
    pub link: Link,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Absolute, as the caller gave it.
    pub dst_folder: String,
    #[serde(default)]
    pub if_exists: IfExists,
    #[serde(default)]
    pub options: RequestOptions,
    /// Where `dst_folder` really is. None until it was opened, and in states of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// What else can be asked for at POST. None is what was not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestOptions {
    #[serde(skip_serializing_if = "Selection::is_all")]
    pub selection: Selection,
    /// From -1000 to 1000; workers go to the highest first. As it was at POST or, in what is saved,
    /// as it is now.
    pub priority: i32,
    /// Whether files go into a folder named after the package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create_package_folder: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Whether a package with a flagged file is downloaded without that file; true where it was not
    /// said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bypass_package_quarantine: Option<bool>,
    /// Whether files are held against the digests that servers tell, and their hashes are kept;
    /// true where it was not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<bool>,
    /// The list of checksums to be left beside the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// That there is to be no such list, whatever the settings say.
    #[serde(skip)]
    pub no_manifest: bool,
    /// Whether names are such as Windows can hold, whatever the disk is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows_names: Option<bool>,
    /// The size of a large file's ranges, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_size: Option<u64>,
    /// The part of the package that is brought, where other nodes bring the rest into the same
    /// folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<Shard>,
}

impl RequestOptions {
    /// Takes from the settings what was not said.
    pub fn default_to(&mut self, settings: &Settings) {
        if !self.no_manifest {
            self.manifest = self.manifest.or(settings.manifest);
        }
        if settings.windows_names && self.windows_names.is_none() {
            self.windows_names = Some(true);
        }
    }
}

impl DownloadRequest {
    /// Whether both bring the same files of the same link into the same folder; one of them at a
    /// time may be on its way.
    pub fn same_target(&self, other: &DownloadRequest) -> bool {
        (&self.link.api, &self.link.id) == (&other.link.api, &other.link.id)
            && self.options.selection == other.options.selection
            && (self.dst_folder == other.dst_folder || self.location().is_same(&other.location()))
    }

    /// Where the destination is; by its text alone where nothing else is known.
    pub fn location(&self) -> Cow<'_, Location> {
        match &self.location {
            Some(location) => Cow::Borrowed(location),
            None => Cow::Owned(Location::by_path(&self.dst_folder)),
        }
    }

    /// Whether one's destination is the other's or lies in it: only then can both have the same
    /// file.
    pub fn overlaps(&self, other: &DownloadRequest) -> bool {
        let (one, other) = (self.location(), other.location());
        one.is_in(&other) || other.is_in(&one)
    }

    /// Where a file at `path` below this destination is relative to another's. None if it is not
    /// below that.
    pub fn relative_to(&self, other: &DownloadRequest, path: &Path) -> Option<PathBuf> {
        self.location().relative_to(&other.location(), path)
    }
}
