"""Who gets what over HTTP: every address of an app gives the same answer to the same visitor. One real server for the module."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from pipeline.admission import Purpose
from pipeline.database import sqlite
from pipeline.store.layout import Layout
from pipeline.tickets import NOBODY, Tickets, load_sealer
from tests.support.fixtures import fixture
from tests.support.platform import Platform, write_release

IPA = "ipa/embedded.ipa"  # enterprise profile, valid signature
PUBLIC_URL = "https://dist.example"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c63000100000500010d0a2db40000000049454e44ae426082"
)
ICONS = "INSERT OR IGNORE INTO icon SELECT id, ? FROM artifact"  # the sample has none


@dataclass
class Shop:
    """The app `notes`: one release on the channel beta, and a second one, older, on stable."""

    platform: Platform
    beta: dict = field(default_factory=dict)
    stable: dict = field(default_factory=dict)

    def set_access(self, access: str) -> None:
        with self.platform.http() as admin:
            assert admin.patch("/api/v1/apps/notes", json={"access": access}).status_code == 200

    def dist(self, *arguments: str) -> dict:
        answer = self.platform.dist(*arguments, "--json")
        assert answer.code == 0, answer
        return answer.json

    def link(self, **properties) -> dict:
        with self.platform.http() as admin:
            made = admin.post("/api/v1/apps/notes/links", json={"name": "for Ann"} | properties)
        assert made.status_code == 201, made.text
        return made.json()

    def token(self, role: str, **scope) -> str:
        with self.platform.http() as admin:
            made = admin.post("/api/v1/tokens", json={"name": f"a {role}", "role": role} | scope)
        return made.json()["token"]

    def anonymous(self) -> httpx.Client:
        return self.platform.http("")

    def opened(self, link: dict, password: str | None = None) -> httpx.Client:
        """A browser that opened the link."""
        path = local(link["url"])
        with self.anonymous() as client:
            answer = client.get(path) if password is None else client.post(path, data={"password": password})
        assert answer.status_code == 303, answer.text
        return self.with_cookies(answer)

    def signed_in(self, token: str) -> httpx.Client:
        with self.anonymous() as client:
            return self.with_cookies(client.post("/login", data={"token": token}))

    def with_cookies(self, answer: httpx.Response) -> httpx.Client:
        """Also the ones that a browser sends over HTTPS only: this test speaks to the server behind its proxy."""
        pairs = (line.partition(";")[0].partition("=") for line in answer.headers.get_list("set-cookie"))
        client = self.anonymous()
        client.cookies = httpx.Cookies({name: value for name, _, value in pairs})
        return client

    def write(self, statement: str, *values: object) -> None:
        """Straight into the database, for what would take long to come about."""
        file = sqlite.connect(self.platform.data / "dist.db", timeout=30)
        file.execute(statement, values)
        file.commit()
        file.close()


def local(url: str) -> str:
    assert url.startswith(PUBLIC_URL + "/")
    return url.removeprefix(PUBLIC_URL)


def addresses(release: dict, channel: str) -> dict[str, str]:
    artifact = release["artifacts"][0]
    return {
        "page": f"/install/notes/{channel}",
        "permanent": f"/download/notes/{channel}/ios",
        "download": local(artifact["download_url"]),
        "icon": f"/artifacts/{artifact['id']}/icon.png",
        "manifest": f"/artifacts/{artifact['id']}/ota/manifest.plist",
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with Platform(folder, config={"public_url": PUBLIC_URL}) as platform:
        platform.start("up")
        made = Shop(platform)
        for version, channel in (("1.0", "stable"), ("1.1", "beta")):
            release = write_release(
                folder / version, {}, app="notes", version=version, channel=channel,
                artifacts=[{"path": "notes.ipa", "platform": "ios", "ios": {"mode": "enterprise"}}],
            )  # fmt: skip
            shutil.copy(fixture(IPA), release / "notes.ipa")
            answer = platform.publish(release)
            assert answer.code == 0, answer.err
            setattr(made, channel, answer.json)
        made.write(ICONS, PNG)
        yield made


OK, SIGN_IN, NONE, GONE = "let in", "not known", "does not exist", "gone"
MEANING = {200: OK, 302: OK, 401: SIGN_IN, 303: SIGN_IN, 404: NONE, 410: GONE}


def meanings(client: httpx.Client, paths: dict[str, str]) -> dict[str, str]:
    return {name: MEANING[client.get(path).status_code] for name, path in paths.items()}


@pytest.mark.parametrize(
    ("access", "visitor", "on_beta", "on_stable"),
    [
        ("public", "nobody", OK, OK),
        ("public", "stranger", OK, OK),
        ("members", "nobody", SIGN_IN, SIGN_IN),
        ("members", "link", SIGN_IN, SIGN_IN),
        ("members", "tester", OK, OK),
        ("members", "session", OK, OK),
        ("members", "beta tester", OK, NONE),
        ("members", "stranger", NONE, NONE),
        ("link", "nobody", SIGN_IN, SIGN_IN),
        ("link", "link", OK, OK),
        ("link", "beta link", OK, NONE),
        ("link", "revoked link", GONE, GONE),
        ("link", "tester", OK, OK),
        ("link", "stranger", NONE, NONE),
    ],
)
def test_every_address_gives_a_visitor_the_same_answer(
    shop: Shop, access: str, visitor: str, on_beta, on_stable
):
    shop.set_access("link")
    match visitor:
        case "nobody":
            client = shop.anonymous()
        case "stranger":
            client = shop.platform.http(shop.token("tester", apps=["maps"]))
        case "tester":
            client = shop.platform.http(shop.token("tester", apps=["notes"]))
        case "beta tester":
            client = shop.platform.http(shop.token("tester", channels=["beta"]))
        case "session":
            client = shop.signed_in(shop.token("tester"))
        case "link":
            client = shop.opened(shop.link())
        case "beta link":
            client = shop.opened(shop.link(channel="beta"))
        case "revoked link":
            link = shop.link()
            client = shop.opened(link)
            shop.dist("link", "revoke", link["id"])
    shop.set_access(access)
    with client:
        for release, channel, expected in ((shop.beta, "beta", on_beta), (shop.stable, "stable", on_stable)):
            paths = addresses(release, channel)
            assert meanings(client, paths) == dict.fromkeys(paths, expected)


def test_an_opened_link_is_no_way_into_the_console_or_the_api(shop: Shop):
    shop.set_access("link")
    with shop.opened(shop.link()) as client:
        assert client.get("/apps/notes").status_code == 303
        for path in (
            "/api/v1/apps",
            "/api/v1/apps/notes",
            f"/api/v1/artifacts/{shop.beta['artifacts'][0]['id']}",
        ):
            assert client.get(path).status_code == 401


def test_a_links_cookie_is_kept_from_scripts_and_other_sites_and_its_address_from_the_log(shop: Shop):
    shop.set_access("link")
    link = shop.link(channel="beta")
    with shop.anonymous() as client:
        answer = client.get(local(link["url"]))
    assert answer.headers["location"] == "/install/notes/beta"
    (cookie,) = answer.headers.get_list("set-cookie")
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "secure", "path=/"} <= attributes
    assert (
        0
        < int(next(part for part in attributes if part.startswith("max-age=")).partition("=")[2])
        <= 12 * 3600
    )
    assert link["url"].rpartition("/")[2] not in "".join(
        path.read_text(errors="replace") for path in shop.platform.logs.iterdir()
    )


def test_a_link_that_is_open_in_a_browser_is_not_opened_once_more(shop: Shop):
    shop.set_access("link")
    link = shop.link(password="correct horse")
    with shop.opened(link, "correct horse") as client, shop.platform.http() as admin:
        again = client.get(local(link["url"]))
        assert (again.status_code, "set-cookie" in again.headers) == (303, False)
        (row,) = [
            row for row in admin.get("/api/v1/apps/notes/links").json()["items"] if row["id"] == link["id"]
        ]
    assert row["openings"] == 1


def test_a_password_is_asked_for_and_wrong_ones_are_counted(shop: Shop):
    shop.set_access("link")
    link = shop.link(password="correct horse")
    path = local(link["url"])
    with shop.anonymous() as client:
        asked = client.get(path)
        assert asked.status_code == 200
        assert 'type="password"' in asked.text
        assert "set-cookie" not in asked.headers
        wrong = client.post(path, data={"password": "wrong"})
        assert wrong.status_code == 403
        assert "not the link" in wrong.text
        other_site = client.post(
            path, data={"password": "correct horse"}, headers={"Sec-Fetch-Site": "cross-site"}
        )
        assert other_site.status_code == 403
        shop.write(
            "UPDATE link SET wrong_passwords = 10, wrong_password_at = ? WHERE id = ?",
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            link["id"],
        )
        locked = client.post(path, data={"password": "correct horse"})
        assert locked.status_code == 429
        assert int(locked.headers["retry-after"]) > 0
    with shop.opened(shop.link(password="correct horse"), "correct horse") as client:
        assert client.get("/install/notes").status_code == 200


def test_a_limited_link_gives_its_downloads_and_no_more_and_parts_of_one_are_one(shop: Shop):
    shop.set_access("link")
    link = shop.link(download_limit=2)
    path = addresses(shop.beta, "beta")["download"]
    browsers = [shop.opened(link) for _ in range(3)]
    with ThreadPoolExecutor(8) as pool:
        ranges = list(
            pool.map(
                lambda number: browsers[0].get(path, headers={"Range": f"bytes={number}-{number + 9}"}),
                range(8),
            )
        )
    assert [answer.status_code for answer in ranges] == [206] * 8
    assert browsers[2].head(path).status_code == 200
    assert [browser.get(path).status_code for browser in browsers] == [200, 200, 410]
    refused = browsers[2].get(path).json()
    assert (refused["code"], "used up" in refused["detail"]) == ("gone", True)
    with shop.platform.http() as admin:
        (row,) = [
            row for row in admin.get("/api/v1/apps/notes/links").json()["items"] if row["id"] == link["id"]
        ]
    assert (row["uses"], row["openings"], row["download_limit"]) == (2, 3, 2)
    for browser in browsers:
        browser.close()


def test_a_whole_download_is_counted_once_and_shown_to_managers_alone(shop: Shop):
    shop.set_access("link")
    artifact = shop.stable["artifacts"][0]
    path, size = local(artifact["download_url"]), artifact["size"]
    tester = shop.token("tester")
    with shop.platform.http(tester) as client:
        client.head(path)
        client.get(path, headers={"Range": f"bytes=0-{size - 2}"})
        client.get(path, headers={"If-None-Match": f'"sha256:{artifact["sha256"]}"'})
        client.get(path, headers={"Range": f"bytes={size - 1}-"})
        assert client.get(f"/api/v1/artifacts/{artifact['id']}/downloads").status_code == 403
    who = "_".join(tester.split("_")[1:2])

    def mine() -> list[dict]:
        found = shop.dist("artifact", "downloads", artifact["id"])
        assert found["total"] == sum(row["count"] for row in found["by_day"])
        return [row for row in found["recent"] if row["who"] == f"tok_{who}"]

    (row,) = shop.platform.until(mine, 20, "the download is counted")
    assert row["name"] == "a tester"
    assert "127.0.0.1" not in json.dumps(shop.dist("artifact", "downloads", artifact["id"]))


def test_headers_of_a_download(shop: Shop):
    artifact = shop.beta["artifacts"][0]
    path = local(artifact["download_url"])
    for access, keep in (("public", "public"), ("link", "private"), ("members", "private")):
        shop.set_access(access)
        client = shop.anonymous() if access == "public" else shop.platform.http(shop.token("tester"))
        with client:
            answer = client.get(path)
        assert hashlib.sha256(answer.content).hexdigest() == artifact["sha256"]
        kept = answer.headers["cache-control"]
        assert (keep in kept, "immutable" in kept) == (True, True)
        assert answer.headers["etag"] == f'"sha256:{artifact["sha256"]}"'
        assert answer.headers["x-content-type-options"] == "nosniff"
    shop.set_access("link")
    with shop.opened(shop.link()) as client:
        assert client.get(path).headers["cache-control"] == "no-store"
        assert client.get(addresses(shop.beta, "beta")["permanent"]).headers["cache-control"] != "public"


# -- tickets -------------------------------------------------------------------------------------


@pytest.fixture
def tickets(shop: Shop) -> Tickets:
    """The server's own: its key is in its data directory."""
    return Tickets(load_sealer(Layout(shop.platform.data)), PUBLIC_URL)


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=5)


