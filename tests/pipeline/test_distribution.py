"""Identities of the distribution contract: who has one, who gets the next, and what the index says of them."""

import hashlib
import json

import pytest

from pipeline import distribution, distribution_index, draft, release
from pipeline.access import ANONYMOUS, Actor
from pipeline.distribution_index import Stored, Text
from pipeline.errors import Conflict, DomainError, Invalid, NotFound, Unauthorized, Withdrawn
from pipeline.feeds.distribution import Entry, Identity, extension, package, render
from tests.support.domain import Domain

GIT = "ab12cd34" + "0" * 32
CONTRACT = {"target": "x86_64-unknown-linux-gnu", "toolchain": "1.84.0", "git_rev": GIT}
FOLDER = f"1.0.0/0.1.0/{CONTRACT['target']}/release/1.84.0/ab12cd34"


@pytest.fixture
def ci(domain: Domain) -> Actor:
    domain.app("notes")
    return domain.actor("ci", apps=["notes"])


def added(domain: Domain, ci: Actor, build: int, content: bytes = b"", *, version: str = "0.1.0", **contract):
    """A draft with one artifact of the contract; its id."""
    content = content or f"build {build}".encode()
    upload = domain.upload(ci, content, filename="notes.tar.gz")
    with domain.write(ci) as operation:
        row, _ = draft.open_release(operation, "notes", version=version, build=build)
        new = draft.NewArtifact(
            platform="any", filename="notes.tar.gz", upload_id=upload.id, contract=CONTRACT | contract
        )
        draft.add_artifact(operation, row.id, new)
    return row.id


def submit(domain: Domain, ci: Actor, release_id: str) -> str:
    with domain.write(ci) as operation:
        release.submit(operation, release_id)
    domain.work()
    return domain.release(release_id).status


def published(domain: Domain, ci: Actor, build: int, content: bytes = b"", **contract) -> str:
    release_id = added(domain, ci, build, content, **contract)
    assert submit(domain, ci, release_id) == "published", domain.release(release_id).failure
    return release_id


def revision(domain: Domain, release_id: str) -> str:
    contract = domain.artifacts(release_id)[0].contract
    assert contract is not None
    return contract["dist_revision"]


def index(domain: Domain, actor: Actor) -> dict:
    with domain.read(actor) as operation:
        return json.loads(distribution_index.index(operation, "notes"))


def rows(domain: Domain, actor: Actor) -> list[dict]:
    return [
        artifact
        for one in index(domain, actor)["releases"]
        for target in one["targets"]
        for profile in target["profiles"]
        for artifact in profile["artifacts"]
    ]


def test_a_rebuild_takes_the_next_revision_and_replaces_nothing(domain: Domain, ci: Actor):
    first, second = published(domain, ci, 1), published(domain, ci, 2, dist_revision="auto")
    assert [revision(domain, one) for one in (first, second)] == ["r1", "r2"]
    assert [row["dist_revision"] for row in rows(domain, ci)] == ["r1", "r2"]
    assert len({row["artifact_file"] for row in rows(domain, ci)}) == 2


def test_a_revision_that_is_taken_is_refused_with_the_release_that_has_it(domain: Domain, ci: Actor):
    first = published(domain, ci, 1, dist_revision="r3")
    with pytest.raises(Conflict, match=first) as refused:
        added(domain, ci, 2, dist_revision="r3")
    assert "r4" in refused.value.remedy
    assert revision(domain, published(domain, ci, 3)) == "r4"


def test_two_drafts_never_get_the_same_revision(domain: Domain, ci: Actor):
    drafts = [added(domain, ci, build) for build in (1, 2)]
    assert [revision(domain, one) for one in drafts] == ["r1", "r2"]
    assert {submit(domain, ci, one) for one in drafts} == {"published"}


def test_revisions_that_paths_cannot_tell_apart_are_counted_together(domain: Domain, ci: Actor):
    published(domain, ci, 1)
    other = published(domain, ci, 2, git_rev="ab12cd34" + "f" * 32)
    assert revision(domain, other) == "r2"
    assert revision(domain, published(domain, ci, 3, profile="debug")) == "r1"
    assert revision(domain, published(domain, ci, 4, target=CONTRACT["target"].upper())) == "r1"


