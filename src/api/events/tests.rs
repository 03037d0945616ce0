//! The ledger by itself; the streams are tested from outside, in `api/tests/events.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ledger::{Change, Ledger, Look};
use crate::api::tests::agent::{download, fill};
use crate::model::board::Board;
use crate::model::download::Download;
use crate::model::state::State;

struct Desk {
    board: Board,
    ledger: Ledger,
    now: Instant,
}

impl Desk {
    /// A board with that many downloads, and a ledger begun with it.
    fn with(count: u32) -> Desk {
        let board = Board::default();
        board.publish((1..=count).map(transferring).collect());
        let now = Instant::now();
        let ledger = Ledger::new(1_000, &board.all(), now);
        Desk { board, ledger, now }
    }

    fn look(&mut self) -> Look {
        self.ledger.look(&self.board.all(), self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// What came after that number: `+id` and `-id`.
    fn after(&self, number: u64) -> Vec<String> {
        let changes = self.ledger.after(number, usize::MAX);
        assert!(changes.is_sorted_by(|a, b| a.0 < b.0));
        let name = |change: &Change| match change {
            Change::Download(download) => format!("+{}", download.key),
            Change::Deleted(id) => format!("-{}", id.trim_start_matches("010000000")),
        };
        changes.iter().map(|(_, change)| name(change)).collect()
    }
}

fn transferring(number: u32) -> Arc<Download> {
    Arc::new(download(number, State::Transferring))
}

const NOTHING: Look = Look {
    news: false,
    due: None,
};

#[test]
fn a_download_is_told_once_however_often_it_changed() {
    let mut desk = Desk::with(2);
    assert_eq!(desk.look(), NOTHING);
    let all = desk.board.all();
    for state in [State::Paused, State::Transferring, State::Error] {
        for download in all.iter() {
            download.update(|view| view.state = state);
        }
        assert!(desk.look().news);
    }
    assert_eq!(desk.after(1_000), ["+1", "+2"]);
    all[0].update(|view| view.state = State::Paused);
    desk.look();
    assert_eq!(desk.after(1_000), ["+2", "+1"]);
    assert_eq!(desk.after(desk.ledger.last()), Vec::<String>::new());
}

#[test]
fn comings_and_goings_are_told_in_their_place() {
    let mut desk = Desk::with(3);
    let mut all = desk.board.all().to_vec();
    all.remove(1);
    all.push(transferring(4));
    desk.board.publish(all.clone());
    assert!(desk.look().news);
    assert_eq!(desk.after(1_000), ["-2", "+4"]);
    let number = desk.ledger.last();
    desk.board.publish(Vec::new());
    drop(all);
    desk.look();
    // Of the one that came and went only the going is left.
    assert_eq!(desk.after(1_000), ["-2", "-1", "-3", "-4"]);
    assert_eq!(desk.after(number), ["-1", "-3", "-4"]);
}

#[test]
fn numbers_are_told_once_a_second_and_states_at_once() {
    let mut desk = Desk::with(1);
    let one = desk.board.all()[0].clone();
    fill(&one, 3);
    assert!(desk.look().news, "the listing was read");
    let told = desk.now;
    let table = one.table().unwrap();
    table.add_done(0, 1);
    desk.pass(Duration::from_millis(300));
    let due = Some(told + Duration::from_secs(1));
    assert_eq!(desk.look(), Look { news: false, due });
    desk.pass(Duration::from_millis(700));
    assert!(desk.look().news);
    table.add_done(0, 1);
    one.update(|view| view.state = State::Paused);
    assert!(desk.look().news, "a state does not wait");
    assert_eq!(desk.look(), NOTHING);
}

#[test]
fn who_is_too_late_for_deletions_is_not_known() {
    let mut desk = Desk::with(0);
    assert!(desk.ledger.knows(1_000));
    assert!(!desk.ledger.knows(999) && !desk.ledger.knows(1_001));
    desk.board.publish((1..=16_385).map(transferring).collect());
    desk.look();
    let here = desk.ledger.last();
    desk.board.publish(Vec::new());
    desk.look();
    assert!(!desk.ledger.knows(here), "the first deletion is forgotten");
    assert!(desk.ledger.knows(here + 1));
    assert_eq!(desk.ledger.after(here + 1, usize::MAX).len(), 16_384);
}

#[test]
fn a_ledger_keeps_no_download_in_memory() {
    let mut desk = Desk::with(1);
    let one = Arc::downgrade(&desk.board.all()[0]);
    desk.board.all()[0].update(|view| view.state = State::Paused);
    desk.look();
    desk.board.publish(Vec::new());
    assert!(one.upgrade().is_none());
    assert_eq!(desk.after(1_000), Vec::<String>::new());
    desk.look();
    assert_eq!(desk.after(1_000), ["-1"]);
}
