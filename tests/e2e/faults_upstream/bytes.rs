//! Bytes that stop coming: cuts, resets, refusals for a while, silence.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::origin::{Gate, Kind, Reply, Seen};
use crate::support::package::Package;
use crate::support::rig::Rig;

fn one() -> Package {
    Package::new().file("a.mov", 100_000)
}

/// Each request for bytes gets the next of these replies, then the truth.
fn in_turn(rig: &Rig, replies: Vec<Reply>) {
    rig.origin.on(Kind::Bytes, move |seen| {
        replies.get(seen.nth - 1).cloned().unwrap_or_default()
    });
}

/// Asserts that the n-th request for bytes began at this byte.
fn assert_began_at(rig: &Rig, nth: usize, byte: u64) {
    let seen = &rig.origin.requests(Kind::Bytes)[nth - 1];
    let first = seen.range.map_or(0, |(first, _)| first);
    assert_eq!(first, byte, "{seen:?}");
}

#[test]
fn a_cut_body_goes_on_from_the_last_good_byte() {
    let rig = Rig::new(one());
    let cuts = [1, 77_776, 0].map(Reply::cut);
    in_turn(&rig, cuts.to_vec());
    let id = rig.create();
    rig.complete(&id);
    assert_began_at(&rig, 2, 1);
    assert_began_at(&rig, 3, 77_777);
    assert_began_at(&rig, 4, 77_777);
    assert_eq!(rig.origin.served(), 100_000);
}

