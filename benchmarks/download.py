"""How fast one large download is while others hold connections: `python -m benchmarks.download [MIB [RUNS]]`.

The yardstick is nginx with `sendfile` on the very same file, in turns, in the same run. Meanwhile 50 clients read so slowly from the
server under test that their downloads never end. Two readers: one that takes the bytes as programs do (copied out of the kernel), and
one that has the kernel throw them away, so that nothing but the server is measured. Printed too: what it costs the server in CPU seconds
and resident memory, and how long /healthz takes meanwhile.

Figures of one machine mean little; the ratio is what can be compared. Goal: at least 0.7 of nginx.
"""

import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.publish import make_file
from tests.support.platform import Platform, free_port, write_release

MIB = 1 << 20
SLOW_CLIENTS = 50
READ_BYTES = 1 << 20
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error; worker_processes 1; {user}
events {{ worker_connections 512; }}
http {{
  sendfile on; tcp_nopush on; access_log off; types {{ }} default_type application/octet-stream;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
  scgi_temp_path {folder}/s;
  server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""
SLOW = """
import selectors, socket, sys, time
port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
clients = []
for _ in range(count):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    client.connect(("127.0.0.1", port))
    client.sendall(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n".encode())
    clients.append(client)
for client in clients:
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
print("ready", flush=True)
while True:
    for client in clients:
        client.recv(8192)
    time.sleep(0.25)
"""


def fetch(port: int, path: str, *, thrown_away: bool) -> float:
    """MiB/s of one download."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 200"), head
        length = int(re.search(rb"content-length: (\d+)", head.lower()).group(1))
        buffer = bytearray(READ_BYTES)
        flags = socket.MSG_TRUNC if thrown_away else 0
        started, got = time.perf_counter(), 0
        while got < length:
            piece = client.recv_into(buffer, READ_BYTES, flags)
            assert piece, f"{got} of {length}"
            got += piece
        return length / MIB / (time.perf_counter() - started)


@contextmanager
def slow_clients(port: int, path: str):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(port), path, str(SLOW_CLIENTS)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline().strip() == b"ready"
        yield
        assert process.poll() is None, "the slow clients have ended"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def nginx(folder: Path, root: Path):
    port = free_port()
    folder.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "conf").write_text(NGINX.format(folder=folder, port=port, root=root, user=user))
    process = subprocess.Popen(["nginx", "-c", str(folder / "conf")])
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


def health_milliseconds(port: int, samples: int = 50) -> float:
    """The slowest of 50, with the slow clients connected."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        client.get("/healthz")
        times = []
        for _ in range(samples):
            started = time.perf_counter()
            client.get("/healthz")
            times.append((time.perf_counter() - started) * 1000)
    return max(times)


def main(mib: int = 1024, runs: int = 5) -> None:
    with tempfile.TemporaryDirectory(prefix="distd-bench-") as name:
        folder = Path(name)
        platform_folder = folder / "platform"
        with Platform(platform_folder) as platform:
            server = platform.start("serve")
            worker = platform.start("worker")
            release = write_release(
                folder / "release",
                {},
                app={"slug": "big", "name": "Big"},
                version="1.0",
                channel="stable",
                artifacts=[{"path": "big.bin", "platform": "any"}],
            )
            make_file(release / "big.bin", mib)
            answer = platform.publish(release, timeout=600)
            assert answer.code == 0, answer.err
            assert platform.dist("app", "set", "big", "--access", "public").code == 0
            platform.stop(worker)
            artifact = answer.json["artifacts"][0]
            shutil.rmtree(release)
            blob = next((platform.data / "blobs").rglob(artifact["sha256"]))
            path = artifact["download_url"].removeprefix(platform.url)
            with nginx(folder / "nginx", blob.parent) as port:
                result = compare((platform.port, path, server.pid), (port, f"/{blob.name}"), runs)
    print(json.dumps(result, indent=2))


def compare(ours: tuple[int, str, int], theirs: tuple[int, str], runs: int) -> dict:
    port, path, pid = ours
    result = {}
    before = resident_mib(pid)
    for reader, thrown_away in (("copied", False), ("thrown away", True)):
        speeds = {"distd": [], "nginx": []}
        spent = []
        for number in range(runs + 1):
            with slow_clients(port, path):
                used = cpu_seconds(pid)
                speed = fetch(port, path, thrown_away=thrown_away)
                used = cpu_seconds(pid) - used
            with slow_clients(*theirs):
                yardstick = fetch(*theirs, thrown_away=thrown_away)
            if number:  # the first round fills the page cache
                speeds["distd"].append(speed)
                speeds["nginx"].append(yardstick)
                spent.append(used)
            print(f"{reader}: distd {speed:.0f} MiB/s, nginx {yardstick:.0f} MiB/s", file=sys.stderr)
        ratios = [mine / other for mine, other in zip(speeds["distd"], speeds["nginx"], strict=True)]
        result[reader] = {
            "distd_mib_s": round(statistics.median(speeds["distd"])),
            "nginx_mib_s": round(statistics.median(speeds["nginx"])),
            "ratio": round(statistics.median(ratios), 2),
            "ratio_of_each_run": [round(ratio, 2) for ratio in ratios],
            "distd_cpu_seconds": round(statistics.median(spent), 2),
        }
    with slow_clients(port, path):
        result["healthz_slowest_ms"] = round(health_milliseconds(port), 1)
        result["resident_growth_mib"] = round(resident_mib(pid) - before, 1)
    result["goal"] = 0.7
    return result


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
