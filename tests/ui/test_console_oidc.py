"""Signing in by an identity provider: a real one over HTTP, what it may say wrongly, and what an attacker may bring back."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.issuer import CLIENT_ID, SECRET, Issuer
from tests.support.platform import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("console_oidc")]
ROLES = {"release-team": "release-manager", "admins": "admin", "testers": "tester"}


@pytest.fixture(scope="module")
def provider() -> Iterator[Issuer]:
    with Issuer() as made:
        yield made


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, provider: Issuer) -> Iterator[Platform]:
    config = {
        "oidc_issuer": provider.url,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": SECRET,
        "oidc_roles": ROLES,
    }
    with Platform(tmp_path_factory.mktemp("oidc"), config=config) as made:
        made.start("serve")
        yield made


@pytest.fixture
def issuer(provider: Issuer) -> Issuer:
    provider.behave()
    return provider


@pytest.fixture
def client(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.url, timeout=30) as made:
        yield made


def come_back(client: httpx.Client, target: str = "/") -> str:
    """Leave for the provider, and where it sends the browser back to."""
    left = client.get("/login/oidc", params={"next_page": target})
    assert left.status_code == 303, left.text
    return httpx.get(left.headers["location"]).headers["location"]


def refused(client: httpx.Client, why: str, address: str | None = None) -> None:
    answer = client.get(address or come_back(client))
    assert answer.status_code == 401
    assert why in answer.text, answer.text
    assert client.get("/").status_code == 303, "signed in all the same"


@pytest.mark.parametrize("key", ["rsa", "ec"])
@pytest.mark.parametrize(
    ("groups", "role"),
    [
        (["release-team"], "release-manager"),
        (["testers", "admins", "lunch"], "admin"),
        ("testers", "tester"),
    ],
)
def test_who_is_in_a_group_signs_in_with_its_role(
    issuer: Issuer, client: httpx.Client, key: str, groups: Any, role: str
) -> None:
    issuer.claims |= {"sub": f"{key}-{role}", "groups": groups}
    issuer.make = lambda claims: issuer.signed(claims, by=key)
    answer = client.get(come_back(client, "/apps?q=x"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/apps?q=x")
    assert "HttpOnly" in str(answer.headers)
    assert f"Ada · {role}" in client.get("/").text


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_no_sign_in_ends_at_another_host(issuer: Issuer, client: httpx.Client, target: str) -> None:
    answer = client.get(come_back(client, target))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_a_role_follows_the_groups_at_the_next_sign_in(issuer: Issuer, platform: Platform) -> None:
    for groups, role in ((["admins"], "admin"), (["testers"], "tester")):
        issuer.claims |= {"sub": "moving", "groups": groups}
        with httpx.Client(base_url=platform.url) as client:
            client.get(come_back(client))
            assert f"Ada · {role}" in client.get("/").text


def unsigned(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, None, algorithm="none", headers={"kid": "rsa"})


def by_nobody(claims: dict[str, Any]) -> str:
    """A key that calls itself by the name of a published one."""
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode(claims, stranger, algorithm="RS256", headers={"kid": "rsa"})


def by_the_public_key(issuer: Issuer, claims: dict[str, Any]) -> str:
    """The public key taken for a shared secret, as confused libraries did. PyJWT refuses to make it, so it is made by hand."""
    key: Any = issuer.keys["rsa"]
    secret = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = {"alg": "HS256", "kid": "rsa", "typ": "JWT"}
    text = part(json.dumps(head).encode()) + b"." + part(json.dumps(claims).encode())
    return (text + b"." + part(hmac.new(secret, text, hashlib.sha256).digest())).decode()


WRONG: dict[str, tuple[Any, str]] = {
    "another nonce": (lambda i, c: i.signed(c | {"nonce": "of another sign-in"}), "another sign-in"),
    "a nonce that is not ASCII": (lambda i, c: i.signed(c | {"nonce": "é"}), "another sign-in"),
    "no nonce": (
        lambda i, c: i.signed({name: c[name] for name in c if name != "nonce"}),
        "another sign-in",
    ),
    "another audience": (lambda i, c: i.signed(c | {"aud": "other"}), "ID token is not valid"),
    "made for another of several": (
        lambda i, c: i.signed(c | {"aud": [CLIENT_ID, "other"], "azp": "other"}),
        "somebody else",
    ),
    "another issuer": (lambda i, c: i.signed(c | {"iss": "https://evil.example"}), "ID token is not valid"),
    "expired": (lambda i, c: i.signed(c | {"exp": int(time.time()) - 3600}), "ID token is not valid"),
    "made in the future": (
        lambda i, c: i.signed(c | {"iat": int(time.time()) + 3600}),
        "ID token is not valid",
    ),
    "no subject": (
        lambda i, c: i.signed({name: c[name] for name in c if name != "sub"}),
        "ID token is not valid",
    ),
    "unsigned": (lambda _i, c: unsigned(c), "ID token is not valid"),
    "signed by a stranger": (lambda _i, c: by_nobody(c), "ID token is not valid"),
    "signed with the public key as a secret": (by_the_public_key, "ID token is not valid"),
    "another kind of key than it says": (
        lambda i, c: i.signed(c, by="ec", key_id="rsa"),
        "ID token is not valid",
    ),
    "no token": (lambda _i, _c: "", "ID token is not valid"),
    "no JWT": (lambda _i, _c: "a.b.c", "ID token is not valid"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_id_token_signs_nobody_in(issuer: Issuer, client: httpx.Client, case: str) -> None:
    make, why = WRONG[case]
    issuer.make = lambda claims: make(issuer, claims)
    refused(client, why)


def test_a_new_key_is_fetched_once_and_an_unknown_one_is_refused(
    issuer: Issuer, client: httpx.Client
) -> None:
    client.get(come_back(client))  # the keys are known now
    issuer.keys["rsa-2"] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issuer.make = lambda claims: issuer.signed(claims, by="rsa-2")
    issuer.asked.clear()
    client.cookies.clear()
    refused(client, "not among its published keys")
    assert issuer.asked.count("/keys") == 1
    issuer.published.append("rsa-2")
    assert client.get(come_back(client)).status_code == 303
    assert client.get("/").status_code == 200


def test_who_is_in_no_group_with_a_role_may_not_sign_in(issuer: Issuer, client: httpx.Client) -> None:
    for groups in ([], ["lunch"], None, {"admins": True}, [["admins"]]):
        issuer.claims["groups"] = groups
        refused(client, "None of your groups")


def test_a_return_is_good_for_the_browser_that_left_and_once(issuer: Issuer, platform: Platform) -> None:
    with httpx.Client(base_url=platform.url) as client, httpx.Client(base_url=platform.url) as other:
        back = come_back(client)
        refused(other, "does not belong to a sign-in that this browser began", back)
        state = parse_qs(urlsplit(back).query)["state"][0]
        refused(client, "does not belong", back.replace(state, "x" * len(state)))
        back = come_back(client)
        kept = dict(client.cookies)
        assert client.get(back).status_code == 303
        client.cookies.clear()
        refused(client, "does not belong", back)  # the cookie of the return is gone
        again = httpx.get(back, cookies=kept)  # and kept by a thief it is worth no more: the code is used up
        assert again.status_code == 401
        assert "it answered 400" in again.text


def test_a_provider_that_says_no_or_something_else_is_named(issuer: Issuer, client: httpx.Client) -> None:
    come_back(client)
    refused(client, "access_denied", "/login/oidc/callback?error=access_denied&state=x")
    issuer.status = 500
    refused(client, "it answered 500")


def test_who_was_shut_out_may_not_sign_in(issuer: Issuer, platform: Platform, client: httpx.Client) -> None:
    issuer.claims |= {"sub": "leaving", "name": "Leaving"}
    client.get(come_back(client))
    assert client.get("/").status_code == 200
    with httpx.Client(base_url=platform.url) as admin:
        admin.post("/login", data={"token": platform.token, "next_page": "/"})
        page = admin.get("/members").text
        found = re.search(r'name="seal" value="([^"]+)"', page)
        person = re.search(r"Leaving.*?/members/(per_\w+)/shut-out", page, re.DOTALL)
        assert found is not None
        assert person is not None
        admin.post(f"/members/{person[1]}/shut-out", data={"seal": found[1]})
    refused(client, "You may not sign in here any more")


def test_a_provider_that_is_down_or_is_another_one_is_said_on_the_sign_in(tmp_path: Path) -> None:
    with Issuer() as issuer:
        config = {"oidc_issuer": issuer.url, "oidc_client_id": CLIENT_ID, "oidc_roles": ROLES}
        with Platform(tmp_path, config=config) as platform:
            platform.start("serve")
            issuer.description["issuer"] = "https://evil.example"
            other = httpx.get(f"{platform.url}/login/oidc")
            assert (other.status_code, "it calls itself" in other.text) == (401, True)
            issuer.behave()
            del issuer.description["token_endpoint"]
            lacking = httpx.get(f"{platform.url}/login/oidc")
            assert (lacking.status_code, "token_endpoint" in lacking.text) == (401, True)
            issuer.__exit__(None, None, None)
            down = httpx.get(f"{platform.url}/login/oidc")
            assert (down.status_code, "cannot be reached" in down.text) == (401, True)
            assert 'name="token"' in down.text  # the other way in stands on the same page
