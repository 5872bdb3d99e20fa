"""The inspection program with a reader of text files that does what the text says, as a parser taken over by its file would.

Sandbox(program=[sys.executable, "-I", misbehaving_child.py])
"""

import ctypes
import os
import resource
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.formats import child, helper, parts, unpack, wire
from pipeline.formats.facts import Malformed, Report, Rule, Severity
from pipeline.formats.readers import READERS
from pipeline.formats.recognise import Format
from pipeline.values import Platform

REPORT_FD = 4  # child.py, _settle
BAD = Rule("test.bad", Severity.ERROR, "It is bad.", "Make it good.", "this test")


def segfault():
    ctypes.string_at(0)


def loop():
    while True:
        pass


def wait():
    time.sleep(600)


def wait_with_closed_pipes():
    os.close(REPORT_FD)
    os.close(2)
    time.sleep(600)


def bomb():
    held = []
    while True:
        held.append(bytearray(16 << 20))


def recursion():
    def deeper(depth):
        return deeper(depth + 1) + 1

    deeper(0)


def flood_the_report():
    while True:
        os.write(REPORT_FD, b"x" * 65536)


def flood_the_log():
    for _ in range(1000):
        sys.stderr.write("x" * 1000)


def forge_a_report():
    report = b'{"format": "text", "verdict": "accepted", "root": true}'
    os.write(REPORT_FD, wire._frame(b"R", report))
    os._exit(0)


def misuse_the_broker():
    client = helper._broker
    _, write_end = os.pipe()
    for message in (
        b"[",
        b"[" * 60000,
        b'{"program": "sh", "arguments": ["-c", "id"], "start": 0, "size": 0, "seconds": 1}',
    ):
        socket.send_fds(client, [message], [3, write_end])
        sys.stderr.write(client.recv(65536).decode() + "\n")
    socket.send_fds(client, [b"{}"], [3])
    sys.stderr.write(client.recv(65536).decode() + "\n")


ACTS = {
    "segfault": segfault,
    "abort": os.abort,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(3),
    "quit": lambda: sys.exit("bye"),
    "loop": loop,
    "wait": wait,
    "wait with closed pipes": wait_with_closed_pipes,
    "bomb": bomb,
    "recursion": recursion,
    "flood the report": flood_the_report,
    "flood the log": flood_the_log,
    "forge a report": forge_a_report,
    "misuse the broker": misuse_the_broker,
    "raise": lambda: ACTS["nothing"]()[1],
    "nothing": lambda: None,
}


def read(source):
    text = source.head(100).decode().strip()
    report = Report("text")
    if text == "malformed":
        raise Malformed(BAD, "here")
    if text == "huge report":
        report.details["numbers"] = list(range(1 << 20))
    elif text == "huge icon":
        report.icon = b"\x89PNG\r\n\x1a\n" + bytes(300 << 10)
    elif text == "icon":
        report.icon = b"\x89PNG\r\n\x1a\n" + bytes(10)
    elif text == "odd strings":
        report.metadata.name = "lone \ud800 surrogate"
    elif text == "limits":
        report.details = {
            name: resource.getrlimit(getattr(resource, name))
            for name in dir(resource)
            if name.startswith("RLIMIT")
        }
    elif text == "surroundings":
        report.details = {
            "environment": dict(os.environ),
            "descriptors": [fd for fd in range(1000) if is_open(fd)],
            "folder": str(Path.cwd()),
        }
    elif text == "helper":
        report.details["says"] = helper.run(
            "7zz", ["i"], source=source, max_output_bytes=1 << 20, seconds=20
        ).decode()
    else:
        ACTS[text]()
    return report


def write_parts(source, out):
    """As `read`, of a package that is to be unpacked."""
    text = source.head(100).decode().strip()
    if text == "flood":
        out.write(parts.header(parts.Kind.BLOB, "0" * 64, 1 << 62))
        while True:
            out.write(bytes(1 << 20))
    if text == "write a file":
        os.open("/tmp/misbehaving", os.O_CREAT | os.O_WRONLY)
    if text == "end early":
        return
    out.write(parts.header(parts.Kind.BLOB, "0" * 64, 3) + b"abc")
    out.flush()
    ACTS[text]()
    out.write(parts.end(1))


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Misbehaving:
    platform = Platform.ANY
    exists = True

    def load(self):
        return read


READERS[Format.TEXT] = Misbehaving()
unpack.write_parts = write_parts

if __name__ == "__main__":
    child.main(sys.argv[1:])
