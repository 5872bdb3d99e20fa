"""Every known fixture through the sandbox, as a worker inspects it: verdict, every field and every signature that other tools
established, within the limits.

The index speaks its tools' language. `METADATA` and `COMPARE` say where a report has what a tool printed; what is in neither is
looked up in `details` by the index's own name. A field that a report has not is a failure; the few that are no facts about
the file are named in `NOT_OF_THE_FILE`, each with its reason. Detached signatures are held against key and file in the tests of
their readers.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Verdict
from pipeline.formats.limits import Limits
from pipeline.formats.readers import READERS
from pipeline.formats.recognise import Format
from tests.support.fixtures import fixture, index, require_index
from workers.sandbox import Inspection, Sandbox

MAX_RSS_BYTES = 512 << 20
LIMITS = Limits(wall_seconds=30)

# A detached signature by itself is sound; these are wrong for a certain file or key, which an inspection of one file does not have.
NEEDS_THE_SIGNED_FILE = {
    "minisign/idna-3.10.tar.gz.comment.minisig",
    "minisign/idna-3.10.tar.gz.other.minisig",
    "sparkle/DevSignedApp-bad-signature.sparkle.json",
    "sparkle/upstream-bad.sparkle.json",
}
# The index calls bundles by the format of what they bundle.
BUNDLES = {".msixbundle", ".appxbundle"}

NOT_OF_THE_FILE = {
    "dpkg_error": "the words of dpkg; a finding says it here",
    "signed_file": "another fixture",
    "public_key": "another file",
    "jarsigner": "the words of jarsigner; `state` is compared",
    "tool_errors": "the words of apksigner; a finding says it here",
    "rpmkeys": "the words of rpmkeys; `digests` and `signatures` are compared below",
    "keys_imported": "keys of the tool that looked",
    "validation_error": "the words of another library; a finding says it here",
    "validator_message": "the words of another library; a finding says it here",
    "chain": "what Debian's bundle of TLS roots says; ours are Apple's and Microsoft's",
}

# Index name → where Android packages have it in `metadata`.
METADATA = {
    "package": "identifier",
    "versionName": "version",
    "versionCode": "build",
    "minSdk": "min_os",
    "label": "name",
    "abis": "archs",
}
# LIEF's names of processors → those of Apple.
APPLE_ARCHS = {"ARM": "armv7", "ARM64": "arm64", "X86_64": "x86_64"}
# The states of the index → our status. An intact signature of a weak algorithm is valid with a warning.
STATES = {"absent": "unsigned", "digest-ok": "valid", "digest-mismatch": "invalid", "weak-algorithm": "valid"}

Told = dict[str, Any]
Compare = Callable[[Told, Any], bool]


def subject_text(name: str) -> set[str]:
    """The attributes of a name, in whatever order and notation a tool prints them."""
    separator = "/" if name.startswith("/") else ","
    return {part.strip() for part in name.strip("/").split(separator)}


def is_signed(told: Told, expected: Any) -> bool:
    return (told["signature"]["status"] != "unsigned") is expected


def is_accepted_where(value: Any) -> Compare:
    return lambda told, expected: (told["verdict"] == "accepted") is (expected == value)


def detail_at_least(key: str) -> Compare:
    """A tool lists part of what is there: a mapping, or a row of them."""

    def compare(told: Told, expected: Any) -> bool:
        rows, wanted = told["details"][key], expected
        if isinstance(wanted, dict):
            rows, wanted = [rows], [wanted]
        return len(rows) == len(wanted) and all(
            row | want == row for row, want in zip(rows, wanted, strict=True)
        )

    return compare


def apple_archs(told: Told, expected: Any) -> bool:
    return told["metadata"]["archs"] == [APPLE_ARCHS[arch] for arch in expected]


def signatures(told: Told) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = told["details"].get("signatures", [])
    return rows


COMPARE: dict[str, Compare] = {
    # What a tool's exit status says.
    "dpkg_info_rc": is_accepted_where(0),
    "dpkg_contents_rc": is_accepted_where(0),
    "sevenzip_test": is_accepted_where("ok"),
    "unzip_test_rc": is_accepted_where(0),
    "sevenzip_test_rc": is_accepted_where(0),
    "record_valid": is_accepted_where(True),
    "schema_valid": is_accepted_where(True),
    "rpmkeys_rc": lambda told, expected: (told["signature"]["status"] == "unsigned") is (expected == 0),
    "tool_verdict": lambda told, expected: (
        (told["signature"]["status"] == "valid") is (expected == "verifies")
        # apksigner does not know what stands before the archive
        or "apk.janus" in {finding["rule"] for finding in told["findings"]}
    ),
    # A tool's choice of names, or part of what we list.
    "ipa.archs": apple_archs,
    "app-zip.archs": apple_archs,
    "ar_members": lambda told, expected: told["details"].get("ar_members", []) == expected,
    "app": detail_at_least("app"),
    "pkg.components": detail_at_least("components"),
    "desktop_entry": detail_at_least("desktop_entry"),
    "permissions_implied_by_aapt": lambda told, expected: told["details"]["permissions_implied"] == expected,
    # Signatures.
    "present": is_signed,
    "minisign.state": lambda told, _: (
        told["signature"]["status"] == "unverified"
    ),  # key and file are not at hand
    "state": lambda told, expected: told["signature"]["status"] == STATES[expected],
    "schemes": lambda told, expected: told["signature"]["schemes"] == expected,
    "signer_cert_sha256": lambda told, expected: (
        [signer["sha256"] for signer in told["signature"]["signers"]] == expected
        or told["signature"]["status"] == "invalid"
    ),
    "signatures": lambda told, expected: len(signatures(told)) == expected,
    "timestamped": lambda told, expected: any(one["timestamped"] for one in signatures(told)) is expected,
    "signer_serials": lambda told, expected: [one["serial"] for one in signatures(told)] == expected,
    "signer_subjects": lambda told, expected: (
        [subject_text(one["subject"]) for one in signatures(told)] == [subject_text(one) for one in expected]
    ),
    "digest_algorithms": lambda told, expected: (
        [one["digest_algorithm"].upper() for one in signatures(told)] == expected
    ),
    # osslsigncode stops at the first that differs.
    "digest_kinds_checked": lambda told, expected: (
        set(expected) <= set(told["details"]["digest_kinds_checked"])
        and (told["signature"]["status"] == "invalid" or told["details"]["digest_kinds_checked"] == expected)
    ),
    "macho_code_signature": lambda told, expected: (
        (told["details"]["code_signature"]["status"] != "unsigned")
        is all(expected if isinstance(expected, list) else [expected])
    ),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


def inspected(sandbox: Sandbox, row: dict[str, Any]) -> Inspection:
    path = fixture(row["path"])
    name = row.get("upload_as") or row["expected"].get("upload_as") or path.name
    return sandbox.inspect(path, declared=Declared(filename=name), limits=LIMITS)


def allowed_verdicts(row: dict[str, Any]) -> set[Verdict]:
    if row["path"] in NEEDS_THE_SIGNED_FILE:
        return {Verdict.ACCEPTED}
    match row["expected"]["verdict"]:
        case "accept":
            return {Verdict.ACCEPTED}
        case "reject" if row["path"].startswith("hostile/"):
            return {Verdict.REJECTED, Verdict.INCONCLUSIVE}
        case "reject":
            return {Verdict.REJECTED}
    return set(Verdict)


def differences(row: dict[str, Any], told: Told) -> list[str]:
    """One line for each field of the index that the report contradicts or does not have."""
    expected = row["expected"]
    found = []
    for key, value in [*expected.get("fields", {}).items(), *expected.get("signature", {}).items()]:
        if key in NOT_OF_THE_FILE:
            continue
        compare = COMPARE.get(f"{row['format']}.{key}") or COMPARE.get(key)
        if compare:
            same = compare(told, value)
            shown = told["signature"] if key in expected.get("signature", {}) else told["details"]
        elif key in METADATA and row["format"] in ("apk", "aab"):
            shown = told["metadata"][METADATA[key]]
            same = shown == value
        else:
            shown = told["details"].get(key, "not there")
            same = shown == value
        if not same:
            found.append(f"{key}: {value!r} expected, {shown!r} told")
    return found


@pytest.mark.parametrize("row", index(), ids=lambda row: row["path"])
def test_everything_said_of_a_file_is_what_other_tools_established(
    sandbox: Sandbox, row: dict[str, Any]
) -> None:
    inspection = inspected(sandbox, row)
    told = f"{inspection.report['findings']} {inspection.log}"
    rules = {finding["rule"] for finding in inspection.report["findings"]}
    assert not inspection.crashed, told
    assert not rules & {"inspect.reader-failed", "inspect.timeout", "inspect.memory"}, told
    assert inspection.max_rss_bytes < MAX_RSS_BYTES
    assert inspection.verdict in allowed_verdicts(row), told
    if inspection.verdict is not Verdict.ACCEPTED:
        assert all(finding["message"] and finding["remedy"] for finding in inspection.report["findings"])
    if row["expected"]["verdict"] == "accept":
        is_bundle = any(row["path"].endswith(ending) for ending in BUNDLES)
        assert inspection.report["format"] == ("msix-bundle" if is_bundle else row["format"])
    assert differences(row, inspection.report) == []


@pytest.mark.parametrize("row", index(format="rpm", hostile=False), ids=lambda row: row["path"])
def test_the_digests_that_rpm_checks_are_checked(sandbox: Sandbox, row: dict[str, Any]) -> None:
    lines = row["expected"]["signature"]["rpmkeys"]
    details = inspected(sandbox, row).report["details"]
    digests = [line.removesuffix(": OK").lower() for line in lines if line.endswith("digest: OK")]
    ours = [f"{digest.replace('header and payload', '').strip()} digest" for digest in details["digests"]]
    assert sorted(ours) == sorted(digests)
    keys = [line.partition("key ID ")[2].removesuffix(": NOKEY") for line in lines if "key ID" in line]
    assert [one["key_id"][-8:] for one in details["signatures"]] == keys


def test_the_fixtures_are_there() -> None:
    assert len(require_index()) > 90


def test_every_recognised_format_has_a_row_in_the_table_of_readers() -> None:
    assert READERS.keys() == set(Format)
    assert all(reader.exists for reader in READERS.values())
