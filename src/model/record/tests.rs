//! The state machine without threads: what comes of each event.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::retry::MAX_RESTARTS;
use super::*;
use crate::model::table::{NewFile, ROOT, TableBuilder};

/// Jobs of a large file that are out at most.
const LARGE: u32 = 12;
const DAY: Duration = Duration::from_secs(86_400);

fn table(files: u32) -> Arc<FileTable> {
    let mut builder = TableBuilder::default();
    for file in 0..files {
        let name = format!("f{file}");
        let new = NewFile {
            id: name.clone(),
            dir: ROOT,
            name,
            size: 10,
            mtime: None,
            original: None,
            part: None,
            skip: None,
            slice: None,
        };
        builder.file(new).unwrap();
    }
    Arc::new(builder.finish())
}

fn at(begin: Instant, seconds: f64) -> Now {
    Now {
        instant: begin + Duration::from_secs_f64(seconds),
        wall: Timestamp((seconds * 1e9) as i64),
        jitter: 0.5,
    }
}

struct Rig {
    record: Record,
    table: Arc<FileTable>,
    begin: Instant,
    time: f64,
}

impl Rig {
    fn new(files: u32) -> Rig {
        let record = Record::new(State::Transferring, None, BTreeMap::new(), DAY);
        Rig {
            record,
            table: table(files),
            begin: Instant::now(),
            time: 0.0,
        }
    }

    /// Begun, with its files to be picked.
    fn begun(files: u32) -> Rig {
        let mut rig = Rig::new(files);
        assert_eq!(rig.pick(), Some(Pick::Begin));
        rig.on(Event::Begun(rig.table.clone()));
        rig
    }

    fn on(&mut self, event: Event) -> Vec<Effect> {
        let effects = self.record.on(event, at(self.begin, self.time));
        for effect in &effects {
            match effect {
                Effect::Fail(file, problem) => self.table.fail(*file, problem.clone()),
                Effect::Again(file) => self.table.set_state(*file, FileState::Pending),
                _ => {}
            }
        }
        effects
    }

    fn file(&mut self, file: u32, event: Outcome) -> Vec<Effect> {
        if matches!(event, Outcome::Complete) {
            self.table.set_state(file, FileState::Complete);
        }
        self.on(Event::File(file, event))
    }

    fn pick(&mut self) -> Option<Pick> {
        self.record.pick(at(self.begin, self.time).instant, false)
    }

    fn pick_file(&mut self) -> Option<u32> {
        let pick = self.pick()?;
        let (Pick::New(file) | Pick::Open(file)) = pick else {
            panic!("{pick:?}")
        };
        self.record.range_given(file, false);
        Some(file)
    }

    /// Gives out ranges of file 0 up to [`LARGE`] jobs; how many more than before.
    fn pick_more(&mut self) -> u32 {
        let mut more = 0;
        while self.record.out_of(0) < LARGE && self.pick() == Some(Pick::Open(0)) {
            self.record.range_given(0, true);
            more += 1;
        }
        more
    }

    /// A request was answered 429 with this `Retry-After`, in seconds.
    fn refuse(&mut self, file: u32, retry_after: u64) {
        let message = "too many requests".to_owned();
        let retry_after = Some(Duration::from_secs(retry_after));
        self.file(
            file,
            Outcome::Transient {
                message,
                retry_after,
                gained: false,
            },
        );
    }

    fn fault(&mut self, file: u32) -> Vec<Effect> {
        let message = "the line is dead".to_owned();
        self.file(
            file,
            Outcome::Transient {
                message,
                retry_after: None,
                gained: false,
            },
        )
    }

    fn failed(&mut self, file: u32, code: Code) -> Vec<Effect> {
        self.file(
            file,
            Outcome::Failed(FileProblem {
                code,
                message: "no".into(),
            }),
        )
    }

    fn code(&self) -> Option<Code> {
        self.record.problem().map(|problem| problem.code)
    }
}

