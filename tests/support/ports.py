"""Ports for servers that a test stops and starts again."""

import random
import socket
from pathlib import Path

_LOWEST = 10_000


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now.

    It lies below those that the kernel gives to connections: one of these would be taken by anybody's connection while the server
    is down, and the server could not come back.
    """
    first_given = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    for port in random.sample(range(_LOWEST, max(first_given, _LOWEST + 1000)), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port in 100")
