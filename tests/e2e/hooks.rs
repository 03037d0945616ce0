//! Hooks: programs that run when a download becomes complete or fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::PATIENCE;
use crate::support::agent::{Agent, Setup};
use crate::support::origin::{Kind, Origin, Reply};
use crate::support::package::Package;
use crate::support::process::{haul, run};

/// A folder with a program in it that knows the folder as `$here`.
struct Hook {
    dir: tempfile::TempDir,
}

impl Hook {
    fn new(script: &str) -> Hook {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().to_str().unwrap();
        let text = format!("#!/bin/sh\nhere='{here}'\n{script}\n");
        // Written by a process that has ended before: a descriptor that is open for writing,
        // inherited by another test's child, would keep the program from being run (ETXTBSY).
        let written = Command::new("sh")
            .args(["-c", "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"", "sh"])
            .arg(text)
            .arg(dir.path().join("hook"))
            .status();
        assert!(written.unwrap().success());
        Hook { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn flag(&self, flag: &str) -> [String; 2] {
        [flag.into(), self.path("hook").to_str().unwrap().into()]
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// Waits until the file has that many lines.
    fn await_lines(&self, name: &str, count: usize) -> Vec<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let lines = self.lines(name);
            if lines.len() >= count {
                return lines;
            }
            assert!(Instant::now() < end, "waited for {count} lines: {lines:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn agent(&self, flags: &[&str], origin: &Origin) -> Agent {
        let mut setup = Setup::new().origin(origin);
        for flag in flags {
            let [flag, program] = self.flag(flag);
            setup = setup.args(&[&flag, &program]);
        }
        setup.start()
    }
}

/// The agent's children that ended and were not waited for.
fn zombies(agent: &Agent) -> usize {
    let parent = agent.pid().to_string();
    let of_agent = |stat: &str| {
        // PID (NAME) STATE PARENT: the name may hold anything (proc_pid_stat(5)).
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let mut fields = rest.split(' ');
        fields.next() == Some("Z") && fields.next() == Some(&parent)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read_to_string(process.path().join("stat")).ok())
        .filter(|stat| of_agent(stat))
        .count()
}

fn dst(hook: &Hook, name: &str) -> PathBuf {
    hook.path("in").join(name)
}

#[test]
fn completion_is_told_once_and_not_again_after_a_restart() {
    let hook = Hook::new(
        "pwd >> \"$here/told\"; env | grep ^HAUL_ | sort > \"$here/env\"; echo $HAUL_DOWNLOAD_ID \
         >> \"$here/ids\"",
    );
    let origin = Origin::new(Package::new().file("a", 1000).file("b", 24));
    origin.require_password("open sesame");
    let mut agent = hook.agent(&["--on-complete", "--on-error"], &origin);
    let folder = dst(&hook, "one");
    let id = agent.create_with(&origin, &folder, json!({"password": "open sesame"}));
    agent.wait_state(&id, "complete");
    assert_eq!(hook.await_lines("ids", 1), [id.as_str()]);
    assert_eq!(hook.lines("told"), [folder.to_str().unwrap()]);
    let expected = [
        "HAUL_BYTES_TOTAL=1024".to_string(),
        format!("HAUL_DOWNLOAD_ID={id}"),
        format!("HAUL_DST_FOLDER={}", folder.display()),
        "HAUL_ERROR_CODE=".into(),
        "HAUL_ERROR_MESSAGE=".into(),
        "HAUL_FILES_TOTAL=2".into(),
        format!("HAUL_LINK={}", origin.public_link()),
        "HAUL_NAME=Dailies 14".into(),
        "HAUL_STATE=complete".into(),
    ];
    assert_eq!(hook.lines("env"), expected);
    agent.await_log("ended well", 1);
    agent.kill9();
    agent.restart();
    agent.terminate();
    agent.restart();
    // A second download's hook has run, so the first one's would have, too.
    let second = agent.create_with(
        &origin,
        &dst(&hook, "two"),
        json!({"password": "open sesame"}),
    );
    agent.wait_state(&second, "complete");
    assert_eq!(hook.await_lines("ids", 2), [id, second]);
}

#[test]
fn a_failure_is_told_each_time_with_its_reason() {
    let hook =
        Hook::new("echo \"$HAUL_STATE $HAUL_ERROR_CODE $HAUL_ERROR_MESSAGE\" >> \"$here/told\"");
    let origin = Origin::new(Package::new().file("good", 10).file("gone", 10));
    origin.on(Kind::Address, |seen| match seen.is_for("F2") {
        true => Reply::status(404),
        false => Reply::serve(),
    });
    let agent = hook.agent(&["--on-error"], &origin);
    let id = agent.create(&origin, &dst(&hook, "one"));
    let record = agent.wait_state(&id, "error");
    let message = record["error"]["message"].as_str().unwrap();
    let told = hook.await_lines("told", 1);
    assert_eq!(told, [format!("error file_failed {message}")]);
    agent.resume(&id).expect(200);
    assert_eq!(hook.await_lines("told", 2)[1], told[0]);
    // There is no hook for what goes well.
    origin.heal(Kind::Address);
    agent.wait_state(&id, "error");
    agent.resume(&id).expect(200);
    agent.wait_state(&id, "complete");
    let other = agent.create(&origin, &dst(&hook, "two"));
    agent.wait_state(&other, "complete");
    assert_eq!(hook.lines("told").len(), 2);
}

#[test]
fn four_run_at_once_the_others_wait_and_nobody_waits_for_them() {
    let hook = Hook::new(
        "mkdir -p \"$here/running\"; : > \"$here/running/$$\"; ls \"$here/running\" | wc -l >> \
         \"$here/counts\"
         while [ ! -e \"$here/go\" ]; do sleep 0.05; done
         rm \"$here/running/$$\"; exit 3",
    );
    let origin = Origin::new(Package::new().file("a", 10));
    let agent = hook.agent(&["--on-complete"], &origin);
    for number in 0..7 {
        let id = agent.create(&origin, &dst(&hook, &number.to_string()));
        agent.wait_state(&id, "complete");
    }
    hook.await_lines("counts", 4);
    fs::write(hook.path("go"), "").unwrap();
    let counts = hook.await_lines("counts", 7);
    let most = counts
        .iter()
        .map(|count| count.trim().parse::<u32>().unwrap())
        .max();
    assert!(most.is_some_and(|most| most <= 4), "{counts:?}");
    agent.await_log("failed: exit status: 3", 7);
    assert_eq!(zombies(&agent), 0);
}

#[test]
fn a_hook_that_runs_on_holds_nothing_of_the_agents() {
    let hook = Hook::new(
        "exec > /dev/null 2>&1; echo >> \"$here/begun\"
         while [ ! -e \"$here/go\" ]; do sleep 0.05; done; echo >> \"$here/over\"",
    );
    let origin = Origin::new(Package::new().file("a", 10));
    let mut agent = hook.agent(&["--on-complete"], &origin);
    let id = agent.create(&origin, &dst(&hook, "one"));
    agent.wait_state(&id, "complete");
    hook.await_lines("begun", 1);
    let (status, took) = agent.terminate();
    assert!(
        status.success() && took < Duration::from_secs(5),
        "{took:?}"
    );
    // Its state directory is free, and so is its port.
    agent.restart();
    assert_eq!(agent.inspect(&id)["state"], "complete");
    fs::write(hook.path("go"), "").unwrap();
    hook.await_lines("over", 1);
    assert_eq!(hook.lines("begun").len(), 1);
}

#[test]
fn what_a_hook_prints_goes_to_stderr() {
    let hook = Hook::new("echo printed by a hook; echo complaint of a hook >&2");
    let origin = Origin::new(Package::new().file("a", 10));
    let mut agent = hook.agent(&["--on-complete"], &origin);
    let id = agent.create(&origin, &dst(&hook, "one"));
    agent.wait_state(&id, "complete");
    agent.await_log("printed by a hook", 1);
    agent.await_log("complaint of a hook", 1);
    agent.terminate();
    assert!(!agent.stdout().contains("printed by a hook"));
}

#[test]
fn a_program_that_cannot_be_run_is_bad_usage() {
    let hook = Hook::new("true");
    let state = hook.path("state");
    let refused = |program: &Path| {
        let mut command = haul();
        command.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"]);
        command.arg(&state).arg("--on-complete").arg(program);
        let finished = run(&mut command);
        assert_eq!(finished.code(), Some(2), "{finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
        assert!(finished.stderr.contains("--on-complete"), "{finished:?}");
    };
    refused(&hook.path("none"));
    refused(hook.dir.path());
    fs::write(hook.path("plain"), "").unwrap();
    refused(&hook.path("plain"));
    assert!(!state.exists(), "nothing was begun");
}
