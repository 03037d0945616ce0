//! What a `haul get` is about: the link, the destination, and the state directory that belongs to
//! both.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};

use crate::base::permission::explained;
use crate::base::secret::Secret;
use crate::base::system_words::words;
use crate::cli;
use crate::dest::Root;
use crate::model::link::Origins;
use crate::model::request::DownloadRequest;

/// A file with a link is looked at this far, in bytes.
const LINK_FILE_LIMIT: u64 = 16 << 10;

/// The order that the command line means.
///
/// # Errors
/// Bad usage: no link that can be downloaded from, or no folder that could be named to the system.
pub fn download_request(options: &cli::Get) -> Result<DownloadRequest, String> {
    let mut origins = Origins::default();
    for pair in &options.origins {
        origins.add(pair)?;
    }
    let link = link_text(&options.link)?;
    let link = origins
        .parse(link.reveal())
        .map_err(|error| error.to_string())?;
    Ok(DownloadRequest {
        link,
        password: options.password.clone(),
        dst_folder: absolute(&options.dir)?,
        if_exists: options.if_exists,
        location: None,
        options: options.order_options.clone(),
    })
}

/// The link itself: as given or, since others on the machine can see arguments, the first line of
/// stdin (`-`) or of a file (`@FILE`).
///
/// # Errors
/// The file cannot be read; the text names it.
pub fn link_text(given: &Secret) -> Result<Secret, String> {
    let source: (&str, Box<dyn Read>) = match given.reveal() {
        "-" => ("stdin", Box::new(io::stdin())),
        text => match text.strip_prefix('@') {
            None => return Ok(given.clone()),
            Some(path) => {
                let file = File::open(path).map_err(|error| {
                    format!(
                        "the link cannot be read from {path:?}: {}",
                        explained(&error, path.as_ref())
                    )
                })?;
                (path, Box::new(file))
            }
        },
    };
    let mut text = String::new();
    let (name, reader) = source;
    reader
        .take(LINK_FILE_LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| format!("the link cannot be read from {name:?}: {}", words(&error)))?;
    match text.lines().next().unwrap_or_default().trim() {
        "" => Err(format!(
            "the first line of {name:?} is empty: the link belongs there"
        )),
        link => Ok(Secret::new(link)),
    }
}

/// The folder as an order names it: absolute, without `.` and `..`.
///
/// # Errors
/// It is not UTF-8, or there is no current directory to start from.
pub fn absolute(dir: &Path) -> Result<String, String> {
    let here = || {
        std::env::current_dir()
            .map_err(|error| format!("the current directory is not there: {}", words(&error)))
    };
    if dir.to_str().is_some_and(|text| text.starts_with('~')) {
        return Err(format!(
            "{dir:?} begins with ~, which a shell replaces where it is not quoted: write the whole \
             path, or ./ before a folder of that name"
        ));
    }
    let path = if dir.is_absolute() {
        dir.to_owned()
    } else {
        here()?.join(dir)
    };
    let text = path
        .to_str()
        .ok_or_else(|| format!("the folder's path {path:?} is not UTF-8: choose another"))?;
    let clean = Root::validate(text).map_err(|error| error.to_string())?;
    Ok(clean.to_string_lossy().into_owned())
}

/// The state directory of one choice of a link's files into one folder, whatever the link's secret
/// is.
pub fn state_dir(base: &Path, order: &DownloadRequest) -> PathBuf {
    let mut hash = Context::new(&SHA256);
    for part in [&order.link.api, &order.link.id, &order.dst_folder] {
        hash.update(part.as_bytes());
        // None of them can hold a NUL, so no two orders look alike.
        hash.update(&[0]);
    }
    // Other files of the same package are another download, and so are files in other places.
    let options = &order.options;
    let selection = &options.selection;
    for (kind, list) in [
        ("file_ids", &selection.file_ids),
        ("include", &selection.include),
        ("exclude", &selection.exclude),
    ] {
        let words: std::collections::BTreeSet<&String> = list.iter().collect();
        for word in words {
            hash.update(kind.as_bytes());
            hash.update(&(word.len() as u64).to_le_bytes());
            hash.update(word.as_bytes());
        }
    }
    // What another shard has done is no news of this one's.
    if let Some(shard) = options.shard {
        hash.update(format!("shard {}/{}", shard.index, shard.count).as_bytes());
    }
    if options.create_package_folder == Some(true) {
        hash.update(b"create_package_folder");
    }
    let mut name = String::with_capacity(32);
    for byte in &hash.finish().as_ref()[..16] {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    base.join("get").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::request::IfExists;

    fn order_of(link: &str, dst_folder: &str) -> DownloadRequest {
        DownloadRequest {
            link: Origins::default().parse(link).unwrap(),
            password: None,
            dst_folder: dst_folder.into(),
            if_exists: IfExists::Rename,
            location: None,
            options: Default::default(),
        }
    }

    #[test]
    fn one_package_into_one_folder_has_one_state_directory() {
        let dir = |link, dst| state_dir(Path::new("/s"), &order_of(link, dst));
        let first = dir("https://get.massive.app/A?secret=1", "/in");
        assert!(first.starts_with("/s/get"));
        assert_eq!(first, dir("https://get.massive.io/A/?secret=2", "/in"));
        assert_ne!(first, dir("https://get.massive.app/B?secret=1", "/in"));
        assert_ne!(first, dir("https://get.massive.app/A?secret=1", "/in2"));
        assert!(!format!("{first:?}").contains("secret"));
    }

    #[test]
    fn a_folder_becomes_absolute() {
        assert_eq!(absolute(Path::new("/a/./b/../c/")).unwrap(), "/a/c");
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new(".")).unwrap(), here.to_str().unwrap());
    }

    #[test]
    fn a_link_can_be_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        std::fs::write(&path, "  https://x/y?secret=z \nmore\n").unwrap();
        let given = Secret::new(format!("@{}", path.display()));
        assert_eq!(link_text(&given).unwrap().reveal(), "https://x/y?secret=z");
        std::fs::remove_file(&path).unwrap();
        assert!(link_text(&given).unwrap_err().contains("cannot be read"));
        assert_eq!(link_text(&Secret::new("x")).unwrap().reveal(), "x");
    }
}
