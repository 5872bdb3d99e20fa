"""Two apps on a real server, somebody of each role for each of them, and one of everything that an address can name.

    world.http("tester", "own").get("/api/v1/apps/own")

`own` has a published release on the channel `beta`, one with a package, a draft, a rejected release, and a refused request of `ci` to move a channel; `other` has nothing. A token of scope `other`
may know nothing of what is in `own`.
"""

import hashlib
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from tests.support.build_package import packed, write_folder
from tests.support.live import Live

ROLES: Final = ("admin", "release-manager", "ci", "tester")
CONTENT: Final = b"a tool, as far as anybody knows\n" * 100
PACKAGED: Final = {"bin/tool": b"a tool in a package\n" * 100}
WAIT_SECONDS: Final = 60.0


class World:
    """See the module. `names` fills the placeholders of addresses."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.tokens: dict[tuple[str, str], str] = {}
        self.names: dict[str, str] = {}
        self._clients: dict[tuple[str, str], httpx.Client] = {}
        self.admin = self._client(live.admin)
        for slug in ("own", "other"):
            self._made(self.admin.post("/api/v1/apps", json={"slug": slug}))
            for role in ROLES:
                self.tokens[role, slug] = self.token(role=role, apps=[slug])["token"]
        self._build()

    def token(self, **options: Any) -> dict[str, Any]:
        """A new token's document, with its text."""
        return self._made(self.admin.post("/api/v1/tokens", json={"name": "somebody", **options}))

    def http(self, role: str, scope: str = "own") -> httpx.Client:
        """A client of a role; `anonymous` has no token."""
        key = (role, scope)
        if key not in self._clients:
            self._clients[key] = self._client(None if role == "anonymous" else self.tokens[key])
        return self._clients[key]

    def upload(self, client: httpx.Client, content: bytes = CONTENT) -> str:
        """Bytes in quarantine; the upload's id."""
        made = self._made(client.post("/api/v1/uploads", json={"size": len(content), "filename": "a.bin"}))
        self._made(client.put(f"/api/v1/uploads/{made['id']}", content=content))
        return str(made["id"])

    def draft(
        self, client: httpx.Client, version: str, content: bytes = CONTENT, **opening: Any
    ) -> dict[str, Any]:
        """A release with one artifact, open."""
        release = self._made(client.post("/api/v1/apps/own/releases", json={"version": version, **opening}))
        self._made(
            client.post(
                f"/api/v1/releases/{release['id']}/artifacts",
                json={"platform": "any", "filename": "a.bin", "upload_id": self.upload(client, content)},
            )
        )
        return self._made(client.get(f"/api/v1/releases/{release['id']}"))

    def ended(
        self, client: httpx.Client, version: str, content: bytes = CONTENT, **opening: Any
    ) -> dict[str, Any]:
        """A release that was submitted, and is published or rejected now."""
        release_id = self.draft(client, version, content, **opening)["id"]
        self._made(client.post(f"/api/v1/releases/{release_id}/submit"))
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            release = self._made(client.get(f"/api/v1/releases/{release_id}"))
            if release["status"] in {"published", "rejected"}:
                return release
            time.sleep(0.05)
        raise AssertionError("the release came to no end")

    def _build(self) -> None:
        ci = self.http("ci")
        published = self.ended(ci, "1.0", channel="beta")
        assert published["status"] == "published", published["failure"]
        with tempfile.TemporaryDirectory() as folder:
            package = packed(write_folder(Path(folder) / "folder", PACKAGED))[0]
        packaged = self.ended(ci, "0.8", package)
        assert packaged["status"] == "published", packaged["failure"]
        rejected = self.ended(ci, "0.9", b"PK\x03\x04 no archive at all")
        assert rejected["status"] == "rejected"
        draft = self.draft(ci, "2.0", b"a draft\n")
        for role in ROLES:
            channel = f"/api/v1/apps/own/channels/spare-{role}/promote"
            self._made(self.admin.post(channel, json={"release_id": published["id"]}))
        self._made(self.admin.post("/api/v1/apps/own/channels", json={"name": "guarded"}))
        self._made(self.admin.patch("/api/v1/apps/own/channels/guarded", json={"protected": True}))
        asked = self._made(
            ci.post("/api/v1/apps/own/channels/guarded/promote", json={"release_id": published["id"]})
        )
        request_id = asked["request"]["id"]
        self._made(self.admin.post(f"/api/v1/channel-requests/{request_id}/refuse"))
        self.names = {
            "slug": "own",
            "name": "beta",
            "channel": "beta",
            "platform": "any",
            "arch": "any",
            "release_id": published["id"],
            "draft_id": draft["id"],
            "rejected_id": rejected["id"],
            "artifact_id": published["artifacts"][0]["id"],
            "job_id": published["validations"][0]["job_id"],
            "filename": "a.bin",
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "tree": packaged["artifacts"][0]["details"]["manifest"]["tree"],
            "blob": hashlib.sha256(PACKAGED["bin/tool"]).hexdigest(),
            "upload_id": self._made(ci.post("/api/v1/uploads", json={"size": 10}))["id"],
            "request_id": request_id,
            "index_path": "index.json",
            "alias_path": "1.0.0/index.json",
            "token_id": self.token(role="tester")["id"],
        }

    def _client(self, token: str | None) -> httpx.Client:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=self.live.url, headers=headers, timeout=40)

    def _made(self, answer: httpx.Response) -> dict[str, Any]:
        assert answer.is_success, (answer.request.method, answer.request.url, answer.status_code, answer.text)
        document: dict[str, Any] = answer.json()
        return document

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in [self.admin, *self._clients.values()]:
            client.close()
