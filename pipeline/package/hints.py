"""Where the content of a thin package may be found: hints, which nobody signs and nobody has to follow.

    dist-sources 1
    folder<TAB>notes-1.4.0.blobs          a folder of blobs (`folder_cas.py`), seen from the folder of the package
    server<TAB>https://dist.example       a server that has /blobs/sha256/{id}

folders first, each kind in the order of its bytes. What comes from there is verified as from anywhere, so a wrong hint is a detour at worst.
A folder stays below the package's own: no hint makes a reader look elsewhere on a disk.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pipeline.package.errors import Category, PackageError, malformed
from pipeline.package.tree_paths import flaw_of_path

HEADER: Final = "dist-sources 1"
HINTS_MAX_BYTES: Final = 64 << 10
_URL_MAX_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Hints:
    """Folders and servers; empty when there are none. Use `make` and `parse`, which check them."""

    folders: tuple[str, ...] = ()
    servers: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.folders or self.servers)

    @property
    def data(self) -> bytes:
        """The text."""
        rows = [
            HEADER,
            *(f"folder\t{one}" for one in self.folders),
            *(f"server\t{one}" for one in self.servers),
        ]
        return "".join(f"{row}\n" for row in rows).encode()


NO_HINTS: Final = Hints()


def make(*, folders: tuple[str, ...] = (), servers: tuple[str, ...] = ()) -> Hints:
    """Hints in order. Raises `invalid`."""
    return _checked(folders, servers, Category.INVALID)


def parse(data: bytes) -> Hints:
    """The hints with this text. Raises `malformed` for anything but the one form."""
    folders: list[str] = []
    servers: list[str] = []
    try:
        head, *lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise malformed(f"sources: no UTF-8 at byte {error.start}") from error
    for line in lines[:-1]:
        kind, _, value = line.partition("\t")
        (folders if kind == "folder" else servers).append(value)
    hints = _checked(tuple(folders), tuple(servers), Category.MALFORMED)
    if head != HEADER or not hints or hints.data != data:
        raise malformed("sources: they are not in the one form")
    return hints


def _checked(folders: tuple[str, ...], servers: tuple[str, ...], category: Category) -> Hints:
    for folder in folders:
        if flaw := flaw_of_path(folder):
            raise PackageError(category, f"sources: a folder {flaw}: {folder!r}")
    for server in servers:
        if not _is_url(server):
            raise PackageError(category, f"sources: this is not the address of a server: {server[:80]!r}")
    return Hints(tuple(sorted(set(folders), key=str.encode)), tuple(sorted(set(servers), key=str.encode)))


def _is_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > _URL_MAX_CHARS:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.username
    except ValueError:
        return False
