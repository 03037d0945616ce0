//! Lists of files of 200 MB and without an end: read as a stream, in bounded memory, while the API
//! answers.

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::agent::{Agent, DOWNLOADS, one};
use crate::support::origin::{Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

/// Files in the list beside those that arrive; none of them is downloaded.
const LISTED: u64 = 2000;
/// What each of them is in the list, in bytes.
const EACH: usize = 100 << 10;
/// What the agent may need for it beside what it needed before, in kB: a tenth of the list.
const ROOM: u64 = 20 << 10;

/// The most memory that the agent had so far, in kB.
fn memory(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.unwrap().trim().trim_end_matches(" kB");
    number.parse().unwrap()
}

/// An entry that is not downloaded, long by a field that nobody knows or by its name, in turn.
fn write_long(out: &mut dyn Write, number: u64, filler: &[u8]) -> io::Result<()> {
    write!(out, r#"{{"id":"L{number}","kind":"file","size":1,"#)?;
    write!(out, r#""virus_detected":true,"thumbnail":""#)?;
    out.write_all(&filler[..EACH / 2])?;
    // Half of them of a length that a name may have in a list.
    let name = if number.is_multiple_of(2) {
        EACH / 2
    } else {
        5
    };
    write!(out, r#"","name":"{number:0name$}","note":""#)?;
    out.write_all(&filler[..EACH / 2 - name])?;
    out.write_all(b"\"},")
}

/// 200 MB, and at their end the package's own list.
fn write_list(out: &mut dyn Write, own: &str) -> io::Result<()> {
    let filler = vec![b'x'; EACH];
    out.write_all(b"[")?;
    (0..LISTED).try_for_each(|number| write_long(out, number, &filler))?;
    out.write_all(own.strip_prefix('[').unwrap().as_bytes())
}

/// Asks the API again and again until the download has ended; the longest that it took to answer.
fn slowest_answer(agent: &Agent) -> (Value, Duration) {
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let list = agent.get(DOWNLOADS).expect(200);
        slowest = slowest.max(asked.elapsed());
        if list[0]["state"] != "transferring" {
            return (list[0].clone(), slowest);
        }
        assert!(begin.elapsed() < 2 * PATIENCE, "{list:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_list_of_200_mb_is_read_in_little_memory_while_the_api_answers() {
    let rig = Rig::new(Package::new().many(5, 20_000));
    let own = rig.origin.package().listing();
    let listing = Reply::made(move |out| write_list(out, &own));
    rig.origin.always(Kind::Listing, listing);
    let before = memory(&rig.agent);
    let id = rig.create();
    let (summary, slowest) = slowest_answer(&rig.agent);
    let needed = memory(&rig.agent) - before;
    assert_eq!(summary["state"], "complete", "{summary:#}");
    assert_eq!(summary["files_total"], LISTED + 5);
    assert_eq!(summary["files_skipped"], LISTED);
    assert!(needed < ROOM, "{needed} kB for a list of 200 MB");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    // Names of 50 KB are shown cut: the answer is not as long as the list.
    let record = rig.agent.get(&one(&id));
    assert!(record.text.len() < 20 << 20, "{}", record.text.len());
    rig.assert_arrived(&record.json());
}

#[test]
fn an_entry_without_an_end_is_not_waited_for() {
    let rig = Rig::new(Package::new());
    let written = Arc::new(AtomicU64::new(0));
    let counted = written.clone();
    let endless = Reply::made(move |out| {
        out.write_all(br#"[{"id":"L1","kind":"file","size":1,"name":""#)?;
        loop {
            out.write_all(&[b'x'; 4096])?;
            counted.fetch_add(4096, Ordering::Relaxed);
        }
    });
    rig.origin.always(Kind::Listing, endless);
    let before = memory(&rig.agent);
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "protocol_error", "{record:#}");
    let message = record["error"]["message"].as_str().unwrap();
    assert!(message.contains("more than 256 KiB"), "{message}");
    let asked = rig.origin.count(Kind::Listing) as u64;
    // What was on its way when it hung up was written too.
    let most = asked * (4 << 20);
    assert!(written.load(Ordering::Relaxed) < most, "{asked} requests");
    assert!(memory(&rig.agent) - before < ROOM);
}