#[test]
fn files_that_were_never_tried_are_not_waited_for_one_after_the_other() {
    let mut rig = Rig::begun(5000);
    let mut faults = 0;
    while rig.record.state() == State::Transferring {
        while let Some(file) = rig.pick_file() {
            rig.fault(file);
            faults += 1;
        }
        rig.time += 60.0;
        assert!(rig.time < 1.5 * DAY.as_secs_f64(), "{faults} faults");
    }
    let problem = rig.record.problem().unwrap();
    assert_eq!(problem.code, Code::UpstreamUnavailable);
    assert!(problem.recoverable && problem.message.contains("the line is dead; given up after"));
    assert!(rig.time >= DAY.as_secs_f64());
}

#[test]
fn every_file_complete_is_a_download_complete() {
    let mut rig = Rig::begun(2);
    assert_eq!(
        (rig.pick_file(), rig.pick_file(), rig.pick_file()),
        (Some(0), Some(1), None)
    );
    rig.file(0, Outcome::Complete);
    assert_eq!(rig.record.state(), State::Transferring);
    let effects = rig.file(1, Outcome::Complete);
    assert!(effects.contains(&Effect::Complete) && effects.contains(&Effect::Show));
    assert_eq!(rig.record.state(), State::Complete);
}

/// Two jobs of one file are out, and another file has none yet.
fn two_jobs_of_one_file() -> Rig {
    let mut rig = Rig::begun(2);
    assert_eq!(rig.pick_file(), Some(0));
    rig.record.gave_tail(0);
    rig
}

#[test]
fn a_job_that_ends_after_its_file_was_complete_does_not_bring_it_back() {
    let mut rig = two_jobs_of_one_file();
    rig.file(0, Outcome::Complete);
    rig.file(0, Outcome::RangeDone);
    assert_eq!((rig.pick_file(), rig.pick_file()), (Some(1), None));
}

#[test]
fn a_job_that_ends_after_its_file_failed_does_not_bring_it_back() {
    for late in [Outcome::RangeDone, Outcome::StartedOver, Outcome::Stopped] {
        let mut rig = two_jobs_of_one_file();
        rig.failed(0, Code::ProtocolError);
        rig.file(0, late);
        assert_eq!((rig.pick_file(), rig.pick_file()), (Some(1), None));
        rig.file(1, Outcome::Complete);
        assert_eq!(rig.record.state(), State::Error);
    }
}

#[test]
fn a_fault_after_its_file_failed_is_not_waited_for() {
    let mut rig = two_jobs_of_one_file();
    rig.failed(0, Code::ProtocolError);
    rig.fault(0);
    assert_eq!(rig.code(), None);
    assert_eq!(rig.record.next_due(rig.begin), None);
}

#[test]
fn a_file_that_fails_twice_counts_once() {
    let mut rig = two_jobs_of_one_file();
    rig.failed(0, Code::ProtocolError);
    rig.failed(0, Code::ProtocolError);
    assert_eq!(rig.record.state(), State::Transferring);
    assert_eq!(rig.pick_file(), Some(1));
    rig.file(1, Outcome::Complete);
    assert_eq!(rig.code(), Some(Code::FileFailed));
}

#[test]
fn a_package_without_files_is_complete_at_once() {
    assert_eq!(Rig::begun(0).record.state(), State::Complete);
}

#[test]
fn a_fault_is_shown_and_tried_again_when_due() {
    let mut rig = Rig::begun(1);
    rig.pick_file();
    rig.fault(0);
    assert_eq!(rig.record.state(), State::Transferring);
    let problem = rig.record.problem().unwrap();
    assert_eq!(problem.retry_at, Some(Timestamp(500_000_000)));
    assert!(problem.message.contains("the line is dead"));
    assert_eq!(rig.pick_file(), None);
    let due = rig.record.next_due(at(rig.begin, 0.0).instant).unwrap();
    assert_eq!(due, at(rig.begin, 0.5).instant);
    rig.time = 0.5;
    assert_eq!(rig.pick_file(), Some(0));
    rig.file(0, Outcome::Complete);
    assert_eq!(
        (rig.record.state(), rig.record.problem()),
        (State::Complete, None)
    );
}

