"""The code signature of a whole bundle: its executable, the files that it seals, and the code nested in it.

    tree = ZipTree(archive)                         or any other FileTree
    result = verify_bundle(tree, "Payload/Demo.app")
    report.signature = result.code.as_signature()   status, signers, trust
    report.findings += result.code.findings         every error makes the status `invalid`
    report.details |= result.as_details()           `code_signature`, `entitlements`, …

It works alike for iOS (shallow bundles, nested code sealed as plain files) and macOS (`Contents`, nested code sealed by its
cdhash). The order (Apple, Security `StaticCode.cpp`, `bundlediskrep.cpp`; Technical Note TN2206):

 1. The bundle is found by its Info.plist, and its executable by CFBundleExecutable.
 2. The executable's signature holds, over Info.plist and the list of sealed files too (`codesign.py`).
 3. Every sealed file is as it was; none is missing, none was added (`sealed.py`).
 4. Nothing lies beside `Contents`, and a framework's links are links.
 5. Nested code verifies by the same steps, and is the code that the seal names.

Left to others: provisioning profiles, tickets, and what an app's policy thinks of the signer.

Rules: an unsigned bundle is no error; neither is ad hoc code, which nobody signed (`unverified`). Nested code that does not hold
is an error in a signed bundle and a warning in an unsigned one. Depth and number of nested code are bounded.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pipeline.formats.bundle import (
    MALFORMED,
    Bundle,
    FileTree,
    bundle_roots,
    find_bundle,
    join,
    resolve,
    resolve_folder,
)
from pipeline.formats.codesign import CodeSignature, verify_code
from pipeline.formats.facts import Malformed, Rule, Severity, SignatureStatus, Trust, Unjudgeable
from pipeline.formats.macho import MachO, holds_macho, read_macho
from pipeline.formats.sealed import MAX_SEAL_BYTES, SEAL_PATH, Seal, SealedFile, check_seal, parse_seal

_SIGN_AGAIN: Final = "Sign the app after its last change (codesign --force, or Archive in Xcode) and publish that result unchanged."

FILE_CHANGED: Final = Rule(
    "codesign.file-changed",
    Severity.ERROR,
    "Files were changed after the app was signed: {evidence}.",
    _SIGN_AGAIN,
    "Apple TN2206, a sealed resource is missing or invalid",
)
FILE_MISSING: Final = Rule(
    "codesign.file-missing",
    Severity.ERROR,
    "Files that the app's signature names are missing: {evidence}.",
    "Pack the whole bundle, hidden files and links included (on macOS: ditto -c -k --keepParent).",
    "Apple TN2206, a sealed resource is missing or invalid",
)
FILE_ADDED: Final = Rule(
    "codesign.file-added",
    Severity.ERROR,
    "Files were added after the app was signed: {evidence}.",
    _SIGN_AGAIN,
    "Apple TN2206, a sealed resource is missing or invalid",
)
NO_SEAL: Final = Rule(
    "codesign.no-seal",
    Severity.ERROR,
    "The executable is signed, but the list of the bundle's sealed files is missing: {evidence}.",
    "Sign the bundle, not its executable alone: codesign --force --sign … App.app",
    "Apple Security, errSecCSResourcesNotFound",
)
WEAK_RULES: Final = Rule(
    "codesign.weak-rules",
    Severity.WARNING,
    "The signature leaves files out by rules of its own, so macOS does not rely on it: {evidence}.",
    "Sign without --resource-rules and without a ResourceRules.plist.",
    "Apple Security, errSecCSWeakResourceRules; TN2206",
)
UNSEALED_ROOT: Final = Rule(
    "codesign.unsealed-root",
    Severity.ERROR,
    "Files lie where no signature covers them: {evidence}.",
    "Keep everything inside Contents, and keep a framework's symbolic links (on macOS pack with ditto -c -k --keepParent).",
    "Apple Security, errSecCSUnsealedAppRoot, errSecCSAmbiguousBundleFormat",
)
NESTED_INVALID: Final = Rule(
    "codesign.nested-invalid",
    Severity.ERROR,
    "Code inside the app does not hold what its signature says: {evidence}.",
    "Sign from the inside out: frameworks and helpers first, the app last; then change nothing.",
    "Apple TN2206, nested code; errSecCSBadNestedCode",
)
NESTED_STALE: Final = Rule(
    "codesign.nested-stale",
    Severity.WARNING,
    "The app is not signed, and code inside it carries a signature that no longer holds: {evidence}.",
    "Sign the app and all code in it, or remove the old signature (codesign --remove-signature).",
    "Apple TN2206, nested code",
)
NESTED_REPLACED: Final = Rule(
    "codesign.nested-replaced",
    Severity.WARNING,
    "Code inside the app was replaced by other code of the same team after the app was signed: {evidence}.",
    "Sign the app again after its last change.",
    "Apple TN2206, nested code",
)
NESTED_SCRIPT: Final = Rule(
    "codesign.nested-script",
    Severity.WARNING,
    "A script stands where code is due; its signature lies in extended attributes, which are not read here: {evidence}.",
    "Move scripts to Contents/Resources, where the seal covers them.",
    "Apple TN2206, nested code",
)
TOO_MUCH_NESTED: Final = Rule(
    "codesign.too-much-nested",
    Severity.WARNING,
    "The app has more nested code than is looked at here: {evidence}.",
    "Put fewer bundles into one app.",
    "limits of the inspector (bundle_signature.MAX_NESTED, MAX_DEPTH)",
    inconclusive=True,
)
RULES: Final = (
    FILE_CHANGED, FILE_MISSING, FILE_ADDED, NO_SEAL, WEAK_RULES, UNSEALED_ROOT, NESTED_INVALID, NESTED_STALE,
    NESTED_REPLACED, NESTED_SCRIPT, TOO_MUCH_NESTED,
)  # fmt: skip

MAX_NESTED: Final = 2000  # Xcode itself has about 1500
MAX_DEPTH: Final = 8
MAX_NESTED_IN_DETAILS: Final = 200
_NAMES_IN_EVIDENCE: Final = 5

# bundlediskrep.cpp, defaultResourceRules, and the places of iOS and watchOS.
_CODE_PLACES: Final = re.compile(
    r"(?:Frameworks|SharedFrameworks|PlugIns|Plug-ins|XPCServices|Helpers|MacOS|Library/(?:Automator|Spotlight|"
    r"LoginItems|SystemExtensions)|Watch|AppClips|Extensions)/"
)
_AD_HOC: Final = "signed ad hoc: the hashes match the content, but no certificate stands behind them"
_SEPARATE_DIRECTORY: Final = "_CodeSignature/CodeDirectory"
_ALLOWED_IN_ROOT: Final = re.compile(r"(?:\.LSOverride|\.DS_Store|Icon\r|\.SoftwareDepot\.tracking)\Z")
_FRAMEWORK_LINK: Final = re.compile(r"(?:\./)?Versions/Current/[^/]+\Z")


@dataclass(frozen=True, slots=True)
class NestedCode:
    """One piece of code inside the bundle; `path` is relative to the tree."""

    path: str
    code: CodeSignature


@dataclass(slots=True)
class BundleSignature:
    """The result. `code` holds the status and all findings; `sealed_files` is None when there is no seal in force."""

    bundle: Bundle
    macho: MachO | None
    code: CodeSignature
    sealed_files: int | None = None
    seal_present: bool = False
    nested: list[NestedCode] = field(default_factory=list)

    @property
    def cdhashes(self) -> dict[str, list[str]]:
        """For each signed piece of code and architecture, the cdhashes (hex) that it may be known by."""
        found: dict[str, list[str]] = {}
        for path, code in ((self.bundle.root, self.code), *((row.path, row.code) for row in self.nested)):
            for row in code.cdhashes:
                found.setdefault(f"{path} ({row.arch})", []).append(row.value)
        return found

    def as_details(self) -> dict[str, Any]:
        """Keys for `Report.details`; all JSON values."""
        return {
            "code_signature": {
                **self.code.as_details(),
                "sealed_files": self.sealed_files,
                "nested": [
                    {
                        "path": row.path,
                        "identifier": row.code.identifier,
                        "team_id": row.code.team_id,
                        "status": row.code.status.value,
                        "ad_hoc": row.code.ad_hoc,
                    }
                    for row in self.nested[:MAX_NESTED_IN_DETAILS]
                ],
                "nested_count": len(self.nested),
            },
            "codesign_identifier": self.code.identifier,
            "codesign_team_id": self.code.team_id,
            "code_resources_present": self.seal_present,
            "hardened_runtime": self.code.hardened_runtime,
        }


@dataclass(slots=True)
class _Budget:
    left: int = MAX_NESTED

    def spend(self, path: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise Unjudgeable(TOO_MUCH_NESTED, path)


def verify_bundle(tree: FileTree, root: str = "", *, whole: bool = True) -> BundleSignature:
    """Verify the bundle at `root` (path in the tree, no trailing slash; "" is the whole tree).

    Without `whole` only the executable is verified, with Info.plist and the list of sealed files but not the files; what
    would be `valid` is then `unverified`.

    Raises `Malformed` when there is no bundle, or its executable is missing or no executable; `Unjudgeable` at a limit. A
    damaged signature or seal raises nothing: it is a finding, and what else is known of the bundle stays known.
    """
    if whole:
        return _verify(tree, root, _Budget(), depth=0)
    result, _ = _verify_executable(tree, root)
    result.code.unverify("the app is too large to have each of its files checked here")
    _settle(result)
    return result


def _verify(tree: FileTree, root: str, budget: _Budget, depth: int) -> BundleSignature:
    result, seal_bytes = _verify_executable(tree, root)
    seal = None
    try:
        seal = _check_seal(result, seal_bytes)
    except Malformed as error:
        result.code.fail(error.finding)
    _check_root(result)
    _check_nested(result, seal, budget, depth)
    _settle(result)
    return result


def _verify_executable(tree: FileTree, root: str) -> tuple[BundleSignature, bytes | None]:
    """Steps 1 and 2; with the seal's bytes."""
    bundle = find_bundle(tree, root)
    if bundle is None:
        raise Malformed(MALFORMED, f"{root or 'the bundle'} has no Info.plist")
    executable = bundle.executable
    if executable is None:
        raise Malformed(MALFORMED, f"the executable of {root or 'the bundle'} is missing")
    content = tree.open(executable)
    seal_path = bundle.find(SEAL_PATH)
    seal_bytes = None if seal_path is None else _read_seal(tree, seal_path)
    if not holds_macho(content):
        result = BundleSignature(bundle, None, CodeSignature(), seal_present=seal_bytes is not None)
        if seal_bytes is not None:
            result.code.status = SignatureStatus.UNVERIFIED
            result.code.reason = "the executable is a script, whose signature lies in extended attributes"
    else:
        macho = read_macho(content)
        result = BundleSignature(bundle, macho, CodeSignature(), seal_present=seal_bytes is not None)
        try:
            result.code = verify_code(content, info_plist=bundle.info_bytes, seal=seal_bytes, macho=macho)
        except Malformed as error:
            result.code.fail(error.finding)
    return result, seal_bytes


