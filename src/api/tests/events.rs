//! The event stream and the long poll, over real sockets.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::agent::{download, fill};
use super::*;
use crate::model::problem::{Code, Problem};
use crate::model::state::State;

const EVENTS: &str = "/api/v1/events";
const ONE: &str = "/api/v1/downloads/0100000001";

/// One event of a stream.
#[derive(Debug, PartialEq)]
struct Event {
    id: u64,
    name: String,
    data: serde_json::Value,
}

/// A stream being read.
struct Reader {
    client: Client,
    text: String,
}

impl Reader {
    fn open(api: &Api, last: Option<&str>) -> Reader {
        let mut client = api.client();
        let last = last.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        client.send(format!(
            "GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\n{last}\r\n"
        ));
        let reply = client.head();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.field("Content-Type"), Some("text/event-stream"));
        assert_eq!(reply.field("Cache-Control"), Some("no-store"));
        let mut reader = Reader {
            client,
            text: String::new(),
        };
        assert_eq!(reader.block().as_deref(), Some("retry: 2000"));
        reader
    }

    /// The next part between empty lines; None at the end of the stream.
    fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            self.text += &String::from_utf8(self.client.chunk()?).unwrap();
        }
    }

    fn event(&mut self) -> Event {
        let block = self.block().expect("the stream ended");
        let lines: Vec<&str> = block.lines().collect();
        let [id, name, data] = lines[..] else {
            panic!("no event: {block}");
        };
        Event {
            id: id.strip_prefix("id: ").unwrap().parse().unwrap(),
            name: name.strip_prefix("event: ").unwrap().into(),
            data: serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap(),
        }
    }

    /// The next event, which must tell of a download in that state.
    fn expect(&mut self, id: &str, state: &str) -> u64 {
        let event = self.event();
        assert_eq!(event.name, "download");
        assert_eq!(event.data["download_id"], id);
        assert_eq!(event.data["state"], state, "{:#}", event.data);
        event.id
    }
}

fn pause(api: &Api, number: usize) {
    api.agent.all()[number].update(|view| view.state = State::Paused);
}

#[test]
fn a_stream_begins_with_every_download_and_tells_what_changes() {
    let api = Api::start();
    api.agent.publish([
        download(1, State::Transferring),
        download(2, State::Complete),
    ]);
    let mut reader = Reader::open(&api, None);
    let first = reader.event();
    assert_eq!(first.data, api.ask("GET", DOWNLOADS).json()[0]);
    let second = reader.expect("0100000002", "complete");
    assert!(first.id < second);
    let asked = Instant::now();
    pause(&api, 0);
    let third = reader.expect("0100000001", "paused");
    assert!(asked.elapsed() < Duration::from_secs(1));
    assert!(second < third);
    api.agent.publish([]);
    for id in ["0100000001", "0100000002"] {
        let event = reader.event();
        assert_eq!(event.name, "deleted");
        assert_eq!(event.data, serde_json::json!({ "download_id": id }));
    }
}

#[test]
fn who_comes_back_is_told_what_came_after() {
    let api = Api::start();
    api.agent
        .publish((1..=3).map(|n| download(n, State::Transferring)));
    let mut reader = Reader::open(&api, None);
    let ids: Vec<u64> = (0..3).map(|_| reader.event().id).collect();
    drop(reader);
    // Nobody watches.
    pause(&api, 1);
    let mut reader = Reader::open(&api, Some(&ids[2].to_string()));
    let paused = reader.expect("0100000002", "paused");
    pause(&api, 0);
    let second = reader.expect("0100000001", "paused");
    assert!(ids[2] < paused && paused < second);
    // Cut off in the middle of the picture, a stranger's number, no number: all of it again.
    for last in [
        ids[0].to_string(),
        (second + 1_000).to_string(),
        "x".into(),
        "-1".into(),
    ] {
        let mut reader = Reader::open(&api, Some(&last));
        reader.expect("0100000001", "paused");
        reader.expect("0100000002", "paused");
        reader.expect("0100000003", "transferring");
    }
}

#[test]
fn bytes_are_told_once_a_second_at_the_most() {
    let api = Api::start();
    let moving = download(1, State::Transferring);
    fill(&moving, 1_000);
    api.agent.publish([moving]);
    let mut reader = Reader::open(&api, None);
    reader.event();
    let moving = api.agent.all()[0].clone();
    let begin = Instant::now();
    let mut told = 0;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for file in 0..1_000 {
                moving.table().unwrap().add_done(file, 10);
                moving.touch();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        while told < 2 {
            let event = reader.event();
            assert!(event.data["bytes_done"].as_u64().unwrap() > 0);
            told += 1;
        }
        assert!(begin.elapsed() >= Duration::from_secs(1));
        writer.join().unwrap();
    });
}

