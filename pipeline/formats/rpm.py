"""RPM packages, formats 3, 4 and 6: lead, signature header, main header, payload.

`metadata`: identifier = name, version, build = release, archs = arch.
`details`: name, epoch (only where there is one), version, release, arch, os, license, summary, url, vendor, packager, group, sourcerpm,
is_source, buildtime (seconds since 1970, as text) and build_date (RFC 3339), payload_compressor, rpm_format, file_count, requires,
provides, conflicts, obsoletes and the weak relations, scripts, digests (those that were compared and agree), signatures.

The steps, in order:
 1. Lead, signature header, main header; everything after them is the payload.
 2. One pass over headers and payload computes every digest and signed hash that the package has.
 3. Digests: a difference is an error. Signatures: no key is pinned here, so each is listed and stays `unverified`; but a signature
    holds the first two bytes of the hash that it is over, and where these differ it is `invalid`.
 4. The facts of the main header, and the paths of its files.
Left to others: the header structure (`rpm_header.py`), signature packets (`openpgp.py`). The payload is not unpacked: its digest, over
its compressed form, stands in the main header.
Sources: rpm.org reference manual, format_v3, format_v4, format_v6 and tags; Linux Standard Base 5.0, 22 (Package File Format).
"""

import binascii
import datetime as dt
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pipeline.formats import openpgp, rpm_header
from pipeline.formats.decompress import RULES as DECOMPRESS_RULES
from pipeline.formats.decompress import Compression, Unpacked
from pipeline.formats.facts import Malformed, Metadata, Report, Rule, Severity, Signature, SignatureStatus
from pipeline.formats.rpm_header import BAD_HEADER, Header
from pipeline.formats.source import Source
from pipeline.formats.tree import UNSAFE_PATH

if TYPE_CHECKING:
    from hashlib import _Hash

NOT_RPM: Final = Rule(
    "rpm.bad-lead",
    Severity.ERROR,
    "The file is no RPM package: {evidence}.",
    "Build the package again with rpmbuild, and upload the complete file in binary mode.",
    "rpm.org, RPM V4 Package format: Lead",
)
DIGEST_MISMATCH: Final = Rule(
    "rpm.digest-mismatch",
    Severity.ERROR,
    "The package was changed or damaged after it was built: {evidence}.",
    "Upload the original package again; rpmkeys --checksig shows the same. If it is the original, build it again.",
    "rpm.org, RPM V4 Package format: Signature",
)
SIZE_MISMATCH: Final = Rule(
    "rpm.size-mismatch",
    Severity.ERROR,
    "The package has not the size that it announces: {evidence}.",
    "The upload or download was cut off; upload the complete file.",
    "rpm.org, RPM V4 Package format: Signature, SIZE",
)
NO_DIGEST: Final = Rule(
    "rpm.no-payload-digest",
    Severity.WARNING,
    "The package has no digest of its content, so damage to it would not show.",
    "Build the package with rpm 4 or later.",
    "rpm.org, RPM V4 Package format: Signature",
)
SIGNATURE_CONTRADICTED: Final = Rule(
    "rpm.signature-contradicted",
    Severity.ERROR,
    "A signature in the package is over other content than the package has: {evidence}.",
    "The package was changed after it was signed. Sign it again (rpmsign --resign), or upload the original.",
    "RFC 9580, 5.2.3: the left 16 bits of the signed hash",
)
MISSING_TAG: Final = Rule(
    "rpm.missing-tag",
    Severity.ERROR,
    "The package does not say its {evidence}.",
    "Build the package with rpmbuild from a complete spec file.",
    "rpm.org, RPM Tags: base package tags",
)
RULES: Final = (
    NOT_RPM,
    DIGEST_MISMATCH,
    SIZE_MISMATCH,
    NO_DIGEST,
    SIGNATURE_CONTRADICTED,
    MISSING_TAG,
    UNSAFE_PATH,
    *rpm_header.RULES,
    *openpgp.RULES,
    *DECOMPRESS_RULES,
)

LEAD_BYTES: Final = 96
LEAD_MAGIC: Final = bytes.fromhex("edabeedb")
RELATIONS_SHOWN: Final = 1000
RELATIONS_MAX_CHARS: Final = 60_000  # of one kind; a report has a MiB
TEXT_MAX_CHARS: Final = 16_384
SIGNATURES_MAX: Final = 64

