"""macOS installer packages (.pkg): a xar archive with a Distribution, or a PackageInfo, or both.

A product archive has a `Distribution` (title, product, what it installs) and components in folders `*.pkg`, each with a
`PackageInfo`; a component package has its `PackageInfo` at the top. Source: Apple, Distribution Definition XML Reference;
pkgbuild(1), productbuild(1). A stapled notarization ticket follows the archive, framed by "t8lr" trailers.

`details`: `product_id`, `product_version`, `title`, `pkg_refs`, `pkg_ref_version`, `components` (identifier, version,
install_location, scripts, install_kbytes), `host_architectures`, `scripts`, `toc_checksum_algorithm`, `toc_checksum_matches`,
`toc_signature_style`, `rsa_signature_over_toc`, `cms_signature_over_toc`, `leaf_cert_sha256`, `leaf_subject`,
`certificate_kinds`, `team_id`, `signed_at`, `timestamped`, `notarization`.

Left to others: the archive (`xar.py`), its signatures (`xar_signature.py`). Payloads are not unpacked.
"""

import re
import struct
from typing import Any, Final
from xml.etree.ElementTree import Element

from pipeline.formats.apple_certificates import team_of
from pipeline.formats.certificate import Name, rfc3339
from pipeline.formats.facts import (
    Finding,
    Malformed,
    Metadata,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
)
from pipeline.formats.source import Source
from pipeline.formats.ticket import MAX_TICKET_BYTES, Notarization, judge_ticket
from pipeline.formats.xar import MEMBER_CHANGED, NO_CHECKSUM, TOC_CHANGED, Xar, read_xar
from pipeline.formats.xar_signature import XarSigner, check_signatures
from pipeline.formats.xar_xml import child, parse_xml

NO_PACKAGE: Final = Rule(
    "pkg.no-package",
    Severity.ERROR,
    "The archive is no installer package: it has neither a Distribution nor a PackageInfo.",
    "Build it with pkgbuild or productbuild; bundle-style packages of before Mac OS X 10.5 are not supported.",
    "Apple, productbuild(1), pkgbuild(1)",
)
NO_IDENTIFIER: Final = Rule(
    "pkg.no-identifier",
    Severity.ERROR,
    "The installer names neither a product nor a package: {evidence}.",
    "Build with pkgbuild --identifier, and productbuild --product or a <product id=…> in the Distribution.",
    "Apple, Distribution Definition XML Reference, product, pkg-ref",
)
TRAILING: Final = Rule(
    "pkg.trailing-data",
    Severity.WARNING,
    "Bytes follow the archive that belong to nothing in it, and no signature covers them: {evidence}.",
    "Build the installer again; publish it as productbuild or productsign left it.",
    "xar format; parser differentials",
)
RULES: Final = (NO_PACKAGE, NO_IDENTIFIER, TRAILING)

MAX_XML_BYTES: Final = 16 << 20
MAX_COMPONENTS: Final = 500
_NAMES_IN_EVIDENCE: Final = 5
_COMPONENT_INFO: Final = re.compile(r"(?:[^/]+/)?PackageInfo\Z")
_TRAILER: Final = struct.Struct("<4sHHII")  # magic, version, type, length of what stands before it, reserved
_TRAILER_MAGIC: Final = b"t8lr"
_TICKET: Final = 2
_CDHASH_BYTES: Final = 20


def read(source: Source) -> Report:
    """Read and verify; raises `Malformed` or `Unjudgeable`."""
    xar = read_xar(source)
    report = Report(format="pkg", platform="macos")
    report.details["toc_checksum_algorithm"] = xar.algorithm
    report.details["toc_checksum_matches"] = xar.toc_intact
    problems = _integrity(xar)
    report.findings += problems
    signer = check_signatures(xar)
    report.findings += signer.findings
    report.signature = _signature(xar, signer, problems)
    report.details.update(_signer_details(signer))
    _describe(xar, report)
    _describe_end(xar, report)
    return report


def _integrity(xar: Xar) -> list[Finding]:
    """The digests of the archive against its bytes, signed or not."""
    found: list[Finding] = []
    if not xar.toc_intact:
        found.append(TOC_CHANGED.finding(f"{xar.algorithm} digest of {len(xar.toc_packed)} bytes"))
    changed = xar.changed_members()
    if changed:
        found.append(MEMBER_CHANGED.finding(_some(changed)))
    bare = [member.path for member in xar.members if member.archived is None]
    if bare:
        found.append(NO_CHECKSUM.finding(_some(bare)))
    return found


def _signature(xar: Xar, signer: XarSigner, problems: list[Finding]) -> Signature:
    if not signer.styles:
        return Signature()
    signers = [] if signer.leaf is None else [signer.leaf.signer()]
    errors = [finding for finding in (*problems, *signer.findings) if finding.severity is Severity.ERROR]
    if errors:
        return Signature(
            SignatureStatus.INVALID, signers=signers, trust=signer.trust, reason=errors[0].message
        )
    if not signer.verified or problems or not xar.toc_intact:
        reason = problems[0].message if problems else "it is of a kind that is not read here"
        return Signature(SignatureStatus.UNVERIFIED, signers=signers, reason=reason)
    schemes = [
        name for name, result in (("xar-rsa", signer.rsa), ("xar-cms", signer.cms)) if result == "valid"
    ]
    return Signature(SignatureStatus.VALID, schemes=schemes, signers=signers, trust=signer.trust)


