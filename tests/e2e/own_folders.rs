//! What the agent keeps for itself is no destination, by whatever name; and one folder by two names
//! is one folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use crate::support::agent::{Agent, Setup, row};
use crate::support::namespace::Namespace;
use crate::support::origin::{Gate, Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::process::{Running, haul, run};
use crate::support::rig::Rig;
use crate::support::tls::Authority;
use crate::support::tree;

fn hostile() -> Package {
    Package::new().file("downloads.json", 100).file("lock", 10)
}

fn refuse(agent: &Agent, origin: &Origin, dst: &Path) {
    let order = json!({"url": origin.link(), "dst_folder": dst, "if_exists": "overwrite"});
    let answer = agent.order(&order);
    answer.assert_error(400, "invalid_destination");
    let message = answer.json()["error"]["message"].to_string();
    assert!(message.contains("keeps its own state"), "{message}");
}

#[test]
fn the_state_directory_is_no_destination_by_any_name() {
    let mut rig = Rig::new(hostile());
    let state = rig.agent.state_dir();
    fs::create_dir(rig.dst()).unwrap();
    let link = rig.dst().join("link");
    symlink(&state, &link).unwrap();
    let names = [
        state.clone(),
        state.join("deep/er"),
        state.join("../").join(state.file_name().unwrap()),
        link.clone(),
        link.join("new"),
    ];
    for name in &names {
        refuse(&rig.agent, &rig.origin, name);
    }
    assert!(!state.join("deep").exists() && !state.join("new").exists());
    rig.agent.terminate();
    rig.agent.restart();
    assert_eq!(
        rig.agent.ids().len(),
        0,
        "the agent starts, and nothing was recorded"
    );
}

#[test]
fn a_bind_mount_of_the_state_directory_is_no_destination() {
    let home = tempfile::tempdir().unwrap();
    let (state, bind) = (home.path().join("state"), home.path().join("bind"));
    fs::create_dir_all(state.join("below")).unwrap();
    fs::create_dir(&bind).unwrap();
    let (state_text, bind_text) = (state.display(), bind.display());
    let script = format!(
        "mount --bind '{state_text}' '{bind_text}' && mkdir '{bind_text}.2' && mount --bind \
         '{state_text}/below' '{bind_text}.2'"
    );
    let Some(namespace) = Namespace::new(&script) else {
        return;
    };
    let origin = Origin::new(hostile());
    let agent = Setup::new()
        .origin(&origin)
        .args(&["--state-dir", state.to_str().unwrap()])
        .wrapper(&namespace.enter())
        .start();
    refuse(&agent, &origin, &bind);
    refuse(&agent, &origin, &home.path().join("bind.2"));
}

#[test]
fn what_reaches_into_the_state_directory_from_above_is_that_files_error() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("haul");
    let package = Package::new()
        .file("haul/downloads.json", 100)
        .file("haul/side/x", 10)
        .file("other/y", 1000);
    let origin = Origin::new(package);
    let agent = Setup::new()
        .origin(&origin)
        .args(&["--state-dir", state.to_str().unwrap()])
        .start();
    let id = agent.create_with(&origin, home.path(), json!({"if_exists": "overwrite"}));
    let record = agent.wait_state(&id, "error");
    for file in ["F1", "F2"] {
        let row = row(&record, file);
        assert_eq!(row["state"], "error", "{row}");
        let message = row["error"]["message"].to_string();
        assert!(message.contains("keeps its own state"), "{message}");
    }
    assert_eq!(row(&record, "F3")["state"], "complete");
    let saved = fs::read_to_string(state.join("downloads.json")).unwrap();
    assert!(saved.contains("next_key"), "{saved}");
}

