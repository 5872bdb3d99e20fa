import stat
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.formats.facts import FormatError, Malformed, Unjudgeable
from pipeline.formats.zip import RULES, ZipArchive, ZipPolicy
from tests.support.build_zip import Member, build_zip, central_part, end_part, local_part
from tests.support.source_of import source_of

TWO = (Member("a.txt", b"alpha"), Member("b/c.txt", b"beta" * 1000, deflate=True))


def contents(data: bytes, policy: ZipPolicy | None = None) -> dict[str, bytes]:
    with source_of(data) as source:
        archive = ZipArchive(source, policy)
        return {entry.name: archive.read(entry, 1 << 20) for entry in archive.entries}


def refusal(data: bytes, policy: ZipPolicy | None = None) -> str:
    with pytest.raises(FormatError) as caught:
        contents(data, policy)
    assert caught.value.finding.rule in {rule.id for rule in RULES}
    return caught.value.finding.rule


def test_stored_and_deflated_members_come_back():
    assert contents(build_zip(*TWO)) == {"a.txt": b"alpha", "b/c.txt": b"beta" * 1000}


def test_zip64_end_records_are_read():
    assert contents(build_zip(*TWO, zip64=True))["a.txt"] == b"alpha"


def test_zip64_is_refused_where_the_format_knows_none():
    assert refusal(build_zip(*TWO, zip64=True), ZipPolicy(zip64=False)) == "zip.zip64"


def test_zip64_values_come_from_the_extra_field_in_order():
    content = b"x" * 9
    member = Member("big", content)
    extra = struct.pack("<HHQQ", 1, 16, 9, 9)
    body = local_part(member)
    record = bytearray(central_part(Member("big", content, central_extra=extra), 0))
    record[20:28] = b"\xff" * 8
    assert contents(body + bytes(record) + end_part(1, len(record), len(body))) == {"big": content}


def test_comment_of_the_greatest_length_is_found():
    assert "a.txt" in contents(build_zip(*TWO, comment=b"c" * 65535))


def test_an_empty_archive_has_no_entries():
    assert contents(build_zip()) == {}


@pytest.mark.parametrize(
    "descriptor",
    ["<4sIII", "<III", "<4sIQQ", "<IQQ"],
)
def test_data_descriptors_that_agree_are_accepted(descriptor):
    content = b"streamed"
    values = (zlib.crc32(content), len(content), len(content))
    signature = (b"PK\7\x08",) if "s" in descriptor else ()
    member = Member("s", content, flags=8, descriptor=struct.pack(descriptor, *signature, *values))
    assert contents(build_zip(member)) == {"s": content}


def test_a_data_descriptor_that_lies_is_refused():
    member = Member("s", b"streamed", flags=8, descriptor=struct.pack("<4sIII", b"PK\7\x08", 1, 8, 8))
    assert refusal(build_zip(member)) == "zip.header-mismatch"


def test_a_missing_data_descriptor_is_refused():
    assert refusal(build_zip(Member("s", b"streamed", flags=8, descriptor=b""))) == "zip.header-mismatch"


@pytest.mark.parametrize("cut", [1, 10, 22, 60])
def test_an_archive_without_its_end_is_refused(cut):
    assert refusal(build_zip(*TWO)[:-cut]) in {"zip.no-end", "zip.malformed"}


def test_text_is_no_archive():
    assert refusal(b"hello") == "zip.no-end"
    assert refusal(b"") == "zip.no-end"


def test_data_behind_the_end_is_refused():
    assert refusal(build_zip(*TWO) + b"more") == "zip.trailing-data"


def test_a_second_end_in_the_comment_is_refused():
    assert refusal(build_zip(*TWO, comment=end_part(0, 0, 0))) == "zip.several-ends"
    assert refusal(build_zip(*TWO, comment=b"PK\5\6" + bytes(30))) == "zip.several-ends"


def test_bytes_between_directory_and_end_are_refused():
    assert refusal(build_zip(*TWO, after_directory=b"gap")) == "zip.malformed"


def test_more_records_than_announced_are_refused():
    body = local_part(TWO[0])
    record = central_part(TWO[0], 0)
    assert refusal(body + record + record + end_part(1, 2 * len(record), len(body))) == "zip.malformed"


def test_a_gap_before_the_end_is_allowed_where_the_format_says_so():
    assert "a.txt" in contents(build_zip(*TWO, after_directory=b"gap"), ZipPolicy(gap_before_end=True))


