"""What people call a thing, and its id: a release by id or version, an artifact's file by id."""

from typing import Any

from .client import Client
from .errors import CliError
from .output import table
from .paths import segment


def release_by(client: Client, name: str, *, app: str | None = None) -> dict[str, Any]:
    """The release with this id, or of this version of `app`. Raises CliError when there is none, or more than one."""
    if name.startswith("rel_") or app is None:
        return client.get(f"/releases/{segment(name)}")
    found = list(client.pages(f"/apps/{segment(app)}/releases", {"version": name}))
    living = [row for row in found if row.get("status") != "rejected"] or found
    if not living:
        raise CliError(
            "not_found",
            f"{app} has no release {name!r}.",
            remedy=f"`dist release list {app}` shows what there is.",
        )
    if len(living) > 1:
        builds = "; ".join(f"{row.get('id')} is build {row.get('build')}" for row in living)
        raise CliError(
            "usage", f"{app} {name} has {len(living)} builds: {builds}.", remedy="Give the release's id."
        )
    return client.get(f"/releases/{segment(str(living[0]['id']))}")


def channels_table(channels: list[dict[str, Any]]) -> list[str]:
    """Channels for people."""
    rows = []
    for row in channels:
        release = row.get("release") or {}
        rows.append(
            (
                row.get("name"),
                release.get("version") or "-",
                "-" if release.get("build") is None else release["build"],
                row.get("release_id"),
                row.get("updated_at"),
                "yes" if row.get("protected") else "-",
                row.get("install_url"),
            )
        )
    withdrawn = [
        f"{row.get('name')}: {row['withdrawn'].get('detail')}" for row in channels if row.get("withdrawn")
    ]
    return [
        *table(("CHANNEL", "VERSION", "BUILD", "RELEASE", "MOVED", "PROTECTED", "INSTALL"), rows),
        *withdrawn,
    ]
