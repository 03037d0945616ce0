//! One connection, or some, that bring next to nothing while others are fast: what they hold is
//! fetched elsewhere.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use crate::support::content;
use crate::support::origin::{Kind, Reply, Seen};
use crate::support::package::Package;
use crate::support::rig::Rig;

/// The true bytes, a hundred a second.
fn trickle(rig: &Rig, seen: &Seen, ranges: bool) -> Reply {
    let entry = rig.origin.entry(seen.file.as_deref().unwrap());
    let range = seen.range.filter(|_| ranges);
    let (start, end) = range.map_or((0, None), |range| range);
    let end = end.map_or(entry.size, |last| last + 1);
    Reply::raw(move |out: &mut dyn Write| -> io::Result<()> {
        match range {
            Some(_) => write!(
                out,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{}\r\n",
                end - 1,
                entry.size
            )?,
            None => write!(out, "HTTP/1.1 200 OK\r\n")?,
        }
        write!(out, "Content-Length: {}\r\n\r\n", end - start)?;
        let bytes = content::bytes(entry.seed, entry.size);
        for byte in &bytes[start as usize..end as usize] {
            out.write_all(&[*byte])?;
            out.flush()?;
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    })
}

/// A download of which these requests for bytes, by their number, trickle; bytes sent by the others
/// at the end.
fn with_slow(package: Package, args: &[&str], slow: &'static [usize], ranges: bool) -> (u64, u64) {
    let size = package.size();
    let rig = std::sync::Arc::new(Rig::with(package, args));
    let hook = std::sync::Arc::downgrade(&rig);
    rig.origin.on(Kind::Bytes, move |seen| {
        let Some(rig) = hook.upgrade() else {
            return Reply::serve();
        };
        match slow.contains(&seen.nth) {
            true => trickle(&rig, seen, ranges),
            false if ranges => Reply::serve(),
            false => Reply::ignore_range(),
        }
    });
    let id = rig.create();
    // Within the patience of every test; a hundred bytes a second would take hours.
    rig.complete(&id);
    (rig.origin.served(), size)
}

const MIB: u64 = 1 << 20;

#[test]
fn a_large_file_does_not_wait_for_one_slow_connection() {
    let package = Package::new().file("x", 40 * MIB);
    let (served, size) = with_slow(package, &["--workers", "4"], &[2], true);
    assert!(served < size + size / 50 + MIB, "{served} of {size}");
}

#[test]
fn nor_for_several() {
    let package = Package::new().file("x", 40 * MIB);
    with_slow(package, &["--workers", "4"], &[2, 3, 4], true);
}

#[test]
fn a_single_worker_takes_a_new_connection_where_the_one_before_was_fast() {
    let package = Package::new().file("x", 40 * MIB);
    with_slow(package, &["--workers", "1"], &[2], true);
}

#[test]
fn small_files_do_not_wait_for_one_slow_connection() {
    let package = Package::new().many(200, 20_000);
    with_slow(package, &["--workers", "4"], &[20, 40], true);
}

#[test]
fn a_file_without_ranges_begins_anew_on_another_connection() {
    let package = Package::new().file("x", 8 * MIB).file("y", 8 * MIB);
    with_slow(package, &["--workers", "2"], &[2], false);
}
