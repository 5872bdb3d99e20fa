"""Packages of `dist pkg`, native (.dpk) and portable (.tar.gz): every byte verified, with the signature that they bring along.

`details`: the keys of `pipeline.package.describe`: format, shape, compression, bytes, manifest, signature; and `files`, where the tree is there.
A thin package's content lies elsewhere: what it names is not looked at, and `package.content-elsewhere` says so.

Rules: the signature is held against the key in the package, so a valid one is `self-signed`; whether this is the app's key is its policy's
matter. An unsigned package is sound, and says so.
Sources: docs/formats/content.md, docs/formats/package.md.
"""

import hashlib
from typing import Final

from pipeline import minisign
from pipeline.formats.facts import (
    Malformed,
    Metadata,
    Report,
    Rule,
    Severity,
    Signature,
    SignatureStatus,
    Signer,
    Trust,
    Unjudgeable,
)
from pipeline.formats.source import Source
from pipeline.package.describe import describe
from pipeline.package.errors import Category, PackageError
from pipeline.package.native import Shape
from pipeline.package.read import Package, verify_content
from pipeline.package.sealed import Answer, Sealed, judge
from pipeline.values import Platform

MALFORMED: Final = Rule(
    "package.malformed",
    Severity.ERROR,
    "The package is damaged, or not in its one form: {evidence}.",
    "Make it again with `dist pkg create`, and upload the complete file.",
    "docs/formats/package.md",
)
UNSUPPORTED: Final = Rule(
    "package.unsupported",
    Severity.WARNING,
    "The package cannot be read here: {evidence}.",
    "Make it with a `dist` of the server's version.",
    "docs/formats/package.md: only the current version is read",
    inconclusive=True,
)
BAD_SIGNATURE: Final = Rule(
    "package.bad-signature",
    Severity.ERROR,
    "The signature of the package does not hold: {evidence}.",
    "Sign it again with `dist pkg sign`; nothing of it may be changed afterwards.",
    "docs/formats/package.md, Signature and trust",
)
CONTENT_ELSEWHERE: Final = Rule(
    "package.content-elsewhere",
    Severity.INFO,
    "The package holds no content: {evidence}.",
    "Nothing to do if its content is published too; else make it with --shape fat.",
    "docs/formats/package.md, shapes",
)
RULES: Final = (MALFORMED, UNSUPPORTED, BAD_SIGNATURE, CONTENT_ELSEWHERE)


def read(source: Source) -> Report:
    """A report of format `dist-package`."""
    try:
        with source.file() as file:
            package = verify_content(file)
    except PackageError as error:
        if error.category is Category.UNSUPPORTED:
            raise Unjudgeable(UNSUPPORTED, str(error)) from error
        raise Malformed(MALFORMED, str(error)) from error
    said = package.sealed.manifest
    report = Report("dist-package")
    report.platform = Platform.ANY
    archs = sorted({artifact.arch for artifact in said.artifacts})
    report.metadata = Metadata(identifier=said.name, name=said.name, version=said.version, archs=archs)
    report.details = describe(package)
    if package.tree is not None:
        report.details["files"] = len(package.tree.entries)
    _judge_seal(report, package.sealed)
    if package.shape is not Shape.FAT:
        report.add(CONTENT_ELSEWHERE, _elsewhere(package))
    return report


def _judge_seal(report: Report, sealed: Sealed) -> None:
    """Against the key that the package brings; no key is trusted here."""
    judgement = judge(sealed, b"")
    if judgement.key is None:
        return
    if judgement.answer is Answer.REFUSED:
        report.add(BAD_SIGNATURE, judgement.reason)
        report.signature = Signature(SignatureStatus.INVALID, reason=judgement.reason)
        return
    subject = f"minisign key {minisign.shown_key_id(judgement.key.key_id)}"
    signer = Signer(subject, hashlib.sha256(judgement.key.key).hexdigest())
    report.signature = Signature(
        SignatureStatus.VALID, schemes=["minisign"], signers=[signer], trust=Trust.SELF_SIGNED
    )


def _elsewhere(package: Package) -> str:
    kind = "its manifest only" if package.shape is Shape.METADATA else "manifest, tree and chunk index"
    return f"{kind}; {package.sealed.manifest.content_bytes} bytes lie elsewhere"
