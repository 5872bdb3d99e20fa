"""Builds tiny APKs and signs them, with each field of a signature open to be made wrong.

Digests and blocks are computed here anew, so that the verifier is not held against itself.
"""

import base64
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa

from tests.support.build_axml import Tag, build_axml
from tests.support.build_cms import Identity, Recipe, signed_data
from tests.support.build_zip import Member, build_zip

V2, V3, V31, V32 = 0x7109871A, 0xF05368C0, 0x1B93AD61, 0x70E1C89F
PADDING_PAIR = 0x42726577
RSA_PSS_SHA256, RSA_PSS_SHA512, RSA_SHA256, RSA_SHA512 = 0x0101, 0x0102, 0x0103, 0x0104
EC_SHA256, EC_SHA512, DSA_SHA256 = 0x0201, 0x0202, 0x0301
VERITY_RSA, VERITY_EC = 0x0421, 0x0423
STRIPPING, LINEAGE, ROTATION_MIN, DEV_RELEASE = 0xBEEFF00D, 0x3BA06F8C, 0x559F8B02, 0xC2A6B3BA
SDK_MAX = 2**31 - 1


def manifest(
    *,
    package: str = "com.example.app",
    min_sdk: Any = 23,
    target_sdk: Any = 33,
    application: dict[str, Any] | None = None,
    children: Sequence[Tag] = (),
    inside: Sequence[Tag] = (),
    **attributes: Any,
) -> bytes:
    """A binary manifest. A None for `min_sdk` or `target_sdk` leaves it out."""
    sdk = {
        name: value
        for name, value in (("minSdkVersion", min_sdk), ("targetSdkVersion", target_sdk))
        if value is not None
    }
    rows = {"package": package, "versionCode": 7, "versionName": "1.2", **attributes}
    tags = ([Tag("uses-sdk", sdk)] if sdk else []) + list(children)
    tags.append(Tag("application", {"label": "Example", **(application or {})}, inside))
    return build_axml(Tag("manifest", rows, tags))


def app(**options: Any) -> tuple[Member, ...]:
    """The members of a tiny app."""
    return (
        Member("AndroidManifest.xml", manifest(**options), deflate=True),
        Member("classes.dex", b"dex\n035\0" + bytes(64)),
        Member("res/a.txt", b"hello " * 50, deflate=True),
    )


# JAR signature


@dataclass(frozen=True)
class Jar:
    """How to make META-INF."""

    signer: Identity
    name: str = "CERT"
    digest: str = "sha256"
    sf_attributes: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    claim: dict[str, bytes] = field(default_factory=dict)
    whole_digest: bool = True
    manifest_edit: Callable[[bytes], bytes] | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    suffix: str = ".RSA"


def jar_members(members: Sequence[Member], *jars: Jar) -> tuple[Member, ...]:
    """MANIFEST.MF, and a .SF file and a block for each of `jars`."""
    first = jars[0]
    text = b"Manifest-Version: 1.0\r\n\r\n"
    parts: dict[str, bytes] = {}
    for member in members:
        name = str(member.name)
        if name.endswith("/") or name in first.leave_out:
            continue
        value = hashlib.new(first.digest, first.claim.get(name, member.content)).digest()
        parts[name] = _wrapped(f"Name: {name}") + _wrapped(_digest(first.digest, value)) + b"\r\n"
        text += parts[name]
    if first.manifest_edit is not None:
        text = first.manifest_edit(text)
    result = [Member("META-INF/MANIFEST.MF", text)]
    for jar in jars:
        signature = b"Signature-Version: 1.0\r\n"
        signature += b"".join(_wrapped(row) for row in jar.sf_attributes)
        if jar.whole_digest:
            whole = _digest(jar.digest, hashlib.new(jar.digest, text).digest(), "-Digest-Manifest")
            signature += _wrapped(whole)
        signature += b"\r\n"
        for name, part in parts.items():
            value = hashlib.new(jar.digest, part).digest()
            signature += _wrapped(f"Name: {name}") + _wrapped(_digest(jar.digest, value)) + b"\r\n"
        options = {"signed_attributes": False, "attached": False, "digest": jar.digest, **jar.recipe}
        block = signed_data(Recipe(jar.signer, signature, **options))
        result += [
            Member(f"META-INF/{jar.name}.SF", signature),
            Member(f"META-INF/{jar.name}{jar.suffix}", block),
        ]
    return tuple(result)


