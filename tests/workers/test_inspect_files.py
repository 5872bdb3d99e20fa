import hashlib
import json
from pathlib import Path

from pipeline.formats.facts import Severity, Verdict
from workers.inspect_files import inspect_files

KEYS = [
    "path", "sha256", "size", "format", "platform", "verdict", "metadata", "signature", "details", "findings",
]  # fmt: skip


def test_each_file_gives_one_json_object_with_the_keys_of_the_contract_in_order(tmp_path: Path) -> None:
    notes, fake = tmp_path / "notes.txt", tmp_path / "fake.apk"
    notes.write_text("some words\n")
    fake.write_text("no archive\n")
    rows = list(inspect_files([str(notes), fake]))
    assert [row["path"] for row in rows] == [str(notes), str(fake)]
    for row, file in zip(rows, (notes, fake), strict=True):
        assert list(row) == KEYS
        assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert row["size"] == file.stat().st_size
        assert row["verdict"] in set(Verdict)
        assert json.loads(json.dumps(row)) == row
    assert rows[1]["verdict"] == "rejected"
    errors = [finding["rule"] for finding in rows[1]["findings"] if finding["severity"] == Severity.ERROR]
    assert errors == ["declared.format"]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    good = tmp_path / "good.txt"
    good.write_text("some words\n")
    missing, folder, inspected = inspect_files([tmp_path / "missing", tmp_path, good])
    assert missing.keys() == folder.keys() == {"path", "error"}
    assert missing["error"]["code"] == "usage"
    assert "No such file" in missing["error"]["detail"]
    assert "not a regular file" in folder["error"]["detail"]
    assert inspected["format"] == "text"


def test_an_empty_file_is_rejected_without_a_reader(tmp_path: Path) -> None:
    empty = tmp_path / "empty.ipa"
    empty.touch()
    (row,) = inspect_files([empty])
    assert row["verdict"] == "rejected"
    assert [finding["rule"] for finding in row["findings"]] == ["file.empty"]


def test_no_files_give_nothing() -> None:
    assert list(inspect_files([])) == []
