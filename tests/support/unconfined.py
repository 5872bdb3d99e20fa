"""The inspector's readers in this process, for tests of what follows from their answers: the confined child itself is tested elsewhere."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pipeline.formats.declared import Declared
from pipeline.formats.facts import Finding
from pipeline.formats.inspect import inspect
from pipeline.formats.limits import CHILD_DIED
from pipeline.formats.parts import CutOff
from pipeline.formats.source import Source
from pipeline.formats.unpack import write_parts
from tests.support.domain import Said


class Unconfined:
    """`inspect` as it is; `parts_of` may be replaced, as if the child had been taken over by its file."""

    def __init__(self) -> None:
        self.parts_of: Callable[[bytes], bytes] = real_parts

    def inspect(self, path: Path, *, declared: Declared) -> Said:
        with path.open("rb") as file:
            return Said(inspect(Source(file.fileno()), declared=declared).as_dict())

    def unpack(self, path: Path, take: Callable[[BinaryIO], None], *, content_bytes: int) -> Finding | None:
        try:
            take(io.BytesIO(self.parts_of(path.read_bytes())))
        except CutOff as error:
            return CHILD_DIED.finding(str(error))
        return None


def real_parts(package: bytes) -> bytes:
    """What an honest child writes."""
    fd = os.memfd_create("package")
    try:
        os.write(fd, package)
        out = io.BytesIO()
        write_parts(Source(fd), out)
        return out.getvalue()
    finally:
        os.close(fd)
