"""A working day of a release manager, in a real browser, against a real server and real workers."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import LINUX, WAIT_MS, Device, chromium, problems_of, visit, wider_than_its_screen
from tests.support.platform import Platform, write_release
from tests.support.samples import signed_apk, tampered_apk
from tests.support.storefront import MARKUP, RIGHT_TO_LEFT

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("console")]
NARROW = Device(LINUX.agent, 390, 844)


@dataclass(frozen=True)
class Desk:
    """The server, tokens by role, and where projects are written."""

    platform: Platform
    tokens: dict[str, str]
    folder: Path

    def at(self, path: str) -> str:
        return self.platform.url + path

    def publish(
        self, number: int, content: bytes | None = None, *, app: str = "notes", notes: str = ""
    ) -> dict:
        folder = write_release(
            self.folder / f"{app}-{number}",
            {"notes.apk": content or signed_apk(version_code=number, version_name=f"1.{number}")},
            app=app,
            version=f"1.{number}",
            build=number,
            channel="beta",
            notes=notes,
            artifacts=[{"path": "notes.apk", "platform": "android"}],
        )
        return self.platform.publish(folder).json

    @contextmanager
    def signed_in(
        self, browser: Browser, path: str = "/", *, role: str = "admin", device: Device = LINUX
    ) -> Iterator[Page]:
        with visit(browser, device, self.at("/login")) as page:
            page.fill("#token", self.tokens[role])
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(self.at("/"))
            if path != "/":
                page.goto(self.at(path))
            yield page


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with Platform(folder) as platform:
        platform.start("serve")
        platform.start("worker")
        tokens = {"admin": platform.token}
        for role in ("release-manager", "ci", "tester"):
            tokens[role] = platform.distd_json("token", "create", "--name", role, "--role", role)["token"]
        platform.dist("app", "create", "notes", "--name", "Notes")
        yield Desk(platform, tokens, folder / "projects")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def test_the_working_day(desk: Desk, browser: Browser) -> None:
    for number in (1, 2):
        assert desk.publish(number)["ok"]
    with desk.signed_in(browser, role="release-manager") as page:
        # A publish shows up and becomes published without a reload.
        expect(page.locator("#recent")).to_contain_text("1.2")
        assert desk.publish(3)["ok"]
        expect(page.locator("#recent")).to_contain_text("1.3", timeout=WAIT_MS)
        expect(page.locator("#matrix")).to_contain_text("1.3")

        # One fails: it waits for a person, and its page says why and what to do.
        bad = desk.publish(4, tampered_apk())
        assert bad["release"]["status"] == "rejected"
        row = page.locator("#waiting tr", has_text="1.4")
        expect(row).to_contain_text("Validation failed", timeout=WAIT_MS)
        row.get_by_role("link", name=re.compile("1.4")).click()
        finding = page.locator(".findings li.error").first
        expect(finding).to_contain_text("apk.content-changed")
        expect(finding).to_contain_text("What to do:")

        # Run again: the same verdict, seen live.
        page.locator(".head").get_by_role("button", name="Run again").click()
        expect(page.locator(".notice.good")).to_contain_text("It runs again.")
        expect(page.locator("#head .status.rejected")).to_be_visible(timeout=WAIT_MS)

        # Promote with the effect shown first, then roll back with the downgrade report.
        page.goto(desk.at(f"/apps/notes/releases/{desk.publish(5)['release']['id']}"))
        page.fill("#to", "stable")
        page.locator(".head").get_by_role("button", name="Promote").click()
        expect(page.locator("h1")).to_have_text("Promote 1.5 to stable")
        page.fill("#note", "looks good")
        page.get_by_role("button", name="Promote").click()
        expect(page.locator("#channels")).to_contain_text("looks good")
        page.goto(desk.at("/apps/notes/channels/beta/rollback"))
        expect(page.locator("h1")).to_contain_text("Roll back beta to 1.3")
        expect(page.locator(".findings")).to_contain_text("Android never installs a lower versionCode")
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator(".notice.good")).to_contain_text("beta was moved.")

        # Revoke, with a reason that stands where it was linked.
        page.goto(desk.at("/apps/notes?version=1.3"))
        page.locator("#releases").get_by_role("link", name=re.compile("1.3")).click()
        page.get_by_role("link", name="Revoke").click()
        expect(page.locator("main")).to_contain_text("beta falls back to 1.2.")
        page.fill("#reason", "crashes at start")
        page.get_by_role("button", name="Revoke").click()
        expect(page.locator("#head .status.revoked")).to_be_visible()
        expect(page.locator("#fate")).to_contain_text("crashes at start")

        # What a release manager may not do is absent.
        assert page.get_by_role("link", name="Tokens").count() == 0
        page.goto(desk.at("/audit?action=release.revoked"))
        expect(page.locator("main")).to_contain_text("crashes at start")

    with desk.signed_in(browser, "/tokens") as page:
        page.locator("#new-token summary").click()
        page.fill("#name", "nightly")
        page.get_by_role("button", name="Make").click()
        text = page.locator(".notice.good code").inner_text()
        assert re.fullmatch(r"dist_\w{12}_\w{43}", text)
        with desk.platform.http(text) as http:
            assert http.get("/api/v1/whoami").status_code == 200
            page.locator("tr", has_text="nightly").get_by_role("button", name="Revoke").click()
            expect(page.locator(".notice.good")).to_contain_text("nightly is revoked.")
            assert http.get("/api/v1/whoami").status_code == 401
        page.goto(desk.at("/audit"))
        page.get_by_role("button", name="Verify").click()
        expect(page.locator(".notice.good")).to_contain_text("the log is as it was written")


def test_the_same_without_javascript(desk: Desk, browser: Browser) -> None:
    release = desk.publish(20)["release"]["id"]
    with desk.signed_in(browser, f"/apps/notes/releases/{release}", device=LINUX.without_script) as page:
        page.fill("#to", "internal")
        page.locator(".head").get_by_role("button", name="Promote").click()
        page.get_by_role("button", name="Promote").click()
        expect(page.locator(".notice.good")).to_contain_text("internal was moved.")
        page.goto(desk.at("/queue?status=succeeded"))
        expect(page.locator("#jobs")).to_contain_text("store")
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(desk.at("/login"))


def test_the_queue_follows_jobs_and_says_what_workers_do(desk: Desk, browser: Browser) -> None:
    with desk.signed_in(browser, "/queue") as page:
        expect(page.locator("#workers .status.alive")).to_be_visible()
        before = page.locator("#counts").inner_text()
        assert desk.publish(30)["ok"]
        expect(page.locator("#jobs")).to_contain_text("1.30", timeout=WAIT_MS)
        expect(page.locator("#counts")).not_to_have_text(before)


def test_a_failed_job_is_run_again_from_the_queue(desk: Desk, browser: Browser) -> None:
    bad = desk.publish(31, tampered_apk())
    job = next(row["job_id"] for row in bad["validations"] if row["status"] == "failed")
    with desk.signed_in(browser, "/queue?status=failed") as page:
        page.locator(f"#{job}").get_by_role("button", name="Run again").click()
        page.wait_for_url(re.compile(r"/apps/notes/releases/rel_"))
        expect(page.locator(".notice.good")).to_contain_text("It runs again.")
        expect(page.locator("#head .status.rejected")).to_be_visible(timeout=WAIT_MS)
    with desk.signed_in(browser, "/queue?status=failed", role="release-manager") as page:
        assert page.locator(f"#{job} td.mono", has_text=":").count() == 1, "the worker has a name"


def test_a_version_that_runs_from_right_to_left_moves_nothing_beside_it(desk: Desk, browser: Browser) -> None:
    folder = write_release(
        desk.folder / "rtl", {"a.bin": b"right to left"}, app="rtl", version="1.0א", build=7, channel="beta",
        artifacts=[{"path": "a.bin", "platform": "any"}],
    )  # fmt: skip
    release = desk.platform.publish(folder).json["release"]["id"]
    with desk.signed_in(browser) as page:
        for path, place in (
            ("/", "#matrix"),
            (f"/apps/rtl/releases/{release}", "h1"),
            ("/apps/rtl", "#releases"),
        ):
            page.goto(desk.at(path))
            version = page.locator(f"{place} bdi", has_text="1.0א").first.bounding_box()
            build = page.locator(f"{place} .dim", has_text="(7)").first.bounding_box()
            assert version is not None
            assert build is not None
            assert version["x"] + version["width"] <= build["x"], path
        page.goto(desk.at(f"/apps/rtl/releases/{release}/revoke"))
        expect(page.locator("h1")).to_have_text("Revoke \u20681.0א\u2069")


def test_keys_search_go_and_walk_rows(desk: Desk, browser: Browser) -> None:
    desk.publish(40)
    with desk.signed_in(browser) as page:
        page.keyboard.press("/")
        page.keyboard.type("1.40")
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text("1.40")
        page.locator("h1").click()
        page.keyboard.press("g")
        page.keyboard.press("q")
        page.wait_for_url(desk.at("/queue"))
        page.keyboard.press("?")
        expect(page.locator("#keys")).to_be_visible()
        page.keyboard.press("Escape")
        page.goto(desk.at("/apps/notes"))
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile(r"/apps/notes/releases/rel_"))


PAGES = (
    "/",
    "/apps",
    "/queue",
    "/audit?verify=true",
    "/tokens",
    "/members",
    "/storage?garbage=true",
    "/settings",
    "/sessions",
    "/apps/notes",
    "/apps/notes/channels",
    "/apps/notes/rules",
    "/apps/notes/access",
    "/apps/notes/webhooks",
    "/apps/notes/retention",
)


NARROWED = ("/", "/queue", "/apps/notes")  # what looks otherwise on a phone: the side, tables, columns


@pytest.mark.parametrize("device", [LINUX, NARROW], ids=["wide", "narrow"])
def test_no_page_has_a_problem_that_axe_finds_or_is_wider_than_its_screen(
    desk: Desk, browser: Browser, device: Device
) -> None:
    document = desk.publish(50)
    release, job = document["release"]["id"], document["validations"][0]["job_id"]
    more = (f"/jobs/{job}",
            f"/apps/notes/releases/{release}", f"/apps/notes/releases/{release}/revoke",
            f"/apps/notes/releases/{release}/promote?channel_name=stable")  # fmt: skip
    with desk.signed_in(browser, device=device) as page:
        found = {}
        for path in (*PAGES, *more):
            page.goto(desk.at(path))
            if device is LINUX or path in NARROWED:
                problems = problems_of(page, dark=device is LINUX)
            else:
                problems = wider_than_its_screen(page)
            if problems:
                found[path] = problems
        assert found == {}, json.dumps(found, indent=1)


def test_a_release_is_kept_and_what_retention_took_comes_back(desk: Desk, browser: Browser) -> None:
    first, *_ = [desk.publish(number, app="kept")["release"]["id"] for number in (1, 2, 3)]
    page_of = f"/apps/kept/releases/{first}"
    with desk.platform.http() as http, desk.signed_in(browser, page_of) as page:
        page.get_by_role("button", name="Keep for good").click()
        expect(page.locator("#fate")).to_contain_text("Kept whatever retention says.")
        page.get_by_role("button", name="Leave to retention").click()
        expect(page.locator(".notice.good")).to_contain_text("Retention decides about it again.")
        rules = http.put("/api/v1/apps/kept/retention", json={"keep_last": 1, "keep_days": 0})
        assert rules.status_code == 200, rules.text
        page.goto(desk.at("/apps/kept/retention"))
        page.get_by_role("button", name="Remove them now").click()
        page.goto(desk.at(page_of))
        expect(page.locator("#fate")).to_contain_text("Removed by retention.")
        page.get_by_role("button", name="Restore").click()
        expect(page.locator("#fate")).to_contain_text("Kept whatever retention says.")
        assert http.get(f"/api/v1/releases/{first}").json()["removed_at"] is None


def test_downloads_are_shown_by_day_and_by_whom(desk: Desk, browser: Browser) -> None:
    release = desk.publish(60)
    with desk.platform.http() as http:
        address = release["artifacts"][0]["download_url"].removeprefix(desk.platform.url)
        assert http.get(address).status_code == 200
    with desk.signed_in(browser, f"/apps/notes/releases/{release['release']['id']}") as page:
        for _ in range(20):  # a download is written a moment later
            if page.get_by_text("first admin").count() > 1:
                break
            page.wait_for_timeout(500)
            page.reload()
        row = page.locator("section", has_text="Downloaded lately").last.locator("tr")
        expect(row).to_contain_text("first admin")
        expect(row).to_contain_text("notes.apk")
        assert page.locator(".spark title", has_text=": 1").count() == 1
    with desk.signed_in(browser, f"/apps/notes/releases/{release['release']['id']}", role="tester") as page:
        assert page.get_by_text("Downloaded lately").count() == 0


def test_a_promotion_that_the_rules_refuse_says_why_on_a_page(desk: Desk, browser: Browser) -> None:
    release = desk.publish(1, app="strict")["release"]["id"]
    with desk.platform.http() as http:
        rules = {"channels": {"stable": {"rules": {"no-sbom": "error"}}}}
        answer = http.put("/api/v1/apps/strict/policy", json={"policy": rules, "expected_revision": 0})
        assert answer.status_code == 200, answer.text
    with desk.signed_in(browser, f"/apps/strict/releases/{release}") as page:
        # As the form does; a page of the browser's own would count the refusal among its errors.
        answer = page.request.get(desk.at(f"/apps/strict/releases/{release}/promote?channel_name=stable"))
        assert answer.status == 409
        assert "policy.no-sbom" in answer.text()
        assert "Attach one to the release" in answer.text()


def test_names_and_notes_full_of_markup_harm_nothing(desk: Desk, browser: Browser) -> None:
    hostile = f"{MARKUP} {RIGHT_TO_LEFT}"
    desk.platform.dist("app", "create", "hostile", "--name", hostile)
    content = signed_apk(version_code=1, package="com.example.hostile", label=MARKUP)
    release = desk.publish(1, content, app="hostile", notes=MARKUP + "x" * 10_000)["release"]["id"]
    with desk.signed_in(browser, device=NARROW) as page:  # `visit` fails on a dialog or an error
        for path in (
            "/",
            "/apps",
            "/apps/hostile",
            "/queue",
            "/audit",
            f"/apps/hostile/releases/{release}",
            f"/apps?q={MARKUP}",
        ):
            page.goto(desk.at(path))
            assert page.evaluate("document.querySelectorAll('main img[src=x], main script').length") == 0
            assert page.evaluate(
                "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            )


def test_the_console_speaks_chinese(desk: Desk, browser: Browser) -> None:
    with desk.signed_in(browser) as page:
        page.get_by_role("button", name="中文").click()
        expect(page.locator("h1")).to_have_text("概览")
        assert page.locator("html").get_attribute("lang") == "zh"
        page.get_by_role("button", name="English").click()
        expect(page.locator("h1")).to_have_text("Overview")
