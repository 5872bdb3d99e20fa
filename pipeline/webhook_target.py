"""Where a webhook may point: the URL as it was typed, and the addresses that its host stands for. Decisions only, no network.

A server inside a network can reach what the person who typed the URL cannot, so everything that is not a public address is refused
unless `webhook_allow_networks` has it. The address that was judged is the one that is connected to: a name is resolved once for each
attempt, and all of its addresses have to pass, so that a name server that changes its mind gains nothing.

The ways in which an address can be written (`0x7f000001`, `2130706433`, `127.1`) are not judged: whoever connects resolves first,
and judges what came out of it.

Source: IANA's special-purpose address registries; OWASP, Server-Side Request Forgery Prevention.
"""

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pipeline.errors import Invalid

URL_MAX_CHARS: Final = 2000
_PORTS: Final = {"http": 80, "https": 443}
_REMEDY: Final = (
    "Give an http:// or https:// address like https://hooks.example.com/distd, without user and fragment."
)

#: What `is_global` of some Python version lets through and what carries an IPv4 address in another's clothes.
_REFUSED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "2001::/23",  # Teredo and other protocols
        "2002::/16",  # 6to4
        "fc00::/7",
        "fec0::/10",
        "ff00::/8",
    )
)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, taken apart. `host` is what TLS and the Host header name; `path` has the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_target(url: str) -> Target:
    """The URL of a webhook. Raises `Invalid`."""
    if len(url) > URL_MAX_CHARS or not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        raise Invalid(
            f"A webhook's URL has at most {URL_MAX_CHARS} ASCII characters and no space.",
            remedy=_REMEDY,
            pointer="/url",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Invalid(f"{url[:80]!r} is no URL: {error}.", remedy=_REMEDY, pointer="/url") from error
    if parts.scheme not in _PORTS or not host or parts.username is not None or parts.fragment or port == 0:
        raise Invalid(f"{url[:80]!r} cannot be a webhook's URL.", remedy=_REMEDY, pointer="/url")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port or _PORTS[parts.scheme], path)


def literal(host: str) -> str | None:
    """The address that a host is, however it is written, or None for a name. No name server is asked."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return None
    return str(found[0][4][0])


def refusal(address: str, allowed: Iterable[str]) -> str | None:
    """Why this address must not be connected to, or None. `allowed` are networks that are open although they are not public."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if any(_within(ip, ipaddress.ip_network(network)) for network in allowed):
        return None
    if ip.is_global and not ip.is_multicast and not any(_within(ip, network) for network in _REFUSED):
        return None
    return f"{ip} is not a public address"


def _within(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    return ip.version == network.version and ip in network
