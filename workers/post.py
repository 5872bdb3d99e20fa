"""One HTTP POST to an address that somebody typed: resolved, judged, and connected to as it was judged.

1. The name is resolved once. Every address that it stands for has to pass `webhook_target.refusal`, or nothing is connected to.
2. The connection goes to an address of that list. TLS and the Host header go on naming the host, and the certificate is checked for it.
3. Redirects are answers like others: they are not followed, so that nobody is sent on to an address that was not judged.
4. Connecting takes at most `CONNECT_SECONDS`, everything together `TOTAL_SECONDS`, and of the answer `READ_MAX_BYTES` are read.

No proxy is used, whatever the environment says: it would resolve the name again. Left to others: what is sent, and what follows.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pipeline.deliveries import Outcome
from pipeline.webhook_target import Target, parse_target, refusal

CONNECT_SECONDS: Final = 5.0
TOTAL_SECONDS: Final = 10.0
READ_MAX_BYTES: Final = 64 << 10

Resolve = Callable[[str, int], list[str]]


class Refused(Exception):
    """The target must not be connected to; the text says why and what an operator can do."""


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order. Raises `OSError`."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Poster:
    """Sends requests. `resolve` and `tls` are seams: the system's names, and its trust in certificates."""

    def __init__(
        self,
        *,
        allow_networks: Sequence[str] = (),
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._allowed = tuple(allow_networks)
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        self._total = total_seconds

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """The outcome of one request; never raises for what the other side does."""
        start = time.monotonic()
        deadline = Deadline(self._total)
        try:
            status, text = self._exchange(parse_target(url), body, headers, deadline)
        except (OSError, ValueError, http.client.HTTPException, Refused) as error:
            why = f"no complete answer within {self._total:g} s" if deadline.passed else _why(error)
            return Outcome(None, why, duration_ms=_since(start))
        finally:
            deadline.end()
        note = (
            "redirects are not followed: give the webhook its final address" if 300 <= status < 400 else None
        )
        return Outcome(status, note and f"the receiver answered {status}; {note}", text, _since(start))

    def _exchange(
        self, target: Target, body: bytes, headers: Mapping[str, str], deadline: "Deadline"
    ) -> tuple[int, str]:
        with deadline.guard(self._connect(target)) as raw:
            plain = target.scheme == "http"
            wire = raw if plain else self._tls.wrap_socket(raw, server_hostname=target.host)
            with wire:
                wire.settimeout(self._total)
                connection = http.client.HTTPConnection(target.host, target.port)
                connection.sock = wire
                connection.request("POST", target.path, body, {"Host": target.host_header, **headers})
                answer = connection.getresponse()
                text = answer.read(READ_MAX_BYTES)
                if deadline.passed:  # a body that is cut off is no error to http.client
                    raise TimeoutError
                return answer.status, text.decode("utf-8", "replace")

    def _connect(self, target: Target) -> socket.socket:
        addresses = self._resolve(target.host, target.port)
        for address in addresses:
            reason = refusal(address, self._allowed)
            if reason is not None:
                raise Refused(
                    f"{target.host}: {reason}; an operator can allow its network in config.toml (webhook_allow_networks)"
                )
        failure: OSError = OSError(f"{target.host} has no address")
        end = time.monotonic() + CONNECT_SECONDS
        for address in addresses:
            try:
                return socket.create_connection(
                    (address, target.port), timeout=max(0.1, end - time.monotonic())
                )
            except OSError as error:
                failure = error
        raise failure


class Deadline:
    """Cuts a connection after so many seconds, however busy it is. A time-out of a socket alone only ends silence."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._timer.start()

    def guard(self, connected: socket.socket) -> socket.socket:
        """Watch this connection. Its descriptor is copied, since TLS takes the socket over."""
        with self._lock:
            self._socket = connected.dup()
        return connected

    def end(self) -> None:
        """The exchange is over, well or not."""
        self._timer.cancel()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            if self._socket is not None:
                self._socket.shutdown(socket.SHUT_RDWR)


def _since(start: float) -> int:
    return round((time.monotonic() - start) * 1000)


def _why(error: Exception) -> str:
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved: {error.strerror}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"no HTTP answer: {type(error).__name__}: {error}"[:200]
