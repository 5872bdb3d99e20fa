"""Secret files under `keys/`, made once: mode 0600, durable, the same for processes that start together."""

import os
import secrets
from pathlib import Path

from pipeline.store.layout import sync_directory


def make_once(path: Path, text: str) -> bool:
    """Write `text` under a name that is not taken; False when another process was first, whose file counts."""
    spare = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(spare, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.link(spare, path)
    except FileExistsError:
        return False
    finally:
        spare.unlink()
    sync_directory(path.parent)
    return True
