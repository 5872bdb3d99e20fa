"""What a file is, by its content and never by its name.

The head of the file, its tail, and the names of an archive's members decide. General-purpose detectors are wrong for most of what is
shipped (a disk image is "bzip2", an MSIX is "zip"), because the truth of a ZIP or DMG is at its end.

Left to others: whether the file is sound (its reader), whether that is what the publisher said it is (`declared.py`).

Rules: a damaged file is recognised as what it would be, so that the right reader says what is wrong; nothing here raises for bad bytes;
what no row of the table fits is `text` or `file`, which is an answer, not a failure.
"""

import re
import struct
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from pipeline.formats.apple_disk import is_apple_disk
from pipeline.formats.listing import tar_names, zip_names
from pipeline.formats.source import Source
from pipeline.package import magic


class Format(StrEnum):
    """The kinds of files that are told apart. The values are the wire names: append, never rename."""

    APK = "apk"
    AAB = "aab"
    IPA = "ipa"
    APP_ZIP = "app-zip"
    DMG = "dmg"
    PKG = "pkg"
    MSIX = "msix"
    MSIX_BUNDLE = "msix-bundle"
    PE = "pe"
    MSI = "msi"
    DEB = "deb"
    RPM = "rpm"
    APPIMAGE = "appimage"
    WHEEL = "wheel"
    SDIST = "sdist"
    NPM = "npm"
    SWIFTPM = "swiftpm"
    TARBALL = "tarball"
    ZIP = "zip"
    SBOM_CYCLONEDX = "sbom-cyclonedx"
    SBOM_SPDX = "sbom-spdx"
    IN_TOTO = "in-toto"
    MINISIGN = "minisign"
    SPARKLE_SIGNATURE = "sparkle-signature"
    MOBILEPROVISION = "mobileprovision"
    DIST_PACKAGE = "dist-package"
    TEXT = "text"
    FILE = "file"


_SAMPLE_BYTES: Final = 64 << 10  # of head and tail, for files that are recognised by words
_KOLY_BYTES: Final = 512  # the UDIF trailer
_OLE_MAGIC: Final = bytes.fromhex("d0cf11e0a1b11ae1")
# CLSIDs of Windows Installer storages: 000C1084 package, 000C1086 patch, 000C1082 transform; all -0000-0000-C000-000000000046.
_INSTALLER_CLSID: Final = re.compile(rb"[\x82\x84\x86]\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46")
_ISO_DESCRIPTOR_AT: Final = 32769  # ECMA-119, 6.7.1: "CD001" one byte into sector 16
_SIGNED_DATA_OID: Final = bytes.fromhex("06092a864886f70d010702")  # RFC 5652: id-signedData
_PROFILE_KEYS: Final = (b"DeveloperCertificates", b"ProvisionedDevices", b"ProvisionsAllDevices")
_CYCLONEDX: Final = re.compile(
    rb'"bomFormat"\s*:\s*"CycloneDX"|xmlns(?::\w+)?\s*=\s*["\']http://cyclonedx\.org/schema/bom'
)
_SPDX: Final = re.compile(
    rb'"spdxVersion"\s*:\s*"SPDX-|^SPDXVersion:\s*SPDX-|"https://spdx\.org/rdf/3', re.MULTILINE
)
_IN_TOTO: Final = re.compile(
    rb'"_type"\s*:\s*"https://in-toto\.io/Statement/|"payloadType"\s*:\s*"application/vnd\.in-toto\+json"'
    rb'|"mediaType"\s*:\s*"application/vnd\.dev\.sigstore\.bundle'
)
_SPARKLE: Final = re.compile(rb'"(?:ed_signature|edSignature|sparkle:edSignature)"\s*:')
_MINISIGN: Final = re.compile(rb"untrusted comment:[^\n]*\n[A-Za-z0-9+/]{99}=")  # 74 bytes in base 64
_APP_INFO: Final = re.compile(r"(?:[^/]+/){0,2}[^/]+\.app/Contents/(?:Info\.plist|MacOS/.*)")
_IPA_APP: Final = re.compile(r"(?:[^/]+/)?Payload/[^/]+\.app/.*")
_SDIST_INFO: Final = re.compile(r"[^/]+-[^/]+/PKG-INFO")
_SWIFT_MANIFEST: Final = re.compile(r"(?:[^/]+/)?Package\.swift")


def recognise(source: Source) -> Format:
    """The format of `source`. Reads its ends, and the member names of an archive; never fails on content."""
    head = source.head(_SAMPLE_BYTES)
    return (
        _by_magic(source, head)
        or _by_trailer(source)
        or _by_zip(source, head)
        or _by_tar(source)
        or (Format.DMG if is_apple_disk(source) else None)
        or _by_words(source, head)
        or (Format.TEXT if is_text(head, whole=source.size <= len(head)) else Format.FILE)
    )


def _by_magic(source: Source, head: bytes) -> Format | None:
    """Formats that say what they are in their first bytes."""
    if head.startswith((magic.NATIVE, magic.PORTABLE)):
        return Format.DIST_PACKAGE
    if head.startswith(b"xar!"):
        return Format.PKG
    if head.startswith(b"\xed\xab\xee\xdb"):
        return Format.RPM
    if head.startswith(b"!<arch>\ndebian"):
        return Format.DEB
    if head.startswith(_OLE_MAGIC):
        return Format.MSI if _is_installer_storage(source, head) else None
    if head.startswith(b"MZ"):
        return Format.PE if _is_pe(source, head) else None
    if head.startswith(b"\x7fELF"):
        return Format.APPIMAGE if _is_appimage(source, head) else None
    if head.startswith((b"encrcdsa", b"cdsaencr")):
        return Format.DMG  # an encrypted image has no trailer
    return None


