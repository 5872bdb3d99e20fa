"""Code signatures of executables: one changed byte anywhere is found, and what is not signed is not called signed."""

import plistlib
import struct
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats.codedirectory import parse_signature
from pipeline.formats.codesign import CodeSignature, verify_code
from pipeline.formats.content import MemoryContent
from pipeline.formats.facts import FormatError, Malformed, SignatureStatus, Trust
from tests.support.build_cms import CODE_SIGNING, family, make_identity
from tests.support.build_macho import (
    SIGNATURE_BYTES,
    Signing,
    cdhash,
    fat,
    replace,
    sign,
    signature,
    super_blob,
    thin,
)

ENTITLEMENTS = {"com.apple.security.app-sandbox": True}
INFO = plistlib.dumps({"CFBundleIdentifier": "com.example.app"})


def by_family(**changes: object) -> Signing:
    people = family()
    return Signing(people.leaf, (people.authority,), entitlements=ENTITLEMENTS, **changes)


def verified(executable: bytes, **parts: bytes) -> CodeSignature:
    return verify_code(MemoryContent(executable), **parts)


def rules(result: CodeSignature) -> set[str]:
    return {finding.rule for finding in result.findings}


def test_an_unsigned_executable_is_unsigned():
    result = verified(thin(signature_bytes=None))
    assert result.status is SignatureStatus.UNSIGNED
    assert not result.findings


def test_a_signed_executable_verifies_and_says_who_signed():
    executable = sign(thin(), by_family(info=INFO, resources=b"seal", team="TEAM123456", flags=0x10000))
    result = verified(executable, info_plist=INFO, seal=b"seal")
    assert result.status is SignatureStatus.VALID
    assert not result.findings
    assert (result.identifier, result.team_id) == ("com.example.app", "TEAM123456")
    assert result.trust is Trust.UNKNOWN_ROOT
    assert result.hardened_runtime
    assert result.seal_bound
    assert not result.ad_hoc
    assert result.entitlements == ENTITLEMENTS
    assert [signer.sha256 for signer in result.signers] == [family().leaf.sha256]
    assert [row.value for row in result.cdhashes] == [cdhash(executable).hex()]
    assert not result.kinds, "only Apple's certificates have a kind"


def test_a_self_signed_certificate_is_said_to_be_one():
    alone = make_identity("Alone", ekus=(CODE_SIGNING,), number=9)
    result = verified(sign(thin(), Signing(alone)))
    assert result.status is SignatureStatus.VALID
    assert result.trust is Trust.SELF_SIGNED


def test_ad_hoc_code_has_no_signer():
    result = verified(sign(thin(), Signing(flags=0x20000)))
    assert result.ad_hoc
    assert result.linker_signed
    assert not result.signers
    assert result.trust is None


@pytest.mark.parametrize("hashes", [("sha1",), ("sha1", "sha256"), ("sha384",), ("sha256",)])
def test_every_digest_algorithm_is_checked(hashes):
    executable = sign(thin(), by_family(hashes=hashes))
    assert verified(executable).status is SignatureStatus.VALID
    broken = bytearray(executable)
    broken[5000] ^= 1
    result = verified(bytes(broken))
    assert result.status is SignatureStatus.INVALID
    assert "codesign.code-changed" in rules(result)


@pytest.mark.parametrize("shift", [0, 12, 14])
def test_every_page_size_is_checked(shift):
    executable = sign(thin(), by_family(page_shift=shift))
    assert verified(executable).status is SignatureStatus.VALID
    broken = bytearray(executable)
    broken[-SIGNATURE_BYTES - 1] ^= 1
    assert "codesign.code-changed" in rules(verified(bytes(broken)))


def test_a_changed_info_plist_or_seal_is_found():
    executable = sign(thin(), by_family(info=INFO, resources=b"seal"))
    for parts in (
        {"info_plist": INFO},
        {"info_plist": INFO, "seal": b"other"},
        {"info_plist": b"x", "seal": b"seal"},
    ):
        result = verified(executable, **parts)
        assert result.status is SignatureStatus.INVALID
        assert rules(result) == {"codesign.part-changed"}


def test_entitlements_that_were_swapped_are_found():
    executable = sign(thin(), by_family())
    swapped = executable.replace(b"com.apple.security.app-sandbox", b"com.apple.security.get-taskall")
    assert swapped != executable
    assert "codesign.part-changed" in rules(verified(swapped))


def test_entitlements_that_nobody_signed_are_found():
    extra = {5: struct.pack(">II", 0xFADE7171, 8 + len(INFO)) + INFO}
    result = verified(sign(thin(), Signing(family().leaf, extra=extra)))
    assert "codesign.part-changed" in rules(result)


def test_bytes_that_are_not_hashed_are_found():
    assert "codesign.uncovered-bytes" in rules(verified(sign(thin(), by_family(short_by=4096))))


def test_bytes_behind_the_signature_are_found():
    assert "codesign.uncovered-bytes" in rules(verified(sign(thin(), by_family()) + b"payload"))
    assert verified(sign(thin(), by_family()) + bytes(64)).status is SignatureStatus.VALID