def refused(shop: Shop, path: str, ticket: str) -> tuple[int, str, str]:
    with shop.anonymous() as client:
        answer = client.get(path, params={"ticket": ticket})
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["remedy"]
    return answer.status_code, problem["code"], problem["detail"]


def test_a_ticket_opens_its_artifact_without_cookies_and_is_refused_for_all_else(
    shop: Shop, tickets: Tickets
):
    shop.set_access("public")
    mine, other = addresses(shop.beta, "beta"), addresses(shop.stable, "stable")
    artifact_id = shop.beta["artifacts"][0]["id"]
    good = tickets.issue(Purpose.DOWNLOAD, artifact_id, NOBODY, soon())
    with shop.anonymous() as client:
        answer = client.get(mine["download"], params={"ticket": good})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    for path, ticket, said in (
        (other["download"], good, "another artifact"),
        (mine["icon"], good, "nothing else"),
        (mine["manifest"], good, "nothing else"),
        (mine["download"], good[:-1] + ("A" if good[-1] != "A" else "B"), "not made by this server"),
        (mine["download"], "", "not made by this server"),
        (
            mine["download"],
            tickets.issue(Purpose.DOWNLOAD, artifact_id, NOBODY, datetime.now(UTC)),
            "expired",
        ),
    ):
        status, code, detail = refused(shop, path, ticket)
        assert (status, code) == (403, "ticket_refused")
        assert said in detail


