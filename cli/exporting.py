"""An app's distribution index brought into a folder: what is there and right stays untouched, what is half there is gone on with.

The index is written last, and at once: a folder whose index can be read holds everything that the index names.
"""

import hashlib
from pathlib import Path
from urllib.parse import quote

from .client import Client
from .distribution import INDEX, Index, Row, parse_index
from .download import WantedFile, download
from .errors import CliError, ServerProblem
from .output import Output
from .paths import segment
from .whole import write_whole


def fetch_index(client: Client, app: str) -> tuple[Index, bytes]:
    """The index as the server has it now, and its bytes."""
    content = client.request("GET", address(app, INDEX)).content
    return parse_index(content), content


def address(app: str, path: str) -> str:
    """Where the server has a file of the index."""
    return f"/contract/{segment(app)}/{quote(path)}"


def export(client: Client, output: Output, app: str, out: Path) -> tuple[Index, int]:
    """Bring all of it; the index, and how many files were written."""
    index, content = fetch_index(client, app)
    signature = _signature(client, output, app)
    written = 0
    for row in index.rows:
        written += _artifact(client, output, app, row, out)
        for name in ("manifest", "provenance", "checksums"):
            written += _beside(client, app, row[f"{name}_file"], out)
        _same(out / row["checksums_file"], row["checksums_sha256"])
    if signature is None:
        (out / f"{INDEX}.minisig").unlink(missing_ok=True)  # of an index before this one
    else:
        written += write_whole(out / f"{INDEX}.minisig", signature)
    written += write_whole(out / INDEX, content)
    return index, written


def _signature(client: Client, output: Output, app: str) -> bytes | None:
    """The index's signature; None from a server whose release key is kept elsewhere and signs manifests only."""
    try:
        return client.request("GET", address(app, f"{INDEX}.minisig")).content
    except ServerProblem as problem:
        if problem.server_code != "not_signed":
            raise
        output.note(f"index.json is not signed: {problem.detail} {problem.remedy}")
        return None


def _artifact(client: Client, output: Output, app: str, row: Row, out: Path) -> bool:
    path = row["artifact_file"]
    wanted = WantedFile(
        path.rpartition("/")[2], row["artifact_size"], row["artifact_sha256"], address(app, path)
    )
    bar = output.bar(wanted.filename, wanted.size, verb="downloading")
    fresh = download(client, wanted, out / path, progress=bar.update)
    bar.done("written" if fresh else "is there already")
    return fresh


def _beside(client: Client, app: str, path: str, out: Path) -> bool:
    """One of the small files. What is there stays, or it was changed, and is not written over."""
    if (out / path).exists():
        return False
    return write_whole(out / path, client.request("GET", address(app, path)).content)


def _same(path: Path, sha256: str) -> None:
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise CliError(
            "conflict",
            f"{path} is there already and is not what the index says.",
            remedy="An identity is never replaced: somebody changed the file. Move the folder of the tuple away and export again.",
        )
