"""One release for every kind of device at once: real files of ten formats, from `dist ci publish` to the digest store."""

import hashlib
import shutil
from pathlib import Path

from tests.support.build_tar import Tarred, archive
from tests.support.fixtures import fixture, require_index
from tests.support.platform import Platform, write_release

# format, platform, known file; a tarball is made here, since the known ones are all hostile
FILES = (
    ("apk", "android", "apk/android.apk"),
    ("ipa", "ios", "ipa/iphone.ipa"),
    ("dmg", "macos", "dmg/SparkleTestCodeSignApp.dmg"),
    ("pkg", "macos", "pkg/valid.pkg"),
    ("msix", "windows", "msix/Installer-Signed-Good.msix"),
    ("pe", "windows", "pe/snoretoast-x86.exe"),
    ("deb", "linux", "deb/hello_2.10-3_amd64.deb"),
    ("rpm", "linux", "rpm/Archer-3.4.5-6.x86_64.rpm"),
    ("appimage", "linux", "appimage/Echo-x86_64.AppImage"),
)


def test_ten_formats_are_one_published_release(tmp_path: Path):
    known = {row["path"]: row for row in require_index()}
    folder = tmp_path / "project"
    manifest = [{"path": f"build/{Path(path).name}", "platform": platform} for _, platform, path in FILES] + [
        {"path": "build/server-1.0.tar", "platform": "linux", "format": "tarball"}
    ]
    (folder / "build").mkdir(parents=True)
    for _, _, path in FILES:
        shutil.copy(fixture(path), folder / "build")
    (folder / "build" / "server-1.0.tar").write_bytes(archive(Tarred("server-1.0/run", b"#!/bin/sh\n")))
    write_release(folder, {}, app="everything", version="1.0", channel="stable", artifacts=manifest)

    with Platform(tmp_path / "server") as platform:
        platform.start("up")
        answer = platform.publish(folder, timeout=170)
        assert answer.code == 0, answer.out
        document = answer.json
        assert document["release"]["status"] == "published"
        assert document["channel"]["release_id"] == document["release"]["id"]
        rows = document["artifacts"]
        assert [row["format"] for row in rows] == [name for name, _, _ in FILES] + ["tarball"]
        assert all(row["status"] == "stored" for row in rows)
        steps = {(row["artifact_id"], row["step"]): row["status"] for row in document["validations"]}
        assert steps == {
            (row["id"], step): "succeeded" for row in rows for step in ("hash", "inspect", "policy", "store")
        }
        with platform.http() as http:
            for row, (_, _, path) in zip(rows, FILES, strict=False):
                assert row["sha256"] == known[path]["sha256"]
                assert hashlib.sha256(http.get(row["download_url"]).content).hexdigest() == row["sha256"]
        assert platform.blobs() == sorted(row["sha256"] for row in rows)
        assert platform.distd("check").code == 0
