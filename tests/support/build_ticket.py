"""Makes notarization tickets in the layout of Apple's, signed by a family of our own."""

import struct
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pipeline.formats.certificate import certificate
from pipeline.formats.chain import Root, Roots
from tests.support.build_cms import Identity, family, make_identity, sequence

ISSUED_AT = 1_700_000_000
MARKER = "1.2.840.113635.100.6.1.30"


@cache
def notary() -> Identity:
    return make_identity("Notary", family().authority, number=21, markers=((MARKER, False),))


def notary_roots() -> Roots:
    return Roots([Root(certificate(family().root.der))])


def ticket(
    *cdhashes: bytes,
    signer: Identity | None = None,
    issued_at: int = ISSUED_AT,
    count: int | None = None,
    flip_signature: bool = False,
    authorities: tuple[Identity, ...] | None = None,
) -> bytes:
    signer = signer or notary()
    authorities = (family().authority,) if authorities is None else authorities
    certificates = sequence(signer.der, *(one.der for one in authorities))
    number = len(cdhashes) if count is None else count
    body = struct.pack("<4sHHIIQ", b"g8tk", 2, 20, number, 0, issued_at)
    body += b"".join(b"\x02" + value for value in cdhashes)
    head = struct.pack("<4sHHII", b"s8ch", 1, 0, len(certificates), len(body))
    signed = head + certificates + body
    made: bytes = signer.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    if flip_signature:
        made = made[:-1] + bytes([made[-1] ^ 1])
    return signed + made.ljust(72, b"\0")
