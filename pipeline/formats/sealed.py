"""The seal of a bundle: `_CodeSignature/CodeResources`, held against the files that are there.

The property list names every resource with its digests (`files2`, before OS X 10.9 `files`), links with their targets,
nested code by its cdhash, and `rules` that say which files are left out. Source: Apple, Security
`OSX/libsecurity_codesigning/lib/resources.cpp`, `bundlediskrep.cpp`; Technical Note TN2206.

Rules are regular expressions that the uploader wrote, so they are never run. A rule that leaves files out counts only when
it is one of the few that Apple's own verifier allows (`bundlediskrep.cpp`, `allowedResourceOmissions`); any other makes the
unlisted files undecided, and the seal *weak*.

Left to others: whether the seal itself is signed, and nested code (`codesign.py`).
"""

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.formats import plist
from pipeline.formats.bundle import Bundle, FileTree, Member, join, nfc
from pipeline.formats.facts import Malformed, Rule, Severity

MALFORMED: Final = Rule(
    "codesign.seal-malformed",
    Severity.ERROR,
    "The list of sealed files (_CodeSignature/CodeResources) is damaged: {evidence}.",
    "Sign the app again (codesign --force) and publish the result unchanged.",
    "Apple TN2206; Security resources.cpp",
)
RULES: Final = (MALFORMED,)

MAX_SEAL_BYTES: Final = 32 << 20  # 100,000 files take about 25 MiB
SEAL_PATH: Final = "_CodeSignature/CodeResources"

# Omissions that Apple's verifier allows, by their text, as expressions of our own. The last four are those of
# the ResourceRules.plist that Xcode wrote for iOS apps until 2014.
_ALLOWED_OMISSIONS: Final = {
    r"^(.*/)?\.DS_Store$": re.compile(r"(?:.*/)?\.DS_Store\Z"),
    r"^Info\.plist$": re.compile(r"Info\.plist\Z"),
    r"^PkgInfo$": re.compile(r"PkgInfo\Z"),
    r"^Resources/.*\.lproj/locversion.plist$": re.compile(r"Resources/.*\.lproj/locversion\.plist\Z"),
    r"^.*\.lproj/locversion.plist$": re.compile(r".*\.lproj/locversion\.plist\Z"),
    "Info.plist": re.compile(r"Info\.plist\Z"),
    "PkgInfo": re.compile(r"PkgInfo\Z"),
    "ResourceRules.plist": re.compile(r"ResourceRules\.plist\Z"),
    r"^ResourceRules\.plist$": re.compile(r"ResourceRules\.plist\Z"),
}
# What an old seal (`rules` without `rules2`) covers, by the text of the rule.
_EVERYTHING: Final = re.compile("")
_COVERING: Final = {
    "^.*": _EVERYTHING,
    ".*": _EVERYTHING,
    "^Resources/": re.compile("Resources/"),
    r"^version.plist$": re.compile(r"version\.plist\Z"),
    r"^version\.plist$": re.compile(r"version\.plist\Z"),
}
# bundlediskrep.cpp, adjustResources: never part of the seal. SC_Info is what the App Store adds after signing, to
# frameworks and extensions too (StaticCode.cpp, checkfix30814861).
_EXCLUDED: Final = re.compile(
    r"(?:_CodeSignature|_MASReceipt)/|CodeResources\Z"
    r"|(?:Frameworks/[^/]+\.framework/|PlugIns/[^/]+\.appex/)?SC_Info/[^/]+\Z"
)


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One row of the list: digests of a file, the target of a link, or nested code."""

    path: str
    digests: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    link: str | None = None
    nested: bool = False
    cdhash: bytes | None = None
    requirement: str | None = None
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Seal:
    """CodeResources, parsed. `weak_rules` are those that Apple's verifier would not allow."""

    version: int
    files: dict[str, SealedFile]
    omissions: tuple[re.Pattern[str], ...]
    covering: tuple[re.Pattern[str], ...]
    weak_rules: tuple[str, ...]

    def covers(self, path: str) -> bool:
        """Whether a file at `path` (relative to the bundle's contents) ought to be listed."""
        if _EXCLUDED.match(path) or any(pattern.match(path) for pattern in self.omissions):
            return False
        return any(pattern.match(path) for pattern in self.covering)


@dataclass(slots=True)
class SealCheck:
    """Paths, relative to the bundle's contents, that differ from the seal."""

    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        return not (self.changed or self.missing or self.added)


