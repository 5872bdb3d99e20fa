"""iOS apps (`.ipa`): a ZIP with `Payload/<name>.app`, sometimes one folder down.

Steps: 1 the archive, 2 the one app in it, 3 Info.plist, 4 the code signature of the app and all in it (`bundle_signature.py`),
5 extensions, watch app and app clips, 6 the provisioning profile, and whether the app keeps to it, 7 an icon, 8 the members that
nothing so far has read.

`details`: `bundle_id`, `short_version`, `build`, `min_os`, `name`, `display_name`, `executable`, `platform`, `device_family`, `app_dir`, `archs`,
`app_extensions` (paths in the app), `extensions` (path, identifier, version, point of each), `watch_app`, `app_clips`,
`profile_present`, `team_id`, what `bundle_signature.py` says (`code_signature`, …), what `provisioning.py` says where there is a profile
(else `provisioning` and `provisioning_type` are null), and `entitlements` of the signed app.

Rules: what the signature contradicts is an error. What only keeps a device from installing (no profile, other certificate, rights
that were not granted) is a warning, as the file is what its maker made. Expiry is reported, never judged: there is no clock.
"""

import posixpath
import re
from typing import Any, Final

from pipeline.formats import plist
from pipeline.formats.app_info import InfoPlist, app_info
from pipeline.formats.bundle import Bundle, ZipTree, find_bundle, join
from pipeline.formats.bundle_signature import BundleSignature, verify_bundle
from pipeline.formats.content import Content
from pipeline.formats.entitlements import matches, not_granted
from pipeline.formats.facts import (
    FormatError,
    Malformed,
    Metadata,
    Report,
    Signature,
    SignatureStatus,
)
from pipeline.formats.icons import INPUT_MAX_BYTES, UNREADABLE, add_icon
from pipeline.formats.ipa_rules import (
    CERTIFICATE_NOT_IN_PROFILE,
    DEBUGGABLE,
    FOREIGN_EXTENSION,
    IDENTIFIER_MISMATCH,
    MIN_OS_MISMATCH,
    MISSING_FIELD,
    MISSING_VERSION,
    NO_APP,
    NO_EXECUTABLE,
    NO_INFO_PLIST,
    NO_PROFILE,
    NOT_GRANTED,
    NOT_MACHO,
    NOT_UNPACKED,
    RULES,
    SEVERAL_APPS,
    SIMULATOR,
    TEAM_MISMATCH,
    UNSIGNED,
    WRONG_TYPE,
)
from pipeline.formats.provisioning import PROFILE_MAX_BYTES, TOO_LARGE, Profile, parse_profile
from pipeline.formats.source import Source
from pipeline.formats.zip import ZipArchive, ZipPolicy

__all__ = ["RULES", "read"]

UNPACKED_MAX_BYTES: Final = (
    1 << 30
)  # in step 8; Deflate unpacks about 200 MB/s here, and an inspection has 20 s of processor
_POLICY: Final = ZipPolicy(
    fold_names=True
)  # builds come from file systems without case, and are unpacked on both kinds
_APP_DIR: Final = re.compile(r"((?:[^/]+/)?Payload/[^/]+\.app)/.")
_INNER: Final = re.compile(r"(?:PlugIns|Extensions|Watch|AppClips)/[^/]+\.(?:app|appex)(?=/)")
_PROFILE: Final = "embedded.mobileprovision"
_NAMED_IN_EVIDENCE: Final = 5
_INNER_MAX: Final = 200


class _ReadTree(ZipTree):
    """A tree that remembers which files were opened: their checksums were compared while they were read."""

    def __init__(self, archive: ZipArchive) -> None:
        super().__init__(archive)
        self.opened: set[str] = set()

    def open(self, path: str) -> Content:
        """As `ZipTree`."""
        self.opened.add(path)
        return super().open(path)


def read(source: Source) -> Report:
    """The report on an IPA."""
    tree = _ReadTree(ZipArchive(source, _POLICY))  # 1
    bundle = _app(tree)  # 2
    report = Report("ipa", "ios")
    info = app_info(bundle.info)  # 3
    _describe(report, bundle, info)
    signature = _verify(report, bundle)  # 4
    inner = _describe_inner(report, bundle, info)  # 5
    profile = _profile(report, bundle)  # 6
    if signature is not None:
        _describe_signature(report, signature, info)
        _compare(report, signature, profile, info)
    if profile is not None:
        _check_identifiers(report, profile, [info.bundle_id])
    report.details["watch_app"] = any(path.startswith("Watch/") for path in inner)
    _add_icon(report, tree, bundle, info)  # 7
    _unpack_rest(report, tree)  # 8
    return report


