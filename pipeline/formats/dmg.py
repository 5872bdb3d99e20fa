"""macOS disk images (.dmg): is the image intact, who signed it, and which app does it carry?

The checks, in this order:

 1. An encrypted image is refused: nobody can tell what is in it.
 2. The trailer and the block tables hold together, and every checksum matches (`udif.py`). An image that can be written to is a
    bare volume and has neither.
 3. The code signature, where there is one, is over all bytes before it and over the trailer; its ticket names this image.
 4. The file system is listed, and the app in it is verified like any other (`disk_contents.py`, `macos_app.py`).

`signature` is that of the image. An app inside has its own, in `details["app"]["code_signature"]`; findings about it are findings
of the image. `details`: `koly_trailer`, `encrypted`, `image_format` (UDZO, UDBZ, ULFO, ULMO, UDCO, UDRO, UDRW), `checksums`
(data, master, blocks: `ok`, `bad`, `none`, `skipped`), `unpacked_size`, `sevenzip_types`, `dmg_methods`, `filesystem`,
`volume_name`, `has_licence`, `app` (`name`, `path`, and what `macos_app.py` says), `apps`, `contains_pkg`, `packages`,
`code_signature`, `notarization`.
"""

import posixpath
import re
from typing import Any, Final

from pipeline.formats.apple_disk import is_apple_disk
from pipeline.formats.codedirectory import MAX_SIGNATURE_BYTES, Slot, bad_pages, parse_signature
from pipeline.formats.codesign import CODE_CHANGED, UNCOVERED, CodeSignature, check_embedded
from pipeline.formats.disk_contents import MAX_FOLDER_BYTES, DiskContents
from pipeline.formats.facts import FormatError, Malformed, Report, Rule, Severity, Signature, SignatureStatus
from pipeline.formats.icons import add_icon
from pipeline.formats.macos_app import read_app
from pipeline.formats.source import Source
from pipeline.formats.ticket import Notarization, find_ticket, judge_ticket
from pipeline.formats.udif import (
    ENCRYPTED,
    KOLY_BYTES,
    SECTOR_BYTES,
    Image,
    block_problems,
    blocks_can_be_checked,
    data_fork_problem,
    is_encrypted,
    master_problem,
    read_image,
)

_REBUILD: Final = "Build the disk image again (hdiutil create), check it with hdiutil verify, and upload that file unchanged."

DATA_CHANGED: Final = Rule(
    "dmg.data-changed",
    Severity.ERROR,
    "The disk image is not what its checksum was made of: {evidence}.",
    _REBUILD,
    "UDIF, koly DataChecksum",
)
BLOCKS_CHANGED: Final = Rule(
    "dmg.blocks-changed",
    Severity.ERROR,
    "Partitions of the disk image do not unpack to what their checksums say: {evidence}.",
    _REBUILD,
    "UDIF, mish Checksum, koly MasterChecksum",
)
SIGNATURE_PLACE: Final = Rule(
    "dmg.signature-place",
    Severity.ERROR,
    "The disk image has bytes that its signature does not cover: {evidence}.",
    "Sign the finished image (codesign --sign) and publish that result unchanged.",
    "Apple Security, diskimagerep.cpp",
)
BARE: Final = Rule(
    "dmg.bare",
    Severity.WARNING,
    "The disk image is a bare volume without checksums, so damage cannot be seen, and it cannot be signed.",
    "Convert it before you publish it: hdiutil convert IMAGE -format UDZO -o NEW.",
    "UDIF: an image that can be written to (UDRW) has no trailer",
)
NOTHING_INSIDE: Final = Rule(
    "dmg.nothing-inside",
    Severity.WARNING,
    "The disk image carries neither an app nor an installer package at its top.",
    "Put the app at the top of the image.",
    "own rule: what an artifact is, is read from the app in it",
)
NO_FILE_SYSTEM: Final = Rule(
    "dmg.no-file-system",
    Severity.WARNING,
    "7-Zip finds no file system on the disk image that it can read, so what is in it is not known here: {evidence}.",
    "Build the image with one HFS+ or APFS volume (hdiutil create -srcfolder … -fs APFS).",
    "own rule: what an artifact is, is read from the app in it",
    inconclusive=True,
)
SEVERAL_APPS: Final = Rule(
    "dmg.several-apps",
    Severity.WARNING,
    "The disk image carries several apps; the largest is the one described here: {evidence}.",
    "Publish each app in an image of its own.",
    "own rule: an artifact is one app",
)
APP_NOT_CHECKED: Final = Rule(
    "dmg.app-not-checked",
    Severity.INFO,
    "The app in the disk image is too large to have each of its files checked here: {evidence}.",
    "Sign the disk image too (codesign --sign … App.dmg), so that its own signature covers everything.",
    "limits of the inspector (disk_contents.MAX_FOLDER_BYTES)",
)
RULES: Final = (
    DATA_CHANGED, BLOCKS_CHANGED, SIGNATURE_PLACE, BARE, NOTHING_INSIDE, NO_FILE_SYSTEM, SEVERAL_APPS, APP_NOT_CHECKED,
)  # fmt: skip

