"""`dist mirror`: the releases of an app, with their signed manifests, in a folder that `dist verify` checks without a server."""

from pathlib import Path
from typing import Annotated

import typer

from ..output import size
from ..session import Session, command, group

app = group("An app's releases in a folder, to be verified offline.")


@command(app, "mirror")
def mirror(
    session: Session,
    slug: Annotated[str, typer.Option("--app", metavar="SLUG", show_default=False, help="The app.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", show_default=False, help="The folder; it gets DIR/SLUG/…"),
    ],
    manifests_only: Annotated[
        bool, typer.Option("--manifests-only", help="The signed manifests, without the files.")
    ] = False,
) -> None:
    """Bring every published release of an app into a folder. Again, it brings what is new and changes no byte of what is there."""
    from ..mirroring import bring  # noqa: PLC0415  needs httpx

    done = bring(session.client, session.output, slug, out, files=not manifests_only)
    session.output.result(
        {
            "app": slug,
            "out": str(out),
            "releases": done.releases,
            "new_releases": done.new,
            "withheld": done.withheld,
            "files_written": done.files,
            "bytes_written": done.bytes,
        },
        [
            f"{out}/{slug}: {done.releases} releases, {done.new} new; {done.files} files brought, {size(done.bytes)}",
            *([f"{done.withheld} are revoked or removed: their manifests only"] if done.withheld else []),
            f"Check it without the server: dist verify {out} --key KEY.pub",
        ],
    )
