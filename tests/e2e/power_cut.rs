//! A power cut, played: another boot, and a disk that holds what was synced and, of the rest,
//! whatever is worst.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::agent::{Agent, Setup, one};
use crate::support::namespace::Namespace;
use crate::support::origin::{Gate, Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::tree;

const LARGE: u64 = 24 << 20;
const MIB: u64 = 1 << 20;
const RATE: u64 = 8 << 20;

/// What the disk makes of what was not synced.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Names and lengths are there, the bytes are not.
    Garbled,
    /// Files end where their last synced byte does, and lose names that were not synced.
    CutAndReverted,
    /// As never made, where nothing of it was synced; the journal ends with its last mark.
    Gone,
}

/// How far the journal vouches for a file.
#[derive(Debug, Clone, Default)]
struct Vouched {
    whole: bool,
    ranges: Vec<(u64, u64)>,
}

/// An agent in a boot whose name can be changed.
struct Machine {
    agent: Agent,
    origin: Origin,
    boot: PathBuf,
    dir: TempDir,
    _namespace: Namespace,
}

impl Machine {
    fn new(package: Package) -> Option<Machine> {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path().join("boot_id");
        fs::write(&boot, "the-first-boot\n").unwrap();
        let namespace = Namespace::new(&format!(
            "mount --bind '{}' /proc/sys/kernel/random/boot_id",
            boot.display()
        ))?;
        let origin = Origin::new(package);
        origin.throttle(RATE);
        let agent = Setup::new()
            .origin(&origin)
            .wrapper(&namespace.enter())
            .start();
        Some(Machine {
            agent,
            origin,
            boot,
            dir,
            _namespace: namespace,
        })
    }

