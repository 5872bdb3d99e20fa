"""Artifacts that state their own facts, for tests of what is decided on facts: an inspector that believes them.

    domain.validation._inspector = Stating()
    content = apk(code=7, signer=KEY)            bytes that `Stating` reads as an APK of version code 7, signed by KEY

How real files are judged is tested elsewhere; here a case is one line.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.formats.declared import Declared
from tests.support.domain import Said

KEY, NEXT_KEY, OTHER_KEY = "a" * 64, "b" * 64, "c" * 64
PACKAGE = "com.example.notes"
_salt = itertools.count()


class Stating:
    """Reads the report that the file is."""

    def inspect(self, path: Path, *, declared: Declared) -> Said:
        return Said(json.loads(path.read_bytes())["report"])


def stated(
    kind: str,
    *,
    identifier: str | None = PACKAGE,
    version: str | None = "1.0",
    build: str | None = None,
    archs: Sequence[str] = (),
    signers: Sequence[str] = (),
    status: str | None = None,
    trust: str | None = "self-signed",
    padding: int = 0,
    **details: Any,
) -> bytes:
    """Other bytes each time, with these facts."""
    report = {
        "format": kind,
        "platform": None,
        "verdict": "accepted",
        "metadata": {
            "identifier": identifier,
            "name": None,
            "version": version,
            "build": build,
            "min_os": None,
            "archs": list(archs),
        },
        "signature": {
            "status": status or ("valid" if signers else "unsigned"),
            "schemes": [],
            "signers": [{"subject": f"CN={one[:4]}", "sha256": one, "not_after": None} for one in signers],
            **({"trust": trust} if signers else {}),
        },
        "details": details,
        "findings": [],
    }
    return json.dumps({"salt": next(_salt), "padding": "x" * padding, "report": report}).encode()


def apk(code: int = 1, signer: str = KEY, *, lineage: Sequence[str] = (), **more: Any) -> bytes:
    """An APK; `lineage` are the certificates of its rotation, the present one last."""
    nodes = [{"sha256": one, "subject": "", "capabilities": ["installed-data"]} for one in lineage]
    facts = {"debuggable": False, "target_sdk": 34, "lineage": nodes or None} | more
    return stated("apk", build=str(code), signers=[signer], **facts)
