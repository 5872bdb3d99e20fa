"""Publishers of MSIX packages: a distinguished name as Windows writes it, compared with a certificate's subject by meaning.

The manifest has `CN=Contoso, O="Contoso, Inc", S=Washington, C=US`; the certificate has the same as X.509 attributes, in the
opposite order and in any string type. Abbreviations differ between tools (`S` and `ST`, `E` and `emailAddress`).

Source: CertStrToName and CertNameToStr (Win32 API reference, "String value format"); ST_Publisher in AppxManifestTypes.xsd.
"""

import re
import unicodedata
from collections import Counter
from typing import Final

from pipeline.formats.certificate import Name

_ATTRIBUTES: Final = {
    "CN": "2.5.4.3",
    "SN": "2.5.4.4",
    "SERIALNUMBER": "2.5.4.5",
    "C": "2.5.4.6",
    "L": "2.5.4.7",
    "S": "2.5.4.8",
    "ST": "2.5.4.8",
    "STREET": "2.5.4.9",
    "O": "2.5.4.10",
    "OU": "2.5.4.11",
    "T": "2.5.4.12",
    "TITLE": "2.5.4.12",
    "DESCRIPTION": "2.5.4.13",
    "POSTALCODE": "2.5.4.17",
    "POBOX": "2.5.4.18",
    "PHONE": "2.5.4.20",
    "X21ADDRESS": "2.5.4.24",
    "G": "2.5.4.42",
    "GIVENNAME": "2.5.4.42",
    "I": "2.5.4.43",
    "INITIALS": "2.5.4.43",
    "DNQUALIFIER": "2.5.4.46",
    "E": "1.2.840.113549.1.9.1",
    "EMAIL": "1.2.840.113549.1.9.1",
    "EMAILADDRESS": "1.2.840.113549.1.9.1",
    "DC": "0.9.2342.19200300.100.1.25",
    "UID": "0.9.2342.19200300.100.1.1",
}
_KEY: Final = re.compile(r"\s*(?:OID\.)?([A-Za-z0-9.]{1,64})\s*=\s*", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"((?:[^"]|"")*)"\s*')
_PLAIN: Final = re.compile(r"[^,;+\"\n]*")
_SEPARATOR: Final = re.compile(r"[,;+\n]|$")
MAX_CHARS: Final = 8192  # ST_Publisher


Rdns = tuple[tuple[tuple[str, str | bytes], ...], ...]


def parse_publisher(text: str) -> Rdns | None:
    """The relative names that a manifest's Publisher is made of; None when it is not a distinguished name."""
    if len(text) > MAX_CHARS:
        return None
    rows: list[tuple[tuple[str, str | bytes], ...]] = []
    position = 0
    joined = False
    while position < len(text):
        key = _KEY.match(text, position)
        if key is None:
            return None
        kind = _ATTRIBUTES.get(key[1].upper(), key[1])
        value, position = _value(text, key.end())
        separator = _SEPARATOR.match(text, position)
        if separator is None or (kind == key[1] and not re.fullmatch(r"[0-9]+(\.[0-9]+)+", kind)):
            return None
        pair = (kind, value)
        rows[-1:] = [(*rows[-1], pair)] if joined else [*rows[-1:], (pair,)]
        joined = separator[0] == "+"
        position = separator.end()
    return tuple(rows) or None


def _value(text: str, position: int) -> tuple[str, int]:
    """A value, quoted (with doubled quotes inside) or plain, and where it ends."""
    quoted = _QUOTED.match(text, position)
    if quoted is not None:
        return quoted[1].replace('""', '"'), quoted.end()
    plain = _PLAIN.match(text, position)
    assert plain is not None
    return plain[0].strip(), plain.end()


def same_publisher(publisher: str, subject: Name) -> bool:
    """Whether the manifest's publisher and the certificate's subject have the same parts, in whichever order."""
    claimed = parse_publisher(publisher)
    return claimed is not None and _meaning(claimed) == _meaning(subject.rdns)


def same_text(first: str, second: str) -> bool:
    """Whether two publishers of manifests mean the same; those that are no names have to be equal."""
    names = parse_publisher(first), parse_publisher(second)
    if names[0] is None or names[1] is None:
        return first == second
    return _meaning(names[0]) == _meaning(names[1])


def _meaning(rdns: Rdns) -> Counter[frozenset[tuple[str, str | bytes]]]:
    """Equal for names with the same parts; case and repeated spaces do not count."""
    return Counter(frozenset((kind, _folded(value)) for kind, value in rdn) for rdn in rdns)


def _folded(value: str | bytes) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
