"""An OpenID provider on loopback: real HTTP, real RSA and EC keys, the authorization code flow with PKCE.

    with Issuer() as issuer:
        … oidc_issuer = issuer.url …
        issuer.claims["groups"] = ["release-team"]     # what the next ID tokens say besides the standard claims
        issuer.make = lambda claims: …                 # how the next ID token is made, when it is to be a wrong one

Whoever asks for the authorization endpoint is signed in there at once. A code is good once.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

CLIENT_ID = "distd"
SECRET = "the secret of distd at its provider"


class Issuer:
    """See the module."""

    def __init__(self) -> None:
        self.keys: dict[str, PrivateKeyTypes] = {
            "rsa": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ec": ec.generate_private_key(ec.SECP256R1()),
        }
        self.published = ["rsa", "ec"]
        self.asked: list[str] = []  # paths, in order
        self._codes: dict[str, dict[str, str]] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path, query = urlsplit(self.path).path, urlsplit(self.path).query
                issuer.asked.append(path)
                if path == "/authorize":
                    self.send_response(302)
                    self.send_header("Location", issuer._authorized(query))
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                elif path == "/keys":
                    self._answer(200, {"keys": [issuer.public(name) for name in issuer.published]})
                elif path == "/.well-known/openid-configuration":
                    self._answer(200, issuer.description)
                else:
                    self._answer(404, {})

            def do_POST(self) -> None:
                issuer.asked.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer(*issuer._token({name: values[0] for name, values in parse_qs(body).items()}))

            def _answer(self, status: int, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.behave()

    def behave(self) -> None:
        """As a good provider does: everything that was set otherwise is as it was."""
        self.claims: dict[str, Any] = {"sub": "user-1", "name": "Ada", "groups": ["release-team"]}
        self.make: Callable[[dict[str, Any]], str] = self.signed
        self.status = 200
        self.description: dict[str, Any] = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }

    def public(self, name: str) -> dict[str, Any]:
        """A public key as a JWK."""
        key: Any = self.keys[name]
        kind = jwt.algorithms.RSAAlgorithm if name.startswith("rsa") else jwt.algorithms.ECAlgorithm
        algorithm = "RS256" if name.startswith("rsa") else "ES256"
        return {
            **kind.to_jwk(key.public_key(), as_dict=True),
            "kid": name,
            "alg": algorithm,
            "use": "sig",
        }

    def signed(self, claims: dict[str, Any], *, by: str = "rsa", key_id: str | None = None) -> str:
        """An ID token as it should be, by one of the keys."""
        return jwt.encode(
            claims,
            self.keys[by],  # type: ignore[arg-type]
            algorithm="RS256" if by.startswith("rsa") else "ES256",
            headers={"kid": key_id or by},
        )

    def _authorized(self, query: str) -> str:
        asked = {name: values[0] for name, values in parse_qs(query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def _token(self, form: dict[str, str]) -> tuple[int, Any]:
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or form.get("client_secret") != SECRET:
            return 400, {"error": "invalid_grant"}
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        assert form["redirect_uri"] == asked["redirect_uri"]
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked["nonce"],
        } | self.claims
        return self.status, {"access_token": "x", "token_type": "Bearer", "id_token": self.make(claims)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