/// An attempt may wait long for its server's leave.
#[test]
fn a_time_that_is_long_over_is_not_shown() {
    let mut rig = Rig::begun(3);
    for file in [0, 1, 2] {
        assert_eq!(rig.pick_file(), Some(file));
    }
    rig.fault(0);
    rig.time = 1.0;
    rig.fault(1);
    let shown = |rig: &Rig| rig.record.problem().unwrap().retry_at.unwrap();
    assert_eq!(
        shown(&rig),
        at(rig.begin, 1.5).wall,
        "the next that is to come"
    );
    assert_eq!(rig.pick_file(), Some(0));
    rig.time = 9.0;
    rig.file(2, Outcome::Complete);
    assert!(shown(&rig) >= at(rig.begin, 9.0).wall);
}

#[test]
fn behind_a_closed_gate_the_time_that_is_said_is_the_gates() {
    let mut rig = Rig::begun(STREAK);
    let all: Vec<u32> = std::iter::from_fn(|| rig.pick_file()).collect();
    all.iter().for_each(|&file| drop(rig.fault(file)));
    // One attempt at a time from here on, each after twice the wait.
    for (time, next) in [(0.5, 1.5), (1.5, 3.5), (3.5, 7.5)] {
        rig.time = time;
        let file = rig.pick_file().unwrap();
        assert_eq!(rig.pick_file(), None);
        rig.fault(file);
        let problem = rig.record.problem().unwrap();
        assert_eq!(problem.retry_at, at(rig.begin, next).wall.into());
    }
}

#[test]
fn a_byte_gained_starts_the_count_anew() {
    let mut rig = Rig::begun(1);
    for _ in 0..4 {
        rig.pick_file();
        rig.fault(0);
        rig.time += 10.0;
    }
    rig.pick_file();
    rig.on(Event::Gained {
        file: 0,
        flowing: 1,
    });
    assert_eq!(rig.record.problem(), None);
    rig.fault(0);
    let due = rig
        .record
        .next_due(at(rig.begin, rig.time).instant)
        .unwrap();
    assert_eq!(due, at(rig.begin, rig.time + 0.5).instant);
}

/// A large file with this many jobs out and more ranges to give.
fn large(jobs: u32) -> Rig {
    let mut rig = Rig::begun(1);
    assert_eq!(rig.pick(), Some(Pick::New(0)));
    rig.record.range_given(0, true);
    while rig.record.out_of(0) < jobs {
        assert_eq!(rig.pick(), Some(Pick::Open(0)));
        rig.record.range_given(0, true);
    }
    rig
}

#[test]
fn jobs_that_flow_go_on_and_what_failed_waits() {
    let mut rig = large(LARGE);
    for _ in 4..LARGE {
        rig.refuse(0, 5);
    }
    for (time, attempt) in [
        (1.0, false),
        (4.9, false),
        (5.0, true),
        (9.9, false),
        (10.0, true),
    ] {
        rig.time = time;
        assert_eq!(rig.pick_more(), u32::from(attempt), "at {time} s");
        rig.file(0, Outcome::RangeDone);
        assert_eq!(
            rig.pick_more(),
            1,
            "another range takes the place of one that is done"
        );
        rig.on(Event::Gained {
            file: 0,
            flowing: 4,
        });
        if attempt {
            rig.refuse(0, 5);
        }
    }
}

