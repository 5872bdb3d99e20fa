"""Python wheels: a ZIP archive that lists the digest of each of its files.

`metadata`: identifier = Name, version = Version, min_os = Requires-Python, archs from the platform tags.
`details`: project and version (of the `.dist-info` folder), pyver, abi, arch (from the tags in WHEEL), metadata_name, metadata_version
(Name and Version of METADATA), requires_python, requires_dist_count, requires_dist, provides_extra, summary, license, generator,
root_is_purelib, record_files (how many files were compared), file_count, unpacked_bytes.

The steps, in order:
 1. The archive (`zip.py`), and its one `.dist-info` folder with METADATA, WHEEL and RECORD.
 2. WHEEL: version 1, tags. METADATA: name and version, which are also those of the folder.
 3. RECORD: each file of the archive is there once, with its size and a digest that agrees; nothing is listed that is not there.
RECORD proves that the file is whole, not who made it: the signature is `unsigned`. The old RECORD.jws and RECORD.p7s are not checked.
Sources: PEP 427 and the PyPUG "Binary distribution format"; PEP 376 and "Recording installed projects"; PEP 425.
"""

import base64
import binascii
import csv
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pipeline.formats import python_metadata, zip  # noqa: A004  the module of that format
from pipeline.formats.archive import FILE_TOO_LARGE
from pipeline.formats.facts import (
    Malformed,
    Metadata,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Unjudgeable,
)
from pipeline.formats.python_metadata import CoreMetadata
from pipeline.formats.source import Source
from pipeline.formats.zip import Entry, ZipArchive

BAD_STRUCTURE: Final = Rule(
    "wheel.bad-structure",
    Severity.ERROR,
    "The file is no wheel: {evidence}.",
    "Build it again with a current build backend (python -m build --wheel).",
    "PyPUG, Binary distribution format: File contents",
)
BAD_WHEEL_FILE: Final = Rule(
    "wheel.bad-wheel-file",
    Severity.ERROR,
    "The file WHEEL in the package is not usable: {evidence}.",
    "Build the wheel again with a current build backend.",
    "PyPUG, Binary distribution format: File contents, WHEEL",
)
NAME_MISMATCH: Final = Rule(
    "wheel.name-mismatch",
    Severity.ERROR,
    "The folder and the metadata of the wheel name different packages: {evidence}.",
    "Build the wheel again; do not rename files in it.",
    "PyPUG, Binary distribution format: {distribution}-{version}.dist-info",
)
BAD_RECORD: Final = Rule(
    "wheel.bad-record",
    Severity.ERROR,
    "The list of files in the wheel (RECORD) is not usable: {evidence}.",
    "Build the wheel again; do not edit it by hand.",
    "PyPUG, Recording installed projects: The RECORD file",
)
RECORD_MISMATCH: Final = Rule(
    "wheel.record-mismatch",
    Severity.ERROR,
    "A file differs from what the wheel's RECORD says: {evidence}.",
    "The wheel was changed after it was built. Build it again, or upload the original.",
    "PyPUG, Binary distribution format: installation verifies the digests in RECORD",
)
RECORD_INCOMPLETE: Final = Rule(
    "wheel.record-incomplete",
    Severity.ERROR,
    "RECORD and the content of the wheel do not list the same files: {evidence}.",
    "The wheel was changed after it was built. Build it again; a tool that adds files has to rewrite RECORD (wheel pack).",
    "PyPUG, Binary distribution format: RECORD lists every file and its secure digest",
)
RULES: Final = (
    BAD_STRUCTURE,
    BAD_WHEEL_FILE,
    NAME_MISMATCH,
    BAD_RECORD,
    RECORD_MISMATCH,
    RECORD_INCOMPLETE,
    FILE_TOO_LARGE,
    *python_metadata.RULES,
    *zip.RULES,
)

