"""What the operator decided, read once at the edge of the process and passed on as values.

Three sources, the first wins: the environment (`DISTD_…`), `config.toml` in the data directory, the default. The table `_KEYS` is
the whole list; docs/configuration.md is held against it by a test. An unknown key or a bad value raises `BadSettings` with one
clear line.

Keys under `[testing]` exist for the fault tests alone, have no environment variable, and are refused unless `testing.enabled`.
"""

import ipaddress
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pipeline.errors import BadSettings
from pipeline.minisign import NotMinisign, parse_public_key

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
BUILT_IN: Final = "built-in"  # the signer that has its key in the data directory


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, with its unit in the name. `sources` tells for each where its value came from."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8470
    public_url: str = ""
    trusted_proxies: tuple[str, ...] = ()
    database_url: str = ""
    queue_url: str = ""
    blob_url: str = ""
    max_upload_bytes: int = 16 * GIB
    log_format: str = "console"
    # config.toml only
    min_free_bytes: int = GIB
    min_free_percent: int = 5
    upload_idle_seconds: int = 24 * 3600
    upload_max_seconds: int = 7 * 24 * 3600
    rejected_keep_seconds: int = 7 * 24 * 3600
    gc_grace_seconds: float = 24 * 3600.0
    gc_trash_seconds: float = 7 * 24 * 3600.0
    retention_grace_seconds: float = 7 * 24 * 3600.0
    lease_seconds: float = 60.0
    sweep_seconds: float = 5.0
    ring_again_seconds: float = 30.0
    retry_base_seconds: float = 5.0
    inspect_wall_seconds: float = 60.0
    auth_failures_per_minute: int = 30
    webhook_allow_networks: tuple[str, ...] = ()
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: str = ""
    oidc_claim: str = "groups"
    oidc_roles: Mapping[str, str] = field(default_factory=dict)
    signer: str = BUILT_IN
    signing_command: tuple[str, ...] = ()
    signing_public_key: str = ""
    signing_seconds: float = 60.0
    failpoints: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        """What links are built from: PUBLIC_URL, else the address that the server listens on. Never the Host header."""
        if self.public_url:
            return self.public_url
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def convert(value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | str)
            or not str(value).strip().lstrip("-").isdecimal()
        ):
            raise ValueError("must be a whole number")
        number = int(value)
        if not low <= number <= high:
            raise ValueError(f"must be between {low} and {high}")
        return number

    return convert


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 365 * 86400:
        raise ValueError("must be a positive number of seconds")
    return float(value)


def _seconds_from_zero(value: Any) -> float:
    return 0.0 if value == 0 and not isinstance(value, bool) else _seconds(value)


def _public_url(value: Any) -> str:
    text = _text(value).rstrip("/")
    parts = urlsplit(text)
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or parts.username
        or parts.path
    ):
        raise ValueError(
            "must be like https://dist.example.com: no user, no query, and no path, since pages link to each other from the root"
        )
    return text


def _networks(value: Any) -> tuple[str, ...]:
    items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("must be a list of addresses or networks, like 10.0.0.0/8")
    return tuple(str(ipaddress.ip_network(item, strict=False)) for item in items)


def _database_url(value: Any) -> str:
    text = _text(value)
    if text and not text.startswith("sqlite:///"):
        raise ValueError("must be sqlite:///path; other databases are not supported by this version")
    return text


def _queue_url(value: Any) -> str:
    text = _text(value)
    if text and urlsplit(text).scheme not in {"redis", "rediss", "amqp", "amqps"}:
        raise ValueError("must be redis://, rediss://, amqp:// or amqps://, or empty for the embedded queue")
    return text


def _blob_url(value: Any) -> str:
    text = _text(value)
    if text:
        raise ValueError("must be empty: this version stores blobs in the data directory only")
    return text


