"""A mirror in the hands of an attacker: whatever is changed, taken out or put in is named, with the rule that it breaks."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import minisign
from pipeline.package.errors import PackageError
from pipeline.proof import commands
from tests.support.build_mirror import Mirror, canonical, file_of, key, manifest_of, sha256


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path / "mirror")


@pytest.fixture
def releases(mirror: Mirror) -> list[Path]:
    return [mirror.add(f"1.{number}", sbom=b'{"bomFormat": "CycloneDX"}') for number in range(4)]


def verify(
    mirror: Mirror,
    folder: Path | None = None,
    *,
    trusted: str | None = None,
    head: str | None = None,
    recalled: str | None = None,
) -> dict[str, Any]:
    return commands.verify_folder(
        folder or mirror.folder,
        trusted=(trusted if trusted is not None else mirror.public).encode(),
        head=head,
        recall=lambda _app, _key: recalled,
    )


def rules(document: dict[str, Any]) -> list[str]:
    for problem in document["problems"]:
        assert set(problem) == {"path", "rule", "message", "remedy"}
        assert all(problem.values())
    return sorted(problem["rule"] for problem in document["problems"])


def test_what_was_given_out_is_proven(mirror: Mirror, releases: list[Path]):
    document = verify(mirror)
    assert document["problems"] == []
    (found,) = document["apps"]
    assert (found["releases"], found["files"], found["withheld"]) == (4, 8, 0)
    assert found["head"]["version"] == "1.3"
    assert found["head"]["sha256"] == sha256((releases[3] / "manifest.json").read_bytes())
    assert found["key_id"] == minisign.shown_key_id(mirror.secret.key_id)


def test_one_app_of_a_mirror_is_proven_too(mirror: Mirror, releases: list[Path]):
    assert verify(mirror, mirror.folder / "notes")["problems"] == []


def test_a_single_release_put_in_the_place_of_a_mirror_is_not_taken_for_one(
    mirror: Mirror, releases: list[Path]
):
    """It would have no chain, and nothing would be remembered of it."""
    found = rules(verify(mirror, releases[0], recalled="0" * 64))
    assert set(found) >= {"file.not-in-manifest"}


def test_an_app_that_was_taken_out_as_a_whole_is_missed_by_whoever_asks_for_it(
    mirror: Mirror, releases: list[Path]
):
    document = commands.verify_folder(
        mirror.folder,
        trusted=mirror.public.encode(),
        head=None,
        recall=lambda *_: None,
        wanted=["notes", "maps"],
    )
    assert [(problem["rule"], problem["path"]) for problem in document["problems"]] == [
        ("app.missing", "maps")
    ]


def test_two_apps_in_one_mirror_have_a_chain_each(mirror: Mirror, releases: list[Path]):
    other = Mirror(mirror.folder, app="maps", secret=mirror.secret)
    other.add("9.0")
    other.add("9.1")
    document = verify(mirror)
    assert document["problems"] == []
    assert {row["app"]: row["head"]["version"] for row in document["apps"]} == {"notes": "1.3", "maps": "9.1"}


# -- an attacker's edits ----------------------------------------------------------------------------

Edit = Callable[[Mirror, list[Path]], None]


def swapped_artifact(_mirror: Mirror, releases: list[Path]) -> None:
    path = file_of(releases[1])
    path.write_bytes(b"X" * path.stat().st_size)


def truncated_artifact(_mirror: Mirror, releases: list[Path]) -> None:
    path = file_of(releases[1])
    path.write_bytes(path.read_bytes()[:-1])


def artifact_of_another_release(_mirror: Mirror, releases: list[Path]) -> None:
    shutil.copy(file_of(releases[0]), file_of(releases[3]))


def missing_artifact(_mirror: Mirror, releases: list[Path]) -> None:
    file_of(releases[1]).unlink()


def edited_sbom(_mirror: Mirror, releases: list[Path]) -> None:
    file_of(releases[2], "sbom.cdx.json").write_bytes(b'{"bomFormat": "cyclonedx"}')


def extra_file(_mirror: Mirror, releases: list[Path]) -> None:
    (file_of(releases[2]).parent / "setup.exe").write_bytes(b"MZ")


def extra_file_of_the_mirror(mirror: Mirror, _releases: list[Path]) -> None:
    (mirror.folder / "README.txt").write_bytes(b"run this")
    (mirror.folder / "notes" / "latest.apk").write_bytes(b"PK")


def symbolic_link(_mirror: Mirror, releases: list[Path]) -> None:
    path = file_of(releases[2])
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def linked_folder(mirror: Mirror, releases: list[Path]) -> None:
    target = mirror.folder.parent / "elsewhere"
    releases[0].rename(target)
    releases[0].symlink_to(target)


def pipe(_mirror: Mirror, releases: list[Path]) -> None:
    os.mkfifo(releases[2] / "more.json")


def pipe_as_manifest(_mirror: Mirror, releases: list[Path]) -> None:
    (releases[3] / "manifest.json").unlink()
    os.mkfifo(releases[3] / "manifest.json")


def removed_release(_mirror: Mirror, releases: list[Path]) -> None:
    shutil.rmtree(releases[1])


def older_manifest(_mirror: Mirror, releases: list[Path]) -> None:
    for name in ("manifest.json", "manifest.json.minisig"):
        shutil.copy(releases[1] / name, releases[3] / name)


def older_release(_mirror: Mirror, releases: list[Path]) -> None:
    shutil.rmtree(releases[3])
    shutil.copytree(releases[1], releases[3])


def unknown_key(mirror: Mirror, releases: list[Path]) -> None:
    mirror.write(releases[3], manifest_of(releases[3]), secret=key(7))


def same_key_id(mirror: Mirror, releases: list[Path]) -> None:
    forger = minisign.SecretKey(mirror.secret.key_id, bytes([9]) * 32)
    mirror.write(releases[3], manifest_of(releases[3]) | {"version": "9.9"}, secret=forger)


def edited_manifest(_mirror: Mirror, releases: list[Path]) -> None:
    (releases[3] / "manifest.json").write_bytes(canonical(manifest_of(releases[3]) | {"version": "9.9"}))


def unsigned(_mirror: Mirror, releases: list[Path]) -> None:
    (releases[3] / "manifest.json.minisig").unlink()


def garbled_signature(_mirror: Mirror, releases: list[Path]) -> None:
    (releases[3] / "manifest.json.minisig").write_bytes(b"trust me\n")


def edited_comment(_mirror: Mirror, releases: list[Path]) -> None:
    path = releases[3] / "manifest.json.minisig"
    path.write_bytes(path.read_bytes().replace(b"version:1.3", b"version:1.9"))


def indented_manifest(mirror: Mirror, releases: list[Path]) -> None:
    content = json.dumps(manifest_of(releases[3]), indent=1).encode()
    (releases[3] / "manifest.json").write_bytes(content)
    comment = f"distd app:notes version:1.3 release:{releases[3].name}"
    (releases[3] / "manifest.json.minisig").write_bytes(
        minisign.sign(mirror.secret, [content], trusted_comment=comment)
    )


def another_app(mirror: Mirror, releases: list[Path]) -> None:
    mirror.previous = None
    other = Mirror(mirror.folder, app="maps", secret=mirror.secret).add("1.0")
    other.rename(releases[0].parent / other.name)


def second_beginning(mirror: Mirror, _releases: list[Path]) -> None:
    mirror.previous = None
    mirror.add("2.0")


def fork(mirror: Mirror, releases: list[Path]) -> None:
    mirror.previous = manifest_of(releases[2])["previous"]
    mirror.add("1.2.1")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (swapped_artifact, ["file.changed"]),
        (truncated_artifact, ["file.changed"]),
        (artifact_of_another_release, ["file.changed"]),
        (missing_artifact, ["file.missing"]),
        (edited_sbom, ["file.changed"]),
        (extra_file, ["file.not-in-manifest"]),
        (extra_file_of_the_mirror, ["file.not-in-manifest"] * 2),
        (symbolic_link, ["file.missing", "file.not-a-file", "file.not-in-manifest"]),
        (linked_folder, ["chain.gap", "file.not-a-file"]),
        (pipe, ["file.not-a-file"]),
        (pipe_as_manifest, ["file.missing"]),
        (removed_release, ["chain.gap"]),
        (older_manifest, ["manifest.misplaced", "manifest.misplaced"]),
        (older_release, ["manifest.misplaced", "manifest.misplaced"]),
        (unknown_key, ["signature.unknown-key"]),
        (same_key_id, ["signature.invalid"]),
        (edited_manifest, ["signature.invalid"]),
        (unsigned, ["signature.missing"]),
        (garbled_signature, ["signature.malformed"]),
        (edited_comment, ["signature.invalid"]),
        (indented_manifest, ["manifest.malformed"]),
        (second_beginning, ["chain.fork"]),
        (fork, ["chain.fork"]),
    ],
)
def test_every_edit_is_named(mirror: Mirror, releases: list[Path], edit: Edit, expected: list[str]):
    edit(mirror, releases)
    assert rules(verify(mirror)) == expected


def test_a_release_of_another_app_does_not_pass_for_one_of_this(mirror: Mirror, releases: list[Path]):
    another_app(mirror, releases)
    assert "manifest.misplaced" in rules(verify(mirror))


def test_a_changed_attachment_is_called_what_it_is(mirror: Mirror, releases: list[Path]):
    edited_sbom(mirror, releases)
    (problem,) = verify(mirror)["problems"]
    assert "this sbom has SHA-256" in problem["message"]
    assert problem["path"].endswith("/sbom.cdx.json")


def test_a_release_that_was_taken_out_is_named_by_the_one_that_follows(mirror: Mirror, releases: list[Path]):
    removed_release(mirror, releases)
    (problem,) = verify(mirror)["problems"]
    assert f"notes 1.2 follows {releases[1].name}, which is not here" in problem["message"]


# -- the end of the chain ---------------------------------------------------------------------------


def test_the_newest_release_cut_off_shows_only_against_what_is_known_from_elsewhere(
    mirror: Mirror, releases: list[Path]
):
    newest = sha256((releases[3] / "manifest.json").read_bytes())
    assert verify(mirror, recalled=newest)["problems"] == []
    for head in ("1.3", releases[3].name, newest):
        assert verify(mirror, head=head)["problems"] == []
    shutil.rmtree(releases[3])
    assert verify(mirror)["problems"] == [], "an older copy is a sound chain"
    assert rules(verify(mirror, recalled=newest)) == ["chain.rolled-back"]
    for head in ("1.3", releases[3].name, newest):
        assert rules(verify(mirror, head=head)) == ["chain.other-head"]


def test_a_chain_that_grew_out_of_the_one_seen_before_is_fine(mirror: Mirror, releases: list[Path]):
    seen = sha256((releases[1] / "manifest.json").read_bytes())
    assert verify(mirror, recalled=seen)["problems"] == []


# -- what the server does not give out any more -----------------------------------------------------


def test_files_that_the_server_holds_back_may_be_missing_and_not_changed(
    mirror: Mirror, releases: list[Path]
):
    (releases[1] / "withheld.json").write_text('{"withheld": "revoked: crashes"}\n')
    file_of(releases[1]).unlink()
    document = verify(mirror)
    assert (document["problems"], document["apps"][0]["withheld"]) == ([], 1)
    demanding = commands.verify_folder(
        mirror.folder, trusted=mirror.public.encode(), head=None, recall=lambda *_: None, complete=True
    )
    assert rules(demanding) == ["file.missing"]
    file_of(releases[1], "sbom.cdx.json").write_bytes(b"{}")
    assert rules(verify(mirror)) == ["file.changed"]


# -- keys -------------------------------------------------------------------------------------------


def test_after_a_rotation_both_keys_are_trusted_or_the_old_releases_are_not(
    mirror: Mirror, releases: list[Path]
):
    old, mirror.secret = mirror.public, key(2)
    mirror.add("2.0")
    assert verify(mirror, trusted=f"{old}\n{mirror.public}\n")["problems"] == []
    assert rules(verify(mirror, trusted=mirror.public)) == ["chain.gap", *["signature.unknown-key"] * 4]


def test_two_trusted_keys_under_one_identifier_are_trusted_for_nothing(mirror: Mirror, releases: list[Path]):
    other = minisign.SecretKey(mirror.secret.key_id, bytes([9]) * 32).public.line
    assert rules(verify(mirror, trusted=f"{mirror.public}\n{other}")) == ["signature.unknown-key"] * 4


@pytest.mark.parametrize(
    ("names", "expected"), [("", []), (" notes", []), (" maps other", ["signature.key-of-other-apps"] * 4)]
)
def test_a_key_may_be_trusted_for_some_apps_only(
    mirror: Mirror, releases: list[Path], names: str, expected: list[str]
):
    assert rules(verify(mirror, trusted=mirror.public + names)) == expected


def test_a_key_that_is_none_is_said_to_be_none(mirror: Mirror, releases: list[Path]):
    with pytest.raises(PackageError, match="line 2"):
        verify(mirror, trusted=f"# ours\nRWQnonsense\n{mirror.public}")


def test_a_thousand_releases_are_read_once_each(mirror: Mirror, monkeypatch: pytest.MonkeyPatch):
    """Constant work for a release: each manifest is parsed once, each file read once."""
    for number in range(1000):
        mirror.add(f"1.{number}")
    parsed = []
    real = commands.signed.parse_manifest

    def counted(content: bytes, *, path: str) -> Any:
        parsed.append(path)
        return real(content, path=path)

    monkeypatch.setattr(commands.signed, "parse_manifest", counted)
    document = verify(mirror)
    assert document["problems"] == []
    assert document["apps"][0]["releases"] == len(parsed) == len(set(parsed)) == 1000
    victim = mirror.folder / "notes" / sorted(path.name for path in (mirror.folder / "notes").iterdir())[500]
    shutil.rmtree(victim)
    assert rules(verify(mirror)) == ["chain.gap"]
