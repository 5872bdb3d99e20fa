"""④ The distribution contract: the identity that an artifact has for ever, and whose it is.

An artifact with `contract` metadata takes its place when it is added to a draft, and gives it back when it is taken out, discarded or
rejected: nobody else can publish under it, and what was published under it is never replaced. `auto`, or no dist revision, takes the next.

Left to others: paths and files (`feeds/distribution.py`), who may see them (`distribution_index.py`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from sqlmodel import col, select

from pipeline import apps
from pipeline.access import Right
from pipeline.errors import Conflict, Invalid
from pipeline.feeds.distribution import Identity
from pipeline.models import App, Artifact, Release
from pipeline.operation import Operation
from pipeline.values import FILENAME_MAX_BYTES, Platform

AUTO: Final = "auto"
SUPPORT: Final = ("supported", "best-effort", "unsupported")
COMPATIBILITY_MAX: Final = 100
_EPOCH_MAX: Final = 2**53 - 1  # what every reader of JSON holds exactly
_REVISION: Final = re.compile(r"r[1-9][0-9]{0,5}")
_GIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_~-]{0,63}")
_WORDS: Final = {
    "target": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"), "the target triple, as in x86_64-unknown-linux-gnu"),
    "profile": (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}"), "the build profile, as in release"),
    "toolchain": (re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}"), "the version of the toolchain, as in 1.84.0"),
}  # fmt: skip
_KEYS: Final = (*_WORDS, "git_rev", "dist_revision", "source_date_epoch")
_TEXT_MAX_CHARS: Final = 500


def identity_of(release: Release, contract: Mapping[str, Any]) -> Identity:
    """The tuple of an artifact that has its place."""
    names = ("target", "profile", "toolchain", "git_rev", "dist_revision")
    return Identity(release.version, *(str(contract[name]) for name in names))


def reserve(operation: Operation, app: App, release: Release, artifact: Artifact) -> None:
    """Give an artifact its place. Raises `Invalid`, and `Conflict` when another has it."""
    contract = _parse(release, artifact.contract or {})
    revision = contract["dist_revision"]
    taken = _revisions(operation, app, identity_of(release, contract | {"dist_revision": "r1"}))
    if revision == AUTO:
        contract["dist_revision"] = f"r{max(taken, default=0) + 1}"
    elif int(revision[1:]) in taken:
        raise Conflict(
            f"The identity is taken: {taken[int(revision[1:])]} has dist revision {revision} of {release.version}, {contract['target']}, "
            f"{contract['profile']}, {contract['toolchain']}, {contract['git_rev'][:8]}.",
            remedy=f'A rebuild never replaces: use "dist_revision": "auto", or r{max(taken) + 1}.',
            pointer="/contract/dist_revision",
        )
    identity = identity_of(release, contract)
    name = identity.artifact_name(app.slug, artifact.filename or "")
    if len(name.encode()) > FILENAME_MAX_BYTES:
        _invalid(
            "/contract",
            f"{name} is longer than {FILENAME_MAX_BYTES} bytes.",
            "Shorten version, target or toolchain.",
        )
    artifact.contract, artifact.contract_place = contract, _place(app, identity)


def let_go(artifacts: Sequence[Artifact]) -> None:
    """What was rejected gives its place back: nobody ever saw it there."""
    for artifact in artifacts:
        artifact.contract_place = None


def reserve_again(operation: Operation, app: App, release: Release, artifacts: Sequence[Artifact]) -> None:
    """Before a rejected release is validated again. Raises `Conflict` when somebody has taken a place meanwhile."""
    for artifact in artifacts:
        if artifact.contract is not None and artifact.contract_place is None:
            reserve(operation, app, release, artifact)
            operation.session.flush()


def agrees(release: Release, there: Mapping[str, Any] | None, asked: Mapping[str, Any] | None) -> bool:
    """Whether an artifact that is there has what is asked for: then adding it again is no change."""
    if there is None or asked is None:
        return there is None and asked is None
    wanted = _parse(release, asked)
    if wanted["dist_revision"] == AUTO:
        wanted["dist_revision"] = there.get("dist_revision")
    return dict(there) == wanted


def set_compatibility(operation: Operation, slug: str, rows: Sequence[Mapping[str, Any]]) -> App:
    """Replace the matrix of what the app's artifacts run on, which is part of the index."""
    app = apps.find(operation, slug, Right.APP_WRITE)
    if len(rows) > COMPATIBILITY_MAX:
        _invalid("/rows", f"There are {len(rows)} rows.", f"At most {COMPATIBILITY_MAX} are taken.")
    parsed = sorted(
        (_compatibility(row, f"/rows/{number}") for number, row in enumerate(rows)),
        key=lambda row: (row["platform"], row["arch"]),
    )
    if len({(row["platform"], row["arch"]) for row in parsed}) != len(parsed):
        _invalid("/rows", "A platform and architecture stands there twice.", "Say one thing of each.")
    if parsed != (app.compatibility or []):
        app.compatibility = parsed
        operation.record("app.compatibility", app.id, app=app.slug, rows=parsed)
    return app


