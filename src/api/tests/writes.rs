//! What POST and DELETE ask of the agent, and answer.

use super::agent::download;
use super::*;
use crate::agent::Which;
use crate::model::request::IfExists;
use crate::model::state::State;

const URL: &str = "https://get.massive.app/L1?secret=LINK_SECRET";

#[test]
fn a_post_creates_and_says_where() {
    let api = Api::start();
    let body =
        format!(r#"{{"url":"{URL}","dst_folder":"/in","password":"pw","if_exists":"skip"}}"#);
    let reply = api.post(DOWNLOADS, &body);
    assert_eq!(reply.status, 201);
    assert_eq!(
        reply.field("Location"),
        Some("/api/v1/downloads/0100000007")
    );
    assert_eq!(reply.json()["state"], "transferring");
    assert_eq!(reply.json()["download_id"], "0100000007");
    let orders = api.agent.orders.lock().unwrap();
    assert_eq!(orders[0].link.id, "L1");
    assert_eq!(orders[0].link.secret.reveal(), "LINK_SECRET");
    assert_eq!(orders[0].password.as_ref().unwrap().reveal(), "pw");
    assert_eq!(orders[0].dst_folder, "/in");
    assert_eq!(orders[0].if_exists, IfExists::Skip);
}

#[test]
fn absent_null_and_empty_fields_take_their_defaults() {
    let api = Api::start();
    for rest in [
        "",
        r#","password":null,"if_exists":null"#,
        r#","password":"""#,
    ] {
        let body = format!(r#"{{"url":"{URL}","dst_folder":"/in"{rest}}}"#);
        let fields = "Content-Type: Application/JSON; charset=utf-8\r\n";
        let reply = api.client().ask("POST", DOWNLOADS, fields, Some(&body));
        assert_eq!(reply.status, 201);
        let order = api.agent.orders.lock().unwrap().pop().unwrap();
        assert!(order.password.is_none());
        assert_eq!(order.if_exists, IfExists::Rename);
    }
}

#[test]
fn pause_and_resume_take_no_body_in_any_dress() {
    let api = Api::start();
    api.agent.publish([download(1, State::Transferring)]);
    let mut client = api.client();
    let json = "Content-Type: application/json\r\n";
    for (fields, body) in [
        ("", None),
        ("", Some("")),
        (json, None),
        (json, Some("")),
        (json, Some("{}")),
        (json, Some(" { } ")),
        ("Content-Type: text/plain\r\n", None),
    ] {
        for (action, state) in [("pause", "paused"), ("resume", "transferring")] {
            let path = format!("{DOWNLOADS}/0100000001/{action}");
            let reply = client.ask("POST", &path, fields, body);
            assert_eq!(reply.status, 200);
            assert_eq!(reply.json()["state"], state);
        }
    }
}

#[test]
fn deletes_mean_what_they_say_and_nothing_else() {
    let api = Api::start();
    api.agent.publish([download(1, State::Complete)]);
    let one = Which::One("0100000001".into());
    let cases = [
        ("", Which::States(State::ALL.to_vec()), false),
        (
            "?remove_files=true",
            Which::States(State::ALL.to_vec()),
            true,
        ),
        (
            "?states=complete",
            Which::States(vec![State::Complete]),
            false,
        ),
        (
            "?states=complete,transferring&remove_files=true",
            Which::States(vec![State::Complete, State::Transferring]),
            true,
        ),
        (
            "?remove_files=false&states=error%2Cpaused",
            Which::States(vec![State::Error, State::Paused]),
            false,
        ),
        ("/0100000001", one.clone(), false),
        ("/0100000001?remove_files=true", one.clone(), true),
        ("/0100000001?remove_files=false", one, false),
    ];
    for (rest, which, remove_files) in cases {
        let reply = api.ask("DELETE", &format!("{DOWNLOADS}{rest}"));
        assert_eq!(reply.status, 200, "{rest}");
        assert_eq!(reply.body, br#"{"deleted":["01A"],"files_removed":3}"#);
        let deletion = api.agent.deletions.lock().unwrap().pop();
        assert_eq!(deletion, Some((which, remove_files)), "{rest}");
    }
}

#[test]
fn a_post_that_waits_holds_up_neither_reads_nor_pauses() {
    let api = Api::start();
    api.agent.publish([download(1, State::Transferring)]);
    api.agent.hold();
    let mut waiting: Vec<_> = (0..12).map(|_| api.client()).collect();
    let body = format!(r#"{{"url":"{URL}","dst_folder":"/in"}}"#);
    for client in &mut waiting {
        client.send(format!(
            "POST {DOWNLOADS} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
    api.agent.await_held(12);
    assert_eq!(api.ask("GET", DOWNLOADS).status, 200);
    let mut pausing = api.client();
    pausing.send("POST /api/v1/downloads/0100000001/pause HTTP/1.1\r\nHost: localhost\r\n\r\n");
    api.agent.await_held(13);
    api.agent.release();
    assert_eq!(pausing.reply(false).status, 200);
    for client in &mut waiting {
        assert_eq!(client.reply(false).status, 201);
    }
}
