"""The signature algorithms of APK Signature Scheme v2 and v3: their ids, which one a device checks, and the check itself.

Each Android version checks one signature: the strongest that it knows. Over a range of versions that may be several, and
every one of them has to verify. (source.android.com, APK Signature Scheme v2, Signature algorithm IDs; AOSP apksig,
`getSignaturesToVerify`.)
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.utils import CryptographyDeprecationWarning

from pipeline.formats import der
from pipeline.formats.certificate import RSA_MAX_BITS
from pipeline.formats.facts import Malformed


class ContentDigest(StrEnum):
    """How the content was digested; ordered from weak to strong by `_STRENGTH`."""

    CHUNKED_SHA256 = "chunked SHA-256"
    VERITY_SHA256 = "verity SHA-256"
    CHUNKED_SHA512 = "chunked SHA-512"


_STRENGTH: Final = {
    ContentDigest.CHUNKED_SHA256: 0,
    ContentDigest.VERITY_SHA256: 1,
    ContentDigest.CHUNKED_SHA512: 2,
}

ANDROID_7: Final = 24
ANDROID_9: Final = 28


@dataclass(frozen=True, slots=True)
class SignatureAlgorithm:
    """One row of the table of ids."""

    id: int
    name: str
    family: str
    digest_bits: int
    content: ContentDigest
    min_sdk: int = ANDROID_7


ALGORITHMS: Final = {
    row.id: row
    for row in (
        SignatureAlgorithm(0x0101, "RSA-PSS with SHA-256", "rsa-pss", 256, ContentDigest.CHUNKED_SHA256),
        SignatureAlgorithm(0x0102, "RSA-PSS with SHA-512", "rsa-pss", 512, ContentDigest.CHUNKED_SHA512),
        SignatureAlgorithm(0x0103, "RSA with SHA-256", "rsa", 256, ContentDigest.CHUNKED_SHA256),
        SignatureAlgorithm(0x0104, "RSA with SHA-512", "rsa", 512, ContentDigest.CHUNKED_SHA512),
        SignatureAlgorithm(0x0201, "ECDSA with SHA-256", "ec", 256, ContentDigest.CHUNKED_SHA256),
        SignatureAlgorithm(0x0202, "ECDSA with SHA-512", "ec", 512, ContentDigest.CHUNKED_SHA512),
        SignatureAlgorithm(0x0301, "DSA with SHA-256", "dsa", 256, ContentDigest.CHUNKED_SHA256),
        SignatureAlgorithm(0x0421, "RSA with SHA-256, verity", "rsa", 256, ContentDigest.VERITY_SHA256, ANDROID_9),
        SignatureAlgorithm(0x0423, "ECDSA with SHA-256, verity", "ec", 256, ContentDigest.VERITY_SHA256, ANDROID_9),
        SignatureAlgorithm(0x0425, "DSA with SHA-256, verity", "dsa", 256, ContentDigest.VERITY_SHA256, ANDROID_9),
    )
}  # fmt: skip

_HASHES: Final[dict[int, type[hashes.SHA256] | type[hashes.SHA512]]] = {
    256: hashes.SHA256,
    512: hashes.SHA512,
}
_RSA_OID: Final = "1.2.840.113549.1.1.1"


def to_verify(
    signatures: Sequence[tuple[SignatureAlgorithm, bytes]], min_sdk: int, max_sdk: int
) -> list[tuple[SignatureAlgorithm, bytes]]:
    """Those signatures that some version in the range checks; empty when the oldest version knows none of them."""
    best: dict[int, tuple[SignatureAlgorithm, bytes]] = {}
    for row in signatures:
        since = row[0].min_sdk
        if since > max_sdk:
            continue
        if since not in best or _STRENGTH[row[0].content] > _STRENGTH[best[since][0].content]:
            best[since] = row
    if not best or min_sdk < min(best):
        return []
    return sorted(best.values(), key=lambda row: row[0].id)


def verify(public_key: bytes, algorithm: SignatureAlgorithm, signature: bytes, data: bytes) -> str | None:
    """None when the signature over `data` verifies with the SubjectPublicKeyInfo `public_key`; else the reason."""
    try:
        key = _load(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the public key cannot be used: {error}"
    digest = _HASHES[algorithm.digest_bits]()
    try:
        match algorithm.family, key:
            case "rsa", rsa.RSAPublicKey() if key.key_size <= RSA_MAX_BITS:
                key.verify(signature, data, padding.PKCS1v15(), digest)
            case "rsa-pss", rsa.RSAPublicKey() if key.key_size <= RSA_MAX_BITS:
                key.verify(signature, data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
            case "ec", ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(digest))
            case "dsa", dsa.DSAPublicKey():
                key.verify(signature, data, digest)
            case _:
                return "the key is not one for this algorithm"
    except InvalidSignature:
        return "it does not verify"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"it cannot be checked: {error}"
    return None


def normal_key(public_key: bytes) -> bytes:
    """The SubjectPublicKeyInfo as Android writes it: an RSA modulus that was encoded as negative is positive.

    Some old tools left out the zero byte before a modulus whose first bit is set. Android reads it as meant and encodes it
    anew, so that certificate and signature block may differ in that byte. Anything else comes back as it is.
    """
    try:
        algorithm, bits = der.single(public_key).expect(der.SEQUENCE).children()
        if der.oid(algorithm.expect(der.SEQUENCE).children()[0]) != _RSA_OID:
            return public_key
        modulus, exponent = der.single(der.bits(bits)).expect(der.SEQUENCE).children()
        value = int.from_bytes(modulus.expect(der.INTEGER).content, "big")
        if der.integer(modulus) >= 0 or value.bit_length() > RSA_MAX_BITS:
            return public_key
        numbers = rsa.RSAPublicNumbers(der.integer(exponent), value)
        return numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (Malformed, ValueError, IndexError):
        return public_key


@lru_cache(maxsize=64)
def _load(public_key: bytes) -> object:
    with warnings.catch_warnings():  # small keys and old curves are deprecated, and on devices all the same
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return load_der_public_key(public_key)
