"""Who looks at an install page: by user agent and client hints, as real browsers send them."""

import pytest

from ui.fitting import Misfit, misfit
from ui.system_names import lowest_system
from ui.visitor import Visitor, visitor_of

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0"
SAFARI = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) {SAFARI} Version/18.1 Mobile/15E148 Safari/604.1"
)
MAC = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {SAFARI} Version/18.1 Safari/605.1.15"
MAC_CHROME = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {CHROME} Safari/537.36"
ANDROID = f"Mozilla/5.0 (Linux; Android 10; K) {CHROME} Mobile Safari/537.36"
WINDOWS = f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36"
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"


def hints(**said: str) -> dict[str, str]:
    return {f"sec-ch-ua-{name.replace('_', '-')}": f'"{value}"' for name, value in said.items()}


@pytest.mark.parametrize(
    ("agent", "platforms"),
    [
        (IPHONE, ("ios",)),
        (IPHONE.replace("iPhone;", "iPad;"), ("ios",)),
        (MAC, ("macos", "ios")),
        (MAC.replace("Version/18.1", "CriOS/131.0"), ("ios",)),
        (MAC.replace("Version/18.1", "FxiOS/132.0"), ("ios",)),
        (MAC_CHROME, ("macos",)),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:132.0) Gecko/20100101 Firefox/132.0", ("macos",)),
        (ANDROID, ("android",)),
        (WINDOWS, ("windows",)),
        (LINUX, ("linux",)),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {CHROME} Safari/537.36", ("linux",)),
        ("curl/8.5.0", ()),
        ("", ()),
    ],
)
def test_the_platform_is_read_from_the_user_agent(agent: str, platforms: tuple[str, ...]) -> None:
    assert visitor_of({"user-agent": agent}).platforms == platforms


def test_a_hint_tells_the_mac_from_the_ipad() -> None:
    found = visitor_of({"user-agent": MAC_CHROME, **hints(platform="macOS", arch="arm", bitness="64")})
    assert (found.platforms, found.arch) == (("macos",), "arm64")


def test_hints_are_not_believed_from_a_browser_that_sends_none() -> None:
    assert visitor_of({"user-agent": MAC, **hints(platform="Windows")}).platforms == ("macos", "ios")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"user-agent": ANDROID}, None),
        ({"user-agent": ANDROID, **hints(platform="Android", platform_version="14.0.0")}, 14),
        ({"user-agent": ANDROID, **hints(platform="Android", platform_version="")}, None),
        ({"user-agent": "Mozilla/5.0 (Android 13; Mobile; rv:132.0) Gecko/132.0 Firefox/132.0"}, 13),
        ({"user-agent": f"Mozilla/5.0 (Linux; Android 7.1.1; SM-J510FN) {CHROME} Mobile Safari/537.36"}, 7),
        ({"user-agent": f"Mozilla/5.0 (Linux; Android 10; SM-G960F) {CHROME} Mobile Safari/537.36"}, 10),
        ({"user-agent": WINDOWS, **hints(platform="Windows", platform_version="15.0.0")}, 11),
        ({"user-agent": WINDOWS, **hints(platform="Windows", platform_version="10.0.0")}, 10),
        ({"user-agent": WINDOWS}, None),
    ],
)
def test_the_version_is_known_only_where_it_is_said(headers: dict[str, str], expected: int | None) -> None:
    assert visitor_of(headers).version == expected


@pytest.mark.parametrize(
    ("headers", "arch"),
    [
        ({"user-agent": WINDOWS}, None),
        ({"user-agent": WINDOWS, **hints(arch="arm", bitness="64")}, "arm64"),
        ({"user-agent": WINDOWS, **hints(arch="x86", bitness="32")}, "x86"),
        ({"user-agent": WINDOWS, **hints(arch="risc")}, None),
        ({"user-agent": MAC}, None),
        ({"user-agent": LINUX}, "x86_64"),
        ({"user-agent": LINUX.replace("x86_64", "aarch64")}, "arm64"),
    ],
)
def test_a_frozen_user_agent_does_not_decide_the_processor(headers: dict[str, str], arch: str | None) -> None:
    assert visitor_of(headers).arch == arch


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("MicroMessenger/8.0.50(0x1800) NetType/WIFI Language/zh_CN", "WeChat"),
        ("[FBAN/FBIOS;FBAV/490.0.0.37;FBBV/1]", "Facebook"),
        ("[FBAN/MessengerForiOS;FBAV/480.0]", "Messenger"),
        ("Instagram 355.0.0.30 (iPhone15,2; iOS 18_1)", "Instagram"),
        ("Safari Line/14.19.0", "LINE"),
        ("Weibo (iPhone15,2__weibo__14.10.1)", "Weibo"),
        ("QQ/9.1.5.611 V1_IPH_SQ_9.1.5_1_APP_A", "QQ"),
        ("AliApp(DingTalk/7.6.15) com.laiwang.DingTalk/1", "DingTalk"),
        ("Telegram-iOS/11.3", "Telegram"),
        ("BytedanceWebview/d8a21c6", "TikTok"),
    ],
)
def test_a_built_in_browser_is_called_by_its_name(mark: str, name: str) -> None:
    found = visitor_of({"user-agent": f"{IPHONE} {mark}"})
    assert (found.platform, found.inside_app, found.in_app) == ("ios", True, name)


