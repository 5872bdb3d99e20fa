import struct
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import apk_manifest, axml
from pipeline.formats.facts import FormatError, Malformed, Unjudgeable
from tests.support.build_apk import manifest
from tests.support.build_axml import Ref, Tag, build_axml, chunk, string_pool


def facts(**options) -> apk_manifest.Manifest:
    return apk_manifest.read(axml.parse(manifest(**options)))


@pytest.mark.parametrize("utf8", [False, True])
def test_elements_and_typed_attributes_come_back(utf8):
    root = axml.parse(
        build_axml(
            Tag("a", {"name": "ü" * 200, "debuggable": True, "versionCode": -1, "icon": Ref(0x7F010001)}, [Tag("b", {"package": "x"})]),
            utf8=utf8,
        )
    )  # fmt: skip
    assert [one.value for one in root.attributes] == ["ü" * 200, True, -1, None]
    assert root.attributes[3].reference == 0x7F010001
    assert root.named("b")[0].by_name("package").text == "x"
    assert root.named("b")[0].path == ("a", "b")
    assert [one.name for one in root.walk()] == ["a", "b"]


def test_unknown_chunks_are_passed_over():
    assert axml.parse(build_axml(Tag("a"), extra=chunk(0x9999, b"", b"1234"))).name == "a"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<manifest/>",
        chunk(3, b""),
        chunk(3, b"", struct.pack("<HHI", 0x0102, 16, 0)),
        chunk(3, b"", struct.pack("<HHI", 0x0102, 16, 1 << 30)),
        chunk(3, b"", chunk(0x0102, bytes(8), b"")),
        chunk(3, b"", chunk(0x0001, b"", b"")),
        chunk(3, b"", chunk(0x0001, struct.pack("<IIIII", 1 << 30, 0, 0, 28, 0))),
        chunk(3, b"", chunk(0x0102, bytes(8), struct.pack("<IIHHHHHH", 0, 0, 20, 20, 500, 0, 0, 0))),
        chunk(3, b"", chunk(0x0102, bytes(8), struct.pack("<IIHHHHHH", 0, 0, 20, 0, 5, 0, 0, 0))),
        build_axml(Tag("a"))[:-30],
    ],
)
def test_damaged_files_are_refused(data):
    with pytest.raises(Malformed):
        axml.parse(data)


def test_a_string_that_reaches_out_of_its_pool_is_refused():
    pool = bytearray(string_pool(["name"]))
    pool[32:34] = b"\xff\x7f"
    element = chunk(0x0102, bytes(8), struct.pack("<IIHHHHHH", 0xFFFFFFFF, 0, 20, 20, 0, 0, 0, 0))
    with pytest.raises(Malformed):
        axml.parse(chunk(3, b"", bytes(pool) + element))


def test_depth_and_size_are_bounded():
    deep = Tag("a")
    for _ in range(120):
        deep = Tag("a", {}, [deep])
    with pytest.raises(Unjudgeable):
        axml.parse(build_axml(deep))
    with pytest.raises(Unjudgeable):
        axml.parse(bytes(axml.AXML_MAX_BYTES + 1))


def test_two_roots_are_refused():
    one = build_axml(Tag("a"))
    with pytest.raises(Malformed):
        axml.parse(chunk(3, b"", one[8:] + one[8:]))


