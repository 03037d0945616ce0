"""What a kill -9 costs. See scripts/bench/kill."""

import argparse
import filecmp
import os
import re
import shutil
import tempfile
import time

from agent import Agent
from measure import Failure
from origin import MIB, Origin, Package, many

BYTES_SENT = re.compile(r'"GET /bytes/[^"]*" \d+ (\d+)')


class LoggingOrigin(Origin):
    """Notes how many bytes it sent for each request."""

    def _config(self):
        return super()._config().replace("access_log off;", f"access_log {self.folder}/access.log combined;")

    def sent(self):
        with open(f"{self.folder}/access.log") as log:
            return sum(int(match[1]) for match in map(BYTES_SENT.search, log) if match)


def summary(agent, download):
    return next(one for one in agent.call("GET", "/downloads") if one["download_id"] == download)


def wait(agent, download, done):
    """Until so many bytes are in place, or the end."""
    while True:
        now = summary(agent, download)
        if now["state"] == "error":
            raise Failure(now["error"])
        if now["state"] == "complete" or now["bytes_done"] >= done:
            return now
        time.sleep(0.005)


def same(source, copy):
    for folder, _, names in os.walk(source):
        other = os.path.join(copy, os.path.relpath(folder, source))
        _, different, missing = filecmp.cmpfiles(folder, other, names, shallow=False)
        if different or missing or sorted(os.listdir(folder)) != sorted(os.listdir(other)):
            raise Failure(f"{other} differs: {different[:3]} {missing[:3]}")


def run(haul, folder, package, kills):
    origin = LoggingOrigin(f"{folder}/origin")
    origin.add(package)
    origin.start()
    copy, state = f"{folder}/copy", f"{folder}/state"
    agent = Agent(haul, state, [origin.plain])
    lost, download = [], None
    try:
        download = agent.call("POST", "/downloads", {"url": origin.link(package), "dst_folder": copy})["download_id"]
        for kill in range(1, kills + 1):
            before = wait(agent, download, package.size * kill // (kills + 1))
            agent.process.kill()
            agent.process.wait()
            agent = Agent(haul, state, [origin.plain])
            after = summary(agent, download)
            lost.append((before["bytes_done"] - after["bytes_done"], agent.ready_after))
        wait(agent, download, package.size + 1)
        while summary(agent, download)["state"] != "complete":
            time.sleep(0.01)
    finally:
        agent.process.kill()
        agent.process.wait()
        origin.stop()
    same(origin.source(package), copy)
    twice = origin.sent() - package.size
    print(f"{package.name}: every byte equal after {kills} kills")
    print(f"  sent twice by the origin, sockets' buffers included: {twice / MIB:.1f} MiB of {package.size / MIB:.0f}")
    for behind, ready in lost:
        print(f"  after the kill {max(behind, 0) / MIB:.1f} MiB less than said before it; ready in {ready * 1000:.0f} ms")
    shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--haul", required=True)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--folder", default="/dev/shm")
    options = parser.parse_args()
    large = Package("large", [("large.bin", int(4096 * MIB * options.scale))])
    small = Package("small", many(int(10_000 * options.scale), 16 << 10, 100))
    for package in (large, small):
        run(options.haul, tempfile.mkdtemp(prefix="haul-kill.", dir=options.folder), package, options.kills)


if __name__ == "__main__":
    main()
