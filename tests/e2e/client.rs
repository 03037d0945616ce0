//! The commands that ask a running agent, as a script would use them.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::agent::{DOWNLOADS, Setup, one};
use crate::support::origin::{Kind, Origin, Reply, SECRET};
use crate::support::package::Package;
use crate::support::process::{Finished, Running, haul, run};
use crate::support::rig::Rig;

const LARGE: u64 = 24 << 20;

fn ask(rig: &Rig, args: &[&str]) -> Command {
    let mut command = haul();
    command
        .args(args)
        .env("HAUL_SERVER", format!("http://{}", rig.agent.address));
    command
}

fn expect(rig: &Rig, code: i32, args: &[&str]) -> Finished {
    let end = run(&mut ask(rig, args));
    assert_eq!(end.code(), Some(code), "{args:?}: {end:?}");
    for text in [&end.stdout, &end.stderr] {
        assert!(!text.contains(SECRET), "{end:?}");
    }
    end
}

fn add(rig: &Rig) -> String {
    let dst = rig.dst();
    let end = expect(rig, 0, &["add", &rig.origin.link(), dst.to_str().unwrap()]);
    end.stdout.trim_end().to_owned()
}

#[test]
fn a_download_from_add_to_wait() {
    let rig = Rig::new(Package::new().file("a.mov", 1 << 20).file("sub/b", 10));
    let id = add(&rig);
    assert_eq!(
        rig.agent.ids(),
        [id.as_str()],
        "add prints the ID and nothing else"
    );
    let end = expect(&rig, 0, &["wait", &id]);
    assert_eq!(end.stdout, "complete: Dailies 14\n");
    rig.complete(&id);
    let end = expect(&rig, 0, &["show", &id]);
    assert!(end.stdout.contains("State     complete\n"), "{end:?}");
    assert!(
        end.stdout.contains("Done      100 %, 1.0 MB of 1.0 MB\n"),
        "{end:?}"
    );
    assert!(end.stdout.contains("  sub/b\n"), "{end:?}");
}

#[test]
fn ls_is_a_table_and_json_is_the_answer_itself() {
    let rig = Rig::new(Package::new().file("a.mov", 1 << 20));
    assert_eq!(expect(&rig, 0, &["ls"]).stdout.lines().count(), 1);
    let id = add(&rig);
    rig.complete(&id);
    let end = expect(&rig, 0, &["ls"]);
    let row: Vec<&str> = end
        .stdout
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .collect();
    assert!(id.ends_with(row[0]), "{end:?}");
    assert_eq!(
        row[1..],
        [
            "complete", "100", "%", "1.0", "MB", "-", "-", "Dailies", "14"
        ]
    );
    let end = expect(&rig, 0, &["ls", "--json"]);
    assert_eq!(end.stdout.trim_end(), rig.agent.get(DOWNLOADS).text);
    let end = expect(&rig, 0, &["ls", "--json", "--states", "paused,error"]);
    assert_eq!(end.stdout, "[]\n");
    let end = expect(&rig, 0, &["show", "--json", &id]);
    let shown: Value = serde_json::from_str(&end.stdout).unwrap();
    assert_eq!(shown, rig.agent.inspect(&id));
}

#[test]
fn pause_and_resume_by_a_part_of_the_identifier() {
    let rig = Rig::new(Package::new().file("large.mov", LARGE));
    rig.origin.throttle(4 << 20);
    let id = add(&rig);
    let short = id[18..].to_lowercase();
    let end = expect(&rig, 0, &["pause", &short]);
    assert_eq!(end.stdout.lines().count(), 1);
    assert!(end.stdout.starts_with(&format!("{id} paused")), "{end:?}");
    assert_eq!(rig.agent.inspect(&id)["state"], "paused");
    let end = expect(&rig, 1, &["wait", &short]);
    assert!(end.stderr.contains("is paused"), "{end:?}");
    expect(&rig, 0, &["resume", &id[..10]]);
    rig.origin.unthrottle();
    expect(&rig, 0, &["wait", &short]);
    rig.complete(&id);
    let end = expect(&rig, 1, &["pause", &short]);
    assert!(
        end.stderr.contains("complete"),
        "the API's own words: {end:?}"
    );
}

#[test]
fn wait_ends_when_the_download_does() {
    let rig = Rig::new(Package::new().file("large.mov", LARGE));
    rig.origin.throttle(8 << 20);
    let id = add(&rig);
    let mut waiting = Running::start(&mut ask(&rig, &["wait", &id]));
    rig.origin.await_served(LARGE / 2);
    assert!(!waiting.has_ended());
    rig.agent.wait_state(&id, "complete");
    assert_eq!(waiting.wait_exit().code(), Some(0));
}

#[test]
fn waiting_for_what_is_removed_fails() {
    let rig = Rig::new(Package::new().file("large.mov", LARGE));
    rig.origin.throttle(1 << 20);
    let id = add(&rig);
    let mut waiting = Running::start(&mut ask(&rig, &["wait", &id]));
    rig.origin.await_served(1 << 20);
    rig.agent.delete(&one(&id)).expect(200);
    assert_eq!(waiting.wait_exit().code(), Some(1));
}

