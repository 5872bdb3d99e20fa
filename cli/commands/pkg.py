"""`dist pkg`: signed packages, created, signed, verified, unpacked and inspected. The library comes with an extra, through an entry point."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ..config import open_target, parse_server
from ..errors import usage
from ..library import THREADS, library, work
from ..output import pairs, size, table
from ..session import Session, command, group
from ..trusted import decision, pin, trusted_keys

app = group("Signed packages: create, sign, verify, unpack, with no server.")

_PACKAGE = Annotated[
    Path, typer.Argument(metavar="PACKAGE", show_default=False, help="A .dpk or .tar.gz file.")
]
_KEYS = Annotated[
    list[str] | None,
    typer.Option(
        "--key", metavar="KEY", help="A trusted public key, or its file; then no others are trusted."
    ),
]
_TOFU = Annotated[
    bool,
    typer.Option("--tofu", help="Pin the key of a package of which nothing is known: trust on first use."),
]
_ANYONE = Annotated[
    bool, typer.Option("--trust-anyone", help="Whoever made it. The content is verified nevertheless.")
]
_FROM = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="DIR|URL", help="Where the content of a thin package is looked for."),
]


@command(app, "keygen", server=False)
def keygen(
    session: Session,
    secret: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", show_default=False, help="The secret key; FILE.pub is the public one."
        ),
    ],
    password: Annotated[
        bool,
        typer.Option(
            "--password/--no-password", help="Encrypt the secret key; asks, or reads a line of stdin."
        ),
    ] = True,
) -> None:
    """Make a key pair for packages, in minisign's formats."""
    kit = library("pkg")
    typed = _password("Password", confirm=True) if password else b""
    if password and not typed:
        raise usage("The password is empty.", "Give one, or --no-password.")
    public = secret.with_name(f"{secret.name}.pub")
    document = work(
        session,
        kit,
        lambda sink: kit.keygen(secret, public, password=typed, entropy=os.urandom, sink=sink),
    )
    session.output.result(
        document, [f"Secret key: {secret}", f"Public key: {public}", document["public_key"]]
    )


@command(app, "create", server=False)
def create(
    session: Session,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER", show_default=False, help="What to pack; with --store the id of a tree."
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="PACKAGE", show_default=False, help="The file to write.")],
    name: Annotated[str, typer.Option("--name", show_default=False, help="The name of the package.")],
    version: Annotated[str, typer.Option("--version", show_default=False, help="Its version.")],
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Sign with this secret key.")
    ] = None,
    file_format: Annotated[
        str | None, typer.Option("--format", help="dpk or tar.gz; by default as the file is named.")
    ] = None,
    shape: Annotated[str, typer.Option("--shape", help="fat, thin or metadata.")] = "fat",
    compression: Annotated[
        str | None, typer.Option("--compression", help="none, deflate, lz4 or zstd (the default of dpk).")
    ] = None,
    output: Annotated[
        list[str] | None, typer.Option("--output", metavar="NAME=PATH", help="A part with a name of its own.")
    ] = None,
    artifact: Annotated[
        list[str] | None,
        typer.Option("--artifact", metavar="PATH=PLATFORM/ARCH", help="A file that is given out by itself."),
    ] = None,
    depends: Annotated[
        list[str] | None, typer.Option("--depends", metavar="NAME=VERSION@TREE", help="Another package.")
    ] = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Anything else, one line.")
    ] = None,
    external: Annotated[
        Path | None, typer.Option("--external", metavar="DIR", help="Thin: write the blobs to this folder.")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="URL", help="Thin: a server that has the blobs.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DIR", help="Pack a tree of this store instead of a folder."),
    ] = None,
    threads: THREADS = 2,
) -> None:
    """Make a package. The same folder and options give the same bytes, whoever does it, wherever and whenever."""
    kit = library("pkg")
    secret, typed = _secret(session, kit, key) if key is not None else (None, b"")
    document = work(
        session,
        kit,
        lambda sink: kit.create(
            source,
            out,
            name=name,
            version=version,
            outputs=output or [],
            artifacts=artifact or [],
            dependencies=depends or [],
            metadata=meta or [],
            file_format=file_format,
            shape=shape,
            compression=compression,
            external=external,
            servers=at or [],
            store=store,
            key=secret,
            password=typed,
            threads=threads,
            sink=sink,
        ),
    )
    session.output.result(document, _lines(document))


