"""A package opened, verified and unpacked.

Whom to believe is the caller's decision: `decide` gets the manifest with its seal before any content is read, and raises to end it there;
`sealed.judge` says what a seal is worth. What is done here holds against the manifest, whoever wrote it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from pipeline.package import magic
from pipeline.package.blob import blob_info
from pipeline.package.errors import (
    Findings,
    PackageError,
    Sink,
    invalid,
    malformed,
    quiet,
    telling,
)
from pipeline.package.materialise import materialise
from pipeline.package.native import NativePackage, Shape
from pipeline.package.portable import PortablePackage
from pipeline.package.sealed import Sealed
from pipeline.package.sources import Source, first_good

Package = NativePackage | PortablePackage


def open_package(file: BinaryIO) -> Package:
    """A package of either format, all but its content verified. Raises `malformed` and `unsupported`."""
    file.seek(0)
    head = file.read(len(magic.PORTABLE))
    if head.startswith(magic.PORTABLE[:2]):
        return PortablePackage(file)
    if not head:
        raise malformed("head: the file is empty")
    return NativePackage(file)


def anyone(_: Sealed) -> None:
    """The decision of a caller that has asked already, or does not care who made a package."""


def verify_content(
    file: BinaryIO,
    *,
    sources: Sequence[Source] = (),
    decide: Callable[[Sealed], None] = anyone,
    sink: Sink = quiet,
) -> Package:
    """Read every byte of a package and hold it against its manifest; each flaw is told to the sink, then the first is raised.

    Of a thin package the content is looked for in `sources`; without any, what is there is verified, and that is all.
    """
    with telling(sink, "package"):
        package = open_package(file)
        decide(package.sealed)
        if package.tree is None or package.blobs is None:
            return package
        if package.shape is Shape.THIN and not sources:
            return package
        findings = Findings(sink)
        for entry in package.tree.distinct:
            try:
                info = first_good(entry, _sources(package, sources), blob_info, sink=sink)
                if info != package.blobs[entry.blob]:
                    raise malformed(f"blob root mismatch for: {entry.path}")
            except PackageError as error:
                findings.add(error)
                if isinstance(package, PortablePackage):
                    break  # it is read forward only, and where it goes on is not known
        findings.end()
        package.finish()
        return package


def unpack(
    file: BinaryIO,
    target: Path,
    *,
    sources: Sequence[Source] = (),
    decide: Callable[[Sealed], None] = anyone,
    sink: Sink = quiet,
) -> Package:
    """Make `target` the folder that a package holds. Content that a thin package lacks comes from `sources`.

    All or nothing: whatever is wrong, there is no target. Raises `invalid` for a package of shape metadata.
    """
    with telling(sink, str(target)):
        package = open_package(file)
        decide(package.sealed)
        if package.tree is None:
            raise invalid("the package holds its manifest only: nothing can be unpacked from it")
        materialise(
            package.tree,
            target,
            _sources(package, sources),
            before_publishing=package.finish,
            sink=sink,
        )
        return package


def _sources(package: Package, sources: Sequence[Source]) -> Sequence[Source]:
    """A fat package is whole or refused: what is damaged in it is not made up for from elsewhere."""
    return sources if package.shape is Shape.THIN else [package]
