"""A link with a password in a real browser: asked for, opened once, and the file arrives."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.browser import ANDROID, LINUX, chromium, problems_of, visit
from tests.support.platform import Platform, write_release
from tests.support.samples import signed_apk

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("open_link")]
PASSWORD = "correct horse"


@dataclass(frozen=True)
class Shop:
    platform: Platform
    artifact: dict

    def link(self) -> dict:
        with self.platform.http() as admin:
            body = {"name": "for Ann", "password": PASSWORD, "download_limit": 1}
            return admin.post("/api/v1/apps/notes/links", json=body).json()

    def row(self, link: dict) -> dict:
        with self.platform.http() as admin:
            items = admin.get("/api/v1/apps/notes/links").json()["items"]
        return next(row for row in items if row["id"] == link["id"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with Platform(folder) as platform:
        platform.start("up")
        release = write_release(
            folder / "release", {"notes.apk": signed_apk()}, app="notes", version="1.0", channel="stable",
            artifacts=[{"path": "notes.apk", "platform": "android"}],
        )  # fmt: skip
        answer = platform.publish(release)
        assert answer.code == 0, answer.err
        with platform.http() as admin:
            assert admin.patch("/api/v1/apps/notes", json={"access": "link"}).status_code == 200
        yield Shop(platform, answer.json["artifacts"][0])


def test_somebody_with_the_link_and_its_password_gets_the_app(shop: Shop, tmp_path: Path):
    link = shop.link()
    with chromium() as browser, visit(browser, ANDROID, link["url"]) as page:
        assert problems_of(page) == []
        page.fill("#password", PASSWORD)
        page.click("main button")
        page.wait_for_url("**/install/notes")
        with page.expect_download() as caught:
            page.click("a[download] >> visible=true")
        assert caught.value.suggested_filename == "notes.apk"
        saved = tmp_path / "saved"
        caught.value.save_as(saved)
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == shop.artifact["sha256"]
        page.goto(link["url"])
        page.wait_for_url("**/install/notes")
    row = shop.row(link)
    assert (row["openings"], row["uses"]) == (1, 1)


def test_a_wrong_password_is_said_where_it_is_seen_and_heard(shop: Shop):
    link = shop.link()
    with chromium() as browser:
        for device in (LINUX, ANDROID.in_the_dark):
            context = browser.new_context(viewport={"width": device.width, "height": device.height})
            page = context.new_page()
            page.goto(link["url"])
            page.fill("#password", "wrong one")
            page.click("main button")
            assert "not the link's password" in page.get_by_role("alert").inner_text()
            assert page.input_value("#password") == ""
            assert problems_of(page) == []
            context.close()
    assert shop.row(link)["openings"] == 0