def _read_seal(tree: FileTree, path: str) -> bytes:
    content = tree.open(path)
    if content.size > MAX_SEAL_BYTES:
        raise Malformed(MALFORMED, f"{path} has {content.size} bytes")
    return content.at(0, content.size)


def _check_seal(result: BundleSignature, seal_bytes: bytes | None) -> Seal | None:
    """Step 3. A seal that no signature covers says nothing."""
    code = result.code
    if code.status is SignatureStatus.UNSIGNED or result.macho is None:
        return None
    if not code.seal_bound or seal_bytes is None:
        # The linker signs executables ad hoc by itself; nobody meant to sign that bundle. A missing file is noted by the slot.
        if not code.seal_bound and not code.ad_hoc:
            code.add(NO_SEAL, result.bundle.root)
        return None
    seal = parse_seal(seal_bytes)
    check = check_seal(seal, result.bundle)
    result.sealed_files = len(seal.files)
    if check.changed:
        code.add(FILE_CHANGED, _some(check.changed))
    if check.missing:
        code.add(FILE_MISSING, _some(check.missing))
    if seal.weak_rules:
        code.add(WEAK_RULES, _some(seal.weak_rules))
        code.unverify("the signature's own rules leave files out")
    elif check.added:
        code.add(FILE_ADDED, _some(check.added))
    return seal


