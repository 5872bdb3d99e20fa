"""What `dist pkg` does, behind the entry-point group `dist.commands`: paths, texts and bytes in, JSON values out.

Here are the parts that a command decides and the library never does: which key file is read, that a file is written whole, that an unknown
key is pinned. Left to others: flags, passwords, where trusted keys are kept, the network and printing (`cli`), which knows of this module
only the functions, `PackageError` and `WrongPassword`.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from pipeline import minisign
from pipeline.errors import Invalid
from pipeline.minisign import NotMinisign, SecretKey, WrongPassword
from pipeline.package import create as making
from pipeline.package import hints, read, sealed
from pipeline.package.compression import Compression
from pipeline.package.create import Description, Encoding, Format
from pipeline.package.describe import describe, describe_encoding, describe_manifest, describe_seal
from pipeline.package.directory import add_directory
from pipeline.package.errors import PackageError, Sink, invalid, malformed, telling
from pipeline.package.files import is_inside, replacing
from pipeline.package.folder_cas import FolderCas
from pipeline.package.manifest import Dependency, Output
from pipeline.package.native import Shape
from pipeline.package.sealed import Answer, Sealed
from pipeline.package.sources import CachingSource, CasSource, FolderSource, Source
from pipeline.values import Digest, Platform, parse_digest

__all__ = ["PackageError", "WrongPassword"]

Password = Callable[[], bytes]
PORTABLE_SUFFIXES: Final = (".tar.gz", ".tgz")
Chosen = TypeVar("Chosen", bound=StrEnum)


def keygen(
    secret_file: Path, public_file: Path, *, password: bytes, entropy: minisign.Entropy, sink: Sink
) -> dict[str, Any]:
    """Make a key pair; a file that is there is never written over."""
    with telling(sink, str(secret_file)):
        key = minisign.generate(entropy)
        salt = entropy(minisign.SALT_BYTES) if password else b""
        for path, data, mode in (
            (secret_file, minisign.emit_secret_key(key, password=password, salt=salt), 0o600),
            (public_file, minisign.emit_public_key(key.public), 0o666),
        ):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
        return {
            "key_id": minisign.shown_key_id(key.key_id),
            "public_key": key.public.line,
            "secret_file": str(secret_file),
            "public_file": str(public_file),
            "encrypted": bool(password),
        }


def needs_password(key: bytes) -> bool:
    """Whether this secret key is encrypted."""
    try:
        return minisign.is_encrypted(key)
    except NotMinisign as error:
        raise malformed(f"secret key: {error}") from error


def create(
    source: str,
    out: Path,
    *,
    name: str,
    version: str,
    outputs: Sequence[str],
    artifacts: Sequence[str],
    dependencies: Sequence[str],
    metadata: Sequence[str],
    file_format: str | None,
    shape: str,
    compression: str | None,
    external: Path | None,
    servers: Sequence[str],
    store: Path | None,
    key: bytes | None,
    password: bytes,
    threads: int,
    sink: Sink,
) -> dict[str, Any]:
    """Make a package of the folder `source`, or of the tree `source` in a store, and of a thin one also the folder of its blobs."""
    with telling(sink, str(out)):
        description = Description(
            name,
            version,
            outputs=tuple(Output(*_pair(text, "NAME=PATH")) for text in outputs),
            artifacts=tuple(_artifact(text) for text in artifacts),
            dependencies=tuple(_dependency(text) for text in dependencies),
            metadata=tuple(_pair(text, "KEY=VALUE") for text in metadata),
        )
        encoding = _encoding(out, file_format, shape, compression, external, servers)
        if external is not None and store is not None:
            raise invalid("the content of a tree in a store is there already: --external is for a folder")
        signer = _secret_key(key, password) if key is not None else None
        if store is None:
            _refuse_inside(out, Path(source), "package")
        if external is not None:
            _refuse_inside(external, Path(source), "folder of blobs")
        with replacing(out) as file:
            if store is not None:
                cas, tree = FolderCas(store), _digest(source)
                made = making.create_from_cas(
                    file, cas, tree, description, encoding=encoding, key=signer, threads=threads, sink=sink
                )
            else:
                made = making.create_from_folder(
                    file, Path(source), description, encoding=encoding, key=signer, threads=threads, sink=sink
                )
        if external is not None:
            tree = add_directory(FolderCas(external), Path(source), threads=threads, sink=sink).id
            if tree != made.manifest.tree.id:
                out.unlink()
                raise malformed(f"{source}: it changed while it was packed")
        return _told(out, made)


def sign(package: Path, out: Path, *, key: bytes, password: bytes, sink: Sink) -> dict[str, Any]:
    """Sign a package, in place or into another file."""
    with telling(sink, str(package)):
        signer = _secret_key(key, password)
        with package.open("rb") as file, replacing(out) as target:
            made = making.sign(file, target, signer, sink=sink)
        return _told(out, made)


def verify(
    package: Path,
    *,
    trusted: bytes,
    decide: Callable[[dict[str, Any]], None],
    sources: Sequence[Path | Source],
    sink: Sink,
) -> dict[str, Any]:
    """Verify a package; `decide` gets the answer on trust before its content is read, and raises to end it there."""
    with telling(sink, str(package)), package.open("rb") as file:
        judgement: dict[str, Any] = {}
        looked = _sources(package, file, sources, None)
        found = read.verify_content(
            file,
            sources=looked,
            decide=_deciding(trusted, decide, judgement),
            sink=sink,
        )
        there = found.shape is Shape.FAT or (found.shape is Shape.THIN and bool(looked))
        return describe(found) | {"trust": judgement, "content_verified": there}


def unpack(
    package: Path,
    target: Path,
    *,
    trusted: bytes,
    decide: Callable[[dict[str, Any]], None],
    sources: Sequence[Path | Source],
    store: Path | None,
    sink: Sink,
) -> dict[str, Any]:
    """Unpack a package; as `verify` for trust. Content that it lacks comes from `store`, which keeps what is fetched, and `sources`."""
    cas = FolderCas(store) if store is not None else None
    keeping = cas.together() if cas is not None else nullcontext()
    with telling(sink, str(package)), keeping, package.open("rb") as file:
        judgement: dict[str, Any] = {}
        found = read.unpack(
            file,
            target,
            sources=_sources(package, file, sources, cas),
            decide=_deciding(trusted, decide, judgement),
            sink=sink,
        )
        return describe(found) | {"trust": judgement, "target": str(target)}


def inspect(package: Path, *, encoding: bool, sink: Sink) -> dict[str, Any]:
    """What a package is, without a judgement on its signature and without reading its content."""
    with telling(sink, str(package)), package.open("rb") as file:
        found = read.open_package(file)
        return describe(found) | ({"encoding": describe_encoding(found)} if encoding else {})


# -- what people write --------------------------------------------------------------------------


def _encoding(
    out: Path,
    file_format: str | None,
    shape: str,
    compression: str | None,
    external: Path | None,
    servers: Sequence[str],
) -> Encoding:
    chosen = _choice(
        Format, file_format or ("tar.gz" if out.name.endswith(PORTABLE_SUFFIXES) else "dpk"), "format"
    )
    usual = Compression.DEFLATE if chosen is Format.PORTABLE else Compression.ZSTD
    folders: tuple[str, ...] = ()
    if external is not None:
        try:
            place = Path(os.path.realpath(external)).relative_to(Path(os.path.realpath(out)).parent)
            folders = (place.as_posix(),)
        except ValueError as error:
            raise invalid(f"the folder of blobs has to be below that of the package: {external}") from error
    return Encoding(
        chosen,
        _choice(Shape, shape, "shape"),
        _choice(Compression, compression, "compression") if compression else usual,
        hints.make(folders=folders, servers=tuple(servers)),
    )


def _choice(kind: type[Chosen], text: str, what: str) -> Chosen:
    try:
        return kind(text)
    except ValueError as error:
        raise invalid(f"{text!r} is no {what}; there are {', '.join(kind)}") from error


def _pair(text: str, form: str) -> tuple[str, str]:
    left, mark, right = text.partition("=")
    if not mark:
        raise invalid(f"{text!r} is not {form}")
    return left, right


def _artifact(text: str) -> tuple[str, Platform, str]:
    path, mark, place = text.rpartition("=")
    platform, slash, arch = place.partition("/")
    if not mark or not slash:
        raise invalid(f"{text!r} is not PATH=PLATFORM/ARCH")
    return path, _choice(Platform, platform, "platform"), arch


def _dependency(text: str) -> Dependency:
    name, _, rest = text.partition("=")
    version, mark, tree = rest.rpartition("@")
    if not mark:
        raise invalid(f"{text!r} is not NAME=VERSION@TREE")
    return Dependency(name, version, _digest(tree))


def _digest(text: str) -> Digest:
    try:
        return parse_digest(text)
    except Invalid as error:
        raise invalid(error.detail.rstrip(".")) from error


def _secret_key(key: bytes, password: bytes) -> SecretKey:
    try:
        return minisign.parse_secret_key(key, password=password)
    except NotMinisign as error:
        raise malformed(f"secret key: {error}") from error


def _refuse_inside(out: Path, folder: Path, what: str) -> None:
    if is_inside(out, folder):
        raise invalid(f"the {what} would lie in the folder that the package is made of: {out}")


# -- what the library is given ------------------------------------------------------------------


def _deciding(
    trusted: bytes, decide: Callable[[dict[str, Any]], None], told: dict[str, Any]
) -> Callable[[Sealed], None]:
    """Judge, keep the answer in `told`, and ask."""

    def judged(found: Sealed) -> None:
        judgement = sealed.judge(found, trusted)
        told["answer"] = judgement.answer.value
        told["reason"] = judgement.reason
        told["signature"] = describe_seal(found)
        told["pin"] = (
            f"{judgement.pin} {found.manifest.name}" if judgement.answer is Answer.WOULD_PIN else None
        )
        decide(told)

    return judged


def _sources(
    package: Path, file: BinaryIO, named: Sequence[Path | Source], store: FolderCas | None
) -> list[Source]:
    """The store, then what was named, then the folders that the package names itself."""
    hinted = [package.parent / folder for folder in read.open_package(file).hints.folders]
    places = [
        _source(place) if isinstance(place, Path) else place
        for place in [*named, *(folder for folder in hinted if folder.is_dir())]
    ]
    if store is None:
        return places
    return [CasSource(store, str(store.root)), *(CachingSource(place, store) for place in places)]


def _source(place: Path) -> Source:
    """A folder of blobs, or a folder that has files at their own paths."""
    if not place.is_dir():
        raise invalid(f"not a folder: {place}")
    return CasSource(FolderCas(place), str(place)) if (place / "sha256").is_dir() else FolderSource(place)


def _told(file: Path, made: Sealed) -> dict[str, Any]:
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "manifest": describe_manifest(made),
        "signature": describe_seal(made),
    }
