"""Being a witness of the server's audit log: remember its last checkpoint, and demand that the next one grew out of it.

A log that was edited, cut short, or put back from an old backup shows here, because this machine remembers what the server said
before. `verify_log` reads every event and computes the tree itself; `observe` needs one proof only and runs after each publish.

Left to others: the arithmetic (`merkle.py`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .client import Client
from .config import state_dir, write_private
from .errors import CliError
from .merkle import Tree, is_consistent, leaf_hash

# The parts of an event that the list shows beside the body that was hashed: they must say the same.
_REPEATED: Final = ("id", "at", "action", "actor", "app", "subject", "details", "correlation_id")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the server said of its log: whose it is, its size in events, its root in lower-case hex."""

    origin: str
    size: int
    root: str


class Inconsistent(CliError):
    """The log is not what it was, or not what it says it is."""

    def __init__(self, detail: str, *, known: Mapping[str, Any] | None = None) -> None:
        super().__init__(
            "validation_failed",
            detail,
            title="The audit log was changed",
            remedy="Treat the server's records as untrusted, keep this machine's state folder as evidence, and ask the operator. "
            "If a backup was restored knowingly: `dist audit verify --accept-new-log`.",
            known=known,
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """Where this machine keeps the last checkpoint of one server."""

    path: Path

    @classmethod
    def of(cls, server: str, environ: Mapping[str, str]) -> "Memory":
        """The memory for a server; its file is named by a digest, never by what the server says."""
        host = urlsplit(server).hostname or "server"
        readable = "".join(char if char.isalnum() or char in ".-" else "_" for char in host)[:80]
        return cls(
            state_dir(environ)
            / "audit"
            / f"{readable}-{hashlib.sha256(server.encode()).hexdigest()[:16]}.json"
        )

    def recall(self) -> Checkpoint | None:
        """The last checkpoint that was seen; None on the first visit. Raises Inconsistent when the file is damaged."""
        try:
            value = json.loads(self.path.read_text(encoding="utf-8"))
            return _checkpoint(value)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise Inconsistent(f"The last checkpoint in {self.path} cannot be read: {error}.") from error

    def remember(self, checkpoint: Checkpoint, *, server: str) -> None:
        """Keep a checkpoint that was found consistent. Raises OSError."""
        write_private(self.path, json.dumps(asdict(checkpoint) | {"server": server}, indent=2) + "\n")


def observe(client: Client, memory: Memory) -> Checkpoint:
    """Fetch the checkpoint, demand that it grew out of the last one, and remember it. Raises Inconsistent, CliError or OSError."""
    now = fetch_checkpoint(client)
    before = memory.recall()
    if before is not None:
        _same_log(before, now)
        proof = []
        if 0 < before.size < now.size:
            answer = client.get("/audit/consistency", {"first": before.size, "second": now.size})
            proof = [_hex(text) for text in answer.get("proof", [])]
        if not is_consistent(before.size, now.size, _hex(before.root), _hex(now.root), proof):
            raise Inconsistent(
                f"The log of {now.size} events does not begin with the {before.size} events that were seen before."
            )
    memory.remember(now, server=client.server)
    return now


def verify_log(
    client: Client,
    memory: Memory,
    *,
    accept_new_log: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[Checkpoint, Checkpoint | None]:
    """Read every event, compute the tree, compare with the checkpoint and with the last one seen. Returns both. Raises Inconsistent."""
    now = fetch_checkpoint(client)
    before = None if accept_new_log else memory.recall()
    known = {"checkpoint": asdict(now), "previous": asdict(before) if before else None}
    if before is not None:
        _same_log(before, now, known=known)
    tree = Tree()
    if before is not None and before.size == 0:
        _demand_root(tree, before, known=known)
    for event in client.pages("/audit", {"order": "asc", "from_seq": 1}, limit=now.size):
        seq = tree.size + 1
        if event.get("seq") != seq:
            _demand_full_view(client)
        _check_event(event, seq, known=known)
        tree.add(_hex(str(event["leaf"])))
        if before is not None and tree.size == before.size:
            _demand_root(tree, before, known=known)
        progress(tree.size, now.size)
    if tree.size != now.size:
        _demand_full_view(client)
        raise Inconsistent(
            f"The checkpoint speaks of {now.size} events and the server gives {tree.size}.", known=known
        )
    if tree.root.hex() != now.root:
        raise Inconsistent(
            f"The root over all {now.size} events is {tree.root.hex()}, and the checkpoint says {now.root}.",
            known=known,
        )
    memory.remember(now, server=client.server)
    return now, before


def fetch_checkpoint(client: Client) -> Checkpoint:
    """What the server says of its log now. Raises CliError."""
    try:
        return _checkpoint(client.get("/audit/checkpoint"))
    except ValueError as error:
        raise CliError(
            "server_error", f"The server's checkpoint is damaged: {error}.", remedy="Ask the operator."
        ) from error


def _demand_full_view(client: Client) -> None:
    """A token with a scope does not see every event: then a gap is no evidence. Raises CliError `forbidden`."""
    if (client.get("/whoami").get("token") or {}).get("apps"):
        raise CliError(
            "forbidden",
            "This token sees some apps only, and the whole log can be checked only by one that sees all apps.",
            remedy="Use a token without a scope of apps and with the right audit:read.",
            right="audit:read",
        )


def _same_log(before: Checkpoint, now: Checkpoint, *, known: Mapping[str, Any] | None = None) -> None:
    if before.origin != now.origin:
        raise Inconsistent(
            f"This is another log: it was {before.origin!r} and is {now.origin!r}.", known=known
        )
    if now.size < before.size:
        raise Inconsistent(
            f"The log had {before.size} events and now has {now.size}: events are gone.", known=known
        )


def _demand_root(tree: Tree, before: Checkpoint, *, known: Mapping[str, Any]) -> None:
    if tree.root.hex() != before.root:
        raise Inconsistent(
            f"The first {before.size} events are not the ones that were seen before (root {before.root}, now {tree.root.hex()}).",
            known=known,
        )


def _check_event(event: Mapping[str, Any], seq: int, *, known: Mapping[str, Any]) -> None:
    """One event: in its place, its leaf made from its body, and shown as its body says."""
    if event.get("seq") != seq:
        raise Inconsistent(
            f"Event {seq} (leaf {seq - 1}) is missing: the server gives {event.get('seq')} in its place.",
            known=known,
        )
    body = event.get("body")
    if not isinstance(body, str) or leaf_hash(body.encode("utf-8", "surrogatepass")).hex() != event.get(
        "leaf"
    ):
        raise Inconsistent(
            f"Event {seq} (leaf {seq - 1}) was changed: its body does not give its leaf.", known=known
        )
    try:
        said = json.loads(body)
    except ValueError:
        raise Inconsistent(
            f"Event {seq} (leaf {seq - 1}) has a body that is not JSON.", known=known
        ) from None
    for key in _REPEATED:
        if key in event and (not isinstance(said, dict) or said.get(key) != event[key]):
            raise Inconsistent(
                f"Event {seq} (leaf {seq - 1}) shows another `{key}` than the body that was hashed.",
                known=known,
            )


def _checkpoint(value: object) -> Checkpoint:
    if not isinstance(value, dict):
        raise ValueError("it is no object")
    origin, size, root = value.get("origin"), value.get("size"), value.get("root")
    if (
        not isinstance(origin, str)
        or not isinstance(size, int)
        or isinstance(size, bool)
        or size < 0
        or not isinstance(root, str)
    ):
        raise ValueError("it lacks origin, size or root")
    if len(bytes.fromhex(root)) != hashlib.sha256().digest_size:
        raise ValueError("its root is no SHA-256")
    return Checkpoint(origin, size, root.lower())


def _hex(text: object) -> bytes:
    try:
        return bytes.fromhex(str(text))
    except ValueError:
        raise Inconsistent(f"{str(text)[:80]!r} is no digest.") from None
