"""The program as a whole: one answer and one exit status, whatever happens, and a quick start."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

from cli import __version__
from cli.errors import EXIT_STATUS, CliError, from_problem
from cli.main import GROUPS
from tests.support.dist_run import Dist

REPOSITORY = Path(__file__).resolve().parents[2]


def python(code: str, *, path: Path = REPOSITORY) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=path, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


@pytest.fixture
def dist(tmp_path: Path) -> Dist:
    return Dist(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--jsn", "--json"],
        ["nothing", "--json"],
        ["ci", "--json"],
        ["ci", "publsh", "--json"],
        ["ci", "publish", "--manifset", "x", "--json"],
        ["--json", "ci", "publish", "--timeout", "soon"],
        ["ci", "publish", "--timeout", "-1", "--json"],
        ["ci", "publish", "one-too-many", "--json"],
        ["ci", "publish", "--manifest", "--json"],
        ["release", "list", "--json", "a", "b"],
        ["app", "create", "--json"],
        ["token", "create", "--json"],
        ["inspect", "--json"],
    ],
)
def test_bad_arguments_give_one_document_and_exit_2(dist: Dist, arguments: list[str]) -> None:
    answer = dist(*arguments, DIST_SERVER="http://127.0.0.1:9", DIST_TOKEN="dist_x")
    document = json.loads(answer.out)
    assert answer.status == 2
    assert document["ok"] is False
    assert document["error"]["code"] == "usage"
    assert document["error"]["detail"]
    assert document["error"]["remedy"]


def test_without_json_nothing_is_on_stdout_when_it_fails(dist: Dist) -> None:
    answer = dist("ci", "publish", "--nope")
    assert (answer.status, answer.out) == (2, "")
    assert "--nope" in answer.err


def test_a_typo_in_a_group_is_answered_with_the_nearest(dist: Dist) -> None:
    assert "Did you mean 'release'?" in dist("relese").err
    assert "Did you mean 'publish'?" in dist("ci", "publsh").err


def test_without_arguments_it_shows_its_help(dist: Dist, capsys: pytest.CaptureFixture[str]) -> None:
    assert dist().status == 0
    assert "Commands:" in capsys.readouterr().out


def test_no_server_is_usage_and_no_token_is_unauthorized(dist: Dist) -> None:
    assert dist.json("whoami", status=2)["error"]["code"] == "usage"
    error = dist.json("whoami", status=3, DIST_SERVER="https://dist.example")["error"]
    assert error["code"] == "unauthorized"
    assert "DIST_TOKEN" in error["remedy"]
    empty = dist.json("whoami", status=3, DIST_SERVER="https://dist.example", DIST_TOKEN="")["error"]
    assert "set but empty" in empty["detail"]


@pytest.mark.parametrize(
    "server",
    [
        "dist.example",
        "ftp://dist.example",
        "https://",
        "https://u:p@dist.example",
        "https://h:99999",
        "https://h/?a",
    ],
)
def test_a_server_that_is_no_address(dist: Dist, server: str) -> None:
    assert dist.json("whoami", "--server", server, "--token", "t", status=2)["error"]["code"] == "usage"


def broken(_request: httpx.Request) -> httpx.Response:
    raise ZeroDivisionError("boom")


def test_a_bug_is_exit_1_with_a_traceback_and_a_correlation_id(tmp_path: Path) -> None:
    dist = Dist(tmp_path, "http://dist.example", "dist_verysecrettoken", httpx.MockTransport(broken))
    answer = dist("whoami", "--json")
    assert answer.status == 1
    assert answer.document["error"]["code"] == "internal"
    assert "ZeroDivisionError" in answer.err
    assert "Traceback" in answer.err
    assert answer.document["error"]["correlation_id"] in answer.err


def interrupted(_request: httpx.Request) -> httpx.Response:
    raise KeyboardInterrupt


def test_ctrl_c_gives_one_document_and_130(tmp_path: Path) -> None:
    dist = Dist(tmp_path, "http://dist.example", "dist_x", httpx.MockTransport(interrupted))
    assert dist.json("whoami", status=130)["error"]["code"] == "interrupted"


SECRET = "dist_0123456789ab_ThisIsTheSecretThatMustNotBeSeen000000000000000"


@pytest.mark.parametrize("where", ["environment", "option"])
def test_the_token_is_in_no_stream_even_when_the_server_repeats_it(tmp_path: Path, where: str) -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        body = {
            "code": "forbidden",
            "title": "No",
            "detail": f"You sent {request.headers['authorization']}",
            "remedy": SECRET,
        }
        return httpx.Response(403, json=body)

    given = {"DIST_TOKEN": SECRET} if where == "environment" else {}
    option = ["--token", SECRET] if where == "option" else []
    dist = Dist(tmp_path, "http://dist.example", transport=httpx.MockTransport(echo))
    for extra in ([], ["--json"]):
        answer = dist("whoami", *option, *extra, **given)
        assert answer.status == 3
        assert "ThisIsTheSecret" not in answer.out + answer.err
        assert "dist_…" in answer.err


def test_a_traceback_does_not_hold_the_token(tmp_path: Path) -> None:
    def leak(request: httpx.Request) -> httpx.Response:
        raise ValueError(request.headers["authorization"])

    answer = Dist(tmp_path, "http://dist.example", SECRET, httpx.MockTransport(leak))("whoami", "--json")
    assert answer.status == 1
    assert "ThisIsTheSecret" not in answer.out + answer.err


def test_what_the_server_says_cannot_steer_the_terminal(tmp_path: Path) -> None:
    def hostile(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200,
            json={"items": [{"slug": "a", "name": "\x1b]0;owned\x07\u202eevil\nrow"}], "next_cursor": None},
        )

    answer = Dist(tmp_path, "http://dist.example", "dist_x", httpx.MockTransport(hostile))("app", "list")
    assert answer.status == 0
    assert "\x1b" not in answer.out
    assert "\u202e" not in answer.out
    assert len(answer.out.splitlines()) == 2


def test_version_agrees_with_the_project(dist: Dist) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert dist("--version").out == f"dist {__version__}\n"
    assert dist.json("--version")["version"] == __version__ == project["version"]


def test_the_client_alone_needs_what_the_project_needs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    alone = tomllib.loads((REPOSITORY / "cli" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert alone["dependencies"] == project["dependencies"]
    assert alone["requires-python"] == project["requires-python"]


SLOW = ("httpx", "rich", "jsonschema", "asyncio", "ssl", "pipeline", "api", "litestar", "sqlalchemy")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["ci", "--help"], ["ci", "publish", "--help"], ["release", "--help"]]
)
def test_help_loads_nothing_slow(arguments: list[str]) -> None:
    code = (
        f"import sys; from cli.main import run; run({arguments!r}, environ={{}}); print(sorted(sys.modules))"
    )
    loaded = set(re.findall(r"'([\w.]+)'", python(code).rsplit("[", 1)[1]))
    assert not loaded & set(SLOW)


def test_help_loads_no_command_group() -> None:
    code = "import sys; from cli.main import run; run(['--help'], environ={}); print([m for m in sys.modules if m.startswith(('cli.commands.', 'pydantic'))])"
    assert python(code).rstrip().endswith("[]")


def test_the_files_work_under_the_name_of_the_light_package(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "cli", tmp_path / "dist_cli", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import sys, importlib, pkgutil, dist_cli.main as m, dist_cli\n"
        "for found in pkgutil.walk_packages(dist_cli.__path__, 'dist_cli.'): importlib.import_module(found.name)\n"
        "status = m.run(['--version'], environ={})\n"
        "assert 'cli' not in sys.modules and not any(name in sys.modules for name in ('api', 'pipeline', 'workers', 'ui'))\n"
        "sys.exit(status)"
    )
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {
        "PYTHONPATH": str(tmp_path)
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"dist {__version__}\n"


def test_a_closed_pipe_is_no_bug() -> None:
    program = f"{sys.executable} -c 'from cli.main import main; main()' ci schema | head -c 1"
    done = subprocess.run(
        ["bash", "-c", program], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "{"


# -- the table of codes --------------------------------------------------------------------------


def test_the_exit_statuses_are_those_of_the_contract() -> None:
    assert {
        code: status for code, status in EXIT_STATUS.items() if code not in {"not_found", "interrupted"}
    } == {
        "internal": 1,
        "usage": 2,
        "invalid_manifest": 2,
        "unauthorized": 3,
        "forbidden": 3,
        "conflict": 4,
        "immutable": 4,
        "validation_failed": 5,
        "policy_failed": 5,
        "inspection_inconclusive": 5,
        "unreachable": 6,
        "server_error": 6,
        "timeout": 7,
    }


@pytest.mark.parametrize(
    ("status", "wire", "code", "exit_status"),
    [
        (401, "unauthorized", "unauthorized", 3),
        (403, "forbidden", "forbidden", 3),
        (404, "not_found", "not_found", 2),
        (409, "conflict", "conflict", 4),
        (409, "immutable", "immutable", 4),
        (412, "precondition_failed", "conflict", 4),
        (422, "invalid_request", "usage", 2),
        (422, "invalid_manifest", "invalid_manifest", 2),
        (413, "too_large", "usage", 2),
        (507, "insufficient_storage", "server_error", 6),
        (422, "digest_mismatch", "server_error", 6),
        (429, "rate_limited", "server_error", 6),
        (503, "busy", "server_error", 6),
        (500, "internal", "server_error", 6),
        (418, "teapot", "server_error", 6),
        (400, "a-code-of-the-future", "usage", 2),
    ],
)
def test_every_problem_has_its_exit_status(status: int, wire: str, code: str, exit_status: int) -> None:
    error = from_problem(status, {"code": wire, "title": "T", "detail": "D", "remedy": "R"})
    assert (error.code, error.exit_status, error.server_code) == (code, exit_status, wire)


def test_every_error_of_the_server_is_known_here() -> None:
    from api.errors import TABLE

    for kind, (status, title) in TABLE.items():
        error = from_problem(status, {"code": kind.code, "title": title, "detail": "D"})
        assert error.exit_status in {2, 3, 4, 5, 6}, kind
        assert (error.exit_status == 6) == (
            status >= 500 or kind.code in {"digest_mismatch", "upload_expired", "rate_limited"}
        ), kind


def test_an_unknown_code_of_ours_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        CliError("no-such-code", "x")


def test_every_command_is_documented_and_every_documented_command_exists(dist: Dist) -> None:
    from typer.main import get_command

    from cli.main import app

    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    root = get_command(app)
    names = set()
    for group in GROUPS:
        command = root.get_command(None, group)
        names |= (
            {f"dist {group} {name}" for name in command.commands}
            if hasattr(command, "commands")
            else {f"dist {group}"}
        )
    documented = set(re.findall(r"^### `(dist [a-z]+(?: [a-z]+)?)", text, re.MULTILINE))
    assert documented == names
