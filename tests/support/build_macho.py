"""Makes small Mach-O files and signs them, with each field open to be made wrong.

The writer is its own: nothing of the reader's is used, so that the reader is not held against itself.
"""

import hashlib
import plistlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.support.build_cms import (
    DIGESTS,
    Identity,
    Recipe,
    attribute,
    octet_string,
    oid,
    sequence,
    signed_data,
)

CPUS = {"x86_64": (0x01000007, 3), "arm64": (0x0100000C, 0), "arm64e": (0x0100000C, 2), "armv7": (12, 9)}
SIGNATURE_BYTES = 24 << 10
ADHOC, RUNTIME, LINKER_SIGNED = 0x2, 0x10000, 0x20000
INFO, REQUIREMENTS, RESOURCES, ENTITLEMENTS, DISK_IMAGE = 1, 2, 3, 5, 6
CDHASHES, CDHASHES_2 = "1.2.840.113635.100.9.1", "1.2.840.113635.100.9.2"
EMPTY_REQUIREMENTS = struct.pack(">III", 0xFADE0C01, 12, 0)


def load_command(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 8)
    return struct.pack("<II", kind, 8 + len(body)) + body


def thin(
    code: bytes = b"\x90" * 9000,
    *,
    arch: str = "arm64",
    min_os: tuple[int, int] = (13, 1),
    platform: int = 1,
    filetype: int = 2,
    signature_bytes: int | None = SIGNATURE_BYTES,
    commands: tuple[bytes, ...] = (),
) -> bytes:
    """A 64-bit executable whose code signature is still zeros; unsigned without `signature_bytes`."""
    cpu, subtype = CPUS[arch]
    packed_os = min_os[0] << 16 | min_os[1] << 8
    parts = [load_command(0x32, struct.pack("<4I", platform, packed_os, 0, 0)), *commands]
    if signature_bytes is not None:
        parts.append(load_command(0x1D, bytes(8)))
    size = 32 + sum(map(len, parts))
    end = size + len(code)
    end += -end % 16
    if signature_bytes is not None:
        parts[-1] = load_command(0x1D, struct.pack("<II", end, signature_bytes))
    header = struct.pack("<8I", 0xFEEDFACF, cpu, subtype, filetype, len(parts), size - 32, 0, 0)
    return (header + b"".join(parts) + code).ljust(end, b"\0") + bytes(signature_bytes or 0)