def _is_pe(source: Source, head: bytes) -> bool:
    """Microsoft PE format, 2.1: the signature stands where the word at 0x3c says. A DOS program has none."""
    if len(head) < 64:
        return False
    (offset,) = struct.unpack_from("<I", head, 0x3C)
    return offset + 4 > source.size or source.at(offset, 4) == b"PE\0\0"


def _is_installer_storage(source: Source, head: bytes) -> bool:
    """[MS-CFB] 2.6: the root entry's CLSID; a storage whose directory is cut off gets the benefit of the doubt."""
    if len(head) < 512:
        return True
    (shift,) = struct.unpack_from("<H", head, 30)
    (sector,) = struct.unpack_from("<I", head, 48)
    root = (sector + 1) << min(shift, 16)
    if root + 128 > source.size:
        return True
    entry = source.at(root, 128)
    # Packages with a root that names no class exist; the mark of a table's stream is U+4840 before its name.
    tables = source.at(root, min(2048, source.size - root))
    return _INSTALLER_CLSID.match(entry, 80) is not None or b"\x40\x48" in tables


def _is_appimage(source: Source, head: bytes) -> bool:
    """AppImage specification: magic at 8, or (type 1) an ISO image under the ELF header, or a squashfs right after the ELF."""
    if head[8:10] == b"AI" or (
        source.size >= _ISO_DESCRIPTOR_AT + 5 and source.at(_ISO_DESCRIPTOR_AT, 5) == b"CD001"
    ):
        return True
    end = _elf_end(head)
    return end is not None and end + 4 <= source.size and source.at(end, 4) == b"hsqs"


def _elf_end(head: bytes) -> int | None:
    """System V ABI, ELF header: where the table of section headers, and with it the program, ends."""
    if len(head) < 64 or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    order = "<" if head[5] == 1 else ">"
    offset_at, layout, sizes_at = (40, "Q", 58) if head[4] == 2 else (32, "I", 46)
    (offset,) = struct.unpack_from(order + layout, head, offset_at)
    entry_bytes, count = struct.unpack_from(order + "HH", head, sizes_at)
    return int(offset + entry_bytes * count)


def _by_trailer(source: Source) -> Format | None:
    """A UDIF image is known by its last 512 bytes only."""
    if source.size < _KOLY_BYTES:
        return None
    return Format.DMG if source.tail(_KOLY_BYTES).startswith(b"koly\0\0\0\4") else None


def _by_zip(source: Source, head: bytes) -> Format | None:
    names = zip_names(source)
    if not names and not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    return zip_kind(names)


def zip_kind(names: Sequence[str]) -> Format:
    """What an archive with these members is. The order matters: the most telling first."""
    present = frozenset(names)
    folded = frozenset(name.casefold() for name in names)
    if "appxmetadata/appxbundlemanifest.xml" in folded:
        return Format.MSIX_BUNDLE
    if "appxmanifest.xml" in folded:
        return Format.MSIX
    if "BundleConfig.pb" in present or "base/manifest/AndroidManifest.xml" in present:
        return Format.AAB
    if "AndroidManifest.xml" in present:
        return Format.APK
    if any(_IPA_APP.match(name) for name in names):
        return Format.IPA
    if any(_APP_INFO.match(name) for name in names):
        return Format.APP_ZIP
    if any(name.endswith(".dist-info/WHEEL") and name.count("/") == 1 for name in names):
        return Format.WHEEL
    if any(_SDIST_INFO.fullmatch(name) for name in names):
        return Format.SDIST
    if "Payload/" in present:
        return Format.IPA  # an IPA whose app was forgotten
    if "META-INF/MANIFEST.MF" in present and "classes.dex" in present:
        return Format.APK  # one whose manifest is missing
    if any(_SWIFT_MANIFEST.fullmatch(name) for name in names):
        return Format.SWIFTPM
    return Format.ZIP


def _by_tar(source: Source) -> Format | None:
    names = tar_names(source)
    if names is None:  # compression alone is no proof of an archive
        return None
    if "package/package.json" in names:
        return Format.NPM
    if any(_SDIST_INFO.fullmatch(name) for name in names):
        return Format.SDIST
    if any(_SWIFT_MANIFEST.fullmatch(name) for name in names):
        return Format.SWIFTPM
    return Format.TARBALL


def _by_words(source: Source, head: bytes) -> Format | None:
    """Formats of text, and property lists: by words near either end, never by parsing."""
    sample = head if source.size <= len(head) else head + source.tail(_SAMPLE_BYTES)
    if _MINISIGN.match(head):
        return Format.MINISIGN
    is_profile = head.startswith((b"bplist", b"<?xml", b"<plist")) or _SIGNED_DATA_OID in head[:32]
    if is_profile and any(key in sample for key in _PROFILE_KEYS):
        return Format.MOBILEPROVISION
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"[", b"<", b"S"):
        return None
    if _IN_TOTO.search(sample):  # first: a bill of materials may lie in a statement
        return Format.IN_TOTO
    if _CYCLONEDX.search(sample):
        return Format.SBOM_CYCLONEDX
    if _SPDX.search(sample):
        return Format.SBOM_SPDX
    if _SPARKLE.search(sample):
        return Format.SPARKLE_SIGNATURE
    return None


def is_text(head: bytes, *, whole: bool) -> bool:
    """UTF-8 without control characters other than white space; a character may be cut off unless `head` is the whole file."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return bool(text) and not any(ord(char) < 32 and char not in "\t\n\r\f\x1b" for char in text)
