"""Landlock: a process gives up the file system, the network and signals, except what it names. Linux 5.13 and later.

    restrict(readable=[Path("/usr/lib")])      returns the ABI that is in force now, 0 if the kernel has none

Rights that this kernel does not know are left out, never required: each ABI is a subset of the next.
Not covered by any ABI: descriptors that are open already, UDP, UNIX sockets with a path. Those are `seccomp.py`'s business.
Source: Documentation/userspace-api/landlock.rst, include/uapi/linux/landlock.h.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_SYS_CREATE_RULESET: Final = 444  # the same on every architecture
_SYS_ADD_RULE: Final = 445
_SYS_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38  # linux/prctl.h

EXECUTE: Final = 1 << 0
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
_ALL_OF_ABI_1: Final = (1 << 13) - 1
_REFER: Final = 1 << 13  # ABI 2
_TRUNCATE: Final = 1 << 14  # ABI 3
_IOCTL_DEV: Final = 1 << 15  # ABI 5
_BIND_AND_CONNECT_TCP: Final = 0b11  # ABI 4
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11  # ABI 6

_NOT_THERE: Final = frozenset(
    {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}
)  # EPERM: a container's seccomp filter


def abi() -> int:
    """The newest ABI that the kernel offers; 0 where there is no Landlock, or it is off."""
    if sys.platform != "linux":
        return 0
    try:
        return _syscall(_SYS_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return 0
        raise


def restrict(
    *, readable: Iterable[Path] = (), executable: Iterable[Path] = (), descriptors: Iterable[int] = ()
) -> int:
    """Allow this process (and what it starts) to read and execute these and nothing else; returns the ABI.

    `descriptors` are open files that may be opened again, for reading. Paths that do not exist are left out. Sets no_new_privs.
    """
    level = abi()
    if level == 0:
        return 0
    attributes = _ruleset_attributes(level)
    ruleset = _syscall(_SYS_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path in readable:
            _allow_path(ruleset, path, READ_FILE | READ_DIR)
        for path in executable:
            _allow_path(ruleset, path, READ_FILE | EXECUTE)
        for fd in descriptors:
            _allow(ruleset, fd, READ_FILE)
        no_new_privileges()
        _syscall(_SYS_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return level


def no_new_privileges() -> None:
    """Programs started from here gain nothing from set-user-id bits; unprivileged filters require it."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")


def _ruleset_attributes(level: int) -> bytes:
    """Struct landlock_ruleset_attr: it grew with the ABIs, and the kernel refuses bits it does not know."""
    files = _ALL_OF_ABI_1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        files |= right if level >= since else 0
    if level < 4:
        return struct.pack("=Q", files)
    if level < 6:
        return struct.pack("=QQ", files, _BIND_AND_CONNECT_TCP)
    return struct.pack("=QQQ", files, _BIND_AND_CONNECT_TCP, _ABSTRACT_SOCKETS_AND_SIGNALS)


def _allow_path(ruleset: int, path: Path, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        _allow(ruleset, fd, rights if is_folder else rights & ~READ_DIR)
    finally:
        os.close(fd)


def _allow(ruleset: int, fd: int, rights: int) -> None:
    try:
        _syscall(_SYS_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, fd), 0)
    except OSError as error:
        if error.errno != errno.EBADFD:  # a memory file: on no mounted file system, so nothing restricts it
            raise


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(libc.syscall(ctypes.c_long(number), *values))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
