"""Every finding about a ZIP archive by itself: one row, one reason, one remedy. `zip.py` decides when each applies."""

from typing import Final

from pipeline.formats import zip_records as records
from pipeline.formats.facts import Rule, Severity

_REBUILD: Final = "Build the archive again with an ordinary ZIP tool and upload the new file."

NO_END: Final = Rule(
    "zip.no-end",
    Severity.ERROR,
    "The file has no end of central directory: it is not a ZIP archive, or it was cut off.",
    "Compare the size with the original, and upload the complete file again.",
    "APPNOTE.TXT 4.3.16",
)
TRAILING: Final = Rule(
    "zip.trailing-data",
    Severity.ERROR,
    "Bytes follow the end of the ZIP archive: {evidence}.",
    "Remove what was appended, or build the archive again.",
    "APPNOTE.TXT 4.3.16",
)
AMBIGUOUS: Final = Rule(
    "zip.several-ends",
    Severity.ERROR,
    "The archive has more than one end of central directory, so tools disagree about its contents: {evidence}.",
    _REBUILD,
    "APPNOTE.TXT 4.3.16; parser differentials",
)
PREFIX: Final = Rule(
    "zip.prefix-data",
    Severity.ERROR,
    "The first entry does not stand at the start of the file: {evidence}.",
    _REBUILD,
    "CVE-2017-13156 (Janus); parser differentials",
)
GAP: Final = Rule(
    "zip.hidden-data",
    Severity.ERROR,
    "The archive holds bytes that belong to no entry: {evidence}.",
    _REBUILD,
    "APPNOTE.TXT 4.3.6; parser differentials",
)
OVERLAP: Final = Rule(
    "zip.overlapping-entries",
    Severity.ERROR,
    "Two entries share the same bytes, as in a ZIP bomb: {evidence}.",
    _REBUILD,
    "CVE-2024-0450; Fifield, A better zip bomb",
)
MISMATCH: Final = Rule(
    "zip.header-mismatch",
    Severity.ERROR,
    "The central directory and the entry itself contradict each other: {evidence}.",
    _REBUILD,
    "APPNOTE.TXT 4.3.7, 4.3.9, 4.3.12",
)
DUPLICATE: Final = Rule(
    "zip.duplicate-entry",
    Severity.ERROR,
    "Two entries have the same name, so tools disagree about the contents: {evidence}.",
    "Remove one of them and build the archive again.",
    "Android master key, CVE-2013-4787",
)
UNSAFE_NAME: Final = Rule(
    "zip.unsafe-name",
    Severity.ERROR,
    "An entry's name would leave the folder that it is unpacked to, or cannot be a file name: {evidence}.",
    "Use relative names without '..', backslashes and control characters.",
    "APPNOTE.TXT 4.4.17; Zip Slip, CWE-22",
)
UNSAFE_LINK: Final = Rule(
    "zip.unsafe-link",
    Severity.ERROR,
    "A symbolic link or special file leads out of the archive: {evidence}.",
    "Link only to files of the same archive, by relative paths.",
    "CWE-59, CWE-61",
)
ENCRYPTED: Final = Rule(
    "zip.encrypted",
    Severity.ERROR,
    "An entry is encrypted, so it cannot be inspected: {evidence}.",
    "Build the archive without a password.",
    "APPNOTE.TXT 4.4.4",
)
METHOD: Final = Rule(
    "zip.method",
    Severity.WARNING,
    "An entry uses a compression method that is not read here: {evidence}.",
    "Compress with Deflate (the default of nearly every tool), or store without compression.",
    "APPNOTE.TXT 4.4.5",
    inconclusive=True,
)
ZIP64: Final = Rule(
    "zip.zip64",
    Severity.ERROR,
    "The archive uses ZIP64, which this format does not allow.",
    "Build the archive again without ZIP64; it is only needed above 4 GiB or 65535 entries.",
    "AOSP apksig, ApkUtils.findZipSections",
)
TOO_MANY: Final = Rule(
    "zip.too-many-entries",
    Severity.WARNING,
    "The archive has more entries than are read here: {evidence}.",
    "Pack many small files into one inner archive, or split the archive.",
    "limit of this server",
    inconclusive=True,
)
BOMB: Final = Rule(
    "zip.bomb",
    Severity.ERROR,
    "The archive unpacks to far more than it can reasonably hold: {evidence}.",
    "Leave generated or empty padding out of the archive.",
    "CWE-409",
)
TOO_LARGE: Final = Rule(
    "zip.member-too-large",
    Severity.WARNING,
    "A member that has to be read is larger than the limit: {evidence}.",
    "Make the named file smaller.",
    "limit of this server",
    inconclusive=True,
)
CORRUPT: Final = Rule(
    "zip.corrupt-member",
    Severity.ERROR,
    "A member does not unpack to what the archive says: {evidence}.",
    "The file was damaged or changed after it was built; build it again and upload the new file.",
    "APPNOTE.TXT 4.4.7",
)
RULES: Final = (
    *records.RULES, NO_END, TRAILING, AMBIGUOUS, PREFIX, GAP, OVERLAP, MISMATCH, DUPLICATE, UNSAFE_NAME,
    UNSAFE_LINK, ENCRYPTED, METHOD, ZIP64, TOO_MANY, BOMB, TOO_LARGE, CORRUPT,
)  # fmt: skip
