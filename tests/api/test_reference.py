"""The API's description of itself."""

import re

from jsonschema import Draft202012Validator

from tests.support.world import World

METHODS = {"get", "post", "put", "patch", "delete", "head"}


def test_every_operation_says_how_it_refuses(world: World):
    document = world.admin.get("/api/openapi.json").json()
    operations = [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]
    assert len(operations) > 50
    for path, method, operation in operations:
        responses = operation["responses"]
        assert operation.get("summary"), (path, method)
        assert any(status < "400" for status in responses), (path, method)
        for status in ("4XX", "5XX"):
            assert list(responses[status]["content"]) == ["application/problem+json"], (path, method)


def test_a_real_refusal_is_as_it_is_described(world: World):
    document = world.admin.get("/api/openapi.json").json()
    validator = Draft202012Validator(document["components"]["schemas"]["Problem"])
    for answer in (
        world.admin.get("/api/v1/apps/nothing"),
        world.http("anonymous").get("/api/v1/apps"),
        world.http("tester").get("/api/v1/queue"),
        world.admin.post("/api/v1/apps", json={"slug": 7}),
        world.admin.post("/api/v1/apps", content=b"{", headers={"Content-Type": "application/json"}),
        world.admin.post("/api/v1/apps", content=b"{}", headers={"Content-Type": "text/plain"}),
    ):
        assert answer.status_code >= 400
        validator.validate(answer.json())


def test_the_page_names_every_address_and_loads_nothing_from_elsewhere(world: World):
    page = world.http("anonymous").get("/api/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in world.admin.get("/api/openapi.json").json()["paths"]:
        assert path in page.text, path
    assert not re.findall(r"(?:src|href)=[\"\'](?:https?:)?//", page.text)
    for viewer in ("redoc", "swagger", "elements", "rapidoc"):
        assert world.http("anonymous").get(f"/api/litestar/{viewer}").status_code == 404
