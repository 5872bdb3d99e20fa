"""Names in archives: how they are encoded, which must not become paths, and where links may lead."""

import zlib
from typing import Final

from pipeline.formats import zip_records as records
from pipeline.formats.facts import Malformed
from pipeline.formats.zip_rules import MISMATCH, UNSAFE_NAME

FLAG_UTF8: Final = 0x0800


def name_of(header: records.CentralHeader) -> str:
    """APPNOTE 4.4.17 and appendix D. Without the flag, names are UTF-8 on macOS and in Java, else code page 437."""
    try:
        name = header.name.decode("utf-8")
    except UnicodeDecodeError as error:
        if header.flags & FLAG_UTF8:
            raise Malformed(UNSAFE_NAME, f"{header.name!r} is not UTF-8") from error
        name = header.name.decode("cp437")
    unicode_path = records.extra_field(header.extra, records.EXTRA_UNICODE_PATH)
    if unicode_path is None or header.flags & FLAG_UTF8:
        return name
    # APPNOTE 4.6.9: version, CRC of the name that it replaces, UTF-8.
    if len(unicode_path) < 5 or int.from_bytes(unicode_path[1:5], "little") != zlib.crc32(header.name):
        return name
    try:
        other = unicode_path[5:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Malformed(UNSAFE_NAME, f"{name}: its Unicode name is not UTF-8") from error
    if header.name.isascii() and other != name:
        raise Malformed(MISMATCH, f"{name} has the second name {other}")
    return other


def unsafe_name(name: str, *, backslashes: bool) -> str | None:
    """Why this name must not become a path, or None."""
    if "\\" in name and not backslashes:
        return "a backslash"
    path = name.replace("\\", "/")
    if not path.strip("/"):
        return "an empty name"
    if path.startswith("/") or (len(path) > 1 and path[1] == ":" and path[0].isalpha()):
        return "an absolute path"
    if any(part == ".." for part in path.split("/")):
        return "a parent folder"
    if any(char < " " or char == "\x7f" for char in name):
        return "a control character"
    return None


def leaves(folder: list[str], target: str) -> bool:
    """Whether a link in `folder` (path parts) to `target` leads out of the archive. Judged without following links."""
    if not target or "\0" in target or target.startswith("/"):
        return True
    depth = len(folder)
    for part in target.split("/"):
        if part == "..":
            depth -= 1
        elif part not in ("", "."):
            depth += 1
        if depth < 0:
            return True
    return False
