"""The manifest: what a package says of itself, in one canonical text. This text is what is signed.

    dist-package 1
    name<TAB>notes
    version<TAB>1.4.0
    tree<TAB>id<TAB>bytes of its text
    chunks<TAB>id<TAB>bytes of its text
    content<TAB>bytes of all blobs, each counted once
    output<TAB>name<TAB>path                                 a file or folder of the tree that has a name of its own; `.` is all of it
    artifact<TAB>path<TAB>platform<TAB>arch<TAB>size<TAB>blob id     a file of the tree that is given out by itself
    dependency<TAB>name<TAB>version<TAB>tree id              another package, down to its bytes
    meta<TAB>key<TAB>value                                   anything else, one line each

The first six lines are there once; the others as often as needed, each kind in the order of the UTF-8 bytes of its first field, which is
unique. Only ids of content that is not compressed stand here, so a package keeps its manifest and its signature in every format, shape and
compression, and when a compression library writes other bytes one day.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, TypeVar

from pipeline.errors import Invalid
from pipeline.package.blob import SIZE_MAX
from pipeline.package.errors import Category, PackageError, malformed, unsupported
from pipeline.package.tree import Tree
from pipeline.package.tree_paths import flaw_of_path
from pipeline.values import Digest, Platform, is_digest, parse_version

HEADER: Final = "dist-package 1"
MANIFEST_MAX_BYTES: Final = 4 << 20
VALUE_MAX_CHARS: Final = 4096
Item = TypeVar("Item")

WHOLE: Final = "."  # the path of an output that is the whole tree
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}")
_KEY: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ARCH: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Output:
    """A part of the tree with a name."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class PackagedArtifact:
    """A file of the tree that is given out by itself."""

    path: str
    platform: Platform
    arch: str
    size: int
    blob: Digest


@dataclass(frozen=True, slots=True)
class Dependency:
    """Another package, down to its bytes."""

    name: str
    version: str
    tree: Digest


