"""What the publisher said about a file, held against what the file is.

    Declared(filename="notes.apk", platform="android", arch="arm64-v8a")

A file name is a claim like any other: people and devices decide by it what to do with a download. So a file named `.apk` has to be
an APK. An artifact for the platform `any` is passed on as it is, whatever it holds; its name must still be a name.

Left to others: what the file is (`recognise.py`, the readers), what an app allows (`pipeline.policy`).

Rules: what was not declared is not checked, and what the content does not say contradicts nothing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.errors import Invalid
from pipeline.formats.facts import Report, Rule, Severity
from pipeline.formats.recognise import Format
from pipeline.values import Platform, parse_filename

WRONG_FORMAT: Final = Rule(
    "declared.format",
    Severity.ERROR,
    "The content is not what the file was said to be: {evidence}.",
    "Upload the file that was meant, or name it by what it is.",
    "contract, dist.json: format is checked when present",
)
WRONG_PLATFORM: Final = Rule(
    "declared.platform",
    Severity.ERROR,
    "The file is for another platform than the artifact says: {evidence}.",
    "Correct `platform` in dist.json, or the path of the file.",
    "contract, dist.json: platform",
)
WRONG_ARCH: Final = Rule(
    "declared.arch",
    Severity.ERROR,
    "The file does not hold the architecture that was declared: {evidence}.",
    "Correct `arch` in dist.json or leave it out, or build for that architecture.",
    "contract, dist.json: arch is checked when present",
)
WRONG_PACKAGE: Final = Rule(
    "declared.package",
    Severity.ERROR,
    "The file is named as another package than it holds: {evidence}.",
    "Give it the name with which it was built; pip installs no wheel whose name says something else.",
    "Binary distribution format, file name convention; pip compares the name with METADATA",
)
UNSAFE_NAME: Final = Rule(
    "declared.unsafe-name",
    Severity.ERROR,
    "The file's name cannot be saved safely on every system: {evidence}.",
    "Give it a plain name: no path, no control characters, at most 255 bytes.",
    "CWE-22, CWE-451",
)
EMPTY: Final = Rule(
    "file.empty",
    Severity.ERROR,
    "The file is empty.",
    "Check the step that builds or copies it, and upload the file again.",
    "no format allows it",
)
RULES: Final = (WRONG_FORMAT, WRONG_PLATFORM, WRONG_ARCH, WRONG_PACKAGE, UNSAFE_NAME, EMPTY)

_ZIPS: Final = frozenset(
    {Format.ZIP, Format.APP_ZIP, Format.SWIFTPM, Format.SDIST, Format.APK, Format.AAB, Format.IPA,
     Format.WHEEL, Format.MSIX, Format.MSIX_BUNDLE}
)  # fmt: skip
_TARS: Final = frozenset({Format.TARBALL, Format.SDIST, Format.NPM, Format.SWIFTPM, Format.DIST_PACKAGE})
_SBOMS: Final = frozenset({Format.SBOM_CYCLONEDX, Format.SBOM_SPDX})

# The ending of a name, lower case, and what it promises. The longest ending that fits counts; other names promise nothing.
_PROMISES: Final[dict[str, frozenset[Format]]] = {
    ".apk": frozenset({Format.APK}),
    ".aab": frozenset({Format.AAB}),
    ".ipa": frozenset({Format.IPA}),
    ".mobileprovision": frozenset({Format.MOBILEPROVISION}),
    ".provisionprofile": frozenset({Format.MOBILEPROVISION}),
    ".dmg": frozenset({Format.DMG}),
    ".pkg": frozenset({Format.PKG}),
    ".app.zip": frozenset({Format.APP_ZIP}),
    ".msix": frozenset({Format.MSIX}),
    ".appx": frozenset({Format.MSIX}),
    ".msixbundle": frozenset({Format.MSIX_BUNDLE}),
    ".appxbundle": frozenset({Format.MSIX_BUNDLE}),
    ".exe": frozenset({Format.PE}),
    ".dll": frozenset({Format.PE}),
    ".msi": frozenset({Format.MSI}),
    ".deb": frozenset({Format.DEB}),
    ".rpm": frozenset({Format.RPM}),
    ".appimage": frozenset({Format.APPIMAGE}),
    ".whl": frozenset({Format.WHEEL}),
    ".dpk": frozenset({Format.DIST_PACKAGE}),
    ".zip": _ZIPS,
    ".tar": _TARS,
    ".tgz": _TARS,
    ".tar.gz": _TARS,
    ".tar.bz2": _TARS,
    ".tar.xz": _TARS,
    ".tar.zst": _TARS,
    ".cdx.json": _SBOMS,
    ".cdx.xml": _SBOMS,
    ".spdx": _SBOMS,
    ".spdx.json": _SBOMS,
    ".intoto.json": frozenset({Format.IN_TOTO}),
    ".intoto.jsonl": frozenset({Format.IN_TOTO}),
    ".sigstore.json": frozenset({Format.IN_TOTO}),
    ".minisig": frozenset({Format.MINISIGN}),
}

# Names of one processor in the vocabularies of the platforms, to one of them.
_ARCH_SYNONYMS: Final = {
    "amd64": "x86_64", "x64": "x86_64", "x86-64": "x86_64",
    "i386": "x86", "i486": "x86", "i586": "x86", "i686": "x86", "win32": "x86", "intel": "x86",
    "aarch64": "arm64", "arm64-v8a": "arm64", "arm64e": "arm64",
    "armhf": "arm", "armel": "arm", "armv7": "arm", "armv7l": "arm", "armv7hl": "arm", "armv7s": "arm", "armeabi": "arm",
    "armeabi-v7a": "arm",
}  # fmt: skip
_WHEEL_NAME: Final = re.compile(r"(?i)([^-]+)-([^-]+)(-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl")
_SEPARATORS: Final = re.compile(r"[-_.]+")
_ANY_ARCH: Final = frozenset({"all", "any", "neutral", "noarch"})
_UNIVERSAL: Final = frozenset({"universal", "universal2"})
_MACOS_BOTH: Final = frozenset({"x86_64", "arm64"})


@dataclass(frozen=True, slots=True)
class Declared:
    """What is claimed; None is "not said". `filename` is a name without folders, as the publisher has it."""

    filename: str | None = None
    platform: str | None = None
    format: str | None = None
    arch: str | None = None


def check_name(report: Report, declared: Declared) -> None:
    """The name has to be one that every system can save."""
    if declared.filename is None:
        return
    try:
        parse_filename(declared.filename)
    except Invalid:
        report.add(UNSAFE_NAME, declared.filename)


def check_format(report: Report, declared: Declared, recognised: Format) -> None:
    """The content has to be what the name's ending, and a declared format, promise."""
    if declared.format is not None and not _means(declared.format, recognised):
        report.add(WRONG_FORMAT, f"declared as {declared.format}, recognised as {recognised}")
    promise = _promise(declared.filename or "")
    if promise is None or declared.platform == Platform.ANY:
        return
    ending, formats = promise
    if recognised not in formats:
        report.add(WRONG_FORMAT, f"named {ending}, recognised as {recognised}")