_APP_INFO: Final = re.compile(r"((?:[^./][^/]*/){0,3}[^./][^/]*\.app)/Contents/Info\.plist\Z")
_PACKAGE: Final = re.compile(r"(?:[^./][^/]*/){0,2}[^./][^/]*\.m?pkg(?:/|\Z)", re.IGNORECASE)
_CODE_SIGNATURE_SIZE_AT: Final = 304  # in the trailer; counted as 0 when the trailer is hashed
_NAMES_IN_EVIDENCE: Final = 5


def read(source: Source) -> Report:
    """Read and verify; raises `Malformed` or `Unjudgeable`."""
    report = Report(format="dmg", platform="macos")
    encrypted = is_encrypted(source)
    has_trailer = source.size >= KOLY_BYTES and source.tail(KOLY_BYTES).startswith(b"koly")
    report.details = {"koly_trailer": has_trailer, "encrypted": encrypted, "sevenzip_types": []}
    if encrypted:
        report.add(ENCRYPTED)
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason="the image is encrypted")
        return report
    if not has_trailer and is_apple_disk(source):
        _describe_bare(source, report)
    else:
        _check_image(source, report)
    try:
        _describe_contents(source, report)
    except FormatError as error:
        report.findings.append(error.finding)
    return report


def _describe_bare(source: Source, report: Report) -> None:
    """Without a trailer the file is the volume or disk itself: nothing in it could be compared, and nothing signed."""
    report.add(BARE)
    report.details |= {
        "image_format": "UDRW",
        "unpacked_size": source.size,
        "has_licence": False,
        "checksums": {"data": "none", "master": "none", "blocks": "skipped"},
        "code_signature": None,
        "notarization": Notarization().as_details(),
    }


def _check_image(source: Source, report: Report) -> None:
    """Steps 2 and 3."""
    image = read_image(source)
    report.details |= {
        "image_format": image.format,
        "unpacked_size": image.sector_count * SECTOR_BYTES,
        "has_licence": "LPic" in image.resources,
        "checksums": _check_sums(image, report),
    }
    _check_signature(image, report)


def _check_sums(image: Image, report: Report) -> dict[str, str]:
    """Step 2."""
    data, master = data_fork_problem(image), master_problem(image)
    blocks = list(block_problems(image)) if blocks_can_be_checked(image) else None
    if data is not None:
        report.add(DATA_CHANGED, data)
    if master is not None:
        report.add(BLOCKS_CHANGED, f"the checksum over all of them: {master}")
    if blocks:
        report.add(BLOCKS_CHANGED, "; ".join(blocks[:_NAMES_IN_EVIDENCE]))
    return {
        "data": "none" if image.data_checksum is None else "bad" if data else "ok",
        "master": "none" if image.master_checksum is None else "bad" if master else "ok",
        "blocks": "skipped" if blocks is None else "bad" if blocks else "ok",
    }


def _check_signature(image: Image, report: Report) -> None:
    """Step 3."""
    code = CodeSignature()
    if image.signature is not None:
        code.status = SignatureStatus.VALID
        try:
            _verify_signature(image, code, *image.signature)
        except Malformed as error:
            code.fail(error.finding)
    report.signature = code.as_signature()
    report.findings += code.findings
    report.details["code_signature"] = code.as_details() if image.signature is not None else None
    notarization = Notarization()
    ticket = None if code.ticket is None else find_ticket(code.ticket)
    if ticket is not None:
        hashes = [row.value for row in code.cdhashes]
        notarization, findings = judge_ticket(ticket, {"the image": hashes})
        report.findings += findings
    report.details["notarization"] = notarization.as_details()