#[test]
fn a_link_to_the_state_directory_that_comes_later_is_refused_when_the_folder_is_opened() {
    let mut rig = Rig::new(hostile());
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    let id = rig.create_with(json!({"if_exists": "overwrite"}));
    rig.origin.await_requests(Kind::Bytes, 1);
    rig.agent.pause(&id).expect(200);
    let state = rig.agent.state_dir();
    rig.agent.terminate();
    fs::remove_dir_all(rig.dst()).unwrap();
    symlink(&state, rig.dst()).unwrap();
    rig.origin.heal(Kind::Bytes);
    gate.open();
    rig.agent.restart();
    rig.agent.resume(&id).expect(200);
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(
        record["error"]["code"], "destination_unwritable",
        "{record}"
    );
    rig.agent.terminate();
    rig.agent.restart();
    assert_eq!(rig.agent.ids(), [id]);
}

#[test]
fn the_token_file_is_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    fs::write(&token, "api-token-0123456789abcdef\n").unwrap();
    let origin = Origin::new(Package::new().file("token", 1000));
    let agent = Setup::new()
        .origin(&origin)
        .args(&["--token-file", token.to_str().unwrap()])
        .start();
    let order = json!({"url": origin.link(), "dst_folder": home.path(), "if_exists": "overwrite"});
    let headers = [
        ("Authorization", "Bearer api-token-0123456789abcdef"),
        ("Content-Type", "application/json"),
    ];
    let send = |method: &str, target: &str, body: Option<&str>| {
        crate::support::http::send(agent.address, method, target, &headers, body)
    };
    let created = send("POST", "/api/v1/downloads", Some(&order.to_string())).expect(201);
    let target = format!(
        "/api/v1/downloads/{}?wait=30",
        created["download_id"].as_str().unwrap()
    );
    let record = loop {
        let record = send("GET", &target, None).expect(200);
        if record["state"] != "transferring" {
            break record;
        }
    };
    assert_eq!(record["state"], "complete", "{record}");
    assert_eq!(record["files"][0]["path"], "token (1)");
    assert!(fs::read_to_string(&token).unwrap().starts_with("api-token"));
}

#[test]
fn the_key_of_the_listeners_is_not_replaced() {
    let home = tempfile::tempdir().unwrap();
    let (cert, key) = Authority::new().save_server("127.0.0.1", home.path());
    let [cert_name, key_name] = [&cert, &key].map(|path| path.file_name().unwrap());
    let [cert_name, key_name] = [cert_name, key_name].map(|name| name.to_str().unwrap());
    let before = fs::read(&key).unwrap();
    let origin = Origin::new(Package::new().file(cert_name, 1000).file(key_name, 1000));
    let socket = format!("unix:{}", home.path().join("api.sock").display());
    let mut serve = haul();
    serve
        .args(["serve", "--listen", &socket, "--tls-cert"])
        .args([cert.as_os_str(), "--tls-key".as_ref(), key.as_os_str()])
        .arg("--origin")
        .arg(format!("{}={}", origin.base(), origin.api()))
        .arg("--state-dir")
        .arg(home.path().join("state"));
    let running = Running::start(&mut serve);
    assert!(running.stdout.line().is_some(), "{}", running.stderr.rest());
    let ask = |args: &[&str]| {
        let end = run(haul().args(args).args(["--server", &socket]));
        assert_eq!(end.code(), Some(0), "{end:?}");
        end.stdout
    };
    let dst = home.path().to_str().unwrap();
    let id = ask(&["add", &origin.link(), dst, "--if-exists", "overwrite"]);
    ask(&["wait", id.trim()]);
    assert_eq!(fs::read(&key).unwrap(), before);
    let files = ask(&["show", id.trim()]);
    assert_eq!(files.matches(" (1)").count(), 2, "{files}");
}

#[test]
fn one_folder_by_two_names_takes_a_link_once_and_shares_its_names() {
    let rig = Rig::new(Package::new().file("d/x", 100_000));
    fs::create_dir(rig.dst()).unwrap();
    let other = rig.dir().join("other name");
    symlink(rig.dst(), &other).unwrap();
    let gate = Gate::new();
    rig.origin.always(Kind::Bytes, Reply::stall(&gate));
    let first = rig.create();
    rig.origin.await_requests(Kind::Bytes, 1);
    let again = json!({"url": rig.origin.link(), "dst_folder": other});
    let answer = rig.agent.order(&again);
    assert_eq!(answer.expect(409)["error"]["download_id"], *first);
    rig.origin.heal(Kind::Bytes);
    gate.open();
    rig.complete(&first);
}