#[test]
fn an_attempt_that_brings_bytes_lets_the_others_go() {
    let mut rig = large(LARGE);
    for _ in 4..LARGE {
        rig.refuse(0, 5);
    }
    rig.time = 1.0;
    rig.on(Event::Gained {
        file: 0,
        flowing: 4,
    });
    rig.time = 5.0;
    assert_eq!(rig.pick_more(), 1);
    rig.on(Event::Gained {
        file: 0,
        flowing: 4,
    });
    assert_eq!(
        rig.pick_more(),
        0,
        "the attempt itself has brought nothing yet"
    );
    rig.on(Event::Gained {
        file: 0,
        flowing: 5,
    });
    assert_eq!(rig.code(), None);
    assert_eq!(rig.pick_more(), LARGE - 5);
}

#[test]
fn what_failed_is_tried_again_when_the_wait_is_over_and_not_before() {
    let mut rig = large(LARGE);
    assert!(!rig.record.has_woken(0), "its fault may be on its way");
    rig.refuse(0, 5);
    rig.file(0, Outcome::RangeDone);
    assert_eq!(rig.pick_more(), 1);
    assert!(!rig.record.has_woken(0));
    rig.time = 5.0;
    assert_eq!(rig.pick_more(), 1);
    assert!(rig.record.has_woken(0));
    assert!(!rig.record.has_woken(0), "once");
    rig.refuse(0, 5);
    rig.on(Event::Paused);
    assert!(rig.record.has_woken(0), "the next run does not wait");
    rig.refuse(0, 5);
    assert!(rig.record.has_woken(0));
}

#[test]
fn a_file_that_starts_over_does_so_after_its_wait() {
    let mut rig = large(LARGE);
    rig.file(0, Outcome::Again("it has changed".into()));
    rig.file(0, Outcome::StartedOver);
    rig.refuse(0, 0);
    rig.file(0, Outcome::StartedOver);
    assert_eq!(rig.pick_more(), 0);
    while rig.record.out_of(0) > 0 {
        rig.file(0, Outcome::StartedOver);
    }
    rig.time = 0.5;
    assert_eq!(rig.pick_more(), 1, "one attempt alone");
}

#[test]
fn connections_that_break_after_bytes_are_all_made_again() {
    let mut rig = large(LARGE);
    for _ in 0..LARGE {
        let message = "the line is dead".to_owned();
        rig.file(
            0,
            Outcome::Transient {
                message,
                retry_after: None,
                gained: true,
            },
        );
    }
    assert_eq!(rig.pick_more(), 0);
    rig.time = 0.5;
    assert_eq!(rig.pick_more(), LARGE);
}

#[test]
fn a_file_that_waits_is_given_out_after_a_pause() {
    let mut rig = large(1);
    rig.refuse(0, 5);
    rig.record.range_given(0, false);
    rig.on(Event::Paused);
    rig.on(Event::Resumed);
    assert_eq!(rig.pick(), Some(Pick::Begin));
    rig.on(Event::Begun(rig.table.clone()));
    assert_eq!(rig.pick(), Some(Pick::Open(0)));
}

#[test]
fn one_bad_file_does_not_hold_up_the_others() {
    let mut rig = Rig::begun(50);
    for _ in 0..100 {
        match rig.pick_file() {
            Some(0) => drop(rig.fault(0)),
            Some(file) => drop(rig.file(file, Outcome::Complete)),
            None => break,
        }
    }
    assert_eq!(rig.table.counts().files_complete, 49);
}

#[test]
fn a_dead_server_is_not_asked_once_for_every_file() {
    let mut rig = Rig::begun(10_000);
    let mut asked = 0;
    while let Some(file) = rig.pick_file() {
        rig.fault(file);
        asked += 1;
    }
    assert_eq!(asked, STREAK);
    rig.time = 0.6;
    assert!(rig.pick_file().is_some(), "one probe");
    assert_eq!(rig.pick_file(), None, "and no more until it is back");
}

#[test]
fn files_that_the_server_refuses_wait_for_themselves_only() {
    let mut rig = Rig::begun(3 * STREAK);
    for (time, again) in [(0.0, true), (0.5, true), (1.5, false)] {
        rig.time = time;
        let all: Vec<u32> = std::iter::from_fn(|| rig.pick_file()).collect();
        assert_eq!(all.len() as u32, 3 * STREAK, "at {time} s");
        for file in all {
            match again {
                true => drop(rig.file(file, Outcome::Again("refused".into()))),
                false => drop(rig.failed(file, Code::ProtocolError)),
            }
        }
    }
    assert_eq!(rig.code(), Some(Code::ProtocolError));
}

