"""Nodes with a line of their own each bring one package into one folder; see scripts/bench/shards."""

import argparse
import filecmp
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time

ORIGIN = "haul-shards-o"
ADDRESS = "10.81.0.1"
PORT = 9090
MIB = 1 << 20


def run(*words):
    subprocess.run(words, check=True)


def node(number):
    return f"haul-shards-{number}"


def remove_lines(count):
    for name in [ORIGIN, *(node(number) for number in range(count))]:
        subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL)


def make_lines(count, mbit):
    """An origin that all nodes reach at one address, each by a line that carries so much towards it."""
    remove_lines(count)
    run("ip", "netns", "add", ORIGIN)
    run("ip", "-n", ORIGIN, "link", "set", "lo", "up")
    run("ip", "-n", ORIGIN, "address", "add", f"{ADDRESS}/32", "dev", "lo")
    for number in range(count):
        run("ip", "netns", "add", node(number))
        run("ip", "link", "add", "line", "netns", node(number), "type", "veth",
            "peer", "name", f"line{number}", "netns", ORIGIN)
        for space, name, host in [(ORIGIN, f"line{number}", 1), (node(number), "line", 2)]:
            run("ip", "-n", space, "address", "add", f"10.80.{number}.{host}/24", "dev", name)
            run("ip", "-n", space, "link", "set", name, "up")
        run("ip", "-n", node(number), "link", "set", "lo", "up")
        run("ip", "-n", node(number), "route", "add", ADDRESS, "via", f"10.80.{number}.1")
        run("tc", "-n", ORIGIN, "qdisc", "add", "dev", f"line{number}", "root", "tbf",
            "rate", f"{mbit}mbit", "burst", "256k", "latency", "50ms")


def write(path, size, dice):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        for at in range(0, size, MIB):
            file.write(dice.randbytes(min(MIB, size - at)))


def packages(folder, scale):
    """The packages by name; each with its files' sizes."""
    large, many = int(2048 * MIB * scale), max(int(5000 * scale), 1)
    made = {"one file": {"large.mov": large},
            "small files": {f"{n // 100:02}/{n:04}": 256 << 10 for n in range(many)}}
    dice = random.Random(1)
    for name, files in made.items():
        for path, size in files.items():
            write(f"{folder}/{name}/{path}", size, dice)
    return made


def fetch(haul, link, work, of):
    """Has so many nodes bring a package; returns the seconds until the last one has ended."""
    running, begun = [], time.monotonic()
    for number in range(of):
        shard = ["--shard", f"{number}/{of}"] if of > 1 else []
        running.append(subprocess.Popen(
            ["ip", "netns", "exec", node(number), haul, "get", link, f"{work}/in", "--quiet", *shard,
             "--origin", f"http://{ADDRESS}:{PORT}=http://{ADDRESS}:{PORT}/v1",
             "--state-dir", f"{work}/state"]))
    codes = [one.wait() for one in running]
    took = time.monotonic() - begun
    assert codes == [0] * of, codes
    return took


def compare(source, copy, files):
    found = sum(len(names) for _, _, names in os.walk(copy))
    assert found == len(files), f"{found} files of {len(files)}"
    _, wrong, missing = filecmp.cmpfiles(source, copy, files, shallow=False)
    assert not wrong and not missing, (wrong[:3], missing[:3])


def measure(haul, source, files, work, options):
    share = subprocess.Popen(
        ["ip", "netns", "exec", ORIGIN, haul, "share", source, "--listen", f"0.0.0.0:{PORT}",
         "--public-url", f"http://{ADDRESS}:{PORT}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        link = share.stdout.readline().strip()
        times = {1: [], options.nodes: []}
        for _ in range(options.rounds):
            for of in times:
                times[of].append(fetch(haul, link, work, of))
                compare(source, f"{work}/in", files)
                shutil.rmtree(f"{work}/in")
                shutil.rmtree(f"{work}/state")
        return times
    finally:
        share.terminate()
        share.wait()


def told(times):
    return f"{statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--haul", required=True)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mbit", type=int, default=200)
    parser.add_argument("--scale", type=float, default=1)
    options = parser.parse_args()
    haul = os.path.realpath(options.haul)
    work = tempfile.mkdtemp(prefix="haul-shards-")
    try:
        make_lines(options.nodes, options.mbit)
        for name, files in packages(f"{work}/packages", options.scale).items():
            times = measure(haul, f"{work}/packages/{name}", list(files), work, options)
            one, all_ = (times[of] for of in (1, options.nodes))
            ratio = statistics.median(one) / statistics.median(all_)
            print(f"{name}: {len(files)} of {sum(files.values()) / MIB:.0f} MiB in all: one node {told(one)}, "
                  f"{options.nodes} nodes {told(all_)}: {ratio:.2f} of {options.nodes}", flush=True)
    finally:
        remove_lines(options.nodes)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
