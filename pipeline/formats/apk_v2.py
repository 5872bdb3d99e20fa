"""APK Signature Scheme v2: up to ten signers over the whole file, for Android 7 (API 24) and later.

Sources: source.android.com, APK Signature Scheme v2; AOSP apksig, `V2SchemeVerifier`, for the order of checks and what is an
error on which version of Android.
"""

from collections.abc import Callable, Collection
from typing import Final

from pipeline.formats import apk_signature_rules as rules
from pipeline.formats.apk_algorithms import ANDROID_7
from pipeline.formats.apk_block import Fields, ShortFields
from pipeline.formats.apk_digest import ContentDigests
from pipeline.formats.apk_scheme import (
    MAX_SIGNERS,
    SchemeResult,
    SchemeSigner,
    broken,
    check_content,
    check_signatures,
    each_signer,
    read_attributes,
    read_certificates,
    read_digests,
    read_signatures,
)

STRIPPING_PROTECTION: Final = 0xBEEFF00D  # value: the id of a newer scheme that was signed with, too


def verify(
    value: bytes,
    content: ContentDigests,
    explain: Callable[[], str],
    *,
    sdks: tuple[int, int],
    known: Collection[int],
    found: Collection[int],
) -> SchemeResult:
    """Judge a v2 block for the Android versions `sdks`.

    `known` are the scheme numbers that those versions know, `found` those whose blocks are there and verified.
    """
    result = SchemeResult("v2")
    sdks = max(sdks[0], ANDROID_7), sdks[1]

    def signer(fields: Fields, one: SchemeSigner) -> None:
        _signer(fields, one, result, sdks)
        _attributes(one, result, known, found)

    each_signer(value, result, signer)
    if len(result.signers) > MAX_SIGNERS:
        result.add(rules.TOO_MANY_SIGNERS, f"{len(result.signers)} signers")
    if result.verified:
        check_content(result, content, explain)
    return result


def _signer(fields: Fields, signer: SchemeSigner, result: SchemeResult, sdks: tuple[int, int]) -> None:
    signed_data = fields.block()
    signatures_value = fields.fields()
    public_key = fields.block()
    signatures = read_signatures(signatures_value, result, signer)
    check_signatures(signatures, public_key, signed_data, sdks, result, signer)
    signed = Fields(signed_data)
    digests, certificates, attributes = signed.fields(), signed.fields(), signed.fields()
    read_certificates(certificates, public_key, result, signer)
    read_digests(digests, signatures, result, signer)
    read_attributes(attributes, result, signer)


def _attributes(
    signer: SchemeSigner, result: SchemeResult, known: Collection[int], found: Collection[int]
) -> None:
    for number, (kind, value) in enumerate(signer.attributes, 1):
        if kind != STRIPPING_PROTECTION:
            result.add(rules.UNKNOWN_ATTRIBUTE, f"0x{kind:08x}", signer)
            continue
        try:
            scheme = Fields(value).i32()
        except ShortFields as error:
            raise broken(result, rules.MALFORMED, f"attribute {number}: {error}", signer) from error
        if scheme in known and scheme not in found:
            result.add(rules.STRIPPED, f"it names scheme v{scheme}", signer)
