//! One file is read back and compared.

use crate::base::system_words::words;
use crate::dest::{self, Root};
use crate::model::table::FileTable;
use crate::model::verification::Damage;
use crate::transfer::seals::Seal;
use crate::transfer::{ReadBack, hash_of};

/// What became of one file.
pub enum Found {
    AsSaved,
    /// Nothing was known of it; now its seal is.
    Recorded(Seal),
    Bad(Damage, String),
    /// It was not read to its end.
    Halted,
}

/// Reads one file back. `may_read` is asked before each piece of so many bytes; once it says no,
/// the file is `Halted`.
pub fn look(
    root: &Root,
    table: &FileTable,
    file: u32,
    seal: &Seal,
    may_read: impl Fn(usize) -> bool,
) -> Found {
    let names = table.names(file);
    let folder = match root.folder(&table.dir_components(table.dir_of(file)), false) {
        Ok(folder) => folder,
        Err(error) if error.is_missing() => return missing(),
        Err(error) => return Found::Bad(Damage::Unreadable, error.to_string()),
    };
    let opened = match folder.open_saved(&names.last) {
        Ok(Some(opened)) => opened,
        Ok(None) => return missing(),
        Err(error) => return Found::Bad(Damage::Unreadable, error.to_string()),
    };
    let size = table.size(file);
    let length = opened.metadata().map_or(0, |data| data.len());
    if length != size {
        let reason = format!("it has {length} bytes and had {size}");
        return Found::Bad(Damage::Changed, reason);
    }
    dest::forget_cached(&opened);
    match (hash_of(&opened, size, may_read), seal.hash) {
        (Ok(found), Some(known)) if found != known => {
            let reason = "its content is not what was saved".into();
            Found::Bad(Damage::Changed, reason)
        }
        (Ok(_), Some(_)) => match retimed(&opened, table.saved_mtime(file)) {
            Some(reason) => Found::Bad(Damage::Retimed, reason),
            None => Found::AsSaved,
        },
        (Ok(found), None) => Found::Recorded(Seal {
            hash: Some(found),
            ..*seal
        }),
        (Err(ReadBack::Halted), _) => Found::Halted,
        (Err(ReadBack::Failed(error)), _) => {
            let reason = format!("it cannot be read: {}", words(&error));
            Found::Bad(Damage::Unreadable, reason)
        }
    }
}

/// Sets a file's time back where it is not the saved one any more, and says so.
fn retimed(file: &std::fs::File, saved: Option<i64>) -> Option<String> {
    let saved = saved.filter(|&saved| dest::mtime(file) != Some(saved))?;
    Some(match dest::set_mtime(file, saved) == Some(saved) {
        true => "its time was changed, and is what it was again".into(),
        false => "its time was changed, and cannot be set back".into(),
    })
}

fn missing() -> Found {
    Found::Bad(Damage::Missing, "it is not there any more".into())
}
