"""Provenance held against the release that it is attached to: its subjects are the release's files, its source the one that was declared.

One that is attached to an artifact has to name that artifact's SHA-256, one that is attached to the release that of at least one artifact; which
artifacts are left out is said. Each statement of several has to name a file of the release: one that fits must not bring in others, and their builders.
A statement whose source contradicts `source` of the release is a warning: build systems tell the commit of a merge where people tell that of a
branch. One that contradicts the commit of an artifact's identity in the distribution index is an error.

Left to others: reading it (`formats.provenance`), whether an artifact has to have one (the policy's rule `no-provenance`).
"""

from collections.abc import Sequence
from typing import Any, Final

from pipeline.formats.facts import Finding, Rule, Severity
from pipeline.formats.provenance import same_repository
from pipeline.models import Artifact, Release

KIND: Final = "provenance"
FORMAT: Final = "in-toto"
_SHOWN_MAX: Final = 5

SUBJECT_MISMATCH: Final = Rule(
    "provenance.subject-mismatch",
    Severity.ERROR,
    "The provenance is about other files than those it is attached to: {evidence}.",
    "Attach the provenance of this very build; a file that was signed or repacked after it has another digest, and needs one of its own.",
    "SLSA, Verifying artifacts: the subject's digest has to be the artifact's",
)
UNCOVERED: Final = Rule(
    "provenance.uncovered",
    Severity.INFO,
    "The provenance does not speak of every artifact of the release: {evidence}.",
    "Attach the provenance of these as well, if they were built by a system that writes one.",
    "what is not a subject is not vouched for",
)
SOURCE_DIFFERS: Final = Rule(
    "provenance.source-differs",
    Severity.WARNING,
    "The provenance names another source than the release declares: {evidence}.",
    "Correct `source` in dist.json, or find out which sources this was really built from.",
    "SLSA, Verifying artifacts: check the expectations of source",
)
IDENTITY_DIFFERS: Final = Rule(
    "provenance.identity-differs",
    Severity.ERROR,
    "The provenance names another commit than the artifact's identity in the distribution index: {evidence}.",
    "Correct `contract.git_rev` in dist.json, or find out which commit this was really built from.",
    "distribution contract: the identity holds the full git revision that was built",
)
RULES: Final = (SUBJECT_MISMATCH, UNCOVERED, SOURCE_DIFFERS, IDENTITY_DIFFERS)


def findings(release: Release, attachment: Artifact, artifacts: Sequence[Artifact]) -> list[Finding]:
    """What an attachment that was read says against its release. `artifacts` are all rows of the release."""
    if attachment.attachment_kind != KIND or attachment.format != FORMAT:
        return []
    files = [row for row in artifacts if row.attachment_kind is None and row.sha256 is not None]
    meant = [row for row in files if attachment.attached_to in {None, row.id}]
    named = digests_of(attachment)
    matched = [row for row in meant if row.sha256 in named]
    if not matched:
        return [SUBJECT_MISMATCH.finding(_mismatch(attachment, named, meant))]
    found = []
    uncovered = [row.filename or row.platform for row in meant if row.sha256 not in named]
    if uncovered:
        more = len(uncovered) - _SHOWN_MAX
        found.append(
            UNCOVERED.finding(", ".join(uncovered[:_SHOWN_MAX]) + (f" and {more} more" if more > 0 else ""))
        )
    of_the_release = {row.sha256 for row in files}
    strangers = [
        statement
        for statement in statements_of(attachment)
        if not of_the_release & {subject["sha256"] for subject in statement["subjects"]}
    ]
    if strangers:
        builder = strangers[0]["builder"] or "nobody in particular"
        return [
            SUBJECT_MISMATCH.finding(
                f"{len(strangers)} of its {len(statements_of(attachment))} statements (the first by {builder}) name no file of the release"
            )
        ]
    declared, digests = release.source or {}, {row.sha256 for row in matched}
    for statement in statements_of(attachment):
        if digests & {subject["sha256"] for subject in statement["subjects"]}:
            found += _source_findings(declared, statement["source"] or {}, _contracted(matched))
    return list(dict.fromkeys(found))


def covering(artifact: Artifact, artifacts: Sequence[Artifact]) -> int:
    """The provenance that tells who built this artifact. One that is not read yet may be of it."""
    return sum(
        row.attachment_kind == KIND
        and row.attached_to in {None, artifact.id}
        and (row.format is None or artifact.sha256 in digests_of(row, built=True))
        for row in artifacts
    )


def statements_of(attachment: Artifact) -> list[dict[str, Any]]:
    """What the reader found in it."""
    if attachment.attachment_kind != KIND or attachment.format != FORMAT:
        return []
    found: list[dict[str, Any]] = (attachment.details or {}).get("statements", [])
    return found


def digests_of(attachment: Artifact, *, built: bool = False) -> set[str]:
    """SHA-256 of every subject; with `built`, of those whose builder is told."""
    return {
        subject["sha256"]
        for statement in statements_of(attachment)
        if statement["builder"] is not None or not built
        for subject in statement["subjects"]
        if subject["sha256"] is not None
    }


def told(attachment: Artifact) -> list[dict[str, Any]]:
    """Each statement for people and programs, without its subjects."""
    return [
        {
            name: statement[name]
            for name in ("envelope", "predicate_type", "builder", "build_type", "source", "subject_count")
        }
        for statement in statements_of(attachment)
    ]


def _mismatch(attachment: Artifact, named: set[str], meant: Sequence[Artifact]) -> str:
    if not named:
        return "it names no SHA-256 at all"
    what = (
        f"{meant[0].filename} has SHA-256 {meant[0].sha256}"
        if attachment.attached_to is not None and meant
        else f"none of the release's {len(meant)} files is among its subjects"
    )
    return f"{what}, it names {len(named)}, the first {min(named)}"


def _contracted(matched: Sequence[Artifact]) -> str | None:
    """The commit by which one of these artifacts is known in the distribution index."""
    return next(
        (row.contract["git_rev"] for row in matched if row.contract and row.contract.get("git_rev")), None
    )


def _source_findings(
    declared: dict[str, Any], source: dict[str, Any], contracted: str | None
) -> list[Finding]:
    repository, revision = declared.get("repository"), declared.get("revision")
    found = []
    if contracted and source.get("revision") and contracted != source["revision"].lower():
        found.append(
            IDENTITY_DIFFERS.finding(
                f"revision {source['revision']}, the artifact's identity has {contracted}"
            )
        )
    if repository and source.get("repository") and not same_repository(repository, source["repository"]):
        found.append(SOURCE_DIFFERS.finding(f"repository {source['repository']}, declared is {repository}"))
    if revision and source.get("revision") and revision.lower() != source["revision"].lower():
        found.append(SOURCE_DIFFERS.finding(f"revision {source['revision']}, declared is {revision}"))
    return found