def _issuer(value: Any) -> str:
    text = _text(value)
    parts = urlsplit(text)
    local = parts.hostname in {"127.0.0.1", "localhost", "::1"}
    if text and ((parts.scheme != "https" and not (local and parts.scheme == "http")) or not parts.hostname):
        raise ValueError("must be the https:// address of an OpenID provider")
    return text


def _arguments(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError('must be a list of arguments, like ["/usr/local/bin/sign", "--key", "release"]')
    return tuple(value)


def _minisign_key(value: Any) -> str:
    text = _text(value)
    try:
        return parse_public_key(text.encode()).line if text else ""
    except NotMinisign as error:
        raise ValueError(f"must be the second line of a minisign public key ({error})") from error


def _roles(value: Any) -> dict[str, str]:
    known = ("admin", "release-manager", "tester")
    if not isinstance(value, dict) or any(role not in known for role in value.values()):
        raise ValueError(
            f'must be a table like {{"release-team" = "release-manager"}}; roles are {", ".join(known)}'
        )
    return {str(group): str(role) for group, role in value.items()}


def _one_of(*choices: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in choices:
            raise ValueError("must be one of " + ", ".join(choices))
        return str(value)

    return convert


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its name in config.toml, its environment variable if it has one, and its parser."""

    name: str
    parse: Callable[[Any], Any]
    environment: str | None = None
    about: str = ""


KEYS: Final = (
    Key("host", _text, "DISTD_HOST", "address to listen on (`0.0.0.0` in the image)"),
    Key("port", _whole(0, 65535), "DISTD_PORT", "port to listen on"),
    Key(
        "public_url",
        _public_url,
        "DISTD_PUBLIC_URL",
        "what links, manifests and QR codes are built from; never the Host header",
    ),
    Key(
        "trusted_proxies",
        _networks,
        "DISTD_TRUSTED_PROXIES",
        "addresses or networks whose X-Forwarded-For is believed",
    ),
    Key("database_url", _database_url, "DISTD_DATABASE_URL", "default: SQLite in the data directory"),
    Key(
        "queue_url",
        _queue_url,
        "DISTD_QUEUE_URL",
        "default: Huey on SQLite in the data directory; redis:// or amqp:// for Dramatiq",
    ),
    Key("blob_url", _blob_url, "DISTD_BLOB_URL", "default: the data directory"),
    Key(
        "max_upload_bytes",
        _whole(1, 1 << 50),
        "DISTD_MAX_UPLOAD_BYTES",
        "largest file that is taken, in bytes",
    ),
    Key("log_format", _one_of("json", "console"), "DISTD_LOG_FORMAT", "`json` or `console`"),
    Key(
        "min_free_bytes",
        _whole(0, 1 << 50),
        None,
        "uploads are refused when less than this would stay free on the disk",
    ),
    Key(
        "min_free_percent",
        _whole(0, 90),
        None,
        "the same as a share of the disk; the larger of the two counts",
    ),
    Key("upload_idle_seconds", _seconds, None, "an upload that nobody continues is dropped after this time"),
    Key("upload_max_seconds", _seconds, None, "an upload that no release uses is dropped after this time"),
    Key(
        "rejected_keep_seconds",
        _seconds,
        None,
        "how long the bytes of a rejected release stay in quarantine for a re-run",
    ),
    Key(
        "gc_grace_seconds",
        _seconds_from_zero,
        None,
        "how long nothing must have referred to a blob before it is moved to the trash",
    ),
    Key(
        "gc_trash_seconds",
        _seconds_from_zero,
        None,
        "how long a blob stays in the trash before it is removed",
    ),
    Key(
        "retention_grace_seconds",
        _seconds_from_zero,
        None,
        "how long a release that retention removed keeps its bytes, so that it can be restored",
    ),
    Key("lease_seconds", _seconds, None, "a job whose worker is silent for this long is given to another"),
    Key("sweep_seconds", _seconds, None, "how often each worker looks for jobs that were left behind"),
    Key("ring_again_seconds", _seconds, None, "a job that waits for this long is rung for again"),
    Key(
        "retry_base_seconds",
        _seconds,
        None,
        "first pause before a job is tried again after a fault of ours; it doubles",
    ),
    Key("inspect_wall_seconds", _seconds, None, "longest time that one inspection may take"),
    Key(
        "auth_failures_per_minute",
        _whole(1, 100000),
        None,
        "wrong tokens from one address before it has to wait",
    ),
    Key(
        "webhook_allow_networks",
        _networks,
        None,
        "networks that are not public and that webhooks may reach all the same",
    ),
    Key("oidc_issuer", _issuer, None, "OpenID provider by which people sign in; empty for none"),
    Key("oidc_client_id", _text, None, "what the provider calls this server"),
    Key("oidc_client_secret", _text, None, "this server's secret at the provider"),
    Key("oidc_claim", _text, None, "claim of the ID token that names a person's groups"),
    Key("oidc_roles", _roles, None, "which group has which role; nobody else may sign in"),
    Key(
        "signer",
        _one_of(BUILT_IN, "command", "drop"),
        None,
        "who signs releases: `built-in`, a `command`, or people through a folder (`drop`); see docs/signing.md",
    ),
    Key(
        "signing_command",
        _arguments,
        None,
        "program and arguments that sign a manifest, run without a shell; `{file}` and `{comment}` are filled in",
    ),
    Key(
        "signing_public_key",
        _minisign_key,
        None,
        "minisign public key of the command or of the people; no other signature is taken",
    ),
    Key("signing_seconds", _seconds, None, "longest time that the signing command may take"),
)
_BY_NAME: Final = {key.name: key for key in KEYS}
_BY_ENVIRONMENT: Final = {key.environment: key for key in KEYS if key.environment}


def load(environment: Mapping[str, str], *, default_data_dir: Path) -> Settings:
    """The settings of this process; raises `BadSettings`."""
    data_dir = Path(environment.get("DISTD_DATA_DIR") or default_data_dir).absolute()
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    file = data_dir / "config.toml"
    for name, value in _from_file(file).items():
        values[name] = value
        sources[name] = str(file)
    for variable, text in environment.items():
        if not variable.startswith("DISTD_") or variable == "DISTD_DATA_DIR":
            continue
        key = _BY_ENVIRONMENT.get(variable)
        if key is None:
            raise BadSettings(
                f"{variable}: unknown setting; known are DISTD_DATA_DIR, {', '.join(sorted(_BY_ENVIRONMENT))}"
            )
        values[key.name] = _parsed(key, text, variable)
        sources[key.name] = variable
    settings = Settings(data_dir=data_dir, sources=sources, **values)
    _agree(settings, file)
    return settings


def _agree(settings: Settings, file: Path) -> None:
    """Settings that need each other."""
    if settings.signer != BUILT_IN and not settings.signing_public_key:
        raise BadSettings(
            f'{file}: signer = "{settings.signer}" needs signing_public_key, the key that it signs with'
        )
    if (settings.signer == "command") != bool(settings.signing_command):
        raise BadSettings(f'{file}: signer = "command" and signing_command need each other')


def _from_file(file: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{file}: {error}") from error
    testing = table.pop("testing", None)
    values: dict[str, Any] = {}
    for name, value in table.items():
        key = _BY_NAME.get(name)
        if key is None:
            raise BadSettings(f"{file}: unknown key {name!r}; known are {', '.join(sorted(_BY_NAME))}")
        values[name] = _parsed(key, value, f"{file}: {name}")
    if testing is not None:
        if (
            not isinstance(testing, dict)
            or testing.get("enabled") is not True
            or set(testing) - {"enabled", "failpoints"}
        ):
            raise BadSettings(f"{file}: [testing] is for fault tests only; remove it")
        values["failpoints"] = str(testing.get("failpoints", ""))
    return values


def _parsed(key: Key, value: Any, where: str) -> Any:
    try:
        return key.parse(value)
    except ValueError as error:
        raise BadSettings(f"{where}: {error} (got {value!r})") from error
