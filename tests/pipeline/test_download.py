"""Under which type bytes go out: a phone decides by it whether to install, a browser whether to rename."""

import pytest
from sqlmodel import select

from pipeline.download import MEDIA_TYPES, current, media_type_of
from pipeline.formats.recognise import Format
from pipeline.models import Artifact


@pytest.mark.parametrize(
    ("recognised", "filename", "expected"),
    [
        ("apk", "notes.apk", "application/vnd.android.package-archive"),
        ("apk", "notes.zip", "application/vnd.android.package-archive"),
        ("zip", "Notes.APK", "application/vnd.android.package-archive"),
        ("zip", "notes.zip", "application/zip"),
        ("text", "manifest.plist", "application/xml"),
        ("file", "binary.plist", "application/xml"),
        ("text", "page.html", "text/plain; charset=utf-8"),
        ("file", "page.svg", "application/octet-stream"),
        ("tarball", "notes.tar.gz", "application/gzip"),
        ("tarball", "notes.tar", "application/x-tar"),
        ("dist-package", "notes.dpk", "application/octet-stream"),
        ("dist-package", "notes.tar.gz", "application/gzip"),
        ("sbom-cyclonedx", "sbom.json", "application/vnd.cyclonedx+json"),
        ("sbom-cyclonedx", "bom.XML", "application/vnd.cyclonedx+xml"),
        ("", "x", "application/octet-stream"),
        ("something-new", "x.apk", "application/octet-stream"),
    ],
)
def test_the_type_of_a_download(recognised: str, filename: str, expected: str):
    assert media_type_of(recognised, filename) == expected


def test_every_format_that_is_told_apart_has_a_type():
    assert set(MEDIA_TYPES) == set(Format) - {Format.FILE}


def test_nothing_goes_out_as_what_a_browser_runs():
    active = {"text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", "application/javascript"}
    assert not {media.partition(";")[0] for media in MEDIA_TYPES.values()} & active


def test_of_a_package_and_a_bundle_the_permanent_address_gives_what_a_device_installs(domain):
    domain.app("notes")
    manager = domain.actor("release-manager")
    release_id = domain.submitted(
        manager, "notes", "1.0", {"a.aab": b"a bundle", "b.apk": b"a package"}, channel_name="beta"
    )
    domain.work()
    with domain.database.write() as session:
        for artifact in session.exec(select(Artifact).where(Artifact.release_id == release_id)):
            artifact.format = artifact.filename.rpartition(".")[2]
    with domain.read(domain.actor("tester")) as operation:
        artifact, _ = current(operation, "notes", "beta", "any")
        assert artifact.filename == "b.apk"