@command(app, "sign", server=False)
def sign(
    session: Session,
    package: _PACKAGE,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", show_default=False, help="The secret key.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write it there instead of in place.")
    ] = None,
) -> None:
    """Sign a package, after verifying all of it. Its content and its ids stay as they are."""
    kit = library("pkg")
    secret, typed = _secret(session, kit, key)
    document = work(
        session, kit, lambda sink: kit.sign(package, out or package, key=secret, password=typed, sink=sink)
    )
    session.output.result(document, _lines(document))


@command(app, "verify", server=False)
def verify(
    session: Session,
    package: _PACKAGE,
    key: _KEYS = None,
    tofu: _TOFU = False,
    trust_anyone: _ANYONE = False,
    sources: _FROM = None,
) -> None:
    """Verify who signed a package, and every byte of it. Exit status 5 when it is not to be trusted or damaged.

    Trusted are the keys of --key, else of the file that $DIST_TRUSTED_KEYS names, else of trusted_keys in the configuration folder.
    """
    kit = library("pkg")
    document = work(
        session,
        kit,
        lambda sink: kit.verify(
            package,
            trusted=trusted_keys(key or [], session.environ, may_begin=tofu),
            decide=decision(tofu=tofu, anyone=trust_anyone),
            sources=[_place(session, place, []) for place in sources or []],
            sink=sink,
        ),
    )
    document |= {"trust_required": not trust_anyone, "pinned": _pin(session, document, tofu=tofu)}
    session.output.result(document, _lines(document))


@command(app, "unpack", server=False)
def unpack(
    session: Session,
    package: _PACKAGE,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", show_default=False, help="A folder that does not exist yet.")
    ],
    key: _KEYS = None,
    tofu: _TOFU = False,
    trust_anyone: _ANYONE = False,
    sources: _FROM = None,
    store: Annotated[
        Path | None,
        typer.Option("--store", metavar="DIR", help="Keep what is fetched here, and look here first."),
    ] = None,
) -> None:
    """Unpack a package: all of it, verified and by a trusted key, or nothing.

    Content that a thin package lacks comes from --store, from each --from (a folder of blobs, an unpacked older version, a server), and
    from the folder of blobs that the package names beside itself. Only what is missing is fetched.
    """
    kit = library("pkg")
    fetched: list[int] = []
    document = work(
        session,
        kit,
        lambda sink: kit.unpack(
            package,
            target,
            trusted=trusted_keys(key or [], session.environ, may_begin=tofu),
            decide=decision(tofu=tofu, anyone=trust_anyone),
            sources=[_place(session, place, fetched) for place in sources or []],
            store=store,
            sink=sink,
        ),
    )
    document |= {"trust_required": not trust_anyone, "pinned": _pin(session, document, tofu=tofu)}
    document |= {"fetched": {"blobs": len(fetched), "bytes": sum(fetched)}}
    session.output.result(document, _lines(document))


@command(app, "inspect", server=False)
def inspect(
    session: Session,
    package: _PACKAGE,
    encoding: Annotated[
        bool, typer.Option("--encoding", help="Also regions, blocks, the chunk index and external sources.")
    ] = False,
) -> None:
    """Say what a package is, without a judgement on its signature."""
    kit = library("pkg")
    document = work(session, kit, lambda sink: kit.inspect(package, encoding=encoding, sink=sink))
    session.output.result(document, [*_lines(document), *_encoding_lines(document.get("encoding"))])


def _secret(session: Session, kit: Any, path: Path) -> tuple[bytes, bytes]:
    """A secret key and its password, which is asked for when there is one."""
    try:
        key = path.read_bytes()
    except OSError as error:
        raise usage(
            f"{path} cannot be read: {error.strerror}.", "Make one with `dist pkg keygen`."
        ) from error
    encrypted = work(session, kit, lambda _sink: kit.needs_password(key))
    return key, _password(f"Password of {path}") if encrypted else b""