#[test]
fn a_definite_answer_ends_the_row_of_faults_and_the_wait_for_all() {
    let answers = [
        Outcome::Again("refused".into()),
        Outcome::Failed(FileProblem {
            code: Code::ProtocolError,
            message: "refused for good".into(),
        }),
    ];
    for answer in answers {
        let mut rig = Rig::begun(3 * STREAK);
        let row: Vec<u32> = std::iter::from_fn(|| rig.pick_file())
            .take(STREAK as usize - 1)
            .collect();
        row.into_iter().for_each(|file| drop(rig.fault(file)));
        let (last, one_more) = (rig.pick_file().unwrap(), rig.pick_file().unwrap());
        rig.file(last, answer.clone());
        rig.fault(one_more);
        let next: Vec<u32> = std::iter::from_fn(|| rig.pick_file())
            .take(STREAK as usize - 1)
            .collect();
        assert_eq!(next.len() as u32, STREAK - 1, "a new row");
        next.into_iter().for_each(|file| drop(rig.fault(file)));
        assert_eq!(rig.pick_file(), None, "all wait");
        rig.time = 0.6;
        let attempt = rig.pick_file().unwrap();
        rig.file(attempt, answer);
        assert!(rig.pick_file().is_some() && rig.pick_file().is_some());
    }
}

#[test]
fn after_so_long_without_a_byte_a_fault_is_final() {
    let mut rig = Rig::begun(2);
    assert_eq!((rig.pick_file(), rig.pick_file()), (Some(0), Some(1)));
    rig.file(1, Outcome::Complete);
    rig.fault(0);
    rig.time = 86_401.0;
    assert_eq!(rig.pick_file(), Some(0));
    rig.fault(0);
    assert_eq!(
        rig.table.problem(0).unwrap().code,
        Code::UpstreamUnavailable
    );
    assert_eq!(
        (rig.record.state(), rig.code()),
        (State::Error, Some(Code::FileFailed))
    );
}

#[test]
fn the_code_of_a_failed_download_tells_what_helps() {
    for (codes, expected) in [
        (vec![None, Some(Code::ProtocolError)], Code::FileFailed),
        (vec![Some(Code::ProtocolError)], Code::ProtocolError),
        (
            vec![Some(Code::UpstreamUnavailable)],
            Code::UpstreamUnavailable,
        ),
        (
            vec![Some(Code::ProtocolError), Some(Code::UpstreamUnavailable)],
            Code::FileFailed,
        ),
        (
            vec![
                None,
                Some(Code::ProtocolError),
                Some(Code::InsufficientStorage),
            ],
            Code::FileFailed,
        ),
        (
            vec![None, Some(Code::InsufficientStorage)],
            Code::InsufficientStorage,
        ),
        (
            vec![
                Some(Code::DestinationUnwritable),
                Some(Code::InsufficientStorage),
            ],
            Code::InsufficientStorage,
        ),
        (
            vec![Some(Code::DestinationUnwritable), Some(Code::ProtocolError)],
            Code::FileFailed,
        ),
        (
            vec![None, Some(Code::DestinationUnwritable)],
            Code::DestinationUnwritable,
        ),
    ] {
        let mut rig = Rig::begun(codes.len() as u32);
        for code in &codes {
            let file = rig.pick_file().unwrap();
            match code {
                None => rig.file(file, Outcome::Complete),
                Some(code) => rig.failed(file, *code),
            };
        }
        assert_eq!(
            (rig.record.state(), rig.code()),
            (State::Error, Some(expected)),
            "{codes:?}"
        );
        assert!(rig.record.problem().unwrap().recoverable);
    }
}