# Signature header (rpm.org, format_v4 and format_v6)
_SIG_SIZE: Final = 1000
_SIG_LONGSIZE: Final = 270
_SIG_MD5: Final = 1004
_HEADER_DIGESTS: Final = {269: "sha1", 273: "sha256", 279: "sha3_256"}
_SIGNATURES_OF_HEADER: Final = {267: "DSAHEADER", 268: "RSAHEADER"}
_SIGNATURES_OF_PACKAGE: Final = {1002: "SIGPGP", 1005: "SIGGPG"}
_SIG_OPENPGP: Final = 278
# Main header: the digest of the compressed payload, and the one of what it unpacks to, which may stand in for it
_PAYLOAD_DIGESTS: Final = {5092: (5097, "sha256"), 5121: (5122, "sha512"), 5123: (5124, "sha3_256")}
_PAYLOADDIGESTALGO: Final = 5093
_ALGORITHMS: Final = {
    1: "md5",
    2: "sha1",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3_256",
}
_COMPRESSORS: Final = {
    "gzip": Compression.GZIP,
    "bzip2": Compression.BZIP2,
    "xz": Compression.XZ,
    "lzma": Compression.LZMA,
    "zstd": Compression.ZSTD,
}
_TEXTS: Final = {
    "name": 1000, "version": 1001, "release": 1002, "summary": 1004, "vendor": 1011, "license": 1014, "packager": 1015,
    "group": 1016, "url": 1020, "os": 1021, "arch": 1022, "sourcerpm": 1044, "payload_compressor": 1125,
}  # fmt: skip
_EPOCH: Final = 1003
_BUILDTIME: Final = 1006
_SOURCERPM: Final = 1044
_SOURCEPACKAGE: Final = 1106
_RPMFORMAT: Final = 5114
_OLDFILENAMES, _DIRINDEXES, _BASENAMES, _DIRNAMES = 1027, 1116, 1117, 1118
# names, flags, versions
_RELATIONS: Final = {
    "requires": (1049, 1048, 1050), "provides": (1047, 1112, 1113), "conflicts": (1054, 1053, 1055),
    "obsoletes": (1090, 1114, 1115), "recommends": (5046, 5048, 5047), "suggests": (5049, 5051, 5050),
    "supplements": (5052, 5054, 5053), "enhances": (5055, 5057, 5056),
}  # fmt: skip
_SENSES: Final = ((2, "<"), (4, ">"), (8, "="))
_SCRIPTS: Final = {
    "pretrans": 1151, "pre": 1023, "post": 1024, "preun": 1025, "postun": 1026, "posttrans": 1152, "preuntrans": 5103,
    "postuntrans": 5104, "verify": 1079,
}  # fmt: skip
_KEY_REASON: Final = "The package is signed, but no OpenPGP key is pinned on this server, so nobody's signature can be confirmed."


@dataclass(slots=True)
class _Check:
    """One digest to compare: what it covers is fed to `state`."""

    name: str
    told: bytes
    state: "_Hash"
    alternative: tuple[bytes, str] | None = None  # digest of the unpacked payload, and its algorithm


@dataclass(slots=True)
class _Signed:
    """One signature, and the hash that it is over."""

    name: str
    packet: openpgp.Packet
    state: "_Hash | None"


@dataclass(slots=True)
class _Checks:
    """Everything that step 2 computes, by what it covers."""

    header: list[_Check] = field(default_factory=list)
    payload: list[_Check] = field(default_factory=list)
    package: list[_Check] = field(default_factory=list)  # main header and payload
    header_signed: list[_Signed] = field(default_factory=list)
    package_signed: list[_Signed] = field(default_factory=list)


def read(source: Source) -> Report:
    """A report of format `rpm`."""
    report = Report("rpm", platform="linux")
    _check_lead(source)  # 1
    signature = Header(source, LEAD_BYTES, name="signature header")
    main_offset = signature.end + -signature.end % 8
    main = Header(source, main_offset, name="main header")
    payload = source.window(main.end, source.size - main.end)
    _check_size(report, signature, source.size - main_offset)
    checks = _collect(signature, main)
    _feed(checks, main.blob, payload)  # 2
    _judge_digests(report, checks, main, payload)  # 3
    _judge_signatures(report, checks)
    _describe(report, main)  # 4
    _check_paths(report, main)
    return report