def parse_seal(data: bytes) -> Seal:
    """CodeResources; raises `Malformed`."""
    if len(data) > MAX_SEAL_BYTES:
        raise Malformed(MALFORMED, f"{len(data)} bytes")
    document = plist.load_dict(data)
    version = 2 if isinstance(document.get("files2"), dict) else 1
    listed = document.get("files2" if version == 2 else "files")
    rules = document.get("rules2" if version == 2 else "rules", {})
    if not isinstance(listed, dict) or not isinstance(rules, dict):
        raise Malformed(MALFORMED, "it lists no files")
    omitting = [text for text, rule in rules.items() if _omits(rule)]
    covering = [text for text in rules if text not in omitting]
    catch_all = version == 1 or rules.get("^.*") is True
    return Seal(
        version=version,
        files={row.path: row for row in _rows(listed)},
        omissions=tuple(_ALLOWED_OMISSIONS[text] for text in omitting if text in _ALLOWED_OMISSIONS),
        # A seal of version 2 covers the whole bundle, whatever its rules say (TN2206).
        covering=tuple(_COVERING[text] for text in covering if text in _COVERING)
        if version == 1
        else (_EVERYTHING,),
        weak_rules=(
            *(() if catch_all else ("no rule ^.* that covers everything",)),
            *(text for text in omitting if text not in _ALLOWED_OMISSIONS),
        ),
    )


def _omits(rule: Any) -> bool:
    return rule is False or (isinstance(rule, dict) and rule.get("omit") is True)


def _rows(listed: Mapping[str, Any]) -> Iterator[SealedFile]:
    for path, value in listed.items():
        if not isinstance(path, str) or not path:
            raise Malformed(MALFORMED, "a file without a name")
        yield _row(nfc(path), value)


def _row(path: str, value: Any) -> SealedFile:
    """A digest, or a dictionary with digests, a link's target, or nested code's name."""
    if isinstance(value, bytes):
        return SealedFile(path, {"sha1": _digest(path, "sha1", value)})
    if not isinstance(value, dict):
        raise Malformed(MALFORMED, f"{path} has no digest")
    optional = value.get("optional") is True
    if isinstance(target := value.get("symlink"), str):
        return SealedFile(path, link=nfc(target), optional=optional)
    digests = {
        algorithm: _digest(path, algorithm, digest)
        for key, algorithm in (("hash2", "sha256"), ("hash", "sha1"))
        if isinstance(digest := value.get(key), bytes)
    }
    if digests:
        return SealedFile(path, digests, optional=optional)
    cdhash = value.get("cdhash")
    if isinstance(cdhash, bytes) or "requirement" in value:
        requirement = value.get("requirement")
        return SealedFile(
            path,
            nested=True,
            cdhash=cdhash if isinstance(cdhash, bytes) else None,
            requirement=requirement if isinstance(requirement, str) else None,
            optional=optional,
        )
    raise Malformed(MALFORMED, f"{path} has no digest")


def _digest(path: str, algorithm: str, value: bytes) -> bytes:
    if len(value) != hashlib.new(algorithm).digest_size:
        raise Malformed(MALFORMED, f"{path} has a {algorithm} digest of {len(value)} bytes")
    return value


def check_seal(seal: Seal, bundle: Bundle) -> SealCheck:
    """Hold every file of the bundle's contents against the seal. Nested code is left out."""
    check = SealCheck()
    nested = frozenset(row.path for row in seal.files.values() if row.nested)
    for row in seal.files.values():
        if row.nested:
            continue
        member = bundle.tree.members.get(join(bundle.contents, row.path))
        if member is None:
            if not row.optional:
                check.missing.append(row.path)
        elif not _matches(bundle.tree, member, row):
            check.changed.append(row.path)
    for path in bundle.tree.below(bundle.contents):
        relative = path[len(bundle.contents) + 1 :] if bundle.contents else path
        if relative in seal.files or path == bundle.executable or not seal.covers(relative):
            continue
        if seal.version == 1 and bundle.tree.members[path].link is not None:
            continue  # the first version did not know links
        if not _in_one_of(relative, nested):
            check.added.append(relative)
    return check


def _in_one_of(path: str, folders: frozenset[str]) -> bool:
    while path := posixpath.dirname(path):
        if path in folders:
            return True
    return False


def _matches(tree: FileTree, member: Member, row: SealedFile) -> bool:
    if row.link is not None or member.link is not None:
        return member.link == row.link
    content = tree.open(member.path)
    states = {algorithm: hashlib.new(algorithm) for algorithm in row.digests}
    for chunk in content.chunks():
        for state in states.values():
            state.update(chunk)
    return all(state.digest() == row.digests[algorithm] for algorithm, state in states.items())