def _compatibility(row: Mapping[str, Any], at: str) -> dict[str, str]:
    found = {}
    for key, known in (
        ("platform", tuple(Platform)),
        ("arch", None),
        ("support", SUPPORT),
        ("assumptions", None),
    ):
        value = row.get(key, "" if key == "assumptions" else None)
        if not isinstance(value, str) or len(value) > _TEXT_MAX_CHARS or not value.isprintable():
            _invalid(f"{at}/{key}", f"{key} is one line of text.", "Write it.")
        if known is not None and value not in known:
            _invalid(f"{at}/{key}", f"{key} is {value[:40]!r}.", f"Use one of {', '.join(known)}.")
        if key == "arch" and not value:
            _invalid(f"{at}/{key}", "arch is empty.", "Name it, or write `any`.")
        found[key] = value
    return found


def _parse(release: Release, value: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with what is left out filled in. Raises `Invalid`."""
    if not _VERSION.fullmatch(release.version):
        _invalid(
            "/contract",
            f"The version {release.version!r} cannot be part of a path.",
            "Use letters, digits and `.+_~-`.",
        )
    for key in value:
        if key not in _KEYS:
            _invalid("/contract", f"contract has no key {key[:40]!r}.", f"Known are {', '.join(_KEYS)}.")
    found: dict[str, Any] = {}
    for key, (pattern, what) in _WORDS.items():
        text = value.get(key, "release" if key == "profile" else None)
        if not isinstance(text, str) or not pattern.fullmatch(text):
            _invalid(
                f"/contract/{key}", f"{key} is {_shown(text)}.", f"Give {what}: letters, digits and `._-`."
            )
        found[key] = text
    revision = value.get("git_rev", (release.source or {}).get("revision"))
    if not isinstance(revision, str) or not _GIT.fullmatch(revision):
        _invalid(
            "/contract/git_rev",
            f"git_rev is {_shown(revision)}.",
            "Give the whole revision, 40 or 64 hexadecimal digits, there or as source.revision: `git rev-parse HEAD`.",
        )
    dist_revision = value.get("dist_revision", AUTO)
    if not isinstance(dist_revision, str) or not (
        dist_revision == AUTO or _REVISION.fullmatch(dist_revision)
    ):
        _invalid(
            "/contract/dist_revision",
            f"dist_revision is {_shown(dist_revision)}.",
            "Use auto, or r1, r2 and so on.",
        )
    found |= {"git_rev": revision, "dist_revision": dist_revision}
    epoch = value.get("source_date_epoch")
    if epoch is not None:
        if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch <= _EPOCH_MAX:
            _invalid(
                "/contract/source_date_epoch",
                f"source_date_epoch is {_shown(epoch)}.",
                "Give seconds: `git log -1 --format=%ct`.",
            )
        found["source_date_epoch"] = epoch
    return found


def _revisions(operation: Operation, app: App, identity: Identity) -> dict[int, str]:
    """The dist revisions of this line that are taken, with the releases that have them."""
    start = _place(app, identity).rpartition("/")[0] + "/"
    query = select(Artifact.contract_place, Artifact.release_id).where(
        col(Artifact.contract_place).startswith(start, autoescape=True)
    )
    return {
        int(place.rpartition("/r")[2]): release_id
        for place, release_id in operation.session.exec(query).all()
        if place is not None and place.startswith(start)  # LIKE takes upper and lower case for the same
    }


def _place(app: App, identity: Identity) -> str:
    return f"{app.id}/{identity.folder}"


def _shown(value: Any) -> str:
    return "missing" if value is None else repr(value)[:80]


def _invalid(pointer: str, detail: str, remedy: str) -> NoReturn:
    raise Invalid(detail, remedy=remedy, pointer=pointer)
