//! `haul share` behind nginx as it is deployed at scale: `scripts/packaging/nginx-cache.conf`.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::nginx::free_address;
use crate::support::process::{Running, haul};
use crate::support::tree;

const LARGE: u64 = 40 << 20;
const NODES: usize = 8;

/// The example as it is, at other places.
fn configuration(dir: &Path, nginx: &str, share: &str) -> String {
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/scripts/packaging/nginx-cache.conf"
    );
    let mut http = fs::read_to_string(example).unwrap();
    for (from, to) in [
        ("/var/cache/nginx/haul", dir.join("cache").to_str().unwrap()),
        ("listen 443 ssl", &format!("listen {nginx} ssl")),
        ("/etc/ssl/share.example", dir.join("tls").to_str().unwrap()),
        ("127.0.0.1:9090", share),
    ] {
        assert!(http.contains(from), "{from}");
        http = http.replace(from, to);
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", dir.display()));
    format!(
        "daemon off; pid {0}/pid; worker_processes 2; events {{}}\nhttp {{\n{1}\n\
         log_format read '$upstream_cache_status $upstream_bytes_received';\n\
         log_subrequest on; access_log {0}/read.log read;\n{http}\n}}\n",
        dir.display(),
        temporary.join("\n")
    )
}

/// A certificate for an address, as somebody makes it by hand.
fn make_certificate(dir: &Path, host: &str) {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=share",
            "-addext",
            &format!("subjectAltName=IP:{host}"),
        ])
        .arg("-keyout")
        .arg(dir.join("tls.key"))
        .arg("-out")
        .arg(dir.join("tls.pem"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
}

#[test]
fn what_eight_nodes_fetch_costs_the_share_one_reading() {
    for program in ["nginx", "openssl"] {
        if Command::new(program).arg("version").output().is_err() {
            eprintln!("skipped: {program} is not installed");
            return;
        }
    }
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    tree::write_file(&dir.join("package/large.mov"), 1, LARGE);
    for number in 0..20 {
        tree::write_file(
            &dir.join(format!("package/small/{number}")),
            number + 2,
            5000,
        );
    }
    let (nginx, share) = (free_address(), free_address());
    make_certificate(dir, &nginx.ip().to_string());
    let base = format!("https://{nginx}");
    let mut command = haul();
    command.arg("share").arg(dir.join("package"));
    command.args(["--listen", &share.to_string(), "--public-url", &base]);
    let sharing = Running::start(&mut command);
    let link = sharing.stdout.line().unwrap();
    let config = configuration(dir, &nginx.to_string(), &share.to_string());
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(dir)
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .arg("-e")
        .arg(dir.join("error.log"));
    let mut serving = Running::start(&mut command);
    serving.await_listening(nginx);
    let nodes: Vec<Running> = (0..NODES)
        .map(|node| {
            let mut command = haul();
            command
                .arg("get")
                .arg(&link)
                .arg(dir.join(format!("node{node}")));
            command.args(["--origin", &format!("{base}={base}/v1")]);
            command.arg("--ca-file").arg(dir.join("tls.pem"));
            Running::start(command.env("HOME", dir.join(format!("home{node}"))))
        })
        .collect();
    for (node, mut running) in nodes.into_iter().enumerate() {
        let status = running.wait_exit();
        assert!(status.success(), "{}", running.stderr.rest());
        tree::assert_file(&dir.join(format!("node{node}/large.mov")), 1, LARGE);
    }
    let log = fs::read_to_string(dir.join("read.log")).unwrap();
    let of_bytes = log.lines().filter(|line| line.starts_with("MISS"));
    let read: u64 = of_bytes
        .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
        .sum();
    let package = LARGE + 20 * 5000;
    assert!(read >= package, "{read} of {package} bytes");
    // Heads of answers are counted, too.
    assert!(read < package + package / 20, "{read} of {package} bytes");
}