    fn dst(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    fn journal(&self) -> PathBuf {
        self.agent.state_dir().join("downloads.journal")
    }

    /// By file, what is synced according to the journal.
    fn vouched(&self) -> HashMap<u64, Vouched> {
        let text = fs::read_to_string(self.journal()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let marks = lines.iter().filter_map(|line| line["s"].as_u64());
        let synced = marks.max().expect("something was synced");
        let mut files: HashMap<u64, Vouched> = HashMap::new();
        for line in &lines {
            if line["n"].as_u64().is_none_or(|number| number > synced) {
                continue;
            }
            let change = &line["c"];
            if let Some([_, file, start, end]) = numbers(&change["w"]) {
                files.entry(file).or_default().ranges.push((start, end));
            }
            for name in ["d", "m"] {
                if let Some(file) = change[name][1].as_u64() {
                    files.entry(file).or_default().whole = true;
                }
            }
            if let Some(file) = change["o"][1].as_u64() {
                files.remove(&file);
            }
        }
        files
    }

    /// A clean stop, and a start in another boot.
    fn reboot(&mut self) {
        let (status, _) = self.agent.terminate();
        assert_eq!(status.code(), Some(0));
        fs::write(&self.boot, "boot-after-a-clean-stop\n").unwrap();
        self.agent.restart();
    }

    fn cut_power(&mut self, id: &str, fate: Fate) {
        let record = self.agent.inspect(id);
        self.agent.kill9();
        let vouched = self.vouched();
        let rows = record["files"].as_array().unwrap();
        for (index, row) in (0..).zip(rows) {
            let path = self.dst().join(row["path"].as_str().unwrap());
            let known = vouched.get(&index).cloned().unwrap_or_default();
            if !known.whole {
                suffer(&path, &known.ranges, fate);
            }
        }
        if let Fate::Gone = fate {
            let text = fs::read(self.journal()).unwrap();
            let mark = text
                .windows(5)
                .rposition(|five| five == b"{\"s\":")
                .unwrap();
            let end = text[mark..].iter().position(|byte| *byte == b'\n').unwrap();
            fs::write(self.journal(), &text[..=mark + end]).unwrap();
        }
        fs::write(&self.boot, format!("boot-after-{fate:?}\n")).unwrap();
        self.agent.restart();
    }
}

fn numbers(list: &Value) -> Option<[u64; 4]> {
    let list: Vec<u64> = list.as_array()?.iter().filter_map(Value::as_u64).collect();
    list.try_into().ok()
}

fn suffer(path: &Path, synced: &[(u64, u64)], fate: Fate) {
    let part = PathBuf::from(format!("{}.part", path.display()));
    let here = if path.exists() { path } else { part.as_path() };
    let Ok(file) = OpenOptions::new().write(true).open(here) else {
        return;
    };
    let length = file.metadata().unwrap().len();
    let safe_end = synced.iter().map(|range| range.1).max().unwrap_or(0);
    for at in (0..length).step_by(512) {
        let end = length.min(at + 512);
        let lost =
            (at..end).find(|byte| !synced.iter().any(|(from, to)| from <= byte && byte < to));
        if let Some(from) = lost {
            let to = synced
                .iter()
                .map(|range| range.0)
                .filter(|start| *start > from)
                .min();
            let to = to.unwrap_or(end).min(end);
            let garbage = vec![0xEE; (to - from) as usize];
            file.write_all_at(&garbage, from).unwrap();
        }
    }
    match fate {
        Fate::Garbled => {}
        Fate::Gone if synced.is_empty() => fs::remove_file(here).unwrap(),
        Fate::CutAndReverted | Fate::Gone => {
            file.set_len(safe_end).unwrap();
            if here == path {
                fs::rename(path, &part).unwrap();
            }
        }
    }
}

fn survives(fate: Fate, if_exists: &str) {
    let package = Package::new().file("large.mov", LARGE).many(300, 40_000);
    let Some(mut machine) = Machine::new(package) else {
        return;
    };
    let size = machine.origin.package().size();
    let more = json!({"if_exists": if_exists});
    let dst = machine.dst();
    let id = machine.agent.create_with(&machine.origin, &dst, more);
    // Marks come every second or two.
    machine.origin.await_served(3 * RATE);
    machine.cut_power(&id, fate);
    let record = machine.agent.wait_state(&id, "complete");
    for (row, entry) in record["files"]
        .as_array()
        .unwrap()
        .iter()
        .zip(machine.origin.package().entries)
    {
        let path = machine.dst().join(row["path"].as_str().unwrap());
        tree::assert_file(&path, entry.seed, entry.size);
        assert!(!path.to_str().unwrap().contains("(1)"), "{row}");
    }
    assert_eq!(tree::part_files(&machine.dst()), Vec::<PathBuf>::new());
    // The last few seconds, and what was on its way.
    let twice = machine.origin.served() - size;
    assert!(twice <= 4 * RATE, "{twice} bytes fetched twice");
    assert!(twice > 0, "something was not synced, and was fetched again");
}

#[test]
fn garbage_in_place_of_what_was_not_synced_is_fetched_again() {
    survives(Fate::Garbled, "rename");
}

#[test]
fn garbage_under_names_that_may_be_overwritten_is_overwritten() {
    survives(Fate::Garbled, "overwrite");
}

#[test]
fn files_that_lost_their_end_and_their_name_are_fetched_again() {
    survives(Fate::CutAndReverted, "rename");
}

#[test]
fn files_and_journal_lines_that_are_gone_are_made_again() {
    survives(Fate::Gone, "rename");
}

#[test]
fn a_journal_with_repeated_and_misplaced_lines_after_a_cut_is_read() {
    let Some(mut machine) = Machine::new(Package::new().file("large.mov", LARGE)) else {
        return;
    };
    let id = machine.agent.create(&machine.origin, &machine.dst());
    machine.origin.await_served(2 * RATE);
    machine.agent.kill9();
    let served = machine.origin.served();
    let text = fs::read_to_string(machine.journal()).unwrap();
    let recorded = recorded_bytes(&text);
    assert!(recorded > RATE, "{recorded} bytes are in the journal");
    let mut lines: Vec<&str> = text.lines().collect();
    let header = lines.remove(0);
    let again = lines.clone();
    lines.reverse();
    let mut journal = File::create(machine.journal()).unwrap();
    writeln!(
        journal,
        "{header}\n{}\n{}",
        lines.join("\n"),
        again.join("\n")
    )
    .unwrap();
    machine.agent.restart();
    machine.agent.wait_state(&id, "complete");
    let twice = machine.origin.served() - LARGE;
    // What the journal says is there is not fetched again, but for what lay in the sockets.
    let unrecorded = served.saturating_sub(recorded) + MIB;
    assert!(
        twice <= unrecorded,
        "{twice} bytes fetched twice, {unrecorded} were not recorded"
    );
    tree::assert_file(&machine.dst().join("large.mov"), 1, LARGE);
}

/// How many bytes of the one file the journal's lines vouch for.
fn recorded_bytes(journal: &str) -> u64 {
    let written = journal.split("\"w\":[").skip(1).filter_map(|rest| {
        let numbers = rest.split(']').next()?.split(',');
        let numbers: Vec<u64> = numbers.filter_map(|number| number.parse().ok()).collect();
        Some((*numbers.get(2)?, *numbers.get(3)?))
    });
    let mut written: Vec<(u64, u64)> = written.collect();
    written.sort_unstable();
    let (mut total, mut reached) = (0, 0);
    for (start, end) in written {
        total += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    total
}

/// How many files the tests below have, and the bytes of each; more than there are workers, so that
/// some are pending.
const MANY: usize = 60;
const SIZE: u64 = 40_000;
/// The user's own file of the same name: its seed and bytes.
const MINE: (u64, u64) = (90, 500);

fn many(machine: &Machine) -> Vec<PathBuf> {
    let entries = machine.origin.package().entries;
    let folder = machine.dst().join("many");
    entries
        .iter()
        .map(|entry| folder.join(&entry.name))
        .collect()
}

fn put_mine(path: &Path) {
    tree::write_file(path, MINE.0, MINE.1);
}

fn assert_mine(path: &Path) {
    tree::assert_file(path, MINE.0, MINE.1);
}

/// A machine whose download is paused: some files under way and the others pending. The gate holds
/// every file.
fn paused(prepare: impl FnOnce(&Machine), more: Value) -> Option<(Machine, String, Gate)> {
    let machine = Machine::new(Package::new().many(MANY, SIZE))?;
    prepare(&machine);
    let gate = Gate::new();
    let held = Reply::stall_after(1000, &gate);
    machine.origin.always(Kind::Bytes, held);
    let (agent, origin) = (&machine.agent, &machine.origin);
    let id = agent.create_with(origin, &machine.dst(), more);
    agent.wait(&id, "bytes", |record| record["bytes_done"] != 0);
    agent.pause(&id).expect(200);
    Some((machine, id, gate))
}

/// Resumes, and waits until bytes come: what a start does with names is done then.
fn resume(machine: &Machine, id: &str) {
    let before = machine.agent.inspect(id)["bytes_done"].as_u64();
    machine.agent.resume(id).expect(200);
    machine.agent.wait(id, "more bytes", |record| {
        record["bytes_done"].as_u64() > before
    });
}

/// The same where every name is taken by the user's own file, to be overwritten; in another boot,
/// resumed.
fn overwriting() -> Option<(Machine, String, Gate)> {
    let put = |machine: &Machine| many(machine).iter().for_each(|path| put_mine(path));
    let (mut machine, id, gate) = paused(put, json!({"if_exists": "overwrite"}))?;
    machine.reboot();
    resume(&machine, &id);
    Some((machine, id, gate))
}

#[test]
fn what_is_to_be_overwritten_stays_until_then_also_after_a_reboot() {
    let Some((machine, id, gate)) = overwriting() else {
        return;
    };
    many(&machine).iter().for_each(|path| assert_mine(path));
    gate.open();
    machine.agent.wait_state(&id, "complete");
    for (path, entry) in many(&machine).iter().zip(machine.origin.package().entries) {
        tree::assert_file(path, entry.seed, SIZE);
    }
    assert_eq!(tree::paths(&machine.dst()).len(), MANY + 1, "nothing else");
}

#[test]
fn a_delete_after_a_reboot_leaves_what_was_to_be_overwritten() {
    let Some((machine, id, _gate)) = overwriting() else {
        return;
    };
    machine.agent.delete(&one(&id)).expect(200);
    many(&machine).iter().for_each(|path| assert_mine(path));
    assert_eq!(tree::part_files(&machine.dst()), Vec::<PathBuf>::new());
}

#[test]
fn an_old_file_put_in_a_pending_files_place_is_left_alone_after_a_reboot() {
    let Some((mut machine, id, gate)) = paused(|_| {}, json!({})) else {
        return;
    };
    let path = many(&machine).pop().unwrap();
    let part = PathBuf::from(format!("{}.part", path.display()));
    assert!(!part.exists(), "the last file is pending");
    put_mine(&path);
    let year_2001 = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(year_2001).unwrap();
    machine.reboot();
    resume(&machine, &id);
    assert_mine(&path);
    gate.open();
    let record = machine.agent.wait_state(&id, "complete");
    let last = record["files"].as_array().unwrap().last().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(last["path"], format!("many/{name} (1)"));
    assert_mine(&path);
}
