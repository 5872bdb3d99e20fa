"""Which keys this person trusts, and what to do about an unknown one: the policy of `dist pkg` and `dist verify`, which no library has.

Keys are those of --key and no others, or else those of the file that `$DIST_TRUSTED_KEYS` names, or else of `trusted_keys` in the
configuration folder. With --tofu the key of a package of which nothing is known is added to that file, for packages of that name.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .config import config_dir
from .errors import CliError, usage

VARIABLE: Final = "DIST_TRUSTED_KEYS"
_TRUSTED: Final = "trusted"
_WOULD_PIN: Final = "unknown key, would pin"


def keys_file(environ: Mapping[str, str]) -> Path:
    """The file of trusted keys, which may not exist yet."""
    named = environ.get(VARIABLE, "").strip()
    return Path(named) if named else config_dir(environ) / "trusted_keys"


def trusted_keys(keys: Sequence[str], environ: Mapping[str, str], *, may_begin: bool = False) -> bytes:
    """The bytes of the trusted keys: of --key, which are lines or names of files, or of the file, which `may_begin` with a pin."""
    if not keys:
        path = keys_file(environ)
        if not path.exists() and environ.get(VARIABLE, "").strip() and not may_begin:
            raise usage(
                f"{path}, which ${VARIABLE} names, is not there.", "Correct the path, or unset the variable."
            )
        return _read(path) if path.exists() else b""
    return b"".join((_read(Path(key)) if Path(key).is_file() else key.encode()) + b"\n" for key in keys)


def demanded(keys: Sequence[str], environ: Mapping[str, str]) -> bytes:
    """As `trusted_keys`, where nothing can be said without a key. Raises CliError when there is none."""
    found = trusted_keys(keys, environ)
    if not found.strip():
        raise usage(
            "No key is trusted, so nothing can be verified.",
            f"Give --key with the publisher's public key (or its file), or put it into {keys_file(environ)}. Get it by another way than "
            "what it is to verify.",
        )
    return found


def decision(*, tofu: bool, anyone: bool) -> Callable[[Mapping[str, Any]], None]:
    """Called with the answer on trust before any content is read. Raises CliError unless it may go on."""

    def decide(trust: Mapping[str, Any]) -> None:
        if anyone or trust["answer"] == _TRUSTED or (tofu and trust["answer"] == _WOULD_PIN):
            return
        raise CliError(
            "validation_failed",
            f"{_capital(trust['reason'])}.",
            title="Nobody that is trusted has signed it",
            remedy=_remedy(trust),
            known={"trust": dict(trust)},
        )

    return decide


def pin(trust: Mapping[str, Any], environ: Mapping[str, str]) -> Path | None:
    """Trust this key for this name from now on, if it was unknown. Returns the file that has it now."""
    line = trust.get("pin")
    if trust["answer"] != _WOULD_PIN or not isinstance(line, str):
        return None
    path = keys_file(environ)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # One write at the end of the file: two runs at a time both keep their line.
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "ab") as file:
            file.write(f"{line}\n".encode())
    except OSError as error:
        raise usage(
            f"{path} cannot be written: {error.strerror}.", f"Set {VARIABLE} to a file that can."
        ) from error
    return path


def _remedy(trust: Mapping[str, Any]) -> str:
    if trust["answer"] == _WOULD_PIN:
        return (
            f"If key {trust['signature']['key_id']} is the publisher's, give --tofu to pin it, or --key with the key that you got from "
            "them another way."
        )
    if trust["signature"] is None:
        return "Ask for a signed package, or sign it yourself: `dist pkg sign`."
    return "Do not use it. Ask the publisher which key is theirs, by another way than this package came."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise usage(
            f"{path} cannot be read: {error.strerror}.", "Look at the path and its permissions."
        ) from error
