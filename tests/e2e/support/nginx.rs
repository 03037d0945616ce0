//! nginx as an upstream: everything is a file on its disk, served by a server we did not write.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use tempfile::TempDir;

use super::package::Package;
use super::process::Running;
use super::tree;

/// What every connection gets, in bytes per second; None where there is no limit.
type Limit = Option<u64>;

pub struct Nginx {
    running: Option<Running>,
    address: SocketAddr,
    dir: TempDir,
}

impl Nginx {
    /// None, with the reason printed, where nginx is not installed. With `CI=true` it must be.
    pub fn serving(package: &Package, limit: Limit) -> Option<Nginx> {
        Nginx::serving_with(package, limit, "")
    }

    /// As `serving`, with more directives for the server.
    pub fn serving_with(package: &Package, limit: Limit, more: &str) -> Option<Nginx> {
        if let Err(error) = Command::new("nginx").arg("-v").output() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "nginx: {error}");
            eprintln!("skipped: nginx is not installed: {error}");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        // nginx cannot tell which port it got, so a free one is looked for; it is ours again at
        // once.
        let address = free_address();
        write_package(dir.path(), package, address);
        fs::write(
            dir.path().join("nginx.conf"),
            config(dir.path(), address, limit, more),
        )
        .unwrap();
        let mut nginx = Nginx {
            running: None,
            address,
            dir,
        };
        nginx.start();
        Some(nginx)
    }

    pub fn start(&mut self) {
        let dir = self.dir.path();
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(dir.join("nginx.conf"))
            .arg("-e")
            .arg(dir.join("error.log"));
        let mut running = Running::start(&mut command);
        running.await_listening(self.address);
        self.running = Some(running);
    }

    /// Kills it, and every connection with it.
    pub fn stop(&mut self) {
        self.running = None;
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn link(&self) -> String {
        format!("{}/LINK1?secret=anything", self.base())
    }

    /// Requests for bytes so far, as the access log has them: status and bytes sent.
    pub fn bytes_log(&self) -> Vec<(u16, u64)> {
        let log = self.log();
        log.lines()
            .filter_map(|line| {
                let mut words = line.split(' ');
                Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
            })
            .collect()
    }

    /// How many requests for bytes came together with the one before.
    pub fn pipelined(&self) -> usize {
        self.log()
            .lines()
            .filter(|line| line.ends_with('p'))
            .count()
    }

    fn log(&self) -> String {
        // One process does one thing after the other: once this is answered, all before it is
        // logged.
        super::http::send(self.address, "GET", "/", &[], None);
        fs::read_to_string(self.dir.path().join("bytes.log")).unwrap_or_default()
    }
}

/// An address that nobody listens on. Each is of a loopback address of its own, so that no agent of
/// another test can take it meanwhile.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let [.., a, b] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(
        127,
        a | 64,
        b,
        NEXT.fetch_add(1, Ordering::Relaxed) as u8 | 1,
    );
    let listener = TcpListener::bind((host, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn write_package(dir: &Path, package: &Package, address: SocketAddr) {
    fs::create_dir_all(dir.join("api")).unwrap();
    let link = json!({
        "id": "LINK1", "name": package.name, "package_id": package.id,
        "package_size": package.size(), "package_token": "static",
        "expiry": "2099-01-01T00:00:00.000Z",
    });
    fs::write(dir.join("api/link.json"), link.to_string()).unwrap();
    fs::write(dir.join("api/files.json"), package.listing()).unwrap();
    for entry in &package.entries {
        let url = json!({"url": format!("http://{address}/bytes/{}?signature=x", entry.id)});
        let name = format!("api/address-{}.json", entry.id);
        fs::write(dir.join(name), url.to_string()).unwrap();
        tree::write_file(&dir.join("bytes").join(&entry.id), entry.seed, entry.size);
    }
}

fn config(dir: &Path, address: SocketAddr, limit: Limit, more: &str) -> String {
    let dir = dir.display();
    let limit = limit.map_or(String::new(), |limit| format!("limit_rate {limit};"));
    format!(
        r#"
daemon off;
master_process off;
pid {dir}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
    uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;
    log_format bytes '$status $body_bytes_sent $pipe';
    default_type application/json;
    sendfile on;
    server {{
        listen {address};
        {more}
        location = /v1/links/LINK1 {{ alias {dir}/api/link.json; }}
        location = /v1/packages/PACKAGE1/files {{ alias {dir}/api/files.json; }}
        location ~ ^/v1/packages/PACKAGE1/files/([^/]+)/download$ {{
            alias {dir}/api/address-$1.json;
        }}
        location /bytes/ {{
            alias {dir}/bytes/;
            access_log {dir}/bytes.log bytes;
            {limit}
        }}
    }}
}}
"#
    )
}

#[test]
fn nginx_answers_the_four_calls() {
    use super::content;
    use super::http::{exchange, send};

    let package = Package::new().file("a", 1000);
    let Some(nginx) = Nginx::serving(&package, None) else {
        return;
    };
    let get = |target: &str| send(nginx.address, "GET", target, &[], None).expect(200);
    assert_eq!(get("/v1/links/LINK1?secret=x")["package_id"], "PACKAGE1");
    assert_eq!(get("/v1/packages/PACKAGE1/files")[0]["id"], "F1");
    let url = get("/v1/packages/PACKAGE1/files/F1/download")["url"].clone();
    let target = url.as_str().unwrap().strip_prefix(&nginx.base()).unwrap();
    let range = "Range: bytes=990-\r\nConnection: close";
    let answer = exchange(
        nginx.address,
        &format!("GET {target} HTTP/1.1\r\nHost: x\r\n{range}\r\n\r\n"),
    );
    assert!(answer.starts_with(b"HTTP/1.1 206"));
    assert!(answer.ends_with(&content::bytes(1, 1000)[990..]));
    assert_eq!(nginx.bytes_log(), [(206, 10)]);
}
