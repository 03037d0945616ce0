//! Where the static binary is: one place names the path.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What `scripts/static-path` prints on a machine of this architecture.
fn path_on(machine: &str) -> String {
    let programs = tempfile::tempdir().unwrap();
    let uname = programs.path().join("uname");
    fs::write(&uname, format!("#!/bin/sh\necho {machine}\n")).unwrap();
    fs::set_permissions(&uname, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new(format!("{ROOT}/scripts/static-path"))
        .env("PATH", format!("{}:{path}", programs.path().display()))
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_path_is_that_of_the_rust_target() {
    for (machine, target) in [
        ("x86_64", "x86_64-unknown-linux-musl"),
        ("aarch64", "aarch64-unknown-linux-musl"),
        ("armv7l", "armv7-unknown-linux-musleabihf"),
        ("armv8l", "armv7-unknown-linux-musleabihf"),
    ] {
        assert_eq!(path_on(machine), format!("target/static/{target}/haul\n"));
    }
    assert_eq!(path_on("mips"), "");
}

#[test]
fn nothing_else_puts_the_path_together() {
    let mut looked = 0;
    let mut look = |path: &Path| {
        let Ok(text) = fs::read_to_string(path) else {
            return;
        };
        looked += 1;
        let made = text.contains("uname -m)-") || text.contains("-musl/haul");
        assert!(!made, "{} puts the path together", path.display());
    };
    let root = Path::new(ROOT);
    for folder in [
        "scripts",
        "scripts/packaging",
        "scripts/packaging/batch",
        ".ci",
    ] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            look(&entry.unwrap().path());
        }
    }
    look(&root.join("README.md"));
    assert!(looked > 20, "{looked} files");
    for user in [
        "scripts/build-static",
        "scripts/packaging/deb",
        "scripts/packaging/container",
    ] {
        let text = fs::read_to_string(root.join(user)).unwrap();
        assert!(text.contains("$(scripts/static-path"), "{user}");
    }
}

#[test]
fn the_threat_model_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("src/api/threats.md")).unwrap();
    let tests = root.join("tests/e2e");
    let named = page.lines().filter_map(|line| {
        let last = line
            .strip_prefix("| ")?
            .trim_end_matches(" |")
            .rsplit(" | ")
            .next()?;
        last.strip_prefix('`')?.strip_suffix('`')?.split_once("::")
    });
    let mut count = 0;
    for (topic, name) in named {
        let sources = [tests.join(format!("{topic}.rs"))].into_iter();
        let more = fs::read_dir(tests.join(topic)).into_iter().flatten();
        let sources = sources.chain(more.map(|entry| entry.unwrap().path()));
        let has = |path: PathBuf| {
            let text = fs::read_to_string(path).unwrap_or_default();
            text.contains(&format!("#[test]\nfn {name}() {{"))
        };
        assert!(sources.into_iter().any(has), "there is no {topic}::{name}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