def test_a_discarded_or_rejected_release_gives_its_place_back(domain: Domain, ci: Actor):
    gone = added(domain, ci, 1)
    with domain.write(ci) as operation:
        draft.discard(operation, gone)
    bad = added(domain, ci, 2, b"reject: broken")
    assert revision(domain, bad) == "r1"
    assert submit(domain, ci, bad) == "rejected"
    assert revision(domain, published(domain, ci, 3, dist_revision="r1")) == "r1"


def test_a_rejected_release_whose_place_was_taken_meanwhile_is_not_run_again(domain: Domain, ci: Actor):
    bad = added(domain, ci, 1, b"inconclusive: who knows")
    assert submit(domain, ci, bad) == "rejected"
    domain.inspector.has_learned = True
    taker = published(domain, ci, 2, dist_revision="r1")
    with pytest.raises(Conflict, match=taker), domain.write(domain.actor()) as operation:
        release.rerun(operation, bad)
    assert domain.release(bad).status == "rejected"


def test_a_release_that_is_run_again_has_its_place_again(domain: Domain, ci: Actor):
    bad = added(domain, ci, 1, b"inconclusive: who knows")
    assert submit(domain, ci, bad) == "rejected"
    domain.inspector.has_learned = True
    with domain.write(domain.actor()) as operation:
        release.rerun(operation, bad)
    domain.work()
    assert domain.release(bad).status == "published"
    assert [row["dist_revision"] for row in rows(domain, ci)] == ["r1"]


def test_the_same_artifact_again_is_no_change_and_another_tuple_is_a_conflict(domain: Domain, ci: Actor):
    first = added(domain, ci, 1)
    assert added(domain, ci, 1, dist_revision="auto") == first
    assert added(domain, ci, 1, dist_revision="r1") == first
    with pytest.raises(Conflict, match="another description"):
        added(domain, ci, 1, toolchain="1.85.0")


@pytest.mark.parametrize(
    ("contract", "pointer"),
    [
        ({"target": None}, "target"),
        ({"target": "../x"}, "target"),
        ({"toolchain": ""}, "toolchain"),
        ({"profile": "a b"}, "profile"),
        ({"git_rev": "ab12cd34"}, "git_rev"),
        ({"git_rev": GIT.upper()}, "git_rev"),
        ({"dist_revision": "r0"}, "dist_revision"),
        ({"dist_revision": 1}, "dist_revision"),
        ({"dist_revision": "r1\n"}, "dist_revision"),
        ({"source_date_epoch": -1}, "source_date_epoch"),
        ({"source_date_epoch": True}, "source_date_epoch"),
        ({"triple": "x"}, ""),
    ],
)
def test_an_incomplete_identity_is_refused_where_it_is_wrong(domain: Domain, ci: Actor, contract, pointer):
    with pytest.raises(Invalid) as refused:
        added(domain, ci, 1, **contract)
    assert refused.value.extra["pointer"] == f"/contract/{pointer}".rstrip("/")


def test_a_version_that_is_no_folder_name_is_refused(domain: Domain, ci: Actor):
    with pytest.raises(Invalid, match="part of a path"):
        added(domain, ci, 1, version="1.0 (beta)")


def test_the_git_revision_is_that_of_the_source_where_the_artifact_says_none(domain: Domain, ci: Actor):
    upload = domain.upload(ci, b"x", filename="notes")
    with domain.write(ci) as operation:
        row, _ = draft.open_release(operation, "notes", version="0.1.0", source={"revision": GIT})
        new = draft.NewArtifact(
            platform="any", filename="notes", upload_id=upload.id, contract={"target": "t", "toolchain": "1"}
        )
        artifact, _ = draft.add_artifact(operation, row.id, new)
        assert artifact.contract == {
            "target": "t", "profile": "release", "toolchain": "1", "git_rev": GIT, "dist_revision": "r1"
        }  # fmt: skip