#[test]
fn resume_tries_the_failed_files_only() {
    let mut rig = Rig::begun(3);
    for _ in 0..3 {
        match rig.pick_file().unwrap() {
            1 => drop(rig.failed(1, Code::ProtocolError)),
            file => drop(rig.file(file, Outcome::Complete)),
        }
    }
    let effects = rig.on(Event::Resumed);
    assert!(effects.contains(&Effect::Again(1)) && effects.contains(&Effect::Show));
    assert_eq!(
        (rig.record.state(), rig.record.problem()),
        (State::Transferring, None)
    );
    assert_eq!(rig.pick(), Some(Pick::Begin));
    rig.on(Event::Begun(rig.table.clone()));
    assert_eq!((rig.pick_file(), rig.pick_file()), (Some(1), None));
    rig.file(1, Outcome::Complete);
    assert_eq!(rig.record.state(), State::Complete);
}

#[test]
fn a_resume_waits_until_the_paused_jobs_are_back() {
    let mut rig = Rig::begun(1);
    rig.pick_file();
    assert!(rig.on(Event::Paused).contains(&Effect::Halt));
    assert!(rig.on(Event::Resumed).contains(&Effect::Show));
    assert_eq!(rig.pick(), None);
    rig.file(0, Outcome::Stopped);
    assert_eq!(rig.pick(), Some(Pick::Begin));
}

#[test]
fn a_beginning_that_ends_after_a_pause_is_not_used() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.pick(), Some(Pick::Begin));
    rig.on(Event::Paused);
    rig.on(Event::Begun(rig.table.clone()));
    rig.on(Event::Resumed);
    assert_eq!(rig.pick(), Some(Pick::Begin));
    rig.on(Event::Begun(rig.table.clone()));
    assert_eq!(rig.pick_file(), Some(0));
}

#[test]
fn nonsense_from_the_server_is_its_own_after_a_few_times() {
    let mut rig = Rig::new(1);
    for attempt in 1..=MALFORMED {
        rig.time += 100.0;
        assert_eq!(rig.pick(), Some(Pick::Begin), "attempt {attempt}");
        rig.on(Event::NotBegun {
            message: "no JSON".into(),
            retry_after: None,
            malformed: true,
        });
    }
    assert_eq!(
        (rig.record.state(), rig.code()),
        (State::Error, Some(Code::ProtocolError))
    );
}

#[test]
fn a_link_that_is_gone_ends_the_download_but_not_its_files() {
    let mut rig = Rig::begun(2);
    rig.pick_file();
    let problem = Problem {
        code: Code::LinkExpired,
        message: "gone".into(),
        recoverable: false,
        retry_at: None,
    };
    let effects = rig.file(0, Outcome::DownloadFailed(problem.clone()));
    assert!(effects.contains(&Effect::Error) && effects.contains(&Effect::Halt));
    assert_eq!(
        (rig.record.state(), rig.record.problem()),
        (State::Error, Some(&problem))
    );
    assert_eq!(rig.table.counts().files_failed, 0);
}

