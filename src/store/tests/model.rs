//! Random histories with crashes: what the next start finds is compared with a model.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{JOURNAL, JSON};
use super::*;

/// A case takes many syncs: fewer than usual, but for those who ask for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(96, |cases| cases.parse().unwrap())
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<bool>),
    Commit(Vec<bool>),
    /// Takes a mark.
    Mark,
    /// Hands in the mark that was taken last.
    Synced,
    /// Takes back every other one of what data is not synced.
    TakeBack,
    Renew,
    /// Ends the process; of the journal's bytes that need not be on disk, this share (of 256) is.
    Kill {
        left: u8,
        other_boot: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = || vec(any::<bool>(), 1..4);
    vec(
        prop_oneof![
            6 => kinds().prop_map(Step::Append),
            2 => kinds().prop_map(Step::Commit),
            2 => Just(Step::Mark),
            2 => Just(Step::Synced),
            1 => Just(Step::TakeBack),
            1 => Just(Step::Renew),
            1 => (any::<u8>(), any::<bool>())
                .prop_map(|(left, other_boot)| Step::Kill { left, other_boot }),
        ],
        1..40,
    )
}

fn is_even(note: &Note) -> bool {
    matches!(note, Note::Data(number) | Note::Other(number) if number % 2 == 0)
}

/// What must be true of the store.
#[derive(Default)]
struct Model {
    /// Everything that counts so far, in order.
    notes: Vec<Note>,
    next: u32,
    /// So many of the notes have been acknowledged as on disk.
    durable: usize,
    /// The data of this many of the first changes is synced.
    synced: usize,
    /// The journal's length when it was last known to be on disk.
    durable_len: u64,
}

struct Run<'a> {
    dir: &'a Path,
    boot: u32,
    store: Option<Store<Log>>,
    mark: Option<(super::super::Mark, usize)>,
    model: Model,
}

