"""The log lines of a job where the job stands: of one that went well, one whose worker was killed, and one that broke and was tried again."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import LINUX, WAIT_MS, chromium, problems_of, visit, wider_than_its_screen
from tests.support.platform import Platform, write_release
from tests.support.samples import signed_apk, tampered_apk

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("console")]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("logs")
    with Platform(folder, failpoints="inspect.middle=kill; store.middle=error") as running:
        running.start("up")
        yield running


@pytest.fixture(scope="module")
def published(platform: Platform) -> dict[str, Any]:
    """Its inspection killed a worker, and its way into the store broke once."""
    return publish(platform, 1, signed_apk(version_code=1, version_name="1.1"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def publish(platform: Platform, number: int, content: bytes) -> dict[str, Any]:
    folder = write_release(
        platform.data.parent / f"project-{number}",
        {"notes.apk": content},
        app="notes",
        version=f"1.{number}",
        build=number,
        artifacts=[{"path": "notes.apk", "platform": "android"}],
    )
    answer: dict[str, Any] = platform.publish(folder).json
    return answer


def job_of(document: dict[str, Any], step: str) -> str:
    return next(row["job_id"] for row in document["validations"] if row["step"] == step)


def lines_of(platform: Platform, job: str) -> list[dict[str, Any]]:
    with platform.http() as client:
        lines: list[dict[str, Any]] = client.get(f"/api/v1/jobs/{job}/log").raise_for_status().json()["lines"]
    return lines


def sign_in(page: Page, platform: Platform, path: str) -> None:
    page.fill("#token", platform.token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(platform.url + "/")
    page.goto(platform.url + path)


def test_the_lines_of_a_worker_that_was_killed_are_followed_by_those_of_the_next(
    platform: Platform, published: dict[str, Any]
) -> None:
    assert published["release"]["status"] == "published"
    lines = lines_of(platform, job_of(published, "inspect"))
    assert [line["event"] for line in lines] == [
        "job_started", "job_freed", "job_started", "file_inspected", "job_ended",
    ]  # fmt: skip
    assert lines[0]["worker_id"] != lines[2]["worker_id"]
    assert [lines[number]["attempt"] for number in (0, 2)] == [1, 2]
    assert "died or fell silent" in lines[1]["fields"]["error"]
    assert lines[3]["fields"]["verdict"] == "accepted"
    assert lines[4]["fields"]["status"] == "succeeded"


def test_a_fault_of_ours_is_there_with_its_traceback(platform: Platform, published: dict[str, Any]) -> None:
    lines = lines_of(platform, job_of(published, "store"))
    assert [line["event"] for line in lines][:3] == ["job_started", "job_broke", "job_will_be_tried_again"]
    assert lines[-1]["event"] == "job_ended"
    assert "fail point store.middle" in lines[1]["trace"]


def test_the_command_shows_the_same_lines(platform: Platform, published: dict[str, Any]) -> None:
    release = published["release"]["id"]
    document = platform.dist("release", "log", release, "--json").json
    assert {row["job_id"] for row in document["jobs"]} == {row["job_id"] for row in published["validations"]}
    job = job_of(published, "store")
    text = platform.dist("release", "log", release, "--job", job).out
    assert "job_broke" in text
    assert "    OSError: [Errno 5] fail point store.middle" in text
    assert "file_inspected" not in text
    refused = platform.dist("release", "log", release, "--job", "job_x")
    assert (refused.code, "has no job job_x" in refused.err) == (2, True)


def test_the_log_opens_in_its_place_and_follows(
    platform: Platform, published: dict[str, Any], browser: Browser
) -> None:
    job = job_of(published, "inspect")
    with visit(browser, LINUX, platform.url + "/login") as page:
        sign_in(page, platform, "/queue")
        link = page.locator(f'a[data-log][href="/jobs/{job}"]')
        link.click()
        log = page.locator("#jobs .log")
        expect(log).to_contain_text("job freed", timeout=WAIT_MS)
        expect(log).to_contain_text("verdict accepted")
        assert page.url == platform.url + "/queue"
        assert problems_of(page) == []
        # It stays open while the table around it is renewed.
        bad = publish(platform, 2, tampered_apk())
        expect(page.locator(f'a[href="/jobs/{job_of(bad, "inspect")}"]')).to_be_visible(timeout=WAIT_MS)
        expect(log).to_contain_text("job freed")
        assert link.get_attribute("aria-expanded") == "true"
        link.click()
        expect(log).to_have_count(0)

        # The same on the release's page: why it failed, in one place.
        page.goto(f"{platform.url}/apps/notes/releases/{bad['release']['id']}")
        step = page.locator(f"#{job_of(bad, 'inspect')}")
        step.locator("a[data-log]").press("Enter")
        expect(step.locator(".log")).to_contain_text("error apk.content-changed", timeout=WAIT_MS)
        page.set_viewport_size({"width": 390, "height": 844})
        assert not wider_than_its_screen(page)
        assert problems_of(page) == []


def test_the_log_without_scripts_is_a_page(
    platform: Platform, published: dict[str, Any], browser: Browser
) -> None:
    job = job_of(published, "store")
    with visit(browser, LINUX.without_script, platform.url + "/login") as page:
        sign_in(page, platform, f"/apps/notes/releases/{published['release']['id']}")
        page.locator(f'a[href="/jobs/{job}"]').click()
        expect(page.locator("h1")).to_contain_text("store")
        page.locator("#log summary").click()
        expect(page.locator("#log pre")).to_contain_text("fail point store.middle")
