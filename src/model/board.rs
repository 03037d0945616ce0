//! The board: every download as its readers see it.
//!
//! HTTP threads read downloads here without asking the controller, so that a long answer never
//! holds up a transfer and a busy controller never holds up an answer.

use std::sync::{Arc, RwLock};

use crate::base::change_notifier::ChangeNotifier;
use crate::base::locks;
use crate::model::download::Download;

/// All downloads, oldest first; replaced as a whole when one comes or goes.
#[derive(Default)]
pub struct Board {
    downloads: RwLock<Arc<Vec<Arc<Download>>>>,
    notifier: Arc<ChangeNotifier>,
}

impl Board {
    pub fn all(&self) -> Arc<Vec<Arc<Download>>> {
        locks::read(&self.downloads).clone()
    }

    /// Notifies when a download comes, changes or goes.
    pub fn notifier(&self) -> &ChangeNotifier {
        &self.notifier
    }

    pub fn find(&self, id: &str) -> Option<Arc<Download>> {
        // Identifiers grow with time, and so does the list: it is sorted by both.
        let all = self.all();
        let at = all
            .binary_search_by(|download| download.id.as_str().cmp(id))
            .ok()?;
        Some(all[at].clone())
    }

    /// Replaces the list; the controller's privilege. `downloads` are sorted by identifier.
    pub fn publish(&self, downloads: Vec<Arc<Download>>) {
        debug_assert!(downloads.is_sorted_by(|a, b| a.id < b.id));
        for download in &downloads {
            download.notify_through(&self.notifier);
        }
        *locks::write(&self.downloads) = Arc::new(downloads);
        self.notifier.notify();
    }
}
