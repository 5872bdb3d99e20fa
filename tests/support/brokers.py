"""Redis and RabbitMQ for tests: Debian's own servers, each on free ports of 127.0.0.1, in a folder of the test's.

Where they are not installed a test is skipped with the package's name; with `DIST_REQUIRE_ALL=1` it fails. A server and what it
starts are one process group, which is all that is ever signalled.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

import pika
import pytest
import redis

from tests.support.fixtures import missing
from tests.support.ports import free_port

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 20.0
RABBITMQ_SCRIPT: Final = Path(
    "/usr/lib/rabbitmq/bin/rabbitmq-server"
)  # the one in PATH insists on Debian's user and folders


class Server:
    """A server process that a test may kill, freeze and start again on the same port with the same data."""

    def __init__(
        self,
        url: str,
        command: list[str],
        folder: Path,
        *,
        environment: dict[str, str],
        answers: Callable[[], None],
    ) -> None:
        self.url = url
        self._command = command
        self._folder = folder
        self._environment = environment
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None
        with (self._folder / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.wait_until_it_answers()

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._answers()
            except (redis.RedisError, pika.exceptions.AMQPError, OSError) as error:
                gone = self._process is None or self._process.poll() is not None
                if gone or time.monotonic() > deadline:
                    log = (self._folder / "output.log").read_text(errors="replace")
                    pytest.fail(f"{self._command[0]} does not answer: {error!r}\n{log[-2000:]}")
                time.sleep(0.1)
            else:
                return

    def signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):  # it ended by itself, and its log says why
            os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """End it without notice."""
        if self._process is None:
            return
        self.signal_all(signal.SIGKILL)
        self._process.wait(STOP_SECONDS)
        self._process = None


@contextmanager
def redis_server(folder: Path) -> Iterator[Server]:
    program = shutil.which("redis-server") or _not_installed("redis-server")
    port = free_port()
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{port}/0"

    def answers() -> None:
        with redis.Redis.from_url(url, socket_timeout=2) as client:
            client.ping()

    server = Server(url, command, folder, environment={}, answers=answers)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[Server]:
    epmd = shutil.which("epmd") or _not_installed("rabbitmq-server")
    if not RABBITMQ_SCRIPT.is_file():
        _not_installed("rabbitmq-server")
    port, dist_port, epmd_port = free_port(), free_port(), free_port()
    plugins, settings = folder / "enabled_plugins", folder / "rabbitmq.conf"
    plugins.write_text("[].\n")
    settings.write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\ndisk_free_limit.absolute = 1MB\n")
    environment = {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_DIST_PORT": str(dist_port),
        "RABBITMQ_CONFIG_FILE": str(settings),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
    }
    url = f"amqp://guest:guest@127.0.0.1:{port}/"

    def answers() -> None:
        pika.BlockingConnection(pika.URLParameters(url + "?socket_timeout=2&stack_timeout=5")).close()

    # RabbitMQ would start this name server itself and leave it behind.
    names = subprocess.Popen(
        [epmd, "-address", "127.0.0.1", "-port", str(epmd_port)], stdin=subprocess.DEVNULL, cwd=folder
    )
    server = Server(url, [str(RABBITMQ_SCRIPT)], folder, environment=environment, answers=answers)
    try:
        server.start()
        yield server
    finally:
        try:
            server.kill()
        finally:
            names.kill()
            names.wait(STOP_SECONDS)


def _not_installed(package: str) -> NoReturn:
    missing(f"{package} is not installed (apt-get install {package})")
