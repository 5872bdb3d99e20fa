"""A package made, and signed.

The manifest says everything that follows from the content. A fat .dpk is written in one pass all the same (`packing.py`); a .tar.gz takes
two, since what is compressed begins with the manifest: the first finds ids and chunks, the second verifies that the bytes are still those.
The output depends on the arguments alone: not on where the folder is, on the order of its entries, on times, owners, locale, umask or the
number of threads. A folder that somebody writes to meanwhile is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from pipeline.minisign import SecretKey
from pipeline.package import chunks, manifest, native, portable
from pipeline.package.blob import BlobInfo, blob_id, blob_info, chunk_count
from pipeline.package.cas import Cas, get_tree, verified
from pipeline.package.compression import Compression
from pipeline.package.directory import listing, open_regular
from pipeline.package.errors import Sink, invalid, malformed, quiet, telling
from pipeline.package.hints import NO_HINTS, Hints
from pipeline.package.manifest import Dependency, Manifest, Output, PackagedArtifact, Text
from pipeline.package.native import NativePackage, Shape
from pipeline.package.packing import Packing, write_head
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

    @property
    def has_data(self) -> bool:
        """Whether it is a .dpk with all content."""
        return self.format is Format.NATIVE and self.shape is Shape.FAT

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
    with telling(sink, str(folder)):
        encoding.check()
        found = listing(folder, sink=sink)

        def content(entry: Entry) -> Iterator[bytes]:
            with open_regular(folder / entry.path) as file:
                yield from verified(
                    file, entry.blob, entry.size, f"{entry.path} (it changed while it was packed)"
                )

        if encoding.has_data:
            sealed = _pack(
                out,
                description,
                encoding,
                key,
                found.stand_in,
                lambda packing: found.tree(packing.take, threads=1, sink=sink),
                threads,
            )
        else:
            tree, infos = found.survey(threads=threads, sink=sink)
            sealed = _write(out, description, encoding, key, tree, infos, content)
        found.check()
        return sealed


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
    with telling(sink, f"tree {tree_id}"):
        encoding.check()
        tree = get_tree(cas, tree_id)

        def content(entry: Entry) -> Iterator[bytes]:
            with closing(cas.open(entry.blob)) as file:
                yield from verified(file, entry.blob, entry.size, entry.path)

        def take(packing: Packing) -> Tree:
            for entry in tree.distinct:
                with closing(cas.open(entry.blob)) as file:
                    if packing.take(file, entry.size) != (entry.blob, entry.size):
                        raise malformed(f"blob digest mismatch for: {entry.path}")
            return tree

        if encoding.has_data:
            return _pack(out, description, encoding, key, tree, take, threads)
        infos = {entry.blob: blob_info(content(entry)) for entry in tree.distinct}
        return _write(out, description, encoding, key, tree, infos, content)


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


def _pack(
    out: BinaryIO,
    description: Description,
    encoding: Encoding,
    key: SecretKey | None,
    stand_in: Tree,
    take: Callable[[Packing], Tree],
    threads: int,
) -> Sealed:
    """A fat .dpk. `take` puts the content in and tells the tree, of which `stand_in` has the names and sizes."""

    def head(tree: Tree, infos: Mapping[Digest, BlobInfo], signer: SecretKey | None) -> tuple[bytes, Sealed]:
        index = chunks.emit(tree, infos)
        sealed = _sealed(description, tree, index, signer)
        made = native.head(
            sealed,
            shape=encoding.shape,
            compression=encoding.compression,
            tree=tree,
            index=index,
            hints=encoding.hints,
        )
        return made, sealed

    unknown = {
        blob: BlobInfo(blob, size, (bytes(32),) * chunk_count(size)) for blob, size in stand_in.blobs.items()
    }
    room = len(head(stand_in, unknown, _NOBODY if key is not None else None)[0])
    out.seek(room)
    with ThreadPoolExecutor(threads) as pool:
        packing = Packing(out, encoding.compression, pool=pool, threads=threads)
        try:
            tree = take(packing)
            infos = packing.end()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    made, sealed = head(tree, infos, key)
    write_head(out, made, room)
    return sealed


def _write(
    out: BinaryIO,
    description: Description,
    encoding: Encoding,
    key: SecretKey | None,
    tree: Tree,
    infos: Mapping[Digest, BlobInfo],
    content: Callable[[Entry], Iterable[bytes]],
) -> Sealed:
    """Any other package: its content, if it has one, comes after what follows from it, and is read again."""
    index = chunks.emit(tree, infos)
    sealed = _sealed(description, tree, index, key)
    if encoding.format is Format.PORTABLE:
        portable.write(out, sealed, tree=tree, index=index, content=content)
        return sealed
    native.write(
        out,
        sealed,
        shape=encoding.shape,
        compression=encoding.compression,
        tree=tree,
        index=index,
        hints=encoding.hints,
        blocks=(),
    )
    return sealed


def _sealed(description: Description, tree: Tree, index: bytes, key: SecretKey | None) -> Sealed:
    data = manifest.emit(_manifest(description, tree, index))
    return open_sealed(data, seal(data, key) if key is not None else None)


_NOBODY: Final = SecretKey(bytes(8), bytes(32))  # signs what nobody sees, to know how long a signature is


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
