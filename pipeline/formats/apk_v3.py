"""APK Signature Scheme v3 and v3.1: one signer for each range of Android versions, and the history of its keys.

v3 counts from Android 9 (API 28), v3.1 from Android 13 (API 33); v3.1 carries the rotated key, v3 the original one, and the
v3 signer says from which version on (rotation-min-sdk-version), so that neither can be removed unnoticed.

Sources: source.android.com, APK Signature Scheme v3 and v3.1; AOSP apksig, `V3SchemeVerifier`.
"""

from collections.abc import Callable
from typing import Final

from pipeline.formats import apk_signature_rules as rules
from pipeline.formats.apk_block import Fields, ShortFields
from pipeline.formats.apk_digest import ContentDigests
from pipeline.formats.apk_lineage import ROLLBACK_FLAG, Lineage, LineageBroken, consolidate, parse
from pipeline.formats.apk_scheme import (
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

ANDROID_13: Final = 33

PROOF_OF_ROTATION: Final = 0x3BA06F8C
ROTATION_MIN_SDK: Final = 0x559F8B02
TARGETS_DEV_RELEASE: Final = 0xC2A6B3BA
HYBRID_MIN_SDK: Final = 0xBF940529  # a v3.2 signature belongs to this one
HYBRID_MAX_SDK: Final = 0x9F06B79C


class V3Verifier:
    """Judges one v3 or v3.1 block (`scheme` is "v3" or "v3.1") for the Android versions `sdks`."""

    def __init__(
        self,
        scheme: str,
        content: ContentDigests,
        explain: Callable[[], str],
        *,
        sdks: tuple[int, int],
        rotation_min_sdk: int | None = None,
        has_v32: bool = False,
    ) -> None:
        self._result = SchemeResult(scheme)
        self._content = content
        self._explain = explain
        self._sdks = sdks
        self._rotation_min_sdk = rotation_min_sdk
        self._has_v32 = has_v32

    def verify(self, value: bytes) -> SchemeResult:
        """The result for a block with this value."""
        result = self._result
        each_signer(value, result, self._signer)
        if not result.verified:
            return result
        check_content(result, self._content, self._explain)
        self._check_ranges()
        try:
            result.lineage = consolidate([one.lineage for one in result.signers if one.lineage is not None])
        except LineageBroken as error:
            result.add(rules.LINEAGES_DISAGREE, str(error))
        return result

    def _signer(self, fields: Fields, signer: SchemeSigner) -> None:
        result = self._result
        signed_data = fields.block()
        signer.min_sdk, signer.max_sdk = fields.i32(), fields.i32()
        if signer.min_sdk < 0 or signer.min_sdk > signer.max_sdk:
            result.add(rules.SDK_RANGE, f"API {signer.min_sdk} to {signer.max_sdk}", signer)
        signatures_value = fields.fields()
        public_key = fields.block()
        signatures = read_signatures(signatures_value, result, signer)
        check_signatures(
            signatures, public_key, signed_data, (signer.min_sdk, signer.max_sdk), result, signer
        )
        signed = Fields(signed_data)
        digests, certificates = signed.fields(), signed.fields()
        told = signed.i32(), signed.i32()
        if told != (signer.min_sdk, signer.max_sdk):
            evidence = f"signed for API {told[0]} to {told[1]}, used for {signer.min_sdk} to {signer.max_sdk}"
            result.add(rules.SDK_RANGE, evidence, signer)
        attributes = signed.fields()
        read_certificates(certificates, public_key, result, signer)
        read_digests(digests, signatures, result, signer)
        read_attributes(attributes, result, signer)
        self._attributes(signer)

    def _attributes(self, signer: SchemeSigner) -> None:
        result = self._result
        for number, (kind, value) in enumerate(signer.attributes, 1):
            try:
                self._attribute(kind, value, signer)
            except ShortFields as error:
                raise broken(result, rules.MALFORMED, f"attribute {number}: {error}", signer) from error
        if self._rotation_min_sdk is not None and not signer.has_attribute(ROTATION_MIN_SDK):
            evidence = f"v3.1 counts from API {self._rotation_min_sdk}"
            result.add(rules.ROTATION_UNPROTECTED, evidence, signer)

    def _attribute(self, kind: int, value: bytes, signer: SchemeSigner) -> None:
        result = self._result
        if kind == PROOF_OF_ROTATION:
            self._lineage(value, signer)
        elif kind == ROTATION_MIN_SDK:
            if self._sdks[1] >= ANDROID_13:
                self._rotation(Fields(value).i32(), signer)
        elif kind in (HYBRID_MIN_SDK, HYBRID_MAX_SDK):
            if not self._has_v32:
                result.add(rules.STRIPPED, f"it names scheme v3.2 (API {Fields(value).i32()})", signer)
        elif kind == TARGETS_DEV_RELEASE:
            if result.scheme == "v3":
                result.add(rules.DEV_RELEASE_ON_V3, "", signer)
        else:
            result.add(rules.UNKNOWN_ATTRIBUTE, f"0x{kind:08x}", signer)

    def _rotation(self, told: int, signer: SchemeSigner) -> None:
        if self._rotation_min_sdk is None:
            self._result.add(rules.STRIPPED, f"it names scheme v3.1 from API {told}", signer)
        elif told != self._rotation_min_sdk:
            evidence = f"v3 says API {told}, v3.1 counts from {self._rotation_min_sdk}"
            self._result.add(rules.ROTATION_MIN_SDK, evidence, signer)

    def _lineage(self, value: bytes, signer: SchemeSigner) -> None:
        try:
            lineage = parse(value)
        except LineageBroken as error:
            self._result.add(rules.LINEAGE, str(error), signer)
            return
        signer.lineage = lineage
        place = lineage.index(signer.certificates[0])
        if place is None or place + 1 != len(lineage.nodes):
            self._result.add(rules.LINEAGE, "it does not end with this signer's certificate", signer)
        self._note_rollback(lineage, signer)

    def _note_rollback(self, lineage: Lineage, signer: SchemeSigner) -> None:
        former = [node.certificate.sha256 for node in lineage.nodes[:-1] if node.flags & ROLLBACK_FLAG]
        if former:
            self._result.add(rules.ROLLBACK, ", ".join(former), signer)

    def _check_ranges(self) -> None:
        """The signers' ranges follow each other without hole or overlap, and cover what they have to."""
        result = self._result
        ordered = list({signer.max_sdk: signer for signer in result.signers}.values())
        ordered.sort(key=lambda signer: signer.max_sdk)
        last_size = 0
        for earlier, signer in zip([None, *ordered[:-1]], ordered, strict=True):
            if earlier is not None and not _follows(signer, earlier.max_sdk):
                evidence = f"API {signer.min_sdk} to {signer.max_sdk} after one to {earlier.max_sdk}"
                result.add(rules.SDK_GAPS, evidence)
                break
            if signer.lineage is not None:
                if len(signer.lineage.nodes) < last_size:
                    result.add(rules.LINEAGES_DISAGREE, "a later version of Android has a shorter one")
                    break
                last_size = len(signer.lineage.nodes)
        first, last = ordered[0].min_sdk, ordered[-1].max_sdk
        needed = self._sdks[1] if self._rotation_min_sdk is None else self._rotation_min_sdk - 1
        # v3.1 may begin anywhere, as v3 covers what is before it.
        begins_late = result.scheme == "v3" and first > self._sdks[0]
        if begins_late or last < needed:
            result.add(rules.SDK_GAPS, f"API {first} to {last}, needed are {self._sdks[0]} to {needed}")


def _follows(signer: SchemeSigner, before: int) -> bool:
    """A signer for a preview of Android begins at the number of the version before it."""
    return signer.min_sdk == before + 1 or (
        signer.min_sdk == before and signer.has_attribute(TARGETS_DEV_RELEASE)
    )