def test_all_defects_that_do_not_stop_the_reading_can_be_had_at_once():
    data = build_zip(Member("../up", b"1"), Member("a"), Member("a"), before_directory=b"gap", prefix=b"p")
    with source_of(data) as source:
        archive = ZipArchive(source, ZipPolicy(collect=True))
    assert [problem.rule for problem in archive.problems] == [
        "zip.unsafe-name", "zip.duplicate-entry", "zip.prefix-data", "zip.hidden-data",
    ]  # fmt: skip


def test_an_announced_count_is_bounded_before_anything_is_read():
    with source_of(build_zip(*TWO)) as source, pytest.raises(Unjudgeable) as caught:
        ZipArchive(source, ZipPolicy(max_entries=1))
    assert caught.value.finding.rule == "zip.too-many-entries"
    assert refusal(end_part(60000, 0, 0)) == "zip.malformed"


def test_prefix_data_is_refused_unless_the_format_judges_it():
    data = build_zip(*TWO, prefix=b"dex\n035\0")
    assert refusal(data) == "zip.prefix-data"
    with source_of(data) as source:
        assert ZipArchive(source, ZipPolicy(prefix=True)).prefix_bytes == 8


def test_hidden_data_is_refused_unless_the_format_has_gaps():
    data = build_zip(*TWO, before_directory=b"hidden")
    assert refusal(data) == "zip.hidden-data"
    with source_of(data) as source:
        assert ZipArchive(source, ZipPolicy(gaps=True)).hidden_bytes == 6


def signing_block(pairs: bytes = b"") -> bytes:
    size = struct.pack("<Q", len(pairs) + 24)
    return size + pairs + size + b"APK Sig Block 42"


def test_a_signing_block_is_known_by_both_sizes_and_its_magic():
    policy = ZipPolicy(signing_block=True)
    with source_of(build_zip(*TWO, before_directory=signing_block(b"12345678"))) as source:
        archive = ZipArchive(source, policy)
        assert archive.signing_block == (archive.directory_offset - 40, 40)
        assert archive.hidden_bytes == 0
    broken = b"\0" + signing_block(b"12345678")[1:]
    assert refusal(build_zip(*TWO, before_directory=broken), policy) == "zip.hidden-data"
    assert refusal(build_zip(*TWO, before_directory=signing_block())) == "zip.hidden-data"


def test_two_entries_over_one_local_header_are_refused():
    body = local_part(TWO[0])
    directory = central_part(TWO[0], 0) + central_part(Member("other", b"alpha", local_name=b"a.txt"), 0)
    assert refusal(body + directory + end_part(2, len(directory), len(body))) == "zip.header-mismatch"


def test_overlapping_entries_are_refused():
    inner = Member("i", b"inside")
    outer = Member("o", b"12" + local_part(inner))
    body = local_part(outer)
    directory = central_part(outer, 0) + central_part(inner, 30 + 1 + 2)
    assert refusal(body + directory + end_part(2, len(directory), len(body))) == "zip.overlapping-entries"


def test_the_same_name_twice_is_refused():
    assert refusal(build_zip(Member("a"), Member("a"))) == "zip.duplicate-entry"
    assert refusal(build_zip(Member("a/"), Member("a"))) == "zip.duplicate-entry"


def test_names_that_differ_in_case_are_duplicates_only_where_the_format_says_so():
    data = build_zip(Member("R"), Member("r"))
    assert set(contents(data)) == {"R", "r"}
    assert refusal(data, ZipPolicy(fold_names=True)) == "zip.duplicate-entry"


@pytest.mark.parametrize(
    "name", ["../up", "a/../../up", "/etc/passwd", "C:/x", "a\\b", "a\nb", "a\0b", "", "/", "x/.."]
)
def test_unsafe_names_are_refused(name):
    assert refusal(build_zip(Member(name))) == "zip.unsafe-name"


def test_backslashes_are_separators_where_the_format_has_them():
    policy = ZipPolicy(backslashes=True)
    assert set(contents(build_zip(Member("a\\b")), policy)) == {"a\\b"}
    assert refusal(build_zip(Member("..\\b")), policy) == "zip.unsafe-name"


def test_a_name_that_claims_to_be_utf8_must_be():
    assert refusal(build_zip(Member(b"\xff", flags=0x800))) == "zip.unsafe-name"
    assert set(contents(build_zip(Member(b"\x81")))) == {"ü"}


