"""What a phone does, behind a real TLS proxy: the page with a browser's cookie, then manifest, icons and package without any."""

import hashlib
import html
import os
import plistlib
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import httpx
import pytest

from pipeline.admission import Purpose
from pipeline.store.layout import Layout
from pipeline.tickets import NOBODY, Tickets, load_sealer
from tests.support.fixtures import fixture
from tests.support.platform import Platform, free_port, write_release
from tests.support.programs import require_program

IPA = "ipa/embedded.ipa"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.1 Mobile/15E148 Safari/604.1"
)
NGINX = """
daemon off; pid {folder}/pid; error_log {folder}/error; worker_processes 1; {user}
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem;
    location / {{ proxy_pass {upstream}; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header Host evil.example; }}
  }}
}}
"""


@dataclass(frozen=True)
class Store:
    platform: Platform
    url: str
    trust: ssl.SSLContext
    artifact: dict
    other: dict

    def phone(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.trust, headers={"User-Agent": IPHONE}, timeout=30)

    def installer(self, url: str) -> httpx.Response:
        """One request of the system's own installer: no cookie, no token."""
        assert url.startswith(self.url + "/")
        return httpx.get(url, verify=self.trust, timeout=30)


@contextmanager
def tls_proxy(folder: Path, port: int, upstream: str) -> Iterator[ssl.SSLContext]:
    folder.mkdir()
    made = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 "
        "-addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    )
    subprocess.run(made.split(), cwd=folder, check=True, capture_output=True, timeout=60)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "conf").write_text(NGINX.format(folder=folder, port=port, upstream=upstream, user=user))
    process = subprocess.Popen(["nginx", "-c", str(folder / "conf")], stderr=subprocess.DEVNULL)
    try:
        yield ssl.create_default_context(cafile=str(folder / "cert.pem"))
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    require_program("nginx")
    require_program("openssl")
    folder, port = tmp_path_factory.mktemp("store"), free_port()
    url = f"https://127.0.0.1:{port}"
    with Platform(folder, config={"public_url": url, "trusted_proxies": ["127.0.0.1"]}) as platform:
        platform.start("up")
        release = write_release(
            folder / "release", {"tool.bin": b"a tool"}, app="notes", version="1.0", channel="beta",
            artifacts=[
                {"path": "notes.ipa", "platform": "ios", "ios": {"mode": "enterprise"}},
                {"path": "tool.bin", "platform": "linux"},
            ],
        )  # fmt: skip
        shutil.copy(fixture(IPA), release / "notes.ipa")
        answer = platform.publish(release)
        assert answer.code == 0, answer.err
        app, tool = answer.json["artifacts"]
        assert platform.dist("app", "set", "notes", "--access", "link").code == 0
        with tls_proxy(folder / "proxy", port, platform.url) as trust:
            platform.until(lambda: listens(port), 20, "the proxy listens")
            yield Store(platform, url, trust, artifact=app, other=tool)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def install_address(page: str) -> str:
    (address,) = set(re.findall(r'href="(itms-services:[^"]+)"', page))
    return html.unescape(address)


def test_a_phone_installs_with_a_link_and_the_installer_needs_no_cookie(store: Store):
    link = store.platform.dist("link", "create", "notes", "--name", "for Ann", "--limit", "1", "--json").json
    with store.phone() as phone:
        phone.get(link["url"].removeprefix(store.url))
        assert [cookie.secure for cookie in phone.cookies.jar] == [True]
        page = phone.get("/install/notes/beta")
        assert page.status_code == 200
    scheme, _, query = install_address(page.text).partition("://?")
    assert scheme == "itms-services"
    parts = parse_qs(query, strict_parsing=True)
    assert parts["action"] == ["download-manifest"]
    (address,) = parts["url"]
    assert address.startswith(f"{store.url}/artifacts/{store.artifact['id']}/")

    manifest = store.installer(address)
    assert manifest.status_code == 200
    assert manifest.headers["content-type"].partition(";")[0] in {"text/xml", "application/xml"}
    assert manifest.headers["cache-control"] == "no-store"
    (item,) = plistlib.loads(manifest.content, fmt=plistlib.FMT_XML)["items"]
    facts = store.artifact["metadata"]
    assert item["metadata"] == {
        "bundle-identifier": facts["identifier"],
        "bundle-version": facts["build"],
        "kind": "software",
        "title": facts["name"],
    }
    assets = {asset["kind"]: asset["url"] for asset in item["assets"]}
    assert set(assets) in ({"software-package"}, {"software-package", "display-image", "full-size-image"})
    assert all(urlsplit(url).scheme == "https" for url in assets.values())
    package = store.installer(assets.pop("software-package"))
    assert hashlib.sha256(package.content).hexdigest() == store.artifact["sha256"]
    assert package.headers["cache-control"] == "no-store"
    for url in assets.values():
        picture = store.installer(url)
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")

    def uses() -> int:
        (row,) = store.platform.dist("link", "list", "notes", "--json").json["items"]
        return row["uses"]

    assert uses() == 1


@pytest.mark.parametrize("what", ["expired", "forged", "replayed", "stripped", "another purpose"])
def test_a_ticket_that_is_not_good_is_refused_with_the_reason(store: Store, what: str):
    tickets = Tickets(load_sealer(Layout(store.platform.data)), store.url)
    artifact_id, now = store.artifact["id"], datetime.now(UTC)
    good = tickets.issue(Purpose.MANIFEST, artifact_id, NOBODY, now + timedelta(minutes=5))
    path = f"{store.url}/artifacts/{artifact_id}/ota/manifest.plist"
    address, status, said = {
        "expired": (f"{path}?ticket={tickets.issue(Purpose.MANIFEST, artifact_id, NOBODY, now)}", 403, "expired"),
        "forged": (f"{path}?ticket={good.replace(NOBODY, 'tok_x', 1)}", 403, "not made by this server"),
        "replayed": (
            f"{path.replace(artifact_id, store.other['id'])}?ticket={good}", 403, "made for another artifact",
        ),
        "stripped": (path, 401, "token or a sign-in"),
        "another purpose": (
            f"{path}?ticket={tickets.issue(Purpose.ICON, artifact_id, NOBODY, now + timedelta(minutes=5))}",
            403, "nothing else",
        ),
    }[what]  # fmt: skip
    answer = store.installer(address)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert said in answer.json()["detail"]
    assert "evil.example" not in answer.text


def test_the_page_names_no_other_host_than_the_public_one(store: Store):
    assert store.platform.dist("app", "set", "notes", "--access", "public").code == 0
    with store.phone() as phone:
        page = phone.get("/install/notes/beta").text
    assert "evil.example" not in page
    assert unquote(install_address(page)).count(store.url) == 1