#[test]
fn a_file_that_a_download_by_another_name_has_made_is_not_removed_with_this_ones() {
    let rig = Rig::new(Package::new().file("x", 1000));
    fs::create_dir(rig.dst()).unwrap();
    let other = rig.dir().join("other");
    symlink(rig.dst(), &other).unwrap();
    let first = rig.create();
    rig.complete(&first);
    let over = json!({"if_exists": "overwrite"});
    let second = rig.agent.create_with(&rig.origin, &other, over);
    rig.agent.wait_state(&second, "complete");
    let target = format!("/api/v1/downloads/{first}?remove_files=true");
    rig.agent.delete(&target).expect(200);
    tree::assert_file(&rig.dst().join("x"), rig.origin.entry("F1").seed, 1000);
}

/// `--root`: a caller with the token writes there and nowhere else.
#[test]
fn where_roots_are_named_nothing_is_written_outside_of_them() {
    let home = tempfile::tempdir().unwrap();
    let [one, two, out] = ["one", "two", "out"].map(|name| {
        let path = home.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    });
    symlink(&out, one.join("link")).unwrap();
    symlink(&one, home.path().join("alias")).unwrap();
    let args = [
        "--root",
        one.to_str().unwrap(),
        "--root",
        two.to_str().unwrap(),
    ];
    let origin = Origin::new(Package::new().file("a", 10));
    let agent = Setup::new().origin(&origin).args(&args).start();
    let ask = |dst: &Path| agent.order(&json!({"url": origin.link(), "dst_folder": dst}));
    for outside in [
        out.clone(),
        home.path().to_owned(),
        Path::new("/").to_owned(),
        one.join("../out"),
        one.join("link"),
        one.join("link/new"),
        home.path().join("one-more"),
    ] {
        let answer = ask(&outside);
        answer.assert_error(400, "invalid_destination");
        let message = answer.json()["error"]["message"].to_string();
        assert!(
            message.contains("outside of where downloads may go"),
            "{message}"
        );
        assert!(message.contains(one.to_str().unwrap()), "{message}");
    }
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    assert!(!home.path().join("one-more").exists());
    for inside in [
        one.clone(),
        two.join("deep/er"),
        home.path().join("alias/x"),
    ] {
        let id = ask(&inside).expect(201)["download_id"]
            .as_str()
            .unwrap()
            .to_owned();
        agent.wait_state(&id, "complete");
        assert!(inside.join("a").is_file());
    }
}

#[test]
fn a_download_does_not_follow_its_folder_out_of_the_roots() {
    let home = tempfile::tempdir().unwrap();
    let (root, out) = (home.path().join("root"), home.path().join("out"));
    fs::create_dir(&root).unwrap();
    fs::create_dir(&out).unwrap();
    let origin = Origin::new(Package::new().file("a", 10));
    let args = ["--root", root.to_str().unwrap()];
    let mut agent = Setup::new().origin(&origin).args(&args).start();
    let gate = Gate::new();
    origin.always(Kind::Listing, Reply::stall(&gate));
    let id = agent.create(&origin, &root.join("in"));
    origin.await_requests(Kind::Listing, 1);
    agent.kill9();
    fs::remove_dir(root.join("in")).unwrap();
    symlink(&out, root.join("in")).unwrap();
    origin.heal(Kind::Listing);
    gate.open();
    agent.restart();
    let record = agent.wait_state(&id, "error");
    assert_eq!(
        record["error"]["code"], "destination_unwritable",
        "{record:#}"
    );
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn a_root_that_is_no_folder_is_refused_at_the_start() {
    let mut command = haul();
    let home = tempfile::tempdir().unwrap();
    command.arg("serve").arg("--state-dir").arg(home.path());
    let end = run(command.args(["--root", "/nowhere/at/all"]));
    // A service may try again: the disk may be mounted by then.
    assert_eq!(end.code(), Some(1));
    assert!(
        end.stderr
            .contains("--root: /nowhere/at/all cannot be opened"),
        "{}",
        end.stderr
    );
}
