"""How much an install page reads, and what it shows of rows that no browser is needed for."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from sqlalchemy import Engine, event
from sqlmodel import select

from api.app import create_app
from pipeline.models import Artifact, Icon
from tests.support.domain import Domain

# Litestar 2 says, as the application is built, that 3 will want dependencies marked; that is no matter of the page.
pytestmark = pytest.mark.filterwarnings(
    "ignore::litestar.exceptions.base_exceptions.LitestarDeprecationWarning"
)


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    opened = Domain(tmp_path)
    yield opened
    opened.close()


@contextmanager
def client(domain: Domain) -> Iterator[TestClient[Any]]:
    with TestClient(create_app(domain.settings), base_url=domain.settings.base_url) as opened:
        yield opened


def offered(domain: Domain, version: str, *, artifacts: int) -> str:
    """A published release of this many artifacts with icons, on the channel `stable` of the public app."""
    admin = domain.actor()
    files = {f"{version}-{number}.bin": f"{version} {number}".encode() for number in range(artifacts)}
    release_id = domain.submitted(admin, "notes", version, files, channel_name="stable")
    domain.work()
    with domain.write() as operation:
        for row in operation.session.exec(select(Artifact).where(Artifact.release_id == release_id)):
            operation.session.add(Icon(artifact_id=row.id, png=b"picture"))
    return release_id


def queries(page: TestClient[Any]) -> list[str]:
    """The statements that one look at the page sends."""
    page.get("/install/notes")
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        answer = page.get("/install/notes")
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert answer.status_code == 200, answer.text
    return sent


def test_a_page_of_many_artifacts_and_releases_asks_no_more_often_than_one_of_few(domain: Domain) -> None:
    domain.app("notes", access="public")
    offered(domain, "1.0", artifacts=1)
    with client(domain) as page:
        few = queries(page)
        for number in range(2, 8):
            offered(domain, f"{number}.0", artifacts=1)
        offered(domain, "9.0", artifacts=9)
        many = queries(page)
        assert "9.0" in page.get("/install/notes").text
    assert len(many) == len(few)
    assert len(few) <= 8, few
    assert not any("icon.png" in statement for statement in many)


def test_without_https_nothing_is_installed_over_the_air_and_the_page_says_what_to_set(
    domain: Domain,
) -> None:
    domain.app("notes", access="public")
    release_id = offered(domain, "1.0", artifacts=1)
    with domain.write() as operation:
        for row in operation.session.exec(select(Artifact).where(Artifact.release_id == release_id)):
            row.platform, row.format, row.ios = "ios", "ipa", {"mode": "enterprise"}
            row.facts = {"identifier": "com.example.notes"}
            row.signature = {"status": "valid", "schemes": ["codesign"], "signers": []}
            row.details = {"provisioning": {"type": "enterprise", "expires": "2099-01-01T00:00:00Z"}}
    with client(domain) as page:
        text = page.get("/install/notes", headers={"User-Agent": "Mozilla/5.0 (iPhone)"}).text
    assert "itms-services" not in text
    assert "iOS installs over HTTPS only" in text
    assert "DISTD_PUBLIC_URL" in text


def test_what_a_page_refers_to_is_kept_by_the_browser_and_named_by_its_content(domain: Domain) -> None:
    domain.app("notes", access="public")
    with client(domain) as page:
        text = page.get("/install/notes").text
        files = re.findall(r'(?:href|src)="(/static/[^"]+\?[0-9a-f]{12})"', text)
        assert {file.partition("?")[0] for file in files} == {
            "/static/console.css",
            "/static/install.css",
            "/static/install.js",
        }
        for file in files:
            answer = page.get(file)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "max-age=86400, public"
            assert answer.headers["content-type"].startswith("text/")
