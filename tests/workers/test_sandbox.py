"""The sandbox with a reader that misbehaves (tests/support/misbehaving_child.py): the worker gets a finding, and nothing is left."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Verdict
from pipeline.formats.limits import ICON_MAX_BYTES, LOG_MAX_BYTES, REPORT_MAX_BYTES, Limits
from pipeline.formats.parts import parts
from tests.support.fixtures import REPOSITORY
from workers.sandbox import Inspection, Sandbox, SandboxUnavailable

PROGRAM = (sys.executable, "-I", str(REPOSITORY / "tests" / "support" / "misbehaving_child.py"))
ORDINARY = Limits()
SHORT = Limits(wall_seconds=1.5, cpu_seconds=1)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(preload=False, program=PROGRAM) as opened:
        yield opened


@pytest.fixture
def inspected(sandbox: Sandbox, tmp_path: Path):
    def inspect(text: str, limits: Limits = ORDINARY) -> Inspection:
        path = tmp_path / "act.txt"
        path.write_text(text)
        return sandbox.inspect(path, limits=limits)

    return inspect


def rules(inspection: Inspection) -> list[str]:
    return [finding["rule"] for finding in inspection.report["findings"]]


def message(inspection: Inspection) -> str:
    return inspection.report["findings"][0]["message"]


def children_of(pid: int) -> set[int]:
    """All descendants, zombies included."""
    found: set[int] = set()
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    todo = [pid]
    while todo:
        parent = todo.pop()
        mine = {child for child, its_parent in parents.items() if its_parent == parent}
        found |= mine
        todo += mine
    return found


def soon(condition) -> bool:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_reader_that_does_nothing_wrong_is_believed(inspected) -> None:
    inspection = inspected("nothing")
    assert inspection.verdict is Verdict.ACCEPTED
    assert inspection.report["format"] == "text"
    assert not inspection.crashed
    assert 0 < inspection.max_rss_bytes < 512 << 20


def test_a_malformed_file_is_a_finding_and_no_crash(inspected) -> None:
    inspection = inspected("malformed")
    assert rules(inspection) == ["test.bad"]
    assert inspection.verdict is Verdict.REJECTED
    assert not inspection.crashed


@pytest.mark.parametrize(
    ("act", "how"),
    [
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("kill", "SIGKILL"),
        ("exit", "exit status 3"),
        ("quit", "exit status 70"),
        ("forge a report", "exit status"),
    ],
)
def test_a_child_that_dies_is_told_of_with_the_format_it_read(inspected, act: str, how: str) -> None:
    inspection = inspected(act)
    assert rules(inspection) == ["inspect.child-died"]
    assert how in message(inspection)
    assert inspection.verdict is Verdict.INCONCLUSIVE
    assert inspection.crashed
    if act != "forge a report":
        assert inspection.report["format"] == "text"


def test_an_endless_loop_is_stopped_by_its_processor_time(inspected) -> None:
    inspection = inspected("loop", Limits(wall_seconds=30, cpu_seconds=1))
    assert rules(inspection) == ["inspect.timeout"]
    assert "1 s of processor time" in message(inspection)
    assert inspection.crashed


@pytest.mark.parametrize("act", ["wait", "wait with closed pipes"])
def test_a_child_that_waits_is_stopped_by_the_clock(inspected, act: str) -> None:
    inspection = inspected(act, SHORT)
    assert rules(inspection) == ["inspect.timeout"]
    assert "1.5 s of wall time" in message(inspection)
    assert inspection.crashed


def test_a_memory_bomb_ends_inside_its_limit(inspected) -> None:
    inspection = inspected("bomb")
    assert rules(inspection) == ["inspect.memory"]
    assert inspection.verdict is Verdict.INCONCLUSIVE
    assert inspection.max_rss_bytes < 512 << 20
    assert inspection.crashed


@pytest.mark.parametrize(("act", "error"), [("raise", "TypeError"), ("recursion", "RecursionError")])
def test_a_reader_with_a_bug_gives_its_error_to_the_log_only(inspected, act: str, error: str) -> None:
    inspection = inspected(act)
    assert rules(inspection) == ["inspect.reader-failed"]
    assert error in message(inspection)
    assert "Traceback" in inspection.log
    assert "Traceback" not in str(inspection.report)


def test_a_flood_of_answers_is_cut_off(inspected) -> None:
    inspection = inspected("flood the report")
    assert rules(inspection) == ["inspect.output"]
    assert inspection.crashed


def test_a_report_that_is_too_long_becomes_a_finding(inspected) -> None:
    inspection = inspected("huge report")
    assert rules(inspection) == ["inspect.output"]
    assert str(REPORT_MAX_BYTES) in message(inspection)
    assert inspection.report["details"] == {}
    assert not inspection.crashed


def test_an_icon_arrives_and_one_that_is_too_large_is_left_out(inspected) -> None:
    assert inspected("icon").icon == b"\x89PNG\r\n\x1a\n" + bytes(10)
    inspection = inspected("huge icon")
    assert inspection.icon is None
    assert inspection.verdict is Verdict.ACCEPTED
    assert ICON_MAX_BYTES < 300 << 10


def test_a_flood_of_complaints_does_not_hide_the_answer(inspected) -> None:
    inspection = inspected("flood the log")
    assert inspection.verdict is Verdict.ACCEPTED
    assert len(inspection.log) == LOG_MAX_BYTES


def test_a_string_that_is_no_unicode_still_makes_a_report(inspected) -> None:
    assert inspected("odd strings").report["metadata"]["name"] == "lone ? surrogate"


def test_the_child_knows_nothing_of_the_worker(inspected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTD_SECRET", "hush")
    surroundings = inspected("surroundings").report["details"]
    assert not any(name.startswith("DIST") for name in surroundings["environment"])
    assert surroundings["descriptors"] == [0, 1, 2, 3, 4, 5]
    assert surroundings["folder"] == "/"


def test_the_broker_refuses_what_is_not_on_its_list(inspected) -> None:
    inspection = inspected("misuse the broker")
    assert inspection.verdict is Verdict.ACCEPTED
    assert inspection.log.count("refused") == 3
    assert inspection.log.count("missing") == 1  # a program that is not on the list is not installed
    assert "uid=" not in inspection.log


def test_a_helper_program_runs_from_inside_the_confinement(inspected) -> None:
    inspection = inspected("helper")
    if rules(inspection) == ["helper.missing"]:
        pytest.skip("7zz is not installed")
    assert "7-Zip" in inspection.report["details"]["says"]


def test_the_next_file_after_a_crash_gets_a_fresh_starter(inspected, sandbox: Sandbox) -> None:
    inspected("nothing")
    before = sandbox._starter
    inspected("segfault")
    assert inspected("nothing").verdict is Verdict.ACCEPTED
    assert sandbox._starter is not before
    assert before is not None
    assert soon(before.has_ended)


def test_a_starter_that_was_killed_is_replaced(inspected, sandbox: Sandbox) -> None:
    inspected("nothing")
    starter = sandbox._starter
    assert starter is not None
    os.kill(starter._process.pid, signal.SIGKILL)
    assert soon(starter.has_ended)
    assert inspected("nothing").verdict is Verdict.ACCEPTED


def test_a_program_that_does_not_start_is_no_finding_about_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("nothing")
    with (
        Sandbox(preload=False, program=[sys.executable, "-c", "raise SystemExit(7)"]) as sandbox,
        pytest.raises(SandboxUnavailable, match="exit status"),
    ):
        sandbox.inspect(path)


def test_a_command_that_is_not_there_is_no_finding_about_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("nothing")
    with Sandbox(program=[str(tmp_path / "missing")]) as sandbox, pytest.raises(SandboxUnavailable):
        sandbox.inspect(path)


def test_a_crash_leaves_no_zombie_even_before_closing(inspected) -> None:
    inspected("segfault")
    states = [
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        for pid in children_of(os.getpid())
    ]
    assert "Z" not in states


def test_a_kernel_without_landlock_and_filters_still_inspects(tmp_path: Path) -> None:
    """Levels 2 and 3 are taken where they are; resource limits, clock and broker hold without them."""
    old_kernel = (
        "import runpy, sys; from pipeline.formats import landlock, seccomp;"
        "landlock.abi = lambda: 0; seccomp.is_available = lambda: False;"
        f"sys.argv = [{PROGRAM[-1]!r}, *sys.argv[1:]]; runpy.run_path({PROGRAM[-1]!r}, run_name='__main__')"
    )
    path = tmp_path / "file"
    with Sandbox(preload=False, program=[sys.executable, "-I", "-c", old_kernel]) as sandbox:
        found = {}
        for act in ("nothing", "limits", "bomb", "loop", "segfault", "helper"):
            path.write_text(act)
            found[act] = sandbox.inspect(path, limits=Limits(wall_seconds=30, cpu_seconds=1))
    assert {act: rules(inspection) for act, inspection in found.items()} == {
        "nothing": [],
        "limits": [],
        "bomb": ["inspect.memory"],
        "loop": ["inspect.timeout"],
        "segfault": ["inspect.child-died"],
        "helper": [],
    }
    assert found["limits"].report["details"]["RLIMIT_FSIZE"] == [0, 0]


def test_the_starter_has_one_thread_so_that_forking_it_is_safe() -> None:
    with Sandbox(preload=True) as sandbox:
        starter = sandbox._living()
        assert len(list(Path(f"/proc/{starter._process.pid}/task").iterdir())) == 1


def test_what_was_declared_reaches_the_inspection(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_text("nothing")
    inspection = sandbox.inspect(path, declared=Declared(filename="notes.apk", platform="android"))
    assert rules(inspection) == ["declared.format"]


@pytest.mark.parametrize("what", ["folder", "missing", "pipe"])
def test_what_is_no_regular_file_is_an_error_of_the_caller(
    sandbox: Sandbox, tmp_path: Path, what: str
) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match=what):
        sandbox.inspect(path)


def test_several_threads_share_a_sandbox(sandbox: Sandbox, tmp_path: Path) -> None:
    acts = ["nothing", "malformed", "segfault", "nothing", "bomb", "exit", "nothing", "raise"]
    found: dict[int, Inspection] = {}

    def inspect(number: int, act: str) -> None:
        path = tmp_path / str(number)
        path.write_text(act)
        found[number] = sandbox.inspect(path)

    threads = [threading.Thread(target=inspect, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    verdicts = [found[number].report["verdict"] for number in range(len(acts))]
    expected = {"nothing": "accepted", "malformed": "rejected"}
    assert verdicts == [expected.get(act, "inconclusive") for act in acts]


def test_nothing_is_left_after_closing(tmp_path: Path) -> None:
    before = children_of(os.getpid())
    opened = list(Path("/proc/self/fd").iterdir())
    with Sandbox(preload=False, program=PROGRAM) as sandbox:
        for act in ("nothing", "segfault", "wait", "flood the report", "helper"):
            path = tmp_path / "file"
            path.write_text(act)
            sandbox.inspect(path, limits=SHORT)
    assert children_of(os.getpid()) - before == set()
    assert len(list(Path("/proc/self/fd").iterdir())) == len(opened)


def test_closing_while_a_child_runs_ends_it_and_blames_no_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("wait")
    before = children_of(os.getpid())
    sandbox = Sandbox(preload=False, program=PROGRAM)
    refused = threading.Event()

    def inspect() -> None:
        with pytest.raises(SandboxUnavailable):
            sandbox.inspect(path)
        refused.set()

    thread = threading.Thread(target=inspect)
    thread.start()
    assert soon(lambda: len(children_of(os.getpid()) - before) == 3)  # starter, supervisor, child
    sandbox.close(grace_seconds=0.1)
    thread.join(timeout=60)
    assert refused.is_set()
    assert soon(lambda: not children_of(os.getpid()) - before)


def test_a_worker_that_is_killed_leaves_no_child(tmp_path: Path) -> None:
    """The processes find out by themselves: socket, pipe and parent are gone."""
    path = tmp_path / "file"
    path.write_text("wait")
    script = (
        "import sys; from pathlib import Path; from workers.sandbox import Sandbox;"
        f"Sandbox(preload=False, program={PROGRAM!r}).inspect(Path({str(path)!r}))"
    )
    worker = os.posix_spawn(sys.executable, [sys.executable, "-c", script], os.environ)
    assert soon(lambda: len(children_of(worker)) == 3)
    family = children_of(worker)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    assert soon(lambda: not any(is_running(pid) for pid in family))


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"  # this machine's init reaps, or does not


# -- unpacking --------------------------------------------------------------------------------------


class Enough(Exception):
    """Whoever takes the parts wants no more."""


@pytest.fixture
def unpacked(sandbox: Sandbox, tmp_path: Path):
    def unpack(text: str, limits: Limits = ORDINARY, *, at_most: int = 1 << 30) -> tuple[str, int]:
        """The rule that says why not all came, and the bytes that did."""
        path = tmp_path / "act.txt"
        path.write_text(text)
        taken = [0]

        def take(stream) -> None:
            for part in parts(stream):
                for piece in part.pieces:
                    taken[0] += len(piece)
                    if taken[0] > at_most:
                        raise Enough

        finding = sandbox.unpack(path, take, limits=limits)
        return ("" if finding is None else finding.rule), taken[0]

    return unpack


def test_all_parts_come_from_a_child_that_does_nothing_wrong(unpacked) -> None:
    assert unpacked("nothing") == ("", 3)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("end early", "inspect.child-died"),
        ("raise", "inspect.child-died"),
        ("exit", "inspect.child-died"),
        ("segfault", "inspect.child-died"),
        ("write a file", "inspect.child-died"),
        ("bomb", "inspect.memory"),
        ("flood the report", "inspect.output"),
    ],
)
def test_a_child_that_comes_to_no_good_end_is_a_finding(unpacked, text: str, rule: str) -> None:
    assert unpacked(text)[0] == rule
    assert not Path("/tmp/misbehaving").exists()


@pytest.mark.parametrize("text", ["wait", "loop", "wait with closed pipes"])
def test_a_child_that_unpacks_for_ever_is_stopped(unpacked, text: str) -> None:
    assert unpacked(text, SHORT)[0] == "inspect.timeout"


def test_who_wants_no_more_parts_ends_the_child(unpacked, sandbox: Sandbox) -> None:
    unpacked("nothing")
    idle = children_of(os.getpid())
    with pytest.raises(Enough):
        unpacked("flood", at_most=10 << 20)
    assert soon(lambda: children_of(os.getpid()) <= idle)


def test_nothing_stays_open_after_unpacking(unpacked) -> None:
    unpacked("nothing")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for text in ("nothing", "exit", "end early"):
        unpacked(text)
    with pytest.raises(Enough):
        unpacked("flood", at_most=1)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
