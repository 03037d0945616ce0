//! An upstream that fails: every fault ends in the whole content or in an honest error.

mod addresses;
mod api;
mod below_http;
mod bytes;
mod changes;
mod limits;
mod links;
mod listings;
mod pages;
mod redirects;

use serde_json::Value;

use crate::support::agent::row;
use crate::support::origin::{Kind, Reply, Seen};
use crate::support::package::Package;
use crate::support::rig::Rig;

/// Two small files; the tests of one file's fault make `F2` fail and `F1` arrive.
fn two() -> Package {
    Package::new().file("good", 5000).file("bad", 5000)
}

/// The requests of a kind about `F2` are answered by the hook, all others truthfully.
fn spoil(rig: &Rig, kind: Kind, hook: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
    rig.origin.on(kind, move |seen| match seen.is_for("F2") {
        true => hook(seen),
        false => Reply::serve(),
    });
}

/// Asserts that `F2` failed, that `F1` arrived, and that the record says so; `F2`'s row.
fn assert_only_f2_failed(rig: &Rig, id: &str) -> Value {
    let record = rig.agent.wait_state(id, "error");
    assert_eq!(record["error"]["code"], "file_failed", "{record:#}");
    assert!(record["error"]["message"].is_string());
    assert!(record["error"]["recoverable"].is_boolean());
    assert_eq!(record["files_failed"], 1);
    assert_eq!(record["files_complete"], 1);
    rig.assert_file(&record, "F1");
    let bad = row(&record, "F2");
    assert_eq!(bad["state"], "error", "{bad}");
    assert!(bad["error"]["code"].is_string(), "{bad}");
    assert!(bad["error"]["message"].is_string(), "{bad}");
    assert!(!rig.dst().join("bad").exists(), "no broken file is shown");
    bad
}
