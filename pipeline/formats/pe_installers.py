"""Which installer a program is: NSIS, Inno Setup, WiX Burn and a few self-extracting archives.

Only marks at known places are looked at; nothing is unpacked. "Not known" is an ordinary answer.

Sources: NSIS `Source/exehead/fileform.h` (firstheader); Inno Setup `Projects/Struct.pas` (TSetupLdrOffsetTable); WiX
`burn/engine/section.cpp` (BURN_SECTION_HEADER); 7-Zip `7zFormat.txt`.
"""

import struct
import uuid
from typing import Any, Final

from pipeline.formats.pe_headers import Headers
from pipeline.formats.pe_resources import Resources
from pipeline.formats.source import Source

NSIS_MARK: Final = struct.pack("<I", 0xDEADBEEF) + b"NullsoftInst"
NSIS_STEP_BYTES: Final = 512  # the stub looks for its header at every 512th byte
NSIS_MAX_STEPS: Final = 64
INNO_LOADER_MARK: Final = b"rDlPtS"
INNO_DATA_MARK: Final = b"Inno Setup Setup Data ("
BURN_SECTION: Final = ".wixburn"
BURN_MAGIC: Final = 0x00F14300
SFX_MARKS: Final = {
    b"7z\xbc\xaf\x27\x1c": "7zip-sfx",
    b"Rar!\x1a\x07": "rar-sfx",
    b";!@Install@!UTF-8!": "7zip-sfx",
    b"InstallShield\0": "installshield",
    b"ISSetupStream": "installshield",
}
ADVANCED_INSTALLER_MARK: Final = b"ADVINSTSFX"
TAIL_BYTES: Final = 128


def detect_installer(source: Source, headers: Headers, resources: Resources) -> dict[str, Any] | None:
    """`{"kind": …}` and what the mark itself tells (`version`, `bundle_id`); None when no mark is there."""
    burn = _burn(source, headers)
    if burn is not None:
        return burn
    if resources.setup_loader is not None:
        return _inno(source, resources.setup_loader)
    overlay = headers.overlay
    for step in range(NSIS_MAX_STEPS):
        offset = overlay + step * NSIS_STEP_BYTES
        if offset + 20 > source.size:
            break
        if source.at(offset + 4, len(NSIS_MARK)) == NSIS_MARK:
            return {"kind": "nsis"}
    head = source.at(overlay, min(32, source.size - overlay)) if overlay < source.size else b""
    for mark, kind in SFX_MARKS.items():
        if head.startswith(mark):
            return {"kind": kind}
    if ADVANCED_INSTALLER_MARK in source.tail(TAIL_BYTES):
        return {"kind": "advanced-installer"}
    return None


def _burn(source: Source, headers: Headers) -> dict[str, Any] | None:
    """BURN_SECTION_HEADER: magic, version, the bundle's GUID."""
    for section in headers.sections:
        if section.name == BURN_SECTION and section.raw_size >= 24:
            data = source.at(section.raw_offset, 24)
            if struct.unpack_from("<I", data)[0] == BURN_MAGIC:
                bundle = "{" + str(uuid.UUID(bytes_le=data[8:24])).upper() + "}"
                return {"kind": "burn", "bundle_id": bundle}
    return None


def _inno(source: Source, loader: bytes) -> dict[str, Any] | None:
    """The loader's offset table (version 1): its sixth number says where the setup data with its version begins."""
    if not loader.startswith(INNO_LOADER_MARK):
        return None
    kind: dict[str, Any] = {"kind": "inno"}
    if len(loader) >= 36:
        (offset,) = struct.unpack_from("<I", loader, 32)
        if offset + 64 <= source.size:
            text = source.at(offset, 64)
            if text.startswith(INNO_DATA_MARK):
                kind["version"] = text[len(INNO_DATA_MARK) :].split(b")", 1)[0].decode("latin-1")
    return kind
