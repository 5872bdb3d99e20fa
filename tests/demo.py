"""`make demo`: a server and a worker on a data directory of their own, and one sample release through the real `dist ci publish`.

Leaves the server up and prints its address and a login; `make demo-stop`, or the next demo, ends it. The sample artifacts are built
here: a signed APK, an iOS app, a tarball. Everything lives in `.demo/`; a second demo starts anew.
"""

import argparse
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.support.samples import plain_ipa, signed_apk

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".demo"
PID_FILE = FOLDER / "server.pid"
BIN = Path(sys.executable).parent
START_SECONDS = 30.0
STOP_SECONDS = 40.0


def tarball() -> bytes:
    """A server's tarball, as small as it gets."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        content = b"#!/bin/sh\necho notes server\n"
        member = tarfile.TarInfo("notes-server/bin/notes-server")
        member.size, member.mode = len(content), 0o755
        tar.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def project() -> Path:
    """What a build leaves behind: artifacts and dist.json."""
    folder = FOLDER / "project"
    (folder / "build").mkdir(parents=True)
    (folder / "build" / "notes.apk").write_bytes(signed_apk(version_code=1040, version_name="1.4.0"))
    (folder / "build" / "notes.ipa").write_bytes(plain_ipa(version="1.4.0", build="1040"))
    (folder / "build" / "notes-server.tar.gz").write_bytes(tarball())
    manifest = {
        "schema": 1,
        "app": {"slug": "notes", "name": "Notes", "description": "Notes that sync."},
        "version": "1.4.0",
        "build": 1040,
        "channel": "beta",
        "notes": "Faster sync.",
        "source": {
            "repository": "https://git.example/notes",
            "revision": "9f3c2d4e5f60718293a4b5c6d7e8f9012a3b4c5d",
            "ref": "refs/tags/v1.4.0",
        },
        "artifacts": [
            {"path": "build/notes.apk", "platform": "android"},
            {"path": "build/notes.ipa", "platform": "ios"},
            {"path": "build/notes-server.tar.gz", "platform": "linux"},
        ],
    }
    (folder / "dist.json").write_text(json.dumps(manifest, indent=2))
    return folder


def port() -> int:
    """8470, or a free one when somebody has it."""
    for wanted in (8470, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SystemExit("demo: no free port")


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.1)
    raise SystemExit(f"demo: the server did not start; see {FOLDER / 'server.log'}")


def stop() -> None:
    """End the server of an earlier demo, if its process id still is that server's, and say so."""
    try:
        pid = int(PID_FILE.read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ValueError):
        command = b""
    if b"distd" not in command:
        print("no demo server is running", flush=True)
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    print(f"stopped the demo server {pid}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--stop", action="store_true", help="end the server that a demo left up")
    stop()
    if parser.parse_args().stop:
        return 0
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    number = port()
    url = f"http://127.0.0.1:{number}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DIST_", "DISTD_"))
    }
    environment |= {"DISTD_DATA_DIR": str(FOLDER / "data"), "DISTD_PORT": str(number)}
    made = subprocess.run(
        [BIN / "distd", "init", "--json"], env=environment, check=True, capture_output=True, text=True
    )
    token = json.loads(made.stdout)["admin_token"]
    with (FOLDER / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [BIN / "distd", "up"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    PID_FILE.write_text(str(server.pid))
    wait_until_ready(url, server)
    print("$ dist ci publish --manifest dist.json --json --wait", flush=True)
    client = {"DIST_SERVER": url, "DIST_TOKEN": token, "XDG_STATE_HOME": str(FOLDER / "state")}
    done = subprocess.run(
        [BIN / "dist", "ci", "publish", "--manifest", "dist.json", "--json", "--wait"],
        cwd=project(),
        env=environment | client,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    (FOLDER / "published.json").write_text(done.stdout)
    if done.returncode != 0:
        print(done.stdout)
        return done.returncode
    document = json.loads(done.stdout)
    print(
        f"\nPublished {document['app']} {document['release']['version']} with {len(document['artifacts'])} artifacts."
        f" The whole document: {(FOLDER / 'published.json').relative_to(ROOT)}"
        f"\n\n  console   {url}/\n  release   {document['release']['url']}\n  install   {document['install_url']}"
        f"\n  login     {token}\n"
        f"\nThe server stays up (log: .demo/server.log). End it with `make demo-stop`."
        f"\nTry it:   export DIST_SERVER={url} DIST_TOKEN={token}; .venv/bin/dist release list notes",
        flush=True,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
