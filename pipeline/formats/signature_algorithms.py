"""Signature algorithms: whether one signature over some bytes verifies under one public key.

Knows the identifiers that signed files use: RSA (PKCS #1 1.5 and PSS), ECDSA, DSA, Ed25519, with digests from MD5 to SHA-512 as far
as the caller's policy allows them. A key or an algorithm that cannot be used is an answer, not an exception.
"""

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.utils import CryptographyDeprecationWarning

from pipeline.formats import der
from pipeline.formats.facts import Malformed

RSA_MAX_BITS: Final = 16384  # the largest key in the apksig suite; time to verify grows with the square


MODERN_DIGESTS: Final = frozenset({"sha224", "sha256", "sha384", "sha512"})
LEGACY_DIGESTS: Final = MODERN_DIGESTS | {"sha1"}
ANY_DIGESTS: Final = LEGACY_DIGESTS | {"md5"}

DIGEST_OIDS: Final = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_PSS: Final = "1.2.840.113549.1.1.10"
_ED25519: Final = "1.3.101.112"
# Signature algorithm → family of the key, and the digest where the identifier names one (RFC 3279, 4055, 5754, 5758).
_SIGNATURE_OIDS: Final[dict[str, tuple[str, str | None]]] = {
    "1.2.840.113549.1.1.1": ("rsa", None),
    "1.2.840.113549.1.1.4": ("rsa", "md5"),
    "1.2.840.113549.1.1.5": ("rsa", "sha1"),
    "1.3.14.3.2.29": ("rsa", "sha1"),
    "1.2.840.113549.1.1.14": ("rsa", "sha224"),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    _PSS: ("rsa-pss", None),
    "1.2.840.10045.2.1": ("ecdsa", None),
    "1.2.840.10045.4.1": ("ecdsa", "sha1"),
    "1.2.840.10045.4.3.1": ("ecdsa", "sha224"),
    "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
    "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
    "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
    "1.2.840.10040.4.1": ("dsa", None),
    "1.2.840.10040.4.3": ("dsa", "sha1"),
    "2.16.840.1.101.3.4.3.1": ("dsa", "sha224"),
    "2.16.840.1.101.3.4.3.2": ("dsa", "sha256"),
    "2.16.840.1.101.3.4.3.3": ("dsa", "sha384"),
    "2.16.840.1.101.3.4.3.4": ("dsa", "sha512"),
    _ED25519: ("ed25519", None),
}


@dataclass(frozen=True, slots=True)
class Algorithm:
    """An AlgorithmIdentifier: the dotted identifier, and the parameters' encoding (empty when there are none)."""

    oid: str
    parameters: bytes = b""


def algorithm(value: der.Element) -> Algorithm:
    """An AlgorithmIdentifier (RFC 5280 4.1.1.2)."""
    parts = value.expect(der.SEQUENCE).children()
    if not 1 <= len(parts) <= 2:
        raise Malformed(der.DER, "algorithm identifier")
    return Algorithm(der.oid(parts[0]), parts[1].raw if len(parts) == 2 else b"")


def verify(
    public_key: bytes,
    algorithm: Algorithm,
    signature: bytes,
    data: bytes,
    *,
    digest: str | None,
    digests: Collection[str] = LEGACY_DIGESTS,
) -> str | None:
    """Check one signature; None when it verifies, else a short reason. Never raises.

    `public_key` is a SubjectPublicKeyInfo, `data` what was signed, not yet hashed. `digest` is the algorithm named
    elsewhere (a SignerInfo's digestAlgorithm); where the signature's identifier names one too and they differ, either may be the
    one that was used, as signers disagree there. Only those in `digests` are allowed.
    """
    family, implied = _SIGNATURE_OIDS.get(algorithm.oid, (None, None))
    if family is None:
        return f"signature algorithm {algorithm.oid} is not supported"
    try:
        key = _key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the public key cannot be used: {error}"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size > RSA_MAX_BITS:
        return f"an RSA key of {key.key_size} bits"
    if family == "ed25519":
        return _attempt_ed25519(key, signature, data)
    if family == "rsa-pss":
        return _attempt_pss(key, algorithm.parameters, signature, data, digests)
    candidates = [one for one in dict.fromkeys((digest, implied)) if one is not None]
    if not candidates:
        return "no digest algorithm is named"
    allowed = [one for one in candidates if one in digests]
    if not allowed:
        return f"digest algorithm {'/'.join(candidates)} is not allowed"
    reasons = [_attempt(key, family, _HASHES[one](), signature, data) for one in allowed]
    return None if None in reasons else reasons[0]


