//! GET /events: what happens to downloads, as server-sent events.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::create::SUMMARY;
use crate::support::PATIENCE;
use crate::support::agent::{DOWNLOADS, one};
use crate::support::http::keys;
use crate::support::origin::{Gate, Kind, Reply};
use crate::support::package::Package;
use crate::support::rig::Rig;

/// A stream of events, read as it comes.
pub struct Events {
    lines: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Event {
    pub id: u64,
    pub name: String,
    pub data: Value,
}

impl Events {
    /// Opens a stream, after an event where that is given.
    pub fn open(to: SocketAddr, after: Option<u64>) -> Events {
        Events::open_at(to, "/api/v1/events", after)
    }

    /// The same where the stream is at another path.
    pub fn open_at(to: SocketAddr, target: &str, after: Option<u64>) -> Events {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let after = after.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        // HTTP/1.0: the body comes as it is, without chunks.
        let request = format!("GET {target} HTTP/1.0\r\nHost: {to}\r\n{after}\r\n");
        (&stream).write_all(request.as_bytes()).unwrap();
        let mut events = Events {
            lines: BufReader::new(stream),
        };
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head += &events.line().expect("an answer");
        }
        let head = head.to_lowercase();
        assert!(head.contains(" 200 "), "{head}");
        assert!(
            head.contains("content-type: text/event-stream\r\n"),
            "{head}"
        );
        assert_eq!(events.line().as_deref(), Some("retry: 2000\n"));
        assert_eq!(events.line().as_deref(), Some("\n"));
        events
    }

    /// One line with its end; None at the end of the stream.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).unwrap();
        (read > 0).then_some(line)
    }

    /// The next event; None at the end of the stream.
    pub fn next(&mut self) -> Option<Event> {
        let mut fields = [const { String::new() }; 3];
        let begin = Instant::now();
        loop {
            assert!(begin.elapsed() < PATIENCE, "nothing but comments");
            let line = self.line()?;
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => fields[0] = id.into(),
                Some(("event", name)) => fields[1] = name.into(),
                Some(("data", data)) => fields[2] = data.into(),
                // A comment.
                Some(("", _)) => {}
                Some(_) => panic!("no line of ours: {line:?}"),
                None if fields[2].is_empty() => {}
                None => break,
            }
        }
        let [id, name, data] = fields;
        Some(Event {
            id: id.parse().unwrap(),
            name,
            data: serde_json::from_str(&data).unwrap(),
        })
    }

    /// Reads on until an event of a download is as wanted; all that came, that one last.
    pub fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.next().expect("more events"));
            if wanted(&seen[seen.len() - 1]) {
                return seen;
            }
        }
    }

    pub fn until_state(&mut self, state: &str) -> Vec<Event> {
        self.until(|event| event.data["state"] == state)
    }
}

#[test]
fn the_whole_life_of_a_download_is_told() {
    let rig = Rig::new(Package::new().file("a", 200_000));
    let gate = Gate::new();
    rig.origin
        .always(Kind::Bytes, Reply::stall_after(50_000, &gate));
    let mut events = Events::open(rig.agent.address, None);
    let id = rig.create();
    let mut all = events.until_state("transferring");
    rig.agent.pause(&id).expect(200);
    all.extend(events.until_state("paused"));
    rig.agent.resume(&id).expect(200);
    all.extend(events.until_state("transferring"));
    rig.origin.heal(Kind::Bytes);
    gate.open();
    all.extend(events.until_state("complete"));
    for event in &all {
        assert_eq!(event.name, "download");
        assert_eq!(keys(&event.data), SUMMARY);
        assert_eq!(event.data["download_id"], id.as_str());
    }
    assert!(all.is_sorted_by(|a, b| a.id < b.id), "{all:#?}");
    let last = &all[all.len() - 1].data;
    assert_eq!(*last, rig.agent.get(DOWNLOADS).expect(200)[0]);
    rig.agent.delete(&one(&id)).expect(200);
    let gone = events.until(|event| event.name == "deleted");
    let gone = &gone[gone.len() - 1];
    assert_eq!(gone.data, json!({ "download_id": id }));
}

#[test]
fn bytes_are_told_about_once_a_second() {
    let rig = Rig::new(Package::new().file("a", 3_000_000));
    rig.origin.throttle(1_000_000);
    let mut events = Events::open(rig.agent.address, None);
    rig.create();
    let begin = Instant::now();
    let moving = |event: &Event| event.data["state"] == "transferring";
    let told = events.until_state("complete");
    let took = begin.elapsed().as_secs() as usize;
    let bytes: Vec<u64> = told
        .iter()
        .filter(|event| moving(event))
        .map(|event| event.data["bytes_done"].as_u64().unwrap())
        .collect();
    assert!(bytes.is_sorted(), "{bytes:?}");
    assert!(bytes.iter().any(|&done| done > 0), "{bytes:?}");
    // Beside those of each second: that it came, has a name, and was listed.
    assert!(bytes.len() <= took + 4, "{} in {took} s", bytes.len());
}

#[test]
fn who_comes_back_misses_nothing_and_gets_nothing_twice() {
    let rig = Rig::new(Package::new().file("a", 10));
    let first = rig.agent.create(&rig.origin, &rig.dir().join("1"));
    rig.agent.wait_state(&first, "complete");
    let mut events = Events::open(rig.agent.address, None);
    let seen = events.next().unwrap();
    assert_eq!(seen.data["download_id"], first.as_str());
    drop(events);
    let second = rig.agent.create(&rig.origin, &rig.dir().join("2"));
    rig.agent.wait_state(&second, "complete");
    rig.agent.delete(&one(&first)).expect(200);
    let mut events = Events::open(rig.agent.address, Some(seen.id));
    // In whichever order the two changed last.
    let told = [events.next().unwrap(), events.next().unwrap()];
    assert!(told.iter().all(|event| event.id > seen.id));
    let of = |id: &str| told.iter().find(|event| event.data["download_id"] == id);
    assert_eq!(of(&first).unwrap().name, "deleted");
    assert_eq!(of(&second).unwrap().data["state"], "complete");
    // One that is not known: all that there is.
    let mut events = Events::open(rig.agent.address, Some(7));
    assert_eq!(events.next().unwrap().data["download_id"], second.as_str());
}

#[test]
fn after_a_restart_the_picture_is_told_anew() {
    let mut rig = Rig::new(Package::new().file("a", 10));
    let id = rig.create();
    rig.complete(&id);
    let seen = Events::open(rig.agent.address, None).next().unwrap();
    rig.agent.terminate();
    rig.agent.restart();
    let again = Events::open(rig.agent.address, Some(seen.id)).next();
    assert_eq!(again.unwrap().data["download_id"], id.as_str());
}

#[test]
fn a_stop_ends_the_streams_and_does_not_wait_for_them() {
    let mut rig = Rig::new(Package::new().file("a", 10));
    let id = rig.create();
    rig.complete(&id);
    let mut events = Events::open(rig.agent.address, None);
    events.next().unwrap();
    let (status, took) = rig.agent.terminate();
    assert!(status.success());
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(events.next().is_none());
}
