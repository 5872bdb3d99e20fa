"""Builds small app packages and bundles as MakeAppx does, with any part replaced, left out or made wrong."""

import base64
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from tests.support import build_authenticode as authenticode
from tests.support.build_zip import CENTRAL, LOCAL, end_part

BLOCK = 65536
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
WINDOWS10 = "http://schemas.microsoft.com/appx/manifest/foundation/windows10"
CONTENT_TYPES = (
    b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    b'<Default Extension="xml" ContentType="application/vnd.ms-appx.manifest+xml"/>'
    b'<Override PartName="/AppxBlockMap.xml" ContentType="application/vnd.ms-appx.blockmap+xml"/></Types>'
)
DESKTOP = (
    '<TargetDeviceFamily Name="Windows.Desktop" MinVersion="10.0.17763.0" MaxVersionTested="10.0.22000.0"/>'
)
FILES = {"Tiny.exe": b"MZ" * 50_000, "Assets\\Logo.png": b"no picture", "Read me (1).txt": b"hello"}


def manifest(
    *,
    name: str = "Tiny.App",
    publisher: str = authenticode.PUBLISHER,
    version: str = "1.2.3.4",
    architecture: str | None = "x64",
    families: str = DESKTOP,
    properties: str = "",
    namespace: str = WINDOWS10,
    more: str = "",
) -> bytes:
    arch = "" if architecture is None else f' ProcessorArchitecture="{architecture}"'
    dependencies = f"<Dependencies>{families}</Dependencies>" if families else ""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<Package xmlns="{namespace}">
  <Identity Name="{name}" Publisher={quoteattr(publisher)} Version="{version}"{arch}/>
  <Properties><DisplayName>Tiny</DisplayName><PublisherDisplayName>Tiny, Inc</PublisherDisplayName>
    <Logo>Assets\\Logo.png</Logo>{properties}</Properties>
  <Resources><Resource Language="en-us"/></Resources>
  {dependencies}{more}