def test_a_second_unicode_name_must_not_disguise_the_first():
    other = b"evil"
    extra = struct.pack("<HHBI", 0x7075, 5 + len(other), 1, zlib.crc32(b"good")) + other
    assert refusal(build_zip(Member("good", central_extra=extra))) == "zip.header-mismatch"


@pytest.mark.parametrize(
    "member",
    [
        Member("a", b"x", local_name=b"b"),
        Member("a", b"x", local_method=8),
        Member("a", b"x", local_size=2),
        Member("a", b"x", size=2),
    ],
)
def test_headers_that_contradict_each_other_are_refused(member):
    assert refusal(build_zip(member)) == "zip.header-mismatch"


def test_android_ignores_the_local_method_and_takes_unknown_ones_for_deflate():
    policy = ZipPolicy(android_methods=True)
    member = Member("a", b"x" * 50, deflate=True, method=21)
    assert contents(build_zip(member), policy) == {"a": b"x" * 50}
    member = Member("a", b"x" * 50, deflate=True, local_method=0)
    assert contents(build_zip(member), policy) == {"a": b"x" * 50}
    assert refusal(build_zip(Member("a", b"x", method=14))) == "zip.method"


def test_encrypted_entries_are_refused():
    assert refusal(build_zip(Member("a", b"x", flags=1))) == "zip.encrypted"


def test_links_inside_are_kept_and_links_out_are_refused():
    link = stat.S_IFLNK | 0o777
    inside = build_zip(Member("d/link", b"../a", mode=link), Member("a"))
    assert contents(inside)["d/link"] == b"../a"
    assert refusal(inside, ZipPolicy(links=False)) == "zip.unsafe-link"
    for target in (b"/etc/passwd", b"../../a", b"", b"x/../../../a"):
        assert refusal(build_zip(Member("d/link", target, mode=link))) == "zip.unsafe-link"
    assert refusal(build_zip(Member("l", b"d", mode=link), Member("l/x"))) == "zip.unsafe-link"
    assert refusal(build_zip(Member("dev", mode=stat.S_IFCHR))) == "zip.unsafe-link"


def test_damaged_members_are_refused():
    packed = bytearray(build_zip(Member("a", bytes(range(256)) * 40, deflate=True)))
    packed[40] ^= 0xFF
    assert refusal(bytes(packed)) == "zip.corrupt-member"
    plain = bytearray(build_zip(Member("a", b"content")))
    plain[33] ^= 1
    assert refusal(bytes(plain)) == "zip.corrupt-member"


def test_a_member_that_is_longer_or_shorter_than_it_says_is_refused():
    for size in (99, 101):
        assert refusal(build_zip(Member("a", b"z" * 100, deflate=True, size=size))) == "zip.corrupt-member"


def test_a_claim_that_deflate_cannot_hold_is_a_bomb():
    assert refusal(build_zip(Member("a", b"x", deflate=True, size=1 << 30))) == "zip.bomb"


def test_a_whole_that_unpacks_to_too_much_is_a_bomb():
    members = [Member(f"{index}", bytes(16 << 20), deflate=True) for index in range(17)]
    assert refusal(build_zip(*members)) == "zip.bomb"


def test_a_member_over_the_callers_limit_is_not_read():
    with source_of(build_zip(*TWO)) as source:
        archive = ZipArchive(source)
        with pytest.raises(Unjudgeable):
            archive.read(archive.entries[1], 3999)


def test_a_stored_member_is_a_window_of_the_source():
    with source_of(build_zip(*TWO)) as source:
        archive = ZipArchive(source)
        window = archive.window(archive.entries[0])
        assert window is not None
        assert window.at(0, window.size) == b"alpha"
        assert archive.window(archive.entries[1]) is None


def test_streaming_proves_the_crc_only_at_the_end():
    with source_of(build_zip(Member("a", b"x" * 600_000, crc=1))) as source:
        archive = ZipArchive(source)
        pieces = archive.chunks(archive.entries[0])
        assert next(pieces)
        with pytest.raises(Malformed):
            list(pieces)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_archive_is_read_or_refused_but_nothing_else(data):
    good = bytearray(build_zip(*TWO, Member("s", b"streamed", flags=8), zip64=True))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            good[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del good[at : at + data.draw(st.integers(1, 8))]
        else:
            good[at:at] = data.draw(st.binary(max_size=8))
        if not good:
            break
    with suppress(FormatError):
        contents(bytes(good))
