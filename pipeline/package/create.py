"""A package made, and signed.

The manifest says everything that follows from the content, so two passes are due: the first finds ids and chunks, the second writes and
verifies that the bytes are still those. The output depends on the arguments alone: not on where the folder is, on the order of its entries,
on times, owners, locale, umask or the number of threads.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from pipeline.minisign import SecretKey
from pipeline.package import chunks, manifest, native, portable
from pipeline.package.blob import BlobInfo, blob_id, blob_info
from pipeline.package.cas import Cas, get_tree, verified
from pipeline.package.compression import Compression
from pipeline.package.directory import open_regular, survey
from pipeline.package.errors import Sink, invalid, quiet, telling
from pipeline.package.hints import NO_HINTS, Hints
from pipeline.package.manifest import Dependency, Manifest, Output, PackagedArtifact, Text
from pipeline.package.native import NativePackage, Shape
from pipeline.package.read import open_package, verify_content
from pipeline.package.sealed import Sealed, open_sealed, seal
from pipeline.package.tree import Entry, Tree
from pipeline.values import Digest, Platform


class Format(StrEnum):
    """The two kinds of file."""

    NATIVE = "dpk"
    PORTABLE = "tar.gz"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a package is written. None of it changes what is signed."""

    format: Format = Format.NATIVE
    shape: Shape = Shape.FAT
    compression: Compression = Compression.ZSTD
    hints: Hints = NO_HINTS

    def check(self) -> None:
        """Raises `invalid` for what does not go together."""
        if self.format is Format.PORTABLE and (
            self.shape is not Shape.FAT or self.compression is not Compression.DEFLATE
        ):
            raise invalid(
                "a portable package is fat and compressed with deflate; choose the format dpk for anything else"
            )
        if self.hints and self.shape is not Shape.THIN:
            raise invalid("only a thin package tells where its content may be found")


@dataclass(frozen=True, slots=True)
class Description:
    """What people say about a package; the rest follows from its content. An artifact is a path, a platform and an architecture."""

    name: str
    version: str
    outputs: tuple[Output, ...] = ()
    artifacts: tuple[tuple[str, Platform, str], ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


def create_from_folder(
    out: BinaryIO,
    folder: Path,
    description: Description,
    *,
    encoding: Encoding,
    key: SecretKey | None = None,
    threads: int = 1,
    sink: Sink = quiet,
) -> Sealed:
    """Write a package of a folder to `out`, an empty and seekable file. Raises `invalid` for what cannot be packed."""

    def content(entry: Entry) -> Iterator[bytes]:
        with open_regular(folder / entry.path) as file:
            yield from verified(
                file, entry.blob, entry.size, f"{entry.path} (it changed while it was packed)"
            )

    with telling(sink, str(folder)):
        encoding.check()
        tree, infos = survey(folder, threads=threads, sink=sink)
        return _write(out, description, encoding, key, tree, infos, content, threads)


def create_from_cas(
    out: BinaryIO,
    cas: Cas,
    tree_id: Digest,
    description: Description,
    *,
    encoding: Encoding,
    key: SecretKey | None = None,
    threads: int = 1,
    sink: Sink = quiet,
) -> Sealed:
    """Write a package of a tree that a store has whole. Raises `not-found` and `malformed` for what the store lacks."""

    def content(entry: Entry) -> Iterator[bytes]:
        with closing(cas.open(entry.blob)) as file:
            yield from verified(file, entry.blob, entry.size, entry.path)

    with telling(sink, f"tree {tree_id}"):
        encoding.check()
        tree = get_tree(cas, tree_id)
        infos = {entry.blob: blob_info(content(entry)) for entry in tree.distinct}
        return _write(out, description, encoding, key, tree, infos, content, threads)


def sign(source: BinaryIO, out: BinaryIO, key: SecretKey, *, sink: Sink = quiet) -> Sealed:
    """Write the package in `source` to `out` with a signature by `key`, in place of the one that it may have.

    The manifest and the stored content stay as they are. Raises `malformed` for a damaged package: nothing is signed unread.
    """
    with telling(sink, "package"):
        verify_content(source, sink=sink)
        package = open_package(source)
        data = package.sealed.data
        sealed = open_sealed(data, seal(data, key))
        if isinstance(package, NativePackage):
            native.write(
                out,
                sealed,
                shape=package.shape,
                compression=package.compression,
                tree=package.tree,
                index=package.index,
                hints=package.hints,
                blocks=package.stored_blocks(),
            )
        else:
            portable.write(out, sealed, tree=package.tree, index=package.index, content=package.content)
        package.finish()
        return sealed


def _write(
    out: BinaryIO,
    description: Description,
    encoding: Encoding,
    key: SecretKey | None,
    tree: Tree,
    infos: Mapping[Digest, BlobInfo],
    content: Callable[[Entry], Iterable[bytes]],
    threads: int,
) -> Sealed:
    index = chunks.emit(tree, infos)
    data = manifest.emit(_manifest(description, tree, index))
    sealed = open_sealed(data, seal(data, key) if key is not None else None)
    if encoding.format is Format.PORTABLE:
        portable.write(out, sealed, tree=tree, index=index, content=content)
        return sealed
    whole = chain.from_iterable(content(entry) for entry in tree.distinct)
    native.write(
        out,
        sealed,
        shape=encoding.shape,
        compression=encoding.compression,
        tree=tree,
        index=index,
        hints=encoding.hints,
        blocks=native.pack(whole, encoding.compression, threads=threads),
    )
    return sealed


def _manifest(description: Description, tree: Tree, index: bytes) -> Manifest:
    """What is said and what follows from the content, checked against each other."""
    made = Manifest(
        name=description.name,
        version=description.version,
        tree=Text(tree.id, len(tree.data)),
        chunks=Text(blob_id(index), len(index)),
        content_bytes=sum(tree.blobs.values()),
        outputs=description.outputs,
        artifacts=tuple(_artifact(tree, *artifact) for artifact in description.artifacts),
        dependencies=description.dependencies,
        metadata=description.metadata,
    )
    for output in made.outputs:
        if tree.find(output.path) is None and not tree.has_folder(output.path):
            raise invalid(f"output {output.name!r} is not in the folder: {output.path!r}")
    return made


def _artifact(tree: Tree, path: str, platform: Platform, arch: str) -> PackagedArtifact:
    entry = tree.find(path)
    if entry is None or entry.is_link:
        raise invalid(f"an artifact is not a file of the folder: {path!r}")
    return PackagedArtifact(path, platform, arch, entry.size, entry.blob)