#[test]
fn an_error_is_what_wait_ends_with() {
    let rig = Rig::new(Package::new().file("a", 1000));
    let id = add(&rig);
    rig.complete(&id);
    rig.agent.delete(&one(&id)).expect(200);
    rig.origin.on(Kind::Bytes, |_| Reply::status(404));
    let id = add(&rig);
    let end = expect(&rig, 1, &["wait", &id]);
    assert!(
        end.stderr.contains("Dailies 14 is in error: 1 file"),
        "{end:?}"
    );
}

#[test]
fn rm_leaves_the_files_unless_told_otherwise() {
    let rig = Rig::new(Package::new().file("a.mov", 1000));
    let id = add(&rig);
    rig.complete(&id);
    let end = expect(&rig, 0, &["rm", &id]);
    assert_eq!(end.stdout, format!("{id} removed\n"));
    assert!(rig.dst().join("a.mov").exists());
    fs::remove_dir_all(rig.dst()).unwrap();
    let id = add(&rig);
    rig.complete(&id);
    let end = expect(&rig, 0, &["rm", "--remove-files", &id]);
    assert_eq!(end.stdout, format!("{id} removed, with 1 file\n"));
    assert!(!rig.dst().exists());
    assert_eq!(rig.agent.ids(), Vec::<String>::new());
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let rig = Rig::new(Package::new().file("a.mov", 1000));
    let id = add(&rig);
    rig.complete(&id);
    let end = expect(&rig, 1, &["rm", "ZZZZZZZZ", &id]);
    assert!(
        end.stderr.contains("ZZZZZZZZ: there is no download"),
        "{end:?}"
    );
    assert_eq!(end.stdout, format!("{id} removed\n"));
}

#[test]
fn an_ambiguous_part_is_refused() {
    let rig = Rig::new(Package::new().file("a.mov", 1000));
    let other = rig.dir().join("other");
    let ids = [add(&rig), rig.agent.create(&rig.origin, &other)];
    let end = expect(&rig, 1, &["rm", "0"]);
    for id in &ids {
        assert!(end.stderr.contains(id), "{end:?}");
    }
    assert_eq!(rig.agent.ids(), ids);
}

#[test]
fn what_the_api_refuses_is_said_in_its_words() {
    let rig = Rig::new(Package::new().file("a.mov", 1000));
    rig.origin.refuse_link(410);
    let dst = rig.dst();
    let end = expect(&rig, 1, &["add", &rig.origin.link(), dst.to_str().unwrap()]);
    assert!(
        end.stderr.starts_with("haul: this link has expired"),
        "{end:?}"
    );
    assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
}

#[test]
fn the_password_comes_from_the_environment() {
    let rig = Rig::new(Package::new().file("a.mov", 1000));
    rig.origin.require_password("open sesame");
    let dst = rig.dst();
    let end = expect(&rig, 1, &["add", &rig.origin.link(), dst.to_str().unwrap()]);
    assert!(end.stderr.contains("set HAUL_PASSWORD to it"), "{end:?}");
    let mut command = ask(&rig, &["add", &rig.origin.link(), dst.to_str().unwrap()]);
    let end = run(command.env("HAUL_PASSWORD", "open sesame"));
    assert_eq!(end.code(), Some(0), "{end:?}");
    rig.complete(end.stdout.trim_end());
}

#[test]
fn no_agent_is_said_to_be_none() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for args in [
        &["ls"] as &[&str],
        &["rm", "01A"],
        &["wait", "01JD0000000000000000000000"],
    ] {
        let end = run(haul().args(args).args(["--server", &server]));
        assert_eq!(end.code(), Some(1), "{end:?}");
        assert!(
            end.stderr.contains("haul serve") && end.stderr.contains(&server),
            "{end:?}"
        );
        assert_eq!(end.stdout, "");
    }
}

#[test]
fn a_token_is_read_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "t0ken\n").unwrap();
    let token = token.to_str().unwrap();
    let origin = Origin::new(Package::new());
    let agent = Setup::new()
        .origin(&origin)
        .args(&["--token-file", token])
        .start();
    let server = format!("http://{}", agent.address);
    let end = run(haul().args(["ls", "--server", &server]));
    assert_eq!(end.code(), Some(1), "{end:?}");
    assert!(end.stderr.contains("--token-file"), "{end:?}");
    let end = run(haul().args(["ls", "--server", &server, "--token-file", token]));
    assert_eq!(end.code(), Some(0), "{end:?}");
    let wrong = dir.path().join("wrong");
    fs::write(&wrong, "another\n").unwrap();
    let wrong = wrong.to_str().unwrap();
    let end = run(haul().args(["ls", "--server", &server, "--token-file", wrong]));
    assert_eq!(end.code(), Some(1), "{end:?}");
    assert!(
        end.stderr.contains("this is not the agent's token"),
        "{end:?}"
    );
    let end = run(haul().args(["ls", "--server", &server, "--token-file", "/nowhere/token"]));
    assert_eq!(end.code(), Some(2), "{end:?}");
}