def _digest(algorithm: str, value: bytes, suffix: str = "-Digest") -> str:
    name = {"sha1": "SHA1", "sha256": "SHA-256", "sha512": "SHA-512"}[algorithm]
    return f"{name}{suffix}: {base64.b64encode(value).decode()}"


def _wrapped(line: str) -> bytes:
    data = line.encode()
    rows = [data[:70]]
    rest = data[70:]
    while rest:
        rows.append(b" " + rest[:69])
        rest = rest[69:]
    return b"".join(row + b"\r\n" for row in rows)


# Schemes v2, v3 and v3.1


@dataclass(frozen=True)
class Signer:
    """One signer of a scheme. What is None is made right."""

    identity: Identity
    algorithms: tuple[int, ...] = ()
    attributes: tuple[tuple[int, bytes], ...] = ()
    min_sdk: int = 28
    max_sdk: int = SDK_MAX
    signed_range: tuple[int, int] | None = None
    digest_algorithms: tuple[int, ...] | None = None
    certificates: tuple[bytes, ...] | None = None
    public_key: bytes | None = None
    flip_signature: bool = False
    flip_digest: bool = False
    extra_signatures: tuple[tuple[int, bytes], ...] = ()


def u32(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)


def prefixed(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return u32(len(body)) + body


def default_algorithm(identity: Identity) -> int:
    match identity.key:
        case rsa.RSAPrivateKey():
            return RSA_SHA256
        case ec.EllipticCurvePrivateKey():
            return EC_SHA256
        case dsa.DSAPrivateKey():
            return DSA_SHA256
    raise TypeError(type(identity.key))


def sign_with(algorithm: int, key: Any, data: bytes) -> bytes:
    digest = hashes.SHA512() if algorithm in (0x0102, 0x0104, 0x0202) else hashes.SHA256()
    if algorithm in (RSA_PSS_SHA256, RSA_PSS_SHA512):
        return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), digest)
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(digest))
        case dsa.DSAPrivateKey():
            return key.sign(data, digest)
    raise TypeError(type(key))


def spki(identity: Identity) -> bytes:
    return identity.certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def content_digest(algorithm: int, sections: Sequence[bytes]) -> bytes:
    if algorithm in (VERITY_RSA, VERITY_EC, 0x0425):
        return verity_digest(b"".join(sections))
    name = "sha512" if algorithm in (0x0102, 0x0104, 0x0202) else "sha256"
    chunks = [part[at : at + 2**20] for part in sections for at in range(0, len(part), 2**20)]
    rows = b"".join(hashlib.new(name, b"\xa5" + u32(len(one)) + one).digest() for one in chunks)
    return hashlib.new(name, b"\x5a" + u32(len(chunks)) + rows).digest()


def verity_digest(data: bytes) -> bytes:
    def level(rows: bytes) -> bytes:
        pages = [rows[at : at + 4096].ljust(4096, b"\0") for at in range(0, len(rows), 4096)]
        return b"".join(hashlib.sha256(bytes(8) + page).digest() for page in pages)

    rows = level(data)
    while len(rows) > 4096:
        rows = level(rows)
    return level(rows) + struct.pack("<Q", len(data))


