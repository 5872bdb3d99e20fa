"""Install pages in a real browser, as the devices that they are for, over a real server with real published artifacts."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import zxingcpp
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.support.browser import (
    ANDROID,
    IPAD,
    IPHONE,
    LINUX,
    MAC,
    WECHAT,
    WINDOWS,
    Device,
    chromium,
    problems_of,
    visit,
)
from tests.support.platform import Platform
from tests.support.samples import signed_apk
from tests.support.storefront import MARKUP, PUBLIC_URL, RIGHT_TO_LEFT, TESTFLIGHT, publish, stock
from ui.catalogue import FOLDER

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("install_pages")]


@dataclass(frozen=True)
class Shop:
    """The server, and the ids of its releases by app."""

    platform: Platform
    releases: dict[str, str]
    folder: Path

    def at(self, slug: str) -> str:
        return f"{self.platform.url}/install/{slug}"

    def artifacts(self, slug: str) -> list[dict[str, Any]]:
        with self.platform.http() as client:
            answer = client.get(f"/api/v1/releases/{self.releases[slug]}")
        return answer.json()["artifacts"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with Platform(folder, config={"public_url": PUBLIC_URL}) as platform:
        platform.start("up")
        yield Shop(platform, stock(platform, folder / "projects"), folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


def open_cards(page: Page) -> list[str]:
    return page.locator("details.offer[open]").evaluate_all(
        "cards => cards.map(card => card.dataset.platform)"
    )


def best(page: Page) -> tuple[str | None, str]:
    """What the first action of the page is, and where it leads."""
    button = page.locator(".act .button").first
    return button.get_attribute("data-kind"), button.get_attribute("href") or ""


@pytest.mark.parametrize(
    ("device", "platform", "kind", "leads_to"),
    [
        (IPHONE, "ios", "testflight", TESTFLIGHT),
        (IPAD, "ios", "testflight", TESTFLIGHT),
        (ANDROID, "android", "direct", "/notes.apk"),
        (MAC, "macos", "direct", "/Notes.pkg"),
        (WINDOWS, "windows", "direct", "/notes-setup.exe"),
        (LINUX, "linux", "direct", "/hello_2.10-3_amd64.deb"),
    ],
    ids=["iPhone", "iPad", "Android", "Mac", "Windows", "Linux"],
)
def test_the_best_action_for_the_device_comes_first_and_the_others_are_one_click_away(
    shop: Shop, browser: Browser, device: Device, platform: str, kind: str, leads_to: str
) -> None:
    with visit(browser, device, shop.at("notes")) as page:
        assert open_cards(page) == [platform]
        assert page.locator("details.offer").first.get_attribute("data-platform") == platform
        found = best(page)
        assert found[0] == kind
        assert leads_to in found[1]
        closed = page.locator("details.offer:not([open])")
        assert closed.count() == 4
        closed.first.locator("summary").first.click()
        assert page.locator("details.offer[open] .act .button").locator("visible=true").count() > 1


def test_without_a_script_an_ipad_that_says_it_is_a_mac_is_shown_both(shop: Shop, browser: Browser) -> None:
    with visit(browser, IPAD.without_script, shop.at("inhouse")) as page:
        assert "iPads say the same" in page.content()
        assert open_cards_without_script(page) == ["macos", "ios"]
    with visit(browser, IPAD, shop.at("inhouse")) as page:
        assert open_cards(page) == ["ios"]
        assert "iPads say the same" not in page.content()
    with visit(browser, MAC, shop.at("inhouse")) as page:
        assert open_cards(page) == ["macos"]


def open_cards_without_script(page: Page) -> list[str]:
    return re.findall(r'<details class="offer first" data-platform="(\w+)" open', page.content())


@pytest.mark.parametrize("device", [IPAD, WINDOWS], ids=["iPad", "Windows"])
def test_every_link_is_there_without_a_script(shop: Shop, browser: Browser, device: Device) -> None:
    links = 'links => links.map(link => link.getAttribute("href")).sort()'
    with visit(browser, device, shop.at("notes")) as page:
        with_script = page.locator(".act a").evaluate_all(links)
    plain = httpx.get(shop.at("notes"), headers={"User-Agent": device.agent}, timeout=30).text
    assert sorted(re.findall(r'<a class="button[^"]*" href="([^"]*)"', plain)) == with_script
    assert len(with_script) == 12


@pytest.mark.parametrize(
    ("slug", "device"),
    [
        ("notes", ANDROID),
        ("notes", WINDOWS),
        ("inhouse", WECHAT),
        ("inhouse", MAC),
        ("adhoc", IPHONE),
        ("expired", IPHONE),
        ("expiring", WINDOWS),
        ("plain", IPHONE),
        ("hostile", ANDROID),
        ("hostile", WINDOWS),
        ("server", WINDOWS),
    ],
)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    shop: Shop, browser: Browser, slug: str, device: Device
) -> None:
    with visit(browser, device, shop.at(slug)) as page:
        page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
        assert problems_of(page) == []


# -- iOS, honestly ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slug", ["notes", "inhouse", "adhoc", "expired", "expiring", "plain", "hostile", "server"]
)
def test_page_and_api_say_the_same_of_every_artifact(shop: Shop, slug: str) -> None:
    text = httpx.get(shop.at(slug), headers={"User-Agent": IPHONE.agent}, timeout=30).text
    buttons = dict(re.findall(r'<a class="button[^"]*" href="([^"]*)"[^>]* data-kind="(\w+)"', text))
    told = {each["install"]["url"]: each["install"]["kind"] for each in shop.artifacts(slug)}
    assert {_public(unescape(href)): kind for href, kind in buttons.items()} == told


def _public(href: str) -> str:
    """The page's link as the API gives it: with the public address, and without the ticket that only a device needs."""
    return re.sub(r"%3Fticket%3D.*", "", PUBLIC_URL + href if href.startswith("/") else href)


