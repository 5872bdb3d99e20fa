"""Policy as CI and admins meet it: pairs of real files, published by `dist` to a real server with a worker."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import build_authenticode, build_msix, build_pe
from tests.support.build_apk import LINEAGE, Pairs, Signer, app, build_apk, lineage
from tests.support.build_cms import Identity, make_identity
from tests.support.dist_run import Answer, Dist
from tests.support.fixtures import fixture

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cli-live")]

KEY, OTHER = make_identity("Release key"), make_identity("Somebody", number=1)
NEXT = make_identity("Next release key", number=2)


@dataclass
class Line:
    """The releases of one app, each with one file; versions count up by themselves."""

    dist: Dist
    folder: Path
    slug: str
    count: int = 0

    def created(self) -> "Line":
        self.dist.json("app", "create", self.slug)
        return self

    def other(self, suffix: str) -> "Line":
        return Line(self.dist, self.folder, f"{self.slug[:50]}-{suffix}").created()

    def publish(
        self, file: bytes | Path, name: str, platform: str, *, status: int = 0, **manifest: Any
    ) -> dict[str, Any]:
        self.count += 1
        content = file if isinstance(file, bytes) else file.read_bytes()
        (self.folder / name).write_bytes(content)
        document = {
            "schema": 1,
            "app": self.slug,
            "version": f"1.{self.count}",
            "artifacts": [{"path": name, "platform": platform}],
            **manifest,
        }
        (self.folder / "dist.json").write_text(json.dumps(document))
        return self.dist.json("ci", "publish", "--manifest", self.folder / "dist.json", status=status)

    def apk(self, code: int, key: Identity = KEY, *, status: int = 0, **more: Any) -> dict[str, Any]:
        manifest = {name: more.pop(name) for name in ("channel",) if name in more}
        return self.publish(apk(code, key, **more), "notes.apk", "android", status=status, **manifest)

    def rules(self, *words: str, channel: str | None = None) -> dict[str, Any]:
        options = [option for word in words for option in ("--limit" if _is_limit(word) else "--rule", word)]
        where = ["--channel", channel] if channel else []
        return self.dist.json("app", "policy", "set", self.slug, *options, *where)


def _is_limit(word: str) -> bool:
    return word.partition("=")[2].isdigit()


def apk(
    code: int,
    key: Identity,
    *,
    proof: Sequence[Identity] = (),
    package: str = "com.example.notes",
    **options: Any,
) -> bytes:
    """A signed APK; `proof` are the keys of its rotation lineage."""
    attributes = ((LINEAGE, lineage(*proof)),) if proof else ()
    members = app(package=package, min_sdk=28, **({"target_sdk": 34} | options), versionCode=code)
    return build_apk(members, Pairs(v3=(Signer(key, attributes=attributes),)))


@pytest.fixture
def line(admin: Dist, tmp_path: Path, slug: Callable[[], str]) -> Line:
    folder = tmp_path / "project"
    folder.mkdir()
    return Line(admin, folder, slug()).created()


def found(document: dict[str, Any]) -> dict[str, str]:
    """The policy's findings: rule → severity."""
    return {
        finding["rule"]: finding["severity"]
        for row in document["validations"]
        for finding in row["findings"]
        if finding["rule"].startswith("policy.")
    }


def test_the_same_app_signed_by_another_key(line: Line) -> None:
    line.apk(1)
    document = line.apk(2, OTHER, status=5)
    assert document["error"]["code"] == "policy_failed"
    assert document["release"]["status"] == "rejected"
    assert found(document) == {"policy.signer-changed": "error"}
    assert OTHER.sha256 in document["error"]["detail"]
    assert (
        "is signed by certificate:" + KEY.sha256 + " (O=Example,CN=Release key)"
        in document["error"]["detail"]
    )
    assert (
        f"dist app pin add {line.slug} apk signer certificate:{OTHER.sha256}" in document["error"]["remedy"]
    )
    pin = line.dist.json(
        "app",
        "pin",
        "add",
        line.slug,
        "apk",
        "signer",
        f"certificate:{OTHER.sha256}",
        "--note",
        "lost laptop",
    )
    assert pin["created"] is True
    line.apk(3, OTHER)
    line.rules("signer-changed=warning")
    assert found(line.apk(4, NEXT)) == {"policy.signer-changed": "warning"}
    items = line.dist.json("app", "pin", "list", line.slug)["items"]
    assert {(row["kind"], row["value"], row["note"]) for row in items} == {
        ("identifier", "com.example.notes", ""),
        ("signer", f"certificate:{KEY.sha256}", ""),
        ("signer", f"certificate:{OTHER.sha256}", "lost laptop"),
    }
    actions = [
        event["action"]
        for event in line.dist.json("audit", "list", "--app", line.slug, "--limit", 200)["items"]
    ]
    assert actions.count("pin.added") == 3
    assert actions.count("policy.changed") == 1


