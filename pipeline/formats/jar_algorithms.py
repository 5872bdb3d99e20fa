"""Which combinations of digest and signature algorithm in a JAR signature which versions of Android verify.

The platform's history in four regularities, as the reference verifier tabulates it (AOSP apksig, `V1SchemeVerifier`):
a signature algorithm that names no digest, one that names the digest of the SignerInfo, and one that names another, which only
Android 5 to 6 took; and three of those last for RSA that only API 21 took.
"""

from typing import Final

SDK_MAX: Final = 2**31 - 1
Ranges = tuple[tuple[int, int], ...]

_DIGESTS: Final = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_SIGNATURES: Final[dict[str, tuple[str, str | None]]] = {
    "1.2.840.113549.1.1.1": ("rsa", None),
    "1.2.840.113549.1.1.4": ("rsa", "md5"),
    "1.2.840.113549.1.1.5": ("rsa", "sha1"),
    "1.2.840.113549.1.1.14": ("rsa", "sha224"),
    "1.2.840.113549.1.1.11": ("rsa", "sha256"),
    "1.2.840.113549.1.1.12": ("rsa", "sha384"),
    "1.2.840.113549.1.1.13": ("rsa", "sha512"),
    "1.2.840.10040.4.1": ("dsa", None),
    "1.2.840.10040.4.3": ("dsa", "sha1"),
    "2.16.840.1.101.3.4.3.1": ("dsa", "sha224"),
    "2.16.840.1.101.3.4.3.2": ("dsa", "sha256"),
    "1.2.840.10045.2.1": ("ecdsa", None),
    "1.2.840.10045.4.1": ("ecdsa", "sha1"),
    "1.2.840.10045.4.3.1": ("ecdsa", "sha224"),
    "1.2.840.10045.4.3.2": ("ecdsa", "sha256"),
    "1.2.840.10045.4.3.3": ("ecdsa", "sha384"),
    "1.2.840.10045.4.3.4": ("ecdsa", "sha512"),
}

_ALWAYS: Final = ((0, SDK_MAX),)
_SINCE_2_3: Final = ((9, SDK_MAX),)
_SINCE_4_3: Final = ((18, SDK_MAX),)
_SINCE_5: Final = ((21, SDK_MAX),)
_SINCE_5_1: Final = ((22, SDK_MAX),)
_NOT_2_3_TO_4_4: Final = ((0, 8), (21, SDK_MAX))
_NOT_2_3_TO_4_2: Final = ((0, 8), (18, SDK_MAX))
_ONLY_5_AND_6: Final = ((21, 23),)
_ONLY_5: Final = ((21, 21),)

# (family, digest) where the signature algorithm names no digest, and where it names that digest.
_PLAIN: Final[dict[tuple[str, str], Ranges]] = {
    ("rsa", "md5"): _ALWAYS,
    ("rsa", "sha1"): _ALWAYS,
    ("rsa", "sha224"): _NOT_2_3_TO_4_4,
    ("rsa", "sha256"): _NOT_2_3_TO_4_2,
    ("rsa", "sha384"): _SINCE_4_3,
    ("rsa", "sha512"): _SINCE_4_3,
    ("dsa", "sha1"): _ALWAYS,
    ("dsa", "sha224"): _SINCE_5_1,
    ("dsa", "sha256"): _SINCE_5_1,
    ("ecdsa", "sha1"): _SINCE_4_3,
    ("ecdsa", "sha224"): _SINCE_5,
    ("ecdsa", "sha256"): _SINCE_4_3,
    ("ecdsa", "sha384"): _SINCE_4_3,
    ("ecdsa", "sha512"): _SINCE_4_3,
}
_MATCHING: Final[dict[tuple[str, str], Ranges]] = {
    ("rsa", "md5"): _NOT_2_3_TO_4_4,
    ("rsa", "sha1"): _ALWAYS,
    ("rsa", "sha224"): _NOT_2_3_TO_4_4,
    ("rsa", "sha256"): _NOT_2_3_TO_4_2,
    ("rsa", "sha384"): _SINCE_5,
    ("rsa", "sha512"): _SINCE_5,
    ("dsa", "sha1"): _SINCE_2_3,
    ("dsa", "sha224"): _SINCE_5,
    ("dsa", "sha256"): _SINCE_5,
    ("ecdsa", "sha1"): _SINCE_4_3,
    ("ecdsa", "sha224"): _SINCE_5,
    ("ecdsa", "sha256"): _SINCE_5,
    ("ecdsa", "sha384"): _SINCE_5,
    ("ecdsa", "sha512"): _SINCE_5,
}
_RSA_ONLY_5: Final = frozenset({("sha224", "sha256"), ("sha256", "sha1"), ("sha512", "sha384")})


def supported(digest_oid: str, signature_oid: str) -> Ranges:
    """The API levels, both ends included, that verify this combination."""
    digest = _DIGESTS.get(digest_oid)
    family, named = _SIGNATURES.get(signature_oid, (None, None))
    if digest is None or family is None:
        return ()
    if named is None:
        return _PLAIN.get((family, digest), ())
    if named == digest:
        return _MATCHING.get((family, digest), ())
    if family == "rsa" and (digest, named) in _RSA_ONLY_5:
        return _ONLY_5
    return _ONLY_5_AND_6


def unsupported_within(ranges: Ranges, sdks: tuple[int, int]) -> list[tuple[int, int]]:
    """What of `sdks` is not in `ranges` (which are in ascending order)."""
    missing: list[tuple[int, int]] = []
    start, end = sdks
    for low, high in ranges:
        if start > end:
            break
        if high < start:
            continue
        if low > start:
            missing.append((start, min(low - 1, end)))
        start = max(start, high + 1)
    if start <= end:
        missing.append((start, end))
    return missing


def named_digest(signature_oid: str) -> str | None:
    """The digest that the signature algorithm names, if it does."""
    return _SIGNATURES.get(signature_oid, ("", None))[1]