class TestManifest:
    def test_what_is_missing_has_the_platforms_defaults(self):
        found = facts(min_sdk=None, target_sdk=None)
        assert (found.min_sdk, found.min_sdk_text, found.target_sdk_text) == (1, "1", "1")
        assert facts(min_sdk=21, target_sdk=None).target_sdk == 21
        assert found.sandbox == 1

    def test_the_greatest_min_sdk_counts(self):
        assert facts(children=[Tag("uses-sdk", {"minSdkVersion": 26})]).min_sdk == 26

    @pytest.mark.parametrize(("codename", "level"), [("N", 23), ("Q", 27), ("A", 1), ("O-preview", 25)])
    def test_codenames_are_the_release_before_them(self, codename, level):
        found = facts(min_sdk=codename, target_sdk=None)
        assert (found.min_sdk, found.min_sdk_text) == (level, codename)

    @pytest.mark.parametrize("value", ["23", "", "q", True, Ref(0x7F010001)])
    def test_a_min_sdk_that_means_nothing_is_refused(self, value):
        with pytest.raises(Malformed) as caught:
            facts(min_sdk=value)
        assert caught.value.finding.rule == "apk.min-sdk"

    def test_no_package_and_no_manifest_are_refused(self):
        for tag in (Tag("manifest"), Tag("x", {"package": "a.b"}), Tag("manifest", {"package": ""})):
            with pytest.raises(Malformed):
                apk_manifest.read(axml.parse(build_axml(tag)))

    def test_the_upper_half_of_the_version_code_is_told_apart(self):
        found = facts(versionCodeMajor=1)
        assert (found.version_code, found.long_version_code) == (7, (1 << 32) + 7)
        assert facts().long_version_code == 7

    @pytest.mark.parametrize(
        ("target", "asked", "implied"),
        [
            (3, [], ["READ_EXTERNAL_STORAGE", "READ_PHONE_STATE", "WRITE_EXTERNAL_STORAGE"]),
            (3, ["READ_PHONE_STATE"], ["READ_EXTERNAL_STORAGE", "WRITE_EXTERNAL_STORAGE"]),
            (4, [], []),
            (33, ["WRITE_EXTERNAL_STORAGE"], ["READ_EXTERNAL_STORAGE"]),
            (15, ["READ_CONTACTS", "WRITE_CONTACTS"], ["READ_CALL_LOG", "WRITE_CALL_LOG"]),
            (16, ["READ_CONTACTS", "WRITE_CONTACTS"], []),
        ],
    )
    def test_old_apps_are_granted_what_they_did_not_ask_for(self, target, asked, implied):
        tags = [Tag("uses-permission", {"name": f"android.permission.{name}"}) for name in asked]
        found = facts(children=tags, min_sdk=1, target_sdk=target)
        assert found.permissions_implied == [f"android.permission.{name}" for name in implied]

    def test_a_permission_for_android_6_only_implies_nothing(self):
        tag = Tag("uses-permission-sdk-23", {"name": "android.permission.WRITE_EXTERNAL_STORAGE"})
        assert facts(children=[tag]).permissions_implied == []

    def test_permissions_are_distinct_and_sorted(self):
        rows = [Tag("uses-permission", {"name": name}) for name in ("b", "a", "b")]
        found = facts(children=[*rows, Tag("uses-permission-sdk-23", {"name": "0"})])
        assert found.permissions == ["0", "a", "b"]
        assert found.permissions_sdk_23 == ["0"]
        assert found.permission_elements == 4

    def test_features_say_whether_they_are_required(self):
        rows = [
            Tag("uses-feature", {"name": "x", "required": False}),
            Tag("uses-feature", {"glEsVersion": 0x30001}),
        ]
        assert facts(children=rows).features == [
            {"name": "OpenGL ES 3.1", "required": True},
            {"name": "x", "required": False},
        ]

    @pytest.mark.parametrize(
        ("name", "expected"),
        [(".Main", "com.example.app.Main"), ("Main", "com.example.app.Main"), ("org.x.Main", "org.x.Main")],
    )
    def test_the_main_activity_is_the_one_that_a_launcher_shows(self, name, expected):
        intents = Tag(
            "intent-filter",
            {},
            [
                Tag("action", {"name": "android.intent.action.MAIN"}),
                Tag("category", {"name": "android.intent.category.LAUNCHER"}),
            ],
        )
        off = Tag("activity", {"name": "Off", "enabled": False}, [intents])
        other = Tag("activity", {"name": "Other"}, [Tag("intent-filter", {}, intents.children[:1])])
        main = Tag("activity", {"name": name, "label": "Main label"}, [intents])
        found = facts(inside=[off, other, main])
        assert found.main_activity == expected
        assert found.main_label == "Main label"

    def test_references_are_kept_for_the_resource_table(self):
        application = {"label": Ref(0x7F010000), "icon": Ref(0x7F020000), "debuggable": Ref(0x7F030000)}
        assert set(facts(application=application).references) == {0x7F010000, 0x7F020000, 0x7F030000}


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_mutated_manifest_is_read_or_refused_but_nothing_else(data):
    good = bytearray(manifest(children=[Tag("uses-permission", {"name": "p"})]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(good) - 4))
        good[at : at + 4] = data.draw(st.binary(min_size=0, max_size=6))
    with suppress(FormatError):
        apk_manifest.read(axml.parse(bytes(good)))
