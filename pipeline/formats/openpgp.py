"""OpenPGP signature packets, as far as they can be judged without a key: who claims to have signed what, and how.

`parse` reads one signature packet (RFC 4880, 5.2; RFC 9580, 5.2). `Packet.hash_of` gives the digest that the signature is over; its
first two bytes stand in the packet, so a signature whose content was changed afterwards shows even where the key is unknown.

Left to others: keys. Nothing here says that a signature is good.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pipeline.formats.facts import Malformed, Rule, Severity

if TYPE_CHECKING:
    from hashlib import _Hash

BAD_PACKET: Final = Rule(
    "openpgp.bad-packet",
    Severity.ERROR,
    "A signature is damaged: {evidence}.",
    "Sign the package again.",
    "RFC 9580, 5.2",
)
RULES: Final = (BAD_PACKET,)

PACKET_MAX_BYTES: Final = 1 << 16
_SIGNATURE_TAG: Final = 2
_PUBLIC_KEY: Final = {
    1: "RSA",
    3: "RSA",
    17: "DSA",
    19: "ECDSA",
    22: "EdDSA",
    27: "Ed25519",
    28: "Ed448",
}  # RFC 9580, 9.1
_HASH: Final = {
    1: "md5",
    2: "sha1",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3_256",
    14: "sha3_512",
}  # 9.5
_ISSUER: Final = 16  # RFC 9580, 5.2.3.12
_ISSUER_FINGERPRINT: Final = 33  # 5.2.3.35
_SALT_BYTES: Final = {8: 16, 9: 24, 10: 32, 11: 16, 12: 16, 14: 32}  # 9.5, by hash, for version 6


@dataclass(frozen=True, slots=True)
class Packet:
    """One signature. `suffix` is hashed behind the content (and `salt` before it); `left` are the first two bytes of the result."""

    version: int
    public_key: str
    hash: str | None  # a name that hashlib knows; None for others
    key_id: str | None
    salt: bytes
    suffix: bytes
    left: bytes

    def begin(self) -> "_Hash | None":
        """A hash state to feed the content to; None where the algorithm is not known here."""
        if self.hash is None:
            return None
        return hashlib.new(self.hash, self.salt, usedforsecurity=False)

    def matches(self, state: "_Hash") -> bool:
        """Whether `state`, fed with the content, can be what was signed. True proves nothing."""
        state.update(self.suffix)
        return state.digest()[:2] == self.left

    def as_dict(self) -> dict[str, object]:
        """For `details`."""
        return {
            "version": self.version,
            "algorithm": self.public_key,
            "hash": self.hash,
            "key_id": self.key_id,
        }


def parse(data: bytes) -> Packet:
    """The packet that `data` is. Raises `Malformed`."""
    if len(data) > PACKET_MAX_BYTES:
        raise Malformed(BAD_PACKET, f"it has {len(data)} bytes")
    try:
        return _packet(_body(data))
    except (IndexError, struct.error) as error:
        raise Malformed(BAD_PACKET, "it ends too early") from error


def _body(data: bytes) -> bytes:
    """RFC 9580, 4.2: either form of packet header."""
    first = data[0]
    if not first & 0x80:
        raise Malformed(BAD_PACKET, "it is no OpenPGP packet")
    if first & 0x40:
        tag = first & 0x3F
        length, start = _new_length(data, 1)
    else:
        tag = first >> 2 & 0x0F
        width = (1, 2, 4, 0)[first & 3]
        start = 1 + width
        length = int.from_bytes(data[1:start], "big") if width else len(data) - 1
    if tag != _SIGNATURE_TAG:
        raise Malformed(BAD_PACKET, f"it is a packet of type {tag}, not a signature")
    if length > len(data) - start:
        raise Malformed(BAD_PACKET, "it ends too early")
    return data[start : start + length]


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    """RFC 9580, 4.2.1: the length, and where what it measures begins."""
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    if first == 255:
        return struct.unpack_from(">I", data, at + 1)[0], at + 5
    raise Malformed(BAD_PACKET, "a signature in parts")


def _packet(body: bytes) -> Packet:
    version = body[0]
    if version == 3:
        # RFC 4880, 5.2.2: 5, type, time, key id, algorithms, two bytes of the hash
        key_id, public_key, hash_id, left = struct.unpack_from(">8sBB2s", body, 7)
        return _made(version, public_key, hash_id, key_id, b"", body[2:7], left)
    if version not in (4, 6):
        raise Malformed(BAD_PACKET, f"it has version {version}")
    wide = 4 if version == 6 else 2  # RFC 9580, 5.2.3: the counts of subpackets grew
    hashed_bytes = int.from_bytes(body[4 : 4 + wide], "big")
    hashed_end = 4 + wide + hashed_bytes
    plain_bytes = int.from_bytes(body[hashed_end : hashed_end + wide], "big")
    plain_end = hashed_end + wide + plain_bytes
    left = body[plain_end : plain_end + 2]
    if len(left) < 2:
        raise Malformed(BAD_PACKET, "it ends too early")
    salt = b""
    if version == 6:
        salt_bytes = body[plain_end + 2]
        salt = body[plain_end + 3 : plain_end + 3 + salt_bytes]
        if salt_bytes != _SALT_BYTES.get(body[3]) or len(salt) != salt_bytes:
            raise Malformed(BAD_PACKET, "its salt has a wrong length")
    key_id = _issuer(body[4 + wide : hashed_end]) or _issuer(body[hashed_end + wide : plain_end])
    suffix = body[:hashed_end] + bytes([version, 0xFF]) + struct.pack(">I", hashed_end)  # RFC 9580, 5.2.4
    return _made(version, body[2], body[3], key_id, salt, suffix, left)


def _made(
    version: int, public_key: int, hash_id: int, key_id: bytes | None, salt: bytes, suffix: bytes, left: bytes
) -> Packet:
    return Packet(
        version=version,
        public_key=_PUBLIC_KEY.get(public_key, f"algorithm {public_key}"),
        hash=_HASH.get(hash_id),
        key_id=key_id.hex() if key_id is not None else None,
        salt=salt,
        suffix=suffix,
        left=left,
    )


def _issuer(area: bytes) -> bytes | None:
    """The signer's key id among subpackets (RFC 9580, 5.2.3.7)."""
    at = 0
    while at < len(area):
        length, start = _subpacket_length(area, at)
        if not length or start + length > len(area):
            raise Malformed(BAD_PACKET, "a subpacket does not fit")
        kind, content = area[start] & 0x7F, area[start + 1 : start + length]
        if kind == _ISSUER and len(content) == 8:
            return content
        if kind == _ISSUER_FINGERPRINT and len(content) in (21, 33):
            # The key id is the end of a version 4 fingerprint and the beginning of a version 6 one (RFC 9580, 5.5.4).
            return content[-8:] if content[0] == 4 else content[1:9]
        at = start + length
    return None


def _subpacket_length(area: bytes, at: int) -> tuple[int, int]:
    """RFC 9580, 5.2.3.7: like a packet's length, but two-byte forms go up to 254 and there are no parts."""
    first = area[at]
    if first < 192:
        return first, at + 1
    if first < 255:
        return ((first - 192) << 8) + area[at + 1] + 192, at + 2
    return struct.unpack_from(">I", area, at + 1)[0], at + 5