def test_a_ticket_makes_nobody_its_holder_but_for_its_one_purpose(shop: Shop, tickets: Tickets):
    shop.set_access("members")
    admin_id = f"tok_{shop.platform.token.split('_')[1]}"
    artifact_id, mine = shop.beta["artifacts"][0]["id"], addresses(shop.beta, "beta")
    ticket = tickets.issue(Purpose.DOWNLOAD, artifact_id, admin_id, soon())
    with shop.anonymous() as client:
        assert client.get(mine["download"], params={"ticket": ticket}).status_code == 200
        for path in ("/", "/apps/notes", "/audit", mine["page"], mine["permanent"]):
            assert client.get(path, params={"ticket": ticket}).status_code in {303, 401}
        for path in ("/api/v1/apps", "/api/v1/whoami", f"/api/v1/artifacts/{artifact_id}"):
            assert client.get(path, params={"ticket": ticket}).status_code in {400, 401}


def test_a_ticket_ends_with_the_link_or_token_that_it_stands_for(shop: Shop, tickets: Tickets):
    shop.set_access("link")
    artifact_id, path = shop.beta["artifacts"][0]["id"], addresses(shop.beta, "beta")["download"]
    link, token = shop.link(), shop.token("tester")
    token_id = f"tok_{token.split('_')[1]}"
    held = {
        holder: tickets.issue(Purpose.DOWNLOAD, artifact_id, holder, soon())
        for holder in (f"{link['id']}~o", token_id)
    }
    with shop.anonymous() as client:
        assert {client.get(path, params={"ticket": one}).status_code for one in held.values()} == {200}
    shop.dist("link", "revoke", link["id"])
    shop.dist("token", "revoke", token_id)
    assert [refused(shop, path, one)[:2] for one in held.values()] == [(410, "gone"), (403, "ticket_refused")]
    nobody = tickets.issue(Purpose.DOWNLOAD, artifact_id, NOBODY, soon())
    assert refused(shop, path, nobody)[0] == 401