def _attempt(
    key: object, family: str, digest: hashes.HashAlgorithm, signature: bytes, data: bytes
) -> str | None:
    try:
        match family, key:
            case "rsa", rsa.RSAPublicKey():
                key.verify(signature, data, padding.PKCS1v15(), digest)
            case "ecdsa", ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(digest))
            case "dsa", dsa.DSAPublicKey():
                key.verify(signature, data, digest)
            case _:
                return f"the key is not one for {family}"
    except InvalidSignature:
        return "the signature does not verify"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the signature cannot be checked: {error}"
    return None


def _attempt_ed25519(key: object, signature: bytes, data: bytes) -> str | None:
    if not isinstance(key, ed25519.Ed25519PublicKey):
        return "the key is not one for ed25519"
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return "the signature does not verify"
    return None


def _attempt_pss(
    key: object, parameters: bytes, signature: bytes, data: bytes, digests: Collection[str]
) -> str | None:
    if not isinstance(key, rsa.RSAPublicKey):
        return "the key is not one for rsa-pss"
    try:
        digest, mask_digest, salt_bytes = _pss(parameters)
    except Malformed as error:
        return f"the parameters of rsa-pss cannot be read: {error.finding.message}"
    if digest not in digests or mask_digest not in digests:
        return f"digest algorithm {digest} is not allowed"
    if salt_bytes > key.key_size // 8:
        return f"a salt of {salt_bytes} bytes"
    scheme = padding.PSS(padding.MGF1(_HASHES[mask_digest]()), salt_bytes)
    try:
        key.verify(signature, data, scheme, _HASHES[digest]())
    except InvalidSignature:
        return "the signature does not verify"
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the signature cannot be checked: {error}"
    return None


def _pss(parameters: bytes) -> tuple[str, str, int]:
    """RSASSA-PSS-params (RFC 4055 3.1): digest, digest of the mask, bytes of salt; the defaults are of 1998."""
    digest, mask_digest, salt_bytes = "sha1", "sha1", 20
    if not parameters:
        return digest, mask_digest, salt_bytes
    for part in der.single(parameters).expect(der.SEQUENCE).children():
        inner = _only(part)
        if part.tag == 0xA0:
            digest = _digest_name(algorithm(inner).oid)
        elif part.tag == 0xA1:
            mask_digest = _digest_name(algorithm(der.single(algorithm(inner).parameters)).oid)
        elif part.tag == 0xA2:
            salt_bytes = der.integer(inner)
            if not 0 <= salt_bytes <= RSA_MAX_BITS // 8:
                raise Malformed(der.DER, f"a PSS salt of {salt_bytes} bytes")
    return digest, mask_digest, salt_bytes


def _digest_name(oid: str) -> str:
    found = DIGEST_OIDS.get(oid)
    if found is None:
        raise Malformed(der.DER, f"digest algorithm {oid}")
    return found


@lru_cache(maxsize=256)
def _key(public_key: bytes) -> object:
    with (
        warnings.catch_warnings()
    ):  # old roots have keys and curves that are deprecated, and are judged all the same
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return load_der_public_key(public_key)


def _only(value: der.Element) -> der.Element:
    parts = value.children()
    if len(parts) != 1:
        raise Malformed(der.DER, f"{len(parts)} values where one is due")
    return parts[0]