def _signer_details(signer: XarSigner) -> dict[str, Any]:
    return {
        "toc_signature_style": list(signer.styles),
        "rsa_signature_over_toc": signer.rsa,
        "cms_signature_over_toc": signer.cms,
        "leaf_cert_sha256": None if signer.leaf is None else signer.leaf.sha256,
        "leaf_subject": None if signer.leaf is None else _in_order(signer.leaf.subject),
        "certificate_kinds": list(signer.kinds),
        "team_id": None if signer.leaf is None else team_of(signer.leaf, signer.kinds),
        "trust_reason": signer.trust_reason,
        "signed_at": None if signer.signed_at is None else rfc3339(signer.signed_at),
        "timestamped": signer.timestamped,
    }


def _in_order(subject: Name) -> str:
    """The relative names in the order of the certificate, as openssl prints them by default."""
    return str(Name(subject.rdns[::-1], subject.raw))


def _describe(xar: Xar, report: Report) -> None:
    distribution = _xml(xar, "Distribution")
    paths = [member.path for member in xar.members if _COMPONENT_INFO.match(member.path)]
    components = [_component(_xml(xar, path)) for path in paths[:MAX_COMPONENTS]]
    if distribution is None and not components:
        raise Malformed(NO_PACKAGE)
    said = {} if distribution is None else _distribution(distribution)
    report.details.update(said)
    report.metadata = _metadata(said, components)
    report.details["components"] = components
    report.details["scripts"] = any(row["scripts"] for row in components)
    if report.metadata.identifier is None:
        report.add(NO_IDENTIFIER, f"title {report.metadata.name!r}")


def _metadata(said: dict[str, Any], components: list[dict[str, Any]]) -> Metadata:
    """What the product says, else the component that it installs first."""
    first = components[0] if components else {}
    refs = said.get("pkg_refs", [])
    return Metadata(
        identifier=said.get("product_id") or first.get("identifier") or (refs[0] if refs else None),
        name=said.get("title"),
        version=said.get("product_version") or first.get("version") or said.get("pkg_ref_version"),
        archs=list(said.get("host_architectures", [])),
    )


def _distribution(root: Element) -> dict[str, Any]:
    """Distribution Definition XML Reference: product, title, pkg-ref, options."""
    product = child(root, "product")
    refs = [element for element in root.iter("pkg-ref") if element.get("id")]
    versions = [version for element in refs if (version := element.get("version"))]
    options = child(root, "options")
    architectures = "" if options is None else options.get("hostArchitectures", "")
    return {
        "product_id": None if product is None else product.get("id"),
        "product_version": None if product is None else product.get("version"),
        "title": _text(root, "title"),
        "pkg_refs": list(dict.fromkeys(element.get("id", "") for element in refs)),
        "pkg_ref_version": versions[0] if versions else None,
        "host_architectures": [name.strip() for name in architectures.split(",") if name.strip()],
        "min_os_versions": [
            version for element in root.iter("os-version") if (version := element.get("min"))
        ],
        "distribution_scripts": child(root, "script") is not None,
    }


def _component(root: Element | None) -> dict[str, Any]:
    """PackageInfo: pkg-info with payload and scripts."""
    if root is None:
        raise RuntimeError("a listed PackageInfo is gone")
    payload = child(root, "payload")
    scripts = child(root, "scripts")
    return {
        "identifier": root.get("identifier"),
        "version": root.get("version"),
        "install_location": root.get("install-location"),
        "auth": root.get("auth"),
        "scripts": [] if scripts is None else sorted({inner.tag for inner in scripts}),
        "install_kbytes": None if payload is None else payload.get("installKBytes"),
    }


def _xml(xar: Xar, path: str) -> Element | None:
    member = xar.get(path)
    return None if member is None else parse_xml(xar.read(member, MAX_XML_BYTES), part=path)


def _text(root: Element, tag: str) -> str | None:
    element = child(root, tag)
    text = "" if element is None else "".join(element.itertext()).strip()
    return text or None


def _describe_end(xar: Xar, report: Report) -> None:
    """What follows the heap: a ticket between trailers, or something that does not belong there."""
    notarization, findings, rest = _notarization(xar)
    report.details["notarization"] = notarization.as_details()
    report.findings += findings
    if rest > xar.end:
        tail = xar.source.window(xar.end, rest - xar.end)
        if any(chunk.strip(b"\0") for chunk in tail.chunks()):
            report.add(TRAILING, f"{tail.size} bytes at {xar.end}")


def _notarization(xar: Xar) -> tuple[Notarization, list[Finding], int]:
    """The ticket, and where what stands before its trailers ends.

    From the end of the file backwards: a trailer of type 2 with the ticket's length, the ticket, a trailer of type 1.
    """
    end = xar.source.size
    if end < _TRAILER.size + xar.end:
        return Notarization(), [], end
    magic, _, kind, length, _ = _TRAILER.unpack(xar.source.at(end - _TRAILER.size, _TRAILER.size))
    start = end - _TRAILER.size - length
    if magic != _TRAILER_MAGIC or kind != _TICKET or start < xar.end or length > MAX_TICKET_BYTES:
        return Notarization(), [], end
    digest = (xar.toc_digest or b"")[:_CDHASH_BYTES].hex()
    notarization, findings = judge_ticket(xar.source.at(start, length), {"the installer": [digest]})
    before = start - _TRAILER.size
    if before >= xar.end and xar.source.at(before, 4) == _TRAILER_MAGIC:
        start = before
    return notarization, findings, start


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_EVIDENCE])
    more = len(names) - _NAMES_IN_EVIDENCE
    return f"{shown} and {more} more" if more > 0 else shown