def _password(what: str, *, confirm: bool = False) -> bytes:
    """From the terminal, or one line on stdin."""
    if sys.stdin.isatty():
        return str(typer.prompt(what, hide_input=True, confirmation_prompt=confirm, err=True)).encode()
    return sys.stdin.readline().rstrip("\r\n").encode()


def _place(session: Session, place: str, fetched: list[int]) -> Any:
    """A folder, or a server with the token that belongs to it, if there is one."""
    if not place.startswith(("https://", "http://")):
        return Path(place)
    from ..blobs import ServerBlobs  # noqa: PLC0415  it brings httpx, which takes a while to load

    target = open_target(parse_server(place), session.token_option, session.environ)
    return ServerBlobs(session.client_of(target), heard=fetched.append)


def _pin(session: Session, document: dict[str, Any], *, tofu: bool) -> bool:
    """Whether the key is pinned now, by this run."""
    path = pin(document["trust"], session.environ) if tofu else None
    if path is not None:
        session.output.note(
            f"Key {document['signature']['key_id']} is trusted for this name from now on: {path}"
        )
    return path is not None


def _lines(document: dict[str, Any]) -> list[str]:
    said, signature, trust = document["manifest"], document["signature"], document.get("trust") or {}
    return pairs(
        [
            ("name", said["name"]),
            ("version", said["version"]),
            ("format", document.get("format")),
            ("shape", document.get("shape")),
            ("compression", document.get("compression")),
            ("size", size(document["bytes"])),
            ("content", size(said["content_bytes"])),
            ("verified", _verified(document)),
            ("tree", said["tree"]),
            *[("output", f"{one['name']}: {one['path']}") for one in said["outputs"]],
            *[("artifact", f"{one['path']} ({one['platform']}/{one['arch']})") for one in said["artifacts"]],
            *[
                ("depends on", f"{one['name']} {one['version']} ({one['tree']})")
                for one in said["dependencies"]
            ],
            *said["metadata"].items(),
            ("signed by", signature["key_id"] if signature else "nobody"),
            ("comment", signature["trusted_comment"] if signature else None),
            ("trust", _answer(document, trust)),
            ("file", document.get("file")),
            ("target", document.get("target")),
            ("fetched", size(document["fetched"]["bytes"]) if document.get("fetched") else None),
        ]
    )


def _verified(document: dict[str, Any]) -> str | None:
    if "content_verified" not in document:
        return None
    return (
        "every byte"
        if document["content_verified"]
        else "who signed it; its content is not here, and was not looked at"
    )


def _answer(document: dict[str, Any], trust: dict[str, Any]) -> str | None:
    if document.get("trust_required") is False:
        return f"not asked for (--trust-anyone); it would be: {trust.get('answer')}"
    return "pinned now" if document.get("pinned") else trust.get("answer")


def _encoding_lines(encoding: dict[str, Any] | None) -> list[str]:
    if encoding is None:
        return []
    lines = [""]
    lines += table(
        ["region", "offset", "bytes"],
        [[row["tag"], row["offset"], row["bytes"]] for row in encoding["regions"]],
    )
    stored = sum(row["stored_bytes"] for row in encoding["blocks"])
    whole = sum(row["bytes"] for row in encoding["blocks"])
    lines += (
        ["", f"{len(encoding['blocks'])} blocks: {whole} bytes stored in {stored}"]
        if encoding["blocks"]
        else []
    )
    lines += ["", *table(
        ["blob", "size", "chunks", "root"],
        [[row["blob"], row["size"], row["chunks"], row["root"]] for row in encoding["chunk_index"]],
    )]  # fmt: skip
    if external := encoding["external"]:
        lines += ["", f"{external['blobs']} blobs of {external['bytes']} bytes come from elsewhere"]
        lines += [f"  {place}" for place in [*external["folders"], *external["servers"]]]
    return lines
