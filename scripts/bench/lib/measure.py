"""What a run of a program costs: wall clock, CPU of its whole tree, peak resident memory, system calls."""

import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
# A peak is read from a counter of the kernel's that only grows; what is missed is the growth since the last look.
LOOK_EVERY_MS = 10


@dataclass
class Sample:
    wall: float  # seconds
    cpu: float  # seconds, user and system
    rss: float  # peak, MB of 10^6 bytes
    bytes: int = 0  # for workloads that count bytes in a given time

    @property
    def rate(self):
        """Bytes a second."""
        return self.bytes / self.wall


class Failure(Exception):
    """A program crashed or brought a wrong byte."""


def peak_rss(pid):
    """VmHWM in MB; None once the process is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024 / 1e6
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def cpu_seconds(pid):
    """User and system time of a living process and of the children that it waited for."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def run(argv, seconds=None, env=None):
    """Runs a program to its end, or for so many seconds.

    wait4's own maximum is of no use: it includes what this interpreter held before the exec.
    """
    with open(os.devnull) as nothing, _Errors() as errors:
        begun = time.monotonic()
        child = subprocess.Popen(argv, stdin=nothing, stdout=subprocess.DEVNULL, stderr=errors.file, env=env)
        peak = _watch(child.pid, None if seconds is None else begun + seconds)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0 and seconds is None:
            raise Failure(f"{argv[0]} ended with {child.returncode}: {errors.text()}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, peak)


def _watch(pid, until):
    """Follows a child until it ends (it is left for wait4) or is stopped; its peak memory."""
    peak = 0.0
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        while not poll.poll(LOOK_EVERY_MS):
            peak = max(peak, peak_rss(pid) or 0.0)
            if until is not None and time.monotonic() >= until:
                os.kill(pid, signal.SIGKILL)
                until = None
    finally:
        os.close(handle)
    return peak


class _Errors:
    """What a program writes to stderr, for the message where it fails."""

    def __enter__(self):
        self.file = os.fdopen(os.memfd_create("stderr"), "w+b")
        return self

    def __exit__(self, *_):
        self.file.close()

    def text(self):
        self.file.seek(0)
        return self.file.read()[-2000:].decode(errors="replace").strip()


def system_calls(report):
    """Reads `strace -c`: the total, and the most frequent by name."""
    calls = {}
    with open(report) as lines:
        for line in lines:
            words = line.split()
            # time, seconds, usecs/call, calls, [errors], name
            if len(words) in (5, 6) and words[3].isdigit() and words[-1] not in ("total", "syscall"):
                calls[words[-1]] = int(words[3])
    most = sorted(calls.items(), key=lambda pair: -pair[1])
    return {"total": sum(calls.values()), "most": dict(most[:16])}
