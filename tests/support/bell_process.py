"""One side of a bell in a process of its own: `listen URL DATA_DIR` prints what it hears, `ring URL DATA_DIR ID…` prints how many rang.

An empty URL means the queue in the data directory. The listener ends on SIGTERM and says so.
"""

import signal
import sys
import threading
from pathlib import Path

import structlog

from workers.queue import open_bell


def main(role: str, url: str, data_dir: str, *job_ids: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    bell = open_bell(url or None, data_dir=Path(data_dir))
    if role == "ring":
        say(f"rang {sum(bell.ring(job_id) for job_id in job_ids)}")
    else:
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        say("listening")
        bell.listen(say, concurrency=2, stop=stop)
        say("stopped")
    bell.close()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