def signer_block(signer: Signer, sections: Sequence[bytes], *, ranged: bool) -> bytes:
    algorithms = signer.algorithms or (default_algorithm(signer.identity),)
    digests = []
    for one in algorithms if signer.digest_algorithms is None else signer.digest_algorithms:
        digest = content_digest(one, sections)
        if signer.flip_digest:
            digest = bytes([digest[0] ^ 0x80]) + digest[1:]
        digests.append(prefixed(u32(one), prefixed(digest)))
    certificates = (signer.identity.der,) if signer.certificates is None else signer.certificates
    attributes = [prefixed(u32(kind), value) for kind, value in signer.attributes]
    limits = u32(signer.min_sdk) + u32(signer.max_sdk) if ranged else b""
    told = limits
    if ranged and signer.signed_range is not None:
        told = u32(signer.signed_range[0]) + u32(signer.signed_range[1])
    signed = prefixed(*digests) + prefixed(*map(prefixed, certificates)) + told + prefixed(*attributes)
    signatures = []
    for one in algorithms:
        signature = sign_with(one, signer.identity.key, signed)
        if signer.flip_signature:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        signatures.append(prefixed(u32(one), prefixed(signature)))
    signatures += [prefixed(u32(kind), prefixed(value)) for kind, value in signer.extra_signatures]
    key = spki(signer.identity) if signer.public_key is None else signer.public_key
    return prefixed(prefixed(signed), limits, prefixed(*signatures), prefixed(key))


def lineage(*identities: Identity, flags: Sequence[int] = (), flip: int | None = None) -> bytes:
    """The value of the proof-of-rotation attribute, oldest key first."""
    nodes = b""
    parent: Identity | None = None
    parent_algorithm = 0
    for number, identity in enumerate(identities):
        signed = prefixed(identity.der) + u32(parent_algorithm)
        signature = b"" if parent is None else sign_with(parent_algorithm, parent.key, signed)
        if flip == number:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        own = default_algorithm(identity)
        nodes += prefixed(
            prefixed(signed), u32(flags[number] if flags else 23), u32(own), prefixed(signature)
        )
        parent, parent_algorithm = identity, own
    return u32(1) + nodes


@dataclass(frozen=True)
class Pairs:
    """What goes into the signing block: signers by scheme, and raw pairs before them."""

    v2: tuple[Signer, ...] = ()
    v3: tuple[Signer, ...] = ()
    v31: tuple[Signer, ...] = ()
    raw: tuple[tuple[int, bytes], ...] = ()
    aligned: bool = False


def build_apk(
    members: Sequence[Member], pairs: Pairs | None = None, *, jars: Sequence[Jar] = (), **options: Any
) -> bytes:
    """A ZIP of the members, JAR-signed by `jars`, then with a signing block of `pairs`."""
    if jars:
        members = (*members, *jar_members(members, *jars))
    if pairs is None:
        return build_zip(*members, **options)
    data = build_zip(*members, **options)
    if pairs.aligned:
        at = _directory_offset(data)
        data = build_zip(*members, before_directory=bytes(-at % 4096), **options)
    at = _directory_offset(data)
    end = data.rindex(b"PK\5\6")
    sections = data[:at], data[at:end], data[end:]
    rows = list(pairs.raw)
    for kind, signers in ((V2, pairs.v2), (V3, pairs.v3), (V31, pairs.v31)):
        if signers:
            blocks = [signer_block(one, sections, ranged=kind != V2) for one in signers]
            rows.append((kind, prefixed(*blocks)))
    block = signing_block(rows, aligned=pairs.aligned)
    moved = data[end : end + 16] + u32(at + len(block)) + data[end + 20 :]
    return data[:at] + block + data[at:end] + moved


def signing_block(rows: Sequence[tuple[int, bytes]], *, aligned: bool = False) -> bytes:
    body = b"".join(struct.pack("<QI", len(value) + 4, kind) + value for kind, value in rows)
    if aligned:
        room = -(len(body) + 12 + 32) % 4096
        body += struct.pack("<QI", room + 4, PADDING_PAIR) + bytes(room)
    size = struct.pack("<Q", len(body) + 24)
    return size + body + size + b"APK Sig Block 42"


def _directory_offset(data: bytes) -> int:
    end = data.rindex(b"PK\5\6")
    return int(struct.unpack_from("<I", data, end + 16)[0])


__all__ = [
    "Jar",
    "Member",
    "Pairs",
    "Signer",
    "app",
    "build_apk",
    "jar_members",
    "lineage",
    "manifest",
    "replace",
]
