"""Tickets and their key: what is ours, what was changed, and the addresses that carry them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from pipeline.admission import Purpose
from pipeline.errors import TicketRefused
from pipeline.models import Artifact
from pipeline.store.layout import Layout
from pipeline.tickets import NOBODY, Sealer, Tickets, load_sealer

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
SEALER = Sealer(bytes(range(32)))
TICKETS = Tickets(SEALER, "https://dist.example/shop")


def artifact(**changes) -> Artifact:
    return Artifact(
        **{
            "id": "art_1", "release_id": "rel_1", "filename": "Nötes 1.ipa", "platform": "ios", "format": "ipa",
            "sha256": "a" * 64, "draft_slot": "x", "ios": {"mode": "enterprise"}, "created_at": NOW,
            "facts": {"identifier": "com.example.notes"},
        }
        | changes
    )  # fmt: skip


def test_what_was_sealed_is_read_again_and_any_changed_character_is_not():
    text = TICKETS.issue(Purpose.DOWNLOAD, "art_1", "lnk_1~o", NOW)
    read = TICKETS.read(text)
    assert (read.purpose, read.artifact_id, read.ends_at, read.holder) == (
        Purpose.DOWNLOAD,
        "art_1",
        NOW,
        "lnk_1~o",
    )
    for at in range(len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(TicketRefused):
            TICKETS.read(changed)


@pytest.mark.parametrize("text", ["", ".", "....", "download.art_1.9999999999.-.", "é" * 50, "a" * 10_000])
def test_rubbish_is_no_ticket(text: str):
    with pytest.raises(TicketRefused):
        TICKETS.read(text)


def test_a_ticket_of_another_server_is_refused():
    other = Tickets(Sealer(bytes(32)), "https://dist.example")
    with pytest.raises(TicketRefused):
        TICKETS.read(other.issue(Purpose.DOWNLOAD, "art_1", NOBODY, NOW))


def test_one_kind_of_statement_never_passes_for_another():
    assert SEALER.open("ticket", SEALER.seal("link-opening", "a", "b")) is None


def test_the_addresses_of_an_artifact_carry_a_ticket_for_each_purpose():
    urls = TICKETS.urls(artifact(), "tok_1", NOW)
    assert urls.ends_at == NOW + timedelta(hours=1)
    for url, path, purpose in (
        (urls.download, "/shop/artifacts/art_1/N%C3%B6tes%201.ipa", Purpose.DOWNLOAD),
        (urls.icon, "/shop/artifacts/art_1/icon.png", Purpose.ICON),
        (urls.manifest, "/shop/artifacts/art_1/ota/manifest.plist", Purpose.MANIFEST),
    ):
        parts = urlsplit(url or "")
        assert (parts.scheme, parts.netloc, parts.path) == ("https", "dist.example", path)
        ticket = TICKETS.read(parse_qs(parts.query)["ticket"][0])
        assert (ticket.purpose, ticket.artifact_id, ticket.holder) == (purpose, "art_1", "tok_1")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "data")
    layout.create()
    return layout


def test_processes_that_start_together_share_one_key_that_only_the_owner_reads(layout: Layout):
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_sealer(layout).key, range(8)))
    assert len(set(keys)) == 1
    assert (layout.keys / "ticket.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in layout.keys.iterdir()] == ["ticket.key"]


@pytest.mark.parametrize("text", ["", "zz\n", "00\n"])
def test_a_damaged_key_is_told_apart_from_a_missing_one(layout: Layout, text: str):
    (layout.keys / "ticket.key").write_text(text)
    with pytest.raises(RuntimeError, match="damaged"):
        load_sealer(layout)
