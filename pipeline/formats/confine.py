"""The limits that a process puts on itself before it reads a hostile file."""

import resource

from pipeline.formats.limits import Limits


def confine(limits: Limits, *, file_bytes: int) -> None:
    """Put on every level that the kernel offers. There is no way back."""
    _limit(limits, file_bytes)


def _limit(limits: Limits, file_bytes: int) -> None:
    # A reader may map the file, and mapped bytes count as address space (but not as heap).
    values = {
        resource.RLIMIT_AS: limits.address_space_bytes + file_bytes,
        resource.RLIMIT_DATA: limits.heap_bytes,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for which, value in values.items():
        _, hard = resource.getrlimit(which)
        limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (limit, limit))
