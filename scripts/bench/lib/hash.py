"""Checksums of files in memory; see scripts/bench/hash."""

import argparse
import os
import shutil
import subprocess
import tempfile
from statistics import median

import measure

# Of each kind of list: its name, the program that writes and checks it, and what checks one that rclone can.
LISTS = {
    "sha256": ("SHA256SUMS", ["sha256sum"]),
    "xxh64": ("XXH64SUMS", ["xxhsum", "-H1"]),
    "blake3": ("B3SUMS", ["b3sum"]),
}


def write_files(folder, count, size):
    for number in range(count):
        with open(f"{folder}/{number}.bin", "wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))


def commands(haul, folder, kind):
    """What checks the list, by the name of the program; several at once as a script would have it."""
    name, program = LISTS[kind]
    processors = os.cpu_count()
    each = f"xargs -d '\\n' -a {name} -n1 -P{processors} sh -c 'echo \"$1\" | {' '.join(program)} -c - >/dev/null' _"
    told = {
        "haul": [haul, "verify", folder],
        program[0]: ["sh", "-c", f"{' '.join(program)} -c {name} >/dev/null"],
        f"{program[0]} x{processors}": ["sh", "-c", each],
    }
    if kind == "sha256":
        told["rclone"] = ["sh", "-c", f"rclone hashsum sha256 --checkers {processors} . >/dev/null"]
    return told


def run(options, label, count, size):
    folder = tempfile.mkdtemp(prefix="haul-bench-", dir=options.memory)
    try:
        write_files(folder, count, size)
        os.chdir(folder)
        names = sorted(os.listdir(folder))
        for kind, (name, program) in LISTS.items():
            with open(name, "w") as file:
                subprocess.run([*program, *names], stdout=file, check=True)
            compare(options, f"{kind}, {label}", commands(options.haul, folder, kind))
            os.remove(name)
    finally:
        os.chdir("/")
        shutil.rmtree(folder)


def compare(options, label, told):
    samples = {program: [] for program in told}
    for _ in range(options.rounds):
        for program, command in told.items():
            samples[program].append(measure.run(command))
    wall = {program: median(one.wall for one in runs) for program, runs in samples.items()}
    cpu = {program: median(one.cpu for one in runs) for program, runs in samples.items()}
    peers = [program for program in told if program != "haul"]
    best = min(peers, key=wall.get)
    for program, runs in samples.items():
        times = sorted(one.wall for one in runs)
        print(f"| {label} | {program} | {wall[program]:.2f} ({times[0]:.2f} to {times[-1]:.2f}) | {cpu[program]:.2f} |", flush=True)
    print(f"| {label} | haul to {best} | {wall['haul'] / wall[best]:.2f} | {cpu['haul'] / cpu[best]:.2f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench/hash")
    parser.add_argument("--haul", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=4096, help="bytes that are read, in MiB")
    parser.add_argument("--memory", default="/dev/shm", help="a folder in memory")
    options = parser.parse_args()
    print("| checksum | program | wall s, median (spread) | CPU s |\n| --- | --- | --- | --- |")
    run(options, "8 files", 8, (options.mib >> 3) << 20)
    run(options, "1 file", 1, options.mib << 20)


main()