_FILE_MAX_BYTES: Final = 4 << 20
_RECORD_MAX_BYTES: Final = 64 << 20  # 200 bytes for each of the entries that zip.py allows, and some
_TAGS_MAX: Final = 1000
_FINDINGS_MAX: Final = 20
_DIST_INFO: Final = re.compile(r"([^/]+?)-([^/-]+)\.dist-info")
_DATA: Final = re.compile(r"[^/]+?-[0-9][^/-]*\.data")
_TAG: Final = re.compile(r"[a-z0-9_.]{1,200}-[a-z0-9_.]{1,200}-[a-z0-9_.]{1,200}", re.IGNORECASE)
_UNRECORDED: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")
# "The hash algorithm must be sha256 or better; specifically, md5, sha1 and sha224 are not permitted"
_ALGORITHMS: Final = frozenset(
    {"sha256", "sha384", "sha512", "sha3_256", "sha3_384", "sha3_512", "blake2b", "blake2s"}
)
_PLATFORMS: Final = (
    (("manylinux", "musllinux", "linux"), "linux"),
    (("macosx",), "macos"),
    (("win",), "windows"),
    (("ios",), "ios"),
    (("android",), "android"),
)
_ARCH: Final = re.compile(
    r"(?:manylinux\d+|manylinux_\d+_\d+|musllinux_\d+_\d+|linux|macosx_\d+_\d+|win|ios_\d+_\d+|android_\d+)_(.+?)"
    r"(?:_iphoneos|_iphonesimulator)?"
)
_SIGNATURE_REASON: Final = "Signatures inside wheels (RECORD.jws, RECORD.p7s) are a withdrawn part of the format; no tool checks them."


@dataclass(frozen=True, slots=True)
class _Recorded:
    """One line of RECORD."""

    algorithm: str
    digest: bytes
    size: int | None


def read(source: Source) -> Report:
    """A report of format `wheel`."""
    report = Report("wheel")
    opened = ZipArchive(source)  # 1
    folder, project, version = _dist_info(opened)
    report.details.update(project=project, version=version)
    report.details["file_count"] = sum(not entry.is_dir for entry in opened.entries)
    report.details["unpacked_bytes"] = sum(entry.size for entry in opened.entries)
    _read_wheel_file(report, _content(opened, f"{folder}/WHEEL"))  # 2
    core = python_metadata.parse(_content(opened, f"{folder}/METADATA"), report)
    _describe(report, core)
    if not python_metadata.same_name(project, core.name) or not python_metadata.same_version(
        version, core.version
    ):
        report.add(NAME_MISMATCH, f"{folder} and {core.name} {core.version}")
    _check_data_folder(report, opened, folder)
    _compare(report, opened, folder)  # 3
    return report


def _dist_info(opened: ZipArchive) -> tuple[str, str, str]:
    folders = sorted({entry.name.split("/", 1)[0] for entry in opened.entries if ".dist-info/" in entry.name})
    folders = [folder for folder in folders if folder.endswith(".dist-info")]
    if len(folders) != 1:
        raise Malformed(BAD_STRUCTURE, f"it has {len(folders)} .dist-info folders")
    match = _DIST_INFO.fullmatch(folders[0])
    if match is None:
        raise Malformed(BAD_STRUCTURE, f"{folders[0]} is not name-version.dist-info")
    return folders[0], match[1], match[2]


def _check_data_folder(report: Report, opened: ZipArchive, folder: str) -> None:
    """Files of `{name}-{version}.data` are installed elsewhere; a folder of another package's name would be left lying about."""
    stem = folder.removesuffix(".dist-info")
    tops = {entry.name.split("/", 1)[0] for entry in opened.entries if "/" in entry.name}
    for top in sorted(tops):
        match = _DATA.fullmatch(top)
        if match and top != f"{stem}.data":
            report.add(NAME_MISMATCH, f"{folder} and {top}")


def _content(opened: ZipArchive, path: str, limit: int = _FILE_MAX_BYTES) -> bytes:
    entry = opened.get(path)
    if entry is None or entry.is_link:
        raise Malformed(BAD_STRUCTURE, f"{path} is missing")
    if entry.size > limit:
        raise Unjudgeable(FILE_TOO_LARGE, f"{path}: {entry.size} bytes")
    return opened.read(entry, limit)


def _read_wheel_file(report: Report, data: bytes) -> None:
    """Key: value lines, like a message's headers; Tag may be there often."""
    values: dict[str, list[str]] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip().lower(), []).append(value.strip())
    version = values.get("wheel-version", [""])[0]
    if not re.fullmatch(r"\d{1,3}\.\d{1,3}", version):
        raise Malformed(BAD_WHEEL_FILE, f"Wheel-Version is {version!r}")
    if not version.startswith("1."):
        # "A wheel installer should abort if the major version is greater than what it supports"
        raise Malformed(BAD_WHEEL_FILE, f"Wheel-Version {version} is not known to installers")
    tags = values.get("tag", [])
    if not tags or len(tags) > _TAGS_MAX or not all(_TAG.fullmatch(tag) for tag in tags):
        raise Malformed(BAD_WHEEL_FILE, f"{len(tags)} tags, or tags that are none")
    pythons, abis, platforms = (
        [part for tag in tags for part in tag.split("-")[place].split(".")] for place in range(3)
    )
    report.details.update(pyver=_once(pythons), abi=_once(abis), arch=_once(platforms))
    report.details["generator"] = values.get("generator", [""])[0][:200]
    report.details["root_is_purelib"] = values.get("root-is-purelib", [""])[0].lower() == "true"
    report.platform = _platform(platforms)
    report.metadata.archs = _once(_arch(tag) for tag in platforms)


