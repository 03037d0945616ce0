use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::model::request::IfExists;
use crate::model::schedule::Rate;
use crate::model::state::State;

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Command, UsageError> {
    let look = |name: &str| {
        let found = env.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| OsString::from(value))
    };
    parse(args.iter().map(OsString::from), &look)
}

fn serve(args: &[&str], env: &[(&str, &str)]) -> Serve {
    let args: Vec<&str> = [&["serve"], args].concat();
    let env: Vec<_> = [&[("HOME", "/home/me")], env].concat();
    match run(&args, &env) {
        Ok(Command::Serve(serve)) => serve,
        other => panic!("{other:?}"),
    }
}

fn share(args: &[&str], env: &[(&str, &str)]) -> Share {
    let args: Vec<&str> = [&["share"], args].concat();
    match run(&args, env) {
        Ok(Command::Share(share)) => share,
        other => panic!("{other:?}"),
    }
}

fn complaint(args: &[&str], env: &[(&str, &str)]) -> String {
    let text = run(args, env).unwrap_err().to_string();
    assert_eq!(text.lines().count(), 1, "{text}");
    let verb = args.first().copied().unwrap_or_default();
    let verb = Verb::ALL.into_iter().find(|one| one.name() == verb);
    let help = verb.map_or("haul --help".to_owned(), |verb| {
        format!("haul {} --help", verb.name())
    });
    assert!(text.contains(&help), "{text}");
    text
}

#[test]
fn serve_has_the_documented_defaults() {
    let serve = serve(&[], &[]);
    assert_eq!(serve.listen[0].to_string(), "127.0.0.1:8080");
    assert_eq!(serve.state_dir, PathBuf::from("/home/me/.local/state/haul"));
    assert_eq!(serve.transfers.workers, 24);
    assert_eq!(serve.transfers.silence_timeout, Duration::from_secs(30));
    assert_eq!(serve.transfers.retry_for, Duration::from_secs(86_400));
    assert_eq!(serve.transfers.rate_limit, Rate(None));
    assert!(serve.on_complete.is_none() && serve.on_error.is_none());
    assert!(
        serve.origins.is_empty() && serve.token_file.is_none() && serve.transfers.ca_file.is_none()
    );
}

#[test]
fn share_has_the_documented_defaults() {
    let share = share(&["/srv/in"], &[]);
    assert_eq!(share.dir, PathBuf::from("/srv/in"));
    assert_eq!(share.listen.to_string(), "127.0.0.1:9090");
    assert_eq!(share.address_lifetime, Duration::from_secs(3600));
    assert!(share.name.is_none() && share.password.is_none() && share.public_url.is_none());
}

#[test]
fn a_flag_wins_over_the_environment_and_an_empty_variable_is_unset() {
    assert_eq!(serve(&[], &[("HAUL_WORKERS", "3")]).transfers.workers, 3);
    assert_eq!(
        serve(&["--workers=5"], &[("HAUL_WORKERS", "x")])
            .transfers
            .workers,
        5
    );
    assert_eq!(serve(&[], &[("HAUL_WORKERS", "")]).transfers.workers, 24);
    assert_eq!(
        serve(&["--workers", "5", "--workers", "6"], &[])
            .transfers
            .workers,
        6
    );
}

#[test]
fn every_flag_has_a_variable_of_its_own_that_is_read() {
    for verb in Verb::ALL {
        let mut seen = Vec::new();
        for flag in flags_of(verb) {
            let expected = format!("HAUL_{}", flag.name.replace('-', "_").to_uppercase());
            assert_eq!(flag.env, expected);
            assert!(!seen.contains(&flag.env));
            seen.push(flag.env);
            let look = std::cell::RefCell::new(Vec::new());
            // A folder to the one command, a shell to the other.
            let operands = std::iter::repeat_n("bash", verb.operands().0);
            let args = std::iter::once(verb.name()).chain(operands);
            parse(args.map(OsString::from), &|name| {
                look.borrow_mut().push(name.to_owned());
                (name == "HOME").then(|| "/root".into())
            })
            .unwrap();
            assert!(
                look.borrow().iter().any(|name| name == flag.env),
                "{}",
                flag.env
            );
        }
    }
}

