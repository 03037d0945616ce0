//! Who uses which destination: nobody removes a folder that another needs.
//!
//! A POST makes its `dst_folder` before it is decided, and another may go into the same folder
//! meanwhile. What was made belongs to all of them until one is accepted, which takes it over; the
//! last one to be refused removes what nobody uses. What a deleted download made, and is to be
//! removed, waits in the same way for those that use it. Folders are compared by where they really
//! are, since symbolic links and bind mounts give one folder several names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::base::in_time::in_time;
use crate::base::locks;
use crate::dest::{self, DestError, Root};
use crate::model::board::Board;
use crate::model::location::Location;

/// A disk that takes longer to answer is no destination now.
const PATIENCE: Duration = Duration::from_secs(4);

/// The folders that POSTs under way and downloads lay claim to.
pub struct Claims {
    /// What every download that is not deleted uses.
    board: Arc<Board>,
    /// Locked while folders are made and removed, so that nobody finds one that is about to go.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// The destinations of POSTs that are not decided yet.
    users: BTreeMap<u64, Location>,
    /// Folders that were made for such POSTs or for deleted downloads, and that no download has
    /// taken over: each goes when nobody uses it. Outer ones come first.
    made: BTreeSet<PathBuf>,
}

/// The right of one POST to its destination. Once it is dropped, what was made goes where nobody
/// else uses it.
pub struct Claim {
    claims: Arc<Claims>,
    user: u64,
    path: PathBuf,
    taken: Vec<PathBuf>,
}

impl Claims {
    pub fn new(board: Arc<Board>) -> Arc<Claims> {
        let state = Mutex::default();
        Arc::new(Claims { board, state })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locks::lock(&self.state)
    }

    /// Opens the destination of a POST, as [`Root::make`] does.
    ///
    /// # Errors
    /// As for [`Root::make`].
    pub fn make(self: &Arc<Claims>, path: &Path) -> Result<(Root, Claim), DestError> {
        // A mount that hangs does so here, where it holds up nobody else. What else is wrong is
        // found again below.
        let asked = path.to_owned();
        if in_time(PATIENCE, move || dest::ask_disk(&asked)).is_none() {
            return Err(DestError::Unwritable(format!(
                "the disk of {} does not answer: is its server there?",
                path.display()
            )));
        }
        let mut state = self.lock();
        let (root, made) = Root::make(path)?;
        state.made.extend(made);
        let user = state.next;
        state.next += 1;
        state.users.insert(user, root.location());
        drop(state);
        let claim = Claim {
            claims: self.clone(),
            user,
            path: path.to_owned(),
            taken: Vec::new(),
        };
        Ok((root, claim))
    }

    /// Removes a folder, in the way of `remove`, unless it or one below it is the destination of a
    /// POST or a download. None: it is, and stays.
    pub fn unless_used<T>(&self, folder: &Path, remove: impl FnOnce() -> T) -> Option<T> {
        let state = self.lock();
        (!self.is_used(&state, folder)).then(remove)
    }

    /// As [`dest::unmake`], but what is used stays until it is not, or for good where this process
    /// ends before.
    pub fn unmake(&self, made: &[PathBuf]) {
        let mut state = self.lock();
        state.made.extend(made.iter().cloned());
        self.sweep(&mut state);
    }

    /// A download is on the board before its claim is dropped, so it is always in one of the two.
    fn is_used(&self, state: &State, folder: &Path) -> bool {
        // What cannot be opened cannot be told by other names either.
        let folder = dest::location(folder);
        state.users.values().any(|user| user.is_in(&folder))
            || self
                .board
                .all()
                .iter()
                .any(|download| download.order.location().is_in(&folder))
    }

    fn release(&self, user: u64, returned: Vec<PathBuf>) {
        let mut state = self.lock();
        state.users.remove(&user);
        state.made.extend(returned);
        self.sweep(&mut state);
    }

    /// Removes what was made and nobody uses, innermost first. What is not empty by then is
    /// somebody's, and forgotten.
    fn sweep(&self, state: &mut State) {
        let mut unused = state.made.clone();
        unused.retain(|folder| !self.is_used(state, folder));
        for folder in unused.iter().rev() {
            dest::unmake(slice::from_ref(folder));
            state.made.remove(folder);
        }
    }
}

impl Claim {
    /// Takes over the folders that were made, for whichever POST, and are this destination or above
    /// it; outermost first.
    pub fn take_over(&mut self) -> &[PathBuf] {
        let mut state = self.claims.lock();
        let made = std::mem::take(&mut state.made).into_iter();
        let (ours, others): (BTreeSet<_>, _) =
            made.partition(|folder| self.path.starts_with(folder));
        state.made = others;
        drop(state);
        self.taken = ours.into_iter().collect();
        &self.taken
    }

