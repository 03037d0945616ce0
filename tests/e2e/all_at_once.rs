//! Pausing and resuming all: POST /downloads/pause and /downloads/resume, `haul pause all` and
//! `haul resume all`.

use serde_json::json;

use crate::support::agent::DOWNLOADS;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::process::haul;
use crate::support::rig::Rig;

/// A rig with a complete download and two that transfer; their identifiers.
fn three() -> (Rig, String, [String; 2]) {
    let rig = Rig::new(Package::new().file("a", 10));
    let complete = rig.agent.create(&rig.origin, &rig.dir().join("0"));
    rig.agent.wait_state(&complete, "complete");
    rig.origin.always(Kind::Bytes, Reply::stall(&Gate::new()));
    let moving = ["1", "2"].map(|name| rig.agent.create(&rig.origin, &rig.dir().join(name)));
    (rig, complete, moving)
}

#[test]
fn those_that_changed_are_named_and_outlive_a_kill() {
    let (mut rig, complete, moving) = three();
    let pause = format!("{DOWNLOADS}/pause");
    let resume = format!("{DOWNLOADS}/resume");
    assert_eq!(rig.agent.act(&resume).expect(200), json!({"resumed": []}));
    assert_eq!(rig.agent.act(&pause).expect(200), json!({"paused": moving}));
    assert_eq!(rig.agent.act(&pause).expect(200), json!({"paused": []}));
    let only_complete = rig.agent.act(&format!("{pause}?states=complete,error"));
    assert_eq!(only_complete.expect(200), json!({"paused": []}));
    rig.agent.kill9();
    rig.agent.restart();
    for id in &moving {
        assert_eq!(rig.agent.inspect(id)["state"], "paused");
    }
    assert_eq!(rig.agent.inspect(&complete)["state"], "complete");
    let none = rig.agent.act(&format!("{resume}?states=error")).expect(200);
    assert_eq!(none, json!({"resumed": []}));
    assert_eq!(
        rig.agent.act(&resume).expect(200),
        json!({"resumed": moving})
    );
    for id in &moving {
        assert_eq!(rig.agent.inspect(id)["state"], "transferring");
    }
}

#[test]
fn what_is_not_understood_changes_nothing() {
    let (rig, _, moving) = three();
    let bad = rig.agent.act(&format!("{DOWNLOADS}/pause?states=moving"));
    assert_eq!(bad.expect(400)["error"]["code"], "invalid_parameter");
    let bad = rig
        .agent
        .post(&format!("{DOWNLOADS}/pause"), r#"{"ids":[]}"#);
    assert_eq!(bad.expect(400)["error"]["code"], "invalid_request");
    let get = rig.agent.get(&format!("{DOWNLOADS}/pause"));
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    assert_eq!(rig.agent.inspect(&moving[0])["state"], "transferring");
}

#[test]
fn the_command_line_says_all() {
    let (rig, _, moving) = three();
    let run = |verb: &str| {
        let server = format!("http://{}", rig.agent.address);
        let mut command = haul();
        command.args([verb, "all", "--server", &server]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let [one, other] = &moving;
    assert_eq!(run("pause"), format!("{one} paused\n{other} paused\n"));
    assert_eq!(run("pause"), "");
    assert_eq!(run("resume"), format!("{one} resumed\n{other} resumed\n"));
}
