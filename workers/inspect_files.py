"""`dist inspect`: what the inspectors of a worker say about local files, in the same sandbox, with no server.

Found by the command line through the entry-point group `dist.commands`, since the light `dist` has no inspectors.

Left to others: printing, and exit codes (`cli`). What is declared about a local file is its name.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from pipeline.formats.declared import Declared
from pipeline.formats.source import Source
from workers.sandbox import Sandbox, open_regular

_PRELOAD_FROM_FILES: Final = 8  # importing all readers once pays off from about here


def inspect_files(paths: Sequence[str | Path]) -> Iterator[dict[str, Any]]:
    """One JSON object for each path, in order, with the contract's keys.

    A file that cannot be read gives `{"path", "error": {"code", "title", "detail", "remedy"}}` and the next one goes on.
    """
    with closing(Sandbox(preload=len(paths) >= _PRELOAD_FROM_FILES)) as sandbox:
        for path in paths:
            yield _inspect_file(sandbox, Path(path))


def _inspect_file(sandbox: Sandbox, path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"path": os.fspath(path)}
    try:
        artifact = open_regular(path)
    except OSError as error:
        return row | {"error": _unreadable(path, error)}
    try:
        source = Source(artifact)
        row |= {"sha256": source.digest().hex(), "size": source.size}
        inspection = sandbox.inspect_open(artifact, declared=Declared(filename=path.name))
    except OSError as error:
        return row | {"error": _unreadable(path, error)}
    finally:
        os.close(artifact)
    return row | inspection.report


def _unreadable(path: Path, error: OSError) -> dict[str, str]:
    return {
        "code": "usage",
        "title": "The file cannot be read",
        "detail": f"{os.fspath(path)}: {error.strerror or error}",
        "remedy": "Check the path and the rights of the file.",
    }
