"""A seccomp filter: the system calls that a process may still make. x86-64 and 64-bit ARM.

    install(READER)      a reader of one open file: no socket, no process, no program, no file opened for writing
    install(PROGRAM)     the same for a helper program, which has to be executed first and may have threads

An allow-list, so a call that a future kernel adds is refused too. What is refused gets EPERM, which a library can handle; a system call
of another architecture ends the process. Numbers are from the kernel's asm/unistd_64.h and asm-generic/unistd.h.

Left to others: which files may be opened (`landlock.py`). This filter only sees that they are opened for reading.
Source: Documentation/userspace-api/seccomp_filter.rst, include/uapi/linux/{seccomp,filter,bpf_common,audit}.h.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.formats.landlock import no_new_privileges

# Name: (number on x86-64, number on 64-bit ARM); None where that architecture has no such call.
_NUMBERS: Final[dict[str, tuple[int | None, int | None]]] = {
    # bytes of open files
    "read": (0, 63), "readv": (19, 65), "pread64": (17, 67), "preadv": (295, 69), "write": (1, 64),
    "writev": (20, 66), "lseek": (8, 62), "fadvise64": (221, 223), "close": (3, 57), "close_range": (436, 436),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59),
    "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    "sendmsg": (46, 211), "recvmsg": (47, 212), "sendto": (44, 206), "recvfrom": (45, 207),
    # names and attributes of files
    "fstat": (5, 80), "newfstatat": (262, 79), "stat": (4, None), "lstat": (6, None), "statx": (332, 291),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None),
    "readlinkat": (267, 78), "getdents64": (217, 61), "getcwd": (79, 17),
    # memory
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233),
    "brk": (12, 214), "membarrier": (324, 283),
    # signals to itself, locks, time, facts about itself
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "getpid": (39, 172), "getppid": (110, 173),
    "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getrlimit": (97, 163), "getrusage": (98, 165), "getrandom": (318, 278), "uname": (63, 160),
    "sysinfo": (99, 179), "times": (100, 153), "time": (201, None), "gettimeofday": (96, 169),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101),
    "exit": (60, 93), "exit_group": (231, 94),
    # by their arguments only
    "open": (2, None), "openat": (257, 56), "fcntl": (72, 25), "ioctl": (16, 29), "kill": (62, 129),
    "tgkill": (234, 131), "prlimit64": (302, 261), "clone": (56, 220), "clone3": (435, 435),
    # a program's start
    "execve": (59, 221), "arch_prctl": (158, None), "set_tid_address": (218, 96), "umask": (95, 166),
}  # fmt: skip

_BY_ARGUMENT: Final = frozenset(
    {"open", "openat", "fcntl", "ioctl", "kill", "tgkill", "prlimit64", "clone", "clone3"}
)
_START: Final = frozenset({"execve", "arch_prctl", "set_tid_address", "umask"})
_PLAIN: Final = frozenset(_NUMBERS) - _BY_ARGUMENT - _START

_MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_…
_X32_BIT: Final = 0x40000000  # calls of the x32 ABI on x86-64

_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_ERRNO: Final = 0x00050000
_EPERM: Final = _ERRNO | 1
_ENOSYS: Final = _ERRNO | 38  # glibc then falls back to clone

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST: Final = 0x35  # BPF_JGE
_IF_BITS: Final = 0x45  # BPF_JSET
_RETURN: Final = 0x06
_AT_NUMBER, _AT_ARCH, _AT_ARGUMENTS = 0, 4, 16  # struct seccomp_data

_OPEN_TO_WRITE: Final = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC
_HARMLESS_FCNTL: Final = (0, 1, 2, 3, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_HARMLESS_IOCTL: Final = (0x5401, 0x5413, 0x541B, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIOCLEX
_CLONE_THREAD: Final = 0x00010000
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


@dataclass(frozen=True, slots=True)
class Filter:
    """What is allowed besides the plain calls."""

    start_programs: bool = False
    threads: bool = False


READER: Final = Filter()
PROGRAM: Final = Filter(start_programs=True, threads=True)


def is_available() -> bool:
    """Whether this machine's numbers are known here, and its kernel has filters."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    # A null filter is refused with EFAULT where filters exist, with EINVAL where they do not.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None, 0, 0)
    return ctypes.get_errno() == 14  # EFAULT


def install(allowed: Filter) -> bool:
    """Put the filter on this process, for good; False where `is_available` is. Sets no_new_privs."""
    if not is_available():
        return False
    no_new_privileges()
    program = _assemble(allowed, pid=os.getpid(), machine=platform.machine())
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program), ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")
    return True


def _assemble(allowed: Filter, *, pid: int, machine: str) -> list[_Instruction]:
    """The filter as instructions of classic BPF."""
    column, audit_arch = _MACHINES[machine]
    program: list[_Instruction] = [
        (_LOAD, 0, 0, _AT_ARCH),
        (_IF_EQUAL, 1, 0, audit_arch),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _AT_NUMBER),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _EPERM),
    ]
    for name in sorted(_PLAIN | (_START if allowed.start_programs else frozenset())):
        program += _for_call(_NUMBERS[name][column], [(_RETURN, 0, 0, _ALLOW)])
    for name, tests in _argument_tests(allowed, pid).items():
        program += _for_call(_NUMBERS[name][column], tests)
    return [*program, (_RETURN, 0, 0, _EPERM)]


def _for_call(number: int | None, body: Sequence[_Instruction]) -> list[_Instruction]:
    """`body`, which ends in a return whatever happens, for the call `number` only."""
    return [] if number is None else [(_IF_EQUAL, 0, len(body), number), *body]


def _argument_tests(allowed: Filter, pid: int) -> dict[str, list[_Instruction]]:
    tests = {
        "open": _without_bits(1, _OPEN_TO_WRITE),
        "openat": _without_bits(2, _OPEN_TO_WRITE),
        "fcntl": _one_of(1, _HARMLESS_FCNTL),
        "ioctl": _one_of(1, _HARMLESS_IOCTL),
        "kill": _one_of(0, (pid,)),
        "tgkill": _one_of(0, (pid,)),
        "prlimit64": [  # the new limits' address is null: a question
            (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * 2),
            (_IF_EQUAL, 0, 3, 0),
            (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * 2 + 4),
            (_IF_EQUAL, 0, 1, 0),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _EPERM),
        ],
    }
    if allowed.threads:
        tests["clone"] = [
            (_LOAD, 0, 0, _AT_ARGUMENTS),
            (_IF_BITS, 0, 1, _CLONE_THREAD),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _EPERM),
        ]
        tests["clone3"] = [(_RETURN, 0, 0, _ENOSYS)]
    return tests


def _without_bits(argument: int, bits: int) -> list[_Instruction]:
    return [
        (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * argument),
        (_IF_BITS, 0, 1, bits),
        (_RETURN, 0, 0, _EPERM),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _one_of(argument: int, values: Sequence[int]) -> list[_Instruction]:
    body: list[_Instruction] = [(_LOAD, 0, 0, _AT_ARGUMENTS + 8 * argument)]
    for position, value in enumerate(values):
        body.append((_IF_EQUAL, len(values) - position, 0, value))
    return [*body, (_RETURN, 0, 0, _EPERM), (_RETURN, 0, 0, _ALLOW)]