def test_an_in_house_app_is_installed_by_ios_itself_and_says_whose_devices_take_it(
    shop: Shop, browser: Browser
) -> None:
    with visit(browser, IPHONE, shop.at("inhouse")) as page:
        kind, url = best(page)
        assert kind == "ota"
        assert url.startswith(
            f"itms-services://?action=download-manifest&url={'https%3A%2F%2Fdist.example%2F'}"
        )
        card = page.locator("details.offer[open]").inner_text()
        assert "In-house app of Example Ltd" in card
        assert "devices that this organisation manages, or on which you trust it" in card
        assert "VPN & Device Management" in card
    (document,) = [each for each in shop.artifacts("inhouse") if each["platform"] == "ios"]
    assert document["install"]["needs"] == ["managed-or-trusted-device"]
    assert document["install"]["problems"] == []


def test_an_ad_hoc_app_says_which_devices_without_telling_their_numbers(shop: Shop, browser: Browser) -> None:
    with visit(browser, IPHONE, shop.at("adhoc")) as page:
        assert best(page)[0] == "ota"
        assert "Signed for 2 registered devices of Example Ltd" in page.locator(".one").inner_text()
        page.get_by_text("The 2 devices in the profile").click()
        assert page.locator(".udids code").all_inner_texts() == ["…802E", "…F00D"]
        assert "00008030" not in page.content()


def test_a_file_for_download_never_looks_like_an_install(shop: Shop, browser: Browser) -> None:
    with visit(browser, IPHONE, shop.at("plain")) as page:
        assert "itms-services" not in page.content()
        assert page.get_by_role("link", name="Install").count() == 0
        button = page.locator(".act .button")
        assert button.inner_text().startswith("Download the file")
        assert "strong" not in (button.get_attribute("class") or "").split()
        assert "does not install it from a web page" in page.locator(".one").inner_text()


def test_an_expired_profile_is_told_before_somebody_taps(shop: Shop, browser: Browser) -> None:
    with visit(browser, IPHONE, shop.at("expired")) as page:
        notice = page.locator(".notice.bad").inner_text()
        assert "expired on 2022-01-15" in notice
        assert "Renew the profile" in notice
        assert page.locator(".act .button").inner_text() == "Try to install all the same"
        assert page.locator(".button.strong").count() == 0
    with visit(browser, IPHONE, shop.at("expiring")) as page:
        assert "can be neither installed nor started" in page.locator(".notice").inner_text()
        assert page.locator(".button.strong").inner_text() == "Install"


# -- what stands in the way elsewhere -----------------------------------------------------------------