def check_platform(report: Report, declared: Declared) -> None:
    """A file that belongs to one platform is not for another."""
    both = {declared.platform, report.platform}
    if len(both) == 2 and not both & {None, Platform.ANY}:
        report.add(WRONG_PLATFORM, f"declared for {declared.platform}, built for {report.platform}")


def check_arch(report: Report, declared: Declared) -> None:
    """The declared architecture has to be among those that the reader found, under any of its names."""
    if declared.arch is None:
        return
    wanted = _canonical(declared.arch)
    found = {_canonical(arch) for arch in report.metadata.archs}
    if not found or wanted in _ANY_ARCH or found & _ANY_ARCH:
        return
    if wanted in _UNIVERSAL:
        fits = report.platform != Platform.MACOS or found >= _MACOS_BOTH or bool(found & _UNIVERSAL)
    else:
        fits = wanted in found or (bool(found & _UNIVERSAL) and wanted in _MACOS_BOTH)
    if not fits:
        report.add(WRONG_ARCH, f"declared {declared.arch}, found {_listed(report.metadata.archs)}")


def check_package(report: Report, declared: Declared, recognised: Format) -> None:
    """A wheel's name is read by installers: project and version in it have to be those of the wheel. Other names are for people."""
    match = _WHEEL_NAME.fullmatch(declared.filename or "")
    project, version = (str(report.details.get(name) or "") for name in ("project", "version"))
    if recognised is not Format.WHEEL or match is None or not (project and version):
        return
    if (_project(match[1]), _version(match[2])) != (_project(project), _version(version)):
        report.add(WRONG_PACKAGE, f"named {match[1]} {match[2]}, it is {project} {version}")


def _project(name: str) -> str:
    """PEP 503."""
    return _SEPARATORS.sub("-", name).lower()


def _version(text: str) -> str:
    """As far as two spellings of one version differ in file names: case, `_` for `-`, zeros at the end."""
    shown = text.lower().replace("_", "-").removeprefix("v")
    while shown.endswith(".0"):
        shown = shown.removesuffix(".0")
    return shown


def _means(declared_format: str, recognised: Format) -> bool:
    """A format may be declared by its own name, or by the ending that files of it have (`exe`, `tar.gz`)."""
    name = declared_format.lower()
    return name == recognised or recognised in _PROMISES.get(f".{name}", ())


def _promise(filename: str) -> tuple[str, frozenset[Format]] | None:
    name = filename.lower()
    endings = sorted((ending for ending in _PROMISES if name.endswith(ending)), key=len)
    return (endings[-1], _PROMISES[endings[-1]]) if endings else None


def _canonical(arch: str) -> str:
    name = arch.strip().lower()
    return _ARCH_SYNONYMS.get(name, name)


def _listed(archs: Sequence[str]) -> str:
    return ", ".join(sorted(archs))
