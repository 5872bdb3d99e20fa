"""An app's releases brought into a folder: manifest, signature and files of each, from the newest back along the chain.

    DIR/<app>/<release id>/manifest.json, manifest.json.minisig
                           withheld.json                why the server no longer gives the files out
                           <artifact id>/<file name>

What is there stays untouched; a half file is gone on with. The manifest is written after the files, so that one that is there has them all.
The lists of releases lead to the newest ones, whoever asks; the chain leads to any that they leave out.

Left to others: whether any of it is genuine (`dist verify`).
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from .client import API, Client
from .download import Wanted, download
from .errors import CliError
from .output import Output
from .paths import segment
from .strict_json import NotJson, parse
from .whole import read_if_there, write_whole

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = f"{MANIFEST}.minisig"
WITHHELD: Final = "withheld.json"
_ID: Final = re.compile(r"[a-z]{3}_[0-9a-z]{26}")


@dataclass(slots=True)
class Brought:
    """What a run did. `bytes` are those of files that were written now."""

    releases: int = 0
    new: int = 0
    withheld: int = 0
    files: int = 0
    bytes: int = 0
    places: dict[str, Path] = field(default_factory=dict)  # SHA-256 → where these bytes are in the mirror


def bring(client: Client, output: Output, app: str, out: Path, *, files: bool = True) -> Brought:
    """Everything that is missing. Raises CliError; what was brought by then stays."""
    done = Brought()
    told = {
        str(row["id"]): row
        for status in ("published", "revoked")
        for row in client.pages(f"/apps/{segment(app)}/releases", {"status": status})
    }
    waiting = list(told)
    seen: set[str] = set()
    while waiting:
        release_id = waiting.pop(0)
        if release_id in seen:
            continue
        seen.add(release_id)
        folder = out / app / _checked(release_id)
        row = told.get(release_id) or client.get(f"/releases/{segment(release_id)}")
        manifest = _release(client, output, row, folder, done, files=files)
        previous = (manifest.get("previous") or {}).get("release")
        if isinstance(previous, str):
            waiting.append(previous)
    return done


def _release(
    client: Client, output: Output, row: Mapping[str, Any], folder: Path, done: Brought, *, files: bool
) -> Mapping[str, Any]:
    address = f"{API}/releases/{segment(str(row['id']))}/manifest"
    there = folder / MANIFEST
    content = read_if_there(there)
    new = content is None
    if content is None:
        content = client.request("GET", address).content
    manifest = _parsed(content, folder)
    why = _why_withheld(row)
    if why is not None:
        done.withheld += 1
        write_whole(folder / WITHHELD, (json.dumps({"withheld": why}, ensure_ascii=False) + "\n").encode())
    elif files:
        for wanted in _files(manifest, folder):
            _file(client, output, wanted, folder / wanted.id / wanted.filename, done)
        (folder / WITHHELD).unlink(missing_ok=True)
    else:
        write_whole(folder / WITHHELD, b'{"withheld": "brought without its files (--manifests-only)"}\n')
    if read_if_there(folder / SIGNATURE) is None:
        write_whole(folder / SIGNATURE, client.request("GET", f"{address}.minisig").content)
    if new:
        write_whole(there, content)
        done.new += 1
    done.releases += 1
    return manifest


def _file(client: Client, output: Output, wanted: Wanted, path: Path, done: Brought) -> None:
    same = done.places.setdefault(wanted.sha256, path)
    if path.is_file() and path.stat().st_size == wanted.size:
        return  # whether its bytes are right, `dist verify` says
    if same is not path and same.is_file() and not path.exists() and _linked(same, path):
        return
    bar = output.bar(wanted.filename, wanted.size, verb="downloading")
    download(client, wanted, path, progress=bar.update)
    bar.done("written")
    done.files += 1
    done.bytes += wanted.size


def _linked(same: Path, path: Path) -> bool:
    """The same bytes once on the disk, where the file system can do that."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(same, path)
        path.with_name(f"{path.name}.part").unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _files(manifest: Mapping[str, Any], folder: Path) -> Iterator[Wanted]:
    for row in [*manifest.get("artifacts", []), *manifest.get("attachments", [])]:
        if row.get("sha256") is None:
            continue  # a link without a file
        filename = str(row["filename"])
        if not filename or set(filename) & set("/\\\0") or filename in {".", ".."}:
            raise _not_ours(folder, f"{filename[:80]!r} is no file name")
        yield Wanted(_checked(str(row["id"])), filename, int(row["size"]), str(row["sha256"]))


def _why_withheld(row: Mapping[str, Any]) -> str | None:
    held = row.get("withheld")
    return str(held.get("detail")) if isinstance(held, dict) else None


def _checked(identifier: str) -> str:
    """An id becomes part of a path: nothing else may."""
    if not _ID.fullmatch(identifier):
        raise CliError(
            "server_error",
            f"{identifier[:80]!r} is no id.",
            remedy="Look at --server; this is no distd server.",
        )
    return identifier


def _parsed(content: bytes, folder: Path) -> Mapping[str, Any]:
    try:
        value = parse(content)
    except NotJson as error:
        raise _not_ours(folder, str(error)) from error
    if not isinstance(value, dict):
        raise _not_ours(folder, "it is no object")
    return value


def _not_ours(folder: Path, why: str) -> CliError:
    return CliError(
        "validation_failed",
        f"The manifest of {folder.name} is none: {why}.",
        title="Not what it claims to be",
        remedy=f"Move {folder} away and mirror again; if it comes again, do not trust the server.",
    )
