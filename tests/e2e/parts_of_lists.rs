//! Lists in parts: paging, fields, and a choice of a download's files.

use serde_json::{Value, json};

use crate::support::agent::{DOWNLOADS, one};
use crate::support::package::Package;
use crate::support::rig::Rig;

fn names(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|one| one[field].as_str().unwrap().to_owned())
        .collect()
}

/// Follows `Link: <…>; rel="next"` from `target` on: the parts, and what each said the total was.
fn follow(rig: &Rig, target: &str) -> (Vec<Value>, Vec<String>) {
    let (mut parts, mut totals) = (Vec::new(), Vec::new());
    let mut next = Some(target.to_owned());
    while let Some(target) = next {
        let answer = rig.agent.get(&target);
        parts.push(answer.expect(200));
        totals.push(answer.header("x-total-count").unwrap().to_owned());
        next = answer.header("link").map(|link| {
            let (address, rest) = link.strip_prefix('<').unwrap().split_once('>').unwrap();
            assert_eq!(rest, "; rel=\"next\"");
            address.to_owned()
        });
    }
    (parts, totals)
}

#[test]
fn downloads_come_in_parts() {
    let rig = Rig::new(Package::new().file("a", 10));
    let ids: Vec<String> = (0..5)
        .map(|number| {
            let id = rig
                .agent
                .create(&rig.origin, &rig.dir().join(number.to_string()));
            rig.agent.wait_state(&id, "complete");
            id
        })
        .collect();
    let start = format!("{DOWNLOADS}?states=complete&limit=2&fields=state,download_id");
    let (parts, totals) = follow(&rig, &start);
    let sizes: Vec<usize> = parts
        .iter()
        .map(|part| part.as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [2, 2, 1]);
    assert_eq!(totals, ["5", "5", "5"]);
    let all: Vec<String> = parts
        .iter()
        .flat_map(|part| names(part, "download_id"))
        .collect();
    assert_eq!(all, ids);
    assert_eq!(
        parts[0][0],
        json!({"download_id": ids[0], "state": "complete"})
    );
    // The one that a part ended with may be gone by the time the next part is asked for.
    rig.agent.delete(&one(&ids[1])).expect(200);
    let rest = rig
        .agent
        .get(&format!("{DOWNLOADS}?after={}", ids[1]))
        .expect(200);
    assert_eq!(names(&rest, "download_id"), ids[2..]);
    let exact = rig.agent.get(&format!("{DOWNLOADS}?limit=4"));
    assert_eq!(exact.header("link"), None, "nothing follows");
    for wrong in [
        "limit=0",
        "limit=10001",
        "limit=x",
        "limit=",
        "fields=",
        "fields=secret",
        "after=",
        "after=..",
        "limit=1&limit=1",
    ] {
        let answer = rig.agent.get(&format!("{DOWNLOADS}?{wrong}")).expect(400);
        assert_eq!(answer["error"]["code"], "invalid_parameter", "{wrong}");
    }
}

#[test]
fn files_come_in_parts_and_by_choice() {
    let mut package = Package::new();
    for name in ["a.mov", "b.mov", "d/c.mov", "d/d.wav", "d/e/f.mov"] {
        package = package.file(name, 10);
    }
    let rig = Rig::new(package);
    let id = rig.create();
    rig.agent.wait_state(&id, "complete");
    let target = |query: &str| format!("{}?{query}", one(&id));
    let (parts, totals) = follow(&rig, &target("files_limit=2&files_match=*.mov"));
    let paths: Vec<_> = parts
        .iter()
        .map(|part| names(&part["files"], "path"))
        .collect();
    assert_eq!(
        paths,
        [vec!["a.mov", "b.mov"], vec!["d/c.mov", "d/e/f.mov"]]
    );
    assert_eq!(totals, ["4", "4"]);
    let get = |query: &str| rig.agent.get(&target(query)).expect(200);
    assert_eq!(
        names(&get("files_match=d%2F*")["files"], "path"),
        ["d/c.mov", "d/d.wav"]
    );
    assert_eq!(
        get("file_states=complete")["files"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    assert_eq!(get("file_states=pending,error")["files"], json!([]));
    assert!(get("files=false").get("files").is_none());
    assert_eq!(get("files=false")["files_total"], 5);
    for (wrong, message) in [
        ("files_match=ab%5B", "column 3"),
        ("files_match=", "column 1"),
        ("files_after=nothing", "file_id"),
        ("files_limit=0", "files_limit"),
        ("file_states=done", "file_states"),
        ("files=no", "files"),
    ] {
        let answer = rig.agent.get(&target(wrong)).expect(400);
        assert_eq!(answer["error"]["code"], "invalid_parameter", "{wrong}");
        let said = answer["error"]["message"].as_str().unwrap();
        assert!(said.contains(message), "{wrong}: {said}");
    }
}
