"""The commands of the programs that haul is compared with, as the issue fixes them."""

import os


def curl(job):
    return ["curl", "-q", "-sS", "--fail", "--create-dirs", "--parallel", "--parallel-max", "8", *_curl_trust(job), "-K",
            _curl_list(job, lambda path: f"{job.folder}/{path}")]


def curl_to_nowhere(job):
    return ["curl", "-q", "-sS", "--fail", "--parallel", "--parallel-max", "8", *_curl_trust(job), "-K",
            _curl_list(job, lambda _: "/dev/null")]


def _curl_trust(job):
    return ["--cacert", job.certificate] if job.certificate else []


def _curl_list(job, output):
    name = f"{job.scratch}/curl.txt"
    with open(name, "w") as file:
        for path, url in job.urls:
            file.write(f'url = "{url}"\noutput = "{output(path)}"\n')
    return name


def aria2(job, connections=8):
    name = f"{job.scratch}/aria2.txt"
    with open(name, "w") as file:
        for path, url in job.urls:
            file.write(f"{url}\n  dir={job.folder}\n  out={path}\n")
    trust = [f"--ca-certificate={job.certificate}"] if job.certificate else []
    # Without --file-allocation it would write every large file twice.
    return ["aria2c", "--no-conf", "--quiet", "--file-allocation=none", f"-x{connections}", f"-s{connections}", "-j8", "-k1M",
            *trust, "-i", name]


def aria2_16(job):
    return aria2(job, 16)


def rclone(job):
    trust = ["--ca-cert", job.certificate] if job.certificate else []
    # Preallocated space could not be told from bytes that have come, where only so many seconds are measured.
    timed = ["--local-no-preallocate"] if job.seconds else []
    return ["rclone", "--config", "", "copy", ":http:", job.folder, "--http-url", job.root, "--transfers", "8",
            "--multi-thread-streams", "8", *trust, *timed]


def copy(job):
    return ["cp", "-r", job.source, job.folder]


def bytes_in(folder):
    """The bytes on disk below a folder, holes left out."""
    total = 0
    for at, _, names in os.walk(folder):
        total += sum(os.stat(f"{at}/{name}").st_blocks * 512 for name in names)
    return total
