"""A receiver of webhooks: a real HTTP server on loopback that answers as it was told and keeps what it was sent.

with Receiver([500, 200]) as receiver:
    … receiver.url …                       # the first request gets 500, the second and all later ones 200
    assert len(receiver.requests) == 2
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Request:
    """One message, as it came over the wire. Header names are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """See the module. `slow_seconds` between the bytes of an answer; `headers` go into each answer."""

    def __init__(
        self,
        answers: Sequence[int] = (200,),
        *,
        text: bytes = b"thanks",
        headers: dict[str, str] | None = None,
        slow_seconds: float = 0.0,
        tls: Any = None,
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._answers = list(answers)
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                names = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append(Request(self.path, names, body))
                status = receiver._answers.pop(0) if len(receiver._answers) > 1 else receiver._answers[0]
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                for number in range(len(text) if slow_seconds else 0):
                    time.sleep(slow_seconds)
                    self.wfile.write(text[number : number + 1])
                if not slow_seconds:
                    self.wfile.write(text)

            def log_message(self, *_arguments: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> Any:
                receiver.connections += 1
                return super().get_request()

            def handle_error(self, *_arguments: object) -> None:
                return  # a client that hangs up is what some tests are about

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