def _app(tree: ZipTree) -> Bundle:
    """Step 2. Folders count when there is a file in them; what lies beside `Payload` does not."""
    roots = sorted({found[1] for path in tree.members if (found := _APP_DIR.match(path))})
    if not roots:
        raise Malformed(NO_APP)
    if len(roots) > 1:
        raise Malformed(SEVERAL_APPS, _some(roots))
    bundle = find_bundle(tree, roots[0])
    if bundle is None:
        raise Malformed(NO_INFO_PLIST, roots[0])
    return bundle


def _describe(report: Report, bundle: Bundle, info: InfoPlist) -> None:
    report.metadata = Metadata(
        identifier=info.bundle_id,
        name=info.display_name or info.name,
        version=info.short_version,
        build=info.build,
        min_os=info.min_os,
    )
    report.details = {
        "bundle_id": info.bundle_id,
        "short_version": info.short_version,
        "build": info.build,
        "min_os": info.min_os,
        "name": info.name,
        "display_name": info.display_name,
        "executable": info.executable,
        "platform": info.platform,
        "device_family": list(info.device_family),
        "app_dir": bundle.root,
        "profile_present": False,
        "provisioning": None,
        "provisioning_type": None,
    }
    missing = [
        key
        for key, value in (("CFBundleIdentifier", info.bundle_id), ("CFBundleExecutable", info.executable))
        if value is None
    ]
    if missing:
        report.add(MISSING_FIELD, ", ".join(missing))
    if info.short_version is None or info.build is None:
        names = (("CFBundleShortVersionString", info.short_version), ("CFBundleVersion", info.build))
        report.add(MISSING_VERSION, ", ".join(key for key, value in names if value is None))
    if info.wrong:
        report.add(WRONG_TYPE, ", ".join(info.wrong))
    if (info.platform or "").endswith("simulator"):
        report.add(SIMULATOR)


def _verify(report: Report, bundle: Bundle) -> BundleSignature | None:
    """Step 4; None when there is nothing to verify, with the reason in the report."""
    if bundle.executable is None:
        report.add(NO_EXECUTABLE, f"{join(bundle.root, report.details['executable'] or '')}")
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason="the executable is missing")
        return None
    try:
        return verify_bundle(bundle.tree, bundle.root)
    except Malformed as error:
        report.findings.append(error.finding)
        report.signature = Signature(SignatureStatus.INVALID, reason=error.finding.message)
    except FormatError as error:
        report.findings.append(error.finding)
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason=error.finding.message)
    return None


def _describe_signature(report: Report, signature: BundleSignature, info: InfoPlist) -> None:
    code = signature.code
    report.signature = code.as_signature()
    report.findings += code.findings
    report.details |= signature.as_details()
    report.details.setdefault("team_id", code.team_id)
    if code.status is SignatureStatus.UNSIGNED:
        report.add(UNSIGNED)
    if code.entitlements is not None:
        report.details["entitlements"] = plist.as_json(code.entitlements)
    macho = signature.macho
    if macho is None:
        report.add(NOT_MACHO, info.executable or "")
        return
    report.metadata.archs = macho.archs
    report.details["archs"] = macho.archs
    needed = {part.min_os for part in macho.slices if part.min_os is not None}
    if info.min_os is not None and needed and min(map(_numbers, needed)) > _numbers(info.min_os):
        report.add(MIN_OS_MISMATCH, f"{min(needed, key=_numbers)} instead of {info.min_os}")
    platforms = {part.platform for part in macho.slices if part.platform is not None}
    if (
        platforms
        and all(one.endswith("simulator") for one in platforms)
        and not (info.platform or "").endswith("simulator")
    ):
        report.add(SIMULATOR)


def _describe_inner(report: Report, bundle: Bundle, info: InfoPlist) -> list[str]:
    """Step 5: the bundles in the places for code that the system starts by itself; their paths in the app."""
    start = len(bundle.contents) + 1
    paths = sorted(
        {found[0] for path in bundle.tree.below(bundle.contents) if (found := _INNER.match(path[start:]))}
    )
    rows: list[dict[str, Any]] = []
    foreign: list[str] = []
    for path in paths[:_INNER_MAX]:
        facts = _inner_info(report, bundle, path)
        rows.append(
            {
                "path": path,
                "bundle_id": facts.bundle_id,
                "short_version": facts.short_version,
                "build": facts.build,
                "point": facts.extension_point,
            }
        )
        if info.bundle_id and facts.bundle_id and not facts.bundle_id.startswith(f"{info.bundle_id}."):
            foreign.append(f"{path}: {facts.bundle_id}")
    report.details["app_extensions"] = [path for path in paths if path.endswith(".appex")][:_INNER_MAX]
    report.details["app_clips"] = [path for path in paths if path.startswith("AppClips/")][:_INNER_MAX]
    report.details["extensions"] = rows
    if foreign:
        report.add(FOREIGN_EXTENSION, _some(foreign))
    return paths