def test_a_signature_by_another_key_is_found():
    signing = by_family()
    other = replace(signing, identifier="com.example.other")
    executable = sign(thin(), signing)
    end = len(executable) - SIGNATURE_BYTES
    foreign = parse_signature(signature(executable[:end], other)).blobs[0x10000]
    own = parse_signature(executable[end:])
    swapped = executable[:end] + super_blob({**own.blobs, 0x10000: foreign}).ljust(SIGNATURE_BYTES, b"\0")
    assert "codesign.signature-invalid" in rules(verified(swapped))


def test_a_second_directory_that_was_swapped_is_found():
    signing = by_family(hashes=("sha1", "sha256"))
    code = thin()[:-SIGNATURE_BYTES]
    forged = parse_signature(signature(code, replace(signing, identifier="com.example.apq")))
    own = signature(code, signing)
    swapped = own.replace(parse_signature(own).blobs[0x1000], forged.blobs[0x1000])
    assert swapped != own
    result = verified(code + swapped.ljust(SIGNATURE_BYTES, b"\0"))
    assert "codesign.signature-invalid" in rules(result)


def test_a_second_directory_without_its_cdhash_is_nobodys():
    result = verified(sign(thin(), by_family(hashes=("sha1", "sha256"), attributes=False)))
    assert result.status is SignatureStatus.VALID
    assert rules(result) == {"codesign.unbound-directory"}


def test_every_slice_of_a_fat_file_is_checked():
    intact = sign(thin(arch="arm64"), by_family())
    other = sign(thin(arch="x86_64"), by_family())
    result = verified(fat(other, intact, archs=("x86_64", "arm64")))
    assert result.status is SignatureStatus.VALID
    assert {row.arch for row in result.cdhashes} == {"x86_64", "arm64"}
    broken = bytearray(intact)
    broken[6000] ^= 1
    result = verified(fat(other, bytes(broken), archs=("x86_64", "arm64")))
    assert result.status is SignatureStatus.INVALID
    assert "arm64" in (result.reason or "")


def test_a_slice_that_nobody_signed_is_found():
    slices = (sign(thin(arch="x86_64"), by_family()), thin(signature_bytes=None))
    assert "codesign.slice-unsigned" in rules(verified(fat(*slices, archs=("x86_64", "arm64"))))


def test_a_universal_file_that_only_the_linker_signed_is_no_error():
    slices = (thin(arch="x86_64", signature_bytes=None), sign(thin(), Signing(flags=0x20000)))
    result = verified(fat(*slices, archs=("x86_64", "arm64")))
    assert result.status is SignatureStatus.UNVERIFIED
    assert not result.findings


def test_bytes_between_slices_are_found():
    data = bytearray(fat(sign(thin(), by_family()), archs=("arm64",)))
    data[2000] = 1
    assert "codesign.uncovered-bytes" in rules(verified(bytes(data)))


def test_pages_that_the_app_store_encrypts_are_not_judged():
    command = struct.pack("<6I", 0x2C, 24, 4096, 4096, 1, 0)
    executable = bytearray(sign(thin(commands=(command,)), by_family()))
    executable[5000] ^= 1
    result = verified(bytes(executable))
    assert result.status is SignatureStatus.UNVERIFIED
    assert rules(result) == {"codesign.encrypted"}
    executable[-SIGNATURE_BYTES - 20] ^= 1
    assert verified(bytes(executable)).status is SignatureStatus.INVALID


def test_a_signature_without_certificate_that_is_not_ad_hoc_is_unverified():
    executable = sign(thin(), Signing())
    at = executable.index(struct.pack(">I", 0xFADE0C02)) + 12
    flags = struct.unpack_from(">I", executable, at)[0]
    changed = executable[:at] + struct.pack(">I", flags & ~2) + executable[at + 4 :]
    result = verified(changed)
    assert result.status is SignatureStatus.UNVERIFIED
    assert "codesign.no-certificate" in rules(result)


def test_a_leaf_that_is_not_for_code_is_not_trusted():
    people = family()
    wrong = make_identity(
        "Web",
        people.authority,
        number=11,
        not_after=people.leaf.certificate.not_valid_after_utc + timedelta(1),
    )
    result = verified(sign(thin(), Signing(wrong, (people.authority,))))
    assert result.trust is Trust.UNKNOWN_ROOT
    assert result.trust_reason


@pytest.mark.parametrize("size", [0, 4, 11, 30, 60, 100])
def test_a_signature_that_is_cut_off_is_refused(size):
    executable = sign(thin(), by_family())
    cut = executable[: -SIGNATURE_BYTES + size] + bytes(SIGNATURE_BYTES - size)
    with pytest.raises(Malformed):
        verified(cut)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_damage_is_found_or_refused(data):
    executable = sign(thin(b"\x90" * 5000), by_family(hashes=("sha1", "sha256"), info=INFO))
    at = data.draw(st.integers(0, len(executable) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    damaged = {
        "flip": executable[:at]
        + bytes([executable[at] ^ data.draw(st.integers(1, 255))])
        + executable[at + 1 :],
        "cut": executable[:at],
        "insert": executable[:at] + data.draw(st.binary(min_size=1, max_size=40)) + executable[at:],
    }[change]
    try:
        result = verified(damaged, info_plist=INFO)
    except FormatError:
        return
    if change == "flip" and at < len(executable) - SIGNATURE_BYTES:
        assert result.status is not SignatureStatus.VALID
