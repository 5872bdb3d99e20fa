"""Windows app packages: manifest, block map, signature, and every way in which one of them can lie."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from pipeline.formats import msix, msix_bundle
from pipeline.formats.facts import SignatureStatus, Trust, Verdict
from tests.support import build_authenticode as authenticode
from tests.support import build_msix as build
from tests.support.fixtures import index
from tests.support.judged import judged, judged_row, rules_of

ROWS = index(format="msix")
DIGEST = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])
def test_known_fixtures(row):
    expected = row["expected"]
    fields = expected.get("fields", {})
    report = judged_row(msix_bundle.read if fields.get("bundle") else msix.read, row)
    for key, value in fields.items():
        assert report.details[key] == value, key
    signature = expected.get("signature")
    if signature is None:
        return
    status = {
        "absent": SignatureStatus.UNSIGNED,
        "digest-ok": SignatureStatus.VALID,
        "digest-mismatch": SignatureStatus.INVALID,
    }[signature["state"]]
    assert report.signature.status is status
    if "signer_serials" in signature:
        assert [one["serial"] for one in report.details["signatures"]] == signature["signer_serials"]
    if "mismatching_digests" in signature:
        assert report.signature.reason == "AppxBlockMap.xml was changed"


def test_metadata_and_details_of_a_package():
    report = judged(msix.read, build.package())
    assert report.verdict is Verdict.ACCEPTED
    assert report.metadata.as_dict() == {
        "identifier": "Tiny.App",
        "name": "Tiny",
        "version": "1.2.3.4",
        "build": None,
        "min_os": "10.0.17763.0",
        "archs": ["x64"],
    }
    assert report.details["target_device_families"] == ["Windows.Desktop"]
    assert report.details["languages"] == ["en-us"]
    assert report.signature.status is SignatureStatus.UNSIGNED


def test_min_os_is_the_lowest_of_the_families():
    families = (
        build.DESKTOP
        + '<TargetDeviceFamily Name="Windows.Xbox" MinVersion="10.0.9.0" MaxVersionTested="10.0.9.0"/>'
    )
    report = judged(msix.read, build.package(manifest_xml=build.manifest(families=families)))
    assert report.metadata.min_os == "10.0.9.0"


def test_a_windows_8_package_has_no_device_families():
    xml = build.manifest(
        families="",
        namespace="http://schemas.microsoft.com/appx/2010/manifest",
        more="<Prerequisites><OSMinVersion>6.2</OSMinVersion></Prerequisites>",
    )
    report = judged(msix.read, build.package(manifest_xml=xml))
    assert report.verdict is Verdict.ACCEPTED
    assert report.metadata.min_os == "6.2"


def test_architecture_is_neutral_when_the_manifest_does_not_say():
    report = judged(msix.read, build.package(manifest_xml=build.manifest(architecture=None)))
    assert report.metadata.archs == ["neutral"]
    assert report.details["architecture"] is None


def test_the_logo_is_found_by_its_scale():
    def picture(side):
        file = io.BytesIO()
        Picture.new("RGB", (side, side), (0, 200, 0)).save(file, "PNG")
        return file.getvalue()

    files = {
        "Assets\\Logo.scale-100.png": picture(50),
        "Assets\\Logo.scale-200.png": picture(100),
        "Assets\\Logo.scale-400_contrast-black.png": picture(200),
        "Assets\\Logout.png": picture(300),
    }
    report = judged(msix.read, build.package(files=files))
    assert Picture.open(io.BytesIO(report.icon)).size == (100, 100)


def test_files_with_names_of_any_script():
    files = {"महसुस\\a b.txt": b"x", "100%.txt": b"y", "plus+.txt": b"z"}
    assert judged(msix.read, build.package(files=files)).verdict is Verdict.ACCEPTED


def test_compressed_data_may_end_with_a_flush():
    assert judged(msix.read, build.package(final_block=False)).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("name", ["data.bin", "stored.png"])
def test_files_of_each_size(size, name):
    report = judged(
        msix.read, build.package(files={name: bytes(range(256)) * (size // 256) + bytes(size % 256)})
    )
    assert report.verdict is Verdict.ACCEPTED, report.findings


def entry(name: str, size: int, *blocks: str) -> dict[str, str]:
    return {"changes": {name: f'<File Name="{name}" Size="{size}" LfhSize="38">{"".join(blocks)}</File>'}}


PAYLOAD = build.parts()


@pytest.mark.parametrize(
    "how",
    [
        entry("Tiny.exe", 100_000, f'<Block Hash="{DIGEST}" Size="1"/>', f'<Block Hash="{DIGEST}" Size="1"/>'),
        {"changes": {"Tiny.exe": ""}},
        {"changes": {"AppxManifest.xml": ""}},
        {"extra": f'<File Name="ghost.dll" Size="1" LfhSize="39"><Block Hash="{DIGEST}"/></File>'},
        {"extra": '<File Name="[Content_Types].xml" Size="0" LfhSize="49"/>'},
        {"extra": '<File Name="Tiny.exe" Size="0" LfhSize="38"/>'},
        entry("Tiny.exe", 99_999, f'<Block Hash="{DIGEST}"/>', f'<Block Hash="{DIGEST}"/>'),
        entry("Tiny.exe", 100_000, f'<Block Hash="{DIGEST}"/>'),
        entry("Assets\\Logo.png", 10, f'<Block Hash="{DIGEST}" Size="10"/>'),
    ],
    ids=[
        "other content", "file not in it", "manifest not in it", "file not in the package", "content types in it",
        "file twice", "other size", "too few blocks", "sizes of a stored file",
    ],
)  # fmt: skip
def test_block_maps_that_do_not_agree(how):
    report = judged(msix.read, build.package(**how))
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) >= {"msix.block-map"}
    assert report.metadata.identifier == "Tiny.App"


def test_all_files_that_disagree_are_named():
    changes = {name: f'<File Name="{name}" Size="7"><Block Hash="{DIGEST}"/></File>' for name in build.FILES}
    report = judged(msix.read, build.package(changes=changes))
    assert [finding.rule for finding in report.findings].count("msix.block-map") == len(build.FILES)


def test_a_wrong_header_size_is_told():
    plain = build.block_map(PAYLOAD[:4])
    report = judged(msix.read, build.package(map_xml=plain.replace(b'LfhSize="38"', b'LfhSize="39"')))
    assert report.verdict is Verdict.ACCEPTED
    assert "msix.header-size" in rules_of(report)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"2010/blockmap", b"2010/other"),
        (b"<BlockMap ", b"<b:BlockMap "),
        (b"HashMethod=", b"Method="),
        (b' Name="Tiny.exe"', b""),
        (b"<File ", b'<File Colour="red" '),
        (b"<File ", b"<Folder/><File "),
        (b'Hash="', b'Hash="!'),
        (b'Size="100000"', b'Size="-1"'),
        (b"</BlockMap>", b""),
    ],
)
def test_block_maps_that_break_their_schema(old, new):
    report = judged(msix.read, build.package(map_xml=build.block_map(PAYLOAD[:4]).replace(old, new, 1)))
    assert report.verdict is Verdict.REJECTED
    assert "msix.bad-xml" in rules_of(report)


def test_an_unknown_digest_cannot_be_judged():
    xml = build.block_map(PAYLOAD[:4]).replace(b"xmlenc#sha256", b"xmlenc#ripemd160")
    report = judged(msix.read, build.package(map_xml=xml))
    assert report.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "how",
    [
        {"name": "x"},
        {"name": "Tiny App"},
        {"name": "con"},
        {"name": "xn--tiny"},
        {"version": "1.2.3"},
        {"version": "1.2.3.65536"},
        {"version": "1.2.3.04"},
        {"architecture": "mips"},
        {"families": ""},
        {"more": '<Identity Name="Other" Publisher="CN=x" Version="1.0.0.0"/>'},
        {"publisher": ""},
        {"namespace": "http://schemas.microsoft.com/other"},
        {"families": '<TargetDeviceFamily Name="Windows.Desktop" MinVersion="10"/>'},
    ],
    ids=str,
)
def test_manifests_that_cannot_be_installed(how):
    report = judged(msix.read, build.package(manifest_xml=build.manifest(**how)))
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) & {"msix.bad-manifest", "msix.bad-xml"}


@pytest.mark.parametrize("left_out", ["AppxManifest.xml", "AppxBlockMap.xml", "[Content_Types].xml"])
def test_parts_that_every_package_has(left_out):
    files = [packed for packed in PAYLOAD if packed.name != left_out]
    report = judged(msix.read, build.container(files))
    assert report.verdict is Verdict.REJECTED
    assert "msix.missing-part" in rules_of(report)


def test_package_and_bundle_in_one():
    files = [*PAYLOAD, build.Packed("AppxMetadata\\AppxBundleManifest.xml", b"<Bundle/>")]
    assert "msix.two-manifests" in rules_of(judged(msix.read, build.container(files)))


@pytest.mark.parametrize(
    "content_types",
    [b"<Types/>", b"no xml", build.CONTENT_TYPES.replace(b"Extension", b"Ending"), b"\xff\xfe<"],
)
def test_content_types_that_break_their_schema(content_types):
    report = judged(msix.read, build.package(content_types=content_types))
    assert report.verdict is Verdict.REJECTED
    assert "msix.bad-xml" in rules_of(report)


@pytest.mark.parametrize(
    "xml",
    [
        b'<!DOCTYPE Package [<!ENTITY a "aaaa">]><Package>&a;</Package>',
        b'<!DOCTYPE Package SYSTEM "file:///etc/passwd"><Package/>',
        b"<a>" * 100 + b"</a>" * 100,
        b'<?xml version="1.0" encoding="no-such-code"?><Package/>',
        b"",
    ],
    ids=["entity", "external", "depth", "encoding", "empty"],
)
def test_xml_that_attacks_its_reader(xml):
    report = judged(msix.read, build.package(manifest_xml=xml))
    assert report.verdict is Verdict.REJECTED
    assert "msix.bad-xml" in rules_of(report)


@pytest.mark.parametrize(
    "name", ["a%2f..%2fb", "a%5cb", "%ff", "con.txt", "a.", "a%00b", "a%3fb", "%2e%2e/x"]
)
def test_names_that_windows_cannot_install(name):
    report = judged(msix.read, build.container([Raw(name), *PAYLOAD]))
    assert report.verdict is Verdict.REJECTED
    assert rules_of(report) & {"msix.bad-name", "zip.unsafe-name"}


class Raw(build.Packed):
    """A file whose name in the container is given as it is."""

    def __init__(self, name: str) -> None:
        super().__init__(name, b"x", stored=True)

    @property
    def part_name(self) -> str:
        return self.name


@pytest.mark.parametrize("magic", [b"EXPH", b"EXSH", b"EXBH"])
def test_encrypted_packages_cannot_be_inspected(magic):
    report = judged(msix.read, magic + bytes(4096))
    assert rules_of(report) == {"msix.encrypted"}
    assert report.verdict is Verdict.REJECTED


def test_encrypted_files_in_a_package():
    xml = build.block_map(PAYLOAD[:4]).replace(b"<File ", b'<File Encrypted="true" ', 1)
    assert "msix.encrypted" in rules_of(judged(msix.read, build.package(map_xml=xml)))


# --- signatures -------------------------------------------------------------------------------------------------------

SIGNED = build.package(sign=True, code_integrity=b"catalogue")


@pytest.mark.parametrize("code_integrity", [None, b"catalogue"])
@pytest.mark.parametrize("name", ["sha256", "sha512"])
def test_intact_signatures(code_integrity, name):
    report = judged(
        msix.read, build.package(sign=True, code_integrity=code_integrity, signing={"name": name})
    )
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.SELF_SIGNED
    assert report.signature.schemes == ["appx"]
    assert report.verdict is Verdict.ACCEPTED


@pytest.mark.parametrize("digest", [b"AXPC", b"AXCD", b"AXCT", b"AXBM", b"AXCI"])
def test_each_digest_is_checked(digest):
    signing = {"digests": {digest: bytes(32)}}
    report = judged(msix.read, build.package(sign=True, code_integrity=b"catalogue", signing=signing))
    assert report.signature.status is SignatureStatus.INVALID
    assert report.verdict is Verdict.REJECTED


@pytest.mark.parametrize("digest", [b"AXPC", b"AXCD", b"AXCT", b"AXBM", b"AXCI"])
def test_no_digest_may_be_left_out(digest):
    signing = {"left_out": [digest]}
    report = judged(msix.read, build.package(sign=True, code_integrity=b"catalogue", signing=signing))
    assert report.signature.status is SignatureStatus.INVALID


def test_a_digest_for_a_catalogue_that_is_not_there():
    report = judged(msix.read, build.package(sign=True, signing={"digests": {b"AXCI": bytes(32)}}))
    assert report.signature.status is SignatureStatus.INVALID


def test_the_signature_has_to_be_the_last_file():
    files = build.parts()
    signed = build.container(files, sign=True)
    signature = build.Packed("AppxSignature.p7x", signed_content(files))
    report = judged(msix.read, build.container([signature, *files]))
    assert report.signature.status is SignatureStatus.INVALID
    assert report.signature.reason == "AppxSignature.p7x is not the last file of the package"
    assert judged(msix.read, signed).signature.status is SignatureStatus.VALID


def signed_content(files):
    body = b"".join(map(build.local, files))
    return build.p7x(files, body, b"")


@pytest.mark.parametrize(
    "content", [b"", b"PKCX", b"CERT" + bytes(100), b"PKCX\x30\x82\xff\xff", b"PKCX" + bytes(64)]
)
def test_a_damaged_signature_does_not_look_like_none(content):
    report = judged(msix.read, build.container([*build.parts(), build.Packed("AppxSignature.p7x", content)]))
    assert report.signature.status is SignatureStatus.INVALID
    assert report.verdict is Verdict.REJECTED


def test_the_publisher_is_the_one_who_signed():
    xml = build.manifest(publisher="CN=Somebody else")
    report = judged(msix.read, build.package(sign=True, manifest_xml=xml))
    assert rules_of(report) >= {"msix.publisher-mismatch"}
    assert report.verdict is Verdict.REJECTED


def test_an_issuer_that_nobody_knows():
    report = judged(msix.read, build.package(sign=True, signing={"by": authenticode.signatory(issued=True)}))
    assert report.signature.status is SignatureStatus.VALID
    assert report.signature.trust is Trust.UNKNOWN_ROOT


@settings(max_examples=120, deadline=None)
@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_byte_of_a_signed_package_can_be_changed_unnoticed(offset, change):
    data = bytearray(SIGNED)
    data[offset] ^= change
    report = judged(msix.read, bytes(data))
    # What is outside of all digests: the signature's own record and header, and its CMS parts that nothing signs.
    at = SIGNED.index(b"AppxSignature.p7x") - 30
    if offset < at:
        assert report.verdict is not Verdict.ACCEPTED


@settings(max_examples=120, deadline=None)
@given(st.integers(0, len(SIGNED) - 1), st.binary(max_size=8), st.integers(0, 64), st.booleans())
def test_damage_anywhere_gives_a_report_or_a_finding(offset, inserted, removed, cut):
    judged(msix.read, SIGNED[:offset] + inserted + (b"" if cut else SIGNED[offset + removed :]))
