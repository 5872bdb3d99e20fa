"""The document that `dist ci publish` prints, made from the server's release document (contract, section 3).

The same shape serves every command that is about one release. Keys of the server that the contract does not name are passed on.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .errors import EXIT_STATUS, CliError
from .output import pairs, size, table

RELEASE_KEYS: Final = (
    "id",
    "version",
    "build",
    "status",
    "published_at",
    "url",
    "manifest_url",
    "signature_url",
    "created_at",
    "submitted_at",
    "revoked_at",
    "revoke_reason",
    "withheld",
    "pin",
    "notes",
    "source",
)
_OPTIONAL: Final = frozenset(
    {"created_at", "submitted_at", "revoked_at", "revoke_reason", "withheld", "pin", "notes", "source"}
)
_MARKS: Final = {"error": "error", "warning": "warning", "info": "info"}


def release_document(release: Mapping[str, Any], *, created: bool | None = None) -> dict[str, Any]:
    """The known part of the publish document; `created` is left out where the question does not arise."""
    document: dict[str, Any] = {} if created is None else {"created": created}
    return document | {
        "app": release.get("app"),
        "release": {
            key: release.get(key)
            for key in RELEASE_KEYS
            if key not in _OPTIONAL or release.get(key) is not None
        },
        "artifacts": rows(release, "artifacts"),
        "attachments": rows(release, "attachments"),
        "validations": rows(release, "validations"),
        "channel": release.get("channel_result"),
        "install_url": release.get("install_url"),
    }


def failure_of(release: Mapping[str, Any], *, known: Mapping[str, Any]) -> CliError | None:
    """Why a release that has ended is not published; None when it is (or is still on its way)."""
    status = release.get("status")
    if status == "revoked":
        reason = release.get("revoke_reason") or "no reason is given"
        return CliError(
            "immutable",
            f"Release {release.get('id')} was revoked: {reason}.",
            title="Revoked",
            remedy="Publish under a new version or build number.",
            known=known,
        )
    if status != "rejected":
        return None
    failure = release.get("failure") or {}
    code = failure.get("code")
    rerun = f"To have the same bytes checked again: `dist release rerun {release.get('id')}`."
    remedy = " ".join(part for part in (str(failure.get("remedy") or ""), rerun) if part)
    return CliError(
        str(code) if code in EXIT_STATUS else "validation_failed",
        str(failure.get("detail") or f"Release {release.get('id')} was rejected."),
        title=str(failure.get("title") or ""),
        remedy=remedy,
        known=known,
    )


def rows(release: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """A list of objects in a document; empty when it has none."""
    found = release.get(key)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def named(release: Mapping[str, Any]) -> dict[str, str]:
    """Artifact and attachment ids, and what to call them."""
    known = [*rows(release, "artifacts"), *rows(release, "attachments")]
    return {str(row.get("id")): str(row.get("filename") or f"{row.get('platform')} link") for row in known}


def release_lines(release: Mapping[str, Any]) -> list[str]:
    """A release for people: what it is, what it holds, what was found."""
    channel = release.get("channel_result") or {}
    held = release.get("withheld") or {}
    head = pairs(
        [
            ("release", f"{release.get('app')} {identity(release)}"),
            ("id", release.get("id")),
            ("status", release.get("status")),
            ("channel", channel.get("name") if channel.get("moved", True) else None),
            ("page", release.get("url")),
            ("install", release.get("install_url")),
            (held.get("kind", ""), held.get("detail")),
            ("pinned", (release.get("pin") or {}).get("note") or ("yes" if release.get("pin") else None)),
        ]
    )
    artifacts = table(
        ("ARTIFACT", "FILE", "PLATFORM", "ARCH", "FORMAT", "SIZE", "STATUS"),
        [
            (
                row.get("id"),
                row.get("filename") or (row.get("ios") or {}).get("url"),
                row.get("platform"),
                row.get("arch") or "-",
                row.get("format") or "-",
                "-" if row.get("size") is None else size(int(row["size"])),
                row.get("status"),
            )
            for row in rows(release, "artifacts")
        ],
    )
    return [
        *head,
        *([""] if artifacts else []),
        *artifacts,
        *_provenance_lines(release),
        *finding_lines(release),
    ]


def provenance_pairs(statements: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    """Who built what, from which source, for each statement of a provenance."""
    found: list[tuple[str, str | None]] = []
    for one in statements:
        source = one.get("source") or {}
        parts = (source.get("repository"), source.get("ref"), source.get("revision"))
        found += [
            ("predicate", one.get("predicate_type")),
            ("builder", one.get("builder")),
            ("build type", one.get("build_type")),
            ("source", " ".join(part for part in parts if part) or None),
            ("subjects", str(one.get("subject_count"))),
        ]
    return found


def _provenance_lines(release: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for row in rows(release, "attachments"):
        statements = rows(row, "provenance")
        if statements:
            signature = (row.get("signature") or {}).get("status")
            told = pairs([*provenance_pairs(statements), ("signature", signature)])
            lines += ["", f"provenance {row.get('filename')}", *(f"  {line}" for line in told)]
    return lines


def finding_lines(release: Mapping[str, Any]) -> list[str]:
    """Every finding, with what to do about it."""
    names = named(release)
    lines: list[str] = []
    for job in rows(release, "validations"):
        name = names.get(str(job.get("artifact_id")), str(job.get("artifact_id")))
        for found in rows(job, "findings"):
            mark = _MARKS.get(str(found.get("severity")), "note")
            lines.append(f"{mark}: {name}: {found.get('message')} [{found.get('rule')}]")
            if found.get("remedy"):
                lines.append(f"  {found['remedy']}")
        if job.get("error") and job.get("status") == "errored":
            lines.append(f"error: {name}: {job.get('step')}: {job['error']}")
    return ["", *lines] if lines else []


def identity(release: Mapping[str, Any]) -> str:
    """Version and build for people."""
    build = release.get("build")
    return f"{release.get('version')}" + (f" ({build})" if build is not None else "")


def digests(artifacts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """File name → `sha256:<hex>`; two files of one name are told apart by their artifact's id."""
    found: dict[str, str] = {}
    for row in artifacts:
        if row.get("sha256"):
            name = str(row.get("filename"))
            found[name if name not in found else f"{name} ({row.get('id')})"] = f"sha256:{row['sha256']}"
    return found