def _check_lead(source: Source) -> None:
    """rpm.org: only the magic counts; name and architecture in the lead are ignored by rpm and are often wrong."""
    if source.size < LEAD_BYTES:
        raise Malformed(NOT_RPM, f"it has {source.size} bytes")
    lead = source.at(0, LEAD_BYTES)
    if not lead.startswith(LEAD_MAGIC):
        raise Malformed(NOT_RPM, "the magic is missing")
    if not 3 <= lead[4] <= 6:
        raise Malformed(NOT_RPM, f"format {lead[4]} is not known")
    if int.from_bytes(lead[78:80], "big") != 5:
        raise Malformed(NOT_RPM, "the signature is not a header")


def _check_size(report: Report, signature: Header, actual: int) -> None:
    told = signature.integer(_SIG_LONGSIZE)
    if told is None:
        told = signature.integer(_SIG_SIZE)
        actual_here = actual % (1 << 32)
    else:
        actual_here = actual
    if told is not None and told != actual_here:
        report.add(SIZE_MISMATCH, f"{told} bytes announced, {actual} there")


def _collect(signature: Header, main: Header) -> _Checks:
    checks = _Checks()
    for tag, algorithm in _HEADER_DIGESTS.items():
        if (text := signature.string(tag)) is not None:
            checks.header.append(_check(f"header {algorithm}", text, algorithm))
    if (md5 := signature.binary(_SIG_MD5)) is not None:
        checks.package.append(_Check("header and payload md5", md5, hashlib.md5(usedforsecurity=False)))
    for tag, (alternative_tag, algorithm) in _PAYLOAD_DIGESTS.items():
        if tag in main:
            checks.payload.append(_payload_check(main, tag, alternative_tag, algorithm))
    for tag, name in _SIGNATURES_OF_HEADER.items():
        if (packet := signature.binary(tag)) is not None:
            checks.header_signed.append(_signed(name, packet))
    for tag, name in _SIGNATURES_OF_PACKAGE.items():
        if (packet := signature.binary(tag)) is not None:
            checks.package_signed.append(_signed(name, packet))
    if _SIG_OPENPGP in signature:
        for encoded in signature.raw_strings(_SIG_OPENPGP)[:SIGNATURES_MAX]:
            checks.header_signed.append(_signed("OPENPGP", _base64(encoded)))
    return checks


def _check(name: str, hexadecimal: str, algorithm: str) -> _Check:
    state = hashlib.new(algorithm, usedforsecurity=False)
    try:
        told = bytes.fromhex(hexadecimal)
    except ValueError as error:
        raise Malformed(BAD_HEADER, f"the digest {name} is not hexadecimal") from error
    if len(told) != state.digest_size:
        raise Malformed(BAD_HEADER, f"the digest {name} has {len(told)} bytes")
    return _Check(name, told, state)


def _payload_check(main: Header, tag: int, alternative_tag: int, algorithm: str) -> _Check:
    if tag == 5092 and (number := main.integer(_PAYLOADDIGESTALGO)) is not None:
        known = _ALGORITHMS.get(number)
        if known is None:
            raise Malformed(BAD_HEADER, f"the payload digest has the unknown algorithm {number}")
        algorithm = known
    check = _check(f"payload {algorithm}", main.string(tag) or "", algorithm)
    if alternative_tag in main:
        other = _check(f"unpacked payload {algorithm}", main.string(alternative_tag) or "", algorithm)
        check.alternative = (other.told, algorithm)
    return check


def _signed(name: str, data: bytes) -> _Signed:
    packet = openpgp.parse(data)
    return _Signed(name, packet, packet.begin())


def _base64(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text)
    except binascii.Error as error:
        raise Malformed(openpgp.BAD_PACKET, "it is not base 64") from error


def _feed(checks: _Checks, header: bytes, payload: Source) -> None:
    """Step 2."""
    states = [check.state for check in (*checks.header, *checks.package)]
    states += [
        each.state for each in (*checks.header_signed, *checks.package_signed) if each.state is not None
    ]
    for state in states:
        state.update(header)
    over_payload = [check.state for check in (*checks.payload, *checks.package)]
    over_payload += [each.state for each in checks.package_signed if each.state is not None]
    for piece in payload.chunks():
        for state in over_payload:
            state.update(piece)


def _judge_digests(report: Report, checks: _Checks, main: Header, payload: Source) -> None:
    agreed: list[str] = []
    for check in (*checks.header, *checks.payload, *checks.package):
        if hmac.compare_digest(check.state.digest(), check.told) or _alternative_fits(check, main, payload):
            agreed.append(check.name)
        else:
            report.add(DIGEST_MISMATCH, f"{check.name} is {check.state.hexdigest()}, not {check.told.hex()}")
    if not checks.payload and not checks.package:
        report.add(NO_DIGEST)
    report.details["digests"] = agreed