def _verify_signature(image: Image, code: CodeSignature, offset: int, length: int) -> None:
    if length > MAX_SIGNATURE_BYTES:
        raise Malformed(SIGNATURE_PLACE, f"a signature of {length} bytes")
    embedded = parse_signature(image.source.at(offset, length))
    end = offset + length
    if any(chunk.strip(b"\0") for chunk in image.source.chunks(end, image.trailer_at - end)):
        code.add(SIGNATURE_PLACE, f"between the signature and the trailer at {end}")
    if any(directory.code_limit != offset for directory in embedded.directories):
        code.add(UNCOVERED, f"hashed up to {embedded.primary.code_limit} of {offset}")
    elif bad := bad_pages(image.source, embedded.directories):
        code.add(CODE_CHANGED, f"the image, {len(bad)} pages, the first at {bad[0]}")
    check_embedded(embedded, code, parts={Slot.DISK_IMAGE: _trailer_as_signed(image)}, arch="image")
    if any(directory.special_slot(Slot.DISK_IMAGE) is None for directory in embedded.directories):
        code.unverify("the signature does not cover the image's trailer")
    if code.ad_hoc:
        code.unverify("signed ad hoc: the hashes match the content, but no certificate stands behind them")


def _trailer_as_signed(image: Image) -> bytes:
    """The trailer with a signature size of 0: when it was hashed the signature was not there yet."""
    trailer = bytearray(image.trailer)
    trailer[_CODE_SIGNATURE_SIZE_AT : _CODE_SIGNATURE_SIZE_AT + 8] = bytes(8)
    if len(trailer) != KOLY_BYTES:
        raise RuntimeError("the trailer changed its size")
    return bytes(trailer)


def _describe_contents(source: Source, report: Report) -> None:
    """Step 4."""
    disk = DiskContents(source)
    paths = [file.path for file in disk.files] + disk.folders
    packages = sorted({found[0].rstrip("/") for path in paths if (found := _PACKAGE.match(path))})
    apps = _apps(disk)
    report.details |= {
        "sevenzip_types": disk.types,
        "dmg_methods": disk.methods,
        "filesystem": disk.filesystem,
        "volume_name": disk.volume_name,
        "apps": apps,
        "contains_pkg": bool(packages),
        "packages": packages[:_NAMES_IN_EVIDENCE],
        "app": None,
    }
    if not apps:
        if disk.filesystem is None:
            report.add(NO_FILE_SYSTEM, ", ".join(disk.types))
        elif not packages:
            report.add(NOTHING_INSIDE)
        return
    if len(apps) > 1:
        report.add(SEVERAL_APPS, ", ".join(posixpath.basename(path) for path in apps[:_NAMES_IN_EVIDENCE]))
    _describe_app(disk, apps[0], report)


def _apps(disk: DiskContents) -> list[str]:
    """Apps near the top that lie in no other bundle, the largest first."""
    found: set[str] = set()
    for file in disk.files:
        match = _APP_INFO.match(file.path)
        if match is not None and ".app/" not in f"{posixpath.dirname(match[1])}/":
            found.add(match[1])
    return sorted(found, key=lambda path: (-disk.folder_size(path), path))


def _describe_app(disk: DiskContents, path: str, report: Report) -> None:
    whole = disk.folder_size(path) <= MAX_FOLDER_BYTES
    if not whole:
        report.add(APP_NOT_CHECKED, f"{posixpath.basename(path)}, {disk.folder_size(path)} bytes")
    app = read_app(disk.folder_tree(path) if whole else disk.lazy_tree(path), "", whole=whole)
    report.metadata = app.metadata
    report.findings += app.findings
    details: dict[str, Any] = {**app.details, "name": posixpath.basename(path), "path": path}
    details["bundle_name"] = app.details["name"]
    details.pop("app_dir")
    report.details["app"] = details
    if app.icon is not None:
        add_icon(report, app.icon[1], app.icon[0])
