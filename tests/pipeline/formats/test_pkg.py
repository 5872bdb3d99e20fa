"""macOS installer packages: the archive's digests, its two signatures, and what the product says of itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import pkg
from pipeline.formats.facts import SignatureStatus, Trust, Verdict
from tests.support.build_cms import END, family, make_identity
from tests.support.build_ticket import ticket
from tests.support.build_xar import COMPONENT, PRODUCT, File, Xar, replace, stapled
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of

INSTALLER = make_identity("Installer", family().authority, kind="rsa", number=31)
AUTHORITIES = (family().authority,)
SIGNED = Xar(rsa=INSTALLER, cms=INSTALLER, authorities=AUTHORITIES)


@pytest.mark.parametrize("row", [*index(format="pkg")], ids=lambda row: row["path"])
def test_known_fixtures(row):
    report = judged_row(pkg.read, row)
    if row["path"].startswith("hostile/"):
        return
    fields, signature = row["expected"]["fields"], row["expected"]["signature"]
    for key, value in fields.items():
        if key != "components":
            assert report.details[key] == value, key
    for ours, theirs in zip(report.details["components"], fields.get("components", []), strict=True):
        assert theirs.items() <= ours.items()
    for key, value in signature.items():
        if key != "present":
            assert report.details[key] == value, key
    assert (report.signature.status is not SignatureStatus.UNSIGNED) is signature["present"]
    assert report.metadata.identifier == fields["product_id"]
    assert report.metadata.version == fields["product_version"]
    if signature["present"]:
        assert report.details["certificate_kinds"] == ["developer-id-installer"]
        assert report.signature.trust is Trust.TRUSTED
        assert report.details["timestamped"]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512", "md5", None])
def test_a_product_archive_is_described(algorithm):
    report = judged(pkg.read, Xar(algorithm=algorithm).build())
    assert report.verdict is Verdict.ACCEPTED
    assert not report.findings
    assert report.metadata.as_dict() == {
        "identifier": "com.example.notes",
        "name": "Notes",
        "version": "1.4.0",
        "build": None,
        "min_os": None,
        "archs": ["arm64", "x86_64"],
    }
    assert report.signature.status is SignatureStatus.UNSIGNED
    assert report.details["toc_checksum_algorithm"] == algorithm
    assert report.details["pkg_refs"] == ["com.example.notes.app"]
    assert report.details["components"][0]["identifier"] == "com.example.notes.app"
    assert report.details["components"][0]["scripts"] == ["postinstall"]
    assert report.details["min_os_versions"] == ["12.0"]


def test_a_component_package_is_described():
    report = judged(pkg.read, Xar(COMPONENT).build())
    assert (report.metadata.identifier, report.metadata.version) == ("com.example.notes.app", "1.4.0.1")
    assert report.details["components"][0]["install_location"] == "/Applications"


def test_a_distribution_without_product_goes_by_its_component():
    bare = b"<installer-script><pkg-ref id='a.b' version='3'/></installer-script>"
    report = judged(pkg.read, Xar((File("Distribution", bare), PRODUCT[1])).build())
    assert (report.metadata.identifier, report.metadata.version) == ("com.example.notes.app", "1.4.0.1")
    report = judged(pkg.read, Xar((File("Distribution", bare),)).build())
    assert (report.metadata.identifier, report.metadata.version) == ("a.b", "3")
    report = judged(pkg.read, Xar((File("Distribution", b"<installer-script/>"),)).build())
    assert rules_of(report) == {"pkg.no-identifier"}


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
def test_both_signatures_verify(algorithm):
    report = judged(pkg.read, replace(SIGNED, algorithm=algorithm).build())
    assert not report.findings
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.schemes == ["xar-rsa", "xar-cms"]
    assert report.signature.trust is Trust.UNKNOWN_ROOT
    assert [signer.sha256 for signer in report.signature.signers] == [INSTALLER.sha256]


@pytest.mark.parametrize("change", [{"cms": None}, {"rsa": None}])
def test_either_signature_is_enough(change):
    assert judged(pkg.read, replace(SIGNED, **change).build()).signature.status is SignatureStatus.VALID


@pytest.mark.parametrize("change", [{"flip_rsa": True}, {"flip_cms": True}])
def test_either_broken_signature_spoils_the_other(change):
    report = judged(pkg.read, replace(SIGNED, **change).build())
    assert report.signature.status is SignatureStatus.INVALID
    assert rules_of(report) == {"pkg.signature-invalid"}
    assert report.metadata.identifier == "com.example.notes"


def test_a_digest_that_is_not_of_the_table_is_found():
    assert "xar.toc-changed" in rules_of(judged(pkg.read, Xar(flip_digest=True).build()))
    report = judged(pkg.read, replace(SIGNED, flip_digest=True).build())
    assert {"xar.toc-changed", "pkg.signature-invalid"} <= rules_of(report)


def test_a_signature_of_an_unknown_kind_is_unverified():
    report = judged(pkg.read, replace(SIGNED, rsa=None, style="PGP").build())
    assert report.signature.status is SignatureStatus.UNVERIFIED
    assert rules_of(report) == {"pkg.signature-style"}


def test_two_signers_are_noted():
    other = make_identity("Other", family().authority, kind="rsa", number=32, not_after=END)
    report = judged(pkg.read, replace(SIGNED, cms=other).build())
    assert rules_of(report) == {"pkg.different-signers"}


def test_a_changed_member_is_found():
    data = bytearray(Xar().build())
    data[-50] ^= 1  # in the payload
    report = judged(pkg.read, bytes(data))
    assert rules_of(report) == {"xar.member-changed"}
    assert report.verdict is Verdict.REJECTED
    assert judged(pkg.read, SIGNED.build()[:-50] + bytes(50)).signature.status is SignatureStatus.INVALID


def test_members_without_a_digest_are_noted_and_leave_a_signature_unverified():
    bare = (*PRODUCT[:2], replace(PRODUCT[2], checksum=None))
    assert rules_of(judged(pkg.read, Xar(bare).build())) == {"xar.no-checksum"}
    report = judged(pkg.read, replace(SIGNED, files=bare).build())
    assert report.signature.status is SignatureStatus.UNVERIFIED


@pytest.mark.parametrize(
    "encoding", ["application/x-bzip2", "application/x-lzma", "application/octet-stream"]
)
def test_every_packing_of_a_member_is_read(encoding):
    files = tuple(replace(file, encoding=encoding) for file in PRODUCT)
    assert judged(pkg.read, Xar(files).build()).metadata.identifier == "com.example.notes"


@pytest.mark.parametrize(
    "xar",
    [
        Xar((File("readme", b"x"),)),
        Xar((File("Distribution", b"no xml"),)),
        Xar(
            (File("Distribution", b'<!DOCTYPE x [<!ENTITY a "b">]><installer-script>&a;</installer-script>'),)
        ),
        Xar((replace(PRODUCT[0], size=10),)),
        Xar((replace(PRODUCT[0], size=100_000),)),
        Xar((replace(PRODUCT[0], offset=1 << 40),)),
        Xar(toc_bytes=100),
        Xar(toc_bytes=1 << 20),
        Xar(number=9),
        Xar(header_bytes=5000),
        Xar(toc_extra="<file><type>file</type></file>"),
        Xar(toc_extra="<file>" * 200 + "</file>" * 200),
        replace(SIGNED, toc_extra="<x-signature/>", cms=None, authorities=()),
    ],
)
def test_damaged_archives_are_rejected(xar):
    assert judged(pkg.read, xar.build()).verdict is Verdict.REJECTED


def test_two_names_for_one_file_do_not_matter_but_two_files_of_one_name_do():
    extra = "<file><name>Distribution</name><name>Distribution</name></file>"
    assert rules_of(judged(pkg.read, Xar(toc_extra=extra).build())) == {"xar.malformed"}
    extra = "<file><name>Other</name><name>Other</name></file>"
    assert not judged(pkg.read, Xar(toc_extra=extra).build()).findings


def test_a_table_that_unpacks_to_more_than_the_limit_is_not_judged():
    assert judged(pkg.read, Xar(toc_bytes=1 << 40).build()).verdict is Verdict.INCONCLUSIVE


def test_members_over_each_other_are_not_hashed_without_end():
    shared = tuple(
        replace(PRODUCT[2], path=f"m{number}", offset=20, length=1000 + number, archived="00" * 20)
        for number in range(200)
    )
    filler = File("filler", b"f" * 2000, "application/octet-stream")
    assert judged(pkg.read, Xar((*PRODUCT, *shared, filler)).build()).verdict is Verdict.INCONCLUSIVE


def test_a_stapled_ticket_is_found_between_its_trailers():
    package = SIGNED.build()
    report = judged(pkg.read, stapled(package, ticket(SIGNED.digest[:20])))
    assert report.details["notarization"]["stapled"]
    assert rules_of(report) == {"notarization.invalid-ticket"}, "it is not Apple's"
    assert report.signature.status is SignatureStatus.VALID


def test_bytes_behind_the_archive_are_noted_unless_they_are_zeros():
    assert rules_of(judged(pkg.read, Xar(trailing=b"payload").build())) == {"pkg.trailing-data"}
    assert not judged(pkg.read, Xar(trailing=bytes(500)).build()).findings


@pytest.mark.parametrize("size", [0, 3, 4, 27, 28, 40, 200])
def test_a_package_that_is_cut_off_is_rejected(size):
    assert judged(pkg.read, Xar().build()[:size]).verdict is Verdict.REJECTED


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_answered_and_never_called_valid(data):
    intact = SIGNED.build()
    at = data.draw(st.integers(0, len(intact) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    damaged = {
        "flip": intact[:at] + bytes([intact[at] ^ data.draw(st.integers(1, 255))]) + intact[at + 1 :],
        "cut": intact[:at],
        "insert": intact[:at] + data.draw(st.binary(min_size=1, max_size=40)) + intact[at:],
    }[change]
    report = judged(pkg.read, damaged)
    if report.signature.status is SignatureStatus.VALID:
        # Only parts that no signature covers: unsigned attributes and padding of the CMS, bytes behind the archive.
        assert change == "flip" or "pkg.trailing-data" in rules_of(report)
