"""The origin: files made on the spot, and an nginx that serves them and the upstream calls that lead to them.

Nothing but nginx is in the path. A package is a link (JSON), a listing (JSON), an address per file (JSON) and the bytes.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field

MIB = 1 << 20
MODIFIED = 1_700_000_000  # every source file's mtime, 2023-11-14T22:13:20Z
_STOCK = random.Random(4).randbytes(2 * MIB)


@dataclass
class Package:
    """What one workload transfers."""

    name: str
    files: list = field(default_factory=list)  # (path below the package, size)
    limited: bool = False  # served at 20 MB/s a connection

    @property
    def size(self):
        return sum(size for _, size in self.files)


def many(count, size, folders, prefix="f"):
    """So many files of one size in so many folders, listed folder by folder, as whoever walks a tree finds them."""
    return [(f"dir{number * folders // count:03}/{prefix}{number:06}.bin", size) for number in range(count)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Origin:
    """An nginx in a folder of its own. `host` is where clients reach it; `prefix` is put before its command."""

    def __init__(self, folder, host="127.0.0.1", prefix=()):
        self.folder, self.host, self.prefix = folder, host, list(prefix)
        self.port, self.secure_port = free_port(), free_port()
        self.nginx = None
        for name in ("bytes", "links", "lists", "addresses", "temp"):
            os.makedirs(f"{folder}/{name}", exist_ok=True)

    @property
    def plain(self):
        return f"http://{self.host}:{self.port}"

    @property
    def secure(self):
        return f"https://{self.host}:{self.secure_port}"

    @property
    def certificate(self):
        return f"{self.folder}/cert.pem"

    def source(self, package):
        return f"{self.folder}/bytes/{package.name}"

    def url(self, package, path="", base=None):
        place = "limited" if package.limited else "bytes"
        return f"{base or self.plain}/{place}/{package.name}/{path}"

    def link(self, package, base=None):
        return f"{base or self.plain}/{package.name}?secret=s"

    def add(self, package, base=None):
        """Makes a package's files and the answers that lead to them."""
        base = base or self.plain
        write_files(self.source(package), package.files)
        listing = []
        os.makedirs(f"{self.folder}/addresses/{package.name}", exist_ok=True)
        for number, (path, size) in enumerate(package.files):
            folder, _, name = path.rpartition("/")
            listing.append({"id": f"i{number}", "kind": "file", "name": name, "path": folder, "size": size,
                            "last_modified": "2023-11-14T22:13:20.000Z", "virus_detected": False})
            self._write(f"addresses/{package.name}/i{number}.json", {"url": self.url(package, path, base)})
        self._write(f"lists/{package.name}.json", listing)
        self._write(f"links/{package.name}", link_answer(package.name, package.size))

    def _write(self, path, value):
        with open(f"{self.folder}/{path}", "w") as file:
            json.dump(value, file, separators=(",", ":"))

    def remove(self, package):
        shutil.rmtree(self.source(package), ignore_errors=True)
        shutil.rmtree(f"{self.folder}/addresses/{package.name}", ignore_errors=True)

    def start(self):
        make_certificate(self.folder, self.host)
        with open(f"{self.folder}/nginx.conf", "w") as config:
            config.write(self._config())
        argv = [*self.prefix, "nginx", "-p", self.folder, "-c", f"{self.folder}/nginx.conf", "-e", f"{self.folder}/error.log"]
        self.nginx = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if os.path.exists(f"{self.folder}/nginx.pid") and os.path.getsize(f"{self.folder}/nginx.pid"):
                return
            if self.nginx.poll() is not None:
                break
            time.sleep(0.05)
        with open(f"{self.folder}/error.log") as log:
            raise RuntimeError(f"nginx did not start: {log.read()}")

    def stop(self):
        if self.nginx and self.nginx.poll() is None:
            self.nginx.terminate()
            self.nginx.wait()

    def _config(self):
        user = "user root;" if os.geteuid() == 0 else ""
        temp = "\n".join(f"  {kind}_temp_path {self.folder}/temp/{kind};"
                         for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        return f"""{user}
daemon off;
worker_processes auto;
pid {self.folder}/nginx.pid;
error_log {self.folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
{temp}
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 600;
  default_type application/octet-stream;
  server {{
    listen {self.host}:{self.port};
    listen {self.host}:{self.secure_port} ssl http2;
    ssl_certificate {self.folder}/cert.pem;
    ssl_certificate_key {self.folder}/key.pem;
    location /v1/links/ {{ alias {self.folder}/links/; }}
    location ~ ^/v1/packages/([^/]+)/files$ {{ alias {self.folder}/lists/$1.json; }}
    # Packages of any number of files of one byte, for which only a listing is made.
    location ~ ^/v1/packages/tiny-([^/]+)/files/([^/]+)/download$ {{ return 200 '{{"url":"{self.plain}/tiny/$2"}}'; }}
    location /tiny/ {{ return 200 x; }}
    location ~ ^/v1/packages/([^/]+)/files/([^/]+)/download$ {{ alias {self.folder}/addresses/$1/$2.json; }}
    location /bytes/ {{ alias {self.folder}/bytes/; autoindex on; }}
    location /limited/ {{ alias {self.folder}/bytes/; autoindex on; limit_rate 20m; }}
  }}
}}
"""


def link_answer(package_id, size):
    return {"id": package_id, "name": package_id, "package_id": package_id, "package_size": size, "package_token": "t",
            "expiry": "2099-01-01T00:00:00Z", "sender_email": "a@example.com", "recipient_email": "b@example.com"}


def make_certificate(folder, host):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=haul-bench", "-addext", f"subjectAltName=IP:{host}", "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_files(root, files):
    """Files of which no two MiB are alike, so that a byte in a wrong place shows."""
    for folder in {os.path.dirname(path) for path, _ in files}:
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for number, (path, size) in enumerate(files):
        with open(f"{root}/{path}", "wb", buffering=0) as file:
            for at in range(0, size, MIB):
                start = (number * 7919 + at // MIB * 104_729) % MIB
                head = number.to_bytes(4, "big") + at.to_bytes(8, "big")
                file.write((head + _STOCK[start:start + MIB])[:min(MIB, size - at)])
        os.utime(f"{root}/{path}", (MODIFIED, MODIFIED))
