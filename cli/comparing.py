"""Does a release on the server hold what a manifest says? Decided here, without a request.

An artifact is the same when platform, variant and bytes are (for a link: the address). Architecture and format follow from the bytes, and the
server may call them by another name than the manifest, so they are not compared. An attachment is the same when kind, name and bytes are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .declared import Artifact, Attachment
from .digest import Digested
from .document import rows

Key = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A manifest with the digests of its files; a link has None."""

    artifacts: Sequence[tuple[Artifact, Digested | None]]
    attachments: Sequence[tuple[Attachment, Digested]]


@dataclass(frozen=True, slots=True)
class Difference:
    """What one side has and the other has not, in words; empty when both hold the same."""

    missing: tuple[str, ...]  # in the manifest only
    extra: tuple[str, ...]  # in the release only

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra)

    def sentence(self) -> str:
        """For people."""
        parts = []
        if self.missing:
            parts.append(f"the release does not hold {', '.join(self.missing)}")
        if self.extra:
            parts.append(
                f"it holds {', '.join(self.extra)} instead"
                if self.missing
                else f"it also holds {', '.join(self.extra)}"
            )
        return "; ".join(parts)


def artifact_key(artifact: Artifact, file: Digested | None) -> Key:
    """What makes an artifact of the manifest the same as one of a release."""
    return artifact.platform, artifact.variant or "", file.sha256 if file is not None else artifact.link or ""


def row_key(row: Mapping[str, Any]) -> Key:
    """The same for an artifact of a release document."""
    return (
        str(row.get("platform")),
        row.get("variant") or "",
        row.get("sha256") or (row.get("ios") or {}).get("url") or "",
    )


def attachment_key(attachment: Attachment, file: Digested) -> Key:
    """What makes an attachment of the manifest the same as one of a release."""
    return attachment.kind, file.filename, file.sha256


def attachment_row_key(row: Mapping[str, Any]) -> Key:
    """The same for an attachment of a release document."""
    return str(row.get("kind")), str(row.get("filename")), str(row.get("sha256"))


def compare(wanted: Wanted, release: Mapping[str, Any]) -> Difference:
    """What differs between a manifest and a release."""
    here = Counter[Key](artifact_key(artifact, file) for artifact, file in wanted.artifacts)
    here.update(attachment_key(attachment, file) for attachment, file in wanted.attachments)
    names = {artifact_key(artifact, file): _name(artifact, file) for artifact, file in wanted.artifacts}
    names |= {
        attachment_key(attachment, file): f"{file.filename} ({file.sha256[:12]}…)"
        for attachment, file in wanted.attachments
    }
    there = Counter[Key](row_key(row) for row in rows(release, "artifacts"))
    there.update(attachment_row_key(row) for row in rows(release, "attachments"))
    row_names = {row_key(row): _row_name(row) for row in rows(release, "artifacts")}
    row_names |= {attachment_row_key(row): _row_name(row) for row in rows(release, "attachments")}
    return Difference(
        tuple(names[key] for key in here - there),
        tuple(row_names[key] for key in there - here),
    )


def _name(artifact: Artifact, file: Digested | None) -> str:
    return f"{file.filename} ({file.sha256[:12]}…)" if file is not None else str(artifact.link)


def _row_name(row: Mapping[str, Any]) -> str:
    digest = row.get("sha256")
    return f"{row.get('filename')} ({digest[:12]}…)" if digest else str((row.get("ios") or {}).get("url"))