def _inner_info(report: Report, bundle: Bundle, path: str) -> InfoPlist:
    """The facts of a bundle in the app; none where its Info.plist is missing or, which is noted, cannot be read."""
    inner = find_bundle(bundle.tree, join(bundle.contents, path))
    try:
        return app_info({} if inner is None else inner.info)
    except FormatError as error:
        report.findings.append(error.finding)
        return app_info({})


def _profile(report: Report, bundle: Bundle) -> Profile | None:
    """Step 6: the profile, described; what is wrong with it is noted."""
    path = bundle.find(_PROFILE)
    if path is None:
        report.add(NO_PROFILE)
        return None
    content = bundle.tree.open(path)
    report.details["profile_present"] = True
    if content.size > PROFILE_MAX_BYTES:
        report.add(TOO_LARGE, f"{content.size} bytes")
        return None
    try:
        profile = parse_profile(content.at(0, content.size))
    except FormatError as error:
        report.findings.append(error.finding)
        return None
    report.details |= profile.as_details()
    profile.add_findings(report)
    return profile


def _compare(report: Report, signature: BundleSignature, profile: Profile | None, info: InfoPlist) -> None:
    """Step 6: the signed app against its profile and itself."""
    code = signature.code
    claimed = code.entitlements or {}
    if claimed.get("get-task-allow") is True:
        report.add(DEBUGGABLE)
    if code.identifier is not None and info.bundle_id is not None and code.identifier != info.bundle_id:
        report.add(IDENTIFIER_MISMATCH, f"signed as {code.identifier}, Info.plist says {info.bundle_id}")
    if profile is None or code.status is SignatureStatus.UNSIGNED:
        return
    team_id = claimed.get("com.apple.developer.team-identifier", code.team_id)
    if profile.team_id and isinstance(team_id, str) and team_id and team_id != profile.team_id:
        report.add(TEAM_MISMATCH, f"profile {profile.team_id}, signature {team_id}")
    if profile.certificates and code.signers and code.signers[0].sha256 not in profile.certificates:
        report.add(CERTIFICATE_NOT_IN_PROFILE)
    excess = not_granted(claimed, profile.entitlements) if profile.entitlements else []
    if excess:
        report.add(NOT_GRANTED, _some(excess))


def _check_identifiers(report: Report, profile: Profile, bundle_ids: list[str | None]) -> None:
    """The profile's application identifier is a prefix, a dot, and a pattern for the bundle identifier."""
    _, _, pattern = (profile.application_identifier or "").partition(".")
    for bundle_id in bundle_ids:
        if pattern and bundle_id is not None and not matches(pattern, bundle_id):
            report.add(IDENTIFIER_MISMATCH, f"{bundle_id}, while the profile is for {pattern}")


def _add_icon(report: Report, tree: ZipTree, bundle: Bundle, info: InfoPlist) -> None:
    """Step 7: the largest file of those that Info.plist names; the artwork beside `Payload` where there is none."""
    prefixes = tuple(
        posixpath.splitext(name)[0] if name.endswith(".png") else name for name in info.icon_names
    )
    start = len(bundle.contents) + 1
    candidates = [
        tree.members[path]
        for path in tree.below(bundle.contents)
        if "/" not in path[start:]
        and path.endswith(".png")
        and prefixes
        and path[start:].startswith(prefixes)
    ]
    outside = posixpath.dirname(posixpath.dirname(bundle.root))
    for name in ("iTunesArtwork@2x", "iTunesArtwork"):
        artwork = tree.members.get(join(outside, name))
        if not candidates and artwork is not None:
            candidates.append(artwork)
    fitting = [one for one in candidates if one.link is None and one.size <= INPUT_MAX_BYTES]
    if not fitting:
        return
    best = max(fitting, key=lambda one: (one.size, one.path))
    try:
        content = tree.open(best.path)
        data = content.at(0, content.size)
    except FormatError:
        report.add(UNREADABLE, best.path)
        return
    add_icon(report, data, best.path)


def _unpack_rest(report: Report, tree: _ReadTree) -> None:
    """Step 8: a member that does not unpack to its checksum is damaged, whether or not a signature covers it."""
    left = UNPACKED_MAX_BYTES
    skipped = 0
    for path, member in tree.members.items():
        if path in tree.opened or member.link is not None:
            continue
        if member.size > left:
            skipped += 1
            continue
        left -= member.size
        try:
            for _ in tree.open(path).chunks():
                pass
        except FormatError as error:
            report.findings.append(error.finding)
            return
    if skipped:
        report.add(NOT_UNPACKED, f"{skipped} members")


def _numbers(version: str) -> tuple[int, ...]:
    """A system version to compare; what is no number counts as 0."""
    parts = [
        int(part) if part.isascii() and part.isdigit() and len(part) < 10 else 0
        for part in version.split(".")[:4]
    ]
    return (*parts, *(0,) * (4 - len(parts)))


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED_IN_EVIDENCE
    return ", ".join(names[:_NAMED_IN_EVIDENCE]) + (f" and {more} more" if more > 0 else "")
