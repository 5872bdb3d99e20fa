"""Named places where the fault tests may end the process or break a call, so that every crash can be tried on purpose.

Off unless `[testing] enabled = true` stands in config.toml. `failpoints = "store.linked=kill; hash.middle=kill*3"`: at the place
`store.linked` the process kills itself once, at `hash.middle` three times, counted over all processes of the data directory by
files under `run/failpoints/`. Actions: `kill` (SIGKILL to itself), `stop` (SIGSTOP to itself), `error` (raises OSError EIO).
"""

import errno
import os
import re
import signal
from pathlib import Path

_RULE = re.compile(r"([a-z.-]+)=(kill|stop|error)(?:\*(\d+))?")


class FailPoints:
    """The armed places of this process."""

    def __init__(self, text: str, folder: Path) -> None:
        self._armed: dict[str, tuple[str, int]] = {}
        self._folder = folder
        for part in filter(None, (piece.strip() for piece in text.split(";"))):
            match = _RULE.fullmatch(part)
            if match is None:
                raise RuntimeError(f"bad fail point: {part!r}")
            self._armed[match[1]] = (match[2], int(match[3] or 1))

    def hit(self, name: str) -> None:
        """Pass the place `name`; it may be the last thing that this process does."""
        if name not in self._armed:
            return
        action, times = self._armed[name]
        if not self._count(name, times):
            return
        if action == "error":
            raise OSError(errno.EIO, f"fail point {name}")
        os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)

    def _count(self, name: str, times: int) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        for number in range(times):
            try:
                fd = os.open(self._folder / f"{name}.{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)
            except FileExistsError:
                continue
            os.close(fd)
            return True
        return False
