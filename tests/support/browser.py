"""Pages in a real browser: Debian's Chromium, as one device after another, with axe-core at hand.

    with chromium() as browser, visit(browser, IPHONE, url) as page:
        assert problems_of(page) == []

`visit` fails at its end when the page logged an error, opened a dialog, or asked another host for anything.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.programs import require_program

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WAIT_MS = 20_000
_SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"


@dataclass(frozen=True)
class Device:
    """What a site can tell of a device. A browser without "Chrome" in its name sends hints here too, and in life does not."""

    agent: str
    width: int = 390
    height: int = 844
    touch: bool = True
    script: bool = True
    dark: bool = False

    @property
    def in_the_dark(self) -> "Device":
        return replace(self, dark=True)

    @property
    def without_script(self) -> "Device":
        return replace(self, script=False)


IPHONE = Device(
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {_SAFARI} Version/18.1 Mobile/15E148 Safari/604.1"
)
IPAD = Device(
    f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_SAFARI} Version/18.1 Safari/605.1.15", 820, 1180
)
ANDROID = Device(f"Mozilla/5.0 (Linux; Android 10; K) {_CHROME} Mobile Safari/537.36")
MAC = Device(IPAD.agent, 1280, 800, touch=False)
WINDOWS = Device(f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_CHROME} Safari/537.36", 1280, 800, touch=False)
LINUX = Device(f"Mozilla/5.0 (X11; Linux x86_64) {_CHROME} Safari/537.36", 1280, 800, touch=False)
WECHAT = Device(f"{IPHONE.agent} MicroMessenger/8.0.50(0x18003233) NetType/WIFI Language/zh_CN")


@contextmanager
def chromium() -> Iterator[Browser]:
    """One browser for as many visits as wanted."""
    require_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser, device: Device, url: str, *, status: int = 200, **context: Any) -> Iterator[Page]:
    """A page as this device shows it."""
    opened = browser.new_context(
        user_agent=device.agent,
        viewport={"width": device.width, "height": device.height},
        has_touch=device.touch,
        java_script_enabled=device.script,
        color_scheme="dark" if device.dark else "light",
        **context,
    )
    said: list[str] = []
    try:
        page = opened.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on(
            "console", lambda line: said.append(f"console: {line.text}") if line.type == "error" else None
        )
        page.on("request", lambda request: said.append(request.url) if _elsewhere(request.url, url) else None)
        answer = page.goto(url)
        assert answer is not None
        assert answer.status == status, answer.text()
        yield page
        if status >= 400:
            said = [line for line in said if f"status of {status}" not in line]
        assert said == []
    finally:
        opened.close()


def _elsewhere(asked: str, url: str) -> bool:
    return urlsplit(asked).netloc not in {urlsplit(url).netloc, ""}


def problems_of(page: Page, *, dark: bool = True) -> list[str]:
    """What axe-core finds, minor or not; in the dark too, unless that was looked at; and whether the page is wider than its screen."""
    axe, found = Axe(), []
    for scheme, options in (("light", None), ("dark", {"runOnly": ["color-contrast"]}))[: 1 + dark]:
        page.emulate_media(color_scheme=scheme)
        found += [
            f"{scheme}: {each['id']}: {node['html'][:200]}"
            for each in axe.run(page, options=options).response["violations"]
            for node in each["nodes"]
        ]
    return found + wider_than_its_screen(page)


def wider_than_its_screen(page: Page) -> list[str]:
    """By how much, if it is."""
    over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [f"{over} pixels too wide"] if over > 0 else []
