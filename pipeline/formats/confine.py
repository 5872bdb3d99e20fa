"""The limits that a process puts on itself before it reads a hostile file.

Three levels, from the oldest to the newest:

1. resource limits: heap, address space, processor time, open files; files cannot be written, nor core dumps
2. Landlock: only the interpreter's and this package's own files can be read; no TCP, no signals to others
3. a seccomp filter: no sockets, no processes, no programs, nothing opened for writing

Levels 2 and 3 are taken where the kernel (or the container's own filter) has them, and never required: a NAS may run an old one.
`capabilities` says which are in force. The order matters: each step still needs what the next one takes away.

Left to others: time and output (`supervisor.py`), a helper program's start (`broker.py`).
"""

import resource
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.formats import landlock, seccomp
from pipeline.formats.limits import Limits

HELPER_ADDRESS_SPACE_BYTES: Final = 384 << 20  # 7-Zip needs 12 MB and a dictionary; a bomb took 534 MB
_HELPER_OPEN_FILES: Final = 16

_PACKAGE_FOLDERS: Final = frozenset({"site-packages", "dist-packages"})
_PACKAGE: Final = Path(__file__).resolve().parents[1]
_SYSTEM_LIBRARIES: Final = tuple(
    Path(folder)
    for folder in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The levels that a process started here will reach."""

    resource_limits: bool
    landlock_abi: int  # 0: none
    seccomp: bool

    @property
    def complete(self) -> bool:
        """Whether all levels are there, with TCP (Landlock ABI 4) among them."""
        return self.resource_limits and self.landlock_abi >= 4 and self.seccomp


def capabilities() -> Capabilities:
    """What this kernel offers to this user; asked of it, not guessed from its version."""
    return Capabilities(
        resource_limits=sys.platform != "win32",
        landlock_abi=landlock.abi(),
        seccomp=seccomp.is_available(),
    )


def confine(limits: Limits, *, file_bytes: int) -> None:
    """Confine this process to reading the file that it has open, of `file_bytes`. There is no way back."""
    _limit(
        {
            # A reader may map the file, and mapped bytes count as address space (but not as heap).
            resource.RLIMIT_AS: limits.address_space_bytes + file_bytes,
            resource.RLIMIT_DATA: limits.heap_bytes,
            resource.RLIMIT_CPU: limits.cpu_seconds,
            resource.RLIMIT_NOFILE: limits.open_files,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
        }
    )
    landlock.restrict(readable=readable_paths())
    seccomp.install(seccomp.READER)


def confine_helper(program: str, source: int, *, cpu_seconds: int) -> None:
    """Confine this process to becoming `program`, which may read the open file `source` by its path in /proc."""
    _limit(
        {
            resource.RLIMIT_AS: HELPER_ADDRESS_SPACE_BYTES,
            resource.RLIMIT_CPU: cpu_seconds,
            resource.RLIMIT_NOFILE: _HELPER_OPEN_FILES,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
        }
    )
    loaders = [path for folder in ("/lib64", "/lib", "/usr/lib") for path in Path(folder).glob("ld-*.so.*")]
    landlock.restrict(readable=_SYSTEM_LIBRARIES, executable=(Path(program), *loaders), descriptors=(source,))
    seccomp.install(seccomp.PROGRAM)


def readable_paths() -> set[Path]:
    """Where a reader's modules are imported from: the standard library, installed packages, this package, shared libraries.

    Other entries of the search path are left out: a clone's root, for one, may have the server's data in it.
    """
    installed = {Path(entry) for entry in sys.path if Path(entry).name in _PACKAGE_FOLDERS}
    standard = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")}
    return {_PACKAGE, *installed, *standard, *_SYSTEM_LIBRARIES}


def _limit(values: dict[int, int]) -> None:
    """Set soft and hard limits alike, never above a hard limit that is already there."""
    for which, value in values.items():
        _, hard = resource.getrlimit(which)
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # Over the soft limit of processor time comes SIGXCPU, which tells what happened; over the hard one SIGKILL.
        is_time = which == resource.RLIMIT_CPU and limit == value
        resource.setrlimit(which, (limit, limit + 1 if is_time and hard != limit else limit))
