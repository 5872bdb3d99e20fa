"""`dist cas`: folders as trees of blobs in a store, which is a folder too. The library comes with an extra, through an entry point."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..library import THREADS, library, work
from ..output import pairs, size, table
from ..session import Session, command, group

app = group("Folders as trees of blobs in a store, with no server.")

_STORE = Annotated[
    Path, typer.Option("--store", metavar="DIR", show_default=False, help="The folder of the store.")
]
_TREE = Annotated[str, typer.Argument(metavar="TREE", show_default=False, help="The id of a tree.")]


@command(app, "add", server=False)
def add(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="What to add.")],
    store: _STORE,
    threads: THREADS = 2,
) -> None:
    """Put a folder into a store, and print the id of its tree. Files that the store has are not written again."""
    kit = library("cas")
    document = work(session, kit, lambda sink: kit.add(folder, store, threads=threads, sink=sink))
    session.output.result(document, _summary(document))


@command(app, "get", server=False)
def get(
    session: Session,
    blob: Annotated[str, typer.Argument(metavar="BLOB", show_default=False, help="The SHA-256 of a file.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="Where to write it.")],
    store: _STORE,
) -> None:
    """Write a blob to a file, verified."""
    kit = library("cas")
    document = work(session, kit, lambda sink: kit.get(blob, file, store, sink=sink))
    session.output.result(document, [f"{document['file']}: {size(document['bytes'])}"])


@command(app, "verify", server=False)
def verify(session: Session, tree: _TREE, store: _STORE) -> None:
    """Read every byte of a tree. Exit status 5 when something is damaged, 2 when something is missing."""
    kit = library("cas")
    document = work(session, kit, lambda sink: kit.verify(tree, store, sink=sink))
    session.output.result(document, _summary(document))


@command(app, "materialize", server=False)
def materialize(
    session: Session,
    tree: _TREE,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", show_default=False, help="A folder that does not exist yet.")
    ],
    store: _STORE,
) -> None:
    """Make a folder from a tree: all of it, verified, or nothing."""
    kit = library("cas")
    document = work(session, kit, lambda sink: kit.materialize(tree, target, store, sink=sink))
    session.output.result(document, _summary(document))


@command(app, "ls", server=False)
def ls(session: Session, tree: _TREE, store: _STORE) -> None:
    """List the files and links of a tree."""
    kit = library("cas")
    document = work(session, kit, lambda sink: kit.list_tree(tree, store, sink=sink))
    rows = [
        [row["mode"], row.get("size", ""), row.get("blob", f"→ {row.get('target')}"), row["path"]]
        for row in document["items"]
    ]
    session.output.result(document, table(["mode", "size", "blob", "path"], rows))


def _summary(document: dict[str, Any]) -> list[str]:
    return pairs(
        [
            ("tree", document["tree"]),
            ("files", document["files"]),
            ("links", document["links"]),
            ("blobs", document["blobs"]),
            ("size", size(document["bytes"])),
            ("target", document.get("target")),
        ]
    )