#[test]
fn ten_thousand_downloads_are_told_in_slices() {
    let api = Api::start();
    api.agent
        .publish((1..=10_000).map(|n| download(n, State::Complete)));
    let mut reader = Reader::open(&api, None);
    let chunk = reader.client.chunk().unwrap();
    assert!(chunk.len() < 64 << 10, "{} bytes at once", chunk.len());
    reader.text = String::from_utf8(chunk).unwrap();
    let mut last = 0;
    for number in 1..=10_000 {
        let id = reader.expect(&format!("01{number:08}"), "complete");
        assert!(id > last);
        last = id;
    }
}

#[test]
fn a_stop_ends_streams_and_long_polls_at_once() {
    let api = Api::start();
    api.agent.publish([download(1, State::Transferring)]);
    let mut reader = Reader::open(&api, None);
    reader.event();
    let mut poll = api.client();
    poll.send(format!(
        "GET {ONE}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    api.await_watchers(2);
    let begin = Instant::now();
    api.server.stop();
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert_eq!(reader.block(), None);
    assert_eq!(poll.reply(false).json()["state"], "transferring");
}

#[test]
fn readers_that_have_gone_make_room_for_others() {
    let api = Api::start_with(quick(), None);
    // More one after the other than there are threads for; each has gone without a word.
    for _ in 0..20 {
        Reader::open(&api, None);
    }
}

#[test]
fn a_reader_that_takes_nothing_is_given_up() {
    let api = Api::start_with(quick(), None);
    // More than the sockets' buffers take.
    api.agent.publish((1..=5_000).map(|number| {
        let long = download(number, State::Complete);
        long.update(|view| view.name = Some("x".repeat(8_000)));
        long
    }));
    let _stuck = Reader::open(&api, None);
    api.await_watchers(0);
}

#[test]
fn a_head_of_the_stream_has_an_end() {
    let api = Api::start();
    let reply = api.ask("HEAD", EVENTS);
    assert_eq!(reply.field("Content-Type"), Some("text/event-stream"));
    api.await_watchers(0);
}

#[test]
fn a_long_poll_answers_when_the_state_or_the_error_changes() {
    let api = Api::start();
    api.agent.publish([download(1, State::Transferring)]);
    let poll = || {
        let mut client = api.client();
        client.send(format!(
            "GET {ONE}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        ));
        api.await_watchers(1);
        client
    };
    let mut client = poll();
    let problem = |message: &str| Problem {
        code: Code::UpstreamUnavailable,
        message: message.into(),
        recoverable: true,
        retry_at: None,
    };
    let one = api.agent.all()[0].clone();
    one.update(|view| view.problem = Some(problem("no network")));
    let answer = client.reply(false).json();
    assert_eq!(answer["error"]["code"], "upstream_unavailable");
    assert_eq!(answer["files"], serde_json::json!([]));
    api.await_watchers(0);
    let mut client = poll();
    one.update(|view| view.problem = Some(problem("no network, again")));
    one.update(|view| view.name = Some("x".into()));
    pause(&api, 0);
    assert_eq!(client.reply(false).json()["state"], "paused");
    // What does not transfer has nothing to wait for.
    let begin = Instant::now();
    assert_eq!(api.ask("GET", &format!("{ONE}?wait=60")).status, 200);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_long_poll_ends_with_its_time_or_its_download() {
    let api = Api::start();
    api.agent.publish([download(1, State::Transferring)]);
    let begin = Instant::now();
    let reply = api.ask("GET", &format!("{ONE}?wait=1"));
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(reply.json()["state"], "transferring");
    assert_eq!(api.ask("GET", &format!("{ONE}?wait=0")).status, 200);
    let mut client = api.client();
    client.send(format!(
        "GET {ONE}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ));
    api.await_watchers(1);
    api.agent.publish([]);
    assert_eq!(client.reply(false).error().1, "download_not_found");
    let reply = api.ask("GET", &format!("{ONE}?wait=60"));
    assert_eq!(reply.error(), (404, "download_not_found".into()));
}

#[test]
fn streams_and_polls_leave_threads_for_the_others() {
    let api = Api::start();
    api.agent.publish([download(1, State::Transferring)]);
    let polls: Vec<Client> = (0..50)
        .map(|number| {
            let path = if number % 2 == 0 { EVENTS } else { ONE };
            let wait = if path == ONE { "?wait=60" } else { "" };
            let mut client = api.client();
            client.send(format!(
                "GET {path}{wait} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            ));
            client
        })
        .collect();
    api.await_watchers(50);
    assert_eq!(api.ask("GET", DOWNLOADS).status, 200);
    api.agent.unwritable.store(true, Ordering::SeqCst);
    let health = api.ask("GET", "/api/v1/health").json();
    assert_eq!(health["status"], "degraded");
    drop(polls);
}