#[test]
fn a_reset_connection_is_tried_again() {
    let rig = Rig::new(one());
    in_turn(&rig, vec![Reply::reset(0), Reply::reset(50_000)]);
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn a_connection_that_ends_without_an_answer_is_tried_again() {
    let rig = Rig::new(one());
    in_turn(&rig, vec![Reply::hang_up()]);
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn a_large_file_survives_cuts_on_every_connection() {
    let rig = Rig::new(Package::new().file("large.mov", 24 << 20));
    rig.origin.on(Kind::Bytes, |seen| match seen.nth {
        1..=12 if seen.nth % 2 == 0 => Reply::reset(700_000 + seen.nth as u64),
        1..=12 => Reply::cut(600_001),
        _ => Reply::serve(),
    });
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn server_errors_are_tried_again() {
    let rig = Rig::new(Package::new().many(5, 1000));
    rig.origin.on(Kind::Bytes, |seen| {
        let file: usize = seen.file.as_ref().unwrap()[1..].parse().unwrap();
        match seen.nth_of_file {
            1 => Reply::status([500, 502, 503, 504, 429][file - 1]),
            _ => Reply::serve(),
        }
    });
    let id = rig.create();
    let record = rig.complete(&id);
    assert_eq!(record["error"], Value::Null);
    assert_eq!(rig.origin.count(Kind::Bytes), 10);
}

/// How long the second request for bytes came after the first.
fn gap(rig: &Rig) -> Duration {
    let requests = rig.origin.requests(Kind::Bytes);
    requests[1].at - requests[0].at
}

#[test]
fn retry_after_in_seconds_is_heeded() {
    let rig = Rig::new(one());
    in_turn(&rig, vec![Reply::status(429).header("Retry-After", "2")]);
    let id = rig.create();
    rig.complete(&id);
    let gap = gap(&rig);
    assert!(gap >= Duration::from_millis(1900), "{gap:?}");
    assert!(gap < Duration::from_secs(10), "{gap:?}");
}

#[test]
fn retry_after_as_a_date_is_heeded() {
    let rig = Rig::new(one());
    rig.origin.on(Kind::Bytes, |seen| match seen.nth {
        1 => {
            // The date has whole seconds, so 3 s may be little more than 2.
            let date = SystemTime::now() + Duration::from_secs(3);
            Reply::status(503).header("Retry-After", &httpdate::fmt_http_date(date))
        }
        _ => Reply::serve(),
    });
    let id = rig.create();
    rig.complete(&id);
    let gap = gap(&rig);
    assert!(gap >= Duration::from_millis(1500), "{gap:?}");
    assert!(gap < Duration::from_secs(10), "{gap:?}");
}

#[test]
fn a_retry_after_that_is_nonsense_is_ignored() {
    let rig = Rig::new(Package::new().many(3, 1000));
    rig.origin.on(Kind::Bytes, |seen| {
        let value = ["soon", "-5", "Mon, 01 Jan 1990 00:00:00 GMT"];
        match seen.nth {
            nth @ 1..=3 => Reply::status(503).header("Retry-After", value[nth - 1]),
            _ => Reply::serve(),
        }
    });
    let id = rig.create();
    rig.complete(&id);
}

#[test]
fn what_is_being_retried_is_shown() {
    let rig = Rig::new(one());
    rig.origin.always(Kind::Bytes, Reply::status(503));
    let id = rig.create();
    let record = rig
        .agent
        .wait(&id, "a fault", |record| !record["error"].is_null());
    assert_eq!(record["state"], "transferring");
    let error = &record["error"];
    assert_eq!(error["code"], "upstream_unavailable");
    assert!(error["message"].is_string() && error["recoverable"].is_boolean());
    assert!(
        error["retry_at"].as_str().unwrap().ends_with('Z'),
        "{error}"
    );
    rig.origin.heal(Kind::Bytes);
    let record = rig.complete(&id);
    assert_eq!(record["error"], Value::Null);
}

#[test]
fn retries_become_rarer() {
    let rig = Rig::new(one());
    rig.origin.always(Kind::Bytes, Reply::status(500));
    rig.create();
    rig.origin.await_requests(Kind::Bytes, 4);
    let times: Vec<Instant> = rig
        .origin
        .requests(Kind::Bytes)
        .iter()
        .map(|r| r.at)
        .collect();
    let first = times[1] - times[0];
    let third = times[3] - times[2];
    assert!(first >= Duration::from_millis(200), "{first:?}");
    assert!(first <= Duration::from_secs(2), "{first:?}");
    assert!(third > first, "{third:?} after {first:?}");
}

#[test]
fn a_connection_that_falls_silent_is_given_up() {
    let rig = Rig::with(one(), &["--silence-timeout", "1"]);
    let gate = Gate::new();
    in_turn(
        &rig,
        vec![Reply::stall_after(40_000, &gate), Reply::stall(&gate)],
    );
    let id = rig.create();
    rig.complete(&id);
    assert_began_at(&rig, 2, 40_000);
}

#[test]
fn a_slow_line_is_not_a_silent_one() {
    let rig = Rig::with(
        Package::new().file("a", 60_000),
        &["--silence-timeout", "1"],
    );
    rig.origin.throttle(20_000);
    let id = rig.create();
    rig.complete(&id);
    assert_eq!(rig.origin.count(Kind::Bytes), 1, "3 s on one connection");
}

#[test]
fn a_lasting_fault_becomes_final_and_can_be_resumed() {
    let rig = Rig::with(one(), &["--retry-for", "1"]);
    rig.origin.always(Kind::Bytes, Reply::status(503));
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "upstream_unavailable");
    assert_eq!(record["error"]["recoverable"], true);
    rig.origin.heal(Kind::Bytes);
    rig.agent.resume(&id).expect(200);
    let record = rig.complete(&id);
    assert_eq!(record["error"], Value::Null);
}

#[test]
fn bytes_gained_start_the_count_anew() {
    let rig = Rig::with(one(), &["--retry-for", "2"]);
    // Each fault costs half a second or more; together they last longer than the limit.
    in_turn(&rig, vec![Reply::cut(1000); 8]);
    let id = rig.create();
    let record = rig.complete(&id);
    assert_eq!(record["error"], Value::Null);
    let requests = rig.origin.requests(Kind::Bytes);
    let lasted = requests[8].at - requests[0].at;
    assert!(lasted > Duration::from_secs(2), "{lasted:?}");
}

#[test]
fn a_server_without_ranges_is_served_on_one_connection() {
    let rig = Rig::new(Package::new().file("large.mov", 24 << 20).file("small", 10));
    rig.origin.always(Kind::Bytes, Reply::ignore_range());
    let id = rig.create();
    rig.complete(&id);
}

const MIB: u64 = 1 << 20;

#[test]
fn a_server_without_ranges_sends_a_large_file_little_more_than_once() {
    let rig = Rig::new(Package::new().file("large.mov", 48 * MIB));
    rig.origin.throttle(48 * MIB);
    rig.origin.always(Kind::Bytes, Reply::ignore_range());
    let id = rig.create();
    rig.complete(&id);
    let sent = rig.origin.served() / MIB;
    assert!(sent < 64, "{sent} MiB sent");
}

/// A download whose file of 8 MiB comes at 3 MiB a second from a server that ignores ranges.
fn slow_without_ranges() -> (Rig, String) {
    let rig = Rig::new(Package::new().file("a.mov", 8 * MIB));
    rig.origin.throttle(3 * MIB);
    rig.origin.always(Kind::Bytes, Reply::ignore_range());
    let id = rig.create();
    (rig, id)
}

/// Waits for the end of the download, and asserts that its progress never goes back.
fn complete_without_a_step_back(rig: &Rig, id: &str) {
    let most = Cell::new(0);
    rig.agent.wait(id, "the end", |record| {
        let done = record["bytes_done"].as_u64().unwrap();
        assert!(done >= most.replace(done), "{done} after {}", most.get());
        record["state"] == "complete"
    });
    rig.complete(id);
}

#[test]
fn a_whole_file_on_its_way_is_not_thrown_away_for_its_tail() {
    let (rig, id) = slow_without_ranges();
    complete_without_a_step_back(&rig, &id);
    assert!(rig.origin.count(Kind::Bytes) > 1, "the tail was asked for");
    let sent = rig.origin.served() / MIB;
    assert!(sent < 10, "{sent} MiB sent");
}

#[test]
fn a_pause_costs_no_progress_without_ranges() {
    let (rig, id) = slow_without_ranges();
    rig.origin.await_served(4 * MIB);
    rig.agent.pause(&id).expect(200);
    assert!(rig.origin.is_idle_within(Duration::from_secs(10)));
    let done = rig.agent.inspect(&id)["bytes_done"].as_u64().unwrap();
    assert!(done > MIB, "{done}");
    rig.agent.resume(&id).expect(200);
    rig.agent.wait(&id, "the end", |record| {
        assert!(record["bytes_done"].as_u64().unwrap() >= done, "{record:#}");
        record["state"] == "complete"
    });
    rig.complete(&id);
}

#[test]
fn a_server_without_ranges_may_fail_too() {
    let rig = Rig::new(one());
    let cut = Reply::ignore_range().and_cut(60_000);
    rig.origin.on(Kind::Bytes, move |seen| match seen.nth {
        1 => cut.clone(),
        _ => Reply::ignore_range(),
    });
    let id = rig.create();
    rig.complete(&id);
}

/// A file of ranges that takes ten seconds at least, of whose requests `hook` answers some.
fn slow_and_large(hook: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Rig {
    let rig = Rig::with(Package::new().file("a", 64 << 20), &["--workers", "24"]);
    rig.origin.throttle(4 << 20);
    rig.origin.on(Kind::Bytes, move |seen| {
        hook(seen).unwrap_or_else(Reply::serve)
    });
    rig.create();
    rig
}

#[test]
fn a_range_that_fails_waits_its_time_while_the_others_stream() {
    let busy = Reply::status(503);
    for (reply, most) in [(busy.clone(), 5), (busy.header("Retry-After", "20"), 1)] {
        let is_bad = |seen: &Seen| seen.range.is_some_and(|(first, _)| first == 0);
        let rig = slow_and_large(move |seen| is_bad(seen).then(|| reply.clone()));
        // Six seconds at the line's pace: the attempts are due after 0, 0.5, 1.5 and 3.5 s.
        rig.origin.await_served(24 << 20);
        let requests = rig.origin.requests(Kind::Bytes);
        let tries = requests.iter().filter(|seen| is_bad(seen)).count();
        let ranges: Vec<_> = requests.iter().map(|seen| (seen.nth, seen.range)).collect();
        assert!((1..=most).contains(&tries), "{tries} attempts {ranges:?}");
    }
}

#[test]
fn a_server_that_allows_four_connections_is_not_pressed_for_more() {
    let rig = slow_and_large(|seen| {
        (seen.nth > 4).then(|| Reply::status(429).header("Retry-After", "5"))
    });
    let all_at_once = 30;
    rig.origin.await_served(14 << 20);
    let requests = rig.origin.count(Kind::Bytes);
    assert!(requests <= all_at_once, "{requests} requests");
}
