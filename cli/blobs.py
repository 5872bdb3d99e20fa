"""Blobs from a server, as a source for the package library: each into a file of its own, resumed when the connection breaks.

The library verifies what comes, and knows of this class only `name` and `open`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from .client import Client
from .download import WantedBlob, fetch
from .errors import CliError


class ServerBlobs:
    """`/blobs/sha256/{digest}` of one server. `heard` is told the bytes of each blob that came."""

    def __init__(self, client: Client, *, heard: Callable[[int], None]) -> None:
        self._client = client
        self._heard = heard
        self.name = client.server

    def open(self, entry: Any) -> BinaryIO | None:
        """The bytes of an entry's blob, or None when the server does not have it. Raises CliError when it cannot be asked."""
        with tempfile.TemporaryDirectory(prefix="dist-") as folder:
            part = Path(folder) / "blob"
            try:
                fetch(
                    self._client,
                    WantedBlob(str(entry.path), int(entry.size), str(entry.blob)),
                    part,
                    lambda _done: None,
                )
            except CliError as error:
                if error.code == "not_found":
                    return None
                raise
            self._heard(int(entry.size))
            return part.open("rb")  # the file lives on as long as it is open