def test_a_built_in_browser_is_named_and_the_way_out_of_it(shop: Shop, browser: Browser) -> None:
    with visit(browser, WECHAT, shop.at("inhouse")) as page:
        warning = page.get_by_role("alert").inner_text()
        assert "WeChat shows this page in its built-in browser" in warning
        assert "Open in Safari" in warning
        assert f"{PUBLIC_URL}/install/inhouse/stable" in warning
        assert page.get_by_role("alert").bounding_box()["y"] < page.locator(".act").first.bounding_box()["y"]  # type: ignore[index]
    with visit(browser, IPHONE, shop.at("inhouse")) as page:
        assert page.get_by_role("alert").count() == 0


HELP = {
    MAC: {
        "Notes.dmg": ["drag the app to Applications", "macOS 15 and later", "Open Anyway"],
        "Notes.pkg": ["follow the Installer", "the Mac asks Apple", "Mac Admins Open Source"],
        "Notes.app.zip": ["the Mac asks Apple", "Mayur Pawashe"],
    },
    WINDOWS: {
        "notes-setup.exe": ["check that the publisher is K Desktop Environment e.V."],
        "notes-portable.exe": ["it is not signed", "Run anyway", "Smart App Control"],
        "notes.msix": ["Trusted People", "Code Sign Test (DO NOT TRUST)"],
        "notes-unsigned.msix": ["does not install an unsigned MSIX", "Add-AppxPackage -AllowUnsigned"],
    },
    LINUX: {
        "hello_2.10-3_amd64.deb": ["sudo apt install ./hello_2.10-3_amd64.deb", "not signed"],
        "Archer-3.4.5-6.x86_64.rpm": ["sudo dnf install ./Archer-3.4.5-6.x86_64.rpm", "zypper"],
        "Echo-x86_64.AppImage": ["chmod +x ./Echo-x86_64.AppImage", "FUSE"],
    },
    ANDROID: {"notes.apk": ["Allow from this source", "Play Protect", "Auto Blocker"]},
}


@pytest.mark.parametrize("device", HELP, ids=["Mac", "Windows", "Linux", "Android"])
def test_help_fits_the_artifacts_real_state(shop: Shop, browser: Browser, device: Device) -> None:
    with visit(browser, device, shop.at("notes")) as page:
        page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
        for file, words in HELP[device].items():
            told = page.locator(".one").filter(has=page.locator(f".act a[href*='/{file}']")).inner_text()
            assert [each for each in words if each not in told] == [], (file, told)


@pytest.mark.parametrize(
    ("version", "there", "absent"),
    [
        (
            "7.1",
            ["Android 7 stops you", "Unknown sources"],
            ["Allow from this source", "Allow restricted settings"],
        ),
        ("10", ["Allow from this source"], ["Unknown sources", "Allow restricted settings"]),
        ("14", ["Allow from this source", "Allow restricted settings"], ["Unknown sources"]),
        ("", ["Allow from this source", "Before Android 8", "Allow restricted settings"], ["stops you"]),
    ],
)
def test_android_is_spoken_to_in_the_words_of_its_version(
    shop: Shop, version: str, there: list[str], absent: list[str]
) -> None:
    headers = {"User-Agent": ANDROID.agent, "Sec-CH-UA-Platform": '"Android"'}
    page = httpx.get(
        shop.at("notes"), headers=headers | {"Sec-CH-UA-Platform-Version": f'"{version}"'}, timeout=30
    ).text
    for words in there:
        assert words in page
    for words in absent:
        assert words not in page


def test_what_does_not_run_on_the_device_says_so_and_comes_last(shop: Shop) -> None:
    agent = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
    hints = {"Sec-CH-UA-Platform": '"macOS"', "Sec-CH-UA-Arch": '"x86"', "Sec-CH-UA-Bitness": '"64"'}
    page = httpx.get(shop.at("notes"), headers={"User-Agent": agent, **hints}, timeout=30).text
    assert re.findall(r"/artifacts/\w+/(Notes[^\"]*)", page) == ["Notes.pkg", "Notes.dmg", "Notes.app.zip"]
    assert page.count("This is built for arm64; the browser says that this device has an Intel or AMD") == 1
    hints = {"Sec-CH-UA-Platform": '"Android"', "Sec-CH-UA-Platform-Version": '"6.0.1"'}
    page = httpx.get(shop.at("hostile"), headers={"User-Agent": ANDROID.agent, **hints}, timeout=30).text
    assert "This needs Android 7.0; the browser says that this phone has Android 6." in page
    assert "button strong" not in page


