use std::fs;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::*;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::model::link::Link;
use crate::model::problem::{Code, Problem};
use crate::model::request::{DownloadRequest, IfExists};
use crate::model::table::{NewFile, ROOT, TableBuilder};

fn ended(folder: &Path, state: State, name: &str) -> Ended {
    let link = Link {
        public: "https://get.massive.app/L1".into(),
        api: "https://api.massive.app/v1".into(),
        id: "L1".into(),
        secret: Secret::new("s3cret"),
    };
    let order = DownloadRequest {
        link,
        password: Some(Secret::new("passw0rd")),
        dst_folder: folder.to_str().unwrap().into(),
        if_exists: IfExists::default(),
        location: None,
        options: Default::default(),
    };
    let problem = (state == State::Error).then(|| Problem {
        code: Code::FileFailed,
        message: "two\nlines".into(),
        recoverable: true,
        retry_at: None,
    });
    let view = View {
        state,
        name: Some(name.into()),
        package_id: None,
        completed_at: None,
        problem,
        priority: 0,
    };
    let download = Download::new("01A".into(), 1, order, Timestamp(0), view);
    let mut table = TableBuilder::default();
    table
        .file(NewFile {
            id: "F1".into(),
            dir: ROOT,
            name: "a".into(),
            size: 10,
            mtime: None,
            original: None,
            part: None,
            skip: None,
            slice: None,
        })
        .unwrap();
    download.set_table(Arc::new(table.finish()));
    Ended::new(&Arc::new(download))
}

/// A program. It is written by a process that has ended before it is run: a descriptor that is open
/// for writing in some other test's child would be in the way (ETXTBSY).
fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("hook");
    let status = Command::new("sh")
        .args([
            "-c",
            "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$2\" && chmod +x \"$2\"",
            "sh",
        ])
        .arg(text)
        .arg(&path)
        .status();
    assert!(status.unwrap().success());
    path
}

fn runner(limit: Duration) -> Runner {
    let env = |name: &str| match name {
        "PATH" => std::env::var_os(name),
        "LANG" => None,
        name => Some(format!("our {name}").into()),
    };
    Runner {
        programs: Programs::default(),
        kept: kept(&env),
        limit,
    }
}

#[test]
fn the_environment_says_what_happened_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), "env > seen; pwd >> seen");
    let ended = ended(dir.path(), State::Error, "a\0b; $(reboot)");
    let end = runner(LIMIT).run(&program, &ended).unwrap();
    assert!(
        matches!(end, End::Exited(status) if status.success()),
        "{end:?}"
    );
    let seen = fs::read_to_string(dir.path().join("seen")).unwrap();
    let folder = dir.path().to_str().unwrap();
    let folder_line = format!("HAUL_DST_FOLDER={folder}");
    for expected in [
        "HAUL_DOWNLOAD_ID=01A",
        "HAUL_STATE=error",
        "HAUL_NAME=a b; $(reboot)",
        "HAUL_LINK=https://get.massive.app/L1",
        "HAUL_ERROR_CODE=file_failed",
        "HAUL_ERROR_MESSAGE=two lines",
        "HAUL_BYTES_TOTAL=10",
        "HAUL_FILES_TOTAL=1",
        "HOME=our HOME",
        &folder_line,
        folder,
    ] {
        assert!(
            seen.lines().any(|line| line == expected),
            "{expected}: {seen}"
        );
    }
    assert!(!seen.contains("s3cret") && !seen.contains("passw0rd"));
    // What a shell sets by itself.
    let own = ["PWD=", "SHLVL=", "_=", "OLDPWD=", "PATH="];
    let others = seen.lines().filter(|line| line.contains('='));
    let others: Vec<&str> = others
        .filter(|line| !own.iter().any(|own| line.starts_with(own)))
        .collect();
    assert_eq!(others.len(), 10, "{others:?}");
}

#[test]
fn a_hook_runs_in_the_root_where_the_destination_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let seen = dir.path().join("seen");
    let program = script(dir.path(), &format!("pwd > '{}'", seen.display()));
    let ended = ended(&dir.path().join("gone"), State::Complete, "n");
    runner(LIMIT).run(&program, &ended).unwrap();
    assert_eq!(fs::read_to_string(seen).unwrap(), "/\n");
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let read = rustix::fs::open(&fifo, flags, Mode::empty()).unwrap();
    // Both the shell and what it starts hold the pipe.
    let program = script(
        dir.path(),
        "exec 3>fifo; echo started >&3; sleep 1000 & wait",
    );
    let ended = ended(dir.path(), State::Complete, "n");
    let end = runner(Duration::from_secs(2))
        .run(&program, &ended)
        .unwrap();
    assert!(matches!(end, End::Killed), "{end:?}");
    let mut text = [0; 100];
    let count = rustix::io::read(&read, &mut text).unwrap();
    assert_eq!(&text[..count], b"started\n");
    // The pipe's end comes when nobody holds it any more.
    let patience = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&read, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "still alive");
    assert_eq!(rustix::io::read(&read, &mut text).unwrap(), 0);
}

#[test]
fn each_state_has_its_program_and_programs_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let program = script(dir.path(), "true");
    let programs = Programs::check(Some(&program), None).unwrap();
    assert_eq!(programs.of(State::Complete), Some(&*program));
    assert_eq!(programs.of(State::Error), None);
    assert_eq!(programs.of(State::Paused), None);
    let plain = dir.path().join("plain");
    fs::write(&plain, "").unwrap();
    for wrong in [dir.path().join("none"), dir.path().to_owned(), plain] {
        let why = Programs::check(None, Some(&wrong)).unwrap_err();
        assert!(why.starts_with("--on-error"), "{why}");
    }
}

#[test]
fn long_names_are_cut_on_a_character() {
    assert_eq!(plain(&"ä".repeat(LONGEST)).len(), LONGEST);
    assert_eq!(
        plain(&format!("x{}", "ä".repeat(LONGEST))).len(),
        LONGEST - 1
    );
}
