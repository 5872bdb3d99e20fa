import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats.arsc import ANY_DENSITY, Resources
from pipeline.formats.facts import Malformed
from tests.support.build_axml import Ref, Resource, build_arsc, chunk, string_pool

LABEL, ICON = 0x7F010000, 0x7F020003


def test_texts_prefer_no_language_then_english():
    rows = [
        Resource(1, 0, "Beispiel", locale="de"),
        Resource(1, 0, "Example"),
        Resource(1, 0, "English", locale="en"),
    ]
    assert Resources(build_arsc(*rows), [LABEL]).text(LABEL) == "Example"
    assert Resources(build_arsc(rows[0], rows[2]), [LABEL]).text(LABEL) == "English"
    assert Resources(build_arsc(rows[0]), [LABEL]).text(LABEL) == "Beispiel"
    assert Resources(build_arsc(rows[0]), [0x7F010001]).text(0x7F010001) is None


@pytest.mark.parametrize(
    "form", [{}, {"compact": True}, {"sparse": True}, {"short_offsets": True}], ids=["plain", "compact", "sparse", "16 bits"]
)  # fmt: skip
def test_every_form_of_entry_is_read(form):
    rows = [
        Resource(2, 3, "res/icon.png", density=480, **form),
        Resource(2, 3, "res/icon.xml", density=ANY_DENSITY, **form),
    ]
    values = Resources(build_arsc(*rows), [ICON]).values(ICON)
    assert [(row.value, row.density) for row in values] == [
        ("res/icon.png", 480),
        ("res/icon.xml", ANY_DENSITY),
    ]


def test_truths_are_text():
    assert Resources(build_arsc(Resource(1, 0, True)), [LABEL]).text(LABEL) == "true"
    assert Resources(build_arsc(Resource(1, 0, False)), [LABEL]).text(LABEL) == "false"


def test_references_are_followed_and_cycles_end():
    rows = [Resource(1, 0, Ref(0x7F010001)), Resource(1, 1, Ref(0x7F020003)), Resource(2, 3, "end")]
    assert Resources(build_arsc(*rows), [LABEL]).text(LABEL) == "end"
    rows = [
        Resource(1, 0, Ref(0x7F010001)),
        Resource(1, 1, Ref(0x7F010000)),
        Resource(1, 1, "way out", locale="de"),
    ]
    assert Resources(build_arsc(*rows), [LABEL]).text(LABEL) == "way out"
    assert Resources(build_arsc(Resource(1, 0, Ref(LABEL))), [LABEL]).text(LABEL) is None
    assert Resources(build_arsc(Resource(1, 0, Ref(0x01040000))), [LABEL]).text(LABEL) is None


def test_a_tree_of_references_is_cut():
    rows = [Resource(level, entry, Ref(0x7F000000 | (level + 1) << 16 | other))
            for level in range(1, 9) for entry in range(6) for other in range(6)]  # fmt: skip
    assert Resources(build_arsc(*rows), [0x7F010000]).values(0x7F010000) == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2\0\x0c\0",
        chunk(3, bytes(4)),
        chunk(2, bytes(4), chunk(1, b"")),
        chunk(2, bytes(4), chunk(1, struct.pack("<IIIII", 1 << 31, 0, 0, 28, 0))),
        chunk(2, bytes(4), chunk(1, struct.pack("<IIIII", 4, 9, 0, 28, 0))),
        chunk(2, bytes(4), struct.pack("<HHI", 1, 28, 0)),
        build_arsc(Resource(1, 0, "x"))[:-20],
    ],
)
def test_damaged_tables_are_refused(data):
    with pytest.raises(Malformed) as caught:
        Resources(data, [LABEL])
    assert caught.value.finding.rule == "apk.resources-unreadable"


def test_counts_that_do_not_fit_are_refused():
    table = bytearray(build_arsc(Resource(1, 0, "x")))
    at = table.index(struct.pack("<HH", 0x0201, 48))
    struct.pack_into("<I", table, at + 12, 1 << 30)
    with pytest.raises(Malformed):
        Resources(bytes(table), [LABEL])


def test_too_many_packages_are_refused():
    package = chunk(0x0200, struct.pack("<I", 5) + bytes(276))
    many = b"".join(package[:8] + struct.pack("<I", number) + package[12:] for number in range(1, 80))
    with pytest.raises(Malformed):
        Resources(chunk(2, bytes(4), string_pool([]) + many), [LABEL])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_mutated_table_is_read_or_refused_but_nothing_else(data):
    rows = [Resource(1, 0, Ref(0x7F010001)), Resource(1, 1, "x"), Resource(2, 3, "y", sparse=True), Resource(2, 3, "z", compact=True)]  # fmt: skip
    good = bytearray(build_arsc(*rows))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 4))
        good[at : at + 4] = data.draw(st.binary(min_size=0, max_size=6))
    with suppress(Malformed):
        table = Resources(bytes(good), [LABEL, ICON])
        table.text(LABEL)
        table.values(ICON)