def test_facts_are_whole_and_the_digest_can_be_taken_in_one_go(shop: Shop, browser: Browser) -> None:
    (document,) = [each for each in shop.artifacts("notes") if each["platform"] == "android"]
    with visit(browser, ANDROID, shop.at("notes"), permissions=["clipboard-read", "clipboard-write"]) as page:
        assert "Version 1.4.0 (build 1040)" in page.locator(".release").inner_text()
        card = page.locator("details.offer[open]")
        facts = card.inner_text()
        for fact in ("2.9 MiB", "Android 4.0", "Android Debug", "APK"):
            assert fact in facts
        digest = card.locator(".facts.whole code").first
        assert digest.inner_text() == document["sha256"]
        digest.click()
        assert page.evaluate("getSelection().toString()") == document["sha256"]
        card.get_by_role("button", name="Copy").first.click()
        card.get_by_role("button", name="Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == document["sha256"]
        assert "Faster sync.\nFewer bugs." in page.locator(".aside").inner_text()


@pytest.mark.parametrize("device", [WINDOWS, WINDOWS.in_the_dark], ids=["light", "dark"])
def test_a_phone_reads_the_pages_address_off_a_desktops_screen(
    shop: Shop, browser: Browser, device: Device
) -> None:
    with visit(browser, device, shop.at("notes"), device_scale_factor=2) as page:
        picture = Image.open(io.BytesIO(page.screenshot()))
    (code,) = zxingcpp.read_barcodes(picture, formats=zxingcpp.BarcodeFormat.QRCode)
    assert code.text == f"{PUBLIC_URL}/install/notes/stable"


def test_a_phone_is_not_asked_to_scan_itself(shop: Shop, browser: Browser) -> None:
    for device in (IPHONE, ANDROID, IPAD):
        with visit(browser, device, shop.at("notes")) as page:
            assert page.locator(".qr").count() == 0


def test_the_browser_is_asked_for_what_its_name_hides(shop: Shop) -> None:
    answer = httpx.get(shop.at("notes"), timeout=30)
    wanted = "Sec-CH-UA-Platform-Version, Sec-CH-UA-Arch, Sec-CH-UA-Bitness"
    assert (answer.headers["accept-ch"], answer.headers["critical-ch"]) == (wanted, wanted)
    assert answer.headers["cache-control"] == "no-store"


# -- what must not harm -------------------------------------------------------------------------------


def test_markup_and_foreign_scripts_in_names_and_notes_are_only_text(shop: Shop, browser: Browser) -> None:
    for device in (ANDROID, WINDOWS):
        with visit(browser, device, shop.at("hostile")) as page:
            assert page.title() == f"Install \u2068{RIGHT_TO_LEFT} {MARKUP}\u2069 · distd"
            assert page.locator("h1").inner_text() == f"{RIGHT_TO_LEFT} {MARKUP}"
            notes = page.get_by_role("region", name="What is new")
            assert notes.inner_text().startswith(MARKUP)
            assert len(notes.inner_text()) > 10_000
            assert page.locator("script").count() == 1
            assert page.locator("img").count() == 0
    (document,) = shop.artifacts("hostile")
    text = httpx.get(shop.at("hostile"), timeout=30).text
    assert document["install"]["url"].endswith(".apk")
    assert document["install"]["url"].removeprefix(PUBLIC_URL) in text


# -- channels, revocation, access ------------------------------------------------------------------------


def test_a_revoked_release_is_not_offered_and_the_page_says_why(shop: Shop, browser: Browser) -> None:
    platform, app = shop.platform, {"slug": "recalled", "name": "Recalled"}
    ids = [
        publish(
            platform,
            shop.folder / f"recalled-{code}",
            app,
            {"a.apk": (signed_apk(version_code=code), {"platform": "android"})},
            version=f"{code}.0",
            build=code,
        )
        for code in (1, 2)
    ]
    for release_id, reason in ((ids[1], "It loses <b>notes</b>."), (ids[0], "Old certificate.")):
        answer = platform.dist("release", "revoke", release_id, "--reason", reason, "--json")
        assert answer.code == 0, answer
        with visit(browser, ANDROID, shop.at("recalled")) as page:
            assert problems_of(page) == []
            said = page.locator(".notice.bad").inner_text()
            assert reason in said
            shown = page.locator(".act a").evaluate_all("links => links.map(link => link.href)")
            if release_id == ids[1]:
                assert "Version 2.0 (build 2) was revoked: It loses" in said
                assert "replace it with the version below" in said
                assert "Version 1.0" in page.locator(".release").inner_text()
                assert len(shown) == 1
            else:
                assert "Nothing else is offered" in said
                assert shown == []
        with platform.http() as client:
            document = client.get(f"/api/v1/releases/{release_id}").json()
        assert [each["install"] for each in document["artifacts"]] == [None]


def test_a_stable_channel_that_lost_its_release_says_so_and_hands_out_no_beta(shop: Shop) -> None:
    platform, app = shop.platform, {"slug": "careful", "name": "Careful"}
    ids = [
        publish(
            platform,
            shop.folder / f"careful-{name}",
            app,
            {"a.apk": (signed_apk(version_code=code), {"platform": "android"})},
            version=f"{code}.0",
            build=code,
            channel=name,
        )
        for code, name in ((1, "stable"), (2, "beta"))
    ]
    answer = platform.dist("release", "revoke", ids[0], "--reason", "It loses notes.", "--json")
    assert answer.code == 0, answer
    page = httpx.get(shop.at("careful"), timeout=30).text
    assert "It loses notes." in page
    assert "a.apk" not in page
    assert "/install/careful/beta" in page, "one click away"


def test_head_has_the_headers_of_get_and_the_charset_stands_there_once(shop: Shop) -> None:
    for address in (shop.at("notes"), f"{shop.at('notes')}/stable"):
        page, head = httpx.get(address, timeout=30), httpx.head(address, timeout=30)
        assert (head.status_code, head.content) == (200, b"")
        assert page.headers["content-type"] == head.headers["content-type"] == "text/html; charset=utf-8"
    for path, kind in (
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/api/docs", "text/html; charset=utf-8"),
    ):
        assert httpx.get(shop.platform.url + path, timeout=30).headers["content-type"] == kind


def test_channels_are_one_click_apart_and_an_unknown_one_says_so(shop: Shop, browser: Browser) -> None:
    promoted = shop.platform.dist("channel", "promote", "server", "beta", shop.releases["server"], "--json")
    assert promoted.code == 0, promoted
    with visit(browser, LINUX, f"{shop.at('server')}/beta") as page:
        chips = page.get_by_role("navigation", name="Channels").get_by_role("link")
        assert chips.all_inner_texts() == ["beta", "stable"]
        assert page.locator("[aria-current=page]").inner_text() == "beta"
        chips.last.click()
        assert page.url.endswith("/install/server/stable")
    with visit(browser, LINUX, f"{shop.at('server')}/nightly", status=404) as page:
        assert "has no channel 'nightly'" in page.locator("main").inner_text()
        assert "/install/server" in page.locator("main").inner_text()


def test_a_members_app_asks_for_a_sign_in_and_comes_back(shop: Shop) -> None:
    made = shop.platform.dist("app", "create", "inner", "--name", "Inner", "--json")
    assert made.code == 0, made
    answer = httpx.get(shop.at("inner"), timeout=30)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next_page=/install/inner")
    with shop.platform.http() as client:
        page = client.get("/install/inner")
    assert page.status_code == 200
    assert "Nothing is offered yet." in page.text


def test_in_another_language_nothing_of_the_page_stays_english(shop: Shop) -> None:
    texts = json.loads((FOLDER / "zh.json").read_text("utf-8"))["texts"]
    pieces = {piece for text in texts for piece in re.split(r"\{\w+\}", text) if len(piece) > 20}
    for slug in shop.releases:
        for device in (IPHONE, ANDROID, MAC, WINDOWS, LINUX, WECHAT):
            headers = {"User-Agent": device.agent, "Accept-Language": "zh-CN,zh;q=0.9"}
            answer = httpx.get(shop.at(slug), headers=headers)
            assert '<html lang="zh">' in answer.text
            shown = unescape(answer.text)
            assert [piece for piece in pieces if piece in shown] == []
    notes = httpx.get(shop.at("notes"), headers={"Accept-Language": "zh"}).text
    assert "<title>安装 Notes" in notes