proptest! {
    /// Whatever happens, a download that transfers always has a job out, a pick to give or a time
    /// to wait for.
    #[test]
    fn never_stuck(files in 0_u32..6, steps in prop::collection::vec((0_u8..12, any::<prop::sample::Index>()), 0..150)) {
        let mut rig = Rig::new(files);
        let mut out: Vec<u32> = Vec::new();
        let mut starting = false;
        for (step, which) in steps {
            rig.time += 0.05;
            match step {
                0 if rig.record.state() == State::Transferring => { rig.on(Event::Paused); }
                1 if matches!(rig.record.state(), State::Paused | State::Error) => { rig.on(Event::Resumed); }
                2 | 3 if starting => {
                    starting = false;
                    let table = rig.table.clone();
                    rig.on(if step == 2 { Event::Begun(table) } else { Event::StartStopped });
                }
                4 => rig.time += 400.0,
                _ if !out.is_empty() => {
                    let file = out.swap_remove(which.index(out.len()));
                    match step {
                        5 => { rig.fault(file); }
                        6 => { rig.failed(file, Code::ProtocolError); }
                        7 => { rig.file(file, Outcome::Stopped); }
                        8 => { rig.file(file, Outcome::StartedOver); }
                        9 => { rig.file(file, Outcome::Again("refused".into())); }
                        10 => { rig.refuse(file, 1); }
                        _ => { rig.file(file, Outcome::Complete); }
                    }
                }
                _ => {}
            }
            while let Some(pick) = rig.pick() {
                match pick {
                    Pick::Begin => starting = true,
                    Pick::New(file) | Pick::Open(file) => {
                        rig.record.range_given(file, false);
                        out.push(file);
                    }
                }
            }
            let distinct: BTreeSet<_> = out.iter().collect();
            prop_assert_eq!(distinct.len(), out.len(), "a file without ranges is given out once");
            prop_assert_eq!(rig.record.is_idle(), out.is_empty() && !starting);
            let now = at(rig.begin, rig.time).instant;
            let moving = !rig.record.is_idle() || rig.record.next_due(now).is_some();
            prop_assert_eq!(rig.record.state() == State::Transferring, moving && rig.record.state() == State::Transferring);
        }
    }
}

proptest! {
    /// However the jobs of one file end, its server is asked a bounded number of times a minute.
    #[test]
    fn no_sequence_of_faults_costs_many_requests(faults in prop::collection::vec(0_u8..5, 1..40)) {
        let mut rig = Rig::begun(1);
        let mut requests = Vec::new();
        let mut faults = faults.into_iter().cycle();
        while rig.time < 600.0 {
            if rig.pick_file().is_none() {
                let now = at(rig.begin, rig.time).instant;
                let Some(due) = rig.record.next_due(now) else { break };
                rig.time = due.duration_since(rig.begin).as_secs_f64() + 0.000_001;
                continue;
            }
            requests.push(rig.time);
            // A server and a disk that answer at once.
            rig.time += 0.001;
            match faults.next() {
                Some(0) => drop(rig.file(0, Outcome::StartedOver)),
                Some(1) => drop(rig.file(0, Outcome::Again("no".into()))),
                Some(2) => drop(rig.fault(0)),
                Some(3) => rig.refuse(0, 0),
                _ => {
                    let message = "broken off".to_owned();
                    rig.file(0, Outcome::Transient { message, retry_after: None, gained: true });
                }
            }
        }
        let begin = |minute: u32| f64::from(minute) * 60.0;
        let within = |minute: u32| requests.iter().filter(|&&at| (begin(minute)..begin(minute + 1)).contains(&at)).count();
        let most = (0..10).map(within).max().unwrap_or(0);
        // One each half second, where bytes come, and those that need no wait.
        prop_assert!(most <= 140 + 2 * MAX_RESTARTS as usize, "{most} requests in one minute");
    }
}

fn lost() -> Event {
    Event::Lost(Problem {
        code: Code::DestinationUnwritable,
        message: "the disk is sick".into(),
        recoverable: true,
        retry_at: None,
    })
}

#[test]
fn lost_data_is_an_error_in_whatever_state_it_is_found() {
    let mut paused = Rig::begun(2);
    paused.on(Event::Paused);
    let mut complete = Rig::begun(0);
    assert_eq!(complete.record.state(), State::Complete);
    let mut moving = Rig::begun(2);
    moving.pick();
    for rig in [&mut paused, &mut complete, &mut moving] {
        let effects = rig.on(lost());
        assert_eq!(rig.record.state(), State::Error);
        let problem = rig.record.problem().unwrap();
        assert_eq!(problem.code, Code::DestinationUnwritable);
        for effect in [Effect::Error, Effect::Halt, Effect::Show] {
            assert!(effects.contains(&effect), "{effects:?}");
        }
        assert_eq!(rig.pick(), None);
    }
}
