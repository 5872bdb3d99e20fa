"""The confined child's other task: a package, written as its parts into a pipe. Left to others: who keeps them (`pipeline.unpacking`)."""

from typing import BinaryIO

from pipeline.formats.parts import Kind, end, header
from pipeline.formats.source import Source
from pipeline.package.blob import pieces_of
from pipeline.package.errors import malformed
from pipeline.package.native import Shape
from pipeline.package.read import open_package


def write_parts(source: Source, out: BinaryIO) -> None:
    """The tree and all blobs, or their names if they lie elsewhere. Raises `PackageError` when it is no package with a tree."""
    with source.file() as file:
        package = open_package(file)
        if package.tree is None:
            raise malformed("the package has no tree")
        out.write(header(Kind.TREE, package.tree.id, len(package.tree.data)) + package.tree.data)
        count = 1
        for entry in package.tree.distinct:
            count += 1
            if package.shape is Shape.THIN:
                out.write(header(Kind.NAME, entry.blob, entry.size))
                continue
            out.write(header(Kind.BLOB, entry.blob, entry.size))
            content = package.open(entry)
            if content is None:
                raise malformed(f"blob missing for: {entry.path}")
            out.writelines(pieces_of(content))
        package.finish()
        out.write(end(count))
