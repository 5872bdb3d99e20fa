"""The manifest as a device reads it: Apple's fields, and nothing that a name could break out of."""

import plistlib
from dataclasses import replace
from xml.dom import minidom

import pytest

from pipeline.feeds.ota_manifest import OtaApp, render

APP = OtaApp(
    package_url="https://dist.example/artifacts/art_1/notes.ipa?ticket=a.b&x=1",
    bundle_identifier="com.example.notes",
    bundle_version="1040",
    title="Notes",
    icon_url="https://dist.example/artifacts/art_1/icon.png?ticket=c.d",
)


def test_every_field_of_apples_format_is_there():
    body = render(APP)
    assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    assert b'<!DOCTYPE plist PUBLIC "-//Apple' in body
    assert plistlib.loads(body) == {
        "items": [
            {
                "assets": [
                    {"kind": "software-package", "url": APP.package_url},
                    {"kind": "display-image", "needs-shine": False, "url": APP.icon_url},
                    {"kind": "full-size-image", "needs-shine": False, "url": APP.icon_url},
                ],
                "metadata": {
                    "bundle-identifier": "com.example.notes",
                    "bundle-version": "1040",
                    "kind": "software",
                    "title": "Notes",
                },
            }
        ]
    }


def test_without_an_icon_no_image_is_named():
    (item,) = plistlib.loads(render(replace(APP, icon_url=None)))["items"]
    assert [asset["kind"] for asset in item["assets"]] == ["software-package"]


@pytest.mark.parametrize(
    ("title", "read"),
    [
        ("Tom & <b>Jerry</b> \"'", "Tom & <b>Jerry</b> \"'"),
        ("]]></string><key>x</key>", "]]></string><key>x</key>"),
        ("Nötes 📝", "Nötes 📝"),
        ("a\x00b\x08c\u202e\ufffe\ud800d", "abcd"),
        ("\x01\x02", "com.example.notes"),
        ("x" * 5000, "x" * 200),
    ],
)
def test_a_hostile_name_stays_text(title: str, read: str):
    body = render(replace(APP, title=title))
    minidom.parseString(body)
    (item,) = plistlib.loads(body)["items"]
    assert item["metadata"]["title"] == read
    assert len(item["assets"]) == 3
