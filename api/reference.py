"""The OpenAPI document, and a page to read it: rendered here, without a script or an asset from another host."""

from html import escape
from typing import Any, Final

from litestar import Request, Response, get

from api.errors import MEDIA_TYPE

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. Some have more members: `errors` with a JSON Pointer each, `right`, `expected_offset`.",
    "required": ["type", "title", "status", "detail", "code", "remedy", "correlation_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "remedy": {"type": "string"},
        "correlation_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_METHODS = ("get", "post", "put", "patch", "delete", "head", "options")


def _schema(request: Request[Any, Any, Any]) -> dict[str, Any]:
    schema = request.app.openapi_schema.to_schema()
    paths = {path: item for path, item in schema["paths"].items() if not _is_page(item)}
    for item in paths.values():
        for method in _METHODS:
            if method in item:
                item[method]["responses"] = _with_problems(item[method]["responses"])
    components = {**schema["components"], "schemas": {**schema["components"]["schemas"], "Problem": _PROBLEM}}
    return {**schema, "paths": paths, "components": components}


def _with_problems(responses: dict[str, Any]) -> dict[str, Any]:
    """What goes well as the framework describes it, and what does not as `errors.py` answers it."""
    good = {status: response for status, response in responses.items() if status < "400"}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        **good,
        "4XX": {"description": "Refused; `detail` says why, `remedy` what to do", "content": content},
        "5XX": {"description": "The server cannot, or made a mistake", "content": content},
    }


def _is_page(item: dict[str, Any]) -> bool:
    return all(
        "pages" in operation.get("tags", []) for method, operation in item.items() if method in _METHODS
    )


@get("/api/openapi.json", sync_to_thread=False, include_in_schema=False)
def openapi_json(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return _schema(request)


@get("/api/docs", sync_to_thread=False, include_in_schema=False)
def api_docs(request: Request[Any, Any, Any]) -> Response[bytes]:
    schema = _schema(request)
    by_tag: dict[str, list[str]] = {}
    for path, item in schema["paths"].items():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                by_tag.setdefault((operation.get("tags") or ["other"])[0], []).append(
                    _row(method, path, operation)
                )
    sections = "".join(
        f"<h2 id='{escape(tag)}'>{escape(tag)}</h2><table class='table'>{''.join(rows)}</table>"
        for tag, rows in sorted(by_tag.items())
    )
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        "<title>API · distd</title><link rel='icon' href='/static/icon.svg' type='image/svg+xml'><link rel='stylesheet' href='/static/console.css'></head><body><main class='page'>"
        "<h1>HTTP API</h1><p>The same as a document: <a href='/api/openapi.json'>/api/openapi.json</a>. "
        "Every request but the health checks carries <code>Authorization: Bearer dist_…</code>; errors are "
        "<code>application/problem+json</code> with a remedy.</p>"
        f"{sections}</main></body></html>"
    )
    return Response(page.encode(), media_type="text/html")


def _row(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = ", ".join(
        f"{parameter['name']}{'' if parameter.get('required') else '?'}"
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "query"
    )
    body = _body(operation)
    return (
        f"<tr><td class='method'>{method.upper()}</td><td><code>{escape(path)}</code></td><td>{escape(operation.get('summary', ''))}"
        f"{f'<br><small>query: {escape(parameters)}</small>' if parameters else ''}"
        f"{f'<br><small>body: {escape(body)}</small>' if body else ''}</td></tr>"
    )


def _body(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    for part in (schema, *schema.get("oneOf", ())):
        if "$ref" in part:
            return str(part["$ref"]).rsplit("/", 1)[-1]
    return ""
