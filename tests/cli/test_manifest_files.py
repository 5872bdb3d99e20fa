"""The files of a dist.json: found, and fit to be uploaded, before any network."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from cli.declared import InvalidManifest, parse_manifest
from cli.files import Ready, make_ready

NOBODY = 65534


def ready(folder: Path, *paths: str, **more: Any) -> Ready:
    rows = [
        {"path": path, "platform": "android", "variant": f"v{number}"} for number, path in enumerate(paths)
    ]
    document = {"schema": 1, "app": "notes", "version": "1", "artifacts": rows} | more
    return make_ready(parse_manifest(json.dumps(document).encode()), folder=folder)


def refusals(folder: Path, *paths: str, **more: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidManifest) as caught:
        ready(folder, *paths, **more)
    assert caught.value.exit_status == 2
    return [(problem.path, problem.message) for problem in caught.value.problems]


def refusal(folder: Path, path: str) -> str:
    ((at, message),) = refusals(folder, path)
    assert at == "$.artifacts[0].path"
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = tmp_path / "project"
    (project / "build").mkdir(parents=True)
    (project / "build" / "a.apk").write_bytes(b"abc")
    return project


def test_a_file_is_found_relative_to_the_manifest(folder: Path) -> None:
    ((_, file),) = ready(folder, "build/a.apk").artifacts
    assert file is not None
    assert (file.filename, file.size) == ("a.apk", 3)


@pytest.mark.parametrize("glob", ["build/*.apk", "**/*.apk", "build/?.apk", "build/[a-c].apk"])
def test_a_glob_that_matches_one_file(folder: Path, glob: str) -> None:
    ((_, file),) = ready(folder, glob).artifacts
    assert file is not None
    assert file.filename == "a.apk"


def test_a_glob_that_matches_none(folder: Path) -> None:
    assert "matches no file" in refusal(folder, "build/*.ipa")


def test_a_glob_that_matches_two_names_both(folder: Path) -> None:
    (folder / "build" / "b.apk").write_bytes(b"abc")
    message = refusal(folder, "build/*.apk")
    assert "matches 2 files: build/a.apk, build/b.apk" in message


def test_a_glob_counts_files_and_not_folders(folder: Path) -> None:
    (folder / "build" / "x.apk").mkdir()
    ((_, file),) = ready(folder, "build/*.apk").artifacts
    assert file is not None
    assert file.filename == "a.apk"


def test_a_file_whose_name_looks_like_a_glob(folder: Path) -> None:
    (folder / "build" / "b[1].apk").write_bytes(b"abc")
    ((_, file),) = ready(folder, "build/b[1].apk").artifacts
    assert file is not None
    assert file.filename == "b[1].apk"


def test_a_missing_file(folder: Path) -> None:
    assert "there is no file" in refusal(folder, "build/b.apk")


def test_a_folder(folder: Path) -> None:
    assert "is a folder" in refusal(folder, "build")


def test_an_app_bundle_says_how_to_pack_it(folder: Path) -> None:
    (folder / "Notes.app").mkdir()
    with pytest.raises(InvalidManifest) as caught:
        ready(folder, "Notes.app")
    assert "ditto" in caught.value.problems[0].remedy


def test_an_empty_file(folder: Path) -> None:
    (folder / "e.apk").touch()
    assert "is empty" in refusal(folder, "e.apk")


def test_a_pipe_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "p.apk")
    assert "no regular file" in refusal(folder, "p.apk")


def test_a_link_to_a_device(folder: Path) -> None:
    (folder / "z.apk").symlink_to("/dev/zero")
    assert "leaves the folder" in refusal(folder, "z.apk")


def test_a_link_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"abc")
    (folder / "l.apk").symlink_to(tmp_path / "secret")
    assert "leaves the folder" in refusal(folder, "l.apk")


def test_a_folder_that_is_a_link_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "s.apk").write_bytes(b"abc")
    (folder / "linked").symlink_to(tmp_path / "out")
    assert "leaves the folder" in refusal(folder, "linked/s.apk")
    assert "leaves the folder" in refusal(folder, "linked/*.apk")


def test_a_link_inside_the_folder_is_fine(folder: Path) -> None:
    (folder / "latest.apk").symlink_to("build/a.apk")
    ((_, file),) = ready(folder, "latest.apk").artifacts
    assert file is not None
    assert file.filename == "latest.apk"


def test_a_broken_link_and_a_loop(folder: Path) -> None:
    (folder / "b.apk").symlink_to("nowhere")
    assert "there is no file" in refusal(folder, "b.apk")
    (folder / "c.apk").symlink_to("c.apk")
    assert "cannot be read" in refusal(folder, "c.apk")


def test_a_file_without_permission() -> None:
    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to others
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "a.apk").write_bytes(b"abc")
        (folder / "a.apk").chmod(0)
        root = os.geteuid() == 0
        if root:  # who may read everything
            os.setresuid(NOBODY, NOBODY, 0)
        try:
            assert "permission denied" in refusal(folder, "a.apk")
        finally:
            if root:
                os.setresuid(0, 0, 0)


@pytest.mark.parametrize("name", ["a:b.apk", "con.apk", ".hidden.apk", "a\u202eb.apk", "a\x07.apk"])
def test_a_name_that_not_every_system_can_save(folder: Path, name: str) -> None:
    (folder / "build" / "a.apk").rename(folder / "build" / name)
    assert "no name that every system can save" in refusal(
        folder, "build/*.apk" if not name.startswith(".") else f"build/{name}"
    )


def test_a_name_whose_bytes_are_no_utf8(folder: Path) -> None:
    (folder / "build" / "a.apk").rename(os.fsdecode(os.fsencode(folder / "build") + b"/\xff.apk"))
    assert "no name that every system can save" in refusal(folder, "build/*.apk")


def test_notes_from_a_file(folder: Path) -> None:
    (folder / "CHANGELOG.md").write_text("Faster sync, naïve.", encoding="utf-8")
    assert ready(folder, "build/a.apk", notes={"file": "CHANGELOG.md"}).notes == "Faster sync, naïve."


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe\xfa", "is not UTF-8"), (b"x" * ((1 << 20) + 1), "is longer than"), (b"", "is empty")],
)
def test_a_bad_notes_file(folder: Path, content: bytes, said: str) -> None:
    (folder / "CHANGELOG.md").write_bytes(content)
    ((at, message),) = refusals(folder, "build/a.apk", notes={"file": "CHANGELOG.md"})
    assert at == "$.notes.file"
    assert said in message


def test_a_link_needs_no_file(folder: Path) -> None:
    rows = [{"platform": "ios", "ios": {"mode": "testflight", "url": "https://testflight.apple.com/join/A"}}]
    assert ready(folder, artifacts=rows).artifacts[0][1] is None


def test_every_bad_file_is_named_at_once(folder: Path) -> None:
    found = refusals(
        folder, "x.apk", "build", "build/a.apk", attachments=[{"path": "sbom.json", "kind": "sbom"}]
    )
    assert [at for at, _ in found] == ["$.artifacts[0].path", "$.artifacts[1].path", "$.attachments[0].path"]
