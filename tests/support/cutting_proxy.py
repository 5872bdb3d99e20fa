"""A TCP proxy on this machine that breaks connections: it passes so many bytes towards the server, then hangs up.

With `silent` it hangs up on the client only, as a router does that forgets a connection: the server waits for bytes that never come.
"""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

_CHUNK: Final = 64 << 10


@dataclass
class Proxy:
    """`cuts` holds, for each connection in turn, after how many bytes towards the server it breaks; later ones live. `passed` counts bytes."""

    upstream: tuple[str, int]
    cuts: list[int]
    url: str = ""
    passed: int = 0
    connections: int = 0
    bytes_per_second: float | None = None
    silent: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_cut(self) -> int | None:
        with self.lock:
            self.connections += 1
            return self.cuts.pop(0) if self.cuts else None


@contextmanager
def cutting(
    url: str, cuts: Sequence[int], *, bytes_per_second: float | None = None, silent: bool = False
) -> Iterator[Proxy]:
    """A proxy in front of `url`."""
    host, port = url.removeprefix("http://").split(":")
    proxy = Proxy((host, int(port)), list(cuts), bytes_per_second=bytes_per_second, silent=silent)
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=_accept, args=(proxy, listener, closed), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            closed.set()
            thread.join(5)


def _accept(proxy: Proxy, listener: socket.socket, closed: threading.Event) -> None:
    while not closed.is_set():
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        except OSError:
            return
        client.settimeout(60)
        try:
            server = socket.create_connection(proxy.upstream, timeout=60)
        except OSError:
            client.close()
            continue
        threading.Thread(target=_towards, args=(proxy, client, server, closed), daemon=True).start()
        threading.Thread(target=_back, args=(server, client), daemon=True).start()


def _towards(proxy: Proxy, client: socket.socket, server: socket.socket, closed: threading.Event) -> None:
    left = proxy.next_cut()
    with contextlib.suppress(OSError):
        while data := client.recv(_CHUNK):
            if left is not None and len(data) >= left:
                server.sendall(data[:left])
                proxy.passed += left
                break
            server.sendall(data)
            proxy.passed += len(data)
            left = None if left is None else left - len(data)
            if proxy.bytes_per_second is not None and closed.wait(len(data) / proxy.bytes_per_second):
                break
    _hang_up(client)
    if proxy.silent and left is not None:
        closed.wait()
    _hang_up(server)


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)  # wakes the other thread, which `close` alone would not
    end.close()


def _back(server: socket.socket, client: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(_CHUNK):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
