"""Writes an OCI image for several machines, as an archive of the image layout (image-spec 1.0), which podman, skopeo and
containerd load, and docker from 25 on:

    oci.py VERSION EPOCH OUT.tar MACHINE=BINARY...

The same input gives the same bytes. What the image is told is what scripts/packaging/Containerfile says.
"""

import datetime
import gzip
import hashlib
import io
import json
import sys
import tarfile

PLATFORMS = {
    "x86_64": {"architecture": "amd64", "os": "linux"},
    "aarch64": {"architecture": "arm64", "os": "linux"},
    "armv7": {"architecture": "arm", "os": "linux", "variant": "v7"},
}
USER = 65532
TYPE = "application/vnd.oci.image."


def entry(archive, epoch, name, data=None, mode=0o755, owner=0):
    info = tarfile.TarInfo(name)
    info.mtime, info.mode, info.uid, info.gid = epoch, mode, owner, owner
    if data is None:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    else:
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def layer(epoch, binary):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        with open(binary, "rb") as file:
            entry(archive, epoch, "haul", file.read())
        entry(archive, epoch, "state", mode=0o1777, owner=USER)
    return raw.getvalue()


class Layout:
    def __init__(self):
        self.blobs = {}

    def put(self, kind, data):
        digest = hashlib.sha256(data).hexdigest()
        self.blobs[digest] = data
        return {"mediaType": TYPE + kind, "digest": f"sha256:{digest}", "size": len(data)}

    def put_json(self, kind, value):
        return self.put(kind, json.dumps(value, sort_keys=True).encode())

    def image(self, machine, binary, version, epoch):
        raw = layer(epoch, binary)
        packed = self.put("layer.v1.tar+gzip", gzip.compress(raw, mtime=0))
        created = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        config = {
            **PLATFORMS[machine],
            "created": created,
            "config": {
                "User": f"{USER}:{USER}",
                "Env": ["HAUL_LISTEN=0.0.0.0:8080", "HAUL_STATE_DIR=/state", "HAUL_TOKEN_FILE=/run/secrets/haul-token"],
                "Entrypoint": ["/haul"],
                "Cmd": ["serve"],
                "Volumes": {"/state": {}},
                "ExposedPorts": {"8080/tcp": {}},
                "Healthcheck": {"Test": ["CMD", "/haul", "health"]},
                "Labels": {"org.opencontainers.image.title": "haul", "org.opencontainers.image.version": version},
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(raw).hexdigest()]},
            "history": [{"created": created, "created_by": "haul"}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": TYPE + "manifest.v1+json",
            "config": self.put_json("config.v1+json", config),
            "layers": [packed],
        }
        return {**self.put_json("manifest.v1+json", manifest), "platform": PLATFORMS[machine]}


def main(version, epoch, out, *binaries):
    epoch, layout = int(epoch), Layout()
    pairs = [binary.split("=", 1) for binary in binaries]
    images = [layout.image(machine, binary, version, epoch) for machine, binary in pairs]
    index = {"schemaVersion": 2, "mediaType": TYPE + "index.v1+json", "manifests": images}
    top = layout.put_json("index.v1+json", index)
    top["annotations"] = {"org.opencontainers.image.ref.name": version}
    with tarfile.open(out, "w", format=tarfile.USTAR_FORMAT) as archive:
        entry(archive, epoch, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}', 0o644)
        listing = {"schemaVersion": 2, "mediaType": TYPE + "index.v1+json", "manifests": [top]}
        entry(archive, epoch, "index.json", json.dumps(listing, sort_keys=True).encode(), 0o644)
        for digest, data in sorted(layout.blobs.items()):
            entry(archive, epoch, f"blobs/sha256/{digest}", data, 0o644)


main(*sys.argv[1:])
