"""The queue's rows: claimed once, fenced, kept alive, swept up, tried again, given up."""

from datetime import timedelta

import pytest

from pipeline import jobs, release
from pipeline.failpoints import FailPoints
from pipeline.jobs import ATTEMPTS_MAX, CRASHES_MAX, WorkerLock, is_dead
from pipeline.models import Job, Worker
from pipeline.states import JobStatus, ReleaseStatus, Step
from pipeline.validation import Fenced
from pipeline.values import new_id
from tests.support.domain import LEASE_SECONDS, Domain, in_threads


@pytest.fixture
def release_id(domain: Domain) -> str:
    domain.app("notes")
    return domain.submitted(domain.actor("ci"), "notes", "1.0", {"a.bin": b"fine\n"})


def first(domain: Domain, release_id: str) -> str:
    return domain.jobs(release_id)[0].id


def sweep(domain: Domain, *dead: str) -> jobs.Swept:
    """As `workers.schedule` does: what ended as errored brings its release to an end."""
    with domain.write() as operation:
        swept = jobs.sweep(operation.session, now=operation.now, settings=domain.settings, dead_workers=dead)
        for job in swept.errored:
            release.advance(operation, job.release_id, signed_outside=False)
    return swept


def is_work_left(domain: Domain, *dead: str) -> bool:
    with domain.database.read() as session:
        return jobs.work_is_left(session, domain.clock(), domain.settings, dead)


def beat(domain: Domain, claim: jobs.Claim, seconds: float = LEASE_SECONDS) -> bool:
    with domain.database.write() as session:
        return jobs.heartbeat(session, claim, lease_seconds=seconds, progress=7)