def fat(*slices: bytes, archs: tuple[str, ...], align: int = 4096) -> bytes:
    offset = align
    table = b""
    body = b""
    for data, arch in zip(slices, archs, strict=True):
        table += struct.pack(">5I", *CPUS[arch], offset, len(data), 12)
        padded = data.ljust(-(-len(data) // align) * align, b"\0")
        body += padded
        offset += len(padded)
    return (struct.pack(">II", 0xCAFEBABE, len(slices)) + table).ljust(align, b"\0") + body


@dataclass(frozen=True)
class Signing:
    """How to sign. The defaults make a right signature by `signer`, or an ad hoc one without."""

    signer: Identity | None = None
    authorities: tuple[Identity, ...] = ()
    identifier: str = "com.example.app"
    team: str | None = None
    flags: int = 0
    hashes: tuple[str, ...] = ("sha256",)
    info: bytes | None = None
    resources: bytes | None = None
    entitlements: dict[str, object] | None = None
    requirements: bytes | None = EMPTY_REQUIREMENTS
    disk_image: bytes | None = None
    page_shift: int = 12
    short_by: int = 0  # bytes at the end of the code that are left out of the hashes
    attributes: bool = True  # the cdhashes of all directories
    ticket: bytes | None = None
    extra: Mapping[int, bytes] = field(default_factory=dict)


def blob(magic: int, payload: bytes) -> bytes:
    return struct.pack(">II", magic, 8 + len(payload)) + payload


def super_blob(blobs: Mapping[int, bytes]) -> bytes:
    index, body = b"", b""
    start = 12 + 8 * len(blobs)
    for slot, data in sorted(blobs.items()):
        index += struct.pack(">II", slot, start + len(body))
        body += data
    return struct.pack(">III", 0xFADE0CC0, start + len(body), len(blobs)) + index + body


def code_directory(code: bytes, signing: Signing, digest: str, specials: Mapping[int, bytes]) -> bytes:
    number = {"sha1": 1, "sha256": 2, "sha384": 4}[digest]
    code = code[: len(code) - signing.short_by]
    page = 1 << signing.page_shift if signing.page_shift else max(1, len(code))
    size = hashlib.new(digest).digest_size
    count = max(specials, default=0)
    slots = [
        hashlib.new(digest, specials[slot]).digest() if slot in specials else bytes(size)
        for slot in range(count, 0, -1)
    ]
    slots += [hashlib.new(digest, code[at : at + page]).digest() for at in range(0, len(code), page)]
    names = signing.identifier.encode() + b"\0"
    team_at = 0
    if signing.team is not None:
        team_at = 88 + len(names)
        names += signing.team.encode() + b"\0"
    hashes_at = 88 + len(names) + count * size
    body = names + b"".join(slots)
    flags = signing.flags | (0 if signing.signer else ADHOC)
    header = struct.pack(
        ">9I4BI", 0xFADE0C02, 88 + len(body), 0x20400, flags, hashes_at, 88, count, len(slots) - count,
        len(code), size, number, 0, signing.page_shift, 0,
    )  # fmt: skip
    return header + struct.pack(">IIIQQQQ", 0, team_at, 0, 0, 0, 0, 0) + body


def signature(code: bytes, signing: Signing) -> bytes:
    """The SuperBlob over `code`."""
    blobs: dict[int, bytes] = dict(signing.extra)
    specials: dict[int, bytes] = {}
    if signing.requirements is not None:
        blobs[REQUIREMENTS] = specials[REQUIREMENTS] = signing.requirements
    if signing.entitlements is not None:
        text = plistlib.dumps(signing.entitlements)
        blobs[ENTITLEMENTS] = specials[ENTITLEMENTS] = blob(0xFADE7171, text)
    outside = {INFO: signing.info, RESOURCES: signing.resources, DISK_IMAGE: signing.disk_image}
    specials |= {slot: data for slot, data in outside.items() if data is not None}
    directories = [code_directory(code, signing, digest, specials) for digest in signing.hashes]
    for number, directory in enumerate(directories):
        blobs[0 if number == 0 else 0x1000 + number - 1] = directory
    blobs[0x10000] = blob(0xFADE0B01, b"" if signing.signer is None else cms_over(directories, signing))
    if signing.ticket is not None:
        blobs[0x10002] = blob(0xFADE0B01, signing.ticket)
    return super_blob(blobs)


def cms_over(directories: list[bytes], signing: Signing) -> bytes:
    assert signing.signer is not None
    digests = [
        hashlib.new(name, data).digest() for name, data in zip(signing.hashes, directories, strict=True)
    ]
    extra: tuple[bytes, ...] = ()
    if signing.attributes:
        listed = plistlib.dumps({"cdhashes": [digest[:20] for digest in digests]})
        extra = (
            attribute(CDHASHES, octet_string(listed)),
            attribute(
                CDHASHES_2,
                *(
                    sequence(oid(DIGESTS[name]), octet_string(digest))
                    for name, digest in zip(signing.hashes, digests, strict=True)
                ),
            ),
        )
    return signed_data(
        Recipe(
            signing.signer,
            directories[0],
            attached=False,
            certificates=signing.authorities,
            extra_attributes=extra,
        )
    )


def sign(executable: bytes, signing: Signing) -> bytes:
    """Put the signature where `thin` left room for it."""
    end = len(executable) - SIGNATURE_BYTES
    made = signature(executable[:end], signing)
    assert len(made) <= SIGNATURE_BYTES
    return executable[:end] + made.ljust(SIGNATURE_BYTES, b"\0")


def signed(code: bytes = b"\x90" * 9000, *, arch: str = "arm64", signing: Signing | None = None) -> bytes:
    return sign(thin(code, arch=arch), signing or Signing())


def cdhash(executable: bytes) -> bytes:
    """The cdhash (SHA-256) of a file that `sign` made, found by the magic of its CodeDirectory."""
    start = executable.index(struct.pack(">I", 0xFADE0C02), len(executable) - SIGNATURE_BYTES)
    length = int.from_bytes(executable[start + 4 : start + 8], "big")
    return hashlib.sha256(executable[start : start + length]).digest()[:20]


__all__ = ["Signing", "cdhash", "fat", "replace", "sign", "signature", "signed", "super_blob", "thin"]
