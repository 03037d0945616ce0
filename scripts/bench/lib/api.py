"""The local API, the daemon at rest, and scale; see scripts/bench/api."""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from statistics import median

import measure
from agent import Agent, POLL
from origin import MIB, Origin, Package, link_answer


class Api:
    def __init__(self, options):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="haul-bench-", dir=options.memory)
        self.origin = Origin(f"{self.folder}/origin")
        self.agents = []
        self.figures = {}
        self.costs = {}  # µs a file, by the number of files

    def close(self):
        for agent in self.agents:
            agent.kill()
        self.origin.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def agent(self, state):
        agent = Agent(self.options.haul, f"{self.folder}/{state}", [self.origin.plain], self.options.workers)
        self.agents.append(agent)
        return agent

    def say(self, name, value):
        self.figures[name] = value
        print(f"| {name} | {value} |", flush=True)

    # --- at rest

    def rest(self):
        agents = []
        for number in range(5):
            agents.append(self.agent(f"rest{number}"))
            if number < 4:
                agents[-1].stop()
        self.say("ready after, ms (median of 5)", round(1000 * median(agent.ready_after for agent in agents), 1))
        agent = agents[-1]
        time.sleep(2)
        before, woken = measure.cpu_seconds(agent.pid), wakeups(agent.pid)
        time.sleep(self.options.seconds)
        self.say(f"wakeups in {self.options.seconds} s at rest", wakeups(agent.pid) - woken)
        self.say(f"CPU ms in {self.options.seconds} s at rest", round(1000 * (measure.cpu_seconds(agent.pid) - before)))
        self.say("RSS at rest, MB", round(resident(agent.pid), 1))
        agent.stop()

    # --- records

    def records(self, count):
        """An agent with so many finished downloads of one tiny file."""
        agent = self.agent(f"records{count}")
        self.tiny(1)
        for number in range(count):
            agent.call("POST", "/downloads", {"url": self.link(1), "dst_folder": f"{self.folder}/into/{count}/{number}"})
        while any(one["state"] != "complete" for one in agent.call("GET", "/downloads")):
            time.sleep(0.2)
        return agent

    def requests(self):
        agent = self.records(1000)
        self.say("RSS with 1,000 records, MB", round(resident(agent.pid), 1))
        one = agent.call("GET", "/downloads")[500]["download_id"]
        self.wrk("one record", agent, f"/downloads/{one}")
        self.wrk("list of 1,000", agent, "/downloads")
        self.latencies("one record, one caller", agent, f"/downloads/{one}", 2000)
        self.latencies("list of 1,000, one caller", agent, "/downloads", 100)
        agent.stop()
        agent = self.records(self.options.records)
        self.latencies(f"list of {self.options.records:,}, one caller", agent, "/downloads", 50)
        agent.stop()

    def wrk(self, name, agent, path):
        url = f"http://127.0.0.1:{agent.port}/api/v1{path}"
        said = subprocess.run(["wrk", "-t1", "-c8", f"-d{self.options.seconds}", "--latency", url],
                              check=True, capture_output=True, text=True).stdout
        if "Non-2xx" in said:
            raise measure.Failure(f"wrk on {path}: {said}")
        self.say(f"{name}: requests/s (wrk, 8 connections)", round(float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])))
        self.say(f"{name}: p50 and p99 (wrk)", " and ".join(re.findall(r"^ +(?:50|99)% +(\S+)$", said, re.M)))

    def latencies(self, name, agent, path, count):
        taken = []
        for _ in range(count):
            begun = time.perf_counter()
            agent.call("GET", path)
            taken.append(1000 * (time.perf_counter() - begun))
        taken.sort()
        self.say(f"{name}: median and p99 in ms, JSON read", f"{median(taken):.2f} and {taken[int(0.99 * count)]:.2f}")

    # --- under load

    def busy(self):
        """The same answers while the workers keep every core busy."""
        count = self.options.records
        agent = self.records(count)
        one = agent.call("GET", "/downloads?states=complete")[count // 2]["download_id"]
        paths = {"one record": f"/downloads/{one}", "those that transfer": "/downloads?states=transferring",
                 f"list of {count:,}": "/downloads"}
        package = Package("one", [("large.bin", 4096 * MIB)])
        self.origin.add(package)
        taken = {name: [] for name in paths}
        for round_ in range(3):
            folder = f"{self.folder}/into/busy"
            order = {"url": self.origin.link(package), "dst_folder": folder}
            mine = agent.call("POST", "/downloads", order)["download_id"]
            while agent.call("GET", f"/downloads/{mine}")["state"] == "transferring":
                for name, path in paths.items():
                    for _ in range(1 if path == "/downloads" else 10):
                        begun = time.perf_counter()
                        agent.read(path)
                        taken[name].append(1000 * (time.perf_counter() - begun))
            agent.call("DELETE", f"/downloads/{mine}?remove_files=true")
        for name, times in taken.items():
            times.sort()
            figures = f"{median(times):.2f} and {times[int(0.99 * len(times))]:.2f} ({len(times)} requests)"
            self.say(f"{count:,} records, 8 workers busy: {name}: median and p99 in ms", figures)
        agent.stop()
        self.origin.remove(package)

    # --- scale

    def link(self, files):
        return f"{self.origin.plain}/tiny-{files}?secret=s"

    def tiny(self, files):
        """A package of so many files of one byte, of which only the listing is stored."""
        folder = self.origin.folder
        with open(f"{folder}/links/tiny-{files}", "w") as link:
            json.dump(link_answer(f"tiny-{files}", files), link)
        with open(f"{folder}/lists/tiny-{files}.json", "w") as listing:
            for number in range(files):
                listing.write("[" if number == 0 else ",")
                listing.write(f'{{"id":"t{number:07}","kind":"file","name":"clip{number:07}.bin","path":"reel{number // 1000:04}",'
                              f'"size":1,"last_modified":"2023-11-14T22:13:20.000Z","virus_detected":false}}')
            listing.write("]")

    def scale(self, files):
        self.tiny(files)
        agent = self.agent(f"scale{files}")
        cpu, begun, before = measure.cpu_seconds(agent.pid), time.monotonic(), written(agent.pid)
        agent.call("POST", "/downloads", {"url": self.link(files), "dst_folder": f"{self.folder}/into/scale{files}"})
        listed = None
        while True:
            summary = agent.call("GET", "/downloads")[0]
            if listed is None and summary["files_total"] is not None:
                listed = time.monotonic() - begun
            if summary["state"] != "transferring":
                break
            time.sleep(POLL)
        if summary["state"] != "complete" or summary["files_complete"] != files:
            raise measure.Failure(f"{files} files: {summary}")
        wall, name = time.monotonic() - begun, f"{files:,} files of 1 byte"
        self.costs[files] = 1e6 * wall / files
        self.say(f"{name}: listing read, files/s", round(files / listed))
        self.say(f"{name}: µs a file", round(1e6 * wall / files, 1))
        self.say(f"{name}: CPU µs a file", round(1e6 * (measure.cpu_seconds(agent.pid) - cpu) / files, 1))
        self.say(f"{name}: peak RSS, MB", round(measure.peak_rss(agent.pid), 1))
        self.say(f"{name}: state written, bytes a file", round((written(agent.pid) - before - files - self.listed_bytes(f"scale{files}")) / files, 1))
        begun = time.monotonic()
        agent.call("GET", f"/downloads/{summary['download_id']}")
        self.say(f"{name}: details, s, JSON read", round(time.monotonic() - begun, 2))
        agent.stop()
        shutil.rmtree(f"{self.folder}/into", ignore_errors=True)

    def plot(self):
        """What a file costs in packages of each size, as bars: they should be equally long."""
        most = max(self.costs.values())
        print("\n```\nfiles        µs a file")
        for files, cost in self.costs.items():
            print(f"{files:<11,} {cost:6.1f} {'#' * round(50 * cost / most)}")
        print("```", flush=True)

    def listed_bytes(self, state):
        """The list of the files: it is written once, whatever finishes."""
        folder = f"{self.folder}/{state}/side"
        return sum(os.path.getsize(f"{folder}/{name}") for name in os.listdir(folder))


def written(pid):
    """Bytes that a process has handed to write calls; what goes to sockets is not among them."""
    with open(f"/proc/{pid}/io") as io:
        return next(int(line.split()[1]) for line in io if line.startswith("wchar:"))


def wakeups(pid):
    """How often any thread gave up the CPU to wait: each is a wakeup."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status") as status:
            total += next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
    return total


def resident(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmRSS:"))


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench/api", description="haul's API, at rest and at scale")
    parser.add_argument("--haul", help="the program to measure (default: the static binary of this tree)")
    parser.add_argument("--only", default="rest,requests,busy,scale", help="parts, separated by commas")
    parser.add_argument("--seconds", type=int, default=10, help="how long one measurement takes (default: 10)")
    parser.add_argument("--records", type=int, default=10_000, help="records in the long list (default: 10,000)")
    parser.add_argument("--files", default="1000,10000,100000,1000000", help="sizes of packages, separated by commas")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--memory", default="/dev/shm", help="a tmpfs to work on")
    parser.add_argument("--json", default="bench-api.json", help="where the figures go (default: bench-api.json)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    api = Api(options)
    try:
        api.origin.start()
        print("| figure | value |\n| --- | --- |", flush=True)
        wanted = options.only.split(",")
        if "rest" in wanted:
            api.rest()
        if "requests" in wanted:
            api.requests()
        if "busy" in wanted:
            api.busy()
        if "scale" in wanted:
            for files in options.files.split(","):
                api.scale(int(files))
            api.plot()
    except measure.Failure as failure:
        print(f"scripts/bench/api: {failure}", file=sys.stderr)
        return 1
    finally:
        api.close()
        with open(options.json, "w") as file:
            json.dump(api.figures, file, indent=1, ensure_ascii=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
