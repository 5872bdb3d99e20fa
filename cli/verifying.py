"""What `dist verify URL` asks a server for: a manifest with its files, or a download, with their signatures, read as they come and kept nowhere.

    https://dist.example/apps/notes/releases/rel_…           a release: its page, its document or its manifest
    https://dist.example/api/v1/releases/rel_…[/manifest]
    https://dist.example/artifacts/art_…/notes.apk           a download

The server is believed nothing: not what a file's digest is, nor which key is whose.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, unquote

import httpx

from .client import API, Client
from .config import open_target, parse_server
from .download import READ_BYTES
from .errors import CliError, usage
from .paths import segment
from .session import Session

_RELEASE: Final = re.compile(
    r"(?P<server>https?://[^?#]*?)/(?:api/v1|apps/[^/?#]+)/releases/(?P<id>rel_[0-9a-z]{26})(?:/manifest)?/?(?:[?#].*)?"
)
_DOWNLOAD: Final = re.compile(
    r"(?P<server>https?://[^?#]*?)(?P<path>/artifacts/art_[0-9a-z]{26}/[^/?#]+)(?P<query>\?[^#]*)?"
)


def verify_address(session: Session, kit: Any, url: str, trusted: bytes) -> dict[str, Any]:
    """The document of the command, with `problems`. Raises CliError."""
    for pattern, look in ((_RELEASE, _release), (_DOWNLOAD, _download)):
        match = pattern.fullmatch(url)
        if match is not None:
            target = open_target(parse_server(match["server"]), session.token_option, session.environ)
            try:
                return look(session, session.client_of(target), kit, match, trusted)
            except httpx.HTTPError as error:
                raise session.client_of(target).unreachable(error) from error
    raise usage(
        f"{url} is neither a release nor a download of a distd server.",
        "Give https://…/apps/APP/releases/rel_…, …/api/v1/releases/rel_…/manifest, or …/artifacts/art_…/NAME.",
    )


def _release(
    session: Session, client: Client, kit: Any, match: re.Match[str], trusted: bytes
) -> dict[str, Any]:
    address = f"{API}/releases/{segment(match['id'])}/manifest"
    content = client.request("GET", address).content
    document: dict[str, Any] = kit.verify_manifest(
        content, _signature(client, address), trusted=trusted, path=match[0]
    )
    if document["problems"]:
        return document
    if document["manifest"]["release"] != match["id"]:
        document["problems"].append(
            kit.changed(match[0], f"the server gives the manifest of {document['manifest']['release']}")
        )
        return document
    for file in document["files"]:
        path = f"/artifacts/{file['id']}/{quote(file['filename'], safe='')}"
        bar = session.output.bar(file["filename"], file["size"], verb="reading")
        found, count = hashlib.sha256(), 0
        for piece in _pieces(client, path):
            found.update(piece)
            count += len(piece)
            if count > file["size"]:
                break
            bar.update(count)
        right = (found.hexdigest(), count) == (file["sha256"], file["size"])
        bar.done("as signed" if right else "is something else")
        if not right:
            document["problems"].append(
                kit.changed(client.server + path, f"its bytes are not those of SHA-256 {file['sha256']}")
            )
    return document


def _download(
    session: Session, client: Client, kit: Any, match: re.Match[str], trusted: bytes
) -> dict[str, Any]:
    path, query = match["path"], match["query"] or ""
    session.output.note(f"reading {client.server}{path}")
    document: dict[str, Any] = kit.verify_download(
        _pieces(client, path + query),
        _signature(client, path, query),
        trusted=trusted,
        path=match[0],
        name=unquote(path.rpartition("/")[2]),
    )
    return document


def _signature(client: Client, path: str, query: str = "") -> bytes | None:
    try:
        return client.request("GET", f"{path}.minisig{query}").content
    except CliError as error:
        if error.code == "not_found":
            return None
        raise


def _pieces(client: Client, path: str) -> Iterator[bytes]:
    with client.stream("GET", path, headers={"Accept": "*/*", "Accept-Encoding": "identity"}) as response:
        if not response.is_success:
            response.read()
            raise client.problem(response)
        yield from response.iter_bytes(READ_BYTES)