#[test]
fn rates_have_decimal_units() {
    for (said, meant) in [
        ("1000", 1000),
        ("500k", 500_000),
        ("500K", 500_000),
        ("10M", 10_000_000),
        ("1G", 1_000_000_000),
        ("0", 0),
    ] {
        let serve = serve(&["--rate-limit", said], &[]);
        assert_eq!(
            serve.transfers.rate_limit,
            Rate::new(meant).unwrap(),
            "{said}"
        );
    }
}

#[test]
fn origins_repeat_and_come_as_a_list_in_the_environment() {
    let said = serve(
        &["--origin", "a=b", "--origin", "c=d"],
        &[("HAUL_ORIGIN", "x=y")],
    );
    assert_eq!(said.origins, ["a=b", "c=d"]);
    let listed = serve(&[], &[("HAUL_ORIGIN", "a=b, c=d\te=f")]);
    assert_eq!(listed.origins, ["a=b", "c=d", "e=f"]);
}

#[test]
fn the_state_directory_follows_systemd_then_xdg_then_home() {
    let unit = [
        ("STATE_DIRECTORY", "/var/lib/haul:/x"),
        ("XDG_STATE_HOME", "/s"),
    ];
    assert_eq!(serve(&[], &unit).state_dir, PathBuf::from("/var/lib/haul"));
    assert_eq!(serve(&[], &unit[1..]).state_dir, PathBuf::from("/s/haul"));
    let relative = [("XDG_STATE_HOME", "s")];
    assert!(serve(&[], &relative).state_dir.starts_with("/home/me"));
    assert_eq!(
        serve(&["--state-dir", "here"], &unit).state_dir,
        PathBuf::from("here")
    );
    assert!(complaint(&["serve"], &[]).contains("--state-dir"));
}

#[test]
fn listening_addresses() {
    for (said, meant) in [
        ("localhost:1", "127.0.0.1:1"),
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:8080", "[::1]:8080"),
        ("127.8.0.1:9", "127.8.0.1:9"),
        ("unix:/run/haul.sock", "unix:/run/haul.sock"),
    ] {
        assert_eq!(serve(&["--listen", said], &[]).listen[0].to_string(), meant);
    }
    for wrong in [
        ":8080",
        "8080",
        "localhost",
        "localhost:x",
        "example.com:80",
        "::1:8080x",
        "unix:haul.sock",
        "unix:/run/",
    ] {
        let text = complaint(&["serve", "--listen", wrong], &[("HOME", "/r")]);
        assert!(text.contains("--listen"), "{text}");
    }
}

#[test]
fn only_a_loopback_address_needs_no_token() {
    for open in ["0.0.0.0:1", "192.0.2.1:1", "[::]:1", "[::ffff:192.0.2.1]:1"] {
        let text = complaint(&["serve", "--listen", open], &[("HOME", "/r")]);
        assert!(text.contains("--token-file"), "{text}");
        let guarded = serve(&["--listen", open, "--token-file", "/t"], &[]);
        assert_eq!(guarded.token_file, Some(PathBuf::from("/t")));
    }
    serve(&["--listen", "[::ffff:127.0.0.1]:1"], &[]);
    // `share` guards what it serves with the link's secret.
    share(&["d", "--listen", "0.0.0.0:1"], &[]);
}

