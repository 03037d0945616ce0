//! The hub: looks at the board for all who watch it, and wakes them when there is news.
//!
//! One thread compares the board with the ledger whenever the board says that something changed, at
//! most twenty times a second. It is there only while somebody watches, and asks nothing of the
//! controller: what it reads are the same counters that every GET reads.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::ledger::{Change, Ledger};
use crate::agent::Agent;
use crate::base::locks;
use crate::model::download::Download;

/// The least time between two looks at the board.
const PAUSE: Duration = Duration::from_millis(50);
/// The thread only compares numbers.
const STACK: usize = 128 << 10;
/// Changes that are fetched at a time.
const BATCH: usize = 64;

/// The events that all watchers share.
pub struct Hub {
    agent: Arc<dyn Agent>,
    state: Mutex<State>,
    /// Something was entered into the ledger, somebody is to write, or the hub was closed.
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// Begun with the first watcher, kept for those who come back.
    ledger: Option<Ledger>,
    watchers: usize,
    /// Whether the thread is there.
    running: bool,
    closed: bool,
    /// How often all streams were asked to write something.
    knocks: u64,
}

/// What a watcher has waited for.
pub enum News {
    /// These changes, oldest first.
    Changes(Vec<(u64, Change)>),
    /// The deadline has passed, or [`Hub::knock`] was called.
    Nothing,
    /// The API stops, or the watcher is so late that deletions have been forgotten.
    End,
}

impl Hub {
    /// A hub without watchers.
    pub fn new(agent: Arc<dyn Agent>) -> Arc<Hub> {
        Arc::new(Hub {
            agent,
            state: Mutex::default(),
            news: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locks::lock(&self.state)
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn watch(self: &Arc<Hub>) -> io::Result<Watcher> {
        let mut state = self.lock();
        if !state.running && !state.closed {
            let hub = self.clone();
            thread::Builder::new()
                .name("api-hub".into())
                .stack_size(STACK)
                .spawn(move || hub.run())?;
            state.running = true;
        }
        state.watchers += 1;
        // What changed while nobody looked is entered before anything is told.
        let seen = self.look(&mut state);
        let knocks = state.knocks;
        drop(state);
        if seen.news {
            self.news.notify_all();
        }
        Ok(Watcher {
            hub: self.clone(),
            number: seen.last,
            knocks,
        })
    }

    fn look(&self, state: &mut State) -> Seen {
        let (board, now) = (self.agent.board().all(), Instant::now());
        let Some(ledger) = &mut state.ledger else {
            let ledger = Ledger::new(first_number(), &board, now);
            let last = ledger.last();
            state.ledger = Some(ledger);
            return Seen {
                news: false,
                due: None,
                last,
            };
        };
        let look = ledger.look(&board, now);
        Seen {
            news: look.news,
            due: look.due,
            last: ledger.last(),
        }
    }

    /// The thread: looks until nobody watches any more.
    fn run(self: Arc<Hub>) {
        let notifier = self.agent.board().notifier();
        loop {
            // Read before the look: what changes during it is looked at again.
            let version = notifier.version();
            let mut state = self.lock();
            if state.closed || state.watchers == 0 {
                state.running = false;
                return;
            }
            let seen = self.look(&mut state);
            if seen.news {
                self.news.notify_all();
            }
            let waited = self
                .news
                .wait_timeout_while(state, PAUSE, |state| !state.closed);
            drop(waited);
            notifier.wait(version, seen.due);
        }
    }

    /// How many watch.
    pub fn watchers(&self) -> usize {
        self.lock().watchers
    }

    /// Waits for news, no longer than that.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        let waited = self.news.wait_timeout(state, most);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Makes every stream write something, so that those whose readers have gone end.
    pub fn knock(&self) {
        self.lock().knocks += 1;
        self.news.notify_all();
    }

    /// Ends every watch, now and later.
    pub fn close(&self) {
        self.lock().closed = true;
        self.news.notify_all();
        self.agent.board().notifier().notify();
    }
}

struct Seen {
    news: bool,
    due: Option<Instant>,
    /// The ledger's last number.
    last: u64,
}

/// At random, so that no number of an earlier process is taken for one of ours, whatever the clock
/// did in between; with 51 bits, so that no number leaves a reader's 53.
fn first_number() -> u64 {
    u64::from_le_bytes(crate::base::id::random()) >> 13
}

/// One who watches the board; the hub looks at it as long as there is one.
pub struct Watcher {
    hub: Arc<Hub>,
    /// All changes up to this one have been told.
    number: u64,
    knocks: u64,
}

impl Watcher {
    /// All changes up to this one have been told.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Goes back to after this change; false where it is not remembered.
    pub fn go_back(&mut self, number: u64) -> bool {
        let state = self.hub.lock();
        let known = state
            .ledger
            .as_ref()
            .is_some_and(|ledger| ledger.knows(number));
        drop(state);
        if known {
            self.number = number;
        }
        known
    }

    /// Every download as of now, oldest first.
    pub fn downloads(&self) -> Arc<Vec<Arc<Download>>> {
        self.hub.agent.board().all()
    }

    /// Waits for changes, until the deadline at the most.
    pub fn next(&mut self, deadline: Instant) -> News {
        let hub = &self.hub;
        let mut state = hub.lock();
        loop {
            let ledger = state.ledger.as_ref();
            if state.closed || !ledger.is_some_and(|ledger| ledger.knows(self.number)) {
                return News::End;
            }
            let changes = ledger.map_or(Vec::new(), |ledger| ledger.after(self.number, BATCH));
            if let Some(&(last, _)) = changes.last() {
                self.number = last;
                return News::Changes(changes);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || std::mem::replace(&mut self.knocks, state.knocks) != state.knocks {
                return News::Nothing;
            }
            state = hub.wait(state, left);
        }
    }

    /// Waits until this is so, or until the deadline.
    pub fn wait_until(&self, deadline: Instant, is_so: impl Fn() -> bool) {
        let hub = &self.hub;
        let mut state = hub.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() || is_so() {
                return;
            }
            state = hub.wait(state, left);
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        state.watchers -= 1;
        let last = state.watchers == 0;
        drop(state);
        if last {
            // The thread is to notice.
            self.hub.agent.board().notifier().notify();
        }
    }
}
