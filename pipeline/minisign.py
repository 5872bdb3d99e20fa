"""minisign: keys, signature files, signing and verification, as pure functions over bytes. The one implementation of this house.

    key = generate(entropy)                     entropy(n) gives n random bytes; nothing here makes its own
    text = emit_secret_key(key, password=b"…", salt=entropy(32))
    signed = sign(key, pieces, trusted_comment="…")
    flaw = verify(key.public, parse_signature(signed), pieces)     None, or what is wrong

Formats (jedisct1.github.io/minisign: "Signature format", "Public key format", "Secret key format"), all numbers little-endian:

    public key   "Ed" key_id[8] key[32]
    signature    "ED" | "Ed"  key_id[8] signature[64], then a trusted comment, then a signature over signature and comment
    secret key   "Ed" "Sc" | 0 0  "B2"  salt[32] opslimit u64 memlimit u64  (key_id[8] seed[32] key[32] checksum[32]) xor stream

`ED` signs the BLAKE2b-512 digest of the message, `Ed` the message itself; both are verified, only `ED` is made. The checksum is
BLAKE2b-256 over "Ed", key_id, seed and key. The stream is scrypt(password, salt), with cost numbers from the two limits (see `_cost`).

Left to others: files and their modes, passwords, which keys are trusted, and what a flaw is called where it is reported.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Entropy = Callable[[int], bytes]

PREHASHED: Final = b"ED"
WHOLE: Final = b"Ed"
FILE_MAX_BYTES: Final = 16 << 10  # minisign takes 1024 for the untrusted, 8192 for the trusted comment
WHOLE_MESSAGE_MAX_BYTES: Final = 256 << 20  # an `Ed` signature needs all of the message in memory
UNTRUSTED: Final = "untrusted comment:"
TRUSTED: Final = "trusted comment: "

# libsodium's OPSLIMIT_SENSITIVE and MEMLIMIT_SENSITIVE, which minisign writes: N = 2**20, r = 8, p = 1; 1 GiB and some seconds.
OPSLIMIT: Final = 1 << 25
MEMLIMIT_BYTES: Final = 1 << 30
SALT_BYTES: Final = 32
_OPSLIMIT_MIN: Final = 1 << 15  # libsodium raises less to this
_COST_MAX: Final = 1 << 25  # N * r * p: four times what minisign asks for
_DERIVED: Final = b"Sc"
_NOT_DERIVED: Final = b"\0\0"
_CHECKSUM: Final = b"B2"
_KEY_ID_BYTES: Final = 8
_SEED_BYTES: Final = 32
_SECRET_BYTES: Final = 2 + 2 + 2 + SALT_BYTES + 8 + 8 + 8 + 64 + 32


class NotMinisign(Exception):
    """The text is no key or signature; the message says what it lacks."""


class WrongPassword(Exception):
    """The secret key does not open with this password, or is damaged: the format cannot tell the two apart."""


class MessageTooLarge(Exception):
    """An `Ed` signature over more than `WHOLE_MESSAGE_MAX_BYTES`."""


class Flaw(StrEnum):
    """Why a signature does not hold."""

    WRONG_KEY = "made with another key"
    BAD_SIGNATURE = "not a signature over these bytes"
    BAD_COMMENT = "the trusted comment was changed"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 key and its identifier."""

    key_id: bytes
    key: bytes

    @property
    def line(self) -> str:
        """The key as people paste it: the second line of its file."""
        return _encoded(WHOLE + self.key_id + self.key)


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key that signs."""

    key_id: bytes
    seed: bytes = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The key that others verify with."""
        return PublicKey(self.key_id, self._private.public_key().public_bytes_raw())

    @property
    def _private(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seed)


@dataclass(frozen=True, slots=True)
class MinisignSignature:
    """The parts of a signature file, as bytes; `trusted_comment` is what the second signature covers."""

    algorithm: bytes
    key_id: bytes
    signature: bytes
    trusted_comment: bytes
    comment_signature: bytes
    untrusted_comment: str


def generate(entropy: Entropy) -> SecretKey:
    """A new key from 40 random bytes."""
    return SecretKey(_drawn(entropy, _KEY_ID_BYTES), _drawn(entropy, _SEED_BYTES))


def shown_key_id(key_id: bytes) -> str:
    """As minisign prints it: the bytes are a little-endian number."""
    return key_id[::-1].hex().upper()


# -- signing and verifying ----------------------------------------------------------------------


def sign(
    key: SecretKey,
    message: Iterable[bytes],
    *,
    trusted_comment: str,
    untrusted_comment: str = "signature from minisign secret key",
) -> bytes:
    """A signature file over the pieces of a message. Ed25519 needs no randomness: the same input gives the same bytes.

    Both comments are one printable line; a tab is allowed, since minisign's own comments have one.
    """
    for comment in (trusted_comment, untrusted_comment):
        if not comment.replace("\t", " ").isprintable():
            raise RuntimeError("a comment is one printable line")
    return sign_digest(
        key, prehash(message), trusted_comment=trusted_comment, untrusted_comment=untrusted_comment
    )


