//! Addresses and bytes: signatures, ranges, and files that change.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn bytes_whole_in_part_and_not_at_all() {
    let content: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let fixture = Fixture::new(|dir, _| {
        fs::create_dir(dir.join("ä")).unwrap();
        fs::write(dir.join("ä/big"), &content).unwrap();
        fs::write(dir.join("none"), "").unwrap();
    });
    let address = fixture.address("big");
    let whole = fixture.get(&address, "");
    assert_eq!(whole.status, 200);
    assert!(whole.body == content);
    assert_eq!(whole.header("content-length"), Some("3000000"));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let etag = whole.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"'));
    assert!(whole.header("last-modified").is_some());

    let part = fixture.get(&address, "Range: bytes=1000-2500000\r\n");
    assert_eq!(part.status, 206);
    assert!(part.body == content[1000..=2_500_000]);
    assert_eq!(
        part.header("content-range"),
        Some("bytes 1000-2500000/3000000")
    );
    assert_eq!(part.header("etag"), Some(&*etag));
    assert!(fixture.get(&address, "Range: bytes=-5\r\n").body == content[2_999_995..]);
    assert!(fixture.get(&address, "Range: bytes=2999999-\r\n").body == content[2_999_999..]);
    assert_eq!(
        fixture.get(&address, "Range: bytes=0-1,5-6\r\n").status,
        200
    );

    let beyond = fixture.get(&address, "Range: bytes=3000000-\r\n");
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some("bytes */3000000"));

    let same = format!("Range: bytes=0-0\r\nIf-Range: {etag}\r\n");
    assert_eq!(fixture.get(&address, &same).status, 206);
    assert_eq!(
        fixture
            .get(&address, "Range: bytes=0-0\r\nIf-Range: \"x\"\r\n")
            .status,
        200
    );

    let head = fixture.ask("HEAD", &address, "");
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), Some("3000000"));
    assert!(head.body.is_empty());

    let empty = fixture.get(&fixture.address("none"), "");
    assert_eq!((empty.status, empty.body.len()), (200, 0));
}

#[test]
fn an_address_is_good_as_it_was_signed_and_until_it_expires() {
    let fixture = Fixture::new(|dir, options| {
        fs::write(dir.join("a"), "x").unwrap();
        fs::write(dir.join("b"), "x").unwrap();
        options.address_lifetime = Duration::ZERO;
    });
    assert_eq!(fixture.get(&fixture.address("a"), "").status, 403);

    let fixture = Fixture::new(|dir, _| {
        fs::write(dir.join("a"), "x").unwrap();
        fs::write(dir.join("b"), "x").unwrap();
    });
    let address = fixture.address("a");
    assert_eq!(fixture.get(&address, "").status, 200);
    let other = fixture.address("b");
    let id = |address: &str| address.split_once('?').unwrap().0.to_owned();
    let swapped = address.replace(&id(&address), &id(&other));
    let longer = address.replace("expires=", "expires=1");
    let (unsigned, _) = address.split_once("&signature").unwrap();
    for wrong in [&*swapped, &longer, unsigned, &id(&address), "/data/x"] {
        assert_eq!(fixture.get(wrong, "").status, 403, "{wrong}");
    }
}

#[test]
fn a_symlink_planted_after_the_listing_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "private").unwrap();
    let fixture = Fixture::new(|dir, _| {
        fs::create_dir(dir.join("d")).unwrap();
        fs::write(dir.join("d/f"), "public").unwrap();
        fs::write(dir.join("g"), "public").unwrap();
    });
    let (in_folder, file) = (fixture.address("f"), fixture.address("g"));
    assert_eq!(fixture.get(&in_folder, "").body, b"public");
    let dir = fixture.dir.path();
    fs::rename(dir.join("d"), outside.path().join("moved")).unwrap();
    symlink(outside.path(), dir.join("d")).unwrap();
    fs::remove_file(dir.join("g")).unwrap();
    symlink(outside.path().join("f"), dir.join("g")).unwrap();
    for address in [in_folder, file] {
        assert_eq!(fixture.get(&address, "").status, 404);
    }
}

#[test]
fn a_file_that_shrinks_on_the_way_ends_the_connection() {
    let size = 64 * 1024 * 1024;
    let fixture = Fixture::new(|dir, _| {
        File::create(dir.join("f")).unwrap().set_len(size).unwrap();
    });
    let mut socket = fixture.connect();
    write!(socket, "GET {} HTTP/1.1\r\n\r\n", fixture.address("f")).unwrap();
    let mut start = [0; 1000];
    socket.read_exact(&mut start).unwrap();
    let file = File::options()
        .write(true)
        .open(fixture.dir.path().join("f"))
        .unwrap();
    file.set_len(1000).unwrap();
    let mut rest = Vec::new();
    // The end may come as a reset; what counts is that it comes, and too early.
    let _ = socket.read_to_end(&mut rest);
    assert!((rest.len() as u64) < size - 1000);
    assert_eq!(fixture.get(&fixture.address("f"), "").status, 200);
}
