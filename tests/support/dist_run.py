"""Run `dist` in this process: arguments in, exit status and streams out, with surroundings of its own."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli.main import run


@dataclass(frozen=True, slots=True)
class Answer:
    """What a run left behind."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass(frozen=True, slots=True)
class Dist:
    """`dist` for one person: a home folder, and maybe a server with a token."""

    home: Path
    server: str = ""
    token: str = ""
    transport: httpx.BaseTransport | None = None

    def __call__(self, *arguments: object, **environ: str) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        surroundings = {"HOME": str(self.home)} | environ
        if self.server:
            surroundings.setdefault("DIST_SERVER", self.server)
        if self.token:
            surroundings.setdefault("DIST_TOKEN", self.token)
        status = run(
            [str(word) for word in arguments],
            environ=surroundings,
            stdout=out,
            stderr=err,
            transport=self.transport,
        )
        return Answer(status, out.getvalue(), err.getvalue())

    def json(self, *arguments: object, status: int = 0, **environ: str) -> dict[str, Any]:
        """Run with --json; the status has to be this one, and `ok` has to agree with it."""
        answer = self(*arguments, "--json", **environ)
        assert answer.status == status, (answer.out, answer.err)
        document = answer.document
        assert document["schema"] == 1
        assert document["ok"] is (status == 0)
        assert ("error" in document) is (status != 0)
        return document
