"""Signed texts: the manifest of a release, and the signature beside a download or an index.

A server signs manifests, downloads and indexes with one key. What a signature is for stands in its trusted comment, which it covers, and
is demanded here: else a file that somebody published, and whose bytes are a manifest, would pass for one.

A manifest is believed only in the one form that a server writes: canonical JSON (sorted keys, no spaces) of schema 1 with every field of
its type. So nobody can have two readers see two things in it. Source: docs/verify.md, "The manifest of a release".
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pipeline import minisign
from pipeline.package.sealed import TrustedKey
from pipeline.proof.problem import Broken, broken
from pipeline.values import is_digest

MANIFEST_MAX_BYTES: Final = 16 << 20
_SCHEMA: Final = 1
_ID: Final = re.compile(r"[a-z]{3}_[0-9a-z]{26}")
_DOWNLOAD: Final = re.compile(
    r"distd file sha256:(?P<sha256>[0-9a-f]{64}) app:(?P<app>\S+) version:(?P<version>\S+)(?: build:(?P<build>\d{1,19}))?"
    r" release:(?P<release>rel_[0-9a-z]{26}) name:(?P<name>.+)"
)
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "app": (str,),
    "release": (str,),
    "version": (str,),
    "build": (int, type(None)),
    "published_at": (str,),
    "source": (dict, type(None)),
    "previous": (dict, type(None)),
    "artifacts": (list,),
    "attachments": (list,),
}


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A file that a manifest names: an artifact, or an attachment of this kind."""

    id: str
    filename: str
    size: int
    sha256: str
    kind: str = "artifact"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of a release. `previous` is the release published before it, and the SHA-256 of that one's manifest."""

    sha256: str
    app: str
    release: str
    version: str
    build: int | None
    published_at: str
    revision: str | None
    previous: tuple[str, str] | None
    files: tuple[NamedFile, ...]

    @property
    def shown(self) -> str:
        """As people call it."""
        return f"{self.app} {self.version}" + ("" if self.build is None else f" ({self.build})")

    @property
    def comment(self) -> str:
        """What the trusted comment of its signature has to say."""
        build = "" if self.build is None else f" build:{self.build}"
        return f"distd app:{self.app} version:{self.version}{build} release:{self.release}"


def read_manifest(
    content: bytes, signature: bytes | None, trusted: Sequence[TrustedKey], *, path: str
) -> tuple[Manifest, str]:
    """A manifest that a trusted key signed as one, and the key's id. Raises `Unproven`.

    The signature is checked before the content is looked at.
    """
    key_id, comment = check(signature, [content], trusted, path=path)
    manifest = parse_manifest(content, path=path)
    if comment != manifest.comment:
        raise broken(
            path, Broken.OTHER_PURPOSE, f"its signature says {comment[:200]!r}, not {manifest.comment!r}"
        )
    for_app(trusted, key_id, manifest.app, path=path)
    return manifest, key_id


@dataclass(frozen=True, slots=True)
class Download:
    """A download, as its signature says what it is."""

    key_id: str
    sha256: str
    size: int
    app: str
    version: str
    build: int | None
    release: str
    filename: str

    def as_dict(self) -> dict[str, Any]:
        """For the document of a command."""
        return asdict(self)


def check_download(
    pieces: Iterable[bytes], signature: bytes | None, trusted: Sequence[TrustedKey], *, path: str, name: str
) -> Download:
    """The bytes of a download against the signature beside it; `name` is what it is called here. Raises `Unproven`."""
    digest, size = hashlib.sha256(), 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in pieces:
            digest.update(piece)
            size += len(piece)
            yield piece

    key_id, comment = check(signature, counted(), trusted, path=path)
    said = _DOWNLOAD.fullmatch(comment)
    if said is None or said["sha256"] != digest.hexdigest():
        hint = (
            " (the manifest of a release has to be called manifest.json)"
            if comment.startswith("distd app:")
            else ""
        )
        raise broken(
            path,
            Broken.OTHER_PURPOSE,
            f"its signature says {comment[:200]!r}, and is not that of a download{hint}",
        )
    for_app(trusted, key_id, said["app"], path=path)
    if said["name"] != name:
        shown = f"{said['app']} {said['version']}"
        raise broken(path, Broken.OTHER_NAME, f"it was given out as {said['name']}, of {shown}")
    build = None if said["build"] is None else int(said["build"])
    return Download(
        key_id, said["sha256"], size, said["app"], said["version"], build, said["release"], said["name"]
    )


