"""④ The draft: opened, filled, emptied, discarded."""

import pytest

from pipeline import draft, release
from pipeline.draft import NewArtifact
from pipeline.errors import Conflict, Forbidden, Immutable, Invalid, NotFound
from pipeline.states import ReleaseStatus
from tests.support.domain import Domain, digest_of, in_threads


@pytest.fixture
def ci(domain: Domain):
    domain.app("notes")
    domain.app("other")
    return domain.actor("ci", apps=["notes"])


def opened(domain: Domain, actor, version: str = "1.0", **opening) -> str:
    with domain.write(actor) as operation:
        return draft.open_release(operation, "notes", version=version, **opening)[0].id


def test_an_identity_is_opened_once(domain: Domain, ci):
    first = opened(domain, ci, build=1)
    assert opened(domain, ci, build=1) == first
    assert opened(domain, ci, build=2) != first
    assert opened(domain, ci) != first, "no build is an identity of its own"
    assert domain.events("release.opened") == 3


def test_clients_that_open_the_same_release_at_once_get_the_same_one(domain: Domain, ci):
    ids = in_threads(6, lambda _number: opened(domain, ci, build=1))
    assert len(set(ids)) == 1
    assert domain.events("release.opened") == 1


@pytest.mark.parametrize(
    "opening",
    [
        {"version": ""},
        {"version": "1/2"},
        {"version": "x" * 65},
        {"version": " 1"},
        {"version": ".."},
        {"version": "1\n"},
        {"version": "1", "build": -1},
        {"version": "1", "build": 2**63},
        {"version": "1", "notes": "n" * (2**20 + 1)},
        {"version": "1", "channel_name": "No Such"},
        {"version": "1", "source": {"repo": "x"}},
        {"version": "1", "source": {"repository": "javascript:alert(1)"}},
        {"version": "1", "source": {"ref": "x" * 2001}},
        {"version": "1", "source": {"ref": 7}},
    ],
)
def test_what_makes_no_sense_is_refused_with_a_remedy(domain: Domain, ci, opening):
    with pytest.raises(Invalid) as refused, domain.write(ci) as operation:
        draft.open_release(operation, "notes", **opening)
    assert refused.value.remedy
    assert domain.events("release.opened") == 0


def test_one_mebibyte_of_notes_is_taken(domain: Domain, ci):
    assert opened(domain, ci, notes="n" * 2**20)


def test_a_token_opens_nothing_outside_of_its_scope(domain: Domain, ci):
    with pytest.raises(NotFound), domain.write(ci) as operation:
        draft.open_release(operation, "other", version="1.0")
    with pytest.raises(Forbidden, match="release:publish"), domain.write(domain.actor("tester")) as operation:
        draft.open_release(operation, "notes", version="1.0")
    limited = domain.actor("ci", channels=["beta"])
    with pytest.raises(Forbidden, match="channel:promote"), domain.write(limited) as operation:
        draft.open_release(operation, "notes", version="1.0", channel_name="stable")


def test_the_same_bytes_in_the_same_slot_are_a_no_op(domain: Domain, ci):
    release_id = opened(domain, ci)
    upload = domain.upload(ci, b"x\n")
    with domain.write(ci) as operation:
        first, created = draft.add_artifact(operation, release_id, NewArtifact("any", "a", upload.id))
        assert created
    again = domain.quarantine.create(ci, size=2, fresh=True).upload
    with domain.quarantine.writer(ci, again.id, offset=0) as writer:
        writer.write(b"x\n")
        writer.finish()
    with domain.write(ci) as operation:
        second, created = draft.add_artifact(
            operation, release_id, NewArtifact(platform="any", filename="a", upload_id=again.id)
        )
    assert (second.id, created) == (first.id, False)
    assert domain.upload_row(again.id) is None, "the second upload is of no use"
    assert not domain.layout.upload(again.id).exists()
    assert domain.events("artifact.added") == 1


def test_other_bytes_in_the_same_slot_are_a_conflict(domain: Domain, ci):
    release_id = opened(domain, ci)
    one, two = (domain.upload(ci, content).id for content in (b"one\n", b"two\n"))
    with domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, NewArtifact("any", "a", one))
    with pytest.raises(Conflict, match="other bytes"), domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, NewArtifact("any", "a", two))
    assert [row.sha256 for row in domain.artifacts(release_id)] == [digest_of(b"one\n")]


def test_parallel_jobs_fill_one_draft(domain: Domain, ci):
    release_id = opened(domain, ci)
    uploads = [domain.upload(ci, b"%d\n" % number).id for number in range(6)]

    def add(number: int):
        with domain.write(ci) as operation:
            return draft.add_artifact(
                operation, release_id, NewArtifact("any", f"{number}.bin", uploads[number])
            )[1]

    assert in_threads(6, add) == [True] * 6
    assert len(domain.artifacts(release_id)) == 6


def test_an_upload_of_somebody_else_does_not_exist(domain: Domain, ci):
    release_id = opened(domain, ci)
    upload = domain.upload(domain.actor("ci"), b"x\n")
    with pytest.raises(NotFound, match="no such upload"), domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, NewArtifact("any", "a", upload.id))


