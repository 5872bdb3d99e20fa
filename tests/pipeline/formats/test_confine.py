"""The confinement, tried from within by tests/support/probe_confinement.py, each level alone and all together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.formats import confine, landlock, seccomp
from tests.support.fixtures import REPOSITORY

PROBE = REPOSITORY / "tests" / "support" / "probe_confinement.py"
LEVELS = confine.capabilities()

ALLOWED = {"read the file", "map the file", "import late", "signal itself"}
BY_RESOURCE_LIMITS = {"grow an open file", "allocate 600 MiB", "open 100 files"}
BY_LANDLOCK = {
    "read /etc/passwd",
    "list /",
    "read the victim's environment",
    "read its own memory map",
    "write a file",
    "write a file of its own package",
    "remove a file",
    "make a folder",
    "make a link",
    "run a program",
    "become a program",
    "trace the victim",
}
BY_SECCOMP = {
    "write a file",
    "write a file of its own package",
    "remove a file",
    "make a folder",
    "make a link",
    "make a memory file",
    "TCP socket",
    "UDP socket",
    "UNIX socket",
    "netlink socket",
    "connect over TCP",
    "run a program",
    "become a program",
    "fork",
    "start a thread",
    "kill the victim",
    "ask whether the victim is there",
    "trace the victim",
    "leave the process group",
    "make a user namespace",
    "lift a limit",
    "change user",
}
needs_landlock = pytest.mark.skipif(not LEVELS.landlock_abi, reason="this kernel has no Landlock")
needs_seccomp = pytest.mark.skipif(not LEVELS.seccomp, reason="no seccomp filters on this machine")


def probe(folder: Path, level: str) -> dict[str, str]:
    """Attempt → `allowed` or what refused it."""
    file = folder / "file"
    file.write_bytes(b"bytes of a file")
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        process = subprocess.run(
            [sys.executable, "-I", str(PROBE), str(file), str(victim.pid), level],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        victim.communicate(b"\n", timeout=60)
    assert process.returncode == 0, process.stderr
    tried: dict[str, str] = json.loads(process.stdout)
    return tried


def allowed(tried: dict[str, str]) -> set[str]:
    return {attempt for attempt, outcome in tried.items() if outcome == "allowed"}


def test_all_levels_together_leave_what_a_reader_needs_and_nothing_else(tmp_path: Path) -> None:
    tried = probe(tmp_path, "all")
    refused = BY_RESOURCE_LIMITS
    refused |= BY_LANDLOCK if LEVELS.landlock_abi else set()
    refused |= BY_SECCOMP if LEVELS.seccomp else set()
    assert allowed(tried) & refused == set()
    assert allowed(tried) >= ALLOWED
    assert tried.keys() == ALLOWED | BY_RESOURCE_LIMITS | BY_LANDLOCK | BY_SECCOMP
    assert not (tmp_path / "written").exists()
    assert (tmp_path / "opened").stat().st_size == 0


def test_resource_limits_alone_refuse_memory_files_and_growing(tmp_path: Path) -> None:
    tried = probe(tmp_path, "limits")
    assert allowed(tried) & BY_RESOURCE_LIMITS == set()
    assert allowed(tried) >= ALLOWED


@needs_landlock
def test_landlock_alone_refuses_files_programs_and_other_processes(tmp_path: Path) -> None:
    tried = probe(tmp_path, "landlock")
    assert allowed(tried) & BY_LANDLOCK == set()
    assert allowed(tried) >= ALLOWED
    if LEVELS.landlock_abi >= 4:
        assert tried["connect over TCP"] == "EACCES"
    if LEVELS.landlock_abi >= 6:
        assert tried["kill the victim"] == "EPERM"


@needs_seccomp
def test_the_filter_alone_refuses_sockets_processes_and_writing(tmp_path: Path) -> None:
    tried = probe(tmp_path, "seccomp")
    assert allowed(tried) & BY_SECCOMP == set()
    assert allowed(tried) >= ALLOWED


def test_capabilities_say_what_the_kernel_said() -> None:
    assert LEVELS.resource_limits
    assert LEVELS.landlock_abi == landlock.abi()
    assert LEVELS.seccomp == seccomp.is_available()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("program", [seccomp.READER, seccomp.PROGRAM], ids=["reader", "program"])
def test_the_filter_has_no_jump_out_of_itself_and_ends_in_a_refusal(
    machine: str, program: seccomp.Filter
) -> None:
    instructions = seccomp._assemble(program, pid=1, machine=machine)
    assert len(instructions) < 4096  # BPF_MAXINSNS
    for place, (code, jump_true, jump_false, _) in enumerate(instructions):
        if code not in (seccomp._LOAD, seccomp._RETURN):
            assert place + 1 + max(jump_true, jump_false) < len(instructions)
            assert max(jump_true, jump_false) < 256
    assert instructions[-1] == (seccomp._RETURN, 0, 0, seccomp._EPERM)
