"""Names from archives that are whole, strange or broken: never an error, never without end."""

import gzip
import struct

import pytest

from pipeline.formats import listing
from pipeline.formats.listing import tar_names, zip_names
from tests.support.build_tar import Tarred
from tests.support.build_tar import member as tar_member
from tests.support.build_zip import Member, build_zip
from tests.support.source_of import source_of


def names_in_zip(data: bytes) -> list[str]:
    with source_of(data) as source:
        return zip_names(source)


def names_in_tar(data: bytes) -> list[str] | None:
    with source_of(data) as source:
        return tar_names(source)


def test_the_central_directory_counts_where_there_is_one() -> None:
    assert names_in_zip(build_zip(Member("a"), Member("b/c"))) == ["a", "b/c"]


def test_a_name_that_is_no_utf_8_is_still_a_name() -> None:
    assert names_in_zip(build_zip(Member(b"\xff"))) == ["\ufffd"]


def test_local_headers_count_where_the_directory_is_gone() -> None:
    whole = build_zip(Member("a", b"content"), Member("b", b"content"))
    assert names_in_zip(whole[: whole.index(b"PK\1\2")]) == ["a", "b"]


def test_the_rest_of_a_directory_counts_where_its_end_is_gone() -> None:
    whole = build_zip(Member("a", b"content", flags=8), Member("b", b"content", flags=8))
    assert "b" in names_in_zip(whole[: whole.index(b"PK\5\6")])


@pytest.mark.parametrize("size", [0, 1 << 31, 0xFFFFFFFF])
def test_a_directory_of_an_impossible_size_is_not_read(size: int) -> None:
    whole = bytearray(build_zip(Member("a")))
    struct.pack_into("<I", whole, whole.index(b"PK\5\6") + 12, size)
    assert names_in_zip(bytes(whole)) == ["a", "a"]  # found again by their headers, local and central


def test_bytes_that_are_no_archive_have_no_names() -> None:
    assert names_in_zip(b"") == []
    assert names_in_zip(b"PK\5\6" + bytes(18)) == []
    assert names_in_tar(b"") is None
    assert names_in_tar(bytes(10_240)) is None
    assert names_in_tar(b"x" * 10_240) is None


def test_headers_about_members_are_not_members() -> None:
    data = tar_member(Tarred("././@LongLink", b"long/name", type=b"L")) + tar_member(
        Tarred("short", b"x" * 700)
    )
    assert names_in_tar(data + tar_member(Tarred("./b", prefix=b"folder"))) == ["short", "folder/./b"]


def test_a_link_has_no_content_whatever_its_header_says() -> None:
    data = tar_member(Tarred("link", type=b"2", target="x", size=5 << 30)) + tar_member(Tarred("b"))
    assert names_in_tar(data) == ["link", "b"]


@pytest.mark.parametrize("field", [b"-0000000777\0", b"zzzzzzzzzzz\0", b"\xff" * 12])
def test_a_size_that_is_none_ends_the_listing(field: bytes) -> None:
    data = tar_member(Tarred("a", b"x")) + tar_member(Tarred("b", size_field=field)) + tar_member(Tarred("c"))
    assert names_in_tar(data) in (["a"], ["a", "b"])


def test_a_bomb_is_unpacked_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_TAR_BYTES", 1 << 20)
    bomb = gzip.compress(
        tar_member(Tarred("zeros", size=1 << 30)) + bytes(8 << 20) + tar_member(Tarred("after"))
    )
    assert names_in_tar(bomb) == ["zeros"]


def test_a_crowd_of_members_is_listed_no_further_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "MAX_TAR_NAMES", 5)
    monkeypatch.setattr(listing, "MAX_NAMES", 5)
    assert len(names_in_tar(b"".join(tar_member(Tarred(str(i))) for i in range(20))) or []) == 5
    assert len(names_in_zip(build_zip(*[Member(str(i)) for i in range(20)]))) == 5


def test_a_zip64_directory_is_found_by_its_own_record() -> None:
    assert names_in_zip(build_zip(Member("a"), Member("b"), zip64=True)) == ["a", "b"]