# -- the index --------------------------------------------------------------------------------------


def test_the_index_names_every_file_and_each_says_the_same(domain: Domain, ci: Actor):
    content = b"the program"
    release_id = published(domain, ci, 1, content, source_date_epoch=1_700_000_000)
    (row,) = rows(domain, ci)
    name = f"notes-v0.1.0-{CONTRACT['target']}-release-1.84.0-ab12cd34-r1.tar.gz"
    assert row["artifact_file"] == f"dist/{FOLDER}/r1/{name}"
    assert (row["git_rev"], row["source_date_epoch"]) == (GIT, 1_700_000_000)
    files = {}
    with domain.read(ci) as operation:
        stored = distribution_index.find(operation, "notes", row["artifact_file"].removeprefix("dist/"))
        for key in ("checksums", "manifest", "provenance"):
            text = distribution_index.find(operation, "notes", row[f"{key}_file"].removeprefix("dist/"))
            assert isinstance(text, Text)
            files[key] = text.content
    assert stored == Stored(domain.artifacts(release_id)[0].id, "notes.tar.gz", name)
    digest = {key: hashlib.sha256(text).hexdigest() for key, text in files.items()}
    checksums = json.loads(files["checksums"])
    assert digest["checksums"] == row["checksums_sha256"]
    assert checksums["artifact_sha256"] == row["artifact_sha256"] == hashlib.sha256(content).hexdigest()
    assert [checksums[f"{key}_sha256"] for key in ("manifest", "provenance")] == [
        digest["manifest"],
        digest["provenance"],
    ]
    manifest, text = json.loads(files["manifest"]), domain.release(release_id).manifest
    assert text is not None
    assert manifest["release"]["manifest_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert json.loads(files["provenance"])["subject"] == [
        {"name": name, "digest": {"sha256": row["artifact_sha256"]}}
    ]


def test_the_index_is_the_same_bytes_every_time(domain: Domain, ci: Actor):
    for build in (2, 1, 3):
        published(domain, ci, build)
    with domain.read(ci) as operation:
        before = distribution_index.index(operation, "notes")
    domain.clock.move(days=40)
    with domain.read(domain.actor()) as operation:
        assert distribution_index.index(operation, "notes") == before


def test_a_revoked_release_leaves_the_index_and_its_place_is_not_given_away(domain: Domain, ci: Actor):
    first = published(domain, ci, 1)
    with domain.write(domain.actor()) as operation:
        release.revoke(operation, first, reason="broken")
    assert rows(domain, ci) == []
    assert revision(domain, published(domain, ci, 2)) == "r2"


def test_a_draft_is_in_no_index(domain: Domain, ci: Actor):
    added(domain, ci, 1)
    assert rows(domain, ci) == []
    with pytest.raises(NotFound), domain.read(ci) as operation:
        distribution_index.find(operation, "notes", f"{FOLDER}/r1/package/manifest.json")


def test_who_may_not_see_the_app_sees_no_index_and_a_channel_opens_what_it_offers(domain: Domain, ci: Actor):
    published(domain, ci, 1)
    for stranger, refusal in ((ANONYMOUS, Unauthorized), (domain.actor("tester", apps=["other"]), NotFound)):
        with pytest.raises(refusal), domain.read(stranger) as operation:
            distribution_index.index(operation, "notes")
    tester = domain.actor("tester", apps=["notes"], channels=["beta"])
    assert rows(domain, tester) == []
    assert len(rows(domain, domain.actor("tester", apps=["notes"]))) == 1
    second = added(domain, ci, 2)
    with domain.write(domain.actor()) as operation:
        release.submit(operation, second, channel_name="beta")
    domain.work()
    assert [row["dist_revision"] for row in rows(domain, tester)] == ["r2"]


