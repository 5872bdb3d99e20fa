"""An iPhone installs a members' app, and one that a link opens: the page over TLS, then manifest, icons and package by ticket only."""

import io
import plistlib
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from defusedxml import ElementTree
from PIL import Image

from pipeline.admission import Purpose
from pipeline.store.layout import Layout
from pipeline.tickets import Tickets, load_sealer
from tests.support.browser import IPHONE, chromium, visit
from tests.support.platform import Platform
from tests.support.ports import free_port
from tests.support.storefront import ENTERPRISE, publish, signed_ipa
from tests.support.tls_proxy import tls_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("over_the_air")]


@dataclass
class Air:
    """A server behind a proxy with TLS, two in-house apps on it, and a tester's token."""

    platform: Platform
    url: str
    authority: ssl.SSLContext
    token: str
    token_id: str
    packages: dict[str, bytes]
    artifacts: dict[str, dict[str, Any]]

    def device(self) -> httpx.Client:
        """iOS' own installer: no cookie, no token."""
        return httpx.Client(verify=self.authority, timeout=30)

    def page(self, slug: str) -> str:
        """The install page for the signed-in tester."""
        with httpx.Client(verify=self.authority, timeout=30, headers={"User-Agent": IPHONE.agent}) as browser:
            signed_in = browser.post(f"{self.url}/login", data={"token": self.token, "next_page": "/"})
            assert signed_in.status_code == 303, signed_in.text
            assert "Secure" in signed_in.headers["set-cookie"]
            answer = browser.get(f"{self.url}/install/{slug}")
        assert answer.status_code == 200, answer.text
        return answer.text

    def manifest_url(self, slug: str) -> str:
        return manifest_in(self.page(slug))

    def manifest(self, slug: str) -> dict[str, Any]:
        with self.device() as device:
            return plistlib.loads(device.get(self.manifest_url(slug)).content)

    def tickets(self) -> Tickets:
        """The server's own, from its data directory: what it gave out at another time."""
        return Tickets(load_sealer(Layout(self.platform.data)), self.url)


def manifest_in(page: str) -> str:
    link = re.search(r'href="(itms-services:[^"]*)"', page)
    assert link is not None, page
    parts = urlsplit(unescape(link[1]))
    query = parse_qs(parts.query, strict_parsing=True)
    assert (parts.scheme, query["action"]) == ("itms-services", ["download-manifest"])
    return query["url"][0]


@pytest.fixture(scope="module")
def air(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Air]:
    folder, port = tmp_path_factory.mktemp("air"), free_port()
    url = f"https://localhost:{port}"
    with Platform(folder, config={"public_url": url, "trusted_proxies": ["127.0.0.1"]}) as platform:
        platform.start("up")
        made = platform.distd_json("token", "create", "--name", "tester", "--role", "tester")
        with (
            tls_proxy(folder / "nginx", port=port, to=platform.port) as authority,
            platform.http() as admin,
        ):
            packages, artifacts = {}, {}
            for slug in ("notes", "other", "linked"):
                packages[slug] = signed_ipa("enterprise", name=f"{slug} <&> ✏")
                said = {"platform": "ios", "ios": ENTERPRISE}
                files = {f"{slug} 1.ipa": (packages[slug], said)}
                release_id = publish(
                    platform,
                    folder / slug,
                    {"slug": slug, "name": slug},
                    files,
                    access="link" if slug == "linked" else "members",
                )
                artifacts[slug] = admin.get(f"/api/v1/releases/{release_id}").json()["artifacts"][0]
            yield Air(platform, url, authority, made["token"], made["id"], packages, artifacts)


