"""Folders and packages for tests: a folder from a dictionary, a package of it in memory."""

import io
import stat
from collections.abc import Mapping
from pathlib import Path

from hypothesis import strategies as st

from pipeline import minisign
from pipeline.package.compression import Compression
from pipeline.package.create import Description, Encoding, Format, create_from_folder
from pipeline.package.native import Shape
from pipeline.package.sealed import Sealed

Content = bytes | tuple[str, bytes] | str  # a file, ("x", an executable one), the target of a link

KEY = minisign.SecretKey(bytes.fromhex("0102030405060708"), bytes(range(32)))
OTHER_KEY = minisign.SecretKey(bytes.fromhex("1112131415161718"), bytes(range(32, 64)))
NOTES = Description("notes", "1.4.0", metadata=(("license", "Apache-2.0"),))
SMALL: Mapping[str, Content] = {
    "bin/notes": ("x", b"#!/bin/sh\necho notes\n"),
    "bin/n": "notes",
    "share/readme.txt": b"Notes\n" * 400,
    "share/empty": b"",
    "share/copy.txt": b"Notes\n" * 400,
}
ENCODINGS = [
    Encoding(Format.PORTABLE, Shape.FAT, Compression.DEFLATE),
    *(Encoding(Format.NATIVE, Shape.FAT, compression) for compression in Compression),
]


def write_folder(folder: Path, content: Mapping[str, Content]) -> Path:
    for path, what in content.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(what, str):
            place.symlink_to(what)
        else:
            place.write_bytes(what if isinstance(what, bytes) else what[1])
            place.chmod(0o644 if isinstance(what, bytes) else 0o755)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_folder(folder: Path) -> dict[str, Content]:
    found: dict[str, Content] = {}
    for place in folder.rglob("*"):
        path = place.relative_to(folder).as_posix()
        if place.is_symlink():
            found[path] = str(place.readlink())
        elif place.is_file():
            data = place.read_bytes()
            found[path] = ("x", data) if place.stat().st_mode & stat.S_IXUSR else data
    return found


def packed(
    folder: Path,
    encoding: Encoding = ENCODINGS[-1],
    *,
    key: minisign.SecretKey | None = KEY,
    description: Description = NOTES,
    threads: int = 1,
) -> tuple[bytes, Sealed]:
    out = io.BytesIO()
    made = create_from_folder(out, folder, description, encoding=encoding, key=key, threads=threads)
    return out.getvalue(), made


_NAMES = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="/\\"), min_size=1, max_size=12
).filter(lambda name: name not in {".", ".."})
_FILES = st.one_of(
    st.binary(max_size=300),
    st.tuples(st.just("x"), st.binary(max_size=50)),
    st.sampled_from([b"", b"same", bytes(5000)]),
)


@st.composite
def folders(draw: st.DrawFn) -> dict[str, Content]:
    """Some files, in folders up to three deep, and links to some of them."""
    made: dict[str, Content] = {}
    taken: set[str] = set()
    for path in draw(st.lists(st.lists(_NAMES, min_size=1, max_size=3).map("/".join), max_size=8)):
        folded = "/".join(f"{number}{name.casefold()}" for number, name in enumerate(path.split("/")))
        parts = folded.split("/")
        if folded in taken or any("/".join(parts[:end]) in taken for end in range(1, len(parts))):
            continue
        if any(other.startswith(f"{folded}/") for other in taken):
            continue
        taken.add(folded)
        made[path] = draw(_FILES)
    return made