#[test]
fn help_and_version() {
    for args in [&["--help"][..], &["-h"]] {
        let Ok(Command::Help(text)) = run(args, &[]) else {
            panic!("no help");
        };
        assert!(text.contains("haul serve") && text.contains("haul share DIR"));
    }
    for verb in Verb::ALL {
        let Ok(Command::Help(text)) = run(&[verb.name(), "-h"], &[]) else {
            panic!("no help");
        };
        for flag in flags_of(verb) {
            let shown = format!("--{} {}", flag.name, flag.value);
            assert!(text.contains(shown.trim_end()));
            assert!(text.contains(flag.env) && text.contains(flag.default));
        }
    }
    assert!(matches!(run(&["--version"], &[]), Ok(Command::Version)));
    assert!(matches!(run(&["share", "-V"], &[]), Ok(Command::Version)));
}

#[test]
fn bad_usage_is_said_in_one_line() {
    let home = [("HOME", "/r")];
    for (args, hint) in [
        (&[][..], "get, serve or share"),
        (&["fetch"], "fetch"),
        (&["--loud"], "--loud"),
        (&["serve", "--loud"], "--loud"),
        (&["serve", "extra"], "extra"),
        (&["serve", "--name", "x"], "--name"),
        (&["serve", "--workers"], "--workers"),
        (&["serve", "--workers", "0"], "1 to 256"),
        (&["serve", "--workers", "257"], "1 to 256"),
        (&["serve", "--silence-timeout", "NaN"], "seconds"),
        (&["serve", "--rate-limit", "M"], "500k"),
        (&["serve", "--rate-limit", "1.5M"], "500k"),
        (&["serve", "--rate-limit", "-1"], "500k"),
        (&["serve", "--rate-limit", "10XB"], "500k"),
        (&["serve", "--rate-limit", "99999999999G"], "at most"),
        (&["serve", "--retry-for", "-1"], "seconds"),
        (&["serve", "--state-dir", ""], "empty"),
        (&["share"], "DIR"),
        (&["share", ""], "DIR"),
        (&["share", "a", "b"], "\"b\""),
        (&["share", "a", "--link-id", "a/b"], "--link-id"),
        (&["share", "a", "--link-id", ".."], "--link-id"),
        (&["share", "a", "--public-url", "ftp://x"], "--public-url"),
        (
            &["share", "a", "--public-url", "https://x/?a"],
            "--public-url",
        ),
        (&["share", "a", "--address-lifetime", "0"], "seconds"),
        (&["get"], "LINK [DIR]"),
        (&["get", ""], "LINK [DIR]"),
        (&["get", "a", "b", "c"], "\"c\""),
        (&["get", "a", "--if-exists", "ask"], "--if-exists"),
        (&["get", "a", "--json", "--quiet"], "--quiet"),
        (&["get", "a", "--json=yes"], "--json"),
        (&["add", "link"], "LINK DIR"),
        (&["ls", "--states", "idle"], "idle"),
        (&["ls", "--server", "ftp://localhost"], "--server"),
        (&["rm"], "ID"),
        (&["rm", ""], "ID"),
        (&["wait", "../x"], "ID"),
        (&["pause", "01A", "a/b"], "a/b"),
        (&["completions"], "bash, zsh, fish"),
        (&["completions", "csh"], "bash, zsh, fish"),
        (&["man", "haul"], "haul"),
        (&["two\nlines"], "two"),
    ] {
        let text = complaint(args, &home);
        assert!(text.contains(hint), "{args:?}: {text}");
    }
    let text = complaint(&["serve"], &[("HOME", "/r"), ("HAUL_WORKERS", "many")]);
    assert!(text.contains("HAUL_WORKERS"), "{text}");
}

#[test]
fn secrets_come_from_the_environment_and_are_never_shown() {
    let share = share(
        &["d"],
        &[("HAUL_PASSWORD", "pässword"), ("HAUL_SECRET", "s3cret")],
    );
    assert_eq!(share.password.as_ref().unwrap().reveal(), "pässword");
    assert_eq!(share.secret.as_ref().unwrap().reveal(), "s3cret");
    let shown = format!("{share:?}");
    assert!(!shown.contains("pässword") && !shown.contains("s3cret"));
    let text = complaint(&["share", "d", "--password", " hunter2"], &[]);
    assert!(!text.contains("hunter2"), "{text}");
}

