"""Who looks at an install page: the system, as far as the request says it, and whether an app's built-in browser holds the page.

Client hints are believed only from a browser that sends them (Chromium and its kin); they know what a frozen user agent hides: the
real version and the processor. An iPad says that it is a Mac. Its browsers send no hints, so such a visitor is told both, until the
page's script has counted touch points.

Pure: headers in, a `Visitor` out. Left to others: what is shown to whom (`install.py`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

HINTS: Final = ("Sec-CH-UA-Platform-Version", "Sec-CH-UA-Arch", "Sec-CH-UA-Bitness")
DESKTOPS: Final = frozenset({"macos", "windows", "linux"})

_HINTED: Final = {
    "android": "android",
    "ios": "ios",
    "macos": "macos",
    "windows": "windows",
    "linux": "linux",
    "chrome os": "linux",
    "chromium os": "linux",
}
_MARKS: Final = (
    ("iPhone", "ios"),
    ("iPad", "ios"),
    ("iPod", "ios"),
    ("Android", "android"),
    ("Windows", "windows"),
    ("Macintosh", "macos"),
    ("CrOS", "linux"),
    ("Linux", "linux"),
    ("X11", "linux"),
)
# Apple's engine under another name exists on iOS only; with "Macintosh" it is an iPad that asks for desktop pages.
_IPAD_BROWSERS: Final = re.compile(r"\b(CriOS|FxiOS|EdgiOS|OPT|DuckDuckGo|GSA)/")
# Browsers that exist on a Mac and never on an iPad under this name.
_MAC_BROWSERS: Final = re.compile(r"\b(Chrome|Chromium|Firefox|Edg|OPR)/")
# Built-in browsers: what they write into their user agent, and what people call them. The first that fits wins.
_IN_APP: Final = tuple(
    (re.compile(mark), name)
    for mark, name in (
        (r"MicroMessenger|WindowsWechat", "WeChat"),
        (r"DingTalk", "DingTalk"),
        (r"\bLark/|Feishu", "Feishu"),
        (r"Weibo", "Weibo"),
        (r"\bQQ/", "QQ"),
        (r"AlipayClient", "Alipay"),
        (r"Instagram", "Instagram"),
        (r"FBAN/Messenger|FB_IAB/MESSENGER|FB_IAB/Orca", "Messenger"),
        (r"FBAN|FBAV|FB_IAB", "Facebook"),
        (r"\bLine/", "LINE"),
        (r"KAKAOTALK", "KakaoTalk"),
        (r"Telegram", "Telegram"),
        (r"WhatsApp", "WhatsApp"),
        (r"LinkedInApp", "LinkedIn"),
        (r"Twitter|TwitterAndroid", "X"),
        (r"Snapchat", "Snapchat"),
        (r"Pinterest", "Pinterest"),
        (r"BytedanceWebview|musical_ly|TikTok|aweme", "TikTok"),
        (r"Teams/", "Teams"),
        (r"\bGSA/", "Google"),
        (r"Android.*; wv\)", ""),  # some app's, and it does not say whose
    )
)


@dataclass(frozen=True, slots=True)
class Visitor:
    """What the request says. `maybe` is a second platform that it may just as well be; `in_app` is the name of an app, or empty."""

    platform: str | None = None
    maybe: str | None = None
    version: int | None = None  # of Android: the release; of Windows: 10 or 11
    arch: str | None = None  # arm64, x86_64, x86
    inside_app: bool = False
    in_app: str = ""

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms to show first, the likelier one at the front."""
        return tuple(item for item in (self.platform, self.maybe) if item is not None)

    @property
    def has_camera(self) -> bool:
        """Whether this is a phone or tablet for sure, which needs no code to scan."""
        return self.platform in {"ios", "android"}


def visitor_of(headers: Mapping[str, str]) -> Visitor:
    """By headers with lower-case names."""
    agent = headers.get("user-agent", "")
    hints = _hints(headers) if "Chrome/" in agent or "Chromium/" in agent else {}
    platform = _HINTED.get(hints.get("platform", "").lower()) or next(
        (platform for mark, platform in _MARKS if mark in agent), None
    )
    maybe = None
    if platform == "macos" and "platform" not in hints:
        if _IPAD_BROWSERS.search(agent):
            platform = "ios"
        elif not _MAC_BROWSERS.search(agent):
            maybe = "ios"
    inside = next((name for mark, name in _IN_APP if mark.search(agent)), None)
    return Visitor(
        platform,
        maybe,
        _version(platform, agent, hints),
        _arch(agent, hints),
        inside is not None,
        inside or "",
    )


def _hints(headers: Mapping[str, str]) -> dict[str, str]:
    """Structured strings (RFC 9651) without their quotes; what is empty was not said."""
    found = {
        name: headers.get(f"sec-ch-ua-{name}", "").strip().strip('"')
        for name in ("platform", "platform-version", "arch", "bitness")
    }
    return {name: value for name, value in found.items() if value}


def _version(platform: str | None, agent: str, hints: Mapping[str, str]) -> int | None:
    said = re.match(r"(\d{1,4})", hints.get("platform-version", ""))
    if platform == "android":
        # Chrome's frozen user agent says 10 on every phone, with K for every model.
        match = said or re.search(r"Android (\d{1,2})(?![\d.]*; K\))", agent)
        return int(match[1]) if match else None
    if platform == "windows" and said:
        return 11 if int(said[1]) >= 13 else 10  # Microsoft, detect Windows 11 using User-Agent Client Hints
    return None


def _arch(agent: str, hints: Mapping[str, str]) -> str | None:
    if "arch" in hints:
        wide = hints.get("bitness", "64") == "64"
        return {"arm": "arm64", "x86": "x86_64" if wide else "x86"}.get(hints["arch"])
    # A Mac's user agent says Intel on every Mac, one of Windows x64 on ARM too: only Linux says what it is.
    match = re.search(r"Linux (x86_64|aarch64|i686)", agent)
    return {"x86_64": "x86_64", "aarch64": "arm64", "i686": "x86"}[match[1]] if match else None
