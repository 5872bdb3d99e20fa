"""Provenance: who built what, from which source. in-toto statements, as CI systems and `cosign`, `gh attestation` and SLSA's generators write them.

    {"_type": "https://in-toto.io/Statement/v1", "subject": […], "predicateType": "https://slsa.dev/provenance/v1", "predicate": {…}}

Read as a bare statement (v0.1, v1), in a DSSE envelope, in a Sigstore bundle, or as JSON Lines of these. Of the predicates, SLSA provenance v0.1, v0.2 and
v1 is understood; another one is listed by its type.

`details`: statements: for each envelope (statement, dsse, sigstore-bundle), statement_type, predicate_type, builder, build_type,
source {repository, ref, revision}, subjects {name, sha256}, and subject_count.
`signature`: unsigned where a statement is bare, else unverified: nobody has pinned a key for it.

Sources: in-toto Attestation Framework, Statement v1, DigestSet; DSSE protocol and envelope; sigstore protobuf-specs, Bundle; SLSA Provenance v0.1,
v0.2, v1.0. Left to others: whether the subjects are those of a release, and the source the one that it declares (`pipeline.provenance`).

Rules: what the specification asks for is an error when it is missing, since verifiers will refuse the document for it as well.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pipeline.formats import json_text
from pipeline.formats.facts import (
    Malformed,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Unjudgeable,
)
from pipeline.formats.json_text import JSON_TOO_LARGE
from pipeline.formats.source import Source

MALFORMED: Final = Rule(
    "provenance.malformed",
    Severity.ERROR,
    "The provenance does not follow its specification: {evidence}.",
    "Attach the file as the build system wrote it: an in-toto statement, a DSSE envelope, a Sigstore bundle, or JSON Lines of these.",
    "in-toto Attestation Framework, Statement; DSSE; SLSA Provenance",
)
UNKNOWN_VERSION: Final = Rule(
    "provenance.unknown-version",
    Severity.WARNING,
    "The provenance is of a version that is not read here: {evidence}.",
    "Write it as an in-toto statement v0.1 or v1.",
    "limit of this inspector",
    inconclusive=True,
)
OTHER_PREDICATE: Final = Rule(
    "provenance.other-predicate",
    Severity.INFO,
    "A statement says something else than how its subjects were built: {evidence}.",
    "Nothing, if it is meant; a builder is told by predicates of type https://slsa.dev/provenance/v1.",
    "SLSA Provenance, predicateType",
)
RULES: Final = (MALFORMED, UNKNOWN_VERSION, OTHER_PREDICATE, *json_text.RULES)

MAX_BYTES: Final = 16 << 20
STATEMENTS_MAX: Final = 1000
SUBJECTS_MAX: Final = 10_000  # of all statements together; a release has far fewer files
TEXT_MAX_CHARS: Final = 500

_STATEMENT: Final = "https://in-toto.io/Statement/"
_STATEMENTS: Final = ("v0.1", "v1")
_DSSE_TYPE: Final = "application/vnd.in-toto+json"
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle"
_SLSA: Final = re.compile(r"https://slsa\.dev/provenance/(v0\.1|v0\.2|v1(?:\.\d+)?)")
_BOM: Final = b"\xef\xbb\xbf"
_HEX_CHARS: Final = {"sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+")
_REASON: Final = "The {envelope} is signed; who may sign provenance is not pinned here, so that the signature was not checked."


@dataclass(frozen=True, slots=True)
class _Opened:
    """A statement, and what it lay in."""

    statement: Any
    envelope: str
    where: str


def read(source: Source) -> Report:
    """A report of format `in-toto`."""
    if source.size > MAX_BYTES:
        raise Unjudgeable(JSON_TOO_LARGE, f"the document has {source.size} bytes")
    report = Report("in-toto")
    opened = [_open(document, where) for document, where in _documents(source.at(0, source.size))]
    report.details = {"statements": []}
    left = SUBJECTS_MAX
    for one in opened:
        told = _statement(report, one, left)
        left -= told["subject_count"]
        report.details["statements"].append(told)
    signed = sorted({one.envelope for one in opened} - {"statement"})
    if signed and all(one.envelope != "statement" for one in opened):
        report.signature = Signature(
            SignatureStatus.UNVERIFIED, schemes=signed, reason=_REASON.format(envelope=" and ".join(signed))
        )
    return report


# -- from the file to statements --------------------------------------------------------------------


def _documents(data: bytes) -> Iterator[tuple[Any, str]]:
    """One document, or one on each line, with what findings call it."""
    data = data.removeprefix(_BOM).strip()
    lines = [line for line in data.splitlines() if line.strip()]
    # JSON on several lines has no line that begins an object and ends one, but for the first and last of one that fits on a line.
    if len(lines) < 2 or not all(line.strip()[:1] == b"{" and line.strip()[-1:] == b"}" for line in lines):
        yield json_text.load(data, name="the document"), "the document"
        return
    if len(lines) > STATEMENTS_MAX:
        raise Unjudgeable(JSON_TOO_LARGE, f"{len(lines)} documents, at most {STATEMENTS_MAX} are read")
    for number, line in enumerate(lines, 1):
        yield json_text.load(line, name=f"line {number}"), f"line {number}"


def _open(document: Any, where: str) -> _Opened:
    """The statement in one document."""
    if not isinstance(document, dict):
        raise Malformed(MALFORMED, f"{where} is no JSON object")
    if "_type" in document:
        return _Opened(document, "statement", where)
    if "payloadType" in document:
        return _Opened(_from_dsse(document, where), "dsse", where)
    if str(document.get("mediaType")).startswith(_BUNDLE):
        envelope = document.get("dsseEnvelope")
        if not isinstance(envelope, dict):
            raise Malformed(
                MALFORMED, f"{where} is a Sigstore bundle without a dsseEnvelope: it tells no provenance"
            )
        return _Opened(_from_dsse(envelope, f"{where}, dsseEnvelope"), "sigstore-bundle", where)
    raise Malformed(
        MALFORMED,
        f"{where} is neither a statement (_type), nor an envelope (payloadType), nor a bundle (mediaType)",
    )


def _from_dsse(envelope: dict[str, Any], where: str) -> Any:
    """DSSE envelope, version 1.0: base 64 of either alphabet."""
    kind, payload, signatures = (envelope.get(name) for name in ("payloadType", "payload", "signatures"))
    if kind != _DSSE_TYPE:
        raise Malformed(MALFORMED, f"{where}: payloadType is {_shown(kind)}, not {_DSSE_TYPE!r}")
    if not isinstance(payload, str):
        raise Malformed(MALFORMED, f"{where}: payload is missing")
    if not isinstance(signatures, list) or not signatures:
        raise Malformed(MALFORMED, f"{where}: an envelope has signatures, this one has none")
    for signature in signatures:
        value = signature.get("sig") if isinstance(signature, dict) else None
        if not isinstance(value, str) or not value:
            raise Malformed(MALFORMED, f"{where}: a signature has no sig")
        _decoded(value, f"{where}, sig")
    return json_text.load(_decoded(payload, f"{where}, payload"), name=f"{where}, payload")


def _decoded(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text.translate(_STANDARD), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(MALFORMED, f"{where} is not base 64") from error


_STANDARD: Final = str.maketrans("-_", "+/")


# -- what a statement says --------------------------------------------------------------------------


def _statement(report: Report, opened: _Opened, subjects_max: int) -> dict[str, Any]:
    statement, where = opened.statement, opened.where
    if not isinstance(statement, dict):
        raise Malformed(MALFORMED, f"{where}: the statement is no object")
    kind = statement.get("_type")
    if not isinstance(kind, str) or not kind.startswith(_STATEMENT):
        raise Malformed(MALFORMED, f"{where}: _type is {_shown(kind)}, not {_STATEMENT}v1")
    if kind.removeprefix(_STATEMENT) not in _STATEMENTS:
        raise Unjudgeable(UNKNOWN_VERSION, f"{where}: {kind[:100]}")
    predicate_type = _needed(statement, "predicateType", where)
    subjects = _subjects(statement.get("subject"), where, subjects_max)
    told: dict[str, Any] = {
        "envelope": opened.envelope,
        "statement_type": kind,
        "predicate_type": predicate_type[:TEXT_MAX_CHARS],
        "builder": None,
        "build_type": None,
        "source": None,
        "subject_count": len(subjects),
        "subjects": subjects,
    }
    slsa = _SLSA.fullmatch(predicate_type)
    if slsa is None:
        report.add(OTHER_PREDICATE, f"{where}: {predicate_type[:TEXT_MAX_CHARS]}")
        return told
    predicate = statement.get("predicate")
    if not isinstance(predicate, dict):
        raise Malformed(MALFORMED, f"{where}: predicate is missing")
    return told | (_slsa_1 if slsa[1].startswith("v1") else _slsa_0)(predicate, where)


def _subjects(found: Any, where: str, most: int) -> list[dict[str, str | None]]:
    """What was built, by digest. A digest is lower-case hex (DigestSet): two spellings of one would not be equal."""
    if not isinstance(found, list) or not found:
        raise Malformed(MALFORMED, f"{where}: it has no subject")
    if len(found) > most:
        raise Unjudgeable(JSON_TOO_LARGE, f"{where}: more than {SUBJECTS_MAX} subjects")
    subjects: list[dict[str, str | None]] = []
    for number, subject in enumerate(found):
        at = f"{where}, subject {number}"
        digests = subject.get("digest") if isinstance(subject, dict) else None
        if not isinstance(digests, dict) or not digests:
            raise Malformed(MALFORMED, f"{at} has no digest")
        for algorithm, value in digests.items():
            if not isinstance(value, str) or not value:
                raise Malformed(MALFORMED, f"{at}: {algorithm[:40]} is no text")
            chars = _HEX_CHARS.get(algorithm)
            if chars is not None and (len(value) != chars or not _HEX.fullmatch(value)):
                raise Malformed(
                    MALFORMED, f"{at}: {algorithm} is not {chars} lower-case hexadecimal digits: {value[:80]}"
                )
        name = subject.get("name")
        subjects.append(
            {
                "name": name[:TEXT_MAX_CHARS] if isinstance(name, str) else None,
                "sha256": digests.get("sha256"),
            }
        )
    return subjects


def _slsa_1(predicate: dict[str, Any], where: str) -> dict[str, Any]:
    """SLSA Provenance v1: buildDefinition and runDetails."""
    definition, run = _object(predicate, "buildDefinition", where), _object(predicate, "runDetails", where)
    builder = _needed(_object(run, "builder", where), "id", f"{where}, builder")
    build_type = _needed(definition, "buildType", where)
    parameters, dependencies = (
        definition.get("externalParameters"),
        _objects(definition.get("resolvedDependencies")),
    )
    parameters = parameters if isinstance(parameters, dict) else {}
    # What people ask to be built is a parameter; which revision that was, is among the dependencies.
    wanted = parameters.get("workflow"), parameters.get("source"), parameters.get("sourceToBuild")
    asked = next((one for one in wanted if isinstance(one, dict | str)), None)
    return {
        "builder": builder[:TEXT_MAX_CHARS],
        "build_type": build_type[:TEXT_MAX_CHARS],
        "source": _source(asked, dependencies),
    }


def _slsa_0(predicate: dict[str, Any], where: str) -> dict[str, Any]:
    """SLSA Provenance v0.1 and v0.2: builder, buildType (v0.1: recipe.type), invocation.configSource, materials."""
    builder = _needed(_object(predicate, "builder", where), "id", f"{where}, builder")
    recipe = predicate.get("recipe")
    build_type = recipe.get("type") if isinstance(recipe, dict) else _needed(predicate, "buildType", where)
    invocation = predicate.get("invocation")
    asked = invocation.get("configSource") if isinstance(invocation, dict) else None
    return {
        "builder": builder[:TEXT_MAX_CHARS],
        "build_type": build_type[:TEXT_MAX_CHARS] if isinstance(build_type, str) else None,
        "source": _source(asked, _objects(predicate.get("materials"))),
    }


# -- sources ------------------------------------------------------------------------------------------


def _source(asked: Any, dependencies: list[dict[str, Any]]) -> dict[str, str | None] | None:
    """The source that the build began with: what was asked for, with the revision of the dependency of the same address."""
    address, revision = asked, None
    if isinstance(asked, dict):
        address, revision = asked.get("uri") or asked.get("repository"), _revision(asked)
    gits = [one for one in dependencies if _revision(one) is not None and isinstance(one.get("uri"), str)]
    if not isinstance(address, str) or not address:
        if not gits:
            return None
        address = gits[0]["uri"]
    repository, ref = _split(address)
    if isinstance(asked, dict) and isinstance(asked.get("ref"), str):
        ref = asked["ref"]
    if revision is None:
        same = (one for one in gits if same_repository(_split(one["uri"])[0], repository))
        revision = next((_revision(one) for one in same), None)
    return {
        "repository": repository[:TEXT_MAX_CHARS],
        "ref": ref[:TEXT_MAX_CHARS] if ref else None,
        "revision": revision[:TEXT_MAX_CHARS] if revision else None,
    }


def _revision(descriptor: dict[str, Any]) -> str | None:
    """SLSA: `gitCommit`, or `sha1` where the address is one of git."""
    digests = descriptor.get("digest")
    if not isinstance(digests, dict):
        return None
    value = digests.get("gitCommit")
    if value is None and str(descriptor.get("uri")).startswith(("git+", "git:", "https://github.com/")):
        value = digests.get("sha1")
    return value if isinstance(value, str) and value else None


def _split(address: str) -> tuple[str, str | None]:
    """SPDX download location: `git+https://host/path@ref`. An `@` before the path belongs to the user."""
    address = address.removeprefix("git+")
    head, at, ref = address.rpartition("@")
    path = head.partition("://")[2] if "://" in head else ""
    return (head, ref) if at and "/" in path else (address, None)


def same_repository(one: str, other: str) -> bool:
    """Whether two addresses name one repository, as far as their spelling tells: scheme, user, `.git` and case of the host aside."""
    return _plain(one) == _plain(other)


def _plain(address: str) -> str:
    address = address.strip().removeprefix("git+").rstrip("/").removesuffix(".git").rstrip("/")
    scheme, separator, rest = address.partition("://")
    if not separator:
        rest = scheme.replace(":", "/", 1)  # git@host:path
    host, _, path = rest.partition("/")
    return f"{host.rpartition('@')[2].lower()}/{path.strip('/')}"


# -- small parts --------------------------------------------------------------------------------------


def _needed(found: dict[str, Any], name: str, where: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value:
        raise Malformed(MALFORMED, f"{where}: {name} is missing")
    return value


def _object(found: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = found.get(name)
    if not isinstance(value, dict):
        raise Malformed(MALFORMED, f"{where}: {name} is missing")
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _shown(value: Any) -> str:
    return repr(value[:80]) if isinstance(value, str) else "missing" if value is None else "no text"
