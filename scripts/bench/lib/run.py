"""Runs the workloads in rounds; see scripts/bench/run."""

import argparse
import datetime
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import measure
import peers
import report
import workloads
from agent import Agent
from origin import Origin

HERE = os.path.dirname(os.path.abspath(__file__))
SYNCS = "sync,syncfs,fsync,fdatasync,sync_file_range"
SERVER, CLIENT = "haul-bench-s", "haul-bench-c"
SERVER_ADDRESS = "10.79.0.1"


@dataclass
class Job:
    """One transfer, as the peers' commands need it."""

    urls: list
    root: str
    source: str
    folder: str
    scratch: str
    certificate: str
    seconds: float


class Bench:
    def __init__(self, options):
        self.options = options
        self.fast = tempfile.mkdtemp(prefix="haul-bench-", dir=options.memory)
        self.disk = tempfile.mkdtemp(prefix="haul-bench-", dir=options.disk)
        self.origins = []

    def close(self):
        self.close_origins()
        for folder in (self.fast, self.disk):
            shutil.rmtree(folder, ignore_errors=True)

    def close_origins(self):
        for origin in self.origins:
            origin.stop()
        if any(origin.prefix for origin in self.origins):
            subprocess.run([f"{HERE}/../line", "down"], check=False)
        self.origins.clear()

    def workload(self, workload):
        """All rounds of one workload."""
        origin = self.origin(workload)
        base = origin.secure if workload.secure else origin.plain
        origin.add(workload.package, base)
        programs = self.programs(workload, origin, base)
        samples = {name: [] for name in programs}
        for number in range(self.options.rounds):
            for name, once in programs.items():
                samples[name].append(once([]))
                if number == 0 and not name.startswith("floor") and not workload.seconds:
                    self.compare(origin.source(workload.package), self.folder(workload), name)
                self.sweep(workload)
        calls = {}
        if self.options.strace:
            for name, once in programs.items():
                calls[name] = self.count_calls(once)
                self.sweep(workload)
        origin.remove(workload.package)
        return report.result(workload, samples, calls)

    def programs(self, workload, origin, base):
        """By name, what runs a program once; the argument is put before its command."""
        job = self.job(workload, origin, base)
        can_trace = shutil.which("strace") and succeeds(["strace", "-qq", "-o", os.devnull, "true"])
        enter = ["ip", "netns", "exec", CLIENT] if workload.line else []
        found = {"haul": lambda before: self.haul(workload, origin, base, before)}
        if workload.unsynced and can_trace:
            found["haul without syncs"] = lambda before: self.haul(workload, origin, base, [
                *before, "strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", os.devnull, "-e", f"trace={SYNCS}", "-e", f"inject={SYNCS}:retval=0"])
        for name, command in (workload.tools | workload.floors).items():
            if not shutil.which(command(job)[0]):
                continue
            found[name] = lambda before, command=command: self.peer(job, enter, before, command)
        if self.options.tools:
            found = {name: once for name, once in found.items() if any(word in name for word in self.options.tools)}
        return found

    def haul(self, workload, origin, base, before):
        state = tempfile.mkdtemp(prefix="state-", dir=self.disk if workload.disk else self.fast)
        workers = None if workload.defaults else self.options.workers
        enter = ["ip", "netns", "exec", CLIENT] if workload.line else []
        agent = Agent(self.options.haul, state, [base], workers, origin.certificate if workload.secure else None,
                      [*enter, *before], CLIENT if workload.line else None)
        try:
            sample = agent.download(origin.link(workload.package, base), self.folder(workload), workload.seconds or None)
            agent.stop()
        finally:
            agent.kill()
            shutil.rmtree(state, ignore_errors=True)
        return sample

    def peer(self, job, enter, before, command):
        sample = measure.run([*enter, *before, *command(job)], job.seconds or None)
        if job.seconds:
            sample.bytes = peers.bytes_in(job.folder)
        return sample

    def job(self, workload, origin, base):
        urls = [(path, origin.url(workload.package, path, base)) for path, _ in workload.package.files]
        return Job(urls, origin.url(workload.package, "", base), origin.source(workload.package), self.folder(workload),
                   self.fast, origin.certificate if workload.secure else "", workload.seconds)

    def folder(self, workload):
        return f"{self.disk if workload.disk else self.fast}/arrived"

    def sweep(self, workload):
        shutil.rmtree(self.folder(workload), ignore_errors=True)
        if workload.disk:
            # What one leaves to be written must not slow the next.
            os.sync()

    def origin(self, workload):
        """A running origin; for a long line it stands at the line's other end."""
        self.close_origins()
        if workload.line:
            subprocess.run([f"{HERE}/../line", "up", *map(str, workload.line)], check=True, stdout=subprocess.DEVNULL)
            origin = Origin(f"{self.fast}/origin-far", SERVER_ADDRESS, ["ip", "netns", "exec", SERVER])
        else:
            origin = Origin(f"{self.fast}/origin")
        self.origins.append(origin)
        origin.start()
        return origin

    def count_calls(self, once):
        counted = f"{self.fast}/strace.txt"
        once(["strace", "-D", "-c", "-f", "-qq", "-o", counted])
        for _ in range(100):
            # The tracer writes after the program has ended.
            if os.path.exists(counted) and "total" in open(counted).read():
                break
            time.sleep(0.05)
        found = measure.system_calls(counted)
        os.remove(counted)
        return found

    def compare(self, source, folder, name):
        """Checks that a program brought every file, and every byte of it."""
        wanted, found = checksums(source), checksums(folder)
        if wanted != found:
            odd = sorted(set(wanted.items()) ^ set(found.items()))[:5]
            raise measure.Failure(f"{name}: what arrived differs from the source: {odd}")


