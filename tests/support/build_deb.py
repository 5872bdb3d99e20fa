"""Builds Debian packages from parts, so that each can be made wrong."""

import gzip
import hashlib
from collections.abc import Mapping

from tests.support.build_tar import Tarred, archive

CONTROL = b"Package: tiny\nVersion: 1:2.0-3\nArchitecture: all\nMaintainer: A <a@example.org>\nDescription: a tiny one\n more\n"


def ar_member(name: str | bytes, content: bytes, *, size: int | None = None) -> bytes:
    raw = name.encode() if isinstance(name, str) else name
    length = len(content) if size is None else size
    header = (
        raw.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"100644".ljust(8) + b"%-10d" % length + b"`\n"
    )
    return header + content + b"\n" * (len(content) % 2)


def ar(*members: tuple[str, bytes]) -> bytes:
    return b"!<arch>\n" + b"".join(ar_member(name, content) for name, content in members)


def control_tar(*extra: Tarred, control: bytes | None = CONTROL, md5sums: bytes | None = None) -> bytes:
    items = list(extra)
    if control is not None:
        items.append(Tarred("./control", control))
    if md5sums is not None:
        items.append(Tarred("./md5sums", md5sums))
    return archive(*items)


def md5sums(files: Mapping[str, bytes]) -> bytes:
    return b"".join(
        f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {name}\n".encode()
        for name, content in files.items()
    )


def deb(
    *,
    control: bytes | None = None,
    data: bytes | None = None,
    version: bytes = b"2.0\n",
    extra: tuple[tuple[str, bytes], ...] = (),
    control_name: str = "control.tar.gz",
    data_name: str = "data.tar",
) -> bytes:
    """A whole package; `control` is the content of control.tar, `data` that of data.tar."""
    packed = gzip.compress(control if control is not None else control_tar(), mtime=0)
    plain = (
        data
        if data is not None
        else archive(Tarred("./", b"", b"5"), Tarred("./usr/bin/tiny", b"#!/bin/sh\n"))
    )
    return ar(
        ("debian-binary", version),
        (control_name, packed if control_name.endswith(".gz") else control or control_tar()),
        (data_name, plain),
        *extra,
    )