def test_an_unknown_apps_web_view_is_noticed_and_a_browser_is_not() -> None:
    inside = visitor_of({"user-agent": ANDROID.replace("; K)", "; K; wv)")})
    assert (inside.inside_app, inside.in_app) == (True, "")
    for agent in (
        ANDROID,
        IPHONE,
        MAC,
        WINDOWS,
        f"{ANDROID} MQQBrowser/14.9",
        f"{ANDROID} SamsungBrowser/27.0",
    ):
        assert not visitor_of({"user-agent": agent}).inside_app, agent


def test_nothing_said_is_nothing_known() -> None:
    assert visitor_of({}) == Visitor()


@pytest.mark.parametrize(
    ("artifact_format", "facts", "details", "words"),
    [
        ("apk", {"min_os": "14"}, {"installs_from_api": 24}, "Android 7.0"),
        ("apk", {"min_os": "24"}, {"installs_from_api": None}, "Android 7.0"),
        ("apk", {"min_os": "99"}, {}, "Android API 99"),
        ("apk", {"min_os": "Tiramisu"}, {}, "Tiramisu"),
        ("ipa", {"min_os": "14.3"}, {}, "iOS 14.3"),
        ("dmg", {"min_os": "10.7"}, {}, "macOS 10.7"),
        ("pe", {"min_os": "6.0"}, {}, "Windows Vista"),
        ("pe", {"min_os": "4.0"}, {}, "Windows 4.0"),
        ("msix", {"min_os": "10.0.17763.0"}, {}, "Windows 10, build 17763"),
        ("msix", {"min_os": "10.0.22000.0"}, {}, "Windows 11, build 22000"),
        ("msix", {"min_os": "10.0.0.0"}, {}, "Windows 10"),
        ("wheel", {"min_os": ">=3.9"}, {}, "Python >=3.9"),
        ("deb", {"min_os": None}, {}, None),
        ("apk", {}, {}, None),
    ],
)
def test_the_lowest_system_is_named_as_people_know_it(
    artifact_format: str, facts: dict[str, str], details: dict[str, int], words: str | None
) -> None:
    assert lowest_system(artifact_format, facts, details) == words


@pytest.mark.parametrize(
    ("platform", "archs", "lowest", "visitor", "expected"),
    [
        ("macos", ["arm64"], None, Visitor("macos", arch="x86_64"), Misfit.PROCESSOR),
        ("macos", ["x86_64", "arm64"], None, Visitor("macos", arch="x86_64"), None),
        ("macos", ["x86_64"], None, Visitor("macos", arch="arm64"), None),
        ("windows", ["x64"], None, Visitor("windows", arch="arm64"), None),
        ("windows", ["x86"], None, Visitor("windows", arch="x86_64"), None),
        ("windows", ["x64"], None, Visitor("windows", arch="x86"), Misfit.PROCESSOR),
        ("windows", ["arm64"], None, Visitor("windows", arch="x86_64"), Misfit.PROCESSOR),
        ("linux", ["amd64"], None, Visitor("linux", arch="arm64"), Misfit.PROCESSOR),
        ("linux", ["all"], None, Visitor("linux", arch="arm64"), None),
        ("linux", [], None, Visitor("linux", arch="arm64"), None),
        ("linux", ["amd64"], None, Visitor("linux"), None),
        ("linux", ["amd64"], None, Visitor("macos", arch="arm64"), None),
        ("android", None, "Android 12L", Visitor("android", version=11), Misfit.SYSTEM),
        ("android", None, "Android 12L", Visitor("android", version=12), None),
        ("android", None, "Android 12L", Visitor("android"), None),
        ("android", None, "Android API 99", Visitor("android", version=11), None),
        ("android", None, None, Visitor("android", version=11), None),
        ("ios", None, "iOS 15.0", Visitor("ios", version=1), None),
    ],
)
def test_only_what_surely_does_not_run_there_is_called_a_misfit(
    platform: str, archs: list[str] | None, lowest: str | None, visitor: Visitor, expected: Misfit | None
) -> None:
    assert misfit(platform, archs, lowest, visitor) == expected
