"""The whole judgement of a CMS signature in one call: does it verify, when was it made, who vouches for the signer.

::

    from pipeline.formats import cms, signing
    from pipeline.formats.certificate import CODE_SIGNING
    from pipeline.formats.roots import apple_roots, microsoft_roots

    signed = cms.parse(blob)
    for one in signing.assess(signed, microsoft_roots(), eku=CODE_SIGNING):
        one.problem      # None, or why the signature is invalid
        one.signed_at    # proven by a trusted timestamp, or None
        one.trust        # facts.Trust of the chain, judged at `signed_at`; None when the signature is invalid
        one.chain        # .path from the leaf up, .reason why it is not trusted
        one.row()        # facts.Signer for the report

What the file's digest is, and whether the content names it, stays with the caller: `problem` only speaks of the CMS itself.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.formats import cms, timestamp
from pipeline.formats.certificate import Certificate
from pipeline.formats.chain import Chain, Roots, judge
from pipeline.formats.facts import Signer, Trust
from pipeline.formats.signature_algorithms import LEGACY_DIGESTS


@dataclass(frozen=True, slots=True)
class Assessed:
    """One signer's signature, time and chain."""

    signer: cms.SignerInfo
    certificate: Certificate | None
    problem: str | None
    timestamps: tuple[timestamp.Timestamp, ...] = ()
    signed_at: datetime | None = None
    chain: Chain | None = None

    @property
    def trust(self) -> Trust | None:
        """Where the chain ends; None for a signature that does not verify."""
        return None if self.chain is None else self.chain.trust

    def row(self) -> Signer | None:
        """The signer for a report, when the certificate is at hand."""
        return None if self.certificate is None else self.certificate.signer()


def assess(
    signed: cms.SignedData,
    roots: Roots,
    *,
    content: bytes | None = None,
    digests: Collection[str] = LEGACY_DIGESTS,
    eku: str | None = None,
    leaf_any: Collection[str] = (),
    issuer_any: Collection[str] = (),
    at: datetime | None = None,
    timestamp_roots: Roots | None = None,
) -> list[Assessed]:
    """Judge every signer; an empty list means that nobody signed, which proves nothing.

    `content`, `digests`: see `cms.verify`. `eku`, `leaf_any`, `issuer_any`: see `chain.judge`. `at`: the moment to judge the chain at
    when no trusted timestamp gives one. `timestamp_roots` defaults to `roots`. Never raises.
    """
    stamp_roots = roots if timestamp_roots is None else timestamp_roots
    return [
        _assess(signed, result, roots, stamp_roots, digests, eku, leaf_any, issuer_any, at)
        for result in cms.verify(signed, content=content, digests=digests)
    ]


def least(found: Sequence[Assessed]) -> Trust | None:
    """The weakest trust among signers that verified: trusted only when all are, self-signed when one is."""
    order = (Trust.SELF_SIGNED, Trust.UNKNOWN_ROOT, Trust.TRUSTED)
    return min((one.trust for one in found if one.trust is not None), key=order.index, default=None)


def _assess(
    signed: cms.SignedData,
    result: cms.Verified,
    roots: Roots,
    timestamp_roots: Roots,
    digests: Collection[str],
    eku: str | None,
    leaf_any: Collection[str],
    issuer_any: Collection[str],
    at: datetime | None,
) -> Assessed:
    if result.problem is not None or result.certificate is None:
        return Assessed(
            result.signer, result.certificate, result.problem or "the signer's certificate is not there"
        )
    stamps = tuple(timestamp.timestamps(signed, result.signer, timestamp_roots, digests=digests))
    signed_at = timestamp.proven_time(stamps)
    path = judge(
        result.certificate,
        signed.certificates,
        roots,
        eku=eku,
        leaf_any=leaf_any,
        issuer_any=issuer_any,
        at=signed_at or at,
    )
    return Assessed(result.signer, result.certificate, None, stamps, signed_at, path)