impl Run<'_> {
    fn len(&self) -> u64 {
        fs::metadata(self.dir.join(JOURNAL)).unwrap().len()
    }

    fn notes(&mut self, kinds: &[bool]) -> Vec<Note> {
        let model = &mut self.model;
        let from = model.notes.len();
        for data in kinds {
            let note = if *data { Note::Data } else { Note::Other };
            model.notes.push(note(model.next));
            model.next += 1;
        }
        model.notes[from..].to_vec()
    }

    fn all_durable(&mut self) {
        self.model.durable = self.model.notes.len();
        self.model.durable_len = self.len();
    }

    fn step(&mut self, step: &Step) {
        let store = self.store.take().unwrap();
        match step {
            Step::Append(kinds) => store.append(&self.notes(kinds)).unwrap(),
            Step::Commit(kinds) => {
                store.commit(&self.notes(kinds)).unwrap();
                self.all_durable();
            }
            Step::Mark => self.mark = Some((store.mark(), self.model.notes.len())),
            Step::Synced => {
                if let Some((mark, covers)) = self.mark
                    && covers > self.model.synced
                {
                    store.synced(mark).unwrap();
                    self.model.synced = covers;
                    self.all_durable();
                }
            }
            Step::TakeBack => {
                store.take_back(is_even).unwrap();
                self.take_back();
                self.all_durable();
            }
            Step::Renew => {
                store.close().unwrap();
                self.all_durable();
            }
            Step::Kill { left, other_boot } => {
                drop(store);
                self.cut(*left);
                return self.restart(*other_boot);
            }
        }
        self.store = Some(store);
    }

    fn take_back(&mut self) {
        let model = &mut self.model;
        let synced = model.synced;
        let taken = |at: usize, note: &Note| at >= synced && note.is_data() && is_even(note);
        if let Some((_, covers)) = &mut self.mark {
            let notes = model.notes[..*covers].iter().enumerate();
            *covers -= notes.filter(|(at, note)| taken(*at, note)).count();
        }
        let mut at = 0..;
        model
            .notes
            .retain(|note| !at.next().is_some_and(|at| taken(at, note)));
    }

    /// Loses a part of what need not be on disk.
    fn cut(&self, left: u8) {
        let loose = self.len() - self.model.durable_len;
        let kept = self.model.durable_len + (loose * u64::from(left)).div_ceil(255);
        let journal = fs::File::options()
            .write(true)
            .open(self.dir.join(JOURNAL))
            .unwrap();
        journal.set_len(kept).unwrap();
    }

    fn restart(&mut self, other_boot: bool) {
        self.boot += u32::from(other_boot);
        let whole = self.len();
        let (store, state) = open(self.dir, &format!("boot-{}", self.boot)).unwrap();
        let model = &mut self.model;
        let counts = |(at, note): (usize, &Note)| {
            (!other_boot || at < model.synced || !note.is_data()).then(|| note.clone())
        };
        let expected = |upto: usize| -> Vec<Note> {
            let notes = model.notes[..upto].iter().enumerate();
            notes.filter_map(counts).collect()
        };
        let found = (model.durable..=model.notes.len()).find(|upto| expected(*upto) == state.0);
        assert!(
            found.is_some(),
            "{} of {} notes are on disk, data of {} is synced, {whole} bytes; found {:?} of {:?}",
            model.durable,
            model.notes.len(),
            model.synced,
            state.0,
            model.notes
        );
        if other_boot {
            model.synced = state.0.len();
        }
        model.notes = state.0;
        self.mark = None;
        self.store = Some(store);
        self.all_durable();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_restart_finds_what_was_acknowledged_in_order(steps in steps(), last: (u8, bool)) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), "boot-0").unwrap();
        let model = Model::default();
        let mut run = Run { dir: dir.path(), boot: 0, store: Some(store), mark: None, model };
        run.all_durable();
        for step in &steps {
            run.step(step);
        }
        let (left, other_boot) = last;
        run.step(&Step::Kill { left, other_boot });
    }

    #[test]
    fn a_killed_process_loses_nothing_it_wrote(kinds in vec(any::<bool>(), 1..30), renew: usize) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), BOOT).unwrap();
        let mut all = Vec::new();
        for (n, is_data) in (0u32..).zip(&kinds) {
            let note = if *is_data { Note::Data(n) } else { Note::Other(n) };
            store.append(std::slice::from_ref(&note)).unwrap();
            all.push(note);
            if n as usize == renew % kinds.len() {
                store.close().unwrap();
            }
        }
        drop(store);
        prop_assert_eq!(reopened(dir.path(), BOOT), all);
    }

    #[test]
    fn noise_costs_no_more_than_the_lines_it_hits(
        cut in any::<prop::sample::Index>(),
        noise in vec(any::<u8>(), 0..40),
        json_too: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path(), BOOT).unwrap();
        for n in 0..20 {
            store.append(&data([n])).unwrap();
        }
        drop(store);
        let path = dir.path().join(if json_too { JSON } else { JOURNAL });
        let mut bytes = fs::read(&path).unwrap();
        let at = cut.index(bytes.len());
        bytes.splice(at..(at + noise.len()).min(bytes.len()), noise);
        fs::write(&path, bytes).unwrap();
        if let Ok((_store, state)) = open(dir.path(), BOOT) {
            let numbers: Vec<u32> = state.0.iter().map(|note| match note {
                Note::Data(n) | Note::Other(n) => *n,
            }).collect();
            prop_assert!(json_too || numbers.len() >= 15 || numbers.is_empty(), "{numbers:?}");
        }
    }
}

#[test]
fn every_cut_of_the_journal_leaves_a_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path(), BOOT).unwrap();
    store.append(&[Note::Other(0), Note::Data(1)]).unwrap();
    store.synced(store.mark()).unwrap();
    store
        .append(&[Note::Data(2), Note::Other(3), Note::Data(4)])
        .unwrap();
    drop(store);
    let all = [
        Note::Other(0),
        Note::Data(1),
        Note::Data(2),
        Note::Other(3),
        Note::Data(4),
    ];
    let journal = fs::read(dir.path().join(JOURNAL)).unwrap();
    let json = fs::read(dir.path().join(JSON)).unwrap();
    let header = journal.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in 0..=journal.len() {
        let lines = journal[..cut].iter().filter(|byte| **byte == b'\n').count();
        for boot in [BOOT, OTHER_BOOT] {
            fs::write(dir.path().join(JSON), &json).unwrap();
            fs::write(dir.path().join(JOURNAL), &journal[..cut]).unwrap();
            let found = reopened(dir.path(), boot);
            // Header, 0, 1, synced, 2, 3, 4.
            let upto = [0, 0, 1, 2, 2, 3, 4, 5][lines];
            let synced = if lines >= 4 { 2 } else { 0 };
            let counts =
                |(at, note): &(usize, &Note)| boot == BOOT || *at < synced || !note.is_data();
            let expected: Vec<Note> = all[..upto]
                .iter()
                .enumerate()
                .filter(counts)
                .map(|(_, note)| note.clone())
                .collect();
            assert_eq!(
                found,
                expected,
                "cut at {cut} of {}, header {header}",
                journal.len()
            );
        }
    }
}