def test_an_unfinished_upload_is_not_attached(domain: Domain, ci):
    release_id = opened(domain, ci)
    upload = domain.quarantine.create(ci, size=10).upload
    with pytest.raises(Conflict, match="0 of 10 bytes"), domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, NewArtifact("any", "a", upload.id))


@pytest.mark.parametrize(
    "new",
    [
        {"platform": "amiga"},
        {"platform": "any", "filename": "../../etc/passwd"},
        {"platform": "any", "filename": "C:\\x"},
        {"platform": "any", "filename": "a\0b"},
        {"platform": "any", "filename": "a\u202eb"},
        {"platform": "any", "filename": "nul.txt"},
        {"platform": "any", "filename": "n" * 256},
        {"platform": "any", "filename": ".hidden"},
        {"platform": "any", "arch": "a|b"},
        {"platform": "any", "variant": ""},
        {"platform": "any", "format": "f" * 65},
        {"platform": "any", "ios": {"mode": "artifact"}},
        {"platform": "ios", "ios": {"mode": "jailbreak"}},
        {"platform": "ios", "ios": {"mode": "enterprise", "url": "https://x"}},
        {"platform": "any", "attachment_kind": "virus"},
        {"platform": "any", "upload_id": None},
    ],
)  # fmt: skip
def test_an_artifact_that_makes_no_sense_is_refused(domain: Domain, ci, new):
    release_id = opened(domain, ci)
    upload = domain.upload(ci, b"x\n", filename="a.bin")
    with pytest.raises(Invalid) as refused, domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, NewArtifact(**{"upload_id": upload.id, **new}))
    assert refused.value.remedy
    assert domain.artifacts(release_id) == []


@pytest.mark.parametrize(
    "url",
    [None, "", "https://testflight.apple.com.evil/join/x", "http://testflight.apple.com/x", "javascript:alert(1)",
     "https://testflight.apple.com/join/\n", "https://testflight.apple.com/join/a b", 7],
)  # fmt: skip
def test_a_testflight_link_leads_to_testflight(domain: Domain, ci, url):
    release_id = opened(domain, ci)
    with pytest.raises(Invalid), domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, NewArtifact("ios", ios={"mode": "testflight", "url": url}))


def test_an_attachment_belongs_to_the_release_or_to_one_of_its_artifacts(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": b"x\n"})
    artifact = domain.artifacts(release_id)[0]
    for number, beside in enumerate((None, artifact.id)):
        upload = domain.upload(ci, b"%d\n" % number)
        with domain.write(ci) as operation:
            new = NewArtifact("any", "sbom.json", upload.id, attachment_kind="sbom", attached_to=beside)
            assert draft.add_artifact(operation, release_id, new)[1]
    upload = domain.upload(ci, b"c\n")
    new = NewArtifact("any", "c", upload.id, attachment_kind="other", attached_to="art_x")
    with pytest.raises(NotFound, match="attach to"), domain.write(ci) as operation:
        draft.add_artifact(operation, release_id, new)


def test_what_is_taken_out_lets_its_bytes_go(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": b"x\n", "b.bin": b"y\n"})
    first, second = domain.artifacts(release_id)
    with domain.write(ci) as operation:
        draft.remove_artifact(operation, release_id, first.id)
    assert [row.id for row in domain.artifacts(release_id)] == [second.id]
    assert first.upload_id is not None
    assert not domain.layout.upload(first.upload_id).exists()
    with pytest.raises(NotFound), domain.write(ci) as operation:
        draft.remove_artifact(operation, release_id, first.id)
    assert domain.events("artifact.removed") == 1


def test_a_discarded_draft_leaves_nothing_but_its_record(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": b"x\n"})
    with domain.write(ci) as operation:
        draft.discard(operation, release_id)
    with pytest.raises(NotFound), domain.read(ci) as operation:
        release.find(operation, release_id)
    assert not list(domain.layout.quarantine.iterdir())
    assert domain.events("release.discarded") == 1
    assert opened(domain, ci) != release_id, "its identity is free again"


def test_a_release_that_validates_is_closed(domain: Domain, ci):
    release_id = domain.submitted(ci, "notes", "1.0", {"a.bin": b"x\n"})
    upload = domain.upload(ci, b"late\n")
    for change in (
        lambda operation: draft.add_artifact(operation, release_id, NewArtifact("any", "z", upload.id)),
        lambda operation: draft.discard(operation, release_id),
    ):
        with pytest.raises(Immutable), domain.write(ci) as operation:
            change(operation)
    assert domain.release(release_id).status is ReleaseStatus.VALIDATING
    assert len(domain.artifacts(release_id)) == 1


def test_a_draft_of_another_app_does_not_exist(domain: Domain, ci):
    theirs = domain.draft(domain.actor("ci", apps=["other"]), "other", "1.0", {"a.bin": b"x\n"})
    for call in (
        lambda operation: release.find(operation, theirs),
        lambda operation: release.submit(operation, theirs),
        lambda operation: draft.discard(operation, theirs),
    ):
        with pytest.raises(NotFound), domain.write(ci) as operation:
            call(operation)


def test_a_tester_sees_no_draft(domain: Domain, ci):
    release_id = domain.draft(ci, "notes", "1.0", {"a.bin": b"x\n"})
    with pytest.raises(NotFound), domain.read(domain.actor("tester")) as operation:
        release.find(operation, release_id)
