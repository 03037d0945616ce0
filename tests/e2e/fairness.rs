//! One server that is slow on purpose, or by nature, does not keep the downloads from others
//! waiting.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

use crate::support::agent::Setup;
use crate::support::origin::{Gate, Kind, Origin, Reply};
use crate::support::package::Package;

/// A file's bytes, one each now and then, so that the connection is never silent for long.
fn drip(size: u64) -> Reply {
    Reply::raw(move |out| {
        write!(out, "HTTP/1.1 200 Told\r\nContent-Length: {size}\r\n\r\n")?;
        loop {
            out.write_all(b"x")?;
            out.flush()?;
            thread::sleep(Duration::from_millis(300));
        }
    })
}

#[test]
fn a_download_that_drips_from_every_connection_does_not_starve_another() {
    const SIZE: u64 = 1 << 20;
    let slow = Origin::new(Package::new().many(64, SIZE));
    slow.always(Kind::Bytes, drip(SIZE));
    let quick = Origin::new(Package::new().many(5, 5000));
    let agent = Setup::new()
        .origin(&slow)
        .origin(&quick)
        .args(&["--workers", "4"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let hostage = agent.create(&slow, &dir.path().join("slow"));
    slow.await_requests(Kind::Bytes, 4);
    let id = agent.create(&quick, &dir.path().join("quick"));
    agent.wait_state(&id, "complete");
    assert_eq!(agent.inspect(&hostage)["state"], "transferring");
}

#[test]
fn a_download_whose_server_is_silent_does_not_keep_another_waiting() {
    let silent = Origin::new(Package::new().many(64, 5000));
    let gate = Gate::new();
    silent.always(Kind::Address, Reply::stall(&gate));
    let quick = Origin::new(Package::new().many(5, 5000));
    let agent = Setup::new()
        .origin(&silent)
        .origin(&quick)
        .args(&["--workers", "4"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let hostage = agent.create(&silent, &dir.path().join("silent"));
    silent.await_requests(Kind::Address, 4);
    let begin = Instant::now();
    let id = agent.create(&quick, &dir.path().join("quick"));
    agent.wait_state(&id, "complete");
    let took = begin.elapsed();
    // No connection of the other's had to be given up for it.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(agent.inspect(&hostage)["state"], "transferring");
    gate.open();
}

/// A head that never ends. The channel tells of each agent that has given it up.
fn endless_head(given_up: Sender<()>) -> Reply {
    Reply::raw(move |out| {
        let mut drip = || -> std::io::Result<()> {
            out.write_all(b"HTTP/1.1 200 OK\r\nX-Wait: ")?;
            loop {
                out.write_all(b"x")?;
                out.flush()?;
                thread::sleep(Duration::from_millis(50));
            }
        };
        let ended = drip();
        given_up.send(()).ok();
        ended
    })
}

#[test]
fn the_agent_answers_while_the_server_of_a_large_file_is_silent() {
    const WORKERS: usize = 4;
    let many = Origin::new(Package::new().many(4000, 5000));
    let (given_up_out, given_up) = unbounded();
    many.always(Kind::Address, endless_head(given_up_out));
    let large = Origin::new(Package::new().file("large", 64 << 20));
    let gate = Gate::new();
    large.always(Kind::Address, Reply::stall(&gate));
    let agent = Setup::new()
        .origin(&many)
        .origin(&large)
        .args(&["--workers", &WORKERS.to_string()])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let first = agent.create(&many, &dir.path().join("many"));
    many.await_requests(Kind::Address, WORKERS);
    // With all of those busy who fetch addresses, a worker fetches the address that the others of
    // its file wait for.
    agent.create(&large, &dir.path().join("large"));
    large.await_requests(Kind::Address, 1);
    // The room that becomes free is for more ranges of the large file, which wait for their
    // address. Nobody else does.
    agent.pause(&first).expect(200);
    for _ in 0..WORKERS {
        given_up.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    let begin = Instant::now();
    agent.resume(&first).expect(200);
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    gate.open();
}

#[test]
fn under_a_limit_small_files_have_their_share() {
    const LIMIT: u64 = 4_000_000;
    let large = Origin::new(Package::new().many(4, 30_000_000));
    let small = Origin::new(Package::new().many(4000, 1000));
    let agent = Setup::new()
        .origin(&large)
        .origin(&small)
        .args(&["--rate-limit", "4M", "--workers", "8"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let other = agent.create(&large, &dir.path().join("large"));
    large.await_served(LIMIT / 2);
    let begin = Instant::now();
    let before = agent.inspect(&other)["bytes_done"].as_u64().unwrap();
    let id = agent.create(&small, &dir.path().join("small"));
    agent.wait_state(&id, "complete");
    let took = begin.elapsed().as_secs_f64();
    let gained = agent.inspect(&other)["bytes_done"].as_u64().unwrap() - before;
    // Neither starves, and both together keep to the limit.
    let rate = (gained + 4_000_000) as f64 / took;
    assert!(
        rate < 1.15 * LIMIT as f64 + 400_000.0 / took,
        "{rate} bytes/s"
    );
    assert!(
        gained as f64 > 0.25 * LIMIT as f64 * took,
        "{gained} in {took} s"
    );
}