def _alternative_fits(check: _Check, main: Header, payload: Source) -> bool:
    """format_v6: "The alternatives allow freely switching between a compressed and uncompressed payload for a package"."""
    if check.alternative is None:
        return False
    told, algorithm = check.alternative
    compression = _COMPRESSORS.get(main.string(_TEXTS["payload_compressor"]) or "", Compression.NONE)
    head = payload.head(6)
    if head.startswith(b"07070"):
        compression = Compression.NONE
    state = hashlib.new(algorithm, usedforsecurity=False)
    for piece in Unpacked(payload.chunks(), compression).rest():
        state.update(piece)
    return hmac.compare_digest(state.digest(), told)


def _judge_signatures(report: Report, checks: _Checks) -> None:
    everything = [(each, "header") for each in checks.header_signed]
    everything += [(each, "header and payload") for each in checks.package_signed]
    report.details["signatures"] = [
        {"tag": each.name, "over": over, **each.packet.as_dict()} for each, over in everything
    ]
    if not everything:
        return
    report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_KEY_REASON)
    for each, over in everything:
        if each.state is not None and not each.packet.matches(each.state):
            report.add(SIGNATURE_CONTRADICTED, f"{each.name}, by key {each.packet.key_id}")
            reason = f"The signature {each.name} is over another {over} than the one here."
            report.signature = Signature(SignatureStatus.INVALID, reason=reason)


def _describe(report: Report, main: Header) -> None:
    details = report.details
    for key, tag in _TEXTS.items():
        if (text := main.string(tag)) is not None:
            details[key] = text[:TEXT_MAX_CHARS]
    for key in ("name", "version", "release"):
        if not details.get(key):
            report.add(MISSING_TAG, key)
    if (epoch := main.integer(_EPOCH)) is not None:
        details["epoch"] = str(epoch)
    if (built := main.integer(_BUILDTIME)) is not None:
        details["buildtime"] = str(built)
        details["build_date"] = _rfc3339(built)
    details["is_source"] = _SOURCERPM not in main or _SOURCEPACKAGE in main
    details["rpm_format"] = main.integer(_RPMFORMAT) or (4 if 63 in main else 3)
    details["scripts"] = [name for name, tag in _SCRIPTS.items() if tag in main]
    for key, tags in _RELATIONS.items():
        if relations := _relations(main, *tags):
            details[key] = relations
    report.metadata = Metadata(
        identifier=details.get("name"),
        version=details.get("version"),
        build=details.get("release"),
        archs=[details["arch"]] if details.get("arch") else [],
    )


def _rfc3339(seconds: int) -> str:
    """An unsigned 32-bit time, or (wrongly typed) a larger one, which no calendar has."""
    return dt.datetime.fromtimestamp(seconds & 0xFFFFFFFF, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _relations(main: Header, names: int, flags: int, versions: int) -> list[str]:
    """`name`, or `name >= version`, as rpm -q prints them."""
    shown: list[str] = []
    room = RELATIONS_MAX_CHARS
    senses, bounds = main.integers(flags), main.strings(versions)
    for index, name in enumerate(main.strings(names)[:RELATIONS_SHOWN]):
        sense = senses[index] if index < len(senses) else 0
        bound = bounds[index] if index < len(bounds) else ""
        operator = "".join(sign for bit, sign in _SENSES if sense & bit)
        shown.append(f"{name} {operator} {bound}" if operator and bound else name)
        room -= len(shown[-1])
        if room < 0:
            return shown[:-1]
    return shown


def _check_paths(report: Report, main: Header) -> None:
    """Names are split in folders and the rest; a name must not lead elsewhere than its folder says."""
    folders, bases, whole = main.strings(_DIRNAMES), main.strings(_BASENAMES), main.strings(_OLDFILENAMES)
    indexes = main.integers(_DIRINDEXES)
    if len(indexes) != len(bases) or any(index >= len(folders) for index in indexes):
        raise Malformed(BAD_HEADER, "the list of files does not fit its list of folders")
    report.details["file_count"] = len(bases) or len(whole)
    is_source = report.details["is_source"]
    for folder in folders:
        if ".." in folder.split("/") or not (folder.startswith("/") or is_source):
            report.add(UNSAFE_PATH, folder)
            return
    for base in bases:
        if base == ".." or "/" in base:
            report.add(UNSAFE_PATH, base)
            return
    for path in whole:
        if ".." in path.split("/"):
            report.add(UNSAFE_PATH, path)
            return
