//! Answers that go on for ever below what HTTP calls a body: neither time nor memory goes with
//! them.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::support::PATIENCE;
use crate::support::agent::DOWNLOADS;
use crate::support::origin::{Kind, Reply};
use crate::support::rig::Rig;

use super::two;

const CHUNKED: &str = "HTTP/1.1 200 Told\r\nTransfer-Encoding: chunked\r\n\r\n";

/// How an answer begins, and what follows for ever.
const ENDLESS: [(&str, &str); 8] = [
    ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ("HTTP/1.1 200 Told\r\n", "X-Padding: yes\r\n"),
    ("HTTP/1.1 200 Told\r\n", "X"),
    ("", "H"),
    ("", "\r\n"),
    ("CHUNKED1;", "x"),
    ("CHUNKED0", "0"),
    ("CHUNKED2\r\n[]\r\n0\r\n", "X-Padding: yes\r\n"),
];

/// What the program has had of a processor, in seconds.
fn processor_time(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    // utime and stime, in hundredths (proc_pid_stat(5)).
    let ticks = fields.skip(11).take(2).map(str::parse::<f64>);
    ticks.map(Result::unwrap).sum::<f64>() / 100.0
}

/// One kind of request is answered so by an upstream for as long as anybody listens.
fn assert_given_up(kind: Kind, begin: &str, again: &str) {
    let rig = Rig::with(two(), &["--retry-for", "1"]);
    let begin = begin.replace("CHUNKED", CHUNKED);
    let block = again.repeat((64 << 10) / again.len());
    let written = Arc::new(AtomicU64::new(0));
    let counted = written.clone();
    let endless = Reply::raw(move |out| {
        out.write_all(begin.as_bytes())?;
        loop {
            out.write_all(block.as_bytes())?;
            counted.fetch_add(block.len() as u64, Ordering::Relaxed);
        }
    });
    rig.origin.always(kind, endless);
    let what = format!("{kind:?}, {again:?} for ever");
    let start = Instant::now();
    rig.create();
    loop {
        let summary = rig.agent.get(DOWNLOADS).expect(200)[0].clone();
        if summary["state"] == "error" {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: {summary}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let requests = rig.origin.count(kind) as u64;
    // What lay in buffers when it hung up was written too.
    let most = requests * (8 << 20);
    assert!(written.load(Ordering::Relaxed) < most, "{what}");
    let time = processor_time(rig.agent.pid());
    assert!(time < 5.0, "{what}: {time} s of a processor");
}

fn assert_all_given_up(kind: Kind) {
    for (begin, again) in ENDLESS {
        assert_given_up(kind, begin, again);
    }
}

#[test]
fn a_link_whose_answer_has_no_end_is_given_up() {
    assert_all_given_up(Kind::Link);
}

#[test]
fn a_list_whose_answer_has_no_end_is_given_up() {
    assert_all_given_up(Kind::Listing);
}

#[test]
fn an_address_whose_answer_has_no_end_is_given_up() {
    assert_all_given_up(Kind::Address);
}

#[test]
fn bytes_whose_answer_has_no_end_are_given_up() {
    assert_all_given_up(Kind::Bytes);
}
