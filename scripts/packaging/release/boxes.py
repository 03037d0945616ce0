"""Writes packages for boxes whose package formats are tar archives in tar archives:

    boxes.py openwrt VERSION EPOCH OUT.ipk MACHINE BINARY       for opkg (OpenWrt up to 24.10)
    boxes.py synology VERSION EPOCH OUT.spk MACHINE BINARY      for Package Center (DSM 7)

The same input gives the same bytes. Neither was tried on a real box.
"""

import gzip
import io
import json
import pathlib
import struct
import sys
import tarfile
import zlib

HERE = pathlib.Path(__file__).parent
OPENWRT = {"x86_64": "x86_64", "aarch64": "aarch64_generic", "armv7": "arm_cortex-a7_neon-vfpv4"}
SYNOLOGY = {"x86_64": "x86_64", "aarch64": "armv8", "armv7": "armv7"}
ABOUT = "Download agent for large packages"


def tar(epoch, files, packed=True):
    """An archive of (name, data, mode), with the folders that they are in."""
    raw, folders = io.BytesIO(), set()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data, mode in files:
            for folder in reversed(pathlib.PurePosixPath(name).parents[:-1]):
                if folder not in folders:
                    folders.add(folder)
                    info = tarfile.TarInfo(f"./{folder}")
                    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, epoch
                    archive.addfile(info)
            info = tarfile.TarInfo(f"./{name}" if packed else name)
            info.size, info.mode, info.mtime = len(data), mode, epoch
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), mtime=0) if packed else raw.getvalue()


def openwrt(version, epoch, machine, binary):
    packaging = HERE.parent / "openwrt"
    control = f"""Package: haul
Version: {version}-r1
Architecture: {OPENWRT[machine]}
Installed-Size: {len(binary)}
License: MIT
Section: net
Description: {ABOUT}
"""
    data = [
        ("usr/bin/haul", binary, 0o755),
        ("etc/init.d/haul", (packaging / "haul.init").read_bytes(), 0o755),
        ("etc/config/haul", (packaging / "haul.config").read_bytes(), 0o600),
    ]
    about = [("control", control.encode(), 0o644), ("conffiles", b"/etc/config/haul\n", 0o644)]
    return tar(epoch, [
        ("debian-binary", b"2.0\n", 0o644),
        ("data.tar.gz", tar(epoch, data), 0o644),
        ("control.tar.gz", tar(epoch, about), 0o644),
    ])


def icon(size):
    """A PNG: an arrow down onto a line, white on blue."""
    def is_white(x, y):
        x, y = x / size - 0.5, y / size
        shaft = abs(x) < 0.07 and 0.15 < y < 0.5
        head = 0.42 < y < 0.66 and abs(x) < (0.66 - y)
        return shaft or head or (abs(x) < 0.3 and 0.74 < y < 0.82)

    def pixel(x, y):
        return b"\xff\xff\xff" if is_white(x + 0.5, y + 0.5) else b"\x1f\x5f\xa8"

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + b"".join(pixel(x, y) for x in range(size)) for y in range(size))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def synology(version, epoch, machine, binary):
    info = {
        "package": "haul", "version": f"{version}-0001", "os_min_ver": "7.0-40000", "arch": SYNOLOGY[machine],
        "displayname": "haul", "description": f"{ABOUT}, told what to do by a page and a REST API.",
        "maintainer": "The haul maintainers", "thirdparty": "yes", "startable": "yes", "silent_upgrade": "yes",
        "adminprotocol": "http", "adminport": "8080", "adminurl": "", "checkport": "yes",
    }
    packaging = HERE.parent / "synology"
    scripts = [(f"scripts/{path.name}", path.read_bytes(), 0o755) for path in sorted(packaging.iterdir())]
    return tar(epoch, [
        ("INFO", "".join(f'{name}="{value}"\n' for name, value in info.items()).encode(), 0o644),
        ("package.tgz", tar(epoch, [("bin/haul", binary, 0o755)]), 0o644),
        *scripts,
        ("conf/privilege", json.dumps({"defaults": {"run-as": "package"}}).encode(), 0o644),
        ("PACKAGE_ICON.PNG", icon(64), 0o644),
        ("PACKAGE_ICON_256.PNG", icon(256), 0o644),
        ("LICENSE", (HERE.parents[2] / "LICENSE").read_bytes(), 0o644),
    ], packed=False)


def main(kind, version, epoch, out, machine, binary):
    make = {"openwrt": openwrt, "synology": synology}[kind]
    pathlib.Path(out).write_bytes(make(version, int(epoch), machine, pathlib.Path(binary).read_bytes()))


main(*sys.argv[1:])
