"""`dist artifact upload`: files, or a TestFlight link, into a draft that another job opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import Client
from .declared import Artifact, Attachment
from .digest import digest
from .errors import usage
from .files import local_file
from .manifest import ATTACHMENT_KINDS, IOS_MODES
from .output import Output
from .platforms import PLATFORMS, guess, known_platform
from .publishing import add_artifact, add_attachment, send


@dataclass(frozen=True, slots=True)
class Said:
    """What the command line says of the files. `attachment` is a kind, and makes them files beside the artifacts."""

    platform: str | None = None
    arch: str | None = None
    format: str | None = None
    variant: str | None = None
    ios: dict[str, str] | None = None
    contract: dict[str, Any] | None = None
    attachment: str | None = None
    owner: str | None = None


def add_files(
    client: Client, output: Output, release_id: str, paths: Sequence[Path], said: Said
) -> list[dict[str, Any]]:
    """Upload and attach; returns the documents of what the draft now holds. Everything is checked before the first byte is sent."""
    _check(said)
    found = [local_file(path) for path in paths]
    if said.attachment is not None:
        files = [digest(file.path, filename=file.filename) for file in found]
        return [
            add_attachment(
                client,
                release_id,
                Attachment("", str(file.path), str(said.attachment), None),
                file,
                upload_id=send(client, output, file),
                owner=said.owner,
            )
            for file in files
        ]
    wanted = [_artifact(said, file.filename, str(file.path)) for file in found]
    if not found:
        return [add_artifact(client, release_id, _artifact(said, None, None), None, upload_id=None)]
    documents = []
    for artifact, local in zip(wanted, found, strict=True):
        file = digest(local.path, filename=local.filename)
        documents.append(
            add_artifact(client, release_id, artifact, file, upload_id=send(client, output, file))
        )
    return documents


def _artifact(said: Said, filename: str | None, path: str | None) -> Artifact:
    known = guess(filename) if filename else None
    platform = said.platform or ("ios" if said.ios else None) or (known.platform if known else None)
    if platform is None:
        raise usage(
            f"The platform of {filename} is not known.", f"Give --platform, one of {', '.join(PLATFORMS)}."
        )
    return Artifact(
        at="$",
        platform=platform,
        path=path,
        arch=said.arch,
        format=said.format,
        variant=said.variant,
        ios=said.ios,
        contract=said.contract,
    )


def contract_of(words: Sequence[str]) -> dict[str, Any] | None:
    """The tuple for the distribution index from KEY=VALUE words, as `contract` in dist.json has it; None without any."""
    found: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise usage(
                f"--contract {word!r} is not KEY=VALUE.", "As in --contract target=x86_64-unknown-linux-gnu."
            )
        found[key] = int(value) if key == "source_date_epoch" and value.isdecimal() else value
    return found or None


def _check(said: Said) -> None:
    known_platform(said.platform)
    if said.attachment is not None and said.attachment not in ATTACHMENT_KINDS:
        raise usage(
            f"{said.attachment!r} is not a kind of attachment.", f"Use {', '.join(ATTACHMENT_KINDS)}."
        )
    mode = (said.ios or {}).get("mode")
    if mode is not None and mode not in IOS_MODES:
        raise usage(f"{mode!r} is not an iOS mode.", f"Use {', '.join(IOS_MODES)}.")
    if (mode == "testflight") != bool((said.ios or {}).get("url")):
        raise usage(
            "A TestFlight link needs --ios-url, and only a TestFlight link has one.",
            "Use --ios-mode testflight --ios-url URL.",
        )