def checksums(folder):
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = f"{at}/{name}"
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.file_digest(file, "sha1").hexdigest()
    return found


def succeeds(argv):
    return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def why_no_line():
    """What a long line lacks on this machine; None where one can be made."""
    if os.geteuid() != 0:
        return "it needs root"
    for program in ("ip", "gcc"):
        if not shutil.which(program):
            return f"it needs {program}"
    try:
        if not succeeds([f"{HERE}/../line", "up", "1", "0"]):
            return "no network namespaces can be made here"
    finally:
        subprocess.run([f"{HERE}/../line", "down"], check=False)
    return None


def machine():
    with open("/proc/cpuinfo") as info:
        models = [line.split(":", 1)[1].strip() for line in info if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release(),
            "date": datetime.date.today().isoformat()}


def has_room(folder):
    """Whether a smoke run fits; a container's /dev/shm is often of 64 MB."""
    return os.path.isdir(folder) and shutil.disk_usage(folder).free > 1 << 30


def read_options():
    parser = argparse.ArgumentParser(prog="scripts/bench/run", description="haul against aria2, curl and rclone")
    parser.add_argument("--haul", help="the program to measure (default: the static binary of this tree)")
    parser.add_argument("--only", default="1,2,3,4,5,6,7,8", help="workloads, separated by commas")
    parser.add_argument("--scheme", default="https,http", help="https, http or both (default: both)")
    parser.add_argument("--tools", default="", help="only programs in whose name one of these words is, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies sizes and numbers of files")
    parser.add_argument("--seconds", type=float, help="how long workload 6 counts the large file's bytes (default: 20)")
    parser.add_argument("--workers", type=int, default=8, help="haul's, but in workload 6 (default: 8)")
    parser.add_argument("--strace", action="store_true", help="one more round, to count system calls")
    parser.add_argument("--smoke", action="store_true",
                        help="everything small and once, on what is installed; only a crash or a wrong byte fails")
    parser.add_argument("--memory", default="/dev/shm", help="a tmpfs, for everything but workload 8")
    parser.add_argument("--disk", default=os.environ.get("TMPDIR", "/var/tmp"), help="a disk, for workload 8")
    parser.add_argument("--json", help="where the figures go (default: target/bench.json, nowhere with --smoke)")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.scale = 1, min(options.scale, 1 / 64)
        if not has_room(options.memory):
            options.memory = options.disk
    elif options.json is None:
        options.json = "target/bench.json"
    options.tools = [word for word in options.tools.split(",") if word]
    return options


def main():
    options = read_options()
    # A signal ends the run through the same door as an error.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = {int(word) for word in options.only.split(",")}
    bench = Bench(options)
    outcomes = []
    try:
        no_line = why_no_line() if 6 in wanted else None
        for workload in workloads.all_workloads(options.scale, options.scheme.split(","), timed=not options.smoke):
            if workload.number not in wanted:
                continue
            if workload.line and no_line:
                print(f"{workload.number}. {workload.title}: left out, {no_line}", flush=True)
                continue
            if workload.seconds and options.seconds:
                workload.seconds = options.seconds
            outcomes.append(bench.workload(workload))
            print((report.line if options.smoke else report.table)(outcomes[-1]), flush=True)
    except measure.Failure as failure:
        print(f"scripts/bench/run: {failure}", file=sys.stderr)
        return 1
    finally:
        bench.close()
        if options.json:
            with open(options.json, "w") as file:
                json.dump({"machine": machine(), "rounds": options.rounds, "scale": options.scale, "workloads": outcomes}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