def test_the_manifest_has_apples_format_field_by_field(air: Air) -> None:
    with air.device() as device:
        answer = device.get(
            air.manifest_url("notes"), headers={"User-Agent": "com.apple.appstored/1.0 iOS/18.1"}
        )
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == "application/xml"
    assert answer.headers["cache-control"] == "no-store"
    root = ElementTree.fromstring(answer.content)  # well-formed, and with no entity of its own
    assert (root.tag, root.attrib) == ("plist", {"version": "1.0"})
    assert b'"http://www.apple.com/DTDs/PropertyList-1.0.dtd"' in answer.content
    manifest = plistlib.loads(answer.content)
    assert set(manifest) == {"items"}
    (item,) = manifest["items"]
    assert set(item) == {"assets", "metadata"}
    assert item["metadata"] == {
        "bundle-identifier": "com.example.notes",
        "bundle-version": "1040",
        "kind": "software",
        "title": "notes <&> ✏",
    }
    assert [each["kind"] for each in item["assets"]] == [
        "software-package",
        "display-image",
        "full-size-image",
    ]
    package, *images = item["assets"]
    assert set(package) == {"kind", "url"}
    for image in images:
        assert set(image) == {"kind", "needs-shine", "url"}
        assert image["needs-shine"] is False
    for each in item["assets"]:
        parts = urlsplit(each["url"])
        assert (f"{parts.scheme}://{parts.netloc}", parts.fragment) == (air.url, "")
        assert parts.path.startswith(f"/artifacts/{air.artifacts['notes']['id']}/")
        assert each["url"].isascii()


def test_package_and_icons_come_with_no_cookie_whole_and_in_parts(air: Air) -> None:
    package, *images = air.manifest("notes")["items"][0]["assets"]
    with air.device() as device:
        whole = device.get(package["url"])
        assert (whole.status_code, whole.content) == (200, air.packages["notes"])
        assert whole.headers["content-type"] == "application/octet-stream"
        head = device.head(package["url"])
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(air.packages["notes"])))
        part = device.get(package["url"], headers={"Range": "bytes=100-199"})
        assert (part.status_code, part.content) == (206, air.packages["notes"][100:200])
        for image in images:
            icon = device.get(image["url"])
            assert (icon.status_code, icon.headers["content-type"]) == (200, "image/png")
            assert Image.open(io.BytesIO(icon.content)).format == "PNG"


def test_without_a_ticket_a_members_app_gives_a_device_nothing(air: Air) -> None:
    package, image, _ = air.manifest("notes")["items"][0]["assets"]
    with air.device() as device:
        for url in (air.manifest_url("notes"), package["url"], image["url"]):
            assert device.get(url.partition("?")[0]).status_code == 401


def refused(air: Air, url: str) -> str:
    """The words with which a device is turned away."""
    with air.device() as device:
        answer = device.get(url)
    assert answer.status_code == 403, (url, answer.text)
    problem = answer.json()
    assert problem["code"] == "ticket_refused"
    assert problem["remedy"].startswith("Open the install page again")
    return problem["detail"]


def test_an_expired_ticket_opens_nothing(air: Air) -> None:
    artifact_id = air.artifacts["notes"]["id"]
    for purpose, path in (
        (Purpose.MANIFEST, "ota/manifest.plist"),
        (Purpose.DOWNLOAD, "notes%201.ipa"),
        (Purpose.ICON, "icon.png"),
    ):
        url = f"{air.url}/artifacts/{artifact_id}/{path}?ticket="
        live = air.tickets().issue(
            purpose, artifact_id, air.token_id, datetime.now(UTC) + timedelta(minutes=1)
        )
        with air.device() as device:
            assert device.get(url + live).status_code == 200
        past = air.tickets().issue(
            purpose, artifact_id, air.token_id, datetime.now(UTC) - timedelta(seconds=1)
        )
        assert "expired" in refused(air, url + past)


