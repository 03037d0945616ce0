//! The free space of destinations after a start, until their downloads go on.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::dest;
use crate::model::board::Board;

/// The start waits so long for the answer. A mount that hangs is not waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Looks at every destination once. One that is looked at later, by its own transfer, has the newer
/// figure.
pub fn look(board: &Board) {
    let downloads = board.all();
    if downloads.is_empty() {
        return;
    }
    let (done, looked) = bounded::<()>(0);
    let look = move || {
        let mut known: HashMap<&str, Option<u64>> = HashMap::new();
        for download in downloads.iter() {
            let folder = download.order.dst_folder.as_str();
            let free = known.entry(folder);
            let free = free.or_insert_with(|| dest::bytes_free(folder.as_ref()));
            download.set_bytes_free(*free);
        }
        drop(done);
    };
    let started = thread::Builder::new().name("free-space".into()).spawn(look);
    match started {
        // What ends the wait is that the sender is dropped.
        Ok(_) => drop(looked.recv_timeout(PATIENCE)),
        Err(error) => log::warn!("free space is not known yet: {error}"),
    }
}
