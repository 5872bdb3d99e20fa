"""`distd doctor`: what is wrong with this installation, each with its mend."""

import os
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from sqlalchemy.exc import SQLAlchemyError

from pipeline import minisign, queue_view, schema, signatures, signing
from pipeline.access import SYSTEM
from pipeline.database import (
    journal_mode,
    lock_holder,
    open_database,
    sqlite_version,
    wal_is_safe,
    write_lock_path,
)
from pipeline.formats.confine import capabilities
from pipeline.operation import Operation
from pipeline.settings import BUILT_IN, Settings
from pipeline.signing_command import PATH
from pipeline.store.layout import DIRECTORY_MODE, Layout
from pipeline.values import utc_now
from workers.queue import UnusableQueueUrl, open_bell

# statfs(2) types on which SQLite's locks or flock cannot be relied on.
_NETWORK_FILE_SYSTEMS: Final = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "fuse.shfs",
    "ceph",
    "glusterfs",
    "afs",
}
_OUTSIDE_SECONDS: Final = 3.0
_SCHEMA: Final = "/schemas/dist-1.json"
_SCHEMA_TYPE: Final = "application/schema+json"
_HEADERS_KEPT: Final = ("x-correlation-id", "x-content-type-options", "content-security-policy")
_WRITER_SECONDS: Final = 3.0
_CLOCK_EARLIEST: Final = 1_790_000_000  # 2026-09: before this program was written


@dataclass(frozen=True, slots=True)
class Check:
    """One look. `level` is ok, note (works, but know it) or wrong."""

    name: str
    level: str
    detail: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "level": self.level, "detail": self.detail, "mend": self.mend}


def examine(settings: Settings) -> list[Check]:
    """Every check, in order; later ones are left out when the data directory cannot be used at all."""
    layout = Layout(settings.data_dir)
    checks = [_configuration(settings), _data_directory(layout)]
    if checks[-1].level == "wrong":
        return checks
    looks: tuple[Callable[[Settings, Layout], Check], ...] = (
        _file_system,
        _one_file_system,
        _disk,
        _clock,
        _sqlite,
        _migrations,
        _writers,
        _queue,
        _workers,
        _sandbox,
        _helper,
        _signer,
        _public_url,
        _from_outside,
        _proxies,
    )
    return [*checks, *(look(settings, layout) for look in looks)]


def _configuration(settings: Settings) -> Check:
    said = (
        ", ".join(f"{name} ({source})" for name, source in sorted(settings.sources.items()))
        or "defaults only"
    )
    return Check("configuration", "ok", said)


def _data_directory(layout: Layout) -> Check:
    try:
        layout.create()
        with tempfile.TemporaryFile(dir=layout.run):
            pass
    except OSError as error:
        return Check(
            "data",
            "wrong",
            f"{layout.root}: {error.strerror}",
            "Make it writable for this user, or set DISTD_DATA_DIR.",
        )
    return Check("data", "ok", str(layout.root))


def mount_of(path: Path, mounts: str) -> tuple[str, str]:
    """(mount point, type) of `path` by the text of /proc/mounts; the longest mount point wins."""
    best = ("/", "unknown")
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, fields[2])
    return best


def _file_system(_settings: Settings, layout: Layout) -> Check:
    mounts = Path("/proc/mounts")
    point, kind = mount_of(layout.root.resolve(), mounts.read_text("utf-8") if mounts.exists() else "")
    if kind in _NETWORK_FILE_SYSTEMS:
        return Check(
            "file system",
            "wrong",
            f"{point} is {kind}: SQLite's locks cannot be relied on there",
            "Put the data directory on a disk of this machine.",
        )
    return Check("file system", "ok", f"{kind} on {point}")


def _one_file_system(_settings: Settings, layout: Layout) -> Check:
    source = layout.quarantine / ".link-test"
    for folder in (layout.blobs, layout.trash):
        target = folder / ".link-test"
        try:
            source.write_bytes(b"")
            target.unlink(missing_ok=True)
            os.link(source, target)
        except OSError as error:
            return Check(
                "store",
                "wrong",
                f"quarantine and {folder.relative_to(layout.root)} cannot be linked: {error.strerror}",
                "Keep quarantine, blobs and trash on one file system that has hard links.",
            )
        finally:
            source.unlink(missing_ok=True)
            target.unlink(missing_ok=True)
    return Check("store", "ok", "quarantine, blobs and trash share a file system")


