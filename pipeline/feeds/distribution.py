"""The distribution index, `distribution-contract@1.0`: identities of artifacts in, paths and files out. `docs/distribution.md` is its text.

An artifact is known for ever by its version, git revision, toolchain, profile, target and dist revision. Everything here follows from that
tuple and from what was published with it, so that the same releases give the same bytes, whoever asks and whenever.

Left to others: which tuple an artifact has (`pipeline/distribution.py`), which rows somebody may see (`pipeline/distribution_index.py`).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

CONTRACT: Final = "distribution-contract@1.0"
CONTRACT_FOLDER: Final = "1.0.0"
GIT_DIGITS: Final = (
    8  # of the revision, in paths and names; the dist revision counts what they leave the same
)
INDEX: Final = "dist/index.json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = f"urn:{CONTRACT.replace('@', ':')}:provenance"
_DOUBLE: Final = (".gz", ".xz", ".zst", ".bz2", ".lz4")  # endings that need the one before them
_ENDING: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_NUMBERS: Final = re.compile(r"([0-9]+)")


@dataclass(frozen=True, slots=True)
class Identity:
    """What an artifact is known by. `dist_revision` is `r` and a number."""

    version: str
    target: str
    profile: str
    toolchain: str
    git_rev: str
    dist_revision: str

    @property
    def line(self) -> str:
        """The folder of all dist revisions of it."""
        parts = (CONTRACT_FOLDER, self.version, self.target, self.profile, self.toolchain, self.git_sha)
        return "dist/" + "/".join(parts)

    @property
    def folder(self) -> str:
        """The folder of the artifact."""
        return f"{self.line}/{self.dist_revision}"

    @property
    def git_sha(self) -> str:
        """The revision as far as paths say it."""
        return self.git_rev[:GIT_DIGITS]

    def artifact_name(self, app: str, filename: str) -> str:
        """The canonical name of the artifact; the ending is the one it was published with."""
        parts = (
            app,
            f"v{self.version}",
            self.target,
            self.profile,
            self.toolchain,
            self.git_sha,
            self.dist_revision,
        )
        return f"{'-'.join(parts)}.{extension(filename)}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An artifact of the index, with what its files say of it. `attestations` are attached files of kind provenance, as (name, SHA-256)."""

    app: str
    identity: Identity
    filename: str
    sha256: str
    size: int
    source_date_epoch: int
    release_id: str
    release_manifest_sha256: str
    source: Mapping[str, Any]
    attestations: Sequence[tuple[str, str]] = ()

    @property
    def artifact_file(self) -> str:
        """Where the artifact lies."""
        return f"{self.identity.folder}/{self.identity.artifact_name(self.app, self.filename)}"

    def package_file(self, name: str) -> str:
        """Where `checksums.json`, `manifest.json` or `provenance.json` lies."""
        return f"{self.identity.folder}/package/{name}"


def extension(filename: str) -> str:
    """`tar.gz` of `a.tar.gz`, `bin` of a name without an ending that could be one."""
    stem, dot, last = filename.rpartition(".")
    if not dot or not stem or not _ENDING.fullmatch(last):
        return "bin"
    _, inner_dot, inner = stem.rpartition(".")
    if f".{last.lower()}" in _DOUBLE and inner_dot and inner == "tar":
        return f"{inner}.{last}"
    return last


def package(entry: Entry) -> dict[str, bytes]:
    """The three files beside an artifact, by name."""
    manifest, provenance = _text(_manifest(entry)), _text(_provenance(entry))
    checksums = {
        "algorithm": "sha256",
        "artifact_file": entry.artifact_file,
        "artifact_sha256": entry.sha256,
        "artifact_size": entry.size,
        "manifest_sha256": _sha256(manifest),
        "provenance_sha256": _sha256(provenance),
    }
    return {"checksums.json": _text(checksums), "manifest.json": manifest, "provenance.json": provenance}


def render(app: str, entries: Iterable[Entry], compatibility: Sequence[Mapping[str, Any]]) -> bytes:
    """The index: releases by version, then targets, profiles and artifacts, each in one order."""
    releases: dict[str, dict[str, dict[str, list[dict[str, Any]]]]] = {}
    for entry in sorted(entries, key=lambda entry: _order(entry.identity)):
        identity = entry.identity
        profiles = releases.setdefault(identity.version, {}).setdefault(identity.target, {})
        profiles.setdefault(identity.profile, []).append(_row(entry))
    return _text(
        {
            "contract": CONTRACT,
            "app": app,
            "compatibility": [dict(row) for row in compatibility],
            "releases": [
                {
                    "version": version,
                    "targets": [
                        {
                            "target": target,
                            "profiles": [
                                {"profile": profile, "artifacts": rows} for profile, rows in profiles.items()
                            ],
                        }
                        for target, profiles in targets.items()
                    ],
                }
                for version, targets in releases.items()
            ],
        }
    )


def _row(entry: Entry) -> dict[str, Any]:
    identity = entry.identity
    return {
        "artifact_file": entry.artifact_file,
        "artifact_sha256": entry.sha256,
        "artifact_size": entry.size,
        "checksums_file": entry.package_file("checksums.json"),
        "checksums_sha256": _sha256(package(entry)["checksums.json"]),
        "dist_revision": identity.dist_revision,
        "git_rev": identity.git_rev,
        "manifest_file": entry.package_file("manifest.json"),
        "provenance_file": entry.package_file("provenance.json"),
        "source_date_epoch": entry.source_date_epoch,
        "toolchain": identity.toolchain,
    }


def _manifest(entry: Entry) -> dict[str, Any]:
    identity = entry.identity
    return {
        "contract": CONTRACT,
        "app": entry.app,
        "version": identity.version,
        "target": identity.target,
        "profile": identity.profile,
        "toolchain": identity.toolchain,
        "git_rev": identity.git_rev,
        "dist_revision": identity.dist_revision,
        "source_date_epoch": entry.source_date_epoch,
        "artifact_file": entry.artifact_file,
        "artifact_sha256": entry.sha256,
        "artifact_size": entry.size,
        "published_as": entry.filename,
        "release": {"id": entry.release_id, "manifest_sha256": entry.release_manifest_sha256},
    }


def _provenance(entry: Entry) -> dict[str, Any]:
    """What the publisher said of where it comes from. It vouches for no builder; the attested files, if any, do."""
    identity, source = entry.identity, entry.source
    return {
        "_type": STATEMENT,
        "subject": [
            {
                "name": identity.artifact_name(entry.app, entry.filename),
                "digest": {"sha256": entry.sha256},
            }
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "source": {
                "repository": source.get("repository"),
                "revision": identity.git_rev,
                "ref": source.get("ref"),
            },
            "build": {
                "ci_url": source.get("ci_url"),
                "target": identity.target,
                "profile": identity.profile,
                "toolchain": identity.toolchain,
                "source_date_epoch": entry.source_date_epoch,
            },
            "attestations": [
                {"filename": name, "sha256": sha256} for name, sha256 in sorted(entry.attestations)
            ],
        },
    }


def _order(identity: Identity) -> tuple[Any, ...]:
    return (
        _natural(identity.version),
        identity.target,
        identity.profile,
        _natural(identity.toolchain),
        identity.git_rev,
        int(identity.dist_revision[1:]),
    )


def _natural(text: str) -> tuple[list[tuple[int, int, str]], str]:
    """1.9 before 1.10; the text itself where only the digits' zeros differ."""
    parts = [part for part in _NUMBERS.split(text) if part]
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts], text


def _text(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
