"""What a digest store promises. `tests/contracts/test_blob_store.py` holds every implementation against it.

* `adopt` is atomic and idempotent: afterwards the digest's bytes are durable under its name; a crash at any line leaves either what
  was under that name before or all of it. The source stays in place; removing it is the caller's business.
* A blob never changes and is read-only. It leaves in two steps: `set_aside` moves it into the trash, where `bring_back` finds it;
  `empty` removes for good what has been there long enough. Nothing in the trash is served.
* `open` of a missing digest raises `BlobMissing`, and never returns other bytes than the name says, as far as their size tells;
  `verify` reads them all.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from pipeline.values import Digest


class BlobMissing(Exception):
    """The store has no bytes under this digest."""


class BlobStore(Protocol):
    """Where validated bytes live."""

    def adopt(self, source: Path, digest: Digest, size: int, *, replace: bool = False) -> bool:
        """Place the file `source`, whose digest the caller has just checked, under `digest`. True when it was not there yet.

        What is there already is kept when its size is right; with `replace` the caller has read it and found it damaged.
        """

    def adopt_all(self, sources: Sequence[tuple[Path, Digest, int]]) -> None:
        """`adopt` for many files: as durable afterwards, at the price of a few. A crash leaves each as `adopt` would."""

    def has(self, digest: Digest) -> bool:
        """Whether the name exists."""

    def holds(self, digest: Digest, size: int) -> bool:
        """Whether the name exists, with as many bytes."""

    def open(self, digest: Digest) -> BufferedReader:
        """The bytes, for reading. Raises `BlobMissing`."""

    def size(self, digest: Digest) -> int:
        """In bytes. Raises `BlobMissing`."""

    def verify(self, digest: Digest) -> bool:
        """Read every byte; whether they have the digest. Raises `BlobMissing`."""

    def digests(self) -> Iterator[Digest]:
        """Every name in the store, in order."""

    def set_aside(self, digest: Digest, moment: datetime) -> bool:
        """Move a blob that nothing refers to into the trash, durably. False, and harmless, when it is not there."""

    def bring_back(self, digest: Digest) -> bool:
        """Whether the bytes are under their name again (or still), durably; False when the trash has none either."""

    def trash(self) -> Iterator[tuple[Digest, int, datetime]]:
        """What is in the trash: digest, size in bytes, and since when."""

    def empty(self, before: datetime) -> list[Digest]:
        """Remove for good what was set aside at or before this moment; what was removed."""