def test_of_many_workers_that_hear_the_bell_one_gets_the_job(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    claims = in_threads(6, lambda number: domain.claim(job_id, f"wrk_{number}"))
    [won] = [claim for claim in claims if claim is not None]
    row = domain.job(job_id)
    assert (row.status, row.generation, row.attempts) == (JobStatus.RUNNING, 1, 1)
    assert (won.generation, won.step, won.attempt) == (1, Step.HASH, 1)


def test_a_bell_for_a_job_that_is_done_or_was_never_there_is_nothing(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    domain.work()
    assert domain.claim(job_id) is None
    assert domain.claim("job_unknown") is None
    assert domain.job(job_id).attempts == 1


def test_bells_three_times_and_backwards_come_to_the_same_end(domain: Domain, release_id: str):
    seen: list[str] = []
    while waiting := domain.waiting():
        seen.append(waiting[0].id)
        for job_id in reversed(seen * 3):
            claim = domain.claim(job_id)
            if claim is not None:
                domain.validation.run(claim, lambda _percent: None)
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED
    assert {job.attempts for job in domain.jobs(release_id)} == {1}
    assert domain.events("release.published") == 1


def test_a_job_that_pauses_is_not_claimed_early(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    claim = domain.claim(job_id)
    assert claim is not None
    domain.validation.try_again(claim, "EIO")
    assert domain.claim(job_id) is None
    domain.clock.move(seconds=domain.settings.retry_base_seconds)
    again = domain.claim(job_id)
    assert again is not None
    assert (again.generation, again.attempt) == (2, 2)


def test_pauses_double_up_to_ten_minutes_and_then_it_is_an_error_of_ours(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    pauses = []
    for _ in range(ATTEMPTS_MAX):
        claim = domain.claim(job_id)
        assert claim is not None
        domain.validation.try_again(claim, "OSError: [Errno 5] EIO")
        row = domain.job(job_id)
        pauses.append((row.run_after - domain.clock()).total_seconds())
        domain.clock.now = max(domain.clock.now, row.run_after)
    base = domain.settings.retry_base_seconds
    assert pauses[:-1] == [base, base * 2, base * 4, base * 8]
    row = domain.job(job_id)
    assert row.status is JobStatus.ERRORED
    assert "EIO (tried 5 times)" in (row.error or "")
    parent = domain.release(release_id)
    assert parent.status is ReleaseStatus.REJECTED
    assert parent.failure is not None
    assert (parent.failure["code"], release_id in parent.failure["remedy"]) == ("server_error", True)


def test_a_heartbeat_prolongs_the_lease_of_its_own_run_only(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    old = domain.claim(job_id)
    assert old is not None
    until = domain.job(job_id).lease_until
    assert beat(domain, old, LEASE_SECONDS * 10)
    row = domain.job(job_id)
    assert row.lease_until is not None
    assert until is not None
    assert row.lease_until > until
    assert row.progress == 7
    expire(domain, job_id)
    sweep(domain)
    assert not beat(domain, old), "it was taken away"
    new = domain.claim(job_id, "wrk_2")
    assert new is not None
    assert not beat(domain, old), "another has it"
    assert beat(domain, new)


def expire(domain: Domain, job_id: str) -> None:
    """The lease's end comes: nobody can set the clock that it counts on."""
    with domain.database.write() as session:
        session.get_one(Job, job_id).lease_until = jobs.boot_seconds() - 1


def test_a_sleeper_that_was_overtaken_writes_nothing(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    sleeper = domain.claim(job_id, "wrk_slow")
    assert sleeper is not None
    expire(domain, job_id)
    assert sweep(domain).ring == [job_id]
    domain.work()
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED
    with pytest.raises(Fenced):
        domain.validation.run(sleeper, lambda _percent: None)
    for end in (domain.validation.try_again, domain.validation.give_up):
        with pytest.raises(Fenced):
            end(sleeper, "too late")
    assert domain.events("release.published") == 1
    assert domain.job(job_id).status is JobStatus.SUCCEEDED


def test_a_living_lease_is_left_alone(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    assert domain.claim(job_id) is not None
    assert not is_work_left(domain)
    domain.clock.move(days=1)
    assert not is_work_left(domain), "the wall clock frees nothing"
    assert sweep(domain).ring == []
    assert domain.job(job_id).status is JobStatus.RUNNING


def test_a_clock_that_goes_back_frees_nothing_either(domain: Domain, release_id: str):
    assert domain.claim(first(domain, release_id)) is not None
    domain.clock.move(hours=-1)
    assert sweep(domain).ring == []


def test_what_a_dead_worker_held_is_free_at_once(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    assert domain.claim(job_id, "wrk_dead") is not None
    assert is_work_left(domain, "wrk_dead")
    assert sweep(domain, "wrk_dead").ring == [job_id]
    row = domain.job(job_id)
    assert (row.status, row.crashes, row.worker_id) == (JobStatus.QUEUED, 1, None)
    assert "wrk_dead" in (row.error or "")


def test_a_reboot_frees_every_lease(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    assert domain.claim(job_id) is not None
    with domain.database.write() as session:
        session.get_one(Job, job_id).boot_id = "before the reboot"
    assert is_work_left(domain)
    assert sweep(domain).ring == [job_id]


def test_a_job_that_kills_its_worker_three_times_ends_with_that_reason(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    for number in range(CRASHES_MAX):
        domain.clock.now = max(domain.clock.now, domain.job(job_id).run_after)
        assert domain.claim(job_id, f"wrk_{number}") is not None
        swept = sweep(domain, f"wrk_{number}")
    assert [job.id for job in swept.errored] == [job_id]
    row = domain.job(job_id)
    assert row.status is JobStatus.ERRORED
    assert "3 times" in (row.error or "")
    assert "wrk_2" in (row.error or "")
    parent = domain.release(release_id)
    assert parent.status is ReleaseStatus.REJECTED, "never stuck in validating"
    with domain.write(domain.actor("admin")) as operation:
        release.rerun(operation, release_id, job_id=job_id)
    assert (domain.job(job_id).crashes, domain.job(job_id).attempts) == (0, 0)
    domain.work()
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED


def test_a_worker_that_stops_on_purpose_counts_as_nothing(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    for _ in range(CRASHES_MAX + ATTEMPTS_MAX):
        claim = domain.claim(job_id)
        assert claim is not None
        with domain.database.write() as session:
            jobs.give_back(session, claim, now=domain.clock())
    row = domain.job(job_id)
    assert (row.status, row.attempts, row.crashes) == (JobStatus.QUEUED, 0, 0)
    with pytest.raises(Fenced):
        domain.validation.run(claim, lambda _percent: None)
    assert sweep(domain).ring == [job_id], "it is rung for at once"


def test_a_bell_that_nobody_heard_is_rung_again_and_not_before_its_time(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    assert not is_work_left(domain)
    domain.clock.move(seconds=domain.settings.ring_again_seconds + 1)
    assert is_work_left(domain)
    assert sweep(domain).ring == [job_id]
    assert sweep(domain).ring == [], "once for each time"


def test_an_idle_system_has_no_work_left(domain: Domain, release_id: str):
    domain.work()
    domain.clock.move(days=30)
    assert not is_work_left(domain)


def test_two_sweeps_at_once_count_a_crash_once(domain: Domain, release_id: str):
    job_id = first(domain, release_id)
    assert domain.claim(job_id, "wrk_dead") is not None
    answers = in_threads(4, lambda _number: sweep(domain, "wrk_dead").ring)
    assert sorted(answers, key=len) == [[], [], [], [job_id]]
    assert domain.job(job_id).crashes == 1


def test_the_lock_of_a_worker_tells_whether_it_lives(domain: Domain):
    worker_id = new_id("wrk")
    assert is_dead(domain.layout, worker_id)
    lock = WorkerLock(domain.layout, worker_id)
    assert not is_dead(domain.layout, worker_id)
    lock.release()
    assert is_dead(domain.layout, worker_id)
    assert not domain.layout.worker_lock(worker_id).exists()


def test_a_worker_is_listed_until_it_retires(domain: Domain):
    now = domain.clock()
    with domain.database.write() as session:
        jobs.register(
            session,
            Worker(id="wrk_1", host="nas", pid=7, concurrency=2, started_at=now, heartbeat_at=now),
        )
        jobs.beat(session, "wrk_1", now + timedelta(seconds=10))
    with domain.database.read() as session:
        [worker] = jobs.registered(session)
        assert worker.heartbeat_at - worker.started_at == timedelta(seconds=10)
    with domain.database.write() as session:
        jobs.retire(session, "wrk_1", now)
    with domain.database.read() as session:
        assert jobs.registered(session) == []


POINTS = ["hash.middle", "hash.commit", "inspect.middle", "inspect.commit", "policy.commit", "store.middle",
          "store.linked", "store.commit"]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_a_fault_at_any_point_leaves_the_old_state_and_the_next_run_ends_well(
    domain: Domain, release_id: str, point: str
):
    broken = FailPoints(f"{point}=error", domain.layout.run / "failpoints")
    domain.validation._failpoints = broken
    domain.work()
    assert domain.release(release_id).status is ReleaseStatus.PUBLISHED
    assert sum(job.attempts for job in domain.jobs(release_id)) == 5
    assert domain.events("release.published") == 1
    assert len(list(domain.store.digests())) == 1
