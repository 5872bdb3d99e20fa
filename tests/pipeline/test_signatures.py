"""Releases whose key is kept outside of the server: a command, a folder for people, and every wrong answer of theirs."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import app_policy, jobs, minisign, release, signatures
from pipeline.access import Actor
from pipeline.database import sqlite
from pipeline.signing_drop import ANSWER, MANIFEST
from pipeline.states import JobStatus, ReleaseStatus, Step
from tests.support.domain import Domain
from workers.schedule import Schedule


def key_of(number: int) -> minisign.SecretKey:
    return minisign.generate(lambda count: bytes([number]) * count)


KEY, OTHER = key_of(1), key_of(2)
# A signer as people write one: it reads the manifest and prints the signature. What it does wrong comes as its first argument.
SIGNER = """
import os, sys, time
sys.path.insert(0, {root!r})
from pipeline import minisign
key = minisign.generate(lambda count: bytes([{number}]) * count)
content = sys.stdin.buffer.read()
{before}
sys.stdout.buffer.write(minisign.sign(key, [content], trusted_comment=sys.argv[1]))
"""
ANEW = "SELECT release_id, 'x', 'x', 'x', 'x' FROM release_signature"
ROOT = str(Path(__file__).parents[2])


def command(folder: Path, before: str = "", *, number: int = 1) -> list[str]:
    script = folder / "signer.py"
    script.write_text(SIGNER.format(root=ROOT, number=number, before=before))
    return [sys.executable, str(script), "{comment}"]


Opening = Callable[..., Domain]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opening]:
    """A domain whose releases are signed outside; opened again, it is the same one with other settings."""
    domains: list[Domain] = []

    def open_domain(**settings: Any) -> Domain:
        domain = Domain(
            tmp_path / "data",
            **({"signing_public_key": KEY.public.line, "retry_base_seconds": 0.01} | settings),
        )
        domains.append(domain)
        return domain

    yield open_domain
    for domain in domains:
        domain.close()


def by_command(opened: Opening, arguments: list[str], **settings: Any) -> tuple[Domain, Actor]:
    domain = opened(signer="command", signing_command=tuple(arguments), **settings)
    domain.app()
    return domain, domain.actor()


def by_drop(opened: Opening) -> tuple[Domain, Actor]:
    domain = opened(signer="drop")
    domain.app()
    return domain, domain.actor()


def sign_job(domain: Domain, release_id: str) -> Any:
    return next(job for job in domain.jobs(release_id) if job.step is Step.SIGN)


def signature_of(domain: Domain, release_id: str) -> Any:
    with domain.database.read() as session:
        return signatures.of(session, domain.release(release_id))


def until_it_waits(domain: Domain, actor: Actor, version: str) -> str:
    """Submitted, and run until nothing is left but the wait."""
    release_id = domain.submitted(actor, "notes", version, {"a.bin": version.encode()})
    for _ in range(20):
        waiting = [job for job in domain.waiting() if job.run_after <= domain.clock.now]
        if not waiting:
            return release_id
        domain.run(waiting[0].id)
    raise AssertionError("it never came to wait")


def run_due(domain: Domain) -> None:
    for _ in range(20):
        due = [job for job in domain.waiting() if job.run_after <= domain.clock.now]
        if not due:
            return
        domain.run(due[0].id)
    raise AssertionError(f"still due: {domain.waiting()}")


def look(domain: Domain) -> None:
    """What every worker does beside its jobs."""
    Schedule(
        database=domain.database,
        layout=domain.layout,
        quarantine=domain.quarantine,
        collector=None,  # type: ignore[arg-type]  # not its turn
        settings=domain.settings,
        clock=domain.clock,
        worker_id="wrk_1",
        ring=lambda _job_id: True,
    ).look_at_drop()
    run_due(domain)


def to_sign(domain: Domain) -> list[Path]:
    return sorted(domain.layout.signing.glob(f"*{MANIFEST}"))


def signed(manifest: Path, key: minisign.SecretKey = KEY) -> bytes:
    comment = manifest.with_suffix(".comment").read_text().strip()
    return minisign.sign(key, [manifest.read_bytes()], trusted_comment=comment)


def drop(
    domain: Domain, manifest: Path, content: bytes | None = None, *, key: minisign.SecretKey = KEY
) -> Path:
    answer = manifest.with_name(manifest.name + ".minisig")
    answer.write_bytes(content or signed(manifest, key))
    return answer


# -- a command --------------------------------------------------------------------------------------


def test_a_command_signs_exactly_what_is_served(opened: Opening, tmp_path: Path):
    domain, actor = by_command(opened, command(tmp_path))
    release_id = domain.published(actor, "notes", "1.0")
    row, manifest = signature_of(domain, release_id), domain.release(release_id).manifest
    assert manifest == row.manifest
    assert row.public_key == KEY.public.line
    signature = minisign.parse_signature(row.signature.encode())
    assert minisign.verify(KEY.public, signature, [manifest.encode()]) is None
    assert signature.trusted_comment.decode() == f"distd app:notes version:1.0 release:{release_id}"
    assert [domain.events(f"signature.{what}") for what in ("requested", "taken", "refused")] == [1, 1, 0]


def test_debians_minisign_is_such_a_command(opened: Opening, tmp_path: Path):
    program = shutil.which("minisign")
    assert program is not None, "apt-get install minisign"
    public, secret = tmp_path / "key.pub", tmp_path / "key.sec"
    subprocess.run(
        [program, "-G", "-W", "-p", public, "-s", secret], check=True, capture_output=True, timeout=60
    )
    arguments = [program, "-S", "-s", str(secret), "-m", "{file}", "-x", "/dev/stdout", "-t", "{comment}"]
    line = minisign.parse_public_key(public.read_bytes()).line
    domain, actor = by_command(opened, arguments, signing_public_key=line)
    release_id = domain.published(actor, "notes", "1.0")
    served, beside = tmp_path / "manifest.json", tmp_path / "manifest.json.minisig"
    served.write_text(domain.release(release_id).manifest or "")
    beside.write_text(signature_of(domain, release_id).signature)
    subprocess.run(
        [program, "-V", "-p", public, "-m", served, "-x", beside], check=True, capture_output=True, timeout=60
    )


FAILING = {
    "hangs": ("time.sleep(600)", "was not done within"),
    "leaves a child that hangs": (
        "if os.fork() == 0: time.sleep(600)\nelse: os._exit(0)",
        "was not done within",
    ),
    "prints without end": (
        "while True: sys.stdout.buffer.write(b'x' * 1000000)",
        "printed more than 16 KiB",
    ),
    "complains without end": ("while True: sys.stderr.write('x' * 1000000)", "printed more than 1024 KiB"),
    "says no": ("sys.exit('the token is locked')", "exit code 1: the token is locked"),
    "is killed": ("os.kill(os.getpid(), 9)", "signal 9"),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_command_that_fails_is_ours_to_run_again(opened: Opening, tmp_path: Path, name: str):
    before, why = FAILING[name]
    domain, actor = by_command(opened, command(tmp_path, before), signing_seconds=1.0)
    release_id = until_it_waits(domain, actor, "1.0")
    job = sign_job(domain, release_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 1)
    assert why in job.error
    assert domain.release(release_id).manifest is None
    assert signature_of(domain, release_id) is None
    assert list(domain.layout.run.glob("sign-*")) == []


def test_a_command_that_is_not_there_ends_as_errored_and_is_run_again_by_a_person(
    opened: Opening, tmp_path: Path
):
    domain, actor = by_command(opened, [str(tmp_path / "nowhere")])
    release_id = domain.submitted(actor, "notes", "1.0", {"a.bin": b"a"})
    domain.work()
    failure = domain.release(release_id).failure
    assert failure is not None
    assert "cannot be run (No such file or directory)" in failure["detail"]
    assert "dist release rerun" in failure["remedy"]
    mended = opened(signer="command", signing_command=tuple(command(tmp_path)))
    with mended.write(actor) as operation:
        release.rerun(operation, release_id)
    mended.work()
    assert mended.release(release_id).status is ReleaseStatus.PUBLISHED


REFUSED = {
    "garbage": ("print('signed!'); sys.exit(0)", 1, "sign.malformed"),
    "nothing": ("sys.exit(0)", 1, "sign.malformed"),
    "another file": ("content = b'another'", 1, "sign.other-bytes"),
    "another key": ("", 2, "sign.wrong-key"),
    "an edited comment": (
        "sys.stdout.buffer.write(minisign.sign(key, [content], trusted_comment='a').replace(b'comment: a', b'comment: b')); sys.exit(0)",
        1,
        "sign.bad-comment",
    ),
    "no text": ("sys.stdout.buffer.write(bytes(range(256))); sys.exit(0)", 1, "sign.malformed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_answer_that_is_not_the_signature_is_refused_and_on_record(
    opened: Opening, tmp_path: Path, name: str
):
    before, number, rule = REFUSED[name]
    domain, actor = by_command(opened, command(tmp_path, before, number=number))
    release_id = domain.submitted(actor, "notes", "1.0", {"a.bin": b"a"})
    domain.work()
    job, row = sign_job(domain, release_id), domain.release(release_id)
    assert (job.status, [finding["rule"] for finding in job.findings]) == (JobStatus.ERRORED, [rule])
    assert job.attempts == 1, "the same answer would come again"
    assert (row.status, row.manifest) == (ReleaseStatus.REJECTED, None)
    assert signature_of(domain, release_id) is None
    with domain.plain() as file:
        body = file.execute("SELECT body FROM audit_event WHERE action = 'signature.refused'").fetchone()[0]
    assert json.loads(body)["details"]["rule"] == rule


def test_a_worker_that_is_killed_while_the_command_runs_leaves_nothing_behind(
    opened: Opening, tmp_path: Path
):
    domain, actor = by_command(opened, command(tmp_path))
    release_id = domain.submitted(actor, "notes", "1.0", {"a.bin": b"a"})
    while domain.waiting()[0].step is not Step.SIGN:
        domain.run(domain.waiting()[0].id)
    job_id = domain.waiting()[0].id
    assert domain.claim(job_id, "wrk_dead") is not None
    with domain.write() as operation:  # as far as it came: the manifest is fixed
        asked = release.to_be_signed(operation, release_id)
    domain.clock.move(seconds=30)
    with domain.database.write() as session:
        swept = jobs.sweep(session, now=domain.clock(), settings=domain.settings, dead_workers=["wrk_dead"])
    assert [job.id for job in swept.freed] == [job_id]
    domain.work()
    assert (domain.release(release_id).manifest or "").encode() == asked.manifest, (
        "what was asked for is what is served"
    )


def test_the_folder_of_a_run_whose_worker_was_killed_is_cleared_by_a_later_one(
    opened: Opening, tmp_path: Path
):
    domain, actor = by_command(opened, command(tmp_path))
    old, young = domain.layout.run / "sign-old", domain.layout.run / "sign-young"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (1_700_000_000, 1_700_000_000))
    domain.published(actor, "notes", "1.0")
    assert (old.exists(), young.exists()) == (False, True)


# -- a folder for people ------------------------------------------------------------------------------


def test_a_release_waits_until_its_signature_is_brought(opened: Opening):
    domain, actor = by_drop(opened)
    release_id = until_it_waits(domain, actor, "1.0")
    (manifest,) = to_sign(domain)
    job = sign_job(domain, release_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert f"waits for the signature of {manifest.name}" in job.error
    assert domain.release(release_id).status is ReleaseStatus.VALIDATING
    assert manifest.stem == hashlib.sha256(manifest.read_bytes()).hexdigest()
    content = manifest.read_bytes()
    look(domain)
    assert domain.release(release_id).status is ReleaseStatus.VALIDATING
    domain.clock.move(hours=30)
    drop(domain, manifest)
    look(domain)
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED
    assert (domain.release(release_id).manifest or "").encode() == content
    assert list(domain.layout.signing.glob("*.*")) == []


def test_two_releases_that_wait_are_signed_one_after_the_other_and_stay_one_chain(opened: Opening):
    domain, actor = by_drop(opened)
    first, second = until_it_waits(domain, actor, "1.0"), until_it_waits(domain, actor, "2.0")
    assert f"waits until {first} is signed" in sign_job(domain, second).error
    (manifest,) = to_sign(domain)
    drop(domain, manifest)
    look(domain)
    assert [domain.release(one).status.value for one in (first, second)] == ["published", "validating"]
    (manifest,) = to_sign(domain)
    drop(domain, manifest)
    look(domain)
    texts = [domain.release(one).manifest or "" for one in (first, second)]
    assert json.loads(texts[1])["previous"] == {
        "release": first,
        "manifest_sha256": hashlib.sha256(texts[0].encode()).hexdigest(),
    }


def test_releases_of_two_apps_do_not_wait_for_each_other(opened: Opening):
    domain, actor = by_drop(opened)
    domain.app("other")
    until_it_waits(domain, actor, "1.0")
    domain.submitted(actor, "other", "1.0", {"b.bin": b"b"})
    run_due(domain)
    assert len(to_sign(domain)) == 2


def test_a_release_that_is_not_signed_is_rejected_and_the_next_one_has_its_turn(opened: Opening):
    domain, actor = by_drop(opened)
    first, second = until_it_waits(domain, actor, "1.0"), until_it_waits(domain, actor, "2.0")
    with domain.write() as operation:
        signatures.decline(operation, first, reason="not from a tag")
        release.advance(operation, first, signed_outside=True)
    run_due(domain)
    row = domain.release(first)
    assert row.status is ReleaseStatus.REJECTED
    assert row.failure is not None
    assert "not from a tag" in row.failure["detail"]
    look(domain)
    (manifest,) = to_sign(domain)
    assert json.loads(manifest.read_bytes())["release"] == second
    drop(domain, manifest)
    look(domain)
    assert domain.release(second).status is ReleaseStatus.PUBLISHED


def test_a_chain_that_went_on_is_signed_anew_and_the_old_signature_is_for_nothing(opened: Opening):
    domain, actor = by_drop(opened)
    waiting = until_it_waits(domain, actor, "1.0")
    (old,) = to_sign(domain)
    within = opened()  # the operator changed the settings back to the built-in key, and then again
    release_id = within.draft(actor, "notes", "1.1", {"b.bin": b"b"})
    with within.write(actor) as operation:
        release.submit(operation, release_id)
    for _ in range(10):
        due = [job for job in within.waiting() if job.release_id == release_id]
        if not due:
            break
        within.run(due[0].id)
    assert within.release(release_id).status is ReleaseStatus.PUBLISHED
    drop(domain, old)
    look(domain)
    assert domain.release(waiting).status is ReleaseStatus.VALIDATING
    look(domain)  # what was brought is for a manifest that no longer waits
    assert domain.events("signature.refused") == 1
    (new,) = to_sign(domain)
    assert new.name != old.name
    drop(domain, new)
    look(domain)
    manifest = json.loads(domain.release(waiting).manifest or "")
    assert manifest["previous"]["release"] == release_id


def half(manifest: Path) -> bytes:
    return signed(manifest)[:-30]


def test_a_half_written_signature_is_left_until_it_is_whole(opened: Opening):
    domain, actor = by_drop(opened)
    release_id = until_it_waits(domain, actor, "1.0")
    (manifest,) = to_sign(domain)
    answer = drop(domain, manifest, half(manifest))
    look(domain)
    assert answer.exists()
    assert domain.release(release_id).status is ReleaseStatus.VALIDATING
    drop(domain, manifest)
    look(domain)
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED


def left_half_written(answer: Path, manifest: Path) -> None:
    answer.write_bytes(half(manifest))
    os.utime(answer, (1_700_000_000, 1_700_000_000))


def wrong_key(answer: Path, manifest: Path) -> None:
    answer.write_bytes(signed(manifest, OTHER))


def another_file(answer: Path, _manifest: Path) -> None:
    answer.write_bytes(minisign.sign(KEY, [b"another"], trusted_comment="offline"))


def another_purpose(answer: Path, manifest: Path) -> None:
    answer.write_bytes(minisign.sign(KEY, [manifest.read_bytes()], trusted_comment="a plain file"))


def link(answer: Path, manifest: Path) -> None:
    real = manifest.with_name("real")
    real.write_bytes(signed(manifest))
    answer.symlink_to(real)


def fifo(answer: Path, _manifest: Path) -> None:
    os.mkfifo(answer)


def folder(answer: Path, _manifest: Path) -> None:
    answer.mkdir()


def huge(answer: Path, _manifest: Path) -> None:
    answer.write_bytes(b"x" * (10 << 20))


DROPPED: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "left half-written": (left_half_written, "sign.malformed"),
    "wrong key": (wrong_key, "sign.wrong-key"),
    "another file": (another_file, "sign.other-bytes"),
    "another purpose": (another_purpose, "sign.other-comment"),
    "a link": (link, "sign.not-a-file"),
    "a FIFO": (fifo, "sign.not-a-file"),
    "a folder": (folder, "sign.not-a-file"),
    "10 MB": (huge, "sign.not-a-file"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_dropped_wrongly_is_set_aside_and_the_right_one_is_taken_after_it(opened: Opening, name: str):
    put, rule = DROPPED[name]
    domain, actor = by_drop(opened)
    release_id = until_it_waits(domain, actor, "1.0")
    (manifest,) = to_sign(domain)
    put(manifest.with_name(manifest.name + ".minisig"), manifest)
    look(domain)
    job = sign_job(domain, release_id)
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    assert "waits for another signature" in job.error
    with domain.plain() as file:
        (body,) = file.execute("SELECT body FROM audit_event WHERE action = 'signature.refused'").fetchone()
    assert json.loads(body)["details"]["rule"] == rule
    assert len(list((domain.layout.signing / "refused").iterdir())) == 1
    look(domain)
    assert domain.events("signature.refused") == 1, "it is refused once"
    drop(domain, manifest)
    look(domain)
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED


def test_a_signature_for_nothing_is_set_aside_and_on_record(opened: Opening):
    domain, actor = by_drop(opened)
    until_it_waits(domain, actor, "1.0")
    for name in (f"{'0' * 64}{ANSWER}", "manifest.minisig"):
        (domain.layout.signing / name).write_bytes(minisign.sign(KEY, [b"x"], trusted_comment="offline"))
    look(domain)
    assert domain.events("signature.refused") == 2
    assert list(domain.layout.signing.glob("*.minisig")) == []
    assert len(to_sign(domain)) == 1


def test_a_manifest_that_somebody_edited_in_the_folder_is_laid_out_again(opened: Opening):
    domain, actor = by_drop(opened)
    release_id = until_it_waits(domain, actor, "1.0")
    (manifest,) = to_sign(domain)
    right = manifest.read_bytes()
    manifest.write_bytes(right.replace(b'"1.0"', b'"6.6"'))
    drop(domain, manifest)  # signed as it was found
    look(domain)
    assert domain.events("signature.refused") == 1
    assert manifest.read_bytes() == right
    assert domain.release(release_id).status is ReleaseStatus.VALIDATING


# -- what stays ---------------------------------------------------------------------------------------


def test_the_signature_of_a_published_release_never_changes(opened: Opening, tmp_path: Path):
    domain, actor = by_command(opened, command(tmp_path))
    release_id = domain.published(actor, "notes", "1.0")
    with domain.plain() as file:
        for statement in (
            "UPDATE release_signature SET signature = 'x'",
            "DELETE FROM release_signature",
            f"REPLACE INTO release_signature (release_id, manifest, sha256, comment, requested_at) {ANEW}",
        ):
            with pytest.raises(sqlite.IntegrityError, match="never changes"):
                file.execute(statement)
    assert signature_of(domain, release_id).manifest == domain.release(release_id).manifest


def test_after_a_change_of_keys_what_was_signed_stays_signed_by_the_old_one(opened: Opening, tmp_path: Path):
    domain, actor = by_command(opened, command(tmp_path))
    old = domain.published(actor, "notes", "1.0")
    rotated = opened(
        signer="command",
        signing_command=tuple(command(tmp_path, number=2)),
        signing_public_key=OTHER.public.line,
    )
    new = rotated.published(actor, "notes", "2.0")
    assert signature_of(rotated, old).public_key == KEY.public.line
    assert signature_of(rotated, new).public_key == OTHER.public.line
    with rotated.database.read() as session:
        assert signatures.keys_of(session) == sorted([KEY.public.line, OTHER.public.line])


def test_a_policy_that_changed_while_it_waited_is_asked_once_more_and_nothing_is_signed_for_good(
    opened: Opening,
):
    domain, actor = by_drop(opened)
    release_id = until_it_waits(domain, actor, "1.0")
    with domain.write(actor) as operation:
        app_policy.change(operation, "notes", {"rules": {"no-sbom": "error"}}, expected_revision=0)
    (manifest,) = to_sign(domain)
    drop(domain, manifest)
    look(domain)
    assert domain.release(release_id).status is ReleaseStatus.REJECTED
    assert signature_of(domain, release_id) is None
    assert Step.SIGN not in {job.step for job in domain.jobs(release_id)}


def test_with_the_built_in_key_there_is_no_step_and_no_row(opened: Opening):
    domain = opened()
    domain.app()
    release_id = domain.published(domain.actor(), "notes", "1.0")
    assert {job.step.value for job in domain.jobs(release_id)} == {"hash", "inspect", "policy", "store"}
    assert signature_of(domain, release_id) is None
    assert not domain.layout.signing.exists()


def test_what_waited_when_the_settings_went_back_to_the_built_in_key_is_signed_by_it(opened: Opening):
    domain, actor = by_drop(opened)
    release_id = until_it_waits(domain, actor, "1.0")
    within = opened()
    within.work()
    assert within.release(release_id).status is ReleaseStatus.PUBLISHED
    assert stat.S_IMODE((within.layout.keys / "release.key").stat().st_mode) == 0o600
    line = minisign.parse_public_key((within.layout.keys / "release.pub").read_bytes()).line
    assert signature_of(within, release_id).public_key == line
