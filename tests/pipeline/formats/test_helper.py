"""7-Zip through the broker, and what its box refuses. Outside the confined child `run` starts a broker for each call."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.formats import broker, helper
from pipeline.formats.facts import Unjudgeable
from pipeline.formats.helper import HelperFailed
from pipeline.formats.source import Source
from tests.support.fixtures import fixture, missing
from tests.support.source_of import source_at, source_of

LIST = ["l", "-slt", "-mmt=1", "-bd", "-p-", "{file}"]


@pytest.fixture(autouse=True)
def _needs_7zz() -> None:
    if not any(os.access(path, os.X_OK) for path in broker.PROGRAMS["7zz"]):
        missing("7zz is not installed")


@pytest.fixture
def image() -> Iterator[Source]:
    with source_at(fixture("dmg/SparkleTestCodeSignApp.dmg")) as source:
        yield source


def seven_zip(arguments: list[str], source: Source, max_output_bytes: int = 1 << 20) -> bytes:
    return helper.run("7zz", arguments, source=source, max_output_bytes=max_output_bytes, seconds=20)


def test_a_disk_image_is_listed_and_a_member_comes_out(image: Source) -> None:
    assert b"Type = Dmg" in seven_zip(LIST, image)
    plist = seven_zip(["e", "-so", "-bd", "-mmt=1", "{file}", "*/*.app/Contents/Info.plist"], image)
    assert plist.startswith(b"<?xml")


def test_output_over_the_limit_is_not_judged(image: Source) -> None:
    with pytest.raises(Unjudgeable) as caught:
        seven_zip(LIST, image, max_output_bytes=1000)
    assert caught.value.finding.rule == "helper.output"


def test_output_of_exactly_the_limit_is_given(image: Source) -> None:
    listing = seven_zip(LIST, image)
    assert seven_zip(LIST, image, max_output_bytes=len(listing)) == listing


def test_a_program_that_fails_says_how(image: Source) -> None:
    with pytest.raises(HelperFailed) as caught:
        seven_zip(["e", "-so", "-tzip", "{file}"], image)
    assert caught.value.exit_status == 2
    assert caught.value.finding.rule == "helper.failed"


def test_a_part_of_a_file_is_a_file_for_the_program(image: Source) -> None:
    with source_of(b"before" + image.at(0, image.size) + b"after") as larger:
        assert b"Type = Dmg" in seven_zip(LIST, larger.window(6, image.size))
        with pytest.raises(HelperFailed):
            seven_zip(LIST, larger.window(image.size, 6))


def test_a_program_that_is_not_on_the_list_is_not_started(image: Source) -> None:
    with pytest.raises(Unjudgeable) as caught:
        helper.run("sh", ["-c", "id"], source=image, max_output_bytes=100, seconds=5)
    assert caught.value.finding.rule == "helper.missing"


def test_a_program_that_takes_too_long_is_ended(image: Source) -> None:
    with pytest.raises(Unjudgeable) as caught:
        helper.run("7zz", ["b", "-mmt=1"], source=image, max_output_bytes=1 << 20, seconds=1)
    assert caught.value.finding.rule == "helper.timeout"


@pytest.mark.parametrize("seconds", [-1, broker.HELPER_MAX_SECONDS + 1])
def test_a_time_out_of_bounds_is_refused(image: Source, seconds: int) -> None:
    with pytest.raises(Unjudgeable) as caught:
        helper.run("7zz", ["i"], source=image, max_output_bytes=1 << 20, seconds=seconds)
    assert "not a request" in caught.value.finding.message


@pytest.mark.parametrize(
    "arguments",
    [
        ["l", "/etc/passwd"],
        ["e", "-so", "-ttar", "/proc/self/environ"],
        ["a", "{out}/new.7z", "{file}"],
        ["x", "-o{out}/unpacked", "{file}"],
        ["x", "-o{out}", "-snld", "{file}"],
    ],
)
def test_the_box_lets_the_program_read_and_write_nothing_else(
    image: Source, tmp_path: Path, arguments: list[str]
) -> None:
    with pytest.raises(HelperFailed):
        seven_zip([argument.replace("{out}", str(tmp_path)) for argument in arguments], image)
    assert not list(tmp_path.iterdir())


def test_an_image_whose_tables_are_impossible_is_refused() -> None:
    with source_at(fixture("hostile/koly-blocks.dmg")) as source, pytest.raises(HelperFailed):
        seven_zip(LIST, source)
