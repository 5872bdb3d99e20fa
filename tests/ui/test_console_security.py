"""What an attacker tries on the console: other sites' forms, fixed sessions, frames, redirects, routes of higher roles."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import ui
from tests.support.platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("console_security")]
PAGES = ("/", "/apps", "/apps/notes", "/queue", "/audit", "/tokens", "/members", "/storage", "/settings")
# Before a sign-in there is no session whose seal a form could have.
OTHERS = {"/login", "/login/once/*", "/language", "/l/*", "*"}
READABLE = {
    "admin": set(PAGES),
    "release-manager": {"/", "/apps", "/apps/notes", "/queue", "/audit", "/storage"},
    "ci": {"/", "/apps", "/apps/notes"},
    "tester": {"/", "/apps", "/apps/notes"},
}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("console")) as platform:
        platform.start("serve")
        assert platform.dist("app", "create", "notes").code == 0
        yield platform


def token_of(platform: Platform, role: str) -> str:
    return platform.distd_json("token", "create", "--name", role, "--role", role)["token"]


@contextmanager
def signed_in(platform: Platform, token: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, timeout=30) as client:
        assert client.post("/login", data={"token": token, "next_page": "/"}).status_code == 303
        yield client


def seal_of(client: httpx.Client, path: str = "/") -> str:
    found = re.search(r'name="seal" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("role", READABLE)
def test_a_role_reads_its_pages_and_no_other(platform: Platform, role: str) -> None:
    with signed_in(platform, token_of(platform, role)) as client:
        assert {path for path in PAGES if client.get(path).status_code == 200} == READABLE[role]
        menu = set(re.findall(r'class="go" href="([^"]+)"', client.get("/").text))
        assert menu <= READABLE[role]


@pytest.mark.parametrize("role", READABLE)
def test_the_list_of_keys_names_only_where_a_role_may_go(platform: Platform, role: str) -> None:
    with signed_in(platform, token_of(platform, role)) as client:
        page = client.get("/").text
        listed = set(re.findall(r"<kbd>g</kbd> <kbd>(\w)</kbd>", page))
        assert listed == set(re.findall(r'class="go"[^>]* data-key="(\w)"', page))


def test_whoever_may_only_download_sees_no_settings_of_an_app(platform: Platform) -> None:
    with signed_in(platform, token_of(platform, "tester")) as client:
        found = {
            path: client.get(f"/apps/notes/{path}").status_code
            for path in ("access", "rules", "webhooks", "retention")
        }
    assert found == dict.fromkeys(found, 403)


def test_an_address_cannot_make_the_console_say_something(platform: Platform) -> None:
    with signed_in(platform, platform.token) as client:
        for path in ("/queue", "/tokens", "/apps/notes/channels", "/apps/notes/access", "/sessions"):
            assert (
                "evil@example.org" not in client.get(path, params={"said": "Write to evil@example.org"}).text
            )
        form = {"seal": seal_of(client, "/apps/notes/access"), "name": "Notes", "access": "members"}
        done = client.post("/apps/notes/access", data=form)
        assert (done.status_code, done.headers["location"]) == (303, "/apps/notes/access")
        assert "HttpOnly" in done.headers["set-cookie"]
        assert "The app is changed." in client.get(done.headers["location"]).text
        assert "The app is changed." not in client.get(done.headers["location"]).text, "it is said once"


def test_an_address_that_leads_nowhere_is_a_page_for_people(platform: Platform) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml"}
    with signed_in(platform, platform.token) as client:
        page = client.get("/apps/notes/nope", headers=browser)
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "There is nothing at this address." in page.text
        assert 'class="go" href="/apps"' in page.text
        for path, headers in (("/apps/notes/nope", {}), ("/api/v1/nope", browser)):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    with httpx.Client(base_url=platform.url) as client:
        assert client.get("/nope", headers=browser).status_code == 404


def test_the_sign_in_leads_back_to_the_filtered_page(platform: Platform) -> None:
    with httpx.Client(base_url=platform.url) as client:
        answer = client.get("/queue?status=failed&app=notes")
        assert answer.headers["location"] == "/login?next_page=/queue%3Fstatus%3Dfailed%26app%3Dnotes"
        page = client.get(answer.headers["location"]).text
        assert 'value="/queue?status=failed&amp;app=notes"' in page


def test_nobody_is_sent_to_the_sign_in_and_back(platform: Platform) -> None:
    with httpx.Client(base_url=platform.url) as client:
        for path in PAGES:
            answer = client.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/login")


FORMS = (
    "/tokens",
    "/apps/notes/access",
    "/apps/notes/rules",
    "/apps/notes/links",
    "/apps/notes/webhooks",
    "/apps/notes/retention",
    "/apps/notes/pins",
    "/apps/notes/channels/beta/rollback",
    "/apps/notes/requests/req_1/approve",
    "/apps/notes/releases/rel_1/promote",
    "/apps/notes/releases/rel_1/revoke",
    "/apps/notes/releases/rel_1/rerun",
    "/apps/notes/releases/rel_1/keep",
    "/apps/notes/pins/pin_1/remove",
    "/apps/notes/links/lnk_1/revoke",
    "/apps/notes/webhooks/whk_1/ping",
    "/apps/notes/webhooks/whk_1/redeliver",
    "/apps/notes/requests/req_1/refuse",
    "/members/per_1/let-in",
    "/members/per_1/shut-out",
    "/sessions/ses_1/end",
    "/tokens/tok_1/revoke",
    "/queue/rerun",
    "/logout",
)


def test_a_form_of_another_site_or_of_another_session_changes_nothing(platform: Platform) -> None:
    with signed_in(platform, platform.token) as client, signed_in(platform, platform.token) as other:
        seal, strange = seal_of(client), seal_of(other)
        for form in FORMS:
            data = {"seal": seal, "action": "save", "name": "x", "role": "ci"}
            for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
                assert client.post(form, data=data, headers=headers).status_code == 403, form
            for wrong in ("", "x", strange, seal[:-2] + "AA"):
                assert client.post(form, data=data | {"seal": wrong}).status_code == 403, (form, wrong)
        assert client.get("/").status_code == 200  # still signed in: /logout was refused too
    with platform.http() as http:
        names = {row["name"] for row in http.get("/api/v1/tokens").json()["items"]}
    assert "x" not in names


def test_every_form_of_the_console_is_tried(platform: Platform) -> None:
    templates = Path(ui.__file__).parent / "templates"
    actions = set()
    for file in templates.glob("*.html"):
        actions |= set(re.findall(r'method="post" action="([^"]+)"', file.read_text("utf-8")))
    kinds = {re.sub(r"\{\{[^}]*\}\}", "*", action) for action in actions} - OTHERS
    tried = [re.compile(re.escape(kind).replace(r"\*", "[^/]+")) for kind in kinds]
    assert [shape.pattern for shape in tried if not any(shape.fullmatch(form) for form in FORMS)] == []


def test_a_form_without_a_session_is_sent_to_the_sign_in(platform: Platform) -> None:
    answer = httpx.post(f"{platform.url}/tokens", data={"name": "x", "role": "admin"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_a_cookie_from_before_the_sign_in_is_worth_nothing_after_it(platform: Platform) -> None:
    with httpx.Client(base_url=platform.url, cookies={"distd_session": "chosen-by-the-attacker"}) as client:
        answer = client.post("/login", data={"token": platform.token, "next_page": "/"})
        cookie = answer.headers["set-cookie"]
        assert "chosen-by-the-attacker" not in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
    fixed = httpx.get(f"{platform.url}/", cookies={"distd_session": "chosen-by-the-attacker"})
    assert fixed.status_code == 303


def test_a_session_ends_at_sign_out_and_with_its_token(platform: Platform) -> None:
    made = platform.distd_json("token", "create", "--name", "short", "--role", "tester")
    with signed_in(platform, made["token"]) as client:
        kept = dict(client.cookies)
        client.post("/logout", data={"seal": seal_of(client)})
        assert httpx.get(f"{platform.url}/", cookies=kept).status_code == 303
    with signed_in(platform, made["token"]) as client, platform.http() as http:
        assert client.get("/").status_code == 200
        assert http.delete(f"/api/v1/tokens/{made['id']}").status_code in {200, 204}
        assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "/%0d%0aX: y",
        "javascript:alert(1)",
        "/\tx",
    ],
)
def test_nobody_is_sent_to_another_host_after_the_sign_in(platform: Platform, target: str) -> None:
    answer = httpx.post(f"{platform.url}/login", data={"token": platform.token, "next_page": target})
    location = answer.headers["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))
    assert "evil" not in location or location.startswith("/%0d")


def test_no_page_can_be_framed_or_run_a_script_of_others(platform: Platform) -> None:
    with signed_in(platform, platform.token) as client:
        for path in (*PAGES, "/login", "/sessions"):
            headers = client.get(path).headers
            policy = headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy
            assert "script-src 'self'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert client.get(path).text.count("<script") == client.get(path).text.count(
                '<script type="module" src="/static/'
            )


def test_a_one_time_link_signs_in_once_and_only_by_its_button(platform: Platform) -> None:
    url = platform.distd_json("sign-in-link", "--name", "Ada", "--role", "release-manager")["url"]
    assert url.startswith(platform.url)
    with httpx.Client() as client:
        assert client.get(url).status_code == 200
        assert not client.cookies
        assert client.post(url).status_code == 303
        page = client.get(platform.url).text
        assert "Ada · release-manager" in page
    assert httpx.post(url).status_code == 401
    assert httpx.post(url[:-3] + "AAA").status_code == 401
    with signed_in(platform, platform.token) as client:
        members = client.get("/members").text
        person = re.search(r"/members/(per_\w+)/shut-out", members)
        assert person is not None
        assert (
            client.post(f"/members/{person[1]}/shut-out", data={"seal": seal_of(client)}).status_code == 303
        )
    again = platform.distd("sign-in-link", "--name", "Ada", "--json")
    assert again.code != 0
    assert "may not sign in" in again.err


def test_an_export_has_every_event_and_no_formula(platform: Platform, tmp_path: Path) -> None:
    platform.distd_json("token", "create", "--name", "=HYPERLINK(1)", "--role", "tester")
    with signed_in(platform, platform.token) as client:
        head = int(re.search(r"(\d+) events", client.get("/audit").text)[1])  # type: ignore[index]
        lines = client.get("/audit/export/events.jsonl").text.splitlines()
        assert len(lines) >= head
        table = client.get("/audit/export/events.csv")
        assert table.headers["content-type"].startswith("text/csv")
        assert not [line for line in table.text.splitlines() if line.startswith("=") or ",=" in line]
        assert client.get("/audit/export/events.exe").status_code == 404


def test_without_a_provider_the_sign_in_does_not_offer_one(platform: Platform) -> None:
    assert "/login/oidc" not in httpx.get(f"{platform.url}/login").text
    assert httpx.get(f"{platform.url}/login/oidc").status_code == 404