#[test]
fn a_folder_on_another_machine_has_to_be_absolute() {
    let end = run(haul().args([
        "add",
        "https://get.massive.app/A?secret=x",
        "in",
        "--server",
        "http://192.0.2.1:8080",
    ]));
    assert_eq!(end.code(), Some(2), "{end:?}");
}

#[test]
fn an_agent_that_is_started_anew_is_waited_for() {
    let mut rig = Rig::new(Package::new().file("large.mov", LARGE));
    rig.origin.throttle(4 << 20);
    let id = add(&rig);
    let address = rig.agent.address;
    let mut waiting = Running::start(&mut ask(&rig, &["wait", &id]));
    rig.origin.await_served(4 << 20);
    let (status, _) = rig.agent.end_by(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    let mut command = rig.agent.setup().command();
    let words = ["--listen", &address.to_string()].map(str::to_owned);
    let mut again = Running::start(command.args(words));
    rig.origin.unthrottle();
    assert_eq!(waiting.wait_exit().code(), Some(0));
    again.kill9();
}

#[test]
fn settings_are_shown_and_changed() {
    let rig = Rig::new(Package::new().file("a", 1));
    let server = format!("http://{}", rig.agent.address);
    let ask = |words: &[&str]| {
        let mut command = haul();
        let output = command
            .arg("settings")
            .args(words)
            .args(["--server", &server])
            .output();
        output.unwrap()
    };
    let changed = ask(&["rate-limit=10MB", "workers=8"]);
    assert!(changed.status.success(), "{changed:?}");
    assert_eq!(ask(&[]).stdout, b"rate-limit=10M\nworkers=8\n");
    assert_eq!(
        rig.agent.get("/api/v1/settings").expect(200)["rate_limit"],
        10_000_000
    );
    assert_eq!(
        ask(&["rate-limit=1MiB"]).stdout,
        b"rate-limit=1048576\nworkers=8\n"
    );
    assert_eq!(
        ask(&["rate-limit=none"]).stdout,
        b"rate-limit=none\nworkers=8\n"
    );
    let headers = [("Content-Type", "application/json")];
    let put = |body| {
        crate::support::http::send(
            rig.agent.address,
            "PUT",
            "/api/v1/settings",
            &headers,
            Some(body),
        )
    };
    assert_eq!(
        put(r#"{"rate_limit": "500k"}"#).expect(200)["rate_limit"],
        500_000
    );
    put(r#"{"rate_limit": "fast"}"#).expect(400);
    assert_eq!(ask(&["speed=1"]).status.code(), Some(2));
}

#[test]
fn usage_errors_name_the_command_and_what_was_perhaps_meant() {
    let said = |words: &[&str]| {
        let output = haul().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(said(&["sevre"]).contains("did you mean serve?"));
    let flag = said(&["ls", "--sate"]);
    assert!(
        flag.contains("did you mean --states?") || flag.contains("haul ls --help"),
        "{flag}"
    );
    assert!(said(&["ls", "--statse", "x"]).contains("did you mean --states?"));
    assert!(said(&["get"]).contains("haul get --help"));
    assert!(said(&["help", "shar"]).contains("did you mean share?"));
    let help = haul().args(["help", "ls"]).output().unwrap();
    assert_eq!(
        help.stdout,
        haul().args(["ls", "--help"]).output().unwrap().stdout
    );
    let version = haul().arg("version").output().unwrap();
    assert_eq!(
        version.stdout,
        haul().arg("--version").output().unwrap().stdout
    );
}

#[test]
fn ls_watch_shows_what_changes() {
    let rig = Rig::new(Package::new().file("a", 1));
    let server = format!("http://{}", rig.agent.address);
    let mut command = haul();
    command.args(["ls", "--watch", "--server", &server]);
    let watching = crate::support::process::Running::start(&mut command);
    assert!(watching.stdout.line().unwrap().starts_with("ID"));
    rig.create();
    assert!(watching.stdout.line().unwrap().starts_with("ID"));
    assert!(watching.stdout.line().is_some());
}

#[test]
fn an_agent_that_does_not_answer_is_said_to_be_waited_for() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let mut running = Running::start(haul().args(["ls", "--server", &address]));
    let said = running.stderr.line();
    running.kill9();
    let expected = format!("haul: waiting for http://{address} to answer");
    assert_eq!(said.as_deref(), Some(expected.as_str()));
}

#[test]
fn a_link_to_another_server_is_answered_with_the_flag_that_adds_it() {
    let rig = Rig::new(Package::new());
    let link = "http://files.example:81/AB?secret=x";
    let dst = rig.dst();
    for args in [
        &["add", link, dst.to_str().unwrap()][..],
        &["inspect", link],
        &["get", link],
    ] {
        let end = expect(&rig, 2, args);
        let flag = "--origin http://files.example:81=http://files.example:81/v1)";
        assert!(end.stderr.contains(flag), "{end:?}");
    }
}
