"""What the JSON API does not let pass, before a handler sees it: names that nobody knows, and JSON that two readers read differently.

Syntax is answered with 400; a document that is well formed and makes no sense is the handler's matter, 422.
"""

import json
from typing import Any, Final

from litestar import Request

from api.errors import MalformedBody, UnknownParameter

NESTING_MAX: Final = 64
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


async def before_request(request: Request[Any, Any, Any]) -> None:
    """Every request of `/api/v1`. Raises `UnknownParameter`, `MalformedBody`."""
    if not request.scope["path"].startswith("/api/v1/"):
        return
    _known_parameters(request)
    takes_json = (
        request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
    )
    if takes_json and request.method in _WITH_BODY:
        body = await request.body()
        if body:
            check_json(body)


def check_json(body: bytes) -> None:
    """Raises `MalformedBody` for bytes that are not one JSON document in UTF-8, for doubled keys and for endless nesting."""
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_no_key_twice, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise MalformedBody("The body is not UTF-8.", remedy="Send JSON in UTF-8.") from error
    except RecursionError as error:
        raise _nested() from error
    except ValueError as error:
        raise MalformedBody(f"The body is not JSON: {error}.", remedy="Send one JSON document.") from error
    if not _is_unicode(document):
        raise MalformedBody("The body has half a surrogate pair.", remedy="Send text that is Unicode.")
    level = [document]
    for _ in range(NESTING_MAX):
        level = [child for item in level for child in _children(item)]
    if level:
        raise _nested()


def _is_unicode(document: Any) -> bool:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _nested() -> MalformedBody:
    return MalformedBody(
        f"The body is nested more than {NESTING_MAX} deep.",
        remedy="No document here is that deep: look at yours.",
    )


def _children(item: Any) -> Any:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, _ in pairs if sum(key == other for other, _ in pairs) > 1)
        raise ValueError(f"the key {twice[:80]!r} is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _known_parameters(request: Request[Any, Any, Any]) -> None:
    known: set[str] = set()
    for name, field in request.route_handler.parsed_fn_signature.parameters.items():
        definition = field.kwarg_definition
        known.add(getattr(definition, "query", None) or name)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise UnknownParameter(
            f"There is no query parameter {unknown[0][:80]!r} here.",
            remedy="Look at /api/docs: a misspelled filter would otherwise be no filter.",
            pointer=f"/query/{unknown[0][:80]}",
        )