def prehash(message: Iterable[bytes]) -> bytes:
    """What an `ED` signature signs in place of a message: its BLAKE2b-512."""
    return _digest(message)


def sign_digest(key: SecretKey, digest: bytes, *, trusted_comment: str, untrusted_comment: str) -> bytes:
    """As `sign`, of a message whose `prehash` is known."""
    private = key._private  # noqa: SLF001 - of this module
    signature = private.sign(digest)
    over_both = private.sign(signature + trusted_comment.encode())
    lines = [
        f"{UNTRUSTED} {untrusted_comment}",
        _encoded(PREHASHED + key.key_id + signature),
        TRUSTED + trusted_comment,
        _encoded(over_both),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def verify(key: PublicKey, signature: MinisignSignature, message: Iterable[bytes]) -> Flaw | None:
    """None when `signature` by `key` holds for the message and for its trusted comment. Raises `MessageTooLarge`."""
    if signature.key_id != key.key_id:
        return Flaw.WRONG_KEY
    signed = _digest(message) if signature.algorithm == PREHASHED else _whole(message)
    if not _holds(key.key, signature.signature, signed):
        return Flaw.BAD_SIGNATURE
    if not _holds(key.key, signature.comment_signature, signature.signature + signature.trusted_comment):
        return Flaw.BAD_COMMENT
    return None


def _holds(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _digest(message: Iterable[bytes]) -> bytes:
    state = hashlib.blake2b(digest_size=64)
    for piece in message:
        state.update(piece)
    return state.digest()


def _whole(message: Iterable[bytes]) -> bytes:
    held = bytearray()
    for piece in message:
        held += piece
        if len(held) > WHOLE_MESSAGE_MAX_BYTES:
            raise MessageTooLarge(f"more than {WHOLE_MESSAGE_MAX_BYTES >> 20} MiB")
    return bytes(held)


# -- public keys and signatures as text ---------------------------------------------------------


def emit_public_key(key: PublicKey) -> bytes:
    """The file that minisign -G writes."""
    return f"{UNTRUSTED} minisign public key {shown_key_id(key.key_id)}\n{key.line}\n".encode()


def parse_public_key(data: bytes) -> PublicKey:
    """A key file, or its second line alone. Raises `NotMinisign`."""
    lines = text_lines(data)
    if not 1 <= len(lines) <= 2 or (len(lines) == 2 and not lines[0].startswith(UNTRUSTED)):
        raise NotMinisign("a key has a comment and one line")
    raw = _decoded(lines[-1], 42, "the key")
    if raw[:2] != WHOLE:
        raise NotMinisign(f"the key is of the unknown kind {raw[:2]!r}")
    return PublicKey(raw[2:10], raw[10:])


def parse_signature(data: bytes) -> MinisignSignature:
    """A signature file. Raises `NotMinisign`."""
    lines = text_lines(data)
    if len(lines) != 4 or not lines[0].startswith(UNTRUSTED) or not lines[2].startswith(TRUSTED):
        raise NotMinisign("a signature has four lines: two comments, each with a signature behind it")
    raw = _decoded(lines[1], 74, "the signature")
    if raw[:2] not in (WHOLE, PREHASHED):
        raise NotMinisign(f"the signature is of the unknown kind {raw[:2]!r}")
    return MinisignSignature(
        algorithm=raw[:2],
        key_id=raw[2:10],
        signature=raw[10:],
        trusted_comment=lines[2].removeprefix(TRUSTED).encode("utf-8", "surrogateescape"),
        comment_signature=_decoded(lines[3], 64, "the signature of the comment"),
        untrusted_comment=lines[0].removeprefix(UNTRUSTED).strip(),
    )


# -- secret keys as text ------------------------------------------------------------------------


def emit_secret_key(
    key: SecretKey,
    *,
    password: bytes = b"",
    salt: bytes = b"",
    opslimit: int | None = None,
    memlimit_bytes: int | None = None,
) -> bytes:
    """The file of a secret key, encrypted when there is a password; `salt` then has to be 32 random bytes.

    The limits are minisign's own unless told.
    """
    opslimit = OPSLIMIT if opslimit is None else opslimit
    memlimit_bytes = MEMLIMIT_BYTES if memlimit_bytes is None else memlimit_bytes
    pair = key.seed + key.public.key
    body = key.key_id + pair + _key_checksum(key.key_id, pair)
    if password:
        if len(salt) != SALT_BYTES:
            raise RuntimeError(f"a salt has {SALT_BYTES} bytes")
        head = WHOLE + _DERIVED + _CHECKSUM + salt + _limits(opslimit, memlimit_bytes)
        body = _xor(body, _stream(password, salt, opslimit, memlimit_bytes, len(body)))
        about = "minisign encrypted secret key"
    else:
        head = WHOLE + _NOT_DERIVED + _CHECKSUM + bytes(SALT_BYTES) + _limits(0, 0)
        about = "minisign secret key, not encrypted"
    return f"{UNTRUSTED} {about}\n{_encoded(head + body)}\n".encode()


def is_encrypted(data: bytes) -> bool:
    """Whether this secret key needs a password. Raises `NotMinisign`."""
    return _secret(data)[2:4] == _DERIVED


def parse_secret_key(data: bytes, *, password: bytes = b"") -> SecretKey:
    """Raises `NotMinisign`; `WrongPassword` when its checksum does not hold."""
    raw = _secret(data)
    salt, body = raw[6:38], raw[54:]
    if raw[2:4] == _DERIVED:
        opslimit, memlimit_bytes = int.from_bytes(raw[38:46], "little"), int.from_bytes(raw[46:54], "little")
        body = _xor(body, _stream(password, salt, opslimit, memlimit_bytes, len(body)))
    key_id, pair, checksum = body[:8], body[8:72], body[72:]
    unchecked = raw[2:4] == _NOT_DERIVED and not any(checksum)  # minisign -W leaves it out
    if not unchecked and not hmac.compare_digest(_key_checksum(key_id, pair), checksum):
        raise WrongPassword("the password is wrong, or the key is damaged")
    key = SecretKey(key_id, pair[:_SEED_BYTES])
    if key.public.key != pair[_SEED_BYTES:]:
        raise NotMinisign("the two halves of the secret key do not belong together")
    return key


def _secret(data: bytes) -> bytes:
    lines = text_lines(data)
    if len(lines) != 2 or not lines[0].startswith(UNTRUSTED):
        raise NotMinisign("a secret key has a comment and one line")
    raw = _decoded(lines[1], _SECRET_BYTES, "the secret key")
    if raw[:2] != WHOLE or raw[2:4] not in (_DERIVED, _NOT_DERIVED) or raw[4:6] != _CHECKSUM:
        raise NotMinisign(f"the secret key is of the unknown kind {raw[:6]!r}")
    return raw


def _key_checksum(key_id: bytes, pair: bytes) -> bytes:
    return hashlib.blake2b(WHOLE + key_id + pair, digest_size=32).digest()


def _limits(opslimit: int, memlimit_bytes: int) -> bytes:
    return opslimit.to_bytes(8, "little") + memlimit_bytes.to_bytes(8, "little")


def _stream(password: bytes, salt: bytes, opslimit: int, memlimit_bytes: int, length: int) -> bytes:
    n, r, p = _cost(opslimit, memlimit_bytes)
    if n * r * p > _COST_MAX:
        raise NotMinisign(
            f"deriving the key would take N={n}, r={r}, p={p}, which is more than is spent here"
        )
    needed = 128 * r * (n + p + 2)  # RFC 7914, section 2, and what OpenSSL holds beside it
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=needed + (1 << 20), dklen=length)


def _cost(opslimit: int, memlimit_bytes: int) -> tuple[int, int, int]:
    """N, r and p of scrypt from the two limits of libsodium: r is 8, and N the largest power of two that fits both.

    When operations are the scarce thing, memory follows them and p is 1; else N fills the memory and p takes the operations left.
    """
    r = 8
    operations = max(opslimit, _OPSLIMIT_MIN)
    if operations < memlimit_bytes // 32:
        return _power_of_two_within(operations // (4 * r)), r, 1
    n = _power_of_two_within(memlimit_bytes // (128 * r))
    return n, r, max(1, min(operations // 4 // n, (1 << 30) - 1) // r)


def _power_of_two_within(bound: int) -> int:
    """The largest power of two that is at most `bound`, and at least 2, as scrypt needs it."""
    return 1 << max(1, bound.bit_length() - 1)


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


# -- lines and base 64 --------------------------------------------------------------------------


def text_lines(data: bytes) -> list[str]:
    """Without line ends, of either kind, and without empty lines at the end."""
    lines = [line.removesuffix("\r") for line in data.decode("utf-8", "surrogateescape").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _decoded(text: str, length: int, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotMinisign(f"{what} is not base 64") from error
    if len(raw) != length:
        raise NotMinisign(f"{what} has {len(raw)} bytes instead of {length}")
    return raw


def _drawn(entropy: Entropy, length: int) -> bytes:
    drawn = entropy(length)
    if len(drawn) != length:
        raise RuntimeError(f"entropy gave {len(drawn)} bytes instead of {length}")
    return drawn
