"""① Bytes into quarantine: admission, offsets, digests, who may see what, and what is dropped when."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline import draft, release
from pipeline.errors import (
    Conflict,
    DigestMismatch,
    Forbidden,
    Gone,
    Invalid,
    Locked,
    NoSpace,
    NotFound,
    OffsetMismatch,
    TooLarge,
)
from pipeline.quarantine import Quarantine
from pipeline.states import UploadStatus
from tests.support.domain import Domain, digest_of, in_threads

CONTENT = b"0123456789" * 10


@pytest.fixture
def ci(domain: Domain):
    domain.app("notes")
    domain.app("secret")
    return domain.actor("ci", apps=["notes"])


def begun(domain: Domain, actor, content: bytes = CONTENT, *, announced: bool = True) -> str:
    sha256 = digest_of(content) if announced else None
    return domain.quarantine.create(actor, size=len(content), sha256=sha256).upload.id


def send(domain: Domain, actor, upload_id: str, offset: int | None, part: bytes) -> bool:
    with domain.quarantine.writer(actor, upload_id, offset=offset) as writer:
        writer.write(part)
        return writer.finish()


def data(domain: Domain, upload_id: str) -> bytes:
    return domain.quarantine.path(upload_id).read_bytes()


# -- admission ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "error"), [(0, Invalid), (-1, Invalid), (17 << 30, TooLarge)])
def test_a_size_that_cannot_be_is_refused_before_the_first_byte(domain: Domain, ci, size: int, error):
    with pytest.raises(error) as refused:
        domain.quarantine.create(ci, size=size)
    assert refused.value.remedy
    assert not list(domain.layout.quarantine.iterdir())


def test_a_nearly_full_disk_takes_nothing(tmp_path: Path):
    domain = Domain(tmp_path / "full", min_free_bytes=1 << 60)
    try:
        with pytest.raises(NoSpace, match="must stay free"):
            domain.quarantine.create(domain.actor("ci"), size=10)
        assert not list(domain.layout.quarantine.iterdir())
    finally:
        domain.close()


def test_what_other_uploads_were_promised_counts_as_used(tmp_path: Path):
    domain = Domain(tmp_path / "roomy", max_upload_bytes=1 << 50)
    try:
        disk = os.statvfs(domain.layout.quarantine)
        most = disk.f_bavail * disk.f_frsize * 2 // 3
        first, second = domain.actor("ci"), domain.actor("ci")
        domain.quarantine.create(first, size=most)
        with pytest.raises(NoSpace, match=f"{most} of them promised"):
            domain.quarantine.create(second, size=most)
    finally:
        domain.close()


def test_a_token_has_a_bound_of_unfinished_uploads(domain: Domain, ci):
    for _ in range(64):
        domain.quarantine.create(ci, size=1)
    with pytest.raises(Conflict, match="64 unfinished"):
        domain.quarantine.create(ci, size=1)
    assert domain.quarantine.create(domain.actor("ci"), size=1).is_new, "it is a bound of each token"


def test_a_tester_uploads_nothing(domain: Domain):
    with pytest.raises(Forbidden, match="release:publish"):
        domain.quarantine.create(domain.actor("tester"), size=1)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a/b", "C:\\x", "a\0b", "a\r\nX: y", "\u202egpj.exe", "", ".x"]
)
def test_a_name_that_no_system_can_save_is_refused(domain: Domain, ci, name: str):
    with pytest.raises(Invalid, match="file name"):
        domain.quarantine.create(ci, size=1, filename=name)


# -- appending ------------------------------------------------------------------------------------


def test_parts_add_up_to_the_whole(domain: Domain, ci):
    upload_id = begun(domain, ci)
    assert send(domain, ci, upload_id, 0, CONTENT[:30]) is False
    row = domain.upload_row(upload_id)
    assert row is not None
    assert (row.offset, row.status) == (30, UploadStatus.OPEN)
    assert send(domain, ci, upload_id, 30, CONTENT[30:]) is True
    row = domain.upload_row(upload_id)
    assert row is not None
    assert (row.offset, row.status, row.sha256) == (100, UploadStatus.COMPLETE, digest_of(CONTENT))
    assert data(domain, upload_id) == CONTENT


def test_another_process_goes_on_from_the_offset_with_the_right_digest(domain: Domain, ci):
    """It has no running digest of the bytes before, and reads them again."""
    upload_id = begun(domain, ci)
    send(domain, ci, upload_id, 0, CONTENT[:30])
    other = Quarantine(domain.database, domain.layout, domain.settings, domain.clock, domain.failpoints)
    with other.writer(ci, upload_id, offset=30) as writer:
        writer.write(CONTENT[30:])
        assert writer.finish()
    row = domain.upload_row(upload_id)
    assert row is not None
    assert row.sha256 == digest_of(CONTENT)


@pytest.mark.parametrize("offset", [0, 29, 31, 100, 10**15])
def test_another_offset_than_the_durable_one_is_refused_and_changes_nothing(domain: Domain, ci, offset: int):
    upload_id = begun(domain, ci)
    send(domain, ci, upload_id, 0, CONTENT[:30])
    with pytest.raises(OffsetMismatch) as refused:
        send(domain, ci, upload_id, offset, b"xxx")
    assert refused.value.extra == {"expected_offset": 30, "provided_offset": offset}
    assert data(domain, upload_id) == CONTENT[:30]


def test_more_than_was_announced_is_refused_and_the_upload_can_go_on(domain: Domain, ci):
    upload_id = begun(domain, ci)
    send(domain, ci, upload_id, 0, CONTENT[:30])
    with pytest.raises(TooLarge, match="announced 100"):
        send(domain, ci, upload_id, 30, CONTENT[30:] + b"!")
    row = domain.upload_row(upload_id)
    assert row is not None
    assert row.offset == 30
    assert send(domain, ci, upload_id, 30, CONTENT[30:])


def test_what_lies_behind_the_offset_after_a_crash_is_cut_off(domain: Domain, ci):
    upload_id = begun(domain, ci)
    send(domain, ci, upload_id, 0, CONTENT[:30])
    with domain.quarantine.path(upload_id).open("ab") as file:
        file.write(b"not acknowledged")
    assert send(domain, ci, upload_id, 30, CONTENT[30:])
    assert data(domain, upload_id) == CONTENT


def test_a_connection_that_breaks_keeps_what_came(domain: Domain, ci):
    upload_id = begun(domain, ci)
    with suppress(ConnectionError), domain.quarantine.writer(ci, upload_id, offset=0) as writer:
        writer.write(CONTENT[:42])
        raise ConnectionError
    row = domain.upload_row(upload_id)
    assert row is not None
    assert row.offset == 42
    assert send(domain, ci, upload_id, 42, CONTENT[42:])


def test_a_whole_body_replaces_what_was_there(domain: Domain, ci):
    upload_id = begun(domain, ci)
    send(domain, ci, upload_id, 0, b"wrong start")
    assert send(domain, ci, upload_id, None, CONTENT)
    assert data(domain, upload_id) == CONTENT


def test_other_bytes_than_announced_are_dropped_at_once(domain: Domain, ci):
    upload_id = begun(domain, ci)
    with pytest.raises(DigestMismatch) as refused:
        send(domain, ci, upload_id, 0, CONTENT[::-1])
    assert refused.value.extra == {"expected": digest_of(CONTENT), "actual": digest_of(CONTENT[::-1])}
    assert domain.upload_row(upload_id) is None
    assert not domain.layout.upload(upload_id).exists()


def test_of_two_writers_one_has_to_wait(domain: Domain, ci):
    upload_id = begun(domain, ci)
    with domain.quarantine.writer(ci, upload_id, offset=0) as writer:
        writer.write(CONTENT[:10])
        with pytest.raises(Locked):
            send(domain, ci, upload_id, 0, b"x")
        writer.write(CONTENT[10:])
        assert writer.finish()
    assert data(domain, upload_id) == CONTENT


def test_a_complete_upload_takes_no_more_bytes(domain: Domain, ci):
    upload = domain.upload(ci, CONTENT)
    with pytest.raises(Gone, match="complete"):
        domain.quarantine.writer(ci, upload.id, offset=100)


def test_a_full_disk_says_so_and_the_upload_goes_on_afterwards(domain: Domain, ci, monkeypatch):
    upload_id = begun(domain, ci)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", _full)
    with pytest.raises(NoSpace, match="disk is full"):
        send(domain, ci, upload_id, 0, CONTENT)
    monkeypatch.setattr(os, "pwrite", real)
    assert send(domain, ci, upload_id, 0, CONTENT)


def _full(*_arguments: object) -> int:
    raise OSError(28, "No space left on device")


# -- whose bytes ----------------------------------------------------------------------------------


def test_an_upload_of_another_token_does_not_exist(domain: Domain, ci):
    upload_id = begun(domain, ci)
    for call in (domain.quarantine.get, domain.quarantine.remove):
        with pytest.raises(NotFound):
            call(domain.actor("admin"), upload_id)
    with pytest.raises(NotFound):
        domain.quarantine.writer(domain.actor("ci"), upload_id, offset=0)


@pytest.mark.parametrize("upload_id", ["", "upl_", "../../etc", "upl_" + "0" * 26, "x" * 5000, "upl_\0"])
def test_an_id_that_is_none_reads_as_not_found(domain: Domain, ci, upload_id: str):
    with pytest.raises(NotFound):
        domain.quarantine.get(ci, upload_id)


def test_bytes_that_are_here_already_are_not_sent_again(domain: Domain, ci):
    domain.published(ci, "notes", "1.0", CONTENT)
    again = domain.quarantine.create(ci, size=100, sha256=digest_of(CONTENT)).upload
    assert (again.status, again.deduplicated, again.offset) == (UploadStatus.COMPLETE, True, 100)
    release_id = domain.published(ci, "notes", "1.1", CONTENT)
    assert domain.artifacts(release_id)[0].deduplicated is True
    assert len(list(domain.store.digests())) == 1


def test_nobody_learns_from_a_digest_what_others_have(domain: Domain, ci):
    domain.published(domain.actor("ci", apps=["secret"]), "secret", "1.0", CONTENT)
    answer = domain.quarantine.create(ci, size=100, sha256=digest_of(CONTENT)).upload
    assert (answer.status, answer.deduplicated, answer.offset) == (UploadStatus.OPEN, False, 0)
    release_id = domain.published(ci, "notes", "1.0", CONTENT)
    assert domain.artifacts(release_id)[0].deduplicated is True, "stored once all the same"
    assert len(list(domain.store.digests())) == 1


def test_a_digest_with_another_size_is_not_known(domain: Domain, ci):
    domain.published(ci, "notes", "1.0", CONTENT)
    assert not domain.quarantine.create(ci, size=99, sha256=digest_of(CONTENT)).upload.deduplicated


def test_a_blob_that_was_lost_is_asked_for_again_and_heals_the_store(domain: Domain, ci):
    first = domain.published(ci, "notes", "1.0", CONTENT)
    domain.layout.blob(digest_of(CONTENT)).unlink()
    assert not domain.quarantine.create(ci, size=100, sha256=digest_of(CONTENT)).upload.deduplicated
    domain.published(ci, "notes", "1.1", CONTENT)
    assert domain.store.verify(digest_of(CONTENT))
    assert domain.artifacts(first)[0].sha256 == digest_of(CONTENT)


def test_the_same_digest_sent_by_many_at_once_is_stored_once(domain: Domain):
    for number in range(4):
        domain.app(f"app{number}")
    actors = [domain.actor("ci", apps=[f"app{number}"]) for number in range(4)]
    ids = in_threads(4, lambda n: domain.submitted(actors[n], f"app{n}", "1.0", {"a.bin": CONTENT}))
    domain.work()
    assert [domain.release(release_id).status for release_id in ids] == ["published"] * 4
    assert list(domain.store.digests()) == [digest_of(CONTENT)]


# -- going on, giving up, expiry ------------------------------------------------------------------


def test_a_client_that_starts_anew_goes_on_with_its_upload(domain: Domain, ci):
    upload_id = begun(domain, ci)
    send(domain, ci, upload_id, 0, CONTENT[:60])
    created = domain.quarantine.create(ci, size=100, sha256=digest_of(CONTENT))
    assert (created.upload.id, created.upload.offset, created.is_new) == (upload_id, 60, False)
    fresh = domain.quarantine.create(ci, size=100, sha256=digest_of(CONTENT), fresh=True)
    assert (fresh.is_new, fresh.upload.offset) == (True, 0)


def test_an_upload_whose_bytes_were_lost_is_begun_anew(domain: Domain, ci):
    upload_id = begun(domain, ci)
    domain.quarantine.drop_files(upload_id)
    with pytest.raises(Gone, match="bytes of this upload are gone"):
        send(domain, ci, upload_id, 0, b"x")
    assert domain.quarantine.create(ci, size=100, sha256=digest_of(CONTENT)).is_new


def test_an_upload_that_is_given_up_is_gone(domain: Domain, ci):
    upload_id = begun(domain, ci)
    domain.quarantine.remove(ci, upload_id)
    assert domain.upload_row(upload_id) is None
    assert not domain.layout.upload(upload_id).exists()
    with pytest.raises(NotFound):
        domain.quarantine.remove(ci, upload_id)


def test_an_upload_that_an_artifact_uses_is_not_given_up(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": CONTENT})
    upload_id = domain.artifacts(release_id)[0].upload_id
    assert upload_id is not None
    with pytest.raises(Conflict, match="artifact uses"):
        domain.quarantine.remove(ci, upload_id)
    assert data(domain, upload_id) == CONTENT


def test_an_abandoned_upload_is_gone_first_and_unknown_afterwards(domain: Domain, ci):
    upload_id, kept = begun(domain, ci), begun(domain, ci, b"other")
    domain.clock.move(hours=23)
    send(domain, ci, kept, 0, b"ot")
    domain.clock.move(hours=2)
    with pytest.raises(Gone, match="expired"):
        domain.quarantine.get(ci, upload_id)
    assert domain.quarantine.create(ci, size=100, sha256=digest_of(CONTENT)).is_new
    assert upload_id in domain.quarantine.expire()
    with pytest.raises(NotFound):
        domain.quarantine.get(ci, upload_id)
    assert not domain.layout.upload(upload_id).exists()
    assert send(domain, ci, kept, 2, b"her"), "one that goes on is kept"


def test_complete_bytes_that_no_release_uses_are_dropped_after_a_week(domain: Domain, ci):
    upload = domain.upload(ci, CONTENT)
    domain.clock.move(days=6)
    assert domain.quarantine.expire() == []
    domain.clock.move(days=2)
    assert domain.quarantine.expire() == [upload.id]


def test_the_bytes_of_a_rejection_stay_for_a_re_run_and_then_go(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": b"reject: bad\n"})
    domain.work()
    upload_id = domain.artifacts(release_id)[0].upload_id
    assert upload_id is not None
    domain.clock.move(days=6)
    assert domain.quarantine.expire() == []
    domain.clock.move(days=2)
    assert domain.quarantine.expire() == [upload_id]
    with domain.write(domain.actor("admin")) as operation:
        release.rerun(operation, release_id)
    assert domain.release(release_id).status == "validating"


def test_bytes_left_behind_by_a_crash_after_the_publish_are_dropped(domain: Domain, ci):
    release_id = domain.published(ci, "notes", "1.0", CONTENT)
    upload_id = domain.artifacts(release_id)[0].upload_id
    assert upload_id is not None
    domain.layout.upload(upload_id).mkdir()
    (domain.layout.upload(upload_id) / "data").write_bytes(CONTENT)
    assert domain.quarantine.expire() == [upload_id]
    assert domain.store.verify(digest_of(CONTENT))


def test_litter_without_a_row_goes_after_an_hour_and_what_check_put_there_stays(domain: Domain):
    litter = domain.layout.upload("upl_" + "0" * 26)
    litter.mkdir()
    corrupt = domain.layout.quarantine / ("corrupt-" + "a" * 64)
    corrupt.write_bytes(b"to be looked at")
    now = domain.clock().timestamp()
    os.utime(litter, (now - 60, now - 60))
    os.utime(corrupt, (now - 10**6, now - 10**6))
    assert domain.quarantine.expire() == []
    os.utime(litter, (now - 7200, now - 7200))
    assert domain.quarantine.expire() == [litter.name]
    assert not litter.exists()
    assert corrupt.read_bytes() == b"to be looked at"


def test_bytes_that_two_drafts_use_stay_until_the_last_one_lets_go(domain: Domain, ci):
    first = domain.draft(ci, "notes", "1.0", {"a.bin": CONTENT})
    upload_id = domain.artifacts(first)[0].upload_id
    assert upload_id is not None
    second = domain.draft(ci, "notes", "2.0", {})
    with domain.write(ci) as operation:
        draft.add_artifact(operation, second, draft.NewArtifact("any", "a.bin", upload_id))
    with domain.write(ci) as operation:
        draft.discard(operation, first)
    assert data(domain, upload_id) == CONTENT
    with domain.write(ci) as operation:
        draft.discard(operation, second)
    assert not domain.layout.upload(upload_id).exists()
