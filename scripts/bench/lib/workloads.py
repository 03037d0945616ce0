"""The workloads: what is transferred, by whom, and what haul is held to. Each exists over https and over http."""

import copy
from dataclasses import dataclass, field

import peers
from origin import MIB, Package, many

GIB = 1 << 30
PEERS = {"aria2": peers.aria2, "curl": peers.curl, "rclone": peers.rclone}
FLOORS = {"floor: curl to /dev/null": peers.curl_to_nowhere, "floor: cp -r": peers.copy}


@dataclass
class Workload:
    number: int
    title: str
    package: Package
    tools: dict = field(default_factory=lambda: dict(PEERS))
    floors: dict = field(default_factory=lambda: dict(FLOORS))
    target: dict = field(default_factory=dict)  # the ratio to the best peer that haul may have, by measure
    against: str = ""  # the peer that the target names; without one it is the best of all
    secure: bool = False
    disk: bool = False
    unsynced: bool = False  # also measure haul with its syncs made to do nothing
    line: tuple = ()  # delay in ms each way and loss in parts per million
    seconds: float = 0  # measure the bytes of so long, rather than the time for all
    defaults: bool = False  # haul with its own number of workers


def all_workloads(scale, schemes, timed=True):
    """Every workload by each of the `schemes`, its sizes and counts multiplied by `scale`. Where nothing is `timed`, the
    large files of the long line are small, and fetched whole."""
    found = []
    for scheme in schemes:
        for workload in _workloads(scale, timed):
            workload = copy.copy(workload)
            workload.secure = scheme == "https"
            workload.title = f"{scheme}, {workload.title}"
            found.append(workload)
    return found


def _workloads(scale, timed):

    def bytes_(size):
        return max(int(size * scale) // MIB, 1) * MIB

    def count(files):
        return max(int(files * scale), 16)

    ahead, behind = {"wall": 0.95, "cpu": 1.0}, {"wall": 0.9, "cpu": 1.1}
    one = [("large.bin", bytes_(4 * GIB))]
    half = [("large.bin", bytes_(2 * GIB))]
    small = many(count(10_000), 16 << 10, 100)
    middle = many(count(200), 5 * MIB, 4)
    far = dict(PEERS) | {"aria2 -x16": peers.aria2_16}
    far_size, seconds = (GIB, 20) if timed else (2 * MIB, 0)
    distant = {"tools": far, "floors": {}, "defaults": True, "against": "aria2 -x16"}
    return [
        Workload(1, f"one file of {one[0][1] // MIB} MiB", Package("one", one), target=ahead),
        Workload(2, f"{len(small)} files of 16 KiB", Package("small", small), target=behind),
        Workload(3, f"{len(middle)} files of 5 MiB", Package("middle", middle), target=ahead),
        Workload(4, f"one file of {half[0][1] // MIB} MiB and {count(5000)} of 16 KiB",
                 Package("mixed", half + many(count(5000), 16 << 10, 50)), target=ahead),
        Workload(5, f"{bytes_(GIB // 2) // MIB} MiB at 20 MB/s a connection",
                 Package("limited", [("large.bin", bytes_(GIB // 2))], limited=True), floors={}, target={"wall": 1.0}),
        Workload(6, "100 ms round trip, 0.1 % loss, one large file", Package("far", [("large.bin", far_size)]),
                 line=(50, 1000), seconds=seconds, target={"rate": 1.1}, **distant),
        Workload(6, "100 ms round trip, no loss, one large file", Package("far-clean", [("large.bin", 2 * far_size)]),
                 line=(50, 0), seconds=seconds, target={"rate": 1.1}, **distant),
        Workload(6, f"100 ms round trip, 0.1 % loss, {count(2000)} files of 16 KiB",
                 Package("far-small", many(count(2000), 16 << 10, 20)), line=(50, 1000), target={"wall": 0.9}, **distant),
        Workload(7, f"one file of {half[0][1] // MIB} MiB", Package("half", half), target=ahead),
        Workload(8, f"disk, {len(small)} files of 16 KiB", Package("disk-small", small), disk=True, unsynced=True),
        Workload(8, f"disk, {len(middle)} files of 5 MiB", Package("disk-middle", middle), disk=True, unsynced=True),
        Workload(8, f"disk, one file of {half[0][1] // MIB} MiB", Package("disk-one", half), disk=True, unsynced=True),
    ]