@pytest.mark.parametrize("alias", ["1.0.0/index.json", "0.9/index.json"])
def test_the_retired_alias_names_the_new_place(domain: Domain, ci: Actor, alias: str):
    with pytest.raises(Withdrawn, match="2026-07-01") as gone, domain.read(ci) as operation:
        distribution_index.find(operation, "notes", alias)
    assert "/contract/notes/dist/index.json" in gone.value.remedy


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        f"{FOLDER}/r1",
        f"{FOLDER}/r1/",
        f"{FOLDER}/r1/notes.tar.gz",
        f"{FOLDER}/r1/package/x.json",
        "../x",
    ],
)
def test_what_the_index_does_not_name_is_not_there(domain: Domain, ci: Actor, path: str):
    published(domain, ci, 1)
    with pytest.raises(NotFound), domain.read(ci) as operation:
        distribution_index.find(operation, "notes", path)


# -- the compatibility matrix -----------------------------------------------------------------------


def test_the_matrix_is_part_of_the_index_in_one_order(domain: Domain, ci: Actor):
    linux = {"platform": "linux", "arch": "x86_64", "support": "supported", "assumptions": "glibc 2.36"}
    apple = {"platform": "macos", "arch": "arm64", "support": "best-effort", "assumptions": ""}
    with domain.write(domain.actor()) as operation:
        distribution.set_compatibility(operation, "notes", [apple, linux])
    assert index(domain, ci)["compatibility"] == [linux, apple]
    assert domain.events("app.compatibility") == 1
    with domain.write(domain.actor()) as operation:
        distribution.set_compatibility(operation, "notes", [linux, apple])
    assert domain.events("app.compatibility") == 1


@pytest.mark.parametrize(
    "bad",
    [
        [{"platform": "beos", "arch": "x", "support": "supported"}],
        [{"platform": "linux", "arch": "x", "support": "maybe"}],
        [{"platform": "linux", "support": "supported"}],
        [{"platform": "linux", "arch": "x", "support": "supported"}] * 2,
        [{"platform": "linux", "arch": "x", "support": "supported", "assumptions": "a\nb"}],
    ],
)
def test_a_matrix_that_says_nothing_clear_is_refused(domain: Domain, ci: Actor, bad):
    with pytest.raises(DomainError), domain.write(domain.actor()) as operation:
        distribution.set_compatibility(operation, "notes", bad)


# -- the renderer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filename", "ending"),
    [("a.tar.gz", "tar.gz"), ("a.tar.zst", "tar.zst"), ("a.gz", "gz"), ("a.dmg", "dmg"), ("a", "bin"),
     (".profile", "bin"), ("a.b c", "bin"), ("a.1.2.zip", "zip"), ("tar.gz", "gz")],
)  # fmt: skip
def test_the_ending_is_the_one_it_was_published_with(filename: str, ending: str):
    assert extension(filename) == ending


def entry(version: str, revision: str = "r1", **changes) -> Entry:
    values = {
        "app": "notes", "filename": "a.zip", "sha256": "0" * 64, "size": 1, "source_date_epoch": 1, "release_id": "rel_1",
        "release_manifest_sha256": "1" * 64, "source": {},
    }  # fmt: skip
    return Entry(identity=Identity(version, "t", "release", "1", GIT, revision), **(values | changes))


def test_rows_stand_in_one_order_whatever_order_they_come_in():
    entries = [
        entry("1.10"),
        entry("1.9"),
        entry("1.9", "r10"),
        entry("1.9", "r2"),
        entry("1.9-rc"),
        entry("v"),
    ]
    first = render("notes", entries, [])
    assert render("notes", reversed(entries), []) == first
    document = json.loads(first)
    assert [one["version"] for one in document["releases"]] == ["1.9", "1.9-rc", "1.10", "v"]
    revisions = document["releases"][0]["targets"][0]["profiles"][0]["artifacts"]
    assert [row["dist_revision"] for row in revisions] == ["r1", "r2", "r10"]


def test_attached_provenance_is_named_in_the_snapshot():
    made = package(entry("1", attestations=[("b.json", "2" * 64), ("a.json", "3" * 64)]))
    said = json.loads(made["provenance.json"])["predicate"]["attestations"]
    assert [row["filename"] for row in said] == ["a.json", "b.json"]
