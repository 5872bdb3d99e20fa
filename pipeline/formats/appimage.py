"""AppImages: an ELF program that carries the file system of its application.

Type 1 is an ISO 9660 image whose unused first sectors hold the program; type 2 a program with a squashfs behind it.
`metadata`: identifier = the desktop file's name without its ending, name = Name, version = X-AppImage-Version, archs from the ELF header.
`details`: elf, magic_bytes_8_10 (hex), machine, type, elf_end, payload_offset (type 2) or payload_offset_iso9660 (type 1),
squashfs_compression, entries (members of the image; for a squashfs without folders, as unsquashfs counts them), desktop_files (in the top
folder), desktop_entry, has_sha256_sig_section, update_information.

The steps, in order:
 1. The ELF header and its sections. The magic `AI` at 8; where it is missing, the content decides.
 2. The file system: it begins where the program ends (type 2) or at byte 0 (type 1), and is complete.
 3. Its listing, which has to be of the image that the program would mount; the desktop entry; the icon.
A signature in the sections `.sha256_sig` and `.sig_key` is an OpenPGP one: listed, and `unverified`, because no key is pinned here.
Sources: AppImage specification (github.com/AppImage/AppImageSpec); squashfs 4.0 superblock; ECMA-119, 8.4.
"""

import re
import struct
from typing import Final

from pipeline.formats import desktop_entry, elf, icons
from pipeline.formats.appimage_payload import DANGLING_LINK, UNREADABLE, PayloadImage
from pipeline.formats.appimage_payload import RULES as PAYLOAD_RULES
from pipeline.formats.elf import Elf, read_elf
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
from pipeline.formats.source import TRUNCATED, Source

NO_PAYLOAD: Final = Rule(
    "appimage.no-payload",
    Severity.ERROR,
    "The AppImage has no file system: {evidence}.",
    "Build the AppImage again with appimagetool, and upload the complete file.",
    "AppImage specification, Image format",
)
OTHER_PAYLOAD: Final = Rule(
    "appimage.ambiguous-payload",
    Severity.WARNING,
    "The AppImage holds more than one file system, and the first one is not the one that it mounts: {evidence}.",
    "Build the AppImage again with appimagetool.",
    "two readers must see the same content",
    inconclusive=True,
)
NO_MAGIC: Final = Rule(
    "appimage.no-magic",
    Severity.WARNING,
    "The AppImage does not say that it is one; desktops may not recognise it.",
    "Build it with a current appimagetool.",
    "AppImage specification: the magic bytes 0x414901 or 0x414902 at offset 8",
)
NO_DESKTOP_FILE: Final = Rule(
    "appimage.no-desktop-file",
    Severity.WARNING,
    "The AppImage has not exactly one desktop file in its top folder: {evidence}.",
    "Put one .desktop file in the top folder of the AppDir.",
    "AppImage specification, AppDir: there MUST be exactly one $APPNAME.desktop",
)
RULES: Final = (
    NO_PAYLOAD,
    OTHER_PAYLOAD,
    NO_MAGIC,
    NO_DESKTOP_FILE,
    TRUNCATED,
    *elf.RULES,
    *icons.RULES,
    *PAYLOAD_RULES,
)

_DESKTOP_MAX_BYTES: Final = 256 << 10
_SECTION_MAX_BYTES: Final = 64 << 10
_ISO_DESCRIPTOR_AT: Final = 16 * 2048
_SQUASHFS_MAGIC: Final = b"hsqs"
_SQUASHFS_BYTES: Final = 96
_SQUASHFS_COMPRESSIONS: Final = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}
_ICON_SIZE: Final = re.compile(r"usr/share/icons/hicolor/(\d{1,4})x\1/apps/([^/]+)\.png")
_KEY_REASON: Final = "The AppImage is signed with OpenPGP, but no key is pinned on this server, so nobody's signature can be confirmed."


def read(source: Source) -> Report:
    """A report of format `appimage`."""
    report = Report("appimage", platform="linux")
    program = read_elf(source)  # 1
    _describe_program(report, source, program)
    kind = _find_payload(report, source, program)  # 2
    try:
        image = PayloadImage(source, kind)  # 3
        _describe_content(report, image)
        if kind == "squashfs" and image.offset != program.end:
            report.add(OTHER_PAYLOAD, f"at {image.offset} instead of {program.end}")
    except Unjudgeable as error:
        # What the program itself says stays of use.
        report.findings.append(error.finding)
    return report


