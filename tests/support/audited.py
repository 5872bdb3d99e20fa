"""Inspect files without any walls around it, and print what the interpreter was asked to do that reaches beyond reading.

    python -I -B tests/support/audited.py FILE…       → {path: ["socket.connect …", …]}

The sandbox forbids these things; here it is shown that the readers do not even try.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.formats.inspect import inspect
from pipeline.formats.preload import preload
from pipeline.formats.source import Source

REACHING = (
    "socket.", "subprocess.", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.kill", "os.remove", "os.rename",
    "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown", "os.truncate", "os.utime", "os.putenv", "shutil.", "tempfile.",
    "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser.",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
seen: list[str] = []


def note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        if isinstance(flags, int) and flags & WRITING:
            seen.append(f"open {path!r} for writing")
    elif event.startswith(REACHING):
        seen.append(f"{event} {arguments!r}"[:200])


def main() -> None:
    preload()
    sys.addaudithook(note)
    told = {}
    for path in sys.argv[1:]:
        seen.clear()
        fd = os.open(path, os.O_RDONLY)
        inspect(Source(fd))
        os.close(fd)
        told[path] = list(seen)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