def test_a_revoked_release_is_gone_everywhere_at_once_and_says_why(shop: Shop, tickets: Tickets):
    shop.set_access("link")
    folder = write_release(
        shop.platform.folder / "bad", {}, app="notes", version="6.6", channel="doomed",
        artifacts=[{"path": "notes.ipa", "platform": "ios", "ios": {"mode": "enterprise"}}],
    )  # fmt: skip
    shutil.copy(fixture(IPA), folder / "notes.ipa")
    bad = shop.platform.publish(folder).json
    artifact_id, paths = bad["artifacts"][0]["id"], addresses(bad, "doomed")
    shop.write(ICONS, PNG)
    ticket = tickets.issue(Purpose.DOWNLOAD, artifact_id, NOBODY, soon())
    with (
        shop.opened(shop.link(channel="doomed")) as client,
        shop.platform.http(shop.token("tester")) as tester,
    ):
        assert set(meanings(client, paths).values()) == {OK}
        shop.dist("release", "revoke", bad["release"]["id"], "--reason", "It eats notes.")
        for visitor in (client, tester):
            for name in ("download", "icon", "manifest", "permanent"):
                answer = visitor.get(paths[name])
                assert (answer.status_code, answer.json()["code"]) == (410, "gone")
                assert "It eats notes." in answer.json()["detail"]
            page = visitor.get(paths["page"]).text
            assert "It eats notes." in page
            assert artifact_id not in page
        shop.set_access("public")
        assert refused(shop, paths["download"], ticket)[0] == 410
    with shop.platform.http() as admin:
        assert admin.get(paths["download"]).status_code == 200