def _once(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _platform(tags: list[str]) -> str:
    found = {next((name for starts, name in _PLATFORMS if tag.startswith(starts)), "any") for tag in tags}
    return found.pop() if len(found) == 1 else "any"


def _arch(tag: str) -> str:
    """PEP 425 and 600: the tag ends with the architecture; `win32` is both."""
    match = _ARCH.fullmatch(tag)
    return match[1] if match else tag


def _describe(report: Report, core: CoreMetadata) -> None:
    report.metadata = Metadata(
        identifier=core.name, version=core.version, min_os=core.requires_python, archs=report.metadata.archs
    )
    report.details.update(metadata_name=core.name, metadata_version=core.version, **core.as_details())


def _compare(report: Report, opened: ZipArchive, folder: str) -> None:
    """Step 3."""
    recorded = _record(_content(opened, f"{folder}/RECORD", _RECORD_MAX_BYTES), folder)
    unrecorded = {f"{folder}/{name}" for name in _UNRECORDED}
    if any(opened.get(f"{folder}/{name}") for name in _UNRECORDED[1:]):
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_SIGNATURE_REASON)
    problems = 0
    compared = 0
    for entry in opened.entries:
        if entry.is_dir or entry.name in unrecorded:
            continue
        told = recorded.pop(entry.name, None)
        compared += 1
        if told is None:
            problem = (RECORD_INCOMPLETE, f"{entry.name} is not listed")
        elif difference := _difference(opened, entry, told):
            problem = (RECORD_MISMATCH, difference)
        else:
            continue
        problems += 1
        if problems <= _FINDINGS_MAX:
            report.add(*problem)
    report.details["record_files"] = compared
    if recorded:
        report.add(
            RECORD_INCOMPLETE, f"{len(recorded)} listed files are missing, for instance {min(recorded)}"
        )


def _difference(opened: ZipArchive, entry: Entry, told: _Recorded) -> str | None:
    if told.size is not None and told.size != entry.size:
        return f"{entry.name} has {entry.size} bytes instead of {told.size}"
    state = hashlib.new(told.algorithm, usedforsecurity=False)
    for piece in opened.chunks(entry):
        state.update(piece)
    if hmac.compare_digest(state.digest(), told.digest):
        return None
    return f"{told.algorithm} of {entry.name} is {state.hexdigest()} instead of {told.digest.hex()}"


def _record(data: bytes, folder: str) -> dict[str, _Recorded]:
    """CSV without a head: path, algorithm=digest (URL-safe base 64 without padding), size."""
    try:
        rows = list(csv.reader(data.decode("utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Malformed(BAD_RECORD, str(error)) from error
    unrecorded = {f"{folder}/{name}" for name in _UNRECORDED}
    recorded: dict[str, _Recorded] = {}
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        if len(row) != 3:
            raise Malformed(BAD_RECORD, f"line {number} has {len(row)} fields")
        path = row[0].replace("\\", "/")  # written by old tools on Windows
        if path in seen:
            raise Malformed(BAD_RECORD, f"{path} is listed twice")
        seen.add(path)
        if path not in unrecorded and not path.endswith("/"):
            recorded[path] = _recorded(path, row[1], row[2])
    return recorded


def _recorded(path: str, digest: str, size: str) -> _Recorded:
    algorithm, _, encoded = digest.partition("=")
    if algorithm not in _ALGORITHMS:
        raise Malformed(BAD_RECORD, f"{path} has no digest of sha256 or better")
    try:
        decoded = base64.b64decode(
            encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), altchars=b"-_", validate=True
        )
    except (binascii.Error, ValueError) as error:
        raise Malformed(BAD_RECORD, f"the digest of {path} is not base 64") from error
    if size and not (size.isascii() and size.isdigit() and len(size) < 20):
        raise Malformed(BAD_RECORD, f"the size of {path} is no number")
    return _Recorded(algorithm, decoded, int(size) if size else None)