def test_a_forged_ticket_opens_nothing(air: Air) -> None:
    url = air.manifest_url("notes")
    ticket = parse_qs(urlsplit(url).query)["ticket"][0]
    purpose, artifact_id, ends, holder, mac = ticket.split(".")
    other = "A" if mac[0] != "A" else "B"
    for forged in (
        f"{purpose}.{artifact_id}.{ends}.{holder}.{other}{mac[1:]}",
        f"{purpose}.{artifact_id}.{int(ends) + 3600}.{holder}.{mac}",
        f"{purpose}.{artifact_id}.{ends}.-.{mac}",
        f"download.{artifact_id}.{ends}.{holder}.{mac}",
        f"{purpose}.{artifact_id}.{ends}.{holder}.",
        "rubbish",
    ):
        assert "not made by this server" in refused(air, url.replace(ticket, forged))


def test_a_ticket_is_not_replayed_on_another_artifact_or_for_another_thing(air: Air) -> None:
    mine = urlsplit(air.manifest_url("notes")).query
    package = urlsplit(air.manifest("notes")["items"][0]["assets"][0]["url"]).query
    notes, other = (f"{air.url}/artifacts/{air.artifacts[slug]['id']}" for slug in ("notes", "other"))
    assert "another artifact" in refused(air, f"{other}/ota/manifest.plist?{mine}")
    assert "another artifact" in refused(air, f"{other}/other%201.ipa?{package}")
    assert "nothing else" in refused(air, f"{notes}/notes%201.ipa?{mine}")
    assert "nothing else" in refused(air, f"{notes}/ota/manifest.plist?{package}")


def test_no_header_of_a_request_moves_the_manifests_addresses(air: Air) -> None:
    lies = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"}
    with air.device() as device:
        answer = device.get(air.manifest_url("notes"), headers=lies)
    assert "evil" not in answer.text
    assert answer.text.count(f"{air.url}/artifacts/") == 3


def test_a_signed_in_tester_meets_the_same_link_in_a_real_browser(air: Air) -> None:
    with (
        chromium() as browser,
        visit(browser, IPHONE, f"{air.url}/install/notes", ignore_https_errors=True) as page,
    ):
        assert "/login" in page.url
        page.get_by_label("Token").fill(air.token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/install/notes")
        link = page.locator(".act .button").first
        assert link.inner_text() == "Install"
        url = manifest_in(page.content())
    with air.device() as device:
        assert device.get(url).status_code == 200


def test_a_ticket_ends_with_its_holders_token(air: Air) -> None:
    url = air.manifest_url("other")
    made = air.platform.distd_json("token", "create", "--name", "leaver", "--role", "tester")
    ends = datetime.now(UTC) + timedelta(minutes=5)
    ticket = air.tickets().issue(Purpose.MANIFEST, air.artifacts["other"]["id"], made["id"], ends)
    url = f"{url.partition('?')[0]}?ticket={ticket}"
    with air.device() as device:
        assert device.get(url).status_code == 200
        revoked = air.platform.dist("token", "revoke", made["id"], "--json")
        assert revoked.code == 0, revoked
        assert device.get(url).status_code in {401, 403}


def test_whoever_opened_a_link_installs_once_and_the_installer_needs_no_cookie(air: Air) -> None:
    made = air.platform.dist("link", "create", "linked", "--name", "for Ann", "--limit", "1", "--json")
    assert made.code == 0, made
    assert made.json["url"].startswith(f"{air.url}/")
    with httpx.Client(verify=air.authority, timeout=30, headers={"User-Agent": IPHONE.agent}) as phone:
        assert phone.get(f"{air.url}/install/linked").status_code == 303
        phone.get(made.json["url"])
        assert [cookie.secure for cookie in phone.cookies.jar] == [True]
        page = phone.get(f"{air.url}/install/linked")
    assert page.status_code == 200
    with air.device() as device:
        assets = plistlib.loads(device.get(manifest_in(page.text)).content)["items"][0]["assets"]
        for image in assets[1:]:
            assert device.get(image["url"]).status_code == 200
        package = device.get(assets[0]["url"])
    assert (package.status_code, package.content) == (200, air.packages["linked"])
    assert package.headers["cache-control"] == "no-store"
    (link,) = air.platform.dist("link", "list", "linked", "--json").json["items"]
    assert link["uses"] == 1
