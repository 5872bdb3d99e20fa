"""What `dist verify` and `dist contract verify` do, behind the entry-point group `dist.commands`: paths, texts and bytes in, JSON values out.

Left to others: flags, which keys a person trusts, what was seen before, the network and printing (`cli`).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from pipeline import minisign
from pipeline.package.errors import PackageError
from pipeline.package.sealed import TrustedKey, parse_trusted
from pipeline.proof import mirror, signed
from pipeline.proof.files import beginning, pieces
from pipeline.proof.problem import Broken, Problem, Unproven, broken
from pipeline.proof.signed import Manifest

__all__ = ["PackageError"]

_SIDE_MAX_BYTES: Final = 64 << 10
_RELEASE: Final = b"distd app:"
Document = dict[str, Any]


def verify_folder(
    folder: Path,
    *,
    trusted: bytes,
    head: str | None,
    recall: Callable[[str, str], str | None],
    wanted: Sequence[str] = (),
    complete: bool = False,
) -> Document:
    """A mirror, or one app of it; `wanted` apps have to be there. Raises `PackageError` when the keys cannot be read, and OSError."""
    apps, problems = mirror.check_mirror(
        folder, parse_trusted(trusted), head=head, recall=recall, complete=complete
    )
    missing = [name for name in wanted if name not in {proof.app for proof in apps}]
    problems += [Problem(name, Broken.APP_MISSING, "no release of this app is here") for name in missing]
    return {
        "apps": [
            {
                "app": proof.app,
                "key_id": proof.key_id,
                "releases": proof.releases,
                "withheld": proof.withheld,
                "files": proof.files,
                "bytes": proof.bytes,
                "head": _told(proof.head) if proof.head else None,
            }
            for proof in apps
        ],
        "problems": [problem.as_dict() for problem in problems],
    }


def verify_file(
    path: Path, *, trusted: bytes, manifest: Path | None, app: str | None = None, version: str | None = None
) -> Document:
    """A file by the signature beside it, or by the manifest of its release; `app` and `version` are what it has to be of.

    Raises `PackageError` for bad keys, and OSError.
    """
    keys = parse_trusted(trusted)
    try:
        found = _file(path, manifest, keys)
        _demand(str(path), found.get("manifest") or found, app, version)
    except Unproven as error:
        return {"problems": [error.problem.as_dict()]}
    return found | {"problems": []}


def _file(path: Path, manifest: Path | None, keys: tuple[TrustedKey, ...]) -> Document:
    if manifest is not None:
        return _by_manifest(path, manifest, keys)
    signature = _beside(path, ".minisig")
    if path.name == mirror.MANIFEST and signature is not None and _is_of_a_release(signature):
        found, key_id = signed.read_manifest(_text(path), signature, keys, path=str(path))
        return {"key_id": key_id, "manifest": _told(found)}
    download = signed.check_download(pieces(path), signature, keys, path=str(path), name=path.name)
    _same_sum(path, download.sha256)
    return download.as_dict()


def _demand(path: str, found: Document, app: str | None, version: str | None) -> None:
    if app not in {None, found["app"]} or version not in {None, found["version"]}:
        wanted = " ".join(word for word in (app, version) if word)
        raise broken(
            path,
            Broken.OTHER_RELEASE,
            f"it is of {found['app']} {found['version']}, and {wanted} was asked for",
        )


def verify_manifest(content: bytes, signature: bytes | None, *, trusted: bytes, path: str) -> Document:
    """The manifest of a release that came from elsewhere, with the files that it names."""
    try:
        found, key_id = signed.read_manifest(content, signature, parse_trusted(trusted), path=path)
    except Unproven as error:
        return {"problems": [error.problem.as_dict()]}
    files = [
        {
            "id": file.id,
            "filename": file.filename,
            "size": file.size,
            "sha256": file.sha256,
            "kind": file.kind,
        }
        for file in found.files
    ]
    return {"key_id": key_id, "manifest": _told(found), "files": files, "problems": []}


def verify_download(
    content: Iterable[bytes], signature: bytes | None, *, trusted: bytes, path: str, name: str
) -> Document:
    """The bytes of a download that come from elsewhere, while they come."""
    try:
        download = signed.check_download(content, signature, parse_trusted(trusted), path=path, name=name)
    except Unproven as error:
        return {"problems": [error.problem.as_dict()]}
    return download.as_dict() | {"problems": []}


def verify_index(content: bytes, signature: bytes | None, *, trusted: bytes, app: str, path: str) -> Document:
    """The distribution index of an app."""
    keys = parse_trusted(trusted)
    try:
        key_id, comment = signed.check(signature, [content], keys, path=path)
        if comment != f"distribution index of {app}":
            raise broken(
                path,
                Broken.OTHER_PURPOSE,
                f"its signature says {comment[:200]!r}, and this is the index of {app}",
            )
        signed.for_app(keys, key_id, app, path=path)
    except Unproven as error:
        return {"problems": [error.problem.as_dict()]}
    return {"key_id": key_id, "problems": []}


def changed(path: str, message: str) -> dict[str, str]:
    """The problem of a file that is not what a manifest says."""
    return Problem(path, Broken.CHANGED, message).as_dict()


def _by_manifest(path: Path, manifest: Path, keys: tuple[TrustedKey, ...]) -> Document:
    found, key_id = signed.read_manifest(
        _text(manifest), _beside(manifest, ".minisig"), keys, path=str(manifest)
    )
    digest, size = hashlib.sha256(), 0
    for piece in pieces(path):
        digest.update(piece)
        size += len(piece)
    named = next((file for file in found.files if file.sha256 == digest.hexdigest()), None)
    if named is None:
        rule = Broken.CHANGED if any(file.filename == path.name for file in found.files) else Broken.NOT_NAMED
        raise broken(str(path), rule, f"{found.shown} has no file with SHA-256 {digest.hexdigest()}")
    return {
        "key_id": key_id,
        "sha256": named.sha256,
        "size": size,
        "filename": named.filename,
        "kind": named.kind,
        "manifest": _told(found),
    }


def _same_sum(path: Path, digest: str) -> None:
    told = _beside(path, ".sha256")
    if told is not None and told.split()[:1] != [digest.encode()]:
        raise broken(
            str(path), Broken.SUM_DIFFERS, f"it has SHA-256 {digest}, and {path.name}.sha256 says another"
        )


def _beside(path: Path, suffix: str) -> bytes | None:
    try:
        return beginning(path.with_name(path.name + suffix), _SIDE_MAX_BYTES)
    except FileNotFoundError:
        return None


def _text(path: Path) -> bytes:
    """A manifest, or enough of something larger to see that it is none."""
    return beginning(path, signed.MANIFEST_MAX_BYTES + 1)


def _is_of_a_release(signature: bytes) -> bool:
    """By what the signature says of itself, believed or not: that is checked with it."""
    try:
        return minisign.parse_signature(signature).trusted_comment.startswith(_RELEASE)
    except minisign.NotMinisign:
        return False


def _told(manifest: Manifest) -> Document:
    return {
        "app": manifest.app,
        "release": manifest.release,
        "version": manifest.version,
        "build": manifest.build,
        "published_at": manifest.published_at,
        "revision": manifest.revision,
        "previous": manifest.previous[0] if manifest.previous else None,
        "sha256": manifest.sha256,
    }
