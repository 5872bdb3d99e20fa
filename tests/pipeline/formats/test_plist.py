"""Property lists: what plutil would read is read alike from XML and binary; what was made to hurt is refused."""

import plistlib
import struct
import zipfile
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import plist
from pipeline.formats.facts import FormatError, Malformed
from tests.support.fixtures import fixture

SAMPLE = {
    "CFBundleIdentifier": "com.example.notes",
    "Count": 1 << 40,
    "Negative": -3,
    "Ratio": 0.25,
    "Yes": True,
    "Name": "Nötes 📝",
    "Blob": b"\x00\x01",
    "When": datetime(2026, 11, 20, 10, 0, 0),  # noqa: DTZ001  property lists have no zone
    "Nested": [{"a": [1, 2, [3]]}, []],
}
EXPECTED = SAMPLE | {"When": datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)}


def binary(objects: list[bytes], *, top: int = 0, reference_bytes: int = 1) -> bytes:
    """A binary list of ready-made objects."""
    body = b"bplist00"
    offsets = []
    for one in objects:
        offsets.append(len(body))
        body += one
    table = b"".join(struct.pack(">I", offset) for offset in offsets)
    return body + table + struct.pack(">6xBBQQQ", 4, reference_bytes, len(objects), top, len(body))


def shared_reference_bomb(levels: int, width: int) -> bytes:
    arrays = [bytes([0xA0 | width]) + bytes([level + 1]) * width for level in range(levels)]
    return binary([*arrays, b"\x08"])


@pytest.mark.parametrize("kind", [plistlib.FMT_XML, plistlib.FMT_BINARY])
def test_xml_and_binary_give_the_same_values(kind: plistlib.PlistFormat) -> None:
    assert plist.load(plistlib.dumps(SAMPLE, fmt=kind)) == EXPECTED


def test_white_space_before_the_xml_declaration_is_no_matter() -> None:
    assert plist.load(b"\n " + plistlib.dumps({"a": 1})) == {"a": 1}


def test_utf_16_xml_is_read() -> None:
    text = '<?xml version="1.0" encoding="UTF-16"?><plist version="1.0"><dict><key>a</key><string>ü</string></dict></plist>'
    assert plist.load(text.encode("utf-16")) == {"a": "ü"}


def test_an_array_is_no_dictionary() -> None:
    data = plistlib.dumps([1, 2])
    assert plist.load(data) == [1, 2]
    with pytest.raises(Malformed) as caught:
        plist.load_dict(data)
    assert caught.value.finding.rule == "plist.malformed"


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "plist.malformed"),
        (b"{ a = 1; }", "plist.malformed"),
        (b"bplist00", "plist.malformed"),
        (b"<plist></plist>", "plist.malformed"),
        (b"<plist><dict><key>a</key></dict></plist>", "plist.malformed"),
        (b"<plist><dict><date>soon</date></dict></plist>", "plist.malformed"),
        (b"<plist><dict><key>a</key><date>2026-99-20T10:00:00Z</date></dict></plist>", "plist.malformed"),
        (b"<plist><integer>" + b"9" * 10_000 + b"</integer></plist>", "plist.malformed"),
        (b"<plist><string>only</string></plist>", "plist.malformed"),
        (b"<plist><dict>", "plist.malformed"),
        (b'<!DOCTYPE plist [<!ENTITY a "b">]><plist><string>&a;</string></plist>', "plist.entities"),
        (b'<!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]><plist><string>&a;</string></plist>', "plist.entities"),
        (b"<plist>" + b"<array>" * 100 + b"</array>" * 100 + b"</plist>", "plist.bomb"),
        (b"<plist><array>" + b"<true/>" * 2_000_001 + b"</array></plist>", "plist.bomb"),
        (shared_reference_bomb(60, 10), "plist.bomb"),
        (binary([b"\xa1\x00"]), "plist.bomb"),
        (binary([b"\xa1\x01", b"\xa1\x00"]), "plist.bomb"),
        (binary([bytes([0xA1, level + 1]) for level in range(100)] + [b"\x08"]), "plist.bomb"),
        (binary([b"\xaf\x12\x00\xff\xff\xff" + b"\x01" * 99, b"\x08"]), "plist.malformed"),
        (binary([b"\xa1\x09"]), "plist.malformed"),
        (binary([b"\x08"], top=7), "plist.malformed"),
        (binary([b"\xd1\x01\x01", b"\x10\x05"]), "plist.malformed"),  # a number as a key
        (binary([b"\xaf\xa0"]), "plist.malformed"),  # an array as a length
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else value,
)  # fmt: skip
def test_what_is_damaged_or_hostile_is_refused_with_its_rule(data: bytes, rule: str) -> None:
    with pytest.raises(Malformed) as caught:
        plist.load(data)
    assert caught.value.finding.rule == rule


def test_a_long_string_that_many_references_share_counts_each_time() -> None:
    text = b"\x5f\x12" + struct.pack(">I", 1 << 20) + b"x" * (1 << 20)
    data = binary([b"\xaf\x11" + struct.pack(">H", 1000) + b"\x01" * 1000, text])
    with pytest.raises(Malformed) as caught:
        plist.load(data)
    assert caught.value.finding.rule == "plist.bomb"


def test_a_list_that_holds_itself_is_told_from_one_that_is_deep() -> None:
    with pytest.raises(Malformed, match="object 1 holds itself"):
        plist.load(binary([b"\xa1\x01", b"\xa1\x02", b"\xa1\x01"]))


def test_levels_count_below_a_shared_part_too() -> None:
    tower = [bytes([0xA1, level + 2]) for level in range(40)]
    shallow = binary([b"\xa1\x01", *tower, b"\x08"])
    assert plist.load(shallow)
    # The tower is seen first at the top, then once more at the end of a second tower.
    second = [bytes([0xA1, 43 + level]) for level in range(39)]
    deep = binary([b"\xa2\x01\x2a", *tower, b"\x08", *second, b"\xa1\x01"])
    with pytest.raises(Malformed, match="more than 64 levels"):
        plist.load(deep)


def test_an_uid_of_a_keyed_archive_is_its_number() -> None:
    assert plist.load(plistlib.dumps({"a": plistlib.UID(7)}, fmt=plistlib.FMT_BINARY)) == {"a": 7}


@pytest.mark.parametrize("name", ["hostile/bplist-self.ipa", "hostile/plist-xxe.ipa"])
def test_hostile_fixtures_are_refused(name: str) -> None:
    with zipfile.ZipFile(fixture(name)) as archive:
        member = next(one for one in archive.namelist() if one.endswith("Info.plist"))
        with pytest.raises(Malformed) as caught:
            plist.load(archive.read(member))
    assert caught.value.finding.rule in {"plist.bomb", "plist.entities", "plist.malformed"}


leaves = (
    st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"),
        max_size=20,
    )
    | st.binary(max_size=20)
)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcé", max_size=5), inner, max_size=4), max_leaves=20)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abc", max_size=5), values, max_size=5))
def test_what_apples_writer_would_write_comes_back(value: dict[str, object]) -> None:
    assert plist.load(plistlib.dumps(value, fmt=plistlib.FMT_BINARY)) == value


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mutated_list_is_read_or_refused_but_never_breaks_the_reader(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([plistlib.FMT_XML, plistlib.FMT_BINARY]))
    whole = bytearray(plistlib.dumps(SAMPLE, fmt=kind))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(FormatError):
        plist.load(bytes(whole))
