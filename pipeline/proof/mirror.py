"""A mirror: a folder of releases as `dist mirror` writes it, checked from the keys down to the last byte.

    DIR/<app>/<release id>/manifest.json
                           manifest.json.minisig
                           withheld.json                    when the server no longer gives the files out: why
                           <artifact id>/<file name>        each file that the manifest names

What is there and no manifest names is a problem as well: somebody could take it for a part of a release. `withheld.json` is not
signed and needs not be: it excuses the absence of files, and lets none in.
"""

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.package.sealed import TrustedKey
from pipeline.proof.chain import Place, check_chain
from pipeline.proof.files import beginning, pieces
from pipeline.proof.problem import Broken, Problem, Unproven
from pipeline.proof.signed import MANIFEST_MAX_BYTES, Manifest, NamedFile, read_manifest

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.json.minisig"
WITHHELD: Final = "withheld.json"
_SIGNATURE_MAX_BYTES: Final = 16 << 10
Recall = Callable[
    [str, str], str | None
]  # an app and a key's id to the SHA-256 of the head that was seen last


@dataclass(slots=True)
class AppProof:
    """What was found of one app. `complete`: the chain was followed from its head to the first release."""

    app: str
    key_id: str
    releases: int = 0
    withheld: int = 0
    files: int = 0
    bytes: int = 0
    head: Manifest | None = None
    problems: list[Problem] = field(default_factory=list)


def check_mirror(
    folder: Path, trusted: Sequence[TrustedKey], *, head: str | None, recall: Recall, complete: bool = False
) -> tuple[list[AppProof], list[Problem]]:
    """Every release below `folder`, which is a mirror or one app of it: what was found, by app, and all problems.

    `complete`: files that the server held back count as missing.
    """
    problems: list[Problem] = []
    found: dict[str, AppProof] = {}
    places: dict[str, list[Place]] = {}
    for release_folder, shown in _releases(folder, problems):
        try:
            manifest, key_id = _manifest(release_folder, shown, trusted)
        except Unproven as error:
            problems.append(error.problem)
            continue
        proof = found.setdefault(manifest.app, AppProof(manifest.app, key_id))
        places.setdefault(manifest.app, []).append(Place(f"{shown}/{MANIFEST}", manifest))
        proof.releases += 1
        misplaced = _misplaced(release_folder, shown, manifest)
        if misplaced is not None:
            problems.append(misplaced)
            continue
        problems += _files(release_folder, shown, manifest, proof, complete=complete)
    for app, proof in found.items():
        chain = check_chain(places[app], head=head, recalled=recall(app, proof.key_id))
        proof.head = chain.head
        problems += chain.problems
    return list(found.values()), problems


def _releases(folder: Path, problems: list[Problem]) -> Iterator[tuple[Path, str]]:
    """The folders of releases: DIR/<app>/<release>, or DIR/<release> when DIR is one app's. Anything else is a problem."""
    for path in _entries(folder, folder.name, problems):
        if not path.is_dir():
            problems.append(_unnamed(path.name))
        elif (path / MANIFEST).exists() or path.name.startswith("rel_"):
            yield path, path.name
        else:
            for inner in _entries(path, path.name, problems):
                shown = f"{path.name}/{inner.name}"
                if inner.is_dir():
                    yield inner, shown
                else:
                    problems.append(_unnamed(shown))


def _entries(folder: Path, shown: str, problems: list[Problem]) -> list[Path]:
    """What lies in a folder, in a fixed order, without what is neither a file nor a folder."""
    fine = []
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            fine.append(path)
        else:
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            problems.append(Problem(f"{shown}/{path.name}", Broken.ODD, f"it is {kind}"))
    return fine


def _manifest(folder: Path, shown: str, trusted: Sequence[TrustedKey]) -> tuple[Manifest, str]:
    path = f"{shown}/{MANIFEST}"
    content = _small(folder / MANIFEST, MANIFEST_MAX_BYTES + 1)
    if content is None:
        raise Unproven(Problem(path, Broken.MISSING, "the folder of a release has no manifest"))
    return read_manifest(content, _small(folder / SIGNATURE, _SIGNATURE_MAX_BYTES), trusted, path=path)


def _small(path: Path, most: int) -> bytes | None:
    """The first bytes of a regular file; None when there is none."""
    try:
        return beginning(path, most, follow=False)
    except OSError:
        return None


def _misplaced(folder: Path, shown: str, manifest: Manifest) -> Problem | None:
    path, app_folder = f"{shown}/{MANIFEST}", shown.rpartition("/")[0]
    if folder.name != manifest.release:
        return Problem(path, Broken.MISPLACED, f"it is the manifest of {manifest.release}, {manifest.shown}")
    if app_folder and app_folder != manifest.app:
        return Problem(path, Broken.MISPLACED, f"it is the manifest of an app that is called {manifest.app}")
    return None


def _files(
    folder: Path, shown: str, manifest: Manifest, proof: AppProof, *, complete: bool
) -> Iterable[Problem]:
    problems: list[Problem] = []
    wanted = {(file.id, file.filename): file for file in manifest.files}
    withheld = False
    for path in _entries(folder, shown, problems):
        if path.is_dir():
            for inner in _entries(path, f"{shown}/{path.name}", problems):
                named = wanted.pop((path.name, inner.name), None)
                where = f"{shown}/{path.name}/{inner.name}"
                if named is None or inner.is_dir():
                    problems.append(_unnamed(where))
                else:
                    problems += _compared(inner, where, named, proof)
        elif path.name == WITHHELD:
            withheld = True
        elif path.name not in {MANIFEST, SIGNATURE}:
            problems.append(_unnamed(f"{shown}/{path.name}"))
    proof.withheld += withheld
    if complete or not withheld:
        problems += [
            Problem(
                f"{shown}/{file.id}/{file.filename}",
                Broken.MISSING,
                f"{manifest.shown} has this {file.kind}, and it is not here",
            )
            for file in wanted.values()
        ]
    return problems


def _compared(path: Path, shown: str, named: NamedFile, proof: AppProof) -> list[Problem]:
    size = path.stat().st_size
    if size != named.size:
        return [
            Problem(
                shown,
                Broken.CHANGED,
                f"this {named.kind} has {size} bytes, and the manifest says {named.size}",
            )
        ]
    found = hashlib.sha256()
    for piece in pieces(path, follow=False):
        found.update(piece)
    proof.files += 1
    proof.bytes += size
    if found.hexdigest() != named.sha256:
        return [
            Problem(
                shown,
                Broken.CHANGED,
                f"this {named.kind} has SHA-256 {found.hexdigest()}, and the manifest says {named.sha256}",
            )
        ]
    return []


def _unnamed(path: str) -> Problem:
    return Problem(path, Broken.NOT_NAMED, "no manifest names it")
