"""Writes what the program is made of as a CycloneDX 1.5 document: sbom.py VERSION EPOCH < `cargo metadata` > OUT

Of the crates those that are built in, and their licences; the same input gives the same bytes.
"""

import datetime
import json
import sys

version, epoch = sys.argv[1], int(sys.argv[2])
metadata = json.load(sys.stdin)
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}


def parts(node):
    """What a crate is built of, tests and build scripts apart."""
    kinds = lambda dep: {kind["kind"] for kind in dep["dep_kinds"]}
    return sorted(dep["pkg"] for dep in nodes[node]["deps"] if None in kinds(dep))


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


root = metadata["resolve"]["root"]
built, waiting = set(), [root]
while waiting:
    node = waiting.pop()
    if node not in built:
        built.add(node)
        waiting.extend(parts(node))


def component(package):
    told = {"type": "library", "name": package["name"], "version": package["version"]}
    told["bom-ref"] = told["purl"] = reference(package)
    if package["license"]:
        told["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return told


libraries = sorted((packages[node] for node in built if node != root), key=reference)
when = datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
document = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {
        "timestamp": when,
        "component": {
            "type": "application",
            "name": "haul",
            "version": version,
            "bom-ref": reference(packages[root]),
            "licenses": [{"expression": packages[root]["license"]}],
        },
    },
    "components": [component(package) for package in libraries],
    "dependencies": [
        {"ref": reference(packages[node]), "dependsOn": [reference(packages[part]) for part in parts(node)]}
        for node in sorted(built, key=lambda node: reference(packages[node]))
    ],
}
json.dump(document, sys.stdout, indent=1, sort_keys=True)
print()