    /// The download is accepted and on the board: what was taken over is its own.
    pub fn keep(mut self) {
        self.taken.clear();
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let returned = std::mem::take(&mut self.taken);
        self.claims.release(self.user, returned);
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::model::download::Download;

    /// An empty folder, its path, and claims with an empty board.
    fn set_up() -> (TempDir, PathBuf, Arc<Claims>) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().to_owned();
        (dir, path, Claims::new(Arc::default()))
    }

    fn claim(claims: &Arc<Claims>, path: &Path) -> Claim {
        claims.make(path).unwrap().1
    }

    fn accept(mut claim: Claim) -> Vec<PathBuf> {
        let made = claim.take_over().to_vec();
        let mut download = Download::sample();
        download.order.dst_folder = claim.path.to_str().unwrap().into();
        download.order.location = Some(dest::location(&claim.path));
        let mut all = claim.claims.board.all().to_vec();
        all.push(Arc::new(download));
        claim.claims.board.publish(all);
        claim.keep();
        made
    }

    #[test]
    fn a_refused_one_leaves_nothing_behind_but_what_was_there() {
        let (_dir, path, claims) = set_up();
        drop(claim(&claims, &path.join("a/b")));
        assert!(!path.join("a").exists());
        std::fs::create_dir(path.join("a")).unwrap();
        drop(claim(&claims, &path.join("a/b")));
        assert!(path.join("a").exists() && !path.join("a/b").exists());
        assert!(claims.lock().made.is_empty() && claims.lock().users.is_empty());
    }

    #[test]
    fn the_last_one_to_be_refused_removes_what_all_of_them_made() {
        let (_dir, path, claims) = set_up();
        let first = claim(&claims, &path.join("a/b"));
        let second = claim(&claims, &path.join("a/b"));
        let inner = claim(&claims, &path.join("a/b/c"));
        let beside = claim(&claims, &path.join("a/d"));
        drop(first);
        assert!(path.join("a/b/c").exists());
        drop(inner);
        assert!(!path.join("a/b/c").exists() && path.join("a/b").exists());
        drop(second);
        assert!(!path.join("a/b").exists() && path.join("a/d").exists());
        drop(beside);
        assert!(!path.join("a").exists());
        assert!(claims.lock().made.is_empty());
    }

    #[test]
    fn the_accepted_one_takes_over_what_others_made_for_it_and_no_more() {
        let (_dir, path, claims) = set_up();
        let refused = claim(&claims, &path.join("a/b"));
        let beside = claim(&claims, &path.join("a/c"));
        let accepted = claim(&claims, &path.join("a/b"));
        assert_eq!(accept(accepted), [path.join("a"), path.join("a/b")]);
        drop(refused);
        assert!(path.join("a/b").exists());
        drop(beside);
        assert!(!path.join("a/c").exists());
        assert!(claims.lock().made.is_empty());
    }

    #[test]
    fn a_folder_that_is_used_by_another_name_stays() {
        let (_dir, path, claims) = set_up();
        let made = accept(claim(&claims, &path.join("a")));
        std::os::unix::fs::symlink(path.join("a"), path.join("link")).unwrap();
        claims.board.publish(Vec::new());
        let undecided = claim(&claims, &path.join("link"));
        claims.unmake(&made);
        assert!(path.join("a").exists());
        drop(undecided);
        assert!(!path.join("a").exists());
    }

    #[test]
    fn what_was_taken_over_by_one_that_is_refused_after_all_is_given_back() {
        let (_dir, path, claims) = set_up();
        let mut unsaved = claim(&claims, &path.join("a"));
        let other = claim(&claims, &path.join("a"));
        assert_eq!(unsaved.take_over(), [path.join("a")]);
        drop(unsaved);
        assert!(path.join("a").exists());
        assert_eq!(accept(other), [path.join("a")]);
        assert!(path.join("a").exists());
    }

    #[test]
    fn a_deleted_ones_folders_stay_for_as_long_as_others_use_them() {
        let (_dir, path, claims) = set_up();
        let made = accept(claim(&claims, &path.join("a/b")));
        claims.board.publish(Vec::new());
        let undecided = claim(&claims, &path.join("a/b"));
        claims.unmake(&made);
        assert!(path.join("a/b").exists());
        assert_eq!(claims.unless_used(&path.join("a"), || ()), None);
        assert_eq!(claims.unless_used(&path.join("a/b/c"), || ()), Some(()));
        assert_eq!(accept(undecided), made, "they are its own now");
        claims.unmake(&made);
        assert!(path.join("a/b").exists(), "it is on the board");
        claims.board.publish(Vec::new());
        claims.unmake(&[]);
        assert!(!path.join("a").exists());
    }
}
