"""Uploads files to an S3 server in several ways, offers them as a package, has an agent download it, and looks whether
each was verified by its entity tag. Arguments: the haul program and a folder to work in."""

import http.server
import json
import logging
import os
import subprocess
import sys
import threading
import time
import urllib.request

import boto3
from boto3.s3.transfer import TransferConfig
from moto.server import ThreadedMotoServer

haul, work = sys.argv[1:]
MIB = 1 << 20
# A name, its bytes, and the size of its parts: none for an upload in one piece.
FILES = [
    ("single", 3 * MIB + 1, None),
    ("small", 1000, None),
    ("one part", 4 * MIB, 5 * MIB),
    ("5 MiB", 11 * MIB + 7, 5 * MIB),
    ("8 MiB", 17 * MIB, 8 * MIB),
    ("16 MiB", 33 * MIB, 16 * MIB),
    ("odd", 15 * MIB, 7 * MIB + 3),
]

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
                  aws_access_key_id="key", aws_secret_access_key="secret")
s3.create_bucket(Bucket="bucket")


def upload(name, size, part):
    content = os.urandom(size)
    if part is None:
        s3.put_object(Bucket="bucket", Key=name, Body=content)
        return
    up = s3.create_multipart_upload(Bucket="bucket", Key=name)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, size, part), 1):
        body = content[start:start + part]
        tag = s3.upload_part(Bucket="bucket", Key=name, UploadId=up, PartNumber=number, Body=body)["ETag"]
        parts.append({"PartNumber": number, "ETag": tag})
    s3.complete_multipart_upload(Bucket="bucket", Key=name, UploadId=up, MultipartUpload={"Parts": parts})


class Package(http.server.BaseHTTPRequestHandler):
    """The calls of the upstream protocol."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/v1/links/L":
            answer = {"id": "L", "name": "S3", "package_id": "P", "package_token": "T", "package_size": 0,
                      "expiry": "2100-01-01T00:00:00.000Z"}
        elif path == "/v1/packages/P/files":
            answer = [{"id": str(index), "kind": "file", "name": name, "path": "", "size": size,
                       "last_modified": "2026-01-01T00:00:00.000Z", "virus_detected": False}
                      for index, (name, size, _) in enumerate(FILES)]
        else:
            name = FILES[int(path.split("/")[5])][0]
            answer = {"url": s3.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": name})}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def ask(target, body=None):
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(agent + target, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=70) as answer:
        return json.load(answer)


for file in FILES:
    upload(*file)
package = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Package)
threading.Thread(target=package.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{package.server_port}"
serve = subprocess.Popen([haul, "serve", "--listen", "127.0.0.1:0", "--state-dir", f"{work}/state",
                          "--origin", f"{base}={base}/v1"], stdout=subprocess.PIPE, text=True)
try:
    agent = serve.stdout.readline().split()[-1] + "/api/v1/downloads"
    made = ask("", {"url": f"{base}/L?secret=s", "dst_folder": f"{work}/in"})
    record = made
    end = time.monotonic() + 120
    while record["state"] == "transferring" and time.monotonic() < end:
        record = ask(f"/{made['download_id']}?wait=30")
finally:
    serve.terminate()
    serve.wait()
    server.stop()
assert record["state"] == "complete", record
found = {row["path"]: row.get("verified") for row in record["files"]}
for name, _, _ in FILES:
    # No uploader has parts of an odd size, so that one proves nothing.
    expected = None if name == "odd" else "md5"
    print(f"{name}: {found[name]}")
    assert found[name] == expected, f"{name}: {found[name]}, expected {expected}"
