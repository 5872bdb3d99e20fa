"""`dist ci publish --dry-run`: what a publish would do, asked without changing anything."""

from typing import Any

from .client import Client
from .comparing import artifact_key, attachment_key, attachment_row_key, compare, row_key
from .document import failure_of, release_document, rows
from .errors import CliError, ServerProblem
from .files import Ready
from .output import size
from .paths import segment
from .publishing import digests_of


def plan(client: Client, ready: Ready) -> dict[str, Any]:
    """The document of a dry run; `plan` lists the steps in order. Raises the CliError that a publish would end with."""
    manifest = ready.manifest
    wanted = digests_of(ready)
    steps: list[dict[str, Any]] = []
    try:
        client.get(f"/apps/{segment(manifest.app.slug)}")
    except ServerProblem as problem:
        if problem.status != 404:
            raise
        rights = client.get("/whoami").get("rights") or []
        if "app:create" not in rights:
            raise CliError(
                "forbidden",
                f"There is no app {manifest.app.slug!r} that this token may see, and the token lacks the right app:create.",
                remedy=f"Ask an admin for `dist app create {manifest.app.slug}`, or for a token that may create apps.",
                right="app:create",
            ) from problem
        steps.append({"action": "create_app", "app": manifest.app.slug})
        release = None
    else:
        release = find_release(client, manifest.app.slug, manifest.version, manifest.build)
    known = {"dry_run": True, "created": False, "app": manifest.app.slug} | (
        release_document(release) if release else {}
    )
    difference = compare(wanted, release) if release else None
    if release and not (release["status"] == "rejected" and difference):
        failure = failure_of(release, known=known)
        if failure is not None:
            raise failure
        if release["status"] != "draft" and difference:
            raise CliError(
                "immutable",
                f"{manifest.app.slug} {manifest.version} is {release['status']} as {release['id']} with other content: {difference.sentence()}.",
                remedy="Publish under a new version or build number; a release never changes.",
                known=known,
            )
        if release["status"] == "published":
            return known | {
                "plan": [{"action": "nothing", "reason": "published already with the same content"}]
            }
        if release["status"] != "draft":
            return known | {"plan": [{"action": "wait", "release_id": release["id"]}]}
        steps.append({"action": "continue_draft", "release_id": release["id"]})
    else:
        again = {"supersedes": release["id"]} if release else {}
        steps.append({"action": "open_release", "version": manifest.version, "build": manifest.build} | again)
    draft = release if release and release["status"] == "draft" else {}
    held = {row_key(row) for row in rows(draft, "artifacts")}
    attached = {attachment_row_key(row) for row in rows(draft, "attachments")}
    for artifact, file in wanted.artifacts:
        here = {
            "action": "keep" if artifact_key(artifact, file) in held else "upload" if file else "link",
            "platform": artifact.platform,
        }
        steps.append(
            here
            | (
                {"filename": file.filename, "size": file.size, "sha256": file.sha256}
                if file
                else {"url": artifact.link}
            )
        )
    for attachment, file in wanted.attachments:
        action = "keep" if attachment_key(attachment, file) in attached else "attach"
        steps.append(
            {
                "action": action,
                "kind": attachment.kind,
                "filename": file.filename,
                "size": file.size,
                "sha256": file.sha256,
            }
        )
    steps.append({"action": "submit"})
    if manifest.channel:
        steps.append({"action": "promote", "channel": manifest.channel})
    return known | {"plan": steps}


def find_release(client: Client, slug: str, version: str, build: int | None) -> dict[str, Any] | None:
    """The release of an identity as a publish would find it: a living one before a rejected one, the newest of several."""
    summaries = [
        row
        for row in client.pages(f"/apps/{segment(slug)}/releases", {"version": version})
        if row.get("build") == build
    ]
    if not summaries:
        return None
    chosen = next((row for row in summaries if row.get("status") != "rejected"), summaries[0])
    return client.get(f"/releases/{segment(str(chosen['id']))}")


def plan_lines(document: dict[str, Any]) -> list[str]:
    """The plan for people."""
    lines = []
    for step in document["plan"]:
        rest = [
            str(step[key])
            for key in ("app", "version", "release_id", "kind", "filename", "url", "channel", "reason")
            if step.get(key)
        ]
        if "size" in step:
            rest.append(size(step["size"]))
        lines.append(" ".join([step["action"].replace("_", " "), *rest]))
    return [*lines, "Nothing was changed."]