def test_a_key_that_the_lineage_of_the_apk_vouches_for(line: Line) -> None:
    line.apk(1)
    line.apk(2, NEXT, proof=(KEY, NEXT))
    line.apk(3, NEXT)
    assert found(line.apk(4, KEY, status=5)) == {"policy.signer-changed": "error"}


def test_a_real_apk_whose_key_was_rotated_twice(line: Line) -> None:
    line.publish(fixture("apk/apksig/original.apk"), "tiny.apk", "android")
    line.rules("build-reused=warning")  # both have version code 10
    rotated = fixture("apk/apksig/v1v2v3-with-rsa-2048-lineage-3-signers.apk")
    assert "policy.signer-changed" not in found(line.publish(rotated, "tiny.apk", "android"))
    states = {
        row["value"][12:20]: row["superseded_at"] is None
        for row in line.dist.json("app", "pin", "list", line.slug)["items"]
        if row["kind"] == "signer"
    }
    assert states == {"fb5dbd3c": False, "bb77a72e": True}


def test_another_package(line: Line) -> None:
    line.apk(1)
    document = line.apk(2, package="com.example.other", status=5)
    assert found(document) == {"policy.identifier-changed": "error"}


def test_a_lower_and_a_used_version_code(line: Line) -> None:
    line.apk(7)
    assert found(line.apk(6)) == {"policy.build-not-higher": "warning"}
    assert found(line.apk(7, status=5)) == {
        "policy.build-reused": "error",
        "policy.build-not-higher": "warning",
    }
    line.rules("build-not-higher=error")
    document = line.apk(5, status=5)
    assert document["error"]["code"] == "policy_failed"
    assert found(document) == {"policy.build-not-higher": "error"}
    assert found(line.apk(8)) == {}


def test_a_debuggable_build(line: Line) -> None:
    debuggable = {"application": {"debuggable": True}}
    assert found(line.apk(1, **debuggable)) == {"policy.debuggable": "warning"}
    line.rules("debuggable=error")
    assert found(line.apk(2, status=5, **debuggable)) == {"policy.debuggable": "error"}
    line.rules("debuggable=off")
    assert found(line.apk(3, **debuggable)) == {}


def test_a_build_signed_with_the_debug_key_of_the_tools(line: Line) -> None:
    debug = fixture("apk/io.appium.settings-8.0.10.apk")
    assert found(line.publish(debug, "settings.apk", "android"))["policy.debug-key"] == "warning"
    line.rules("debug-key=error")
    assert found(line.publish(debug, "settings.apk", "android", status=5))["policy.debug-key"] == "error"
    release = line.other("two")
    release.rules("debug-key=error")
    assert found(release.publish(fixture("apk/v2.only.sig_2.apk"), "v2.apk", "android")) == {}


def test_a_target_sdk_below_the_floor(line: Line) -> None:
    line.rules("min_target_sdk=34")
    line.apk(1)
    assert found(line.apk(2, target_sdk=33, status=5)) == {"policy.target-sdk-too-low": "error"}


def test_a_development_profile_that_has_expired(line: Line) -> None:
    development, enterprise = fixture("ipa/iphone.ipa"), fixture("ipa/embedded.ipa")
    document = line.publish(development, "demo.ipa", "ios")
    assert found(document) == {
        "policy.development-profile": "warning",
        "policy.debuggable": "warning",
        "policy.profile-expired": "warning",
    }
    line.rules("development-profile=error", "profile-expired=error", "debuggable=off")
    assert found(line.publish(development, "demo.ipa", "ios", status=5)) == {
        "policy.development-profile": "error",
        "policy.profile-expired": "error",
    }
    other = line.other("ent")
    other.rules("development-profile=error", "profile-expired=error")
    assert found(other.publish(enterprise, "demo.ipa", "ios", status=5)) == {
        "policy.profile-expired": "error"
    }


def test_another_apple_team(line: Line) -> None:
    line.publish(fixture("ipa/ipad.ipa"), "demo.ipa", "ios")
    document = line.publish(fixture("ipa/embedded.ipa"), "demo.ipa", "ios", status=5)
    assert {"policy.signer-changed", "policy.identifier-changed"} <= set(found(document))
    items = line.dist.json("app", "pin", "list", line.slug)["items"]
    assert {row["value"] for row in items} == {"team:5PJA6N5A3B", "com.icyleaf.bundle"}