@dataclass(frozen=True, slots=True)
class Text:
    """A text that stands outside the manifest: its digest and its length."""

    id: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A sound manifest; `make` and `parse` only give such."""

    name: str
    version: str
    tree: Text
    chunks: Text
    content_bytes: int
    outputs: tuple[Output, ...] = ()
    artifacts: tuple[PackagedArtifact, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


def emit(manifest: Manifest) -> bytes:
    """The one text. Raises `invalid` when the values cannot stand in a manifest."""
    return _text(_checked(manifest, Category.INVALID))


def parse(data: bytes) -> Manifest:
    """The manifest with this text. Raises `malformed` for anything but the one form, and `unsupported` for another version."""
    if len(data) > MANIFEST_MAX_BYTES:
        raise unsupported(f"manifest: it has {len(data)} bytes; {MANIFEST_MAX_BYTES} are read at most")
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        raise malformed(f"manifest: no UTF-8 at byte {error.start}") from error
    if lines[0] != HEADER:
        if re.fullmatch(r"dist-package [0-9]+", lines[0]):
            raise unsupported(f"manifest: {lines[0]!r}; only {HEADER!r} is read")
        raise malformed("manifest: it does not begin with its header")
    if lines.pop():
        raise malformed("manifest: its last line is cut off")
    manifest = _checked(_parsed([line.split("\t") for line in lines[1:]]), Category.MALFORMED)
    if _text(manifest) != data:
        raise malformed("manifest: its lines are not in order, or not in the one form")
    return manifest


def check_tree(manifest: Manifest, tree: Tree) -> None:
    """Raises `malformed` when the manifest and the tree do not fit each other."""
    if (tree.id, len(tree.data)) != (manifest.tree.id, manifest.tree.size):
        raise malformed("tree: it is not the one that the manifest names")
    if sum(tree.blobs.values()) != manifest.content_bytes:
        raise malformed("manifest: the bytes of content are not those of the tree")
    for output in manifest.outputs:
        if tree.find(output.path) is None and not tree.has_folder(output.path):
            raise malformed(f"manifest: output {output.name!r} is not in the tree: {output.path!r}")
    for artifact in manifest.artifacts:
        entry = tree.find(artifact.path)
        if entry is None or entry.is_link or (entry.blob, entry.size) != (artifact.blob, artifact.size):
            raise malformed(f"manifest: artifact is not the file of the tree: {artifact.path!r}")


def _parsed(rows: list[list[str]]) -> Manifest:
    """The lines as values, in whatever order; `parse` compares the texts."""
    match rows[:5]:
        case [
            ["name", name],
            ["version", version],
            ["tree", tree, tree_size],
            ["chunks", chunks, chunks_size],
            ["content", content],
        ]:
            pass
        case _:
            raise malformed("manifest: lines 2 to 6 are not name, version, tree, chunks and content")
    outputs, artifacts, dependencies, metadata = [], [], [], []
    for number, row in enumerate(rows[5:], start=7):
        match row:
            case ["output", key, path]:
                outputs.append(Output(key, path))
            case ["artifact", path, platform, arch, size, blob] if platform in set(Platform):
                artifacts.append(PackagedArtifact(path, Platform(platform), arch, _count(size), Digest(blob)))
            case ["dependency", other, other_version, other_tree]:
                dependencies.append(Dependency(other, other_version, Digest(other_tree)))
            case ["meta", key, value]:
                metadata.append((key, value))
            case _:
                raise malformed(f"manifest: line {number} is of no kind that is known")
    return Manifest(
        name=name,
        version=version,
        tree=Text(Digest(tree), _count(tree_size)),
        chunks=Text(Digest(chunks), _count(chunks_size)),
        content_bytes=_count(content),
        outputs=tuple(outputs),
        artifacts=tuple(artifacts),
        dependencies=tuple(dependencies),
        metadata=tuple(metadata),
    )


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(SIZE_MAX))):
        raise malformed(f"manifest: {text[:40]!r} is no number")
    return int(text)


def _checked(manifest: Manifest, category: Category) -> Manifest:
    """The one place that says what a manifest may hold; its lists come out in order."""

    def need(holds: object, what: str) -> None:
        if not holds:
            raise PackageError(category, f"manifest: {what}")

    need(_NAME.fullmatch(manifest.name), f"{manifest.name[:80]!r} is not a name of a package")
    need(_is_version(manifest.version), f"{manifest.version[:80]!r} is not a version")
    for text in (manifest.tree, manifest.chunks):
        need(is_digest(text.id), "a digest is 64 lower-case hexadecimal digits")
    for size in (manifest.tree.size, manifest.chunks.size, manifest.content_bytes):
        need(0 <= size <= SIZE_MAX, "a number of bytes is out of range")
    for output in manifest.outputs:
        need(_KEY.fullmatch(output.name), f"{output.name[:80]!r} is not a name of an output")
        flaw = output.path != WHOLE and flaw_of_path(output.path)
        need(not flaw, f"the path of output {output.name!r} {flaw}")
    for artifact in manifest.artifacts:
        flaw = flaw_of_path(artifact.path)
        need(not flaw, f"the path of an artifact {flaw}: {artifact.path!r}")
        need(_ARCH.fullmatch(artifact.arch), f"{artifact.arch[:80]!r} is not an architecture")
        need(is_digest(artifact.blob) and 0 <= artifact.size <= SIZE_MAX, "an artifact has no blob")
    for dependency in manifest.dependencies:
        need(_NAME.fullmatch(dependency.name), f"{dependency.name[:80]!r} is not a name of a package")
        need(_is_version(dependency.version), f"{dependency.version[:80]!r} is not a version")
        need(is_digest(dependency.tree), "a dependency has no tree")
    for key, value in manifest.metadata:
        need(_KEY.fullmatch(key), f"{key[:80]!r} is not a key of metadata")
        need(
            _is_value(value), f"the value of {key!r} is not one line of at most {VALUE_MAX_CHARS} characters"
        )
    return Manifest(
        name=manifest.name,
        version=manifest.version,
        tree=manifest.tree,
        chunks=manifest.chunks,
        content_bytes=manifest.content_bytes,
        outputs=_ordered(manifest.outputs, lambda one: one.name, category),
        artifacts=_ordered(manifest.artifacts, lambda one: one.path, category),
        dependencies=_ordered(manifest.dependencies, lambda one: one.name, category),
        metadata=_ordered(manifest.metadata, lambda one: one[0], category),
    )


def _ordered(items: Iterable[Item], key: Callable[[Item], str], category: Category) -> tuple[Item, ...]:
    ordered = sorted(items, key=lambda item: key(item).encode())
    for one, other in pairwise(ordered):
        if key(one) == key(other):
            raise PackageError(category, f"manifest: {key(one)!r} is there twice")
    return tuple(ordered)


def _is_version(text: str) -> bool:
    try:
        text.encode()
        return parse_version(text) == text
    except (Invalid, UnicodeEncodeError):
        return False


def _is_value(text: str) -> bool:
    # Printable rules out line ends, tabs, control and bidirectional characters, and what is not UTF-8.
    return text.isprintable() and len(text) <= VALUE_MAX_CHARS


def _text(manifest: Manifest) -> bytes:
    rows: list[tuple[object, ...]] = [
        (HEADER,),
        ("name", manifest.name),
        ("version", manifest.version),
        ("tree", manifest.tree.id, manifest.tree.size),
        ("chunks", manifest.chunks.id, manifest.chunks.size),
        ("content", manifest.content_bytes),
        *(("output", one.name, one.path) for one in manifest.outputs),
        *(("artifact", one.path, one.platform, one.arch, one.size, one.blob) for one in manifest.artifacts),
        *(("dependency", one.name, one.version, one.tree) for one in manifest.dependencies),
        *(("meta", key, value) for key, value in manifest.metadata),
    ]
    return "".join("\t".join(map(str, row)) + "\n" for row in rows).encode()
