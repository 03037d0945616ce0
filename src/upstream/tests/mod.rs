//! Tests of the client against small servers that misbehave on purpose.

mod addresses;
mod api;
mod bytes;
mod direct;
mod giving_up;
mod listing;
mod pipeline;
mod pool;
mod server;

use std::time::Duration;

use self::server::Server;
use super::*;

/// Long enough for a loaded machine, short enough to wait for.
const SILENCE: Duration = Duration::from_millis(600);

fn refused(status: u16) -> Fault {
    Fault::Refused(Rejection::of(status))
}

fn client() -> Client {
    Client::new(Options {
        connections: 4,
        silence: SILENCE,
        ca_file: None,
        pipelining: true,
        ..Options::default()
    })
    .unwrap()
}

fn link(server: &Server, secret: &str) -> Link {
    Link {
        public: format!("{}/L1", server.base()),
        api: format!("{}/v1", server.base()),
        id: "L1".to_owned(),
        secret: Secret::new(secret),
    }
}

/// Calls `work` with a place at the server's API.
fn at<T>(server: &Server, work: impl FnOnce(&Place<'_>) -> T) -> T {
    work(&Place {
        api: &format!("{}/v1", server.base()),
        package_id: "P1",
        token: &Secret::new("the-token"),
    })
}

fn address(server: &Server, path: &str) -> Address {
    let url = format!("{}{path}", server.base());
    Address::parse(&url, &Url::parse(&server.base()).unwrap()).unwrap()
}

fn read_all(fetched: &mut Fetched) -> Result<Vec<u8>, Fault> {
    let mut all = Vec::new();
    let mut buf = [0; 1000];
    loop {
        match fetched.read(&mut buf)? {
            0 => return Ok(all),
            read => all.extend_from_slice(&buf[..read]),
        }
    }
}

fn list(client: &Client, server: &Server) -> Result<Vec<Listed>, Fault> {
    let mut listed = Vec::new();
    at(server, |place| {
        client.list(place, &Watch::default(), &mut |element| {
            listed.push(element);
            Ok(())
        })
    })?;
    Ok(listed)
}

#[track_caller]
fn assert_transient<T: std::fmt::Debug>(result: Result<T, Fault>, part: &str) {
    match result {
        Err(Fault::Transient { message, .. }) if message.contains(part) => {}
        other => panic!("not transient with “{part}”: {other:?}"),
    }
}

#[track_caller]
fn assert_malformed<T: std::fmt::Debug>(result: Result<T, Fault>, part: &str) {
    match result {
        Err(Fault::Malformed(message)) if message.contains(part) => {}
        other => panic!("not malformed with “{part}”: {other:?}"),
    }
}
