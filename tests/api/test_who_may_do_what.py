"""Every address against every role, on what is theirs and on what is not. An address that is not in the table fails the test."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from pipeline.database import open_database
from pipeline.schema import migrate
from pipeline.settings import Settings
from pipeline.store.layout import Layout
from tests.support.problems import assert_problem
from tests.support.world import ROLES, World

ADMIN, MANAGER, CI, TESTER = ROLES
ALL, PUBLISHERS, MANAGERS = set(ROLES), {ADMIN, MANAGER, CI}, {ADMIN, MANAGER}
ANYBODY = ALL | {"anonymous"}


@dataclass(frozen=True)
class Row:
    """Who may, what that answers (a harmless request, that changes nothing or the same thing again), and what the others get."""

    method: str
    path: str  # as the route says it, with the names of `World.names`
    may: set[str]
    answer: int = 200
    json: Any = None
    denied: int | dict[str, int] = 403
    foreign: int | dict[str, int] | None = (
        404  # for every token of another app; None: it has no app, scopes do not matter
    )
    query: str = ""
    fill: dict[str, str] = field(default_factory=dict)  # other names than the route's own

    def expected(self, role: str) -> int:
        """On what is theirs."""
        if role in self.may:
            return self.answer
        return self.denied if isinstance(self.denied, int) else self.denied[role]

    @property
    def id(self) -> str:
        return f"{self.method} {self.path} {' '.join(self.fill.values())}".strip()


APP = "/api/v1/apps/{slug}"
RELEASE = "/api/v1/releases/{release_id}"
REQUEST = "/api/v1/channel-requests/{request_id}"
UPLOAD = "/api/v1/uploads/{upload_id}"
DRAFT = {"release_id": "draft_id"}
TABLE = [
    # apps
    Row("GET", "/api/v1/apps", ALL, foreign=None),
    Row("POST", "/api/v1/apps", {ADMIN}, json={"slug": "own"}, foreign=403),
    Row("GET", APP, ALL),
    Row("PATCH", APP, {ADMIN}, json={}),
    Row("GET", APP + "/policy", PUBLISHERS),
    Row("PUT", APP + "/policy", {ADMIN}, json={"policy": {}, "expected_revision": 0}),
    Row("POST", APP + "/policy/preview", PUBLISHERS, json={"policy": {}}),
    Row("GET", APP + "/compatibility", ALL),
    Row("PUT", APP + "/compatibility", {ADMIN}, json={"rows": []}),
    Row("GET", "/contract/{slug}/dist/{path}", ALL, fill={"path": "index_path"}),
    Row("HEAD", "/contract/{slug}/dist/{path}", ALL, fill={"path": "index_path"}),
    Row("GET", "/contract/{slug}/dist/{path}", ALL, 410, fill={"path": "alias_path"}),
    Row("GET", APP + "/pins", PUBLISHERS),
    Row("POST", APP + "/pins", {ADMIN}, 422, json={"format": "?", "kind": "?", "value": "?"}),
    Row("DELETE", APP + "/pins/{pin_id}", {ADMIN}, 404, fill={"pin_id": "pin_unknown"}),
    Row("GET", APP + "/retention", PUBLISHERS),
    Row("PUT", APP + "/retention", {ADMIN}, 422, json={"keep_last": -1}),
    Row("DELETE", APP + "/retention", {ADMIN}),
    Row("POST", APP + "/retention/preview", PUBLISHERS),
    Row("POST", APP + "/retention/run", {ADMIN}),
    Row("PUT", RELEASE + "/pin", MANAGERS),
    Row("DELETE", RELEASE + "/pin", MANAGERS),
    Row("POST", RELEASE + "/restore", MANAGERS),
    # releases
    Row("GET", APP + "/releases", ALL),
    Row("POST", APP + "/releases", PUBLISHERS, json={"version": "1.0"}),
    Row("GET", RELEASE, ALL),
    Row("GET", RELEASE, PUBLISHERS, denied=404, fill=DRAFT),
    Row("GET", RELEASE, PUBLISHERS, denied=404, fill={"release_id": "rejected_id"}),
    Row("DELETE", RELEASE, PUBLISHERS, 409),
    Row("GET", RELEASE + "/events", ALL),
    Row("POST", RELEASE + "/artifacts", PUBLISHERS, 422, json={"platform": "any"}),
    Row(
        "POST",
        RELEASE + "/attachments",
        PUBLISHERS,
        404,
        json={"kind": "other", "filename": "x", "upload_id": "upl_x"},
    ),
    Row("DELETE", RELEASE + "/artifacts/{artifact_id}", PUBLISHERS, 409),
    Row("POST", RELEASE + "/submit", PUBLISHERS),
    Row("POST", RELEASE + "/rerun", MANAGERS, 409),
    Row("POST", RELEASE + "/revoke", MANAGERS, 422, json={"reason": ""}),
    Row("GET", RELEASE + "/manifest", ALL),
    Row("GET", RELEASE + "/manifest.minisig", ALL),
    Row("GET", "/api/v1/keys", ANYBODY, foreign=None),
    Row("GET", "/api/v1/keys/release.pub", ANYBODY, foreign=None),
    # uploads: the uploader's alone
    Row("POST", "/api/v1/uploads", PUBLISHERS, 422, json={"size": 0}, foreign=None),
    Row("GET", UPLOAD, {CI}, denied=404),
    Row("HEAD", UPLOAD, {CI}, denied=404),
    Row("PUT", UPLOAD, {CI}, 422, denied=404),
    Row("PATCH", UPLOAD, {CI}, 412, denied=404),
    Row("DELETE", UPLOAD, set(), denied=404, fill={"upload_id": "token_id"}),
    # artifacts and downloads
    Row("GET", APP + "/artifacts", ALL),
    Row("GET", "/api/v1/artifacts/{artifact_id}", ALL),
    Row("GET", "/artifacts/{artifact_id}/{filename}", ALL),
    Row("HEAD", "/artifacts/{artifact_id}/{filename}", ALL),
    Row("GET", "/artifacts/{artifact_id}/icon.png", ALL, 404),
    Row("GET", "/artifacts/{artifact_id}/ota/manifest.plist", ALL, 409),
    Row("GET", "/download/{slug}/{channel}/{platform}", ALL, 302),
    Row("GET", "/download/{slug}/{channel}/{platform}/{arch}", ALL, 302),
    Row("HEAD", "/download/{slug}/{channel}/{platform}", ALL, 302),
    Row("HEAD", "/download/{slug}/{channel}/{platform}/{arch}", ALL, 302),
    # the content of packages
    *(
        Row(method, path, ALL, fill={"digest": name})
        for path, name in (("/blobs/sha256/{digest}", "blob"), ("/trees/{digest}", "tree"))
        for method in ("GET", "HEAD")
    ),
    Row("GET", "/trees/{digest}", set(), denied=404, fill={"digest": "blob"}),
    # channels
    Row("GET", APP + "/channels", ALL),
    Row("POST", APP + "/channels", PUBLISHERS, json={"name": "beta"}),
    Row("GET", APP + "/channels/{name}", ALL),
    Row("PATCH", APP + "/channels/{name}", {ADMIN}, json={"protected": False}),
    Row("DELETE", APP + "/channels/{name}", MANAGERS, 204, fill={"name": "spare"}),
    Row("GET", APP + "/channels/{name}/history", ALL),
    Row("POST", APP + "/channels/{name}/promote", PUBLISHERS, 409, json={"release_id": "{draft_id}"}),
    Row("POST", APP + "/channels/{name}/rollback", PUBLISHERS, 409),
    Row("GET", APP + "/channel-requests", PUBLISHERS),
    Row("GET", REQUEST, PUBLISHERS, denied=404),
    Row("POST", REQUEST + "/approve", MANAGERS, 409, denied={CI: 403, TESTER: 404}),
    Row("POST", REQUEST + "/refuse", PUBLISHERS, 409, denied=404),
    # links, webhooks, what ends soon
    Row("GET", APP + "/links", MANAGERS),
    Row("POST", APP + "/links", MANAGERS, 409, json={"name": "x"}),
    Row("DELETE", "/api/v1/links/{link_id}", MANAGERS, 404, foreign=None, fill={"link_id": "lnk_unknown"}),
    Row("GET", "/api/v1/webhooks", MANAGERS, foreign=None),
    Row(
        "POST",
        "/api/v1/webhooks",
        MANAGERS,
        422,
        json={"url": "?", "app": "own"},
        foreign={CI: 403, TESTER: 403},
    ),
    *(
        Row(
            method,
            f"/api/v1/webhooks/{{webhook_id}}{what}",
            MANAGERS,
            404,
            foreign=None,
            fill={"webhook_id": "whk_x"},
        )
        for method, what in (
            ("GET", ""),
            ("DELETE", ""),
            ("POST", "/rotate"),
            ("POST", "/enable"),
            ("POST", "/ping"),
            ("GET", "/deliveries"),
        )
    ),
    Row(
        "GET", "/api/v1/deliveries/{delivery_id}", MANAGERS, 404, foreign=None, fill={"delivery_id": "dlv_x"}
    ),
    Row(
        "POST",
        "/api/v1/deliveries/{delivery_id}/redeliver",
        MANAGERS,
        404,
        foreign=None,
        fill={"delivery_id": "dlv_x"},
    ),
    Row("GET", "/api/v1/expiring", PUBLISHERS, foreign=None),
    Row("GET", "/api/v1/artifacts/{artifact_id}/downloads", MANAGERS),
    # tokens
    Row("GET", "/api/v1/whoami", ALL, foreign=None),
    Row("GET", "/api/v1/tokens", {ADMIN}, foreign=None),
    Row("POST", "/api/v1/tokens", {ADMIN}, 422, json={"name": "x", "role": "root"}, foreign=None),
    Row("DELETE", "/api/v1/tokens/{token_id}", {ADMIN}, 204, foreign=None),
    # the record, the queue
    Row("GET", "/api/v1/audit", MANAGERS, foreign=None),
    Row("GET", "/api/v1/audit/checkpoint", ALL, foreign=None),
    Row("GET", "/api/v1/audit/consistency", ALL, query="?first=1&second=2", foreign=None),
    Row("GET", "/api/v1/audit/proof", ALL, query="?seq=1", foreign=None),
    Row("GET", "/api/v1/queue", MANAGERS, foreign=None),
    Row("GET", "/api/v1/workers", MANAGERS, foreign=None),
    Row("GET", "/api/v1/jobs/{job_id}/log", MANAGERS, foreign={CI: 403, TESTER: 403}),
    # machines
    Row("GET", "/healthz", ANYBODY, foreign=None),
    Row("GET", "/readyz", ANYBODY, foreign=None),
    Row("GET", "/metrics", ANYBODY, foreign=None),
    Row("GET", "/schemas/dist-1.json", ANYBODY, foreign=None),
    Row("GET", "/api/openapi.json", ANYBODY, foreign=None),
    Row("GET", "/api/docs", ANYBODY, foreign=None),
]


def ask(world: World, row: Row, role: str, scope: str) -> int:
    names = {**world.names, **{name: world.names.get(value, value) for name, value in row.fill.items()}}
    if row.fill.get("name") == "spare":
        names["name"] = f"spare-{role}"
    body = row.json
    if isinstance(body, dict):
        body = {
            key: value.format(**names) if isinstance(value, str) and "{" in value else value
            for key, value in body.items()
        }
    answer = world.http(role, scope).request(row.method, row.path.format(**names) + row.query, json=body)
    if answer.status_code >= 400:
        assert_problem(answer)
    return answer.status_code


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_each_role_on_its_own_app(world: World, row: Row):
    expected = {role: row.expected(role) for role in ROLES}
    assert {role: ask(world, row, role, "own") for role in ROLES} == expected


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_each_role_on_somebody_elses_app(world: World, row: Row):
    expected = {role: row.expected(role) for role in ROLES}
    if isinstance(row.foreign, dict):
        expected = dict.fromkeys(ROLES, 404) | row.foreign
    elif row.foreign is not None:
        expected = dict.fromkeys(ROLES, row.foreign)
    assert {role: ask(world, row, role, "other") for role in ROLES} == expected


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)
def test_nobody_is_asked_for_a_token(world: World, row: Row):
    assert ask(world, row, "anonymous", "own") == (row.answer if "anonymous" in row.may else 401)


# Litestar 3 will want other annotations; pyproject.toml holds it below.
@pytest.mark.filterwarnings("ignore::litestar.exceptions.base_exceptions.LitestarDeprecationWarning")
def test_every_address_is_in_the_table(tmp_path: Path):
    settings = Settings(data_dir=tmp_path)
    Layout(tmp_path).create()
    database = open_database(settings)
    migrate(database)
    database.close()
    app = create_app(settings)._app
    there = set()
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            is_page = "pages" in (handler.tags or ()) or (
                handler.include_in_schema is False and not route.path.startswith("/api/")
            )
            if is_page or route.path.startswith(("/api/litestar", "/static")):
                continue  # pages ask the same domain; Litestar's copy of the OpenAPI document is JSON alone
            path = "".join(
                f"/{{{part.name}}}" if hasattr(part, "name") else f"/{part}" for part in route.path_components
            )
            there |= {(method, path) for method in handler.http_methods - {"OPTIONS"}}
    known = {(row.method, row.path) for row in TABLE}
    assert there - known == set(), "say in TABLE who may do this"
    assert known - there == set(), "the table has addresses that are gone"
