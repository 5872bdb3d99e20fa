"""A manifest with its signature, and whether we trust whoever signed it.

`judge` knows three answers. "Trusted": a trusted key signed it. "Unknown key, would pin": the signature holds under the key that the package
brings along, of which nothing is known yet; whether to pin it is the caller's decision, and never made here. "Refused": everything else.

Trusted keys are bytes, one key on each line as minisign prints it, then the names of the packages that it may sign; without names it may
sign all. Empty lines and those that begin with `#` or `untrusted comment:` are skipped, so key files can be joined.

    RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3 notes tools

A name that has a key of its own is pinned: a package of that name signed by an unknown key is refused.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline import minisign
from pipeline.minisign import MinisignSignature, PublicKey, SecretKey
from pipeline.package.errors import invalid, malformed
from pipeline.package.manifest import Manifest, parse

SEAL_MAX_BYTES: Final = minisign.FILE_MAX_BYTES


class Answer(StrEnum):
    """What `judge` says; the values are what people read."""

    TRUSTED = "trusted"
    WOULD_PIN = "unknown key, would pin"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Seal:
    """A signature file over the manifest's text, and the file of the public key that it is said to be by."""

    signature: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Sealed:
    """A parsed manifest with the text that it came from, and its seal, if it is signed."""

    data: bytes
    manifest: Manifest
    seal: Seal | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer, why, and the key that it is about; `reason` is empty for a trusted key."""

    answer: Answer
    key: PublicKey | None
    reason: str = ""

    @property
    def pin(self) -> str:
        """What to add to the trusted keys in order to pin the key; the name follows."""
        return self.key.line if self.key is not None else ""


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key, and the packages that it may sign; none means all."""

    key: PublicKey
    names: frozenset[str]


def open_sealed(data: bytes, seal: Seal | None) -> Sealed:
    """Parse all three texts. Raises `malformed`."""
    manifest = parse(data)
    if seal is not None:
        _parsed(seal)
    return Sealed(data, manifest, seal)


def seal(data: bytes, key: SecretKey) -> Seal:
    """Sign a manifest's text. The same key and text give the same bytes."""
    manifest = parse(data)
    comment = f"dist-package {manifest.name} {manifest.version} tree:{manifest.tree.id}"
    signature = minisign.sign(
        key, [data], trusted_comment=comment, untrusted_comment="signature over a dist-package manifest"
    )
    return Seal(signature, minisign.emit_public_key(key.public))


def judge(sealed: Sealed, trusted: bytes) -> Judgement:
    """Whether this manifest is to be believed. Raises `invalid` when `trusted` cannot be read."""
    keys = parse_trusted(trusted)
    if sealed.seal is None:
        return Judgement(Answer.REFUSED, None, "the package is not signed")
    signature, own = _parsed(sealed.seal)
    for known in keys:
        if known.key.key_id == own.key_id and known.key != own:
            return Judgement(
                Answer.REFUSED, own, "it brings another key under the identifier of a trusted one"
            )
    flaw = minisign.verify(own, signature, [sealed.data])
    if flaw is not None:
        return Judgement(Answer.REFUSED, own, f"the signature does not hold: {flaw}")
    name = sealed.manifest.name
    ours = [known for known in keys if known.key == own]
    if any(not known.names or name in known.names for known in ours):
        return Judgement(Answer.TRUSTED, own)
    if any(name in known.names for known in keys):
        return Judgement(Answer.REFUSED, own, f"another key is pinned for {name}")
    if ours:
        return Judgement(Answer.REFUSED, own, f"its key is trusted for other packages, and not for {name}")
    return Judgement(Answer.WOULD_PIN, own, "nothing is known of its key")


def parse_trusted(data: bytes) -> tuple[TrustedKey, ...]:
    """The keys of a file of trusted keys. Raises `invalid` naming the line."""
    found = []
    for number, line in enumerate(minisign.text_lines(data), start=1):
        if not line.strip() or line.startswith(("#", minisign.UNTRUSTED)):
            continue
        text, *names = line.split()
        try:
            key = minisign.parse_public_key(text.encode("utf-8", "surrogateescape"))
        except minisign.NotMinisign as error:
            raise invalid(f"trusted keys: line {number}: {error}") from error
        found.append(TrustedKey(key, frozenset(names)))
    return tuple(found)


def _parsed(seal: Seal) -> tuple[MinisignSignature, PublicKey]:
    try:
        return minisign.parse_signature(seal.signature), minisign.parse_public_key(seal.key)
    except minisign.NotMinisign as error:
        raise malformed(f"signature: {error}") from error