fn get(args: &[&str], env: &[(&str, &str)]) -> Get {
    let args: Vec<&str> = [&["get"], args].concat();
    let env: Vec<_> = [&[("HOME", "/home/me")], env].concat();
    match run(&args, &env) {
        Ok(Command::Get(get)) => get,
        other => panic!("{other:?}"),
    }
}

fn ask(args: &[&str], env: &[(&str, &str)]) -> Ask {
    match run(args, env) {
        Ok(Command::Ask(ask)) => ask,
        other => panic!("{other:?}"),
    }
}

#[test]
fn get_downloads_into_the_current_directory_unless_told_otherwise() {
    let plain = get(&["https://x/y?secret=s3cret"], &[]);
    assert_eq!(plain.dir, PathBuf::from("."));
    assert_eq!(
        (plain.output, plain.if_exists),
        (Output::Human, IfExists::Rename)
    );
    assert_eq!(plain.state_dir, PathBuf::from("/home/me/.local/state/haul"));
    assert!(!format!("{plain:?}").contains("s3cret"));
    let told = get(
        &["l", "in", "--json", "--if-exists", "skip"],
        &[("HAUL_PASSWORD", "p")],
    );
    assert_eq!(told.dir, PathBuf::from("in"));
    assert_eq!(
        (told.output, told.if_exists),
        (Output::Json, IfExists::Skip)
    );
    assert_eq!(told.password.unwrap().reveal(), "p");
    assert_eq!(get(&["l"], &[("HAUL_QUIET", "1")]).output, Output::Quiet);
    assert_eq!(get(&["l"], &[("HAUL_QUIET", "0")]).output, Output::Human);
    assert!(
        complaint(&["get", "l"], &[("HOME", "/r"), ("HAUL_JSON", "maybe")]).contains("HAUL_JSON")
    );
}

#[test]
fn questions_go_to_the_server_that_is_named() {
    let asked = ask(&["ls", "--states", "paused,error"], &[]);
    assert_eq!(asked.server, "http://127.0.0.1:8080");
    assert!(
        matches!(asked.what, What::List { states, json: false, watch: false } if states == [State::Paused, State::Error])
    );
    let asked = ask(
        &["rm", "01abc", "9Z", "--remove-files"],
        &[
            ("HAUL_SERVER", "https://nas:8443/"),
            ("HAUL_TOKEN_FILE", "/t"),
        ],
    );
    assert_eq!(asked.server, "https://nas:8443");
    assert_eq!(asked.token_file, Some(PathBuf::from("/t")));
    assert!(matches!(asked.what, What::Remove { ids, files: true } if ids == ["01ABC", "9Z"]));
    assert!(matches!(
        ask(&["rm", "A"], &[]).what,
        What::Remove { files: false, .. }
    ));
}

#[test]
fn a_public_url_loses_its_last_slash() {
    let share = share(&["d", "--public-url", "https://example.com/p/"], &[]);
    assert_eq!(share.public_url.as_deref(), Some("https://example.com/p"));
}

#[test]
fn a_token_is_the_first_line_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let read = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        read_token(&path).map(|token| token.reveal().to_owned())
    };
    assert_eq!(read(b"abc").unwrap(), "abc");
    assert_eq!(read(b"abc\r\nmore\n").unwrap(), "abc");
    let long = vec![b'x'; 5000];
    for wrong in [
        &b""[..],
        b"\nabc",
        b"a b\n",
        "ä\n".as_bytes(),
        b"\xff\n",
        &long,
    ] {
        let text = read(wrong).unwrap_err();
        assert!(text.contains("token"), "{text}");
    }
    fs::remove_file(&path).unwrap();
    assert!(read_token(&path).unwrap_err().contains("cannot read"));
    assert!(read_token(dir.path()).is_err());
}

#[test]
fn help_fits_into_80_columns() {
    for text in Verb::ALL.map(help).iter().chain([&overview()]) {
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
