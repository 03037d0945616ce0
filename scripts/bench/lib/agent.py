"""A running `haul serve`, and one download through its API."""

import ctypes
import http.client
import json
import os
import signal
import subprocess
import threading
import time
from contextlib import contextmanager

from measure import Failure, Sample, cpu_seconds, peak_rss

POLL = 0.02  # seconds between looks at the state
POLL_NEAR_THE_END = 0.004


class Agent:
    def __init__(self, program, state, origins=(), workers=None, ca_file=None, prefix=(), namespace=None):
        self.namespace = namespace
        argv = [*prefix, program, "serve", "--listen", "127.0.0.1:0", "--state-dir", state]
        for base in origins:
            argv += ["--origin", f"{base}={base}/v1"]
        if workers:
            argv += ["--workers", str(workers)]
        if ca_file:
            argv += ["--ca-file", ca_file]
        self.spawned = time.monotonic()
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE)
        ready = self.process.stdout.readline().decode()
        self.ready_after = time.monotonic() - self.spawned
        if not ready.startswith("listening on http://"):
            raise Failure(f"haul did not start: {ready!r}")
        self.port = int(ready.rsplit(":", 1)[1])
        self.pid = self.process.pid
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with inside(namespace):
            self.connection.connect()

    def read(self, path):
        """The bytes of a GET's answer."""
        self.connection.request("GET", f"/api/v1{path}")
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise Failure(f"GET {path}: {answer.status} {content[:500]!r}")
        return content

    def call(self, method, path, body=None):
        """An API call's JSON."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        text = json.dumps(body) if body is not None else None
        try:
            self.connection.request(method, f"/api/v1{path}", text, headers)
            answer = self.connection.getresponse()
        except (ConnectionError, http.client.HTTPException):
            # A connection that rested may have been closed.
            self.connection.close()
            with inside(self.namespace):
                self.connection.connect()
            self.connection.request(method, f"/api/v1{path}", text, headers)
            answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise Failure(f"{method} {path}: {answer.status} {content[:500]!r}")
        return json.loads(content)

    def download(self, link, folder, seconds=None):
        """From POST to the last file in its place, or for so many seconds."""
        cpu, begun = cpu_seconds(self.pid), time.monotonic()
        mine = self.call("POST", "/downloads", {"url": link, "dst_folder": folder})["download_id"]
        while True:
            summary = next(one for one in self.call("GET", "/downloads") if one["download_id"] == mine)
            wall = time.monotonic() - begun
            if summary["state"] == "complete":
                break
            if summary["state"] == "error" or self.process.poll() is not None:
                raise Failure(f"haul: {summary['error']}")
            if seconds is not None and wall >= seconds:
                break
            near = summary["bytes_total"] and summary["bytes_done"] > 0.9 * summary["bytes_total"]
            time.sleep(POLL_NEAR_THE_END if near else POLL)
        return Sample(wall, cpu_seconds(self.pid) - cpu, peak_rss(self.pid), summary["bytes_done"])

    def stop(self):
        self.connection.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                code = self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise Failure("haul did not stop within 10 s") from None
            if code != 0:
                raise Failure(f"haul ended with {code}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def inside(namespace):
    """Runs what follows in a network namespace, on this thread only; None changes nothing."""
    if namespace is None:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    there = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    try:
        if libc.setns(there, 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {namespace}")
        yield
    finally:
        libc.setns(home, 0x40000000)
        os.close(home)
        os.close(there)