def _disk(settings: Settings, layout: Layout) -> Check:
    usage = shutil.disk_usage(layout.root)
    floor = max(settings.min_free_bytes, usage.total * settings.min_free_percent // 100)
    detail = f"{usage.free >> 20} MiB free of {usage.total >> 20}"
    if usage.free < floor:
        return Check(
            "disk",
            "wrong",
            f"{detail}; uploads are refused below {floor >> 20} MiB",
            "Free space (`distd gc --dry-run` shows what nothing refers to), or lower min_free_bytes in config.toml.",
        )
    return Check("disk", "ok", detail)


def _clock(_settings: Settings, _layout: Layout) -> Check:
    if time.time() < _CLOCK_EARLIEST:
        return Check(
            "clock",
            "wrong",
            f"it is {utc_now():%Y-%m-%d %H:%M} UTC here",
            "Set the clock (NTP): tokens and certificates depend on it.",
        )
    return Check("clock", "ok", f"{utc_now():%Y-%m-%d %H:%M:%S} UTC")


def _sqlite(_settings: Settings, _layout: Layout) -> Check:
    version = ".".join(str(part) for part in sqlite_version())
    if wal_is_safe(sqlite_version()):
        return Check("sqlite", "ok", f"{version}, journal {journal_mode()}")
    return Check(
        "sqlite",
        "note",
        f"{version} has the WAL-reset bug; a rollback journal ({journal_mode()}) is used instead",
        "Use the image, or install pysqlite3 (part of distd[server] on x86-64 Linux): writes get faster.",
    )


def _migrations(settings: Settings, _layout: Layout) -> Check:
    try:
        database = open_database(settings)
        have, want = schema.current_revision(database), schema.head_revision()
        database.close()
    except SQLAlchemyError as error:
        return Check(
            "database",
            "wrong",
            f"cannot be opened: {error}",
            "Restore a backup, or look at the file with sqlite3.",
        )
    if have is None:
        return Check("database", "note", "not created yet", "Run `distd init`.")
    if have != want:
        return Check(
            "database",
            "wrong",
            f"at revision {have}, this program needs {want}",
            "Run `distd migrate` with the newer program.",
        )
    return Check("database", "ok", f"revision {have}")


def _writers(settings: Settings, _layout: Layout) -> Check:
    """A writer holds the lock for milliseconds; one that is seen at each of several looks is frozen, or its disk is."""
    path = write_lock_path(settings)
    deadline = time.monotonic() + _WRITER_SECONDS
    while (holder := lock_holder(path)) is not None:
        if time.monotonic() > deadline:
            who = f"process {holder}" if holder else "a process of another container"
            return Check(
                "writers",
                "wrong",
                f"{who} has been holding the writers' lock for {_WRITER_SECONDS:.0f} seconds",
                "If it is stopped or its container paused, let it go on or kill it; what it had not committed is undone.",
            )
        time.sleep(0.05)
    return Check("writers", "ok", "the writers' lock is free")


def _queue(settings: Settings, layout: Layout) -> Check:
    try:
        bell = open_bell(settings.queue_url, data_dir=layout.root)
    except UnusableQueueUrl as error:
        return Check("queue", "wrong", str(error), "Set DISTD_QUEUE_URL, or unset it for the embedded queue.")
    reachable = bell.ring("job_00000000000000000000000000")
    bell.close()
    if not reachable:
        return Check(
            "queue",
            "wrong",
            "the doorbell cannot be rung",
            "Start the broker, or check DISTD_QUEUE_URL. Jobs wait meanwhile; none is lost.",
        )
    return Check("queue", "ok", urlsplit(settings.queue_url).scheme or "huey on queue.db")


def _workers(settings: Settings, layout: Layout) -> Check:
    database = open_database(settings)
    try:
        if schema.current_revision(database) is None:
            return Check("workers", "note", "none yet")
        with database.read() as session:
            alive = sum(
                is_alive for _, is_alive in queue_view.workers(Operation(session, SYSTEM, utc_now()), layout)
            )
    finally:
        database.close()
    if not alive:
        return Check(
            "workers", "note", "none is alive", "Start `distd up`, or `distd worker` beside `distd serve`."
        )
    return Check("workers", "ok", f"{alive} alive")


def _sandbox(_settings: Settings, _layout: Layout) -> Check:
    found = capabilities()
    detail = (
        f"resource limits {'on' if found.resource_limits else 'off'}, "
        f"Landlock {f'ABI {found.landlock_abi}' if found.landlock_abi else 'off'}, seccomp {'on' if found.seccomp else 'off'}"
    )
    if not found.complete:
        return Check(
            "sandbox",
            "note",
            detail,
            "A newer kernel (6.7 or later) confines inspections further; nothing else is needed.",
        )
    return Check("sandbox", "ok", detail)


def _helper(_settings: Settings, _layout: Layout) -> Check:
    path = shutil.which("7zz") or shutil.which("7z")
    if path is None:
        return Check(
            "7-Zip", "note", "not installed: DMG and AppImage end as inconclusive", "apt-get install 7zip"
        )
    return Check("7-Zip", "ok", path)


def _signer(settings: Settings, layout: Layout) -> Check:
    """Who signs releases, with which key, and what waits for a signature."""
    try:
        key = signing.configured_key(settings)
    except RuntimeError as error:
        return Check("signer", "wrong", str(error), "`distd restore` brings the keys back with the rest.")
    name = minisign.shown_key_id(key.key_id)
    if settings.signer == BUILT_IN:
        published = layout.keys / "release.pub"
        if published.exists() and not _is_key(published, key):
            return Check(
                "signer",
                "wrong",
                f"keys/release.pub is not the key that signs ({name})",
                "Replace it by what `/api/v1/keys/release.pub` answers.",
            )
        return Check("signer", "ok", f"built-in, key {name}")
    said = f"{settings.signer}, key {name}{_signing_state(settings)}"
    if settings.signer == "command" and (flaw := _not_runnable(settings.signing_command[0])):
        return Check("signer", "wrong", f"{said}; {flaw}", "Set signing_command in config.toml.")
    if settings.signer == "drop":
        layout.signing.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        if not os.access(layout.signing, os.W_OK | os.X_OK):
            return Check(
                "signer",
                "wrong",
                f"{said}; {layout.signing} cannot be written",
                "Give the folder to this user.",
            )
        if "waits" in said:
            return Check(
                "signer", "note", said, "`distd signing list` shows what waits; docs/signing.md says how."
            )
    return Check("signer", "ok", said)


def _is_key(file: Path, key: minisign.PublicKey) -> bool:
    try:
        return minisign.parse_public_key(file.read_bytes()) == key
    except (OSError, minisign.NotMinisign):
        return False


def _not_runnable(program: str) -> str:
    found = shutil.which(program, path=PATH)
    return "" if found else f"{program} is not there or not executable"


def _signing_state(settings: Settings) -> str:
    """What waits, since when, and when a signature was taken last."""
    database = open_database(settings)
    try:
        if schema.current_revision(database) != schema.head_revision():
            return ""
        with database.read() as session:
            waiting, last = signatures.pending(session), signatures.last_taken(session)
            former = [line for line in signatures.keys_of(session) if line != settings.signing_public_key]
    finally:
        database.close()
    said = ""
    if waiting:
        minutes = int((utc_now() - waiting[0].row.requested_at).total_seconds() // 60)
        said += f"; waits for {len(waiting)} signature{'s' if len(waiting) > 1 else ''}, for {minutes} minutes by now"
    said += "; no signature was taken yet" if last is None else f"; last signature {last:%Y-%m-%d %H:%M} UTC"
    if former:
        ids = (minisign.shown_key_id(minisign.parse_public_key(line.encode()).key_id) for line in former)
        said += f"; former keys {', '.join(ids)}"
    return said


def _public_url(settings: Settings, _layout: Layout) -> Check:
    if not settings.public_url:
        return Check(
            "public URL",
            "note",
            f"not set; links begin with {settings.base_url}",
            "Set DISTD_PUBLIC_URL to the address that people use.",
        )
    if not settings.public_url.startswith("https://"):
        return Check(
            "public URL",
            "note",
            f"{settings.public_url} is not https",
            "iOS installs over HTTPS only: put a TLS proxy in front.",
        )
    return Check("public URL", "ok", settings.public_url)


def _from_outside(settings: Settings, _layout: Layout) -> Check:
    """What a client gets at the public address: TLS that it trusts, this server behind it, and answers as they were sent."""
    if not settings.public_url:
        return Check("from outside", "note", "not tried: there is no public URL")
    address = settings.base_url + _SCHEMA
    try:
        answer = httpx.get(address, timeout=_OUTSIDE_SECONDS, follow_redirects=False)
    except httpx.HTTPError as error:
        if isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
            return Check(
                "from outside",
                "wrong",
                f"{settings.base_url}: the certificate is not trusted: {error}",
                "Serve the whole chain of a certificate for this name that devices trust: iOS installs nothing otherwise.",
            )
        return Check(
            "from outside",
            "note",
            f"{settings.base_url} cannot be reached from this machine: {error}",
            "When people cannot reach it either: start the proxy, and look at DNS and the firewall.",
        )
    return judged(settings.base_url, answer)


def judged(base_url: str, answer: httpx.Response) -> Check:
    """Whether an answer of `_SCHEMA` is as this server gives it: a proxy hands types and headers on, which installs need."""
    if answer.status_code != 200 or "dist.json" not in answer.text:
        return Check(
            "from outside",
            "wrong",
            f"{base_url} answers {answer.status_code} with something else than this server's schema",
            "Let the proxy pass every path to distd, with the Host header, and set DISTD_PUBLIC_URL to what it serves.",
        )
    kind = answer.headers.get("content-type", "none").partition(";")[0]
    if kind != _SCHEMA_TYPE:
        return Check(
            "from outside",
            "wrong",
            f"the proxy changes the type of files: {kind} instead of {_SCHEMA_TYPE}",
            "Let the proxy leave Content-Type as it is: iOS takes a manifest and an app by their types only.",
        )
    lost = [name for name in _HEADERS_KEPT if name not in answer.headers]
    if lost:
        return Check(
            "from outside",
            "wrong",
            f"the proxy drops {', '.join(lost)}",
            "Let the proxy hand the headers of answers on.",
        )
    return Check("from outside", "ok", f"{base_url} answers as this server does, types and headers included")


def arrival(settings: Settings, peer: str, client: str, headers: Mapping[str, str]) -> Check:
    """How a request came here: by a proxy that is trusted and says for whom, or by none."""
    forwarded = headers.get("x-forwarded-for")
    if forwarded is None:
        if settings.public_url.startswith("https://"):
            return Check(
                "this request",
                "note",
                f"came from {peer} without X-Forwarded-For",
                "Let the proxy send X-Forwarded-For; or this page was opened past the proxy.",
            )
        return Check("this request", "ok", f"came from {peer}, by no proxy")
    if client == peer:
        return Check(
            "this request",
            "note",
            f"came from {peer} for {forwarded[:80]}, which is not believed",
            f"If {peer} is your proxy, set DISTD_TRUSTED_PROXIES to it: limits count by the client's address.",
        )
    return Check("this request", "ok", f"came from {client} by the proxy {peer}")


def _proxies(settings: Settings, _layout: Layout) -> Check:
    if settings.public_url.startswith("https://") and not settings.trusted_proxies:
        return Check(
            "proxy",
            "note",
            "no proxy is trusted: every request seems to come from the proxy's address",
            "Set DISTD_TRUSTED_PROXIES to the proxy's address or network.",
        )
    return Check("proxy", "ok", ", ".join(settings.trusted_proxies) or "none trusted")