def _describe_program(report: Report, source: Source, program: Elf) -> None:
    report.metadata = Metadata(archs=[program.arch])
    signature = program.section(".sha256_sig")
    report.details.update(
        elf=True,
        magic_bytes_8_10=source.at(8, 3).hex(),
        machine=program.machine,
        elf_end=program.end,
        has_sha256_sig_section=signature is not None,
    )
    update = program.section(".upd_info")
    if update is not None:
        text = source.at(update.offset, min(update.size, _SECTION_MAX_BYTES)).split(b"\0", 1)[0]
        report.details["update_information"] = text.decode("utf-8", "replace").strip()
    if signature is not None and source.at(signature.offset, min(signature.size, _SECTION_MAX_BYTES)).strip(
        b"\0 "
    ):
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_KEY_REASON)


def _find_payload(report: Report, source: Source, program: Elf) -> str:
    """Step 2: the kind of file system, as 7-Zip names it. Type 1 first: its program has other sectors behind it."""
    magic = source.at(8, 3)
    if magic[:2] != b"AI":
        report.add(NO_MAGIC)
    is_iso = source.size > _ISO_DESCRIPTOR_AT + 6 and source.at(_ISO_DESCRIPTOR_AT + 1, 5) == b"CD001"
    if magic == b"AI\1" or (magic != b"AI\2" and is_iso):
        if not is_iso:
            raise Malformed(NO_PAYLOAD, "the magic says type 1, but there is no ISO 9660 image")
        _check_iso(source)
        report.details.update(type=1, payload_offset_iso9660=0)
        return "iso"
    _check_squashfs(report, source, program.end)
    report.details.update(type=2, payload_offset=program.end)
    return "squashfs"


def _check_iso(source: Source) -> None:
    """ECMA-119, 8.4.8 and 8.4.12: the number of blocks of the volume, and their size."""
    descriptor = source.at(_ISO_DESCRIPTOR_AT, 2048)
    (blocks,) = struct.unpack_from("<I", descriptor, 80)
    (block_bytes,) = struct.unpack_from("<H", descriptor, 128)
    if blocks * block_bytes > source.size:
        raise Malformed(TRUNCATED, f"an image of {blocks * block_bytes} bytes in a file of {source.size}")


def _check_squashfs(report: Report, source: Source, offset: int) -> None:
    if offset + _SQUASHFS_BYTES > source.size:
        raise Malformed(NO_PAYLOAD, f"the program ends at {offset}, the file at {source.size}")
    block = source.at(offset, _SQUASHFS_BYTES)
    if block[:6] == b"DWARFS":
        raise Unjudgeable(UNREADABLE, "it is a DwarFS")
    if block[:4] != _SQUASHFS_MAGIC:
        raise Malformed(NO_PAYLOAD, f"no squashfs at {offset}, where the program ends")
    (compression,) = struct.unpack_from("<H", block, 20)
    (used,) = struct.unpack_from("<Q", block, 40)
    if offset + used > source.size:
        raise Malformed(TRUNCATED, f"a squashfs of {used} bytes at {offset} in a file of {source.size}")
    report.details["squashfs_compression"] = _SQUASHFS_COMPRESSIONS.get(compression, str(compression))


def _describe_content(report: Report, image: PayloadImage) -> None:
    """Step 3. The desktop entry is what users see; a broken one is the publisher's to mend, not a reason to reject."""
    entries = image.entries.values()
    is_squashfs = report.details["type"] == 2
    report.details["entries"] = sum(not (is_squashfs and entry.is_folder) for entry in entries)
    names = sorted(path for path in image.entries if path.endswith(".desktop") and "/" not in path)
    report.details["desktop_files"] = names[:100]
    if len(names) != 1:
        report.add(NO_DESKTOP_FILE, f"it has {len(names)}")
    entry: dict[str, str] = {}
    if names:
        content = image.read(names[0], _DESKTOP_MAX_BYTES)
        if content is None:
            report.add(DANGLING_LINK, names[0])
        entry = desktop_entry.parse(content or b"")
        report.metadata.identifier = names[0].removesuffix(".desktop")
        report.metadata.name = entry.get("Name")
        report.metadata.version = entry.get("X-AppImage-Version")
    report.details["desktop_entry"] = entry
    if icon := _icon_path(image, entry.get("Icon", "")):
        icons.add_icon(report, image.read(icon, icons.INPUT_MAX_BYTES) or b"", icon)


def _icon_path(image: PayloadImage, icon: str) -> str | None:
    """AppDir specification: the icon in the top folder; else the largest of the theme hicolor; else .DirIcon."""
    stem = icon.removesuffix(".png").removesuffix(".svg")
    top = f"{stem}.png"
    if top in image.entries:
        return top
    sizes = [
        (int(match[1]), path)
        for path in image.entries
        if (match := _ICON_SIZE.fullmatch(path)) and match[2] == stem
    ]
    if sizes:
        return max(sizes)[1]
    # An icon that exists as a drawing only is not shown; .DirIcon may be one too.
    if f"{stem}.svg" in image.entries or ".DirIcon" not in image.entries:
        return None
    return ".DirIcon"
