"""A move of a channel, as people read it: which platforms change, what goes missing, and who will not follow."""

from collections.abc import Mapping
from typing import Any, Final

from .document import rows
from .output import size, table

_DIRECTIONS: Final = {
    "first": "the channel's first release",
    "forward": "forward",
    "back": "BACK to an earlier release",
    "same": "nowhere: it points there already",
}
_WOULD: Final = {
    "move": "The channel would move.",
    "ask": "The channel is protected: a second person would have to approve.",
    "stay": "Nothing would change.",
}


def effect_lines(document: Mapping[str, Any]) -> list[str]:
    """The report on a move, made or not."""
    effect = document.get("effect") or {}
    before, after = effect.get("from") or {}, effect.get("to") or {}
    direction = _DIRECTIONS.get(str(effect.get("direction")), effect.get("direction"))
    lines = [f"{document.get('name')}: {_release(before)} → {_release(after)}, {direction}"]
    changed = [row for row in rows(effect, "changes") if row.get("kind") != "same"]
    lines += table(
        ("CHANGE", "PLATFORM", "ARCH", "FORMAT", "VERSION", "BUILD", "SIZE", "MINIMUM OS", "SIGNER"),
        [
            (
                row.get("kind"),
                row.get("platform"),
                row.get("arch") or "-",
                row.get("format") or "-",
                _pair(row.get("version")),
                _pair(row.get("build")),
                _pair(row.get("size"), shown=lambda count: size(int(count))),
                _pair(row.get("min_os")),
                _pair(row.get("signer")),
            )
            for row in changed
        ],
    )
    for platform in effect.get("platforms_missing") or []:
        lines.append(f"goes missing: {platform}")
    for row in rows(effect, "will_not_follow"):
        where = "/".join(str(part) for part in (row.get("platform"), row.get("format")) if part)
        lines += [f"will not follow: {where}: {row.get('reason')}", f"  {row.get('remedy')}"]
    for row in rows(document, "findings"):
        lines += [
            f"{row.get('severity')}: {row.get('artifact')}: {row.get('message')} [{row.get('rule')}]",
            f"  {row.get('remedy')}",
        ]
    if document.get("dry_run"):
        lines.append(_WOULD.get(str(document.get("would")), ""))
    request = document.get("request")
    if request and request.get("status") == "pending":
        lines.append(
            f"Waits for approval until {request.get('expires_at')}: `dist channel approve {request.get('id')}`"
        )
    return lines


def requests_table(requests: list[dict[str, Any]]) -> list[str]:
    """Requests for people."""
    return table(
        ("REQUEST", "CHANNEL", "RELEASE", "STATUS", "ASKED BY", "AT", "EXPIRES", "DECIDED BY", "NOTE"),
        [
            (
                row.get("id"),
                row.get("channel"),
                row.get("release_id"),
                row.get("status"),
                (row.get("requester") or {}).get("name"),
                row.get("requested_at"),
                row.get("expires_at"),
                (row.get("decider") or {}).get("name") or "-",
                row.get("decision_note") or row.get("note") or "",
            )
            for row in requests
        ],
    )


def _release(side: Mapping[str, Any]) -> str:
    build = side.get("build")
    return f"{side.get('version') or 'nothing'}" + (f" ({build})" if build is not None else "")


def _pair(value: Any, *, shown: Any = str) -> str:
    """`1.0 → 1.1`, or the one value when it stays."""
    if not isinstance(value, Mapping):
        return "-"
    before, after = (None if value.get(key) is None else shown(value[key]) for key in ("from", "to"))
    if before == after:
        return before or "-"
    return f"{before or '-'} → {after or '-'}"
