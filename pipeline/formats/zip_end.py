"""Where an archive ends, and what may stand before its central directory: looked for from the end, as every reader does.

Left to `zip_records.py`: the layout of what is found; to `zip.py`: whether it agrees with the rest.
"""

from typing import Final

from pipeline.formats import zip_records as records
from pipeline.formats.facts import Malformed
from pipeline.formats.source import Source
from pipeline.formats.zip_rules import AMBIGUOUS, NO_END, TRAILING

SIGNING_BLOCK_MAGIC: Final = b"APK Sig Block 42"
_SIGNING_BLOCK_MIN_BYTES: Final = 32  # two sizes and the magic


def find_end(source: Source) -> int:
    """The offset of the end of central directory record (APPNOTE 4.3.16); a record elsewhere in the comment is refused."""
    tail = source.tail(records.END_BYTES + records.COMMENT_MAX_BYTES)
    base = source.size - len(tail)
    fits: list[int] = []
    others: list[int] = []
    position = tail.rfind(records.END_SIGNATURE)
    while position >= 0:
        if position + records.END_BYTES <= len(tail):
            comment = int.from_bytes(tail[position + 20 : position + 22], "little")
            here = fits if position + records.END_BYTES + comment == len(tail) else others
            here.append(base + position)
        position = tail.rfind(records.END_SIGNATURE, 0, position)
    if not fits:
        if others:
            raise Malformed(TRAILING, "the archive's comment does not end with the file")
        raise Malformed(NO_END)
    # Some readers take the last signature, some the first that fits: what lies in the comment must not be one.
    if len(fits) > 1 or any(offset > fits[0] for offset in others):
        raise Malformed(AMBIGUOUS, f"at {sorted(fits + others)}")
    return fits[0]


def find_signing_block(source: Source, start: int, end: int) -> tuple[int, int] | None:
    """Offset and length of an APK Signing Block that ends at `end` and begins at `start` or later.

    Layout: u64 size, pairs, u64 size, magic; both sizes count everything but the first. Where the magic or a size is wrong
    Android sees no block, and so does this.
    """
    if end - start < _SIGNING_BLOCK_MIN_BYTES or source.at(end - 16, 16) != SIGNING_BLOCK_MAGIC:
        return None
    size = int.from_bytes(source.at(end - 24, 8), "little")
    if size < _SIGNING_BLOCK_MIN_BYTES - 8 or size + 8 > end - start:
        return None
    if int.from_bytes(source.at(end - size - 8, 8), "little") != size:
        return None
    return end - size - 8, size + 8
