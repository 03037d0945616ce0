//! Group commit: one sync of the data for all that was written in the last second or so, then one mark in the
//! journal. Data first, record second.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Receiver;

use crate::dest::Root;
use crate::saved::Saved;
use crate::store::{Mark, Store};
use crate::vital::vital;

/// The data behind every change up to `mark` lies in these places, or was synced before.
pub struct SyncRequest {
    pub mark: Mark,
    pub roots: Vec<Arc<Root>>,
}

/// Starts the thread that syncs. It ends when its channel is closed.
///
/// # Errors
/// The system refuses a thread.
pub fn start(
    store: Arc<Store<Saved>>,
    requests: Receiver<SyncRequest>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("syncer".into())
        .spawn(move || vital(|| work(&store, requests)))
}

fn work(store: &Store<Saved>, requests: Receiver<SyncRequest>) {
    if !store.unsynced().is_empty() {
        // A killed process left them, and its destinations may not be open now.
        rustix::fs::sync();
    }
    let mut dirty = Vec::new();
    for request in requests {
        dirty.extend(request.roots);
        if sync(store, request.mark, &dirty) {
            dirty.clear();
        }
        if let Err(error) = store.compact_if_needed() {
            log::error!("the state could not be written anew: {error}");
        }
    }
}

/// Syncs these destinations, then says so in the journal. False where that failed.
fn sync(store: &Store<Saved>, mark: Mark, roots: &[Arc<Root>]) -> bool {
    for root in roots {
        if let Err(error) = root.sync() {
            let path = root.path().display();
            log::error!(
                "{path} could not be synced, so what was written there counts as unsaved: {error}"
            );
            return false;
        }
    }
    if let Err(error) = store.synced(mark) {
        log::error!("that data was synced could not be saved: {error}");
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved::Change;

    #[test]
    fn a_request_vouches_only_for_what_was_written_before_it_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open_in_boot(dir.path(), "one").unwrap();
        let store = Arc::new(store);
        let wrote = |file| Change::Wrote(1, file, 0, 10);
        store.append(&[wrote(0)]).unwrap();
        let mark = store.mark();
        let (requests, received) = crossbeam_channel::bounded(1);
        requests
            .send(SyncRequest {
                mark,
                roots: Vec::new(),
            })
            .unwrap();
        // Perhaps somewhere else, which nobody is asked to sync yet.
        store.append(&[wrote(1)]).unwrap();
        let syncer = start(store.clone(), received).unwrap();
        drop(requests);
        syncer.join().unwrap();
        let waits = store.unsynced();
        assert!(
            matches!(waits[..], [Change::Wrote(1, 1, 0, 10)]),
            "{waits:?}"
        );
    }
}
