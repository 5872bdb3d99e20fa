"""What `dist cas` does, behind the entry-point group `dist.commands`: paths and texts in, JSON values out.

Left to others: flags and printing (`cli`), which knows of this module only the functions and `PackageError`.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import Invalid
from pipeline.package.cas import get_blob, get_tree, verify_tree
from pipeline.package.directory import add_directory
from pipeline.package.errors import PackageError as PackageError  # noqa: PLC0414 - part of what the command line uses
from pipeline.package.errors import Sink, invalid, telling
from pipeline.package.files import is_inside, replacing
from pipeline.package.folder_cas import FolderCas
from pipeline.package.materialise import materialise
from pipeline.package.sources import CasSource
from pipeline.package.tree import Entry, Tree
from pipeline.values import Digest, parse_digest


def add(folder: Path, store: Path, *, threads: int, sink: Sink) -> dict[str, Any]:
    """Put a folder into a store, which is not in it: else the store would be part of what it keeps the next time."""
    with telling(sink, str(folder)):
        if is_inside(store, folder):
            raise invalid(f"the store would lie in the folder that is added: {store}")
        return _told(add_directory(FolderCas(store), folder, threads=threads, sink=sink))


def get(blob: str, file: Path, store: Path, *, sink: Sink) -> dict[str, Any]:
    """Write a blob to a file, verified, or not at all."""
    with telling(sink, str(file)):
        wanted = _digest(blob)
        with replacing(file) as out:
            out.writelines(get_blob(FolderCas(store), wanted))
        return {"blob": wanted, "bytes": file.stat().st_size, "file": str(file)}


def verify(tree: str, store: Path, *, sink: Sink) -> dict[str, Any]:
    """Read every byte of a tree."""
    with telling(sink, str(store)):
        return _told(verify_tree(FolderCas(store), _digest(tree), sink=sink))


def materialize(tree: str, target: Path, store: Path, *, sink: Sink) -> dict[str, Any]:
    """Make a folder from a tree."""
    with telling(sink, str(target)):
        cas = FolderCas(store)
        found = get_tree(cas, _digest(tree))
        materialise(found, target, [CasSource(cas, "")], sink=sink)
        return _told(found) | {"target": str(target)}


def list_tree(tree: str, store: Path, *, sink: Sink) -> dict[str, Any]:
    """The entries of a tree."""
    with telling(sink, str(store)):
        found = get_tree(FolderCas(store), _digest(tree))
        return _told(found) | {"items": [_row(entry) for entry in found.entries]}


def _told(tree: Tree) -> dict[str, Any]:
    files = list(tree.files)
    return {
        "tree": tree.id,
        "files": len(files),
        "links": len(tree.entries) - len(files),
        "blobs": len(tree.blobs),
        "bytes": sum(entry.size for entry in files),
    }


def _row(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = {"path": entry.path, "mode": entry.mode.name.lower()}
    return row | ({"target": entry.target} if entry.is_link else {"size": entry.size, "blob": entry.blob})


def _digest(text: str) -> Digest:
    try:
        return parse_digest(text)
    except Invalid as error:
        raise invalid(error.detail.rstrip(".")) from error
