"""Builds wheels and source distributions, right unless a test says otherwise."""

import base64
import gzip
import hashlib
from collections.abc import Mapping

from tests.support.build_tar import Tarred, archive
from tests.support.build_zip import Member, build_zip

METADATA = b"Metadata-Version: 2.4\nName: Tiny.Package\nVersion: 1.2\nRequires-Python: >=3.11\nRequires-Dist: other>=1\n\nText\n"
WHEEL = b"Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
INFO = "tiny_package-1.2.dist-info"


def record_line(name: str, content: bytes, *, algorithm: str = "sha256") -> str:
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest()).rstrip(b"=").decode()
    return f"{name},{algorithm}={digest},{len(content)}"


def wheel(
    *,
    files: Mapping[str, bytes] | None = None,
    metadata: bytes | None = METADATA,
    wheel_file: bytes | None = WHEEL,
    record: str | None = None,
    lines: tuple[str, ...] = (),
    info: str = INFO,
    after: Mapping[str, bytes] | None = None,
) -> bytes:
    """`record` replaces RECORD, `lines` are added to it, `after` are files that are not in it."""
    content = {"tiny.py": b"x = 1\n", **(files or {})}
    if metadata is not None:
        content[f"{info}/METADATA"] = metadata
    if wheel_file is not None:
        content[f"{info}/WHEEL"] = wheel_file
    rows = [*(record_line(name, data) for name, data in content.items()), f"{info}/RECORD,,", *lines]
    content[f"{info}/RECORD"] = ("\n".join(rows) + "\n" if record is None else record).encode()
    content.update(after or {})
    return build_zip(*(Member(name, data, deflate=True) for name, data in content.items()))


def sdist(*extra: Tarred, folder: str = "tiny_package-1.2", metadata: bytes | None = METADATA) -> bytes:
    items = [Tarred(f"{folder}/pyproject.toml", b"[project]\n"), *extra]
    if metadata is not None:
        items.append(Tarred(f"{folder}/PKG-INFO", metadata))
    return gzip.compress(archive(*items), mtime=0)
