"""What differs between two releases, artifact by artifact: version, size, minimum OS, signer, permissions, components of the SBOM.

Pure: rows in, differences out. What a move of a channel does to its followers is another question (`effect.py`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.models import Artifact

_FACTS: Final = ("version", "build", "min_os")


@dataclass(frozen=True, slots=True)
class Difference:
    """One property of one slot. A list that changed is given as what came and what went."""

    slot: str
    what: str
    old: Any = None
    new: Any = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def compare(before: Sequence[Artifact], after: Sequence[Artifact]) -> list[Difference]:
    """The differences, in the order of the later release's artifacts; then what it no longer has."""
    old, new = _by_slot(before), _by_slot(after)
    found: list[Difference] = []
    for slot, row in new.items():
        found += _pair(slot, old[slot], row) if slot in old else [Difference(slot, "added")]
    return found + [Difference(slot, "removed") for slot in old if slot not in new]


def _by_slot(rows: Iterable[Artifact]) -> dict[str, Artifact]:
    return {_slot(row): row for row in rows}


def _slot(row: Artifact) -> str:
    if row.attachment_kind is not None:
        return row.attachment_kind
    return " ".join(filter(None, (row.platform, "+".join(sorted(row.archs or [])), row.format, row.variant)))


def _pair(slot: str, old: Artifact, new: Artifact) -> list[Difference]:
    if (old.sha256, old.ios) == (new.sha256, new.ios):
        return []
    found = []
    for name in _FACTS:
        before, after = (old.facts or {}).get(name), (new.facts or {}).get(name)
        if before != after:
            found.append(Difference(slot, name, before, after))
    if old.size != new.size:
        found.append(Difference(slot, "size", old.size, new.size))
    for name, read in (("signer", _signers), ("permissions", _permissions), ("components", _components)):
        before_set, after_set = read(old), read(new)
        if before_set != after_set:
            found.append(
                Difference(
                    slot,
                    name,
                    added=tuple(sorted(after_set - before_set)),
                    removed=tuple(sorted(before_set - after_set)),
                )
            )
    return found or [Difference(slot, "content")]


def _signers(row: Artifact) -> set[str]:
    return {
        str(signer.get("subject") or signer.get("sha256"))
        for signer in (row.signature or {}).get("signers", [])
    }


def _permissions(row: Artifact) -> set[str]:
    return {str(name) for name in (row.details or {}).get("permissions") or []}


def _components(row: Artifact) -> set[str]:
    listed = (row.details or {}).get("component_list")
    if not isinstance(listed, list):
        return set()
    return {
        f"{item.get('name')} {item.get('version') or ''}".strip() for item in listed if isinstance(item, dict)
    }
