"""A whole installation for a test: real server and worker processes on a data directory of their own, and the real `dist`.

    with Platform(tmp_path) as platform:
        platform.start("serve"); platform.start("worker")
        answer = platform.publish(folder)          # exit code and the JSON document
        assert answer.code == 0

Every wait is bounded. Processes are ended by their id, at the end of the block at the latest, and their logs are shown when a test
fails. `config` is written to config.toml: leases and sweeps are short, so that a test sees in seconds what takes minutes outside.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 35.0
QUICK = {
    "lease_seconds": 4.0,
    "sweep_seconds": 0.3,
    "ring_again_seconds": 1.0,
    "retry_base_seconds": 0.2,
    "min_free_percent": 0,
    "min_free_bytes": 1,
}


@dataclass(frozen=True)
class Answer:
    """What a run of `dist` came to. `json` is its stdout, when that is JSON."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out)


class Platform:
    """One data directory, its processes, and a client's environment."""

    def __init__(
        self,
        folder: Path,
        *,
        config: dict[str, Any] | None = None,
        failpoints: str = "",
        restore_from: Path | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.home = folder / "home"
        self.logs = folder / "process-logs"
        for path in (self.data, self.home, self.logs):
            path.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._opened: list[Any] = []
        self._config = QUICK | (config or {})
        if restore_from is not None:
            self.distd_json("restore", str(restore_from))  # config.toml comes with it
            self.token = ""  # and so do the tokens: the caller knows one
            return
        self.configure(failpoints)
        self.token = self.distd_json("init")["admin_token"]

    # -- the server's side ------------------------------------------------------------------------

    def configure(self, failpoints: str = "") -> None:
        """Write config.toml; processes that start from now on read it."""
        lines = [f"{name} = {_toml(value)}" for name, value in self._config.items()]
        if failpoints:
            lines += ["[testing]", "enabled = true", f"failpoints = {json.dumps(failpoints)}"]
        (self.data / "config.toml").write_text("\n".join(lines) + "\n")

    @property
    def server_environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "DISTD_DATA_DIR": str(self.data),
            "DISTD_PORT": str(self.port),
            "DISTD_LOG_FORMAT": "json",
        }

    def start(self, *arguments: str, ready: bool = True) -> subprocess.Popen[bytes]:
        """`distd ARGUMENTS` in the background; a server is waited for until it answers."""
        log = (self.logs / f"{len(self.processes)}-{arguments[0]}.log").open("wb")
        self._opened.append(log)
        process = subprocess.Popen(
            [sys.executable, "-m", "api.distd", *arguments],
            cwd=ROOT,
            env=self.server_environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        if ready and arguments[0] in {"serve", "up"}:
            self.until(
                lambda: process.poll() is not None or self.answers(), START_SECONDS, "the server answers"
            )
            assert process.poll() is None, self.log_text()
        return process

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """Send a signal to one process and wait for its end."""
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        return process.wait(STOP_SECONDS)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The plug is pulled: SIGKILL, no goodbye."""
        process.kill()
        process.wait(STOP_SECONDS)

    def distd(self, *arguments: str, timeout: float = 60) -> Answer:
        """Run `distd ARGUMENTS` to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "api.distd", *arguments],
            cwd=ROOT,
            env=self.server_environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def distd_json(self, *arguments: str) -> dict[str, Any]:
        """Run `distd ARGUMENTS --json`, which must succeed."""
        answer = self.distd(*arguments, "--json")
        assert answer.code == 0, answer
        return answer.json

    # -- the client's side --------------------------------------------------------------------------

    @property
    def client_environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "DIST_SERVER": self.url,
            "DIST_TOKEN": self.token,
        }

    def dist_process(
        self, *arguments: str, cwd: Path | None = None, token: str | None = None
    ) -> subprocess.Popen[str]:
        """`dist ARGUMENTS` in the background, with pipes."""
        environment = self.client_environment | ({"DIST_TOKEN": token} if token is not None else {})
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "dist"), *arguments],
            cwd=cwd or self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)  # type: ignore[arg-type]
        return process

    def dist(
        self, *arguments: str, cwd: Path | None = None, token: str | None = None, timeout: float = 120
    ) -> Answer:
        """Run `dist ARGUMENTS` to its end."""
        process = self.dist_process(*arguments, cwd=cwd, token=token)
        out, err = process.communicate(timeout=timeout)
        return Answer(process.returncode, out, err)

    def publish(
        self, folder: Path, *arguments: str, token: str | None = None, timeout: float = 120
    ) -> Answer:
        """`dist ci publish --manifest dist.json --json --wait` in a folder."""
        return self.dist(
            "ci",
            "publish",
            "--manifest",
            "dist.json",
            "--json",
            "--wait",
            *arguments,
            cwd=folder,
            token=token,
            timeout=timeout,
        )

    def http(self, token: str | None = None) -> httpx.Client:
        """A plain HTTP client with a token (the admin's unless another is given; "" for none)."""
        headers = {} if token == "" else {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    # -- looking --------------------------------------------------------------------------------------

    def blobs(self) -> list[str]:
        """Digests in the store; anything else found there fails the test: no half files, no strangers."""
        found = []
        for path in (self.data / "blobs").rglob("*"):
            if path.is_file():
                assert len(path.name) == 64, f"litter in the store: {path.name}"
                assert path.parent.name == path.name[2:4]
                found.append(path.name)
        return sorted(found)

    def until(self, condition: Callable[[], Any], seconds: float, what: str) -> Any:
        """Wait for a condition, with a bound."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            value = condition()
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}\n{self.log_text()}")

    def logged(self, event: str) -> int:
        """How often an event stands in the processes' logs."""
        return sum(
            path.read_text(errors="replace").count(f'"event": "{event}"') for path in self.logs.iterdir()
        )

    def log_text(self) -> str:
        """The ends of all processes' logs."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}"
            for path in sorted(self.logs.iterdir())
        )

    # -- the end ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        for file in self._opened:
            file.close()
        if error is not None:
            sys.stderr.write(self.log_text())


def _toml(value: Any) -> str:
    """As JSON writes it, but for tables."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{" + ", ".join(f"{json.dumps(name)} = {json.dumps(each)}" for name, each in value.items()) + "}"


def write_release(folder: Path, files: dict[str, bytes], **manifest: Any) -> Path:
    """A folder with files and the dist.json that `manifest` says; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "dist.json").write_text(json.dumps({"schema": 1, **manifest}))
    return folder
