"""Which server and token, and the file of `dist login`."""

import json
import stat
from pathlib import Path

import pytest

from cli.config import (
    Target,
    config_dir,
    others_can_read,
    parse_server,
    parse_token,
    read_login,
    resolve_target,
    state_dir,
    store_login,
)
from cli.errors import CliError


def home(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(tmp_path)} | more


def test_option_then_environment_then_login(tmp_path: Path) -> None:
    environ = home(tmp_path)
    store_login(Target("https://login.example", "dist_login"), environ)
    assert resolve_target(None, None, environ) == Target("https://login.example", "dist_login")
    with_env = environ | {"DIST_SERVER": "https://env.example", "DIST_TOKEN": "dist_env"}
    assert resolve_target(None, None, with_env) == Target("https://env.example", "dist_env")
    assert resolve_target("https://option.example", "dist_option", with_env) == Target(
        "https://option.example", "dist_option"
    )


def test_a_stored_token_is_not_sent_to_another_server(tmp_path: Path) -> None:
    environ = home(tmp_path)
    store_login(Target("https://login.example", "dist_login"), environ)
    with pytest.raises(CliError) as caught:
        resolve_target("https://evil.example", None, environ)
    assert caught.value.code == "unauthorized"


def test_the_file_is_private_and_keeps_other_servers(tmp_path: Path) -> None:
    environ = home(tmp_path)
    store_login(Target("https://one.example", "dist_1"), environ)
    path = store_login(Target("https://two.example", "dist_2"), environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path == tmp_path / ".config" / "dist" / "credentials.json"
    login = read_login(environ)
    assert login.default == "https://two.example"
    assert dict(login.tokens) == {"https://one.example": "dist_1", "https://two.example": "dist_2"}
    assert [child.name for child in path.parent.iterdir()] == ["credentials.json"]


def test_a_file_that_others_can_read_is_noticed(tmp_path: Path) -> None:
    environ = home(tmp_path)
    path = store_login(Target("https://one.example", "dist_1"), environ)
    assert others_can_read(environ) is None
    path.chmod(0o644)
    assert others_can_read(environ) == path


@pytest.mark.parametrize("content", ["", "{", "[]", '{"servers": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    environ = home(tmp_path)
    path = tmp_path / ".config" / "dist" / "credentials.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(CliError) as caught:
        read_login(environ)
    assert str(path) in caught.value.detail


def test_xdg_folders(tmp_path: Path) -> None:
    environ = home(tmp_path, XDG_CONFIG_HOME="/etc/xdg", XDG_STATE_HOME="/var/state")
    assert config_dir(environ) == Path("/etc/xdg/dist")
    assert state_dir(environ) == Path("/var/state/dist")
    assert state_dir(home(tmp_path, XDG_STATE_HOME="relative")) == tmp_path / ".local" / "state" / "dist"


def test_addresses_are_normalised() -> None:
    assert parse_server(" https://Dist.Example/ ") == "https://dist.example"
    assert parse_server("http://127.0.0.1:8470/base/") == "http://127.0.0.1:8470/base"


def test_a_token_from_a_file_with_a_newline(tmp_path: Path) -> None:
    assert resolve_target("https://a.example", None, home(tmp_path, DIST_TOKEN="dist_x\n")).token == "dist_x"


@pytest.mark.parametrize("token", ["dist_a dist_b", "dist_\nb", "dist_ü", "dist_\x7f"])
def test_a_token_that_cannot_stand_in_a_header_is_not_repeated(token: str) -> None:
    with pytest.raises(CliError) as caught:
        parse_token(token)
    assert token not in str(caught.value.as_dict())
    assert caught.value.exit_status == 3


def test_a_target_does_not_show_its_token() -> None:
    assert "dist_secret" not in repr(Target("https://a.example", "dist_secret"))


def test_the_file_is_json_that_people_can_read(tmp_path: Path) -> None:
    path = store_login(Target("https://one.example", "dist_1"), home(tmp_path))
    assert json.loads(path.read_text())["servers"]["https://one.example"] == {"token": "dist_1"}
