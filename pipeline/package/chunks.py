"""The chunk index: every blob of a tree with its size, root and chunks, so that each part is verified as soon as it is there.

    dist-chunks 1
    blob id<TAB>size<TAB>root
    <TAB>leaf hash                 for each chunk, when the blob has more than one: of a single chunk the root is the leaf

in the order of the first file of the tree that has the blob. The manifest names this text by its digest, so what signs the manifest
signs every chunk. As of a tree, there is exactly one form.
"""

import re
from collections.abc import Mapping
from typing import Final

from pipeline.package.blob import BlobInfo, blob_id, chunk_count
from pipeline.package.errors import malformed, unsupported
from pipeline.package.manifest import Text
from pipeline.package.tree import Tree
from pipeline.values import Digest, is_digest

HEADER: Final = "dist-chunks 1"
CHUNKS_MAX_BYTES: Final = 512 << 20  # two million files, or 8 TiB


def emit(tree: Tree, infos: Mapping[Digest, BlobInfo]) -> bytes:
    """The index of a tree. `infos` has all its blobs."""
    lines = [HEADER]
    for blob in tree.blobs:
        info = infos[blob]
        lines.append(f"{blob}\t{info.size}\t{info.root}")
        if len(info.leaves) > 1:
            lines += [f"\t{leaf.hex()}" for leaf in info.leaves]
    return "".join(f"{line}\n" for line in lines).encode()


def checked(data: bytes, tree: Tree, said: Text) -> dict[Digest, BlobInfo]:
    """The blobs of a tree, from the text that a manifest names. Raises `malformed`."""
    if (blob_id(data), len(data)) != (said.id, said.size):
        raise malformed("chunk index: it is not the one that the manifest names")
    return parse(data, tree)


def parse(data: bytes, tree: Tree) -> dict[Digest, BlobInfo]:
    """The blobs of a tree. Raises `malformed` when the text is not the index of this tree in its one form."""
    if len(data) > CHUNKS_MAX_BYTES:
        raise unsupported(f"chunk index: it has {len(data)} bytes; {CHUNKS_MAX_BYTES} are read at most")
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise malformed(f"chunk index: no ASCII at byte {error.start}") from error
    if lines[0] != HEADER:
        if re.fullmatch(r"dist-chunks [0-9]+", lines[0]):
            raise unsupported(f"chunk index: {lines[0]!r}; only {HEADER!r} is read")
        raise malformed("chunk index: it does not begin with its header")
    infos: dict[Digest, BlobInfo] = {}
    at = 1
    for entry in tree.distinct:
        count = chunk_count(entry.size)
        head = lines[at].split("\t") if at < len(lines) else []
        texts = [f"\t{head[-1]}"] if count == 1 else lines[at + 1 : at + 1 + count]
        if len(head) != 3 or not all(text[:1] == "\t" and is_digest(text[1:]) for text in texts):
            raise malformed(
                f"chunk index: line {at + 1} or a chunk below it is not what is due for: {entry.path}"
            )
        info = BlobInfo(entry.blob, entry.size, tuple(bytes.fromhex(text[1:]) for text in texts))
        if info.root != head[2]:
            raise malformed(f"blob root mismatch for: {entry.path}")
        infos[entry.blob] = info
        at += 1 + (count if count > 1 else 0)
    if emit(tree, infos) != data:
        raise malformed("chunk index: it is not that of the tree, or not in the one form")
    return infos
