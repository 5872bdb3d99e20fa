"""Signing in by an OpenID provider: the authorization code flow with PKCE, state and nonce (OpenID Connect Core 3.1, RFC 7636, RFC 9700).

What has to be remembered between leaving and coming back is sealed in a cookie; nothing is stored. The provider's own description
and keys are fetched when they are needed and kept for a while; a key that is not known makes them be fetched once more.

Left to others: cookies and pages (`ui/sign_in_oidc.py`), who the person is here (`pipeline/people.py`).
"""

import base64
import hashlib
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import jwt

from pipeline.access import Role
from pipeline.errors import Busy, Unauthorized
from pipeline.people import Identity
from pipeline.settings import Settings

ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
_SECONDS: Final = 10.0
_KEEP_SECONDS: Final = 3600.0
_BODY_MAX_BYTES: Final = 1 << 20
_LEEWAY_SECONDS: Final = 60
_STRONGEST: Final = (Role.ADMIN, Role.RELEASE_MANAGER, Role.TESTER)


@dataclass(frozen=True, slots=True)
class Leaving:
    """Where to send a browser, and what to remember until it comes back."""

    url: str
    state: str
    nonce: str
    verifier: str


class OpenIdProvider:
    """One issuer, as `config.toml` names it."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret
        self._claim = settings.oidc_claim
        self._roles = settings.oidc_roles
        self._redirect = f"{settings.base_url}/login/oidc/callback"
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any], dict[str, Any]] | None = None

    def leave(self) -> Leaving:
        """Begin a sign-in. Raises `Busy` when the provider cannot be reached."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._redirect,
            "scope": "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self._described()[0]["authorization_endpoint"]
        return Leaving(
            f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", state, nonce, verifier
        )

    def come_back(self, code: str, *, nonce: str, verifier: str) -> Identity:
        """Who came back with this code. Raises `Unauthorized`, `Busy`."""
        answer = self._ask(
            "POST",
            self._described()[0]["token_endpoint"],
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self._redirect,
                "client_id": self._client_id,
                "code_verifier": verifier,
            }
            | ({"client_secret": self._secret} if self._secret else {}),
        )
        claims = self._claims(str(answer.get("id_token", "")))
        if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise _refused("its answer belongs to another sign-in")
        return Identity(
            issuer=self._issuer,
            subject=str(claims["sub"]),
            name=str(claims.get("name") or claims.get("preferred_username") or claims["sub"]),
            email=str(claims["email"]) if claims.get("email") else None,
            role=self._role(claims),
        )

    def _role(self, claims: dict[str, Any]) -> Role:
        said = claims.get(self._claim, [])
        groups = [said] if isinstance(said, str) else said if isinstance(said, list) else []
        given = {self._roles[str(group)] for group in groups if str(group) in self._roles}
        for role in _STRONGEST:
            if role.value in given:
                return role
        raise Unauthorized(
            f"None of your groups at {self._issuer} has a role here.",
            remedy="Ask an admin of this server: oidc_roles in config.toml says which group has which role.",
        )

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims of an ID token whose signature, issuer, audience and times are right."""
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._client_id,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except jwt.PyJWTError as error:
            raise _refused(f"its ID token is not valid: {error}") from error
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if several and claims.get("azp") != self._client_id:
            raise _refused("its ID token was made for somebody else")
        return claims

    def _key(self, key_id: str | None) -> jwt.PyJWK:
        for fresh in (False, True):
            keys = jwt.PyJWKSet.from_dict(self._described(fresh=fresh)[1]).keys
            found = [key for key in keys if key_id in {None, key.key_id} and key.public_key_use != "enc"]
            if len(found) == 1:
                return found[0]
        raise _refused(f"its key {str(key_id)[:80]!r} is not among its published keys")

    def _described(self, *, fresh: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
        """The provider's description and keys."""
        with self._lock:
            if self._known is None or fresh or time.monotonic() - self._known[0] > _KEEP_SECONDS:
                about = self._ask("GET", f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if about.get("issuer") != self._issuer:
                    raise _refused(f"it calls itself {str(about.get('issuer'))[:200]!r}")
                if missing := [name for name in _ENDPOINTS if not isinstance(about.get(name), str)]:
                    raise _refused(f"its description does not name {', '.join(missing)}")
                self._known = (time.monotonic(), about, self._ask("GET", about["jwks_uri"]))
            return self._known[1], self._known[2]

    def _ask(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            with (
                httpx.Client(timeout=_SECONDS, follow_redirects=False) as client,
                client.stream(method, url, headers={"Accept": "application/json"}, **more) as answer,
            ):
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _BODY_MAX_BYTES:
                        raise _refused("its answer is too long")
                status = answer.status_code
        except httpx.HTTPError as error:
            raise Busy(
                f"The identity provider {self._issuer} cannot be reached: {error}.",
                remedy="Try again a little later, or sign in with a token.",
            ) from error
        if status != 200:
            raise _refused(f"it answered {status} to {method} {url.partition('?')[0]}")
        try:
            value = httpx.Response(200, content=body).json()
        except ValueError as error:
            raise _refused("its answer is not JSON") from error
        if not isinstance(value, dict):
            raise _refused("its answer is not an object")
        return value


def _refused(why: str) -> Unauthorized:
    return Unauthorized(
        f"The identity provider did not sign you in: {why}.",
        remedy="Try again. If it stays so, an admin of this server compares oidc_* in config.toml with the provider's settings.",
    )