def _check_root(result: BundleSignature) -> None:
    """Step 4."""
    bundle = result.bundle
    if result.code.status is SignatureStatus.UNSIGNED or bundle.contents == bundle.root:
        return
    loose: list[str] = []
    for path in bundle.tree.below(bundle.root):
        if path.startswith(f"{bundle.contents}/"):
            continue
        relative = path[len(bundle.root) + 1 :] if bundle.root else path
        link = bundle.tree.members[path].link
        if bundle.is_deep:
            allowed = _ALLOWED_IN_ROOT.match(relative) is not None
        else:
            allowed = (
                relative in (".DS_Store", "Versions/.DS_Store")
                or relative.startswith("Versions/")
                or (link is not None and _FRAMEWORK_LINK.match(link) is not None)
            )
        if not allowed:
            loose.append(relative)
    if not bundle.is_deep and resolve(bundle.tree, bundle.info_path) and _current_is_a_copy(bundle):
        loose.append("Versions/Current is a copy, not a link")
    if loose:
        result.code.add(UNSEALED_ROOT, _some(loose))


def _current_is_a_copy(bundle: Bundle) -> bool:
    current = join(bundle.root, "Versions/Current")
    return bundle.contents == current


def _check_nested(result: BundleSignature, seal: Seal | None, budget: _Budget, depth: int) -> None:
    """Step 5. Nested code of nested code is verified with it, and counted here."""
    signed = result.code.status is not SignatureStatus.UNSIGNED
    rows = {} if seal is None else {row.path: row for row in seal.files.values() if row.nested}
    for path, row in _nested_code(result.bundle, rows):
        budget.spend(path)
        if depth >= MAX_DEPTH:
            raise Unjudgeable(TOO_MUCH_NESTED, path)
        inner, below = _verify_nested(result.bundle.tree, path, budget, depth)
        result.nested.append(NestedCode(path, inner))
        result.nested += below
        problem = _nested_problem(inner, row)
        if problem is not None:
            result.code.add(NESTED_INVALID if signed else NESTED_STALE, f"{path}: {problem}")
        elif row is not None:
            _check_identity(result.code, inner, row, path)


