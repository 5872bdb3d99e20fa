"""What every refusal of the server has to be: RFC 9457, with a remedy and the id that finds it in the log."""

import httpx

MEMBERS = {"type", "title", "status", "detail", "code", "remedy", "correlation_id"}


def assert_problem(answer: httpx.Response, status: int | None = None, code: str | None = None) -> None:
    """The body is a problem document that says the same as the status line; HEAD has none."""
    assert status in {None, answer.status_code}, (answer.status_code, answer.text)
    if answer.request.method == "HEAD":
        return
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert set(problem) >= MEMBERS
    assert problem["status"] == answer.status_code
    assert problem["correlation_id"] == answer.headers["x-correlation-id"]
    assert code in {None, problem["code"]}
    for member in ("title", "detail", "code", "remedy"):
        assert isinstance(problem[member], str)
        assert problem[member], f"{member} is empty: {problem}"
    assert problem["type"] == f"urn:distd:problem:{problem['code'].replace('_', '-')}"
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer")
