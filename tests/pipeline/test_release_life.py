"""④ A release from its draft to its end, and what may still happen to it then."""

import json

import pytest

from pipeline import channel, draft, moving, release
from pipeline.errors import Conflict, Forbidden, Immutable, Invalid, NotFound
from pipeline.models import Release
from pipeline.states import (
    ARTIFACT_MOVES,
    JOB_MOVES,
    RELEASE_MOVES,
    ArtifactStatus,
    JobStatus,
    ReleaseStatus,
    StateConflict,
    Step,
    move,
)
from tests.support.domain import Domain, digest_of, in_threads

FOUR = (
    Step.HASH,
    Step.INSPECT,
    Step.POLICY,
    Step.STORE,
)  # the built-in key signs: nothing waits for a signature
GOOD, BAD = b"fine\n", b"reject: it is broken\n"


@pytest.fixture
def ci(domain: Domain):
    domain.app("notes")
    return domain.actor("ci", apps=["notes"])


def steps(domain: Domain, release_id: str) -> list[tuple[Step, JobStatus]]:
    return [(job.step, job.status) for job in domain.jobs(release_id)]


def test_every_job_of_every_artifact_succeeds_and_the_release_is_published(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": GOOD, "b.bin": b"more\n"})
    assert domain.release(release_id).status is ReleaseStatus.VALIDATING
    domain.work()
    row = domain.release(release_id)
    assert (row.status, row.published_at) == (ReleaseStatus.PUBLISHED, domain.clock())
    assert steps(domain, release_id) == [(step, JobStatus.SUCCEEDED) for step in FOUR] * 2
    assert {artifact.status for artifact in domain.artifacts(release_id)} == {ArtifactStatus.STORED}
    assert set(domain.store.digests()) == {digest_of(GOOD), digest_of(b"more\n")}
    assert not list(domain.layout.quarantine.iterdir()), "nothing is left in quarantine"
    assert domain.events("release.published") == 1


def test_nothing_enters_the_store_before_the_last_artifact_has_passed(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": GOOD, "b.bin": BAD})
    domain.work()
    row = domain.release(release_id)
    assert row.status is ReleaseStatus.REJECTED
    assert list(domain.store.digests()) == []
    assert row.published_at is None
    assert row.failure is not None
    assert (row.failure["code"], row.failure["remedy"]) == ("validation_failed", "Mend it.")
    assert "b.bin" in row.failure["detail"]
    assert "it is broken" in row.failure["detail"]
    good, bad = domain.artifacts(release_id)
    assert (good.status, bad.status) == (ArtifactStatus.PENDING, ArtifactStatus.REJECTED)
    assert domain.events("release.rejected") == 1
    assert domain.events("release.published") == 0


def test_all_reasons_come_at_once(domain: Domain, ci):
    release_id = domain.submitted(
        ci, "notes", "1.0", {"a.bin": b"reject: first, second\n", "b.bin": b"reject: third\n"}
    )
    domain.work()
    failure = domain.release(release_id).failure
    assert failure is not None
    assert "(and 2 more findings)" in failure["detail"]
    findings = [finding["message"] for job in domain.jobs(release_id) for finding in job.findings or ()]
    assert len(findings) == 3


def test_what_nobody_can_judge_is_not_accepted(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": b"inconclusive: too odd\n"})
    domain.work()
    row = domain.release(release_id)
    assert row.status is ReleaseStatus.REJECTED
    assert row.failure is not None
    assert row.failure["code"] == "inspection_inconclusive"
    assert list(domain.store.digests()) == []


def test_a_rejected_release_that_is_run_again_is_still_rejected(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": BAD}, channel_name="beta")
    domain.work()
    with domain.write(domain.actor("admin")) as operation:
        release.rerun(operation, release_id)
    assert domain.release(release_id).status is ReleaseStatus.VALIDATING
    domain.work()
    assert domain.release(release_id).status is ReleaseStatus.REJECTED
    assert list(domain.store.digests()) == []
    with domain.read(ci) as operation, pytest.raises(NotFound):
        channel.find(operation, "notes", "beta")


def test_a_re_run_after_the_cause_is_gone_publishes(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": GOOD, "b.bin": b"inconclusive: no memory\n"})
    domain.work()
    assert domain.release(release_id).status is ReleaseStatus.REJECTED
    domain.inspector.has_learned = True
    with domain.write(domain.actor("admin")) as operation:
        release.rerun(operation, release_id)
    domain.work()
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED
    assert len(list(domain.store.digests())) == 2


@pytest.mark.parametrize("role", ["ci", "tester"])
def test_a_re_run_needs_its_right(domain: Domain, ci, role: str):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": BAD})
    domain.work()
    with pytest.raises(Forbidden, match="release:rerun"), domain.write(domain.actor(role)) as operation:
        release.rerun(operation, release_id)


def test_only_a_rejected_release_can_be_run_again(domain: Domain, ci):
    release_id = domain.published(ci, "notes", "1.0")
    with (
        pytest.raises(Conflict, match="only a rejected one") as refused,
        domain.write(domain.actor("admin")) as operation,
    ):
        release.rerun(operation, release_id)
    assert refused.value.remedy == "Nothing is left to do: all its jobs succeeded."


def test_a_rejected_version_can_be_opened_again_with_other_bytes(domain: Domain, ci):
    first = domain.submitted(ci, "notes", "1.0", {"a.bin": BAD})
    domain.work()
    with domain.write(ci) as operation:
        same, new = draft.open_release(operation, "notes", version="1.0")
        assert (same.id, new) == (first, False)
    second = domain.draft(ci, "notes", "1.0", {"a.bin": GOOD}, supersede=first)
    assert second != first
    with domain.write(ci) as operation:
        release.submit(operation, second)
    domain.work()
    assert domain.release(second).status is ReleaseStatus.PUBLISHED
    assert domain.release(first).status is ReleaseStatus.REJECTED
    with pytest.raises(Conflict, match="opened again"), domain.write(domain.actor("admin")) as operation:
        release.rerun(operation, first)


def test_an_empty_draft_cannot_be_submitted(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {})
    with pytest.raises(Conflict, match="no artifact"), domain.write(ci) as operation:
        release.submit(operation, release_id)
    assert domain.release(release_id).status is ReleaseStatus.DRAFT


def test_submitting_twice_is_the_same_as_once(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": GOOD})
    with domain.write(ci) as operation:
        row, moved = release.submit(operation, release_id)
        assert (row.id, moved) == (release_id, False)
    domain.work()
    with domain.write(ci) as operation:
        assert release.submit(operation, release_id)[1] is False
    assert domain.events("release.submitted") == 1
    assert len(domain.jobs(release_id)) == 4


def test_a_published_release_takes_no_artifact_and_loses_none(domain: Domain, ci):
    release_id = domain.published(ci, "notes", "1.0")
    upload = domain.upload(ci, b"late\n")
    artifact = domain.artifacts(release_id)[0]
    before = domain.release(release_id).manifest
    with pytest.raises(Immutable, match="published"), domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, draft.NewArtifact(platform="any", upload_id=upload.id))
    with pytest.raises(Immutable), domain.write(ci) as operation:
        draft.remove_artifact(operation, release_id, artifact.id)
    with pytest.raises(Immutable), domain.write(ci) as operation:
        draft.discard(operation, release_id)
    assert domain.release(release_id).manifest == before
    assert [row.id for row in domain.artifacts(release_id)] == [artifact.id]


def test_the_manifest_says_what_was_published_and_is_canonical(domain: Domain, ci):
    release_id = domain.published(ci, "notes", "1.0", GOOD, build=7)
    text = domain.release(release_id).manifest
    assert text is not None
    manifest = json.loads(text)
    assert json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False) == text
    assert (manifest["app"], manifest["version"], manifest["build"]) == ("notes", "1.0", 7)
    assert [row["sha256"] for row in manifest["artifacts"]] == [digest_of(GOOD)]


def test_a_revoked_release_leaves_its_channels_and_keeps_its_record(domain: Domain, ci):
    old = domain.published(ci, "notes", "1.0", channel_name="beta")
    new = domain.published(ci, "notes", "1.1", channel_name="beta")
    manager = domain.actor("release-manager")
    with domain.write(manager) as operation:
        release.revoke(operation, new, reason=" crashes on start ")
    row = domain.release(new)
    assert (row.status, row.revoke_reason) == (ReleaseStatus.REVOKED, "crashes on start")
    assert row.manifest is not None
    with domain.read(manager) as operation:
        assert channel.find(operation, "notes", "beta")[1].release_id == old
    with domain.write(manager) as operation:
        release.revoke(operation, new, reason="again")
    assert domain.events("release.revoked") == 1
    with pytest.raises(Conflict, match="published releases only"), domain.write(manager) as operation:
        moving.promote(operation, "notes", "beta", new)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 2001])
def test_a_revocation_says_why(domain: Domain, ci, reason: str):
    release_id = domain.published(ci, "notes", "1.0")
    with pytest.raises(Invalid, match="reason"), domain.write(domain.actor("admin")) as operation:
        release.revoke(operation, release_id, reason=reason)
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED


def test_a_draft_cannot_be_revoked(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": GOOD})
    with pytest.raises(Conflict, match="draft"), domain.write(domain.actor("admin")) as operation:
        release.revoke(operation, release_id, reason="why not")


def test_two_workers_that_finish_the_last_two_jobs_together_publish_once(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": GOOD, "b.bin": b"more\n"})
    while not all(job.step is Step.STORE for job in domain.waiting()):
        domain.run(domain.waiting()[0].id)
    last = [job.id for job in domain.waiting()]
    assert len(last) == 2
    in_threads(2, lambda number: domain.run(last[number]))
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED
    assert domain.events("release.published") == 1


def test_bytes_that_change_after_they_were_judged_are_not_published(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": GOOD})
    while domain.waiting()[0].step is not Step.STORE:
        domain.run(domain.waiting()[0].id)
    upload_id = domain.artifacts(release_id)[0].upload_id
    assert upload_id is not None
    domain.layout.upload_data(upload_id).write_bytes(b"evil\n")
    domain.work()
    row = domain.release(release_id)
    assert row.status is ReleaseStatus.REJECTED
    assert row.failure is not None
    assert "changed after they were validated" in row.failure["detail"]
    assert list(domain.store.digests()) == []


def test_bytes_that_rot_in_quarantine_are_found_by_the_hash(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": GOOD})
    upload_id = domain.artifacts(release_id)[0].upload_id
    assert upload_id is not None
    domain.layout.upload_data(upload_id).write_bytes(b"finf\n")
    domain.work()
    first = domain.jobs(release_id)[0]
    assert (first.step, first.status) == (Step.HASH, JobStatus.FAILED)
    assert (first.findings or [{}])[0]["rule"] == "hash.mismatch"


def test_bytes_that_kill_their_inspector_twice_are_refused_for_it(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": b"crash: signal 11\n"})
    domain.work()
    inspect = domain.jobs(release_id)[1]
    assert (inspect.status, inspect.crashes) == (JobStatus.FAILED, 0)
    assert "inspect.died-twice" in {finding["rule"] for finding in inspect.findings or ()}
    assert domain.release(release_id).status is ReleaseStatus.REJECTED


def test_the_loser_of_a_race_is_told_and_writes_nothing(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": GOOD})
    stale = domain.release(release_id)
    with domain.write(ci) as operation:
        release.submit(operation, release_id)
    with domain.database.read() as session:
        seen = session.get_one(Release, release_id)
    assert seen.status is ReleaseStatus.VALIDATING
    with pytest.raises(StateConflict), domain.database.write() as session:
        move(session, stale, ReleaseStatus.VALIDATING)


@pytest.mark.parametrize(
    ("kind", "moves"),
    [(ReleaseStatus, RELEASE_MOVES), (ArtifactStatus, ARTIFACT_MOVES), (JobStatus, JOB_MOVES)],
)
def test_every_state_has_its_moves_and_no_move_leads_out_of_the_table(kind, moves):
    assert set(moves) == set(kind)
    for targets in moves.values():
        assert targets <= set(kind)


def test_a_move_that_is_not_in_the_table_is_a_mistake_of_ours(domain: Domain, ci):
    row = domain.release(domain.draft(ci, "notes", "1.0", {"a.bin": GOOD}))
    with pytest.raises(RuntimeError, match="no move"), domain.database.write() as session:
        move(session, row, ReleaseStatus.PUBLISHED)


def test_a_link_without_a_file_is_published_beside_files(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": GOOD})
    with domain.write(ci) as operation:
        draft.add_artifact(
            operation,
            release_id,
            draft.NewArtifact(
                platform="ios",
                ios={"mode": "testflight", "url": "https://testflight.apple.com/join/AbCdEfGh"},
            ),
        )
        release.submit(operation, release_id)
    domain.work()
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED
    assert [row.status for row in domain.artifacts(release_id)] == [
        ArtifactStatus.STORED,
        ArtifactStatus.LINKED,
    ]


def test_a_platform_that_the_app_does_not_take_breaks_its_policy(domain: Domain):
    domain.app("phone", platforms=["ios", "android"])
    ci = domain.actor("ci")
    release_id = domain.submitted(ci, "phone", "1.0", {"a.bin": GOOD})
    domain.work()
    failure = domain.release(release_id).failure
    assert failure is not None
    assert failure["code"] == "policy_failed"
    assert "dist app set" in failure["remedy"]


def test_two_artifacts_that_turn_out_to_have_one_slot_are_refused(domain: Domain, ci):
    uploads = [domain.upload(ci, content).id for content in (b"one\n", b"two\n")]
    with domain.write(ci) as operation:
        row, _ = draft.open_release(operation, "notes", version="1.0")
        for number, upload_id in enumerate(uploads):
            draft.add_artifact(
                operation, row.id,
                draft.NewArtifact(platform="linux", filename=f"{number}.bin", upload_id=upload_id),
            )  # fmt: skip
        release.submit(operation, row.id)
    domain.work()
    failure = domain.release(row.id).failure
    assert failure is not None
    assert (failure["code"], failure["remedy"][:4]) == ("policy_failed", "Give")


def test_each_manifest_names_the_one_of_the_release_published_before(domain: Domain, ci):
    first = domain.published(ci, "notes", "1.0")
    domain.clock.move(days=-1)  # a clock that was set back decides nothing
    second = domain.published(ci, "notes", "1.1")
    with domain.write(domain.actor()) as operation:
        release.revoke(operation, second, reason="broken")
    third = domain.published(ci, "notes", "1.2")
    texts = [domain.release(one).manifest or "" for one in (first, second, third)]
    named = [json.loads(text)["previous"] for text in texts]
    assert named[0] is None
    assert [row["release"] for row in named[1:]] == [first, second]
    assert [row["manifest_sha256"] for row in named[1:]] == [digest_of(text.encode()) for text in texts[:2]]