def test_an_installer_package_that_lost_its_signature(line: Line) -> None:
    line.publish(fixture("pkg/valid.pkg"), "nudge.pkg", "macos")
    assert {row["value"] for row in line.dist.json("app", "pin", "list", line.slug)["items"]} == {
        "team:T4SK8ZXCXG",
        "com.github.macadmins.Nudge.LaunchAgent",
    }
    line.rules("identifier-changed=off")
    document = line.publish(fixture("pkg/MacAppOnly.pkg"), "nudge.pkg", "macos", status=5)
    assert found(document) == {"policy.signer-changed": "error", "policy.unsigned": "warning"}


def test_a_windows_program_without_the_signature_that_it_had(line: Line) -> None:
    line.publish(fixture("pe/pegoat-authenticode.exe"), "goat.exe", "windows")
    document = line.publish(fixture("pe/pegoat.exe"), "goat.exe", "windows", status=5)
    assert found(document) == {"policy.signer-changed": "error", "policy.unsigned": "warning"}
    ours, theirs = (
        build_pe.signed(build_pe.build(), by=build_authenticode.signatory(issued=one))
        for one in (False, True)
    )
    other = line.other("own")
    other.publish(ours, "own.exe", "windows")
    assert found(other.publish(theirs, "own.exe", "windows", status=5)) == {"policy.signer-changed": "error"}


def test_a_windows_signature_that_nobody_vouches_for(line: Line) -> None:
    line.rules("untrusted-signature=error", "unsigned=error")
    line.publish(fixture("pe/snoretoast-x86.exe"), "toast.exe", "windows")
    other = line.other("two")
    other.rules("untrusted-signature=error")
    document = other.publish(fixture("pe/pegoat-authenticode.exe"), "goat.exe", "windows", status=5)
    assert found(document) == {"policy.untrusted-signature": "error"}


def test_an_msix_of_the_same_publisher_by_another_certificate(line: Line) -> None:
    def package(version: str, *, issued: bool) -> bytes:
        return build_msix.package(
            sign=True,
            signing={"by": build_authenticode.signatory(issued=issued)},
            manifest_xml=build_msix.manifest(version=version),
        )

    line.publish(package("1.0.0.0", issued=False), "tiny.msix", "windows")
    line.publish(package("1.1.0.0", issued=False), "tiny.msix", "windows")
    document = line.publish(package("1.2.0.0", issued=True), "tiny.msix", "windows", status=5)
    assert found(document) == {"policy.signer-changed": "error"}


def test_a_mac_app_without_a_ticket(line: Line) -> None:
    signed = fixture("app-zip/DevSignedApp.zip")
    line.publish(signed, "app.zip", "macos")
    line.rules("not-notarized=error")
    document = line.publish(signed, "app.zip", "macos", status=5)
    assert found(document) == {"policy.not-notarized": "error"}


def test_a_release_without_and_with_a_bill_of_materials(line: Line) -> None:
    line.rules("no-sbom=error")
    assert found(line.apk(1, status=5)) == {"policy.no-sbom": "error"}
    (line.folder / "bom.json").write_bytes(fixture("sbom/valid-bom-1.5.json").read_bytes())
    attached = [{"path": "bom.json", "kind": "sbom"}]
    line.publish(apk(2, KEY), "notes.apk", "android", attachments=attached)


def test_an_artifact_over_the_limit(line: Line) -> None:
    line.rules("max_artifact_bytes=100")
    document = line.publish(b"x" * 101, "notes.txt", "any", status=5)
    assert found(document) == {"policy.too-large": "error"}
    line.publish(b"x" * 100, "notes.txt", "any")