def _nested_code(bundle: Bundle, rows: dict[str, SealedFile]) -> Iterator[tuple[str, SealedFile | None]]:
    """What the seal calls nested, with its row; bundles and libraries in the places for code; other versions of a framework."""
    contents, tree = bundle.contents, bundle.tree
    covered: set[str] = set()
    for relative, row in rows.items():
        path = join(contents, relative)
        covered.add(path)
        if path in tree.folders or path in tree.members:
            yield path, row
            yield from ((version, replace(row, cdhash=None)) for version in _other_versions(tree, path))
    for root in bundle_roots(tree, contents):
        relative = root[len(contents) + 1 :] if contents else root
        if _CODE_PLACES.match(relative) and not _is_below(root, covered):
            covered.add(root)
            if find_bundle(tree, root) is not None:
                yield root, None
                # Without a seal that says otherwise, a folder there may hold anything.
                others = (version for version in _other_versions(tree, root) if find_bundle(tree, version))
                yield from ((version, None) for version in others)
    for path in tree.below(contents):
        relative = path[len(contents) + 1 :] if contents else path
        if path.endswith(".dylib") and _CODE_PLACES.match(relative) and not _is_below(path, covered):
            yield path, None


def _other_versions(tree: FileTree, root: str) -> Iterator[str]:
    """Versions of the framework at `root` that are not the current one."""
    versions = join(root, "Versions")
    if versions not in tree.folders:
        return
    current = resolve_folder(tree, join(versions, "Current"))
    for path in tree.folders_below(versions):
        if posixpath.dirname(path) == versions and path != current:
            yield path


