"""What a publisher claims, against what the file is."""

import pytest

from pipeline.formats.declared import (
    Declared,
    check_arch,
    check_format,
    check_name,
    check_package,
    check_platform,
)
from pipeline.formats.facts import Report
from pipeline.formats.recognise import Format


def rules(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings]


@pytest.mark.parametrize(
    ("filename", "recognised"),
    [
        ("notes.apk", Format.APK),
        ("Notes.APK", Format.APK),
        ("notes.zip", Format.APP_ZIP),
        ("notes.zip", Format.APK),
        ("notes-1.0.tar.gz", Format.SDIST),
        ("notes.tgz", Format.NPM),
        ("setup.exe", Format.PE),
        ("notes.appxbundle", Format.MSIX_BUNDLE),
        ("sbom.cdx.json", Format.SBOM_SPDX),
        ("sbom.json", Format.TEXT),
        ("notes.bin", Format.APK),
        ("notes", Format.FILE),
        ("Notes.app.zip", Format.APP_ZIP),
    ],
)
def test_a_name_that_fits_is_no_finding(filename: str, recognised: Format) -> None:
    report = Report(recognised)
    check_format(report, Declared(filename=filename), recognised)
    assert rules(report) == []


@pytest.mark.parametrize(
    ("filename", "recognised"),
    [
        ("notes.apk", Format.ZIP),
        ("notes.apk", Format.TEXT),
        ("notes.apk", Format.AAB),
        ("notes.msix", Format.MSIX_BUNDLE),
        ("notes.exe", Format.MSI),
        ("notes.dmg", Format.FILE),
        ("notes.tar.gz", Format.FILE),
        ("notes.zip", Format.TARBALL),
        ("Notes.app.zip", Format.ZIP),
        ("notes.pkg", Format.TARBALL),
    ],
)
def test_a_name_that_promises_something_else_is_an_error(filename: str, recognised: Format) -> None:
    report = Report(recognised)
    check_format(report, Declared(filename=filename), recognised)
    assert rules(report) == ["declared.format"]


def test_an_artifact_for_any_platform_may_hold_anything() -> None:
    report = Report(Format.TEXT)
    check_format(report, Declared(filename="notes.apk", platform="any"), Format.TEXT)
    assert rules(report) == []


def test_a_declared_format_has_to_be_the_recognised_one() -> None:
    report = Report(Format.APK)
    check_format(report, Declared(format="apk"), Format.APK)
    assert rules(report) == []
    check_format(report, Declared(format="aab", platform="any"), Format.APK)
    assert rules(report) == ["declared.format"]


@pytest.mark.parametrize(
    ("declared", "recognised"),
    [
        ("exe", Format.PE),
        ("APPX", Format.MSIX),
        ("tar.gz", Format.SDIST),
        ("zip", Format.APP_ZIP),
        ("pe", Format.PE),
    ],
)
def test_a_format_may_be_declared_by_the_ending_of_its_files(declared: str, recognised: Format) -> None:
    report = Report(recognised)
    check_format(report, Declared(format=declared), recognised)
    assert rules(report) == []


@pytest.mark.parametrize(
    ("declared", "found", "fits"),
    [
        ("android", "android", True),
        ("ios", "android", False),
        ("any", "android", True),
        ("windows", "any", True),
        ("windows", None, True),
        (None, "android", True),
    ],
)
def test_a_platform_contradicts_only_another_platform(
    declared: str | None, found: str | None, fits: bool
) -> None:
    report = Report(Format.FILE, found)
    check_platform(report, Declared(platform=declared))
    assert rules(report) == ([] if fits else ["declared.platform"])


@pytest.mark.parametrize(
    ("declared", "platform", "found", "fits"),
    [
        ("x64", "windows", ["x86_64"], True),
        ("AMD64", "linux", ["x64"], True),
        ("arm64", "android", ["armeabi-v7a", "arm64-v8a"], True),
        ("aarch64", "linux", ["arm64"], True),
        ("x86", "windows", ["i386"], True),
        ("x64", "windows", ["arm64"], False),
        ("x86", "windows", ["x64"], False),
        ("x64", "windows", [], True),
        (None, "windows", ["x64"], True),
        ("arm64", "linux", ["all"], True),
        ("noarch", "linux", ["x86_64"], True),
        ("riscv64", "linux", ["riscv64"], True),
        ("universal", "macos", ["arm64", "x86_64"], True),
        ("universal", "macos", ["arm64"], False),
        ("universal", "windows", ["x64"], True),
        ("arm64", "macos", ["universal"], True),
        ("ppc", "macos", ["universal"], False),
    ],
)
def test_an_architecture_is_found_under_any_of_its_names(
    declared: str | None, platform: str, found: list[str], fits: bool
) -> None:
    report = Report(Format.FILE, platform)
    report.metadata.archs = found
    check_arch(report, Declared(arch=declared))
    assert rules(report) == ([] if fits else ["declared.arch"])


@pytest.mark.parametrize(
    "filename",
    [
        "../../up.apk",
        "a\\b.apk",
        "C:up.apk",
        ".hidden",
        "a\nb",
        "a\u202egpj.exe",
        "x" * 256,
        "",
        "con.txt",
        "a.",
    ],
)
def test_a_name_that_is_no_plain_name_is_an_error(filename: str) -> None:
    report = Report(Format.FILE)
    check_name(report, Declared(filename=filename))
    assert rules(report) == ["declared.unsafe-name"]


@pytest.mark.parametrize("filename", ["notes.apk", "Übersicht 1.0 (beta).dmg", "x" * 255, None])
def test_a_plain_name_is_no_finding(filename: str | None) -> None:
    report = Report(Format.FILE)
    check_name(report, Declared(filename=filename))
    assert rules(report) == []


@pytest.mark.parametrize(
    "name",
    [
        "my_app-1.0-py3-none-any.whl",
        "My.App-1.0.0-py3-none-any.whl",
        "my_app-1.0-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "latest.whl",
        "my-app-nightly-1-2-3-4.whl",
    ],
)
def test_a_wheel_under_its_own_name_or_under_none_is_no_finding(name: str) -> None:
    assert rules(wheel_named(name)) == []


@pytest.mark.parametrize(
    "name", ["evil-1.0-py3-none-any.whl", "my_app-9.9-py3-none-any.whl", "my_app-1.0.1-py3-none-any.whl"]
)
def test_a_wheel_under_the_name_of_another_is_refused(name: str) -> None:
    assert rules(wheel_named(name)) == ["declared.package"]


def wheel_named(name: str) -> Report:
    report = Report(Format.WHEEL, details={"project": "my-app", "version": "1.0"})
    check_package(report, Declared(filename=name), Format.WHEEL)
    return report