def test_a_channel_refuses_what_the_app_takes_at_publish_and_at_promotion(line: Line) -> None:
    debuggable = {"application": {"debuggable": True}}
    line.rules("debuggable=error", "no-sbom=warning", channel="stable")
    internal = line.apk(1, channel="internal", **debuggable)
    assert internal["channel"]["moved"] is True
    document = line.apk(2, channel="stable", status=5, **debuggable)
    assert document["error"]["code"] == "policy_failed"
    assert found(document) == {"policy.debuggable": "error", "policy.no-sbom": "warning"}
    assert "rule debuggable of channel stable" in document["error"]["detail"]
    refused = line.dist.json("channel", "promote", line.slug, "stable", internal["release"]["id"], status=5)
    assert refused["error"]["code"] == "policy_failed"
    assert "stable" in refused["error"]["detail"]
    (finding,) = [row for row in refused["error"]["findings"] if row["severity"] == "error"]
    assert (finding["rule"], finding["artifact"]) == ("policy.debuggable", "notes.apk")
    line.dist.json(
        "channel", "promote", line.slug, "stable", internal["release"]["id"], "--dry-run", status=5
    )
    assert [row["name"] for row in line.dist.json("channel", "list", line.slug)["items"]] == ["internal"]
    sound = line.apk(3)
    moved = line.dist.json("channel", "promote", line.slug, "stable", sound["release"]["id"])
    assert [row["rule"] for row in moved["findings"]] == ["policy.no-sbom"]


def test_an_admin_sees_what_a_policy_would_have_said_before_setting_it(line: Line) -> None:
    line.apk(1, application={"debuggable": True})
    line.apk(2)
    said = line.dist.json("app", "policy", "set", line.slug, "--rule", "debuggable=error", "--dry-run")
    assert said["dry_run"] is True
    assert [(row["version"], row["refused"]) for row in said["items"]] == [("1.2", False), ("1.1", True)]
    assert said["refused"] == 1
    assert line.dist.json("app", "policy", "show", line.slug)["revision"] == 0
    answer = line.dist("app", "policy", "set", line.slug, "--rule", "debuggable=error", "--dry-run")
    assert "1 of the 2 newest releases would have been refused." in answer.out
    assert "notes.apk" in answer.out


def test_setting_a_policy_bit_by_bit_and_as_a_file(line: Line, tmp_path: Path) -> None:
    line.rules("debuggable=error", "min_target_sdk=30")
    line.rules("unsigned=error", "min_target_sdk=34", channel="stable")
    document = line.dist.json("app", "policy", "set", line.slug, "--unset", "min_target_sdk")
    assert document["policy"] == {
        "rules": {"debuggable": "error"},
        "limits": {},
        "channels": {"stable": {"rules": {"unsigned": "error"}, "limits": {"min_target_sdk": 34}}},
    }
    assert document["revision"] == 3
    table = line.dist("app", "policy", "show", line.slug).out
    assert [row.split() for row in table.splitlines() if row.startswith(("RULE", "unsigned"))] == [
        ["RULE", "APP", "stable"],
        ["unsigned", "warning", "error"],
    ]
    (tmp_path / "policy.json").write_text(json.dumps({"rules": {"no-sbom": "warning"}}))
    document = line.dist.json("app", "policy", "set", line.slug, "--file", tmp_path / "policy.json")
    assert document["policy"]["channels"] == {}
    assert document["updated_by"]["role"] == "admin"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Nothing is to be changed"),
        (["--rule", "debuggable"], "no name and value"),
        (["--rule", "debugable=error"], "/rules/debugable is not known"),
        (["--rule", "debuggable=fatal"], "/rules/debuggable has to be one of off, warning, error"),
        (["--limit", "min_target_sdk=x"], "no whole number"),
        (["--limit", "min_target_sdk=0"], "from 1 to"),
        (["--unset", "debuggable"], "is not set"),
        (["--channel", "stable", "--rule", "signer-changed=off"], "a channel can only be stricter"),
        (["--file", "missing.json"], "cannot be read"),
        (["--file", "missing.json", "--rule", "a=b"], "whole policy"),
    ],
)
def test_a_policy_that_cannot_be_is_refused(line: Line, arguments: list[str], said: str) -> None:
    answer: Answer = line.dist("app", "policy", "set", line.slug, *arguments)
    assert answer.status == 2, answer
    assert said.replace("no whole", "not a whole") in answer.err


def test_pins_that_cannot_be_or_are_not_there(line: Line) -> None:
    assert line.dist("app", "pin", "add", line.slug, "apk", "signer", "abc").status == 2
    assert line.dist("app", "pin", "add", line.slug, "apk").status == 2
    assert line.dist("app", "pin", "remove", line.slug, "pin_x").status == 2
    line.dist.json("app", "pin", "add", line.slug, "apk", "identifier", "com.example.notes")
    again = line.dist.json("app", "pin", "add", line.slug, "apk", "identifier", "com.example.notes")
    assert again["created"] is False
    assert line.dist.json("app", "pin", "remove", line.slug, again["pin"]["id"])["pin"] == {
        "id": again["pin"]["id"]
    }
    assert line.dist.json("app", "pin", "list", line.slug)["items"] == []
