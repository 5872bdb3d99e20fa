"""Settings: three sources, one clear line for what is wrong, and a page that names them all."""

from pathlib import Path

import pytest

from pipeline import minisign
from pipeline.errors import BadSettings
from pipeline.settings import KEYS, Settings, load

ROOT = Path(__file__).parents[2]


def loaded(folder: Path, toml: str = "", **environment: str) -> Settings:
    if toml:
        (folder / "config.toml").write_text(toml)
    return load({"DISTD_DATA_DIR": str(folder), **environment}, default_data_dir=Path("data"))


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path):
    settings = loaded(tmp_path, 'port = 9000\nhost = "::1"\n', DISTD_PORT="9001")
    assert (settings.port, settings.host, settings.log_format) == (9001, "::1", "console")
    assert settings.sources["port"] == "DISTD_PORT"
    assert settings.sources["host"] == str(tmp_path / "config.toml")


def test_the_data_directory_is_where_it_is_said_to_be(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load({}, default_data_dir=Path("data")).data_dir == tmp_path / "data"
    assert load({"DISTD_DATA_DIR": ""}, default_data_dir=Path("data")).data_dir == tmp_path / "data"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DISTD_PROT": "1"}, "DISTD_PROT: unknown setting"),
        ({"DISTD_PORT": "http"}, "DISTD_PORT: must be a whole number (got 'http')"),
        ({"DISTD_PORT": "65536"}, "between 0 and 65535"),
        ({"DISTD_PORT": ""}, "whole number"),
        ({"DISTD_PUBLIC_URL": "dist.example"}, "https://dist.example.com"),
        ({"DISTD_PUBLIC_URL": "ftp://x"}, "https://"),
        ({"DISTD_PUBLIC_URL": "https://example.com/apps/"}, "no path"),
        ({"DISTD_PUBLIC_URL": "https://x/?q"}, "no query"),
        ({"DISTD_PUBLIC_URL": "https://user@x/"}, "no user"),
        ({"DISTD_TRUSTED_PROXIES": "everybody"}, "DISTD_TRUSTED_PROXIES"),
        ({"DISTD_DATABASE_URL": "postgresql://x"}, "not supported by this version"),
        ({"DISTD_QUEUE_URL": "http://x"}, "redis://"),
        ({"DISTD_BLOB_URL": "s3://x"}, "must be empty"),
        ({"DISTD_MAX_UPLOAD_BYTES": "0"}, "between 1"),
        ({"DISTD_MAX_UPLOAD_BYTES": "2GB"}, "whole number"),
        ({"DISTD_LOG_FORMAT": "xml"}, "json, console"),
    ],
)
def test_a_bad_value_in_the_environment_is_one_clear_line(tmp_path: Path, environment, words: str):
    with pytest.raises(BadSettings) as refused:
        loaded(tmp_path, **environment)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


LINE = minisign.generate(lambda count: b"k" * count).public.line


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("prot = 1", "unknown key 'prot'"),
        ('port = "x"', "port: must be a whole number"),
        ("port = true", "whole number"),
        ("min_free_percent = 91", "between 0 and 90"),
        ("lease_seconds = 0", "positive number of seconds"),
        ("lease_seconds = -1", "positive"),
        ("lease_seconds = nan", "positive"),
        ("lease_seconds = true", "positive"),
        ("host = 7", "must be text"),
        ("port = ", "config.toml"),
        ('[testing]\nfailpoints = "x=kill"', "fault tests only"),
        ("[testing]\nenabled = true\nother = 1", "fault tests only"),
        ("testing = 1", "fault tests only"),
        ('signer = "hsm"', "signer: must be one of built-in, command, drop"),
        ('signer = "drop"', "needs signing_public_key"),
        ('signing_public_key = "RWQ"', "second line of a minisign public key"),
        ('signing_command = "minisign -S"', "must be a list of arguments"),
        ('signing_command = ["minisign"]', "need each other"),
        (f'signer = "command"\nsigning_public_key = "{LINE}"', "need each other"),
    ],
)
def test_a_bad_value_in_the_file_is_one_clear_line(tmp_path: Path, toml: str, words: str):
    with pytest.raises(BadSettings) as refused:
        loaded(tmp_path, toml)
    assert words in str(refused.value)
    assert str(tmp_path / "config.toml") in str(refused.value)


def test_other_programs_variables_are_none_of_ours(tmp_path: Path):
    assert loaded(tmp_path, DIST_TOKEN="x", PORT="1", DATABASE_URL="y").port == 8470


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "http://127.0.0.1:8470"),
        ({"DISTD_HOST": "0.0.0.0", "DISTD_PORT": "80"}, "http://127.0.0.1:80"),
        ({"DISTD_HOST": "::1"}, "http://[::1]:8470"),
        ({"DISTD_PUBLIC_URL": "https://dist.example/"}, "https://dist.example"),
    ],
)
def test_links_begin_with_the_public_url(tmp_path: Path, environment, url: str):
    assert loaded(tmp_path, **environment).base_url == url


def test_networks_are_lists_or_words_with_commas(tmp_path: Path):
    assert loaded(tmp_path, DISTD_TRUSTED_PROXIES="10.0.0.0/8, ::1").trusted_proxies == (
        "10.0.0.0/8",
        "::1/128",
    )
    assert loaded(tmp_path, 'trusted_proxies = ["192.168.1.7"]').trusted_proxies == ("192.168.1.7/32",)


def test_the_page_names_every_setting_and_no_other():
    page = (ROOT / "docs" / "configuration.md").read_text()
    for key in KEYS:
        assert f"`{key.name}`" in page, key.name
        assert key.environment is None or f"`{key.environment}`" in page, key.environment
    known = {key.environment for key in KEYS} | {"DISTD_DATA_DIR"}
    named = {word.strip("`.,;:()|") for word in page.split() if word.strip("`.,;:()|").startswith("DISTD_")}
    assert {name.partition("=")[0] for name in named} <= known
