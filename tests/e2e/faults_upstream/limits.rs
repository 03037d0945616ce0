//! Servers that take only so many requests.

use std::time::{Duration, Instant};

use crate::support::origin::{Kind, Seen};
use crate::support::package::Package;
use crate::support::rig::Rig;

/// Asserts that of the requests for bytes that came more than a second after the first refusal, one in twenty was refused at most.
fn assert_few_refused(rig: &Rig) {
    let refusals = rig.origin.refusals();
    let first = *refusals.first().expect("there were too many at first");
    let is_late = |at: Instant| at > first + Duration::from_secs(1);
    let requests = rig.origin.requests(Kind::Bytes);
    let late = requests.iter().filter(|seen: &&Seen| is_late(seen.at));
    let late = late.count();
    let refused = refusals.iter().filter(|&&at| is_late(at)).count();
    assert!(late >= 60, "{late} requests after the first second");
    assert!(refused * 20 <= late, "{refused} of {late} were refused");
}

#[test]
fn a_server_that_takes_three_requests_at_once_refuses_few() {
    let rig = Rig::with(Package::new().many(120, 50_000), &["--workers", "24"]);
    rig.origin.throttle(1_000_000);
    rig.origin.take_at_once(3);
    let id = rig.create();
    rig.complete(&id);
    assert_few_refused(&rig);
}