def _is_below(path: str, folders: set[str]) -> bool:
    while path:
        if path in folders:
            return True
        path = posixpath.dirname(path)
    return False


def _verify_nested(
    tree: FileTree, path: str, budget: _Budget, depth: int
) -> tuple[CodeSignature, list[NestedCode]]:
    """A nested bundle, or a single file; what cannot be read is that code's problem, not the app's."""
    try:
        if path in tree.members:
            target = resolve(tree, path)
            if target is None:
                raise Malformed(MALFORMED, f"{path} leads nowhere")
            content = tree.open(target)
            if holds_macho(content):
                code = verify_code(content)
                if code.ad_hoc:
                    code.unverify(_AD_HOC)
                return code, []
            code = CodeSignature(status=SignatureStatus.UNVERIFIED)
            code.findings.append(NESTED_SCRIPT.finding(path))
            return code, []
        bundle = find_bundle(tree, path)
        if bundle is not None and bundle.executable is None:
            return _without_executable(bundle), []
        inner = _verify(tree, path, budget, depth + 1)
    except Malformed as error:
        code = CodeSignature()
        code.fail(error.finding)
        return code, []
    return inner.code, inner.nested


def _without_executable(bundle: Bundle) -> CodeSignature:
    """A bundle of resources. Where it is signed, its signature lies in files of its own."""
    if bundle.find(_SEPARATE_DIRECTORY) is None:
        return CodeSignature(reason="a bundle of resources")
    return CodeSignature(
        status=SignatureStatus.UNVERIFIED,
        reason="a bundle of resources, whose signature lies in separate files that are not read here",
    )


def _nested_problem(inner: CodeSignature, row: SealedFile | None) -> str | None:
    if inner.status is SignatureStatus.INVALID:
        return inner.reason or "invalid"
    if row is not None and inner.status is SignatureStatus.UNSIGNED and not row.optional:
        return "it is not signed"
    return None


def _check_identity(outer: CodeSignature, inner: CodeSignature, row: SealedFile, path: str) -> None:
    """The seal names nested code by a cdhash and a requirement; other code of the same team usually meets the requirement."""
    outer.findings += [finding for finding in inner.findings if finding.rule == NESTED_SCRIPT.id]
    if row.cdhash is None or not inner.cdhashes:
        return
    if any(known.value == row.cdhash.hex() for known in inner.cdhashes):
        return
    same_team = outer.team_id is not None and inner.team_id == outer.team_id
    if same_team and inner.trust is Trust.TRUSTED:
        outer.add(NESTED_REPLACED, path)
    else:
        outer.add(NESTED_INVALID, f"{path}: it is not the code that the app was signed with")


def _settle(result: BundleSignature) -> None:
    """What ad hoc code amounts to: hashes that match, and nobody who answers for them."""
    code = result.code
    if not code.ad_hoc or code.status not in (SignatureStatus.VALID, SignatureStatus.UNVERIFIED):
        return
    if code.seal_bound:
        code.unverify(_AD_HOC)
    else:
        code.status = SignatureStatus.UNSIGNED
        code.reason = "only the executable carries an ad hoc signature, which the linker adds by itself"


def _some(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(sorted(names)[:_NAMES_IN_EVIDENCE])
    more = len(names) - _NAMES_IN_EVIDENCE
    return f"{shown} and {more} more" if more > 0 else shown
