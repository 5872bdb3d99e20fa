"""The rules of a proof, and a rule that was broken, with its evidence and what to do."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Broken(StrEnum):
    """The rules. Their names are stable; docs/verify.md lists them."""

    UNSIGNED = "signature.missing"
    NOT_A_SIGNATURE = "signature.malformed"
    UNKNOWN_KEY = "signature.unknown-key"
    OTHER_APPS_KEY = "signature.key-of-other-apps"
    DOES_NOT_HOLD = "signature.invalid"
    OTHER_PURPOSE = "signature.other-purpose"
    OTHER_NAME = "file.other-name"
    OTHER_RELEASE = "release.other"
    MALFORMED = "manifest.malformed"
    MISPLACED = "manifest.misplaced"
    NOT_NAMED = "file.not-in-manifest"
    CHANGED = "file.changed"
    MISSING = "file.missing"
    SUM_DIFFERS = "file.sum-differs"
    ODD = "file.not-a-file"
    GAP = "chain.gap"
    FORK = "chain.fork"
    OTHER_HEAD = "chain.other-head"
    ROLLED_BACK = "chain.rolled-back"
    APP_MISSING = "app.missing"


REMEDIES: Final = {
    Broken.UNSIGNED: "Get the .minisig that belongs to it from the same address. Without one nothing says who made it.",
    Broken.NOT_A_SIGNATURE: "Get the .minisig again; it is no signature as minisign writes them.",
    Broken.UNKNOWN_KEY: "Do not use it. Ask the publisher, by another way than this came, whether the key is theirs; then give it with --key.",
    Broken.OTHER_APPS_KEY: "Do not use it. The key is trusted for other apps only; give it with --key if it is meant for this one too.",
    Broken.DOES_NOT_HOLD: "Do not use it: the bytes are not those that were signed. Get it again, and compare.",
    Broken.OTHER_PURPOSE: "Do not use it: the signature is genuine, and was made for something else.",
    Broken.OTHER_NAME: "If you gave it this name yourself, give it its own back. Else do not use it: it is another file in this one's place.",
    Broken.OTHER_RELEASE: "Do not use it: it is genuine, and not what you asked for. An older release may have been put in its place.",
    Broken.MALFORMED: "Do not use it. Get the manifest again; a newer `dist` may be needed for a newer form.",
    Broken.MISPLACED: "Do not use it: a manifest stands in the place of another. Mirror the release again into an empty folder.",
    Broken.NOT_NAMED: "Do not use it: no signed manifest names it. Remove it, or find out who put it there.",
    Broken.CHANGED: "Do not use it. Get the file again; if it differs again, do not trust where it comes from.",
    Broken.MISSING: "Get it again: `dist mirror` brings what is missing.",
    Broken.SUM_DIFFERS: "Do not use it. Get the file and its .sha256 again.",
    Broken.ODD: "Remove it; a mirror holds regular files and folders only.",
    Broken.GAP: "A release was taken out. `dist mirror` brings it back; if it cannot, ask the publisher why.",
    Broken.FORK: "Two histories exist, and a server tells only one. Ask the publisher which is theirs.",
    Broken.OTHER_HEAD: "The newest release here is not the one that you expect. Mirror again, or correct --head.",
    Broken.APP_MISSING: "All of an app was taken out, or it was never mirrored: `dist mirror --app` brings it.",
    Broken.ROLLED_BACK: "Newer releases were seen here before. Mirror again; if a backup was restored knowingly: --accept-new-chain.",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken rule: where, and the evidence."""

    path: str
    rule: Broken
    message: str

    def as_dict(self) -> dict[str, str]:
        """For the document of a command."""
        return {
            "path": self.path,
            "rule": self.rule.value,
            "message": self.message,
            "remedy": REMEDIES[self.rule],
        }


class Unproven(Exception):
    """One thing could not be proven; carries the `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def broken(path: str, rule: Broken, message: str) -> Unproven:
    """For `raise`."""
    return Unproven(Problem(path, rule, message))
