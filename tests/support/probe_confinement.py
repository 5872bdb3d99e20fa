"""What a process under `confine` can still do, tried out from within: a program for test_confine.py.

    python -I probe_confinement.py FILE VICTIM_PID all|limits|landlock|seccomp

Prints one JSON object, attempt → "allowed" or the name of the error. Each attempt is what code in a parser's place would try.
"""

# The bare calls are what is tried out.
# ruff: noqa: PTH102, PTH108, PTH120, PTH123, PTH208, PTH211, T201
import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading

from pipeline.formats import confine, landlock, seccomp
from pipeline.formats.limits import Limits
from pipeline.formats.source import Source

MIB = 1 << 20
# What does no harm where only resource limits hold, which let a program be started and a user be changed.
HARMLESS = {
    "read the file", "map the file", "import late", "signal itself",
    "grow an open file", "allocate 600 MiB", "open 100 files",
}  # fmt: skip


def open_socket(family, kind):
    socket.socket(family, kind).close()


def connect_tcp(listener):
    socket.create_connection(listener, timeout=2).close()


def write_file(path):
    with open(path, "w") as file:
        file.write("x")


def grow_opened(fd):
    os.write(fd, b"x" * 10)


def start_thread():
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def trace_victim(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0):  # PTRACE_ATTACH
        raise OSError(ctypes.get_errno(), "ptrace")


def unshare():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x10000000):  # CLONE_NEWUSER
        raise OSError(ctypes.get_errno(), "unshare")


def lift_limit(resource_module):
    resource_module.setrlimit(resource_module.RLIMIT_FSIZE, (MIB, MIB))


def lazy_import():
    import xml.dom.minidom  # noqa: F401  stands for a reader's library that is imported late


def map_the_file(fd):
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapped:
        assert len(mapped) == os.fstat(fd).st_size


def attempts(fd, victim, scratch, opened, listener):
    import resource

    return {
        "read the file": lambda: Source(fd).digest(),
        "map the file": lambda: map_the_file(fd),
        "import late": lazy_import,
        "signal itself": lambda: os.kill(os.getpid(), 0),
        "read /etc/passwd": lambda: open("/etc/passwd").close(),
        "list /": lambda: os.listdir("/"),
        "read the victim's environment": lambda: open(f"/proc/{victim}/environ").close(),
        "read its own memory map": lambda: open("/proc/self/maps").close(),
        "write a file": lambda: write_file(scratch + "/written"),
        "write a file of its own package": lambda: write_file(os.path.dirname(confine.__file__) + "/written"),
        "grow an open file": lambda: grow_opened(opened),
        "remove a file": lambda: os.unlink(scratch + "/victim"),
        "make a folder": lambda: os.mkdir(scratch + "/folder"),
        "make a link": lambda: os.symlink("/", scratch + "/link"),
        "make a memory file": lambda: os.memfd_create("x"),
        "TCP socket": lambda: open_socket(socket.AF_INET, socket.SOCK_STREAM),
        "UDP socket": lambda: open_socket(socket.AF_INET6, socket.SOCK_DGRAM),
        "UNIX socket": lambda: open_socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "netlink socket": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "connect over TCP": lambda: connect_tcp(listener),
        "run a program": lambda: subprocess.run(["/bin/true"], check=True),
        "become a program": lambda: os.execv("/bin/true", ["true"]),
        "fork": lambda: os.fork() or os._exit(0),
        "start a thread": start_thread,
        "kill the victim": lambda: os.kill(victim, signal.SIGKILL),
        "ask whether the victim is there": lambda: os.kill(victim, 0),
        "trace the victim": lambda: trace_victim(victim),
        "leave the process group": os.setsid,
        "make a user namespace": unshare,
        "lift a limit": lambda: lift_limit(resource),
        "change user": lambda: os.setuid(65534),
        "allocate 600 MiB": lambda: bytearray(600 * MIB),
        "open 100 files": lambda: [os.dup(fd) for _ in range(100)],
    }


def outcome(attempt):
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    except (MemoryError, RuntimeError, ValueError) as error:
        return type(error).__name__
    return "allowed"


def restrict(level, fd):
    if level == "landlock":
        assert landlock.restrict(readable=confine.readable_paths())
    elif level == "limits":
        landlock.abi = lambda: 0
        seccomp.is_available = lambda: False
        confine.confine(Limits(), file_bytes=os.fstat(fd).st_size)
    elif level == "seccomp":
        assert seccomp.install(seccomp.READER)
    else:
        confine.confine(Limits(), file_bytes=os.fstat(fd).st_size)


def main(path, victim, level):
    scratch = os.path.dirname(path)
    open(scratch + "/victim", "w").close()
    opened = os.open(scratch + "/opened", os.O_RDWR | os.O_CREAT)
    fd = os.open(path, os.O_RDONLY)
    with socket.create_server(("127.0.0.1", 0)) as server:
        tried = attempts(fd, victim, scratch, opened, server.getsockname())
        if level == "limits":
            tried = {name: attempt for name, attempt in tried.items() if name in HARMLESS}
        restrict(level, fd)
        print(json.dumps({name: outcome(attempt) for name, attempt in tried.items()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
