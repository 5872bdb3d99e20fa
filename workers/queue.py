"""Chooses the doorbell that serves a queue URL; see `workers.bell` for what a bell promises.

Huey and Dramatiq are imported by the two modules named here and by nothing else. Dramatiq is an extra (`distd[scale]`), so that
module is loaded only for a URL that asks for it.
"""

from pathlib import Path
from urllib.parse import urlsplit

from workers.bell import Bell, UnusableQueueUrl
from workers.huey_bell import HueyBell

__all__ = ["QUEUE_FILE", "Bell", "UnusableQueueUrl", "open_bell"]

QUEUE_FILE = "queue.db"
_BROKERS = ("redis", "rediss", "amqp", "amqps")


def open_bell(url: str | None, *, data_dir: Path) -> Bell:
    """The bell for `DISTD_QUEUE_URL`, or for the file in the data directory where there is none.

    Connects to nothing yet. Raises `UnusableQueueUrl` for a scheme that is not served or whose extra is not installed.
    """
    if not url:
        return HueyBell(data_dir / QUEUE_FILE)
    scheme = urlsplit(url).scheme
    if scheme not in _BROKERS:
        served = ", ".join(f"{known}://" for known in _BROKERS)
        raise UnusableQueueUrl(
            f"DISTD_QUEUE_URL starts with {scheme or url[:12]!r}; it has to be one of {served}, or unset for the queue in the data directory"
        )
    try:
        from workers.dramatiq_bell import DramatiqBell  # noqa: PLC0415  an extra that most installations do not have
    except ModuleNotFoundError as error:
        raise UnusableQueueUrl(
            f"DISTD_QUEUE_URL asks for {scheme}://, but {error.name} is not installed; install distd[server,scale]"
        ) from error
    return DramatiqBell(url)
