"""Whoever signs a release's manifest with a key that is not kept in the data directory, and whether their answer is taken.

    text = signer.sign(request, beat)      the text of a `.minisig`, unverified; `beat` is called often, and may stop it
    judge(key, request, text)              the public key decides; raises `NotTaken`

Left to others: a command (`signing_command.py`), a folder for people (`signing_drop.py`), which of them it is (`signing.py`), the
rows (`signatures.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline import minisign
from pipeline.formats.facts import Finding, Rule, Severity

_SPEC: Final = "minisign README, Signature format"
MALFORMED: Final = Rule(
    "sign.malformed",
    Severity.ERROR,
    "What came back for the manifest is no minisign signature: {evidence}.",
    "Sign with `minisign -S -m FILE`, and give back all of the .minisig file and nothing else.",
    _SPEC,
)
WRONG_KEY: Final = Rule(
    "sign.wrong-key",
    Severity.ERROR,
    "The signature was made with another key than the configured one: {evidence}.",
    "Sign with the key of signing_public_key; after a change of keys, set signing_public_key in config.toml and restart.",
    _SPEC + ": key identifiers have to be equal",
)
OTHER_BYTES: Final = Rule(
    "sign.other-bytes",
    Severity.ERROR,
    "The signature does not hold for the manifest that waits: {evidence}.",
    "Sign the manifest's bytes as they are; `distd signing list` shows which ones wait.",
    "a signature over something else vouches for nothing",
)
BAD_COMMENT: Final = Rule(
    "sign.bad-comment",
    Severity.ERROR,
    "The trusted comment of the signature was changed after it was made: {evidence}.",
    "Sign again, and do not edit the .minisig file; a comment is given with `minisign -S -t`.",
    _SPEC + ": the global signature covers signature and trusted comment",
)
OTHER_COMMENT: Final = Rule(
    "sign.other-comment",
    Severity.ERROR,
    "The trusted comment of the signature does not say what it is a signature of: {evidence}.",
    "Sign with `minisign -S -t COMMENT`, with the comment that `distd signing list` shows and the .comment file holds.",
    "a signature by the right key that was made for another purpose",
)
NOT_A_FILE: Final = Rule(
    "sign.not-a-file",
    Severity.ERROR,
    "What lies in the signing folder is no file of a signature: {evidence}.",
    "Put the .minisig there as a plain file of less than 16 KiB, not as a link.",
    "nothing but a small regular file is opened",
)
UNKNOWN_MANIFEST: Final = Rule(
    "sign.unknown-manifest",
    Severity.ERROR,
    "No manifest waits under the name of this signature: {evidence}.",
    "Keep the name of the manifest, with .minisig behind it; `distd signing list` shows which ones wait. A manifest that was made "
    "anew has another name and is signed anew.",
    "a signature is taken for one manifest",
)
DECLINED: Final = Rule(
    "sign.declined",
    Severity.ERROR,
    "The release is not signed: {evidence}.",
    "Mend what is said, and publish again; or have it signed after all with `dist release rerun`.",
    "the keeper of the key decides",
)
RULES: Final = (
    MALFORMED,
    WRONG_KEY,
    OTHER_BYTES,
    BAD_COMMENT,
    OTHER_COMMENT,
    NOT_A_FILE,
    UNKNOWN_MANIFEST,
    DECLINED,
)
_BY_FLAW: Final = {
    minisign.Flaw.WRONG_KEY: WRONG_KEY,
    minisign.Flaw.BAD_SIGNATURE: OTHER_BYTES,
    minisign.Flaw.BAD_COMMENT: BAD_COMMENT,
}


@dataclass(frozen=True, slots=True)
class ToSign:
    """A manifest that waits: its digest, which names it, its bytes, and what the trusted comment has to say."""

    sha256: str
    manifest: bytes
    comment: str


class Waits(Exception):
    """There is no signature yet; the message says for whom it waits."""


class OutOfTurn(Waits):
    """Another release of the app is signed first."""


class Overtaken(Waits):
    """What was asked for is no longer what is to be signed: it is asked for anew, at once."""


class NotTaken(Exception):
    """An answer that is refused, and why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(f"{finding.message} {finding.remedy}")
        self.finding = finding


class Signer(Protocol):
    """One way to have a manifest signed.

    `sign` raises `Waits` while there is no answer, `NotTaken` for one that cannot be a signature, and anything else for a fault that
    may pass by itself. `refused` is told that the answer was not taken, and says whether another one can come without a person's
    re-run. `taken` is told that nothing has to be kept for this request. Each may be called again for the same request.
    """

    def sign(self, request: ToSign, beat: Callable[[], None]) -> bytes: ...

    def refused(self, request: ToSign) -> bool: ...

    def taken(self, request: ToSign) -> None: ...


def judge(key: minisign.PublicKey, request: ToSign, text: bytes) -> None:
    """Whether this answer is a signature by `key` over the manifest, with the right trusted comment. Raises `NotTaken`."""
    try:
        text.decode("utf-8")
        signature = minisign.parse_signature(text)
    except (minisign.NotMinisign, UnicodeDecodeError) as error:
        raise NotTaken(MALFORMED.finding(str(error))) from error
    flaw = minisign.verify(key, signature, [request.manifest])
    if flaw is None:
        said = signature.trusted_comment.decode("utf-8", "replace")
        if said != request.comment:
            raise NotTaken(OTHER_COMMENT.finding(f"it says {said[:200]!r}, not {request.comment!r}"))
        return
    evidence = f"manifest SHA-256 {request.sha256}"
    if flaw is minisign.Flaw.WRONG_KEY:
        evidence = f"key {minisign.shown_key_id(signature.key_id)}, configured is {minisign.shown_key_id(key.key_id)}"
    raise NotTaken(_BY_FLAW[flaw].finding(evidence))