def check(
    signature: bytes | None, pieces: Iterable[bytes], trusted: Sequence[TrustedKey], *, path: str
) -> tuple[str, str]:
    """The id of the trusted key that signed these bytes, and the trusted comment. Raises `Unproven`."""
    if signature is None:
        raise broken(path, Broken.UNSIGNED, "there is no signature beside it")
    try:
        parsed = minisign.parse_signature(signature)
    except minisign.NotMinisign as error:
        raise broken(path, Broken.NOT_A_SIGNATURE, f"its signature: {error}") from error
    shown = minisign.shown_key_id(parsed.key_id)
    known = {one.key for one in trusted if one.key.key_id == parsed.key_id}
    if len(known) > 1:
        raise broken(
            path,
            Broken.UNKNOWN_KEY,
            f"several trusted keys are called {shown}, and nothing says which is meant",
        )
    if not known:
        raise broken(path, Broken.UNKNOWN_KEY, f"it is signed by key {shown}, which is not trusted")
    try:
        flaw = minisign.verify(known.pop(), parsed, pieces)
    except minisign.MessageTooLarge as error:
        raise broken(
            path, Broken.NOT_A_SIGNATURE, f"it is signed in minisign's old way, over {error}"
        ) from error
    if flaw is not None:
        raise broken(path, Broken.DOES_NOT_HOLD, f"the signature by key {shown} does not hold: {flaw}")
    return shown, parsed.trusted_comment.decode("utf-8", "replace")


def for_app(trusted: Sequence[TrustedKey], key_id: str, app: str, *, path: str) -> None:
    """Raises `Unproven` when the key is trusted for other apps only."""
    ours = [one for one in trusted if minisign.shown_key_id(one.key.key_id) == key_id]
    if not any(not one.names or app in one.names for one in ours):
        names = ", ".join(sorted(ours[0].names))
        raise broken(path, Broken.OTHER_APPS_KEY, f"key {key_id} is trusted for {names}, and this is {app}")


def parse_manifest(content: bytes, *, path: str) -> Manifest:
    """Raises `Unproven` for what is not the canonical text of a manifest."""

    def malformed(why: str) -> Exception:
        return broken(path, Broken.MALFORMED, f"it is no release manifest: {why}")

    if len(content) > MANIFEST_MAX_BYTES:
        raise malformed(f"more than {MANIFEST_MAX_BYTES >> 20} MiB")
    try:
        value = json.loads(content)
        same = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    except (ValueError, RecursionError) as error:
        raise malformed(f"no JSON ({type(error).__name__})") from error
    if not isinstance(value, dict) or value.get("schema") != _SCHEMA:
        raise malformed(f"it has no schema {_SCHEMA}")
    if same != content:
        raise malformed("it is not in canonical form")
    wrong = next(
        (name for name, kinds in _KINDS.items() if name not in value or not _is(value[name], kinds)), None
    )
    if wrong is not None:
        raise malformed(f"{wrong} is missing or of another type")
    previous = value["previous"]
    try:
        files = [
            *(_file(row, "artifact") for row in value["artifacts"] if row["sha256"] is not None),
            *(_file(row, row["kind"]) for row in value["attachments"]),
        ]
        before = (
            None if previous is None else (_id(previous["release"]), _sha256(previous["manifest_sha256"]))
        )
        release = _id(value["release"])
    except (KeyError, TypeError, ValueError) as error:
        raise malformed(f"{error} is missing or makes no sense") from error
    return Manifest(
        sha256=hashlib.sha256(content).hexdigest(),
        app=value["app"],
        release=release,
        version=value["version"],
        build=value["build"],
        published_at=value["published_at"],
        revision=(value["source"] or {}).get("revision"),
        previous=before,
        files=tuple(files),
    )


def _is(value: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _file(row: Any, kind: Any) -> NamedFile:
    filename, size = row["filename"], row["size"]
    if not isinstance(kind, str) or not _is(size, (int,)) or size < 0:
        raise ValueError("a file's kind or size")
    if (
        not isinstance(filename, str)
        or not filename
        or set(filename) & set("/\\\0")
        or filename in {".", ".."}
    ):
        raise ValueError("a file's name")
    return NamedFile(_id(row["id"]), filename, size, _sha256(row["sha256"]), kind)


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError("an id")
    return value


def _sha256(value: Any) -> str:
    if not isinstance(value, str) or not is_digest(value):
        raise ValueError("a SHA-256")
    return value
