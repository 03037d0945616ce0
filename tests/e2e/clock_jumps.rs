//! A wall clock that jumps: a router without a battery begins in 1970, a clock is set by hand, a
//! disk comes from another machine. Nothing that counts time goes by it but what is about the hour
//! of the day.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::events::Events;
use crate::support::agent::{Agent, DOWNLOADS, Setup};
use crate::support::clock::Clock;
use crate::support::http;
use crate::support::origin::{Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::process::haul;
use crate::support::rig::Rig;

const DAY: i64 = 86_400;
const SETTINGS: &str = "/api/v1/settings";

/// An agent that goes by a clock of its own.
fn agent(origin: &Origin) -> Option<(Clock, Agent)> {
    let clock = Clock::new()?;
    if !clock.moves(Path::new(haul().get_program())) {
        return None;
    }
    let setup = Setup::new().origin(origin).wrapper(&clock.wrapper());
    let agent = setup.start();
    Some((clock, agent))
}

fn rig(package: Package) -> Option<(Clock, Rig)> {
    let origin = Origin::new(package);
    let (clock, agent) = agent(&origin)?;
    Some((clock, Rig::of(agent, origin, tempfile::tempdir().unwrap())))
}

fn now() -> OffsetDateTime {
    OffsetDateTime::from(SystemTime::now())
}

/// The time in a field, which must be one of RFC 3339, in UTC and to the second.
fn time(value: &Value) -> OffsetDateTime {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    assert_eq!(text.len(), 20, "{text}");
    assert!(text.ends_with('Z'), "{text}");
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

fn assert_near(value: &Value, wanted: OffsetDateTime) {
    let off = (time(value) - wanted).whole_seconds().abs();
    assert!(off < 60, "{value} is not near {wanted}");
}

/// The clock, and how far it is then from the true time, in seconds.
const JUMPS: [(&str, i64); 6] = [
    ("+0", 0),
    ("+315360000", 3650 * DAY),
    ("-315360000", -3650 * DAY),
    ("+86400", DAY),
    ("-1577836800", -18_262 * DAY),
    ("+0", 0),
];

#[test]
fn identifiers_grow_and_times_are_times_whichever_way_the_clock_goes() {
    let Some((clock, mut rig)) = rig(Package::new().file("a", 1000)) else {
        return;
    };
    let mut ids: Vec<String> = Vec::new();
    for (number, (offset, seconds)) in JUMPS.into_iter().enumerate() {
        clock.set(offset);
        let dst = rig.dir().join(number.to_string());
        let id = rig.agent.create(&rig.origin, &dst);
        let record = rig.agent.wait_state(&id, "complete");
        let wanted = now() + time::Duration::seconds(seconds);
        assert_near(&record["created_at"], wanted);
        assert_near(&record["completed_at"], wanted);
        assert!(ids.iter().all(|known| *known < id), "{id} after {ids:?}");
        ids.push(id);
        assert_eq!(rig.agent.ids(), ids, "oldest first");
        // What is on disk is then of another time than the next start.
        if number % 2 == 1 {
            rig.agent.kill9();
            rig.agent.restart();
            assert_eq!(rig.agent.ids(), ids);
        }
    }
    let list = rig.agent.get(DOWNLOADS).expect(200);
    for summary in list.as_array().unwrap() {
        time(&summary["created_at"]);
        time(&summary["completed_at"]);
    }
}

#[test]
fn the_first_and_the_last_year_that_a_clock_can_have_are_lived_through() {
    let Some((clock, rig)) = rig(Package::new().file("a", 1000)) else {
        return;
    };
    // Linux knows no clock before 1970, nor one after April 2262.
    let first = -now().unix_timestamp();
    let last = first + 9_220_000_000;
    for seconds in [first, last] {
        clock.set(&format!("{seconds:+}"));
        let dst = rig.dir().join(seconds.to_string());
        let id = rig.agent.create(&rig.origin, &dst);
        let record = rig.agent.wait_state(&id, "complete");
        let there = now() + time::Duration::seconds(seconds);
        assert_near(&record["created_at"], there);
        assert_near(&record["completed_at"], there);
    }
    assert!(rig.agent.ids().is_sorted());
}

/// Waits for this many more requests; how long that took.
fn await_more(origin: &Origin, kind: Kind, more: usize) -> Duration {
    let begin = Instant::now();
    origin.await_requests(kind, origin.count(kind) + more);
    begin.elapsed()
}

#[test]
fn a_retry_comes_when_it_would_have_and_a_day_is_not_over_in_a_second() {
    for offset in ["+10d", "-10d"] {
        let Some((clock, rig)) = rig(Package::new().file("a", 1000)) else {
            return;
        };
        rig.origin.always(Kind::Bytes, Reply::status(503));
        let id = rig.create();
        rig.origin.await_requests(Kind::Bytes, 2);
        clock.set(offset);
        // After half a second, one, two: had the clock any say, at once or never.
        let took = await_more(&rig.origin, Kind::Bytes, 2);
        assert!(took < Duration::from_secs(8), "{offset}: {took:?}");
        assert!(took > Duration::from_secs(1), "{offset}: {took:?}");
        let record = rig.agent.inspect(&id);
        assert_eq!(record["state"], "transferring", "{offset}: {record:#}");
        let days = if offset.starts_with('+') { 10 } else { -10 };
        let there = now() + time::Duration::days(days);
        assert_near(&record["error"]["retry_at"], there);
        rig.origin.heal(Kind::Bytes);
        rig.complete(&id);
    }
}

#[test]
fn a_date_to_retry_at_is_heeded_by_the_servers_clock() {
    // A day behind, the wait would be an hour, the most there is; a day ahead, there would be none.
    for offset in ["-1d", "+1d"] {
        let Some((clock, rig)) = rig(Package::new().file("a", 1000)) else {
            return;
        };
        clock.set(offset);
        let date = |time: SystemTime| httpdate::fmt_http_date(time);
        rig.origin.on(Kind::Bytes, move |seen| match seen.nth {
            1 => Reply::status(503)
                .header("Date", &date(SystemTime::now()))
                .header(
                    "Retry-After",
                    &date(SystemTime::now() + Duration::from_secs(4)),
                ),
            _ => Reply::serve(),
        });
        let id = rig.create();
        rig.complete(&id);
        let asked: Vec<Instant> = rig
            .origin
            .requests(Kind::Bytes)
            .iter()
            .map(|seen| seen.at)
            .collect();
        let waited = asked[1] - asked[0];
        // To the second, as such dates are.
        assert!(waited > Duration::from_millis(2900), "{offset}: {waited:?}");
        assert!(waited < Duration::from_secs(10), "{offset}: {waited:?}");
    }
}

#[test]
fn rate_and_eta_stay_what_they_are() {
    const RATE: u64 = 2 << 20;
    let Some((clock, rig)) = rig(Package::new().file("a", 20 * RATE)) else {
        return;
    };
    rig.origin.throttle(RATE);
    let id = rig.create();
    let mut served = RATE;
    for offset in ["+0", "+10y", "-10y", "+1", "-50y"] {
        rig.origin.await_served(served);
        clock.set(offset);
        served += RATE;
        rig.origin.await_served(served);
        let record = rig.agent.inspect(&id);
        let rate = record["bytes_per_second"].as_u64().unwrap();
        let eta = record["eta_seconds"].as_u64().unwrap();
        assert!(rate > RATE / 4 && rate < 4 * RATE, "{offset}: {record:#}");
        assert!(eta < 100, "{offset}: {record:#}");
        served += RATE / 2;
    }
    rig.origin.unthrottle();
    rig.complete(&id);
}

/// A limit for the whole of the day that is so many days from today.
fn on_day(days: i64, rate_limit: Value) -> Value {
    let day = (now() + time::Duration::days(days)).weekday().to_string();
    let day = day[..3].to_lowercase();
    json!([{"days": [day], "from": "00:00", "to": "24:00", "rate_limit": rate_limit}])
}

fn effective(agent: &Agent) -> Value {
    agent.get(SETTINGS).expect(200)["effective_rate_limit"].clone()
}

#[test]
fn the_schedule_goes_by_the_clock_as_it_is() {
    let Some((clock, mut rig)) = rig(Package::new().file("a", 8 << 20)) else {
        return;
    };
    // Three days from today there is next to nothing; on all others there is no limit.
    let headers = [("Content-Type", "application/json")];
    let body = json!({"schedule": on_day(3, json!(1000))}).to_string();
    let put = http::send(rig.agent.address, "PUT", SETTINGS, &headers, Some(&body));
    put.expect(200);
    assert_eq!(effective(&rig.agent), Value::Null);
    clock.set("+3d");
    assert_eq!(effective(&rig.agent), 1000);
    rig.agent.kill9();
    rig.agent.restart();
    let id = rig.create();
    rig.agent
        .wait(&id, "a byte", |record| record["bytes_done"] != 0);
    assert_eq!(effective(&rig.agent), 1000);
    clock.set("-20d");
    assert_eq!(effective(&rig.agent), Value::Null);
    rig.agent.kill9();
    rig.agent.restart();
    // At the limit it would take two hours.
    rig.complete(&id);
}

#[test]
fn a_transfer_that_a_restart_in_the_past_goes_on_with_is_the_same() {
    let Some((clock, mut rig)) = rig(Package::new().file("large", 12 << 20).many(20, 5000)) else {
        return;
    };
    clock.set("+5y");
    rig.origin.throttle(6 << 20);
    let id = rig.create();
    let created = rig.agent.inspect(&id)["created_at"].clone();
    rig.origin.await_served(4 << 20);
    clock.set("-5y");
    rig.agent.kill9();
    rig.agent.restart();
    rig.origin.unthrottle();
    let record = rig.complete(&id);
    assert_eq!(record["created_at"], created);
    assert_near(
        &record["completed_at"],
        now() - time::Duration::days(5 * 365),
    );
    let extra = rig.origin.served() - rig.origin.package().size();
    assert!(extra < 4 << 20, "{extra} bytes were fetched again");
}

#[test]
fn events_of_another_start_at_the_same_hour_are_not_taken_for_ones_own() {
    let Some((clock, mut rig)) = rig(Package::new().file("a", 1000)) else {
        return;
    };
    // What stands still makes every start the same: a machine without a battery comes close.
    clock.set("2020-01-01 00:00:00");
    rig.agent.kill9();
    rig.agent.restart();
    let mut events = Events::open(rig.agent.address, None);
    let first = rig.create();
    let seen = events.until_state("complete").pop().unwrap();
    rig.agent.kill9();
    rig.agent.restart();
    let mut events = Events::open(rig.agent.address, None);
    // As many numbers are used up again.
    for dst in ["b", "c"] {
        let id = rig.agent.create(&rig.origin, &rig.dir().join(dst));
        events.until(|event| event.data["download_id"] == id && event.data["state"] == "complete");
    }
    let mut back = Events::open(rig.agent.address, Some(seen.id));
    let oldest = back.next().unwrap();
    assert_eq!(
        oldest.data["download_id"],
        first.as_str(),
        "the picture anew"
    );
}

#[test]
fn a_verification_is_due_by_the_days_that_were_set() {
    let Some((clock, mut rig)) = rig(Package::new().file("a", 5000)) else {
        return;
    };
    let id = rig.create();
    rig.complete(&id);
    let headers = [("Content-Type", "application/json")];
    let two = Some(r#"{"verify_every_days":2}"#);
    let set = http::send(rig.agent.address, "PUT", SETTINGS, &headers, two).expect(200);
    assert_eq!(set["verify_every_days"], 2);
    let mut restart_at = |offset: &str| {
        rig.agent.terminate();
        clock.set(offset);
        rig.agent.restart();
    };
    restart_at("+47h");
    restart_at("+49h");
    let due = |record: &Value| record["verification"]["state"] == "done";
    let record = rig
        .agent
        .wait(&id, "a verification that nobody asked for", due);
    let begun = &record["verification"]["started_at"];
    assert_near(begun, now() + Duration::from_secs(49 * 3600));
}