</Package>""".encode()


@dataclass(frozen=True)
class Packed:
    """A file as it is written: deflated block by block with full flushes, or stored."""

    name: str  # Windows path
    content: bytes
    stored: bool = False
    final_block: bool = True
    blocks: list[int] = field(default_factory=list)

    @property
    def raw(self) -> bytes:
        if self.stored:
            return self.content
        packer = zlib.compressobj(6, zlib.DEFLATED, -15)
        data = b""
        self.blocks.clear()
        for offset in range(0, len(self.content), BLOCK):
            part = packer.compress(self.content[offset : offset + BLOCK]) + packer.flush(zlib.Z_FULL_FLUSH)
            self.blocks.append(len(part))
            data += part
        return data + (packer.flush(zlib.Z_FINISH) if self.final_block else b"")

    @property
    def part_name(self) -> str:
        return quote(self.name.replace("\\", "/"), safe="/.~_-") if self.name[0] != "[" else self.name


def local(packed: Packed) -> bytes:
    """Local file header and data."""
    name, raw = packed.part_name.encode(), packed.raw
    method = 0 if packed.stored else 8
    sizes = (zlib.crc32(packed.content), len(raw), len(packed.content))
    return LOCAL.pack(b"PK\3\4", 20, 0, method, 0, 0x21, *sizes, len(name), 0) + name + raw


def central(packed: Packed, offset: int) -> bytes:
    name = packed.part_name.encode()
    method = 0 if packed.stored else 8
    sizes = (zlib.crc32(packed.content), len(packed.raw), len(packed.content))
    return (
        CENTRAL.pack(b"PK\1\2", 20, 20, 0, method, 0, 0x21, *sizes, len(name), 0, 0, 0, 0, 0, offset) + name
    )


def block_map(files: Sequence[Packed], *, changes: Mapping[str, str] | None = None, extra: str = "") -> bytes:
    """AppxBlockMap.xml; `changes` replaces the element of a file."""
    rows = []
    for packed in files:
        assert len(packed.raw) >= sum(packed.blocks)
        row = f'<File Name={quoteattr(packed.name)} Size="{len(packed.content)}" '
        row += f'LfhSize="{30 + len(packed.part_name)}">'
        for index, offset in enumerate(range(0, len(packed.content), BLOCK)):
            digest = base64.b64encode(
                hashlib.sha256(packed.content[offset : offset + BLOCK]).digest()
            ).decode()
            size = "" if packed.stored else f' Size="{packed.blocks[index]}"'
            row += f'<Block Hash="{digest}"{size}/>'
        rows.append((changes or {}).get(packed.name, row + "</File>"))
    return (
        '<BlockMap xmlns="http://schemas.microsoft.com/appx/2010/blockmap" '
        f'HashMethod="{SHA256}">{"".join(rows)}{extra}</BlockMap>'
    ).encode()


def container(files: Sequence[Packed], *, sign: bool = False, **signing: Any) -> bytes:
    """The ZIP archive; with `sign`, AppxSignature.p7x is added as SignTool does."""
    body, records = b"", []
    for packed in files:
        records.append((packed, len(body)))
        body += local(packed)
    directory = b"".join(central(packed, offset) for packed, offset in records)
    end = end_part(len(records), len(directory), len(body))
    if not sign:
        return body + directory + end
    signature = Packed("AppxSignature.p7x", p7x(files, body, directory + end, **signing))
    whole = directory + central(signature, len(body))
    body += local(signature)
    return body + whole + end_part(len(records) + 1, len(whole), len(body))


def p7x(
    files: Sequence[Packed],
    body: bytes,
    tail: bytes,
    *,
    name: str = "sha256",
    digests: Mapping[bytes, bytes] | None = None,
    left_out: Sequence[bytes] = (),
    **how: Any,
) -> bytes:
    contents = {packed.name: packed.content for packed in files}
    rows = {
        b"AXPC": body,
        b"AXCD": tail,
        b"AXCT": contents["[Content_Types].xml"],
        b"AXBM": contents["AppxBlockMap.xml"],
    }
    if "AppxMetadata\\CodeIntegrity.cat" in contents:
        rows[b"AXCI"] = contents["AppxMetadata\\CodeIntegrity.cat"]
    listed = {key: hashlib.new(name, content).digest() for key, content in rows.items()} | dict(digests or {})
    digest = b"APPX" + b"".join(key + value for key, value in listed.items() if key not in left_out)
    content = authenticode.indirect(digest, name=name, kind=authenticode.SPC_SIPINFO)
    return b"PKCX" + authenticode.sign(content, name=name, **how)


def parts(
    files: Mapping[str, bytes] | None = None,
    *,
    manifest_xml: bytes | None = None,
    map_xml: bytes | None = None,
    content_types: bytes | None = CONTENT_TYPES,
    final_block: bool = True,
    code_integrity: bytes | None = None,
    **map_how: Any,
) -> list[Packed]:
    """The files of a package in their order; None leaves a part out, where it is the default."""
    payload = FILES if files is None else files
    packed = [
        Packed(name, content, stored=name.endswith(".png"), final_block=final_block)
        for name, content in payload.items()
    ]
    packed.append(
        Packed(
            "AppxManifest.xml", manifest() if manifest_xml is None else manifest_xml, final_block=final_block
        )
    )
    map_xml = block_map(packed, **map_how) if map_xml is None else map_xml
    packed.append(Packed("AppxBlockMap.xml", map_xml))
    if content_types is not None:
        packed.append(Packed("[Content_Types].xml", content_types))
    if code_integrity is not None:
        packed.append(Packed("AppxMetadata\\CodeIntegrity.cat", code_integrity))
    return packed


def package(*, sign: bool = False, signing: Mapping[str, Any] | None = None, **how: Any) -> bytes:
    return container(parts(**how), sign=sign, **(signing or {}))


@dataclass(frozen=True)
class Inner:
    """One package of a bundle; what the list says can differ from what the package is."""

    file: str
    data: bytes
    type: str = "application"
    version: str = "1.2.3.4"
    architecture: str = "x64"
    offset: int | None = None  # None: the true one
    size: int | None = None
    attributes: str = ""
    listed: bool = True
    present: bool = True
    stored: bool = True


def bundle(
    inner: Sequence[Inner],
    *,
    sign: bool = False,
    name: str = "Tiny.App",
    publisher: str = authenticode.PUBLISHER,
    version: str = "2.0.0.0",
    namespace: str = "http://schemas.microsoft.com/appx/2013/bundle",
    manifest_xml: bytes | None = None,
    map_extra: Sequence[Packed] = (),
) -> bytes:
    """A bundle of these packages."""
    files, rows, offset = [], "", 0
    for one in inner:
        packed = Packed(one.file, one.data, stored=one.stored)
        begin = offset + 30 + len(packed.part_name)
        if one.present:
            files.append(packed)
            offset += len(local(packed))
        if one.listed:
            rows += (
                f'<Package Type="{one.type}" Version="{one.version}" Architecture="{one.architecture}" '
                f'FileName={quoteattr(one.file)} Offset="{begin if one.offset is None else one.offset}" '
                f'Size="{len(one.data) if one.size is None else one.size}" {one.attributes}>'
                '<Resources><Resource Language="en-us"/></Resources></Package>'
            )
    xml = (
        manifest_xml
        or (
            f'<Bundle xmlns="{namespace}" SchemaVersion="1.0"><Identity Name="{name}" Publisher={quoteattr(publisher)} '
            f'Version="{version}"/><Packages>{rows}</Packages></Bundle>'
        ).encode()
    )
    described = Packed("AppxMetadata\\AppxBundleManifest.xml", xml)
    files += [described, Packed("AppxBlockMap.xml", block_map([described, *map_extra]))]
    files.append(Packed("[Content_Types].xml", CONTENT_TYPES))
    return container(files, sign=sign)
