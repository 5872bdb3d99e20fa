"""Packages as artifacts of an app: unpacked into the store, judged by the app's keys, thin ones only over what it gave."""

import hashlib
import io
import os
import random
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import func, select

from pipeline import apps, content, draft, jobs, moving, pins, release, removal, unpacking
from pipeline.access import ANONYMOUS, Actor
from pipeline.check import check
from pipeline.errors import Conflict, NotFound, Unauthorized
from pipeline.failpoints import FailPoints
from pipeline.formats.limits import Limits
from pipeline.formats.parts import Kind, end, header, parts
from pipeline.models import Artifact, Blob, Package, PackageBlob, Release
from pipeline.package.compression import Compression
from pipeline.package.create import Description, Encoding, Format
from pipeline.package.native import Shape
from tests.pipeline.test_garbage import collect, next_job
from tests.support.build_package import ENCODINGS, OTHER_KEY, SMALL, Content, packed, write_folder
from tests.support.collecting import publish_while_collecting
from tests.support.domain import Domain, digest_of
from tests.support.unconfined import Unconfined, real_parts
from workers.runner import ConfinedInspector
from workers.sandbox import Sandbox

FAT = Encoding(Format.NATIVE, Shape.FAT, Compression.ZSTD)
THIN = Encoding(Format.NATIVE, Shape.THIN, Compression.NONE)
METADATA = Encoding(Format.NATIVE, Shape.METADATA, Compression.NONE)
CONTENTS = {
    what if isinstance(what, bytes) else what[1] for what in SMALL.values() if not isinstance(what, str)
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as opened:
        yield opened


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    """With `Unconfined`, which does what a test says."""
    yield from opened(tmp_path / "data", Unconfined())


@pytest.fixture
def confined(tmp_path: Path, sandbox: Sandbox) -> Iterator[Domain]:
    """With the real child."""
    yield from opened(tmp_path / "confined", ConfinedInspector(sandbox, Limits()))


def opened(folder: Path, inspector: Any) -> Iterator[Domain]:
    made = Domain(folder, inspector=inspector, max_upload_bytes=1 << 20)
    for slug in ("notes", "other"):
        made.app(slug)
    yield made
    made.close()


@pytest.fixture
def manager(domain: Domain) -> Actor:
    return domain.actor("release-manager")


class Maker:
    """Makes packages of folders."""

    def __init__(self, around: Path) -> None:
        self._around = around
        self._count = 0

    def __call__(
        self,
        files: Mapping[str, Content] = SMALL,
        encoding: Encoding = FAT,
        *,
        version: str = "1.4.0",
        **how: Any,
    ) -> bytes:
        self._count += 1
        folder = write_folder(self._around / f"folder{self._count}", files)
        return packed(folder, encoding, description=Description("notes", version), **how)[0]


@pytest.fixture
def package(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def ended(domain: Domain, actor: Actor, app: str, version: str, **files: bytes) -> Release:
    """A release of these packages that came to its end."""
    release_id = domain.submitted(
        actor, app, version, {f"{name}.dpk": content for name, content in files.items()}
    )
    domain.work()
    return domain.release(release_id)


def findings(domain: Domain, of: Release) -> list[dict[str, Any]]:
    return [
        row | {"step": job.step.value}
        for job in domain.jobs(of.id)
        for row in job.findings or ()
        if job.status == "failed"
    ]


def may_fetch(domain: Domain, actor: Actor, digest: str, **how: Any) -> bool:
    with domain.read(actor) as operation:
        try:
            found = content.find(operation, digest, **how)
        except (NotFound, Unauthorized):
            return False
    assert domain.store.verify(found.digest)
    return True


def sound(domain: Domain) -> None:
    assert check(domain.database, domain.layout, domain.store, repair=False).problems == []
    assert list(domain.layout.quarantine.glob("art_*")) == []


# -- what comes out ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda one: f"{one.format}-{one.compression}")
def test_the_content_of_a_package_is_in_the_store_once(confined, package, encoding):
    manager = confined.actor("release-manager")
    data = package(encoding=encoding)
    done = ended(confined, manager, "notes", "1.0", notes=data)
    assert done.status == "published", done.failure
    tree = confined.artifacts(done.id)[0].details["manifest"]["tree"]
    wanted = {digest_of(one) for one in CONTENTS} | {tree, digest_of(data)}
    assert set(confined.store.digests()) == wanted
    assert all(confined.store.verify(digest) for digest in wanted)
    sound(confined)
    again = ended(confined, manager, "notes", "1.1", notes=package(encoding=encoding, version="1.1"))
    assert again.status == "published", again.failure
    assert len(list(confined.store.digests())) == len(wanted) + 1, (
        "the same tree: only the package file is new"
    )


def test_a_package_of_metadata_only_is_taken_and_opens_nothing(domain, manager, package):
    done = ended(domain, manager, "notes", "1.0", notes=package(encoding=METADATA))
    assert done.status == "published", done.failure
    assert len(list(domain.store.digests())) == 1
    tree = domain.artifacts(done.id)[0].details["manifest"]["tree"]
    assert not may_fetch(domain, manager, tree, tree=True)


def test_an_attached_package_is_kept_as_it_is(domain, manager, package):
    data = package()
    release_id = domain.draft(manager, "notes", "1.0", {"a.bin": b"a tool"})
    upload = domain.upload(manager, data, filename="symbols.dpk")
    with domain.write(manager) as operation:
        draft.add_artifact(
            operation,
            release_id,
            draft.NewArtifact(
                platform="any", filename="symbols.dpk", upload_id=upload.id, attachment_kind="symbols"
            ),
        )
        release.submit(operation, release_id)
    domain.work()
    assert domain.release(release_id).status == "published"
    assert set(domain.store.digests()) == {digest_of(data), digest_of(b"a tool")}


# -- who signed ----------------------------------------------------------------------------------------


def test_the_first_publish_pins_the_key_and_another_one_is_refused(domain, manager, package):
    assert ended(domain, manager, "notes", "1.0", notes=package()).status == "published"
    other = ended(domain, manager, "notes", "1.1", notes=package(key=OTHER_KEY))
    assert other.status == "rejected"
    (finding,) = findings(domain, other)
    key = hashlib.sha256(OTHER_KEY.public.key).hexdigest()
    assert finding["rule"] == "policy.signer-changed"
    assert f"key:{key}" in finding["message"]
    assert "minisign key" in finding["message"]
    assert f"dist app pin add notes package signer key:{key}" in finding["remedy"]
    unsigned = ended(domain, manager, "notes", "1.2", notes=package(key=None))
    assert unsigned.status == "rejected"
    assert {row["rule"] for row in findings(domain, unsigned)} == {"policy.signer-changed", "policy.unsigned"}
    assert ended(domain, manager, "notes", "1.3", notes=package(version="2")).status == "published"


@pytest.mark.parametrize("form", ["digest", "line"])
def test_a_key_that_was_pinned_beforehand_is_the_one_that_counts(domain, manager, package, form):
    line = OTHER_KEY.public.line
    value = line if form == "line" else "key:" + hashlib.sha256(OTHER_KEY.public.key).hexdigest()
    with domain.write(domain.actor("admin")) as operation:
        _, pin, added = pins.add(operation, "notes", family="package", kind="signer", value=value)
    assert added
    assert pin.value.startswith("key:")
    assert ended(domain, manager, "notes", "1.0", notes=package()).status == "rejected"
    assert ended(domain, manager, "notes", "1.1", notes=package(key=OTHER_KEY)).status == "published"


def test_an_unsigned_first_package_is_taken_with_a_warning(domain, manager, package):
    done = ended(domain, manager, "notes", "1.0", notes=package(key=None))
    assert done.status == "published"
    assert "policy.unsigned" in {row["rule"] for job in domain.jobs(done.id) for row in job.findings or ()}


def test_a_damaged_package_is_refused_and_nothing_of_it_is_kept(domain, manager, package):
    data = bytearray(package())
    data[-45] ^= 1
    done = ended(domain, manager, "notes", "1.0", notes=bytes(data))
    assert [row["rule"] for row in findings(domain, done)] == ["package.malformed"]
    assert list(domain.store.digests()) == []


# -- thin ones ------------------------------------------------------------------------------------------


def test_a_thin_package_needs_what_its_app_gave_before(domain, manager, package):
    thin = package(encoding=THIN)
    early = ended(domain, manager, "notes", "1.0", thin=thin)
    assert early.status == "rejected"
    (finding,) = findings(domain, early)
    assert (finding["rule"], finding["step"]) == ("package.content-missing", "store")
    assert f"{len(CONTENTS)} of {len(CONTENTS)} blobs" in finding["message"]
    assert min(digest_of(one) for one in CONTENTS) in finding["message"]
    assert "--shape fat" in finding["remedy"]
    assert early.failure["code"] == "validation_failed"
    assert ended(domain, manager, "notes", "1.1", fat=package()).status == "published"
    assert ended(domain, manager, "notes", "1.2", thin=thin).status == "published"
    sound(domain)


def test_a_rejected_thin_package_is_taken_by_a_rerun_once_its_content_came(domain, manager, package):
    early = ended(domain, manager, "notes", "1.1", thin=package(encoding=THIN))
    assert ended(domain, manager, "notes", "1.0", fat=package()).status == "published"
    with domain.write(manager) as operation:
        release.rerun(operation, early.id)
    domain.work()
    assert domain.release(early.id).status == "published"
    sound(domain)


def test_a_thin_package_comes_with_the_fat_one_of_its_release(domain, manager, package):
    done = ended(domain, manager, "notes", "1.0", thin=package(encoding=THIN), fat=package())
    assert done.status == "published", done.failure


def test_a_thin_package_may_name_what_several_releases_gave(domain, manager, package):
    ended(domain, manager, "notes", "1.0", fat=package({"a": b"first"}))
    ended(domain, manager, "notes", "1.1", fat=package({"a": b"second"}))
    both = package({"a": b"first", "b": b"second"}, THIN)
    assert ended(domain, manager, "notes", "1.2", thin=both).status == "published"
    more = package({"a": b"first", "b": b"second", "c": b"third"}, THIN)
    assert ended(domain, manager, "notes", "1.3", thin=more).status == "rejected"


def test_naming_a_digest_of_another_app_opens_nothing(domain, package):
    secret = {"secret": b"what only the other app's people may have"}
    others = domain.actor("release-manager", apps=["other"])
    assert ended(domain, others, "other", "1.0", fat=package(secret)).status == "published"
    mine = domain.actor("release-manager", apps=["notes"])
    digest = digest_of(secret["secret"])
    for version, files in (
        ("1.0", {"thin": package(secret, THIN)}),
        ("1.1", {"thin": package(secret | {"mine": b"mine"}, THIN), "fat": package({"mine": b"mine"})}),
    ):
        done = ended(domain, mine, "notes", version, **files)
        assert done.status == "rejected"
        assert digest in findings(domain, done)[0]["message"]
        assert not may_fetch(domain, mine, digest)
    # A rejected thin package proves nothing for the next one either.
    again = ended(domain, mine, "notes", "1.2", thin=package(secret, THIN))
    assert again.status == "rejected"
    assert not may_fetch(domain, mine, digest)
    assert may_fetch(domain, others, digest)
    # Whoever has the bytes may publish them, of course.
    assert ended(domain, mine, "notes", "1.3", fat=package(secret)).status == "published"
    assert may_fetch(domain, mine, digest)


# -- who may fetch ----------------------------------------------------------------------------------------


def test_a_blob_is_for_whoever_may_have_an_artifact_that_needs_it(domain, manager, package):
    done = ended(domain, manager, "notes", "1.0", fat=package())
    tree = domain.artifacts(done.id)[0].details["manifest"]["tree"]
    digest = digest_of(b"#!/bin/sh\necho notes\n")
    tester, stranger = domain.actor("tester", apps=["notes"]), domain.actor("tester", apps=["other"])
    beta = domain.actor("tester", apps=["notes"], channels=["beta"])
    for who, yes in ((manager, True), (tester, True), (stranger, False), (beta, False), (ANONYMOUS, False)):
        assert may_fetch(domain, who, digest) is yes, who
        assert may_fetch(domain, who, tree, tree=True) is yes, who
    assert not may_fetch(domain, manager, digest, tree=True), "a blob, and no tree"
    assert not may_fetch(domain, manager, digest_of(package())), "the package file has an address of its own"
    with domain.write(manager) as operation:
        moving.promote(operation, "notes", "beta", done.id)
    assert may_fetch(domain, beta, digest)
    with domain.write(domain.actor("admin")) as operation:
        apps.change(operation, "notes", access="public")
    assert may_fetch(domain, ANONYMOUS, digest)


def test_what_is_not_there_and_what_is_not_yours_read_the_same(domain, manager, package):
    ended(domain, manager, "notes", "1.0", fat=package())
    stranger = domain.actor("tester", apps=["other"])
    said = []
    for who in (stranger, ANONYMOUS):
        for digest in (digest_of(b"Notes\n" * 400), "0" * 64, "no digest", "../etc/passwd"):
            with domain.read(who) as operation, pytest.raises((NotFound, Unauthorized)) as caught:
                content.find(operation, digest)
            said.append((who.role, type(caught.value), caught.value.detail, caught.value.remedy))
    assert len(set(said)) == 2


def test_what_is_revoked_or_removed_is_not_given(domain, manager, package):
    done = ended(domain, manager, "notes", "1.0", fat=package())
    digest, tester = digest_of(b""), domain.actor("tester", apps=["notes"])
    assert may_fetch(domain, tester, digest)
    with domain.write(manager) as operation:
        release.revoke(operation, done.id, reason="a mistake")
    assert not may_fetch(domain, tester, digest)
    assert may_fetch(domain, manager, digest), "to look into it"
    remove(domain, done.id)
    assert not may_fetch(domain, manager, digest)


def test_what_is_not_published_yet_is_for_insiders_and_stored_first(domain, manager, package):
    release_id = domain.submitted(manager, "notes", "1.0", {"fat.dpk": package()})
    tester, digest = domain.actor("tester", apps=["notes"]), digest_of(b"")
    for _ in range(3):
        domain.run(domain.waiting()[0].id)
        assert not may_fetch(domain, manager, digest)
    domain.run(domain.waiting()[0].id)
    assert domain.release(release_id).status == "published"
    assert may_fetch(domain, tester, digest)


# -- garbage ----------------------------------------------------------------------------------------------


def remove(domain: Domain, release_id: str) -> None:
    with domain.database.write() as session:
        row = session.get_one(Release, release_id)
        row.removed_at, row.removal_reason = domain.clock(), "the test"


def test_content_is_kept_as_long_as_some_package_needs_it(domain, manager, package):
    first = ended(domain, manager, "notes", "1.0", fat=package({"a": b"kept", "b": b"dropped"}))
    second = ended(domain, manager, "notes", "1.1", fat=package({"a": b"kept"}))
    assert second.status == "published"
    remove(domain, first.id)
    for _ in range(3):
        domain.clock.move(days=8)
        collect(domain)
    assert domain.store.has(digest_of(b"kept"))
    assert not domain.store.has(digest_of(b"dropped"))
    with domain.database.read() as session:
        left = session.exec(select(func.count()).select_from(PackageBlob)).one()
    assert left == 3, "`kept` of both, and the second tree"
    sound(domain)
    with pytest.raises(Conflict, match="are gone"), domain.write(manager) as operation:
        removal.restore(operation, domain.store, first.id)


def test_a_removed_package_is_restored_with_its_content_from_the_trash(domain, manager, package):
    done = ended(domain, manager, "notes", "1.0", fat=package())
    remove(domain, done.id)
    domain.clock.move(days=8)
    collect(domain)
    domain.clock.move(days=2)
    collect(domain)
    assert list(domain.store.digests()) == []
    with domain.write(manager) as operation:
        removal.restore(operation, domain.store, done.id)
    assert may_fetch(domain, manager, digest_of(b""))
    sound(domain)
    domain.clock.move(days=30)
    collect(domain)
    assert may_fetch(domain, manager, digest_of(b""))


def test_a_thin_package_holds_what_it_needs_after_the_fat_one_is_gone(domain, manager, package):
    first = ended(domain, manager, "notes", "1.0", fat=package())
    second = ended(domain, manager, "notes", "1.1", thin=package(encoding=THIN))
    remove(domain, first.id)
    for _ in range(3):
        domain.clock.move(days=8)
        collect(domain)
    assert domain.store.has(digest_of(b""))
    assert may_fetch(domain, manager, digest_of(b""))
    assert (
        ended(domain, manager, "notes", "1.2", thin=package(encoding=THIN, version="3")).status == "published"
    )
    remove(domain, second.id)


# -- interrupted --------------------------------------------------------------------------------------------


class Cut(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    "point",
    ["unpack.middle", "unpack.gathered", "unpack.adopted", "unpack.rows", "store.linked", "store.commit"],
)
def test_a_run_that_was_cut_off_anywhere_is_finished_by_the_next(
    domain, manager, package, point, monkeypatch
):
    release_id = domain.submitted(manager, "notes", "1.0", {"fat.dpk": package()})
    for _ in range(3):
        domain.run(domain.waiting()[0].id)

    def cut(self, name):
        if name == point:
            raise Cut

    (job,) = domain.waiting()
    claim = domain.claim(job.id)
    with monkeypatch.context() as patch:
        patch.setattr(FailPoints, "hit", cut)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # a dead process tidies nothing up
        with pytest.raises(Cut):
            domain.validation.run(claim, lambda _percent: None)
    assert domain.release(release_id).status == "validating"
    assert not may_fetch(domain, manager, digest_of(b""))
    with domain.database.write() as session:
        jobs.give_back(session, claim, now=domain.clock())
    domain.work()
    assert domain.release(release_id).status == "published"
    assert may_fetch(domain, manager, digest_of(b""))
    sound(domain)


def test_what_a_dead_run_left_is_swept_when_nobody_goes_on(domain, manager):
    litter = domain.layout.unpacking("art_" + "0" * 26)
    (litter / "run").mkdir(parents=True)
    (litter / "run" / "x").write_bytes(b"x")
    domain.clock.now = domain.clock.now.fromtimestamp(time.time(), tz=domain.clock.now.tzinfo)
    assert domain.quarantine.expire() == []
    os.utime(litter, (time.time() - 4000,) * 2)
    assert domain.quarantine.expire() == [litter.name]
    assert not litter.exists()


# -- hostile ------------------------------------------------------------------------------------------------


def test_a_bomb_is_stopped_when_it_has_unpacked_too_much(confined, package, monkeypatch):
    """Eight MiB of zeros in a few hundred bytes; the real child writes, and the worker counts."""
    manager = confined.actor("release-manager")
    data = package({"zeros": bytes(8 << 20)})
    assert len(data) < 3000
    done = ended(confined, manager, "notes", "1.0", notes=data)
    (finding,) = findings(confined, done)
    assert (finding["rule"], finding["step"]) == ("package.too-much", "store")
    assert "1048576 bytes" in finding["message"]
    assert list(confined.store.digests()) == []
    sound(confined)


def test_too_many_files_are_too_much(domain, package, monkeypatch):
    monkeypatch.setattr(unpacking, "FILES_MAX", 50)
    actor = domain.actor("admin")
    for encoding in (FAT, THIN):
        data = package({f"{number}": b"%d" % number for number in range(50)}, encoding)
        done = ended(domain, actor, "notes", f"1 {encoding.shape}", notes=data)
        assert [row["rule"] for row in findings(domain, done)] == ["package.too-much"]
    same = package({f"{number}": b"the same" for number in range(500)})
    assert ended(domain, actor, "notes", "2", notes=same).status == "published"


def test_a_full_disk_is_the_servers_fault_and_can_be_run_again(domain, manager, package):
    release_id = domain.submitted(manager, "notes", "1.0", {"notes.dpk": package()})
    object.__setattr__(domain.settings, "min_free_bytes", 1 << 62)
    domain.work()
    row = domain.release(release_id)
    assert (row.status, row.failure["code"]) == ("rejected", "server_error")
    assert "must stay free" in row.failure["detail"]
    assert list(domain.store.digests()) == []
    sound(domain)
    object.__setattr__(domain.settings, "min_free_bytes", 0)
    with domain.write(manager) as operation:
        release.rerun(operation, release_id)
    domain.work()
    assert domain.release(release_id).status == "published"
    sound(domain)


BLOB = b"a blob"


def stream(*rows: bytes, count: int | None = None) -> bytes:
    return b"".join(rows) + end(len(rows) if count is None else count)


def tree_of(package_bytes: bytes) -> bytes:
    """The first part of an honest stream: the tree."""
    first = next(iter(parts(io.BytesIO(real_parts(package_bytes)))))
    return header(first.kind, first.digest, first.size) + b"".join(first.pieces)


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        (lambda _: b"", "inspect.child-died"),
        (lambda data: real_parts(data)[:-1], "inspect.child-died"),
        (lambda data: stream(tree_of(data), header(Kind.BLOB, digest_of(b"other"), 6) + BLOB), "inspect.child-died"),
        (lambda data: stream(tree_of(data), *[header(Kind.BLOB, digest_of(BLOB), 6) + BLOB] * 2), "inspect.child-died"),
        (lambda _: stream(header(Kind.BLOB, digest_of(BLOB), 6) + BLOB), "package.other-tree"),
        (lambda _: stream(header(Kind.TREE, digest_of(BLOB), 6) + BLOB), "package.other-tree"),
        (lambda data: stream(tree_of(data), header(Kind.BLOB, digest_of(BLOB), 1 << 40) + BLOB), "package.too-much"),
    ],
    ids=["silent", "cut off", "wrong digest", "twice", "no tree", "another tree", "endless"],
)  # fmt: skip
def test_a_child_that_was_taken_over_puts_nothing_into_the_store(domain, package, said, rule):
    domain.inspector.parts_of = said
    done = ended(domain, domain.actor("admin"), "notes", "1.0", notes=package())
    assert done.status == "rejected"
    assert [row["rule"] for row in findings(domain, done)] == [rule]
    assert list(domain.store.digests()) == []
    sound(domain)


def test_a_child_that_was_taken_over_opens_nothing_of_another_app(domain, package):
    secret = b"what only the other app's people may have"
    others = domain.actor("release-manager", apps=["other"])
    mine = domain.actor("release-manager", apps=["notes"])
    assert ended(domain, others, "other", "1.0", fat=package({"s": secret})).status == "published"
    data = package({"mine": b"mine"})
    name = header(Kind.NAME, digest_of(secret), len(secret))
    forged = header(Kind.BLOB, digest_of(secret), 4) + b"mine"
    own = header(Kind.BLOB, digest_of(b"mine"), 4) + b"mine"
    honest = ended(domain, mine, "notes", "0.9", fat=data)
    assert honest.status == "published", "a proven package of the same tree does not lend itself to the next"
    for number, more in enumerate((name, forged)):
        domain.inspector.parts_of = lambda data, more=more: stream(tree_of(data), own, more)
        done = ended(
            domain, mine, "notes", f"1.{number}", fat=package({"mine": b"mine"}, version=f"{number}")
        )
        assert done.status == "rejected"
        assert not may_fetch(domain, mine, digest_of(secret))
    assert may_fetch(domain, mine, digest_of(b"mine"))
    # What one run named no later run of the same job makes good.
    domain.inspector.parts_of = lambda data: stream(tree_of(data), own, name)
    release_id = domain.submitted(mine, "notes", "2.0", {"a.dpk": package({"mine": b"mine"}, version="2")})
    for _ in range(3):
        domain.run(domain.waiting()[0].id)
    claim = domain.claim(domain.waiting()[0].id)
    artifact = domain.artifacts(release_id)[0]
    domain.validation._unpacking.keep(
        artifact, domain.quarantine.path(artifact.upload_id), lambda _percent: None
    )
    domain.inspector.parts_of = real_parts
    domain.validation.run(claim, lambda _percent: None)
    assert domain.release(release_id).status == "rejected"
    assert not may_fetch(domain, mine, digest_of(secret))


def test_an_unsafe_path_in_a_tree_is_refused_before_anything_is_unpacked(confined, package):
    manager = confined.actor("release-manager")
    data = package({"aa/evil": b"x"}, Encoding(Format.NATIVE, Shape.FAT, Compression.NONE))
    at = data.index(b"\taa/evil\n")
    forged = data[:at] + b"\t../evil\n" + data[at + len(b"\taa/evil\n") :]
    done = ended(confined, manager, "notes", "1.0", notes=forged)
    assert [row["rule"] for row in findings(confined, done)] == ["package.malformed"]
    assert list(confined.store.digests()) == []


def test_publishers_of_packages_that_share_blobs_and_collectors_at_once_lose_nothing(tmp_path: Path):
    """Three publish, remove and restore packages of a few files again and again; two collect without any grace."""
    hasty = Domain(
        tmp_path / "hasty",
        inspector=Unconfined(),
        gc_grace_seconds=0,
        gc_trash_seconds=0,
        retention_grace_seconds=0,
    )
    hasty.app("notes")
    actors = [
        hasty.actor("release-manager") for _ in range(3)
    ]  # an upload of the same bytes goes on, for one actor
    files = {f"f{number}": b"content %d\n" % number * 100 for number in range(8)}
    made = [
        packed(
            write_folder(
                tmp_path / f"made{number}", dict(random.Random(number).sample(sorted(files.items()), 5))
            ),
            random.Random(number).choice([FAT, ENCODINGS[0]]),
            description=Description("notes", f"{number}"),
        )[0]
        for number in range(6)
    ]

    def publish(worker: int) -> None:
        choice, actor = random.Random(worker), actors[worker]
        for number in range(4):
            release_id = hasty.submitted(actor, "notes", f"{worker}.{number}", {"a.dpk": choice.choice(made)})
            while job := next_job(hasty, release_id):
                hasty.clock.now = max(hasty.clock.now, hasty.job(job).run_after)
                hasty.run(job)
            assert hasty.release(release_id).status == "published", hasty.release(release_id).failure
            with hasty.database.read() as session:
                (package_row,) = session.exec(
                    select(Package).join(Artifact).where(Artifact.release_id == release_id)
                ).all()
                needed = session.exec(
                    select(PackageBlob.sha256).where(PackageBlob.package_id == package_row.id)
                ).all()
            assert len(needed) == package_row.needs == 6
            assert all(hasty.store.verify(digest) for digest in needed), "published and gone"
            if choice.random() < 0.7:
                remove(hasty, release_id)
            if choice.random() < 0.3:
                try:
                    with hasty.write(actor) as operation:
                        removal.restore(operation, hasty.store, release_id)
                except Conflict:
                    assert hasty.release(release_id).removed_at is not None

    publish_while_collecting(publish, lambda: collect(hasty))
    sound(hasty)
    with hasty.database.read() as session:
        kept = session.exec(
            select(PackageBlob.sha256)
            .join(Package, Package.id == PackageBlob.package_id)
            .join(Artifact, Artifact.id == Package.artifact_id)
            .join(Release, Release.id == Artifact.release_id)
            .where(Release.removed_at == None)  # noqa: E711
        ).all()
    assert kept
    assert all(hasty.store.verify(digest) for digest in kept)
    hasty.close()


@pytest.mark.parametrize("staged", [True, False], ids=["new", "known"])
def test_a_blob_that_a_collector_takes_in_between_is_put_back(domain, package, staged, monkeypatch):
    """Between the store's taking it and its row, when it is an orphan or was known before."""
    actor = domain.actor("admin")
    digest = digest_of(BLOB)
    if not staged:
        first = ended(domain, actor, "notes", "0.9", fat=package({"a": BLOB}))
        assert first.status == "published"
        remove(domain, first.id)
    release_id = domain.submitted(actor, "notes", "1.0", {"a.dpk": package({"b": BLOB})})
    for _ in range(3):
        domain.run(domain.waiting()[0].id)
    taken = []

    def take(self, name):
        if name == "unpack.adopted" and not taken:
            taken.append(domain.store.set_aside(digest, domain.clock()))
            if not staged:
                with domain.database.write() as session:
                    session.delete(session.get_one(Blob, digest))

    with monkeypatch.context() as patch:
        patch.setattr(FailPoints, "hit", take)
        domain.work()
    assert taken == [True]
    assert domain.release(release_id).status == "published"
    assert may_fetch(domain, actor, digest)
    sound(domain)


def test_a_run_that_was_overtaken_leaves_the_other_ones_folder_alone(domain, package, monkeypatch):
    actor = domain.actor("admin")
    release_id = domain.submitted(actor, "notes", "1.0", {"a.dpk": package()})
    for _ in range(3):
        domain.run(domain.waiting()[0].id)
    artifact = domain.artifacts(release_id)[0]
    path, inner = domain.quarantine.path(artifact.upload_id), []

    def overtake(self, name):
        if name == "unpack.gathered" and not inner:
            inner.append(True)
            inner.append(domain.validation._unpacking.keep(artifact, path, lambda _percent: None))

    with monkeypatch.context() as patch:
        patch.setattr(FailPoints, "hit", overtake)
        with pytest.raises(
            FileNotFoundError
        ):  # its own folder is gone: it is tried again, and finds itself fenced off
            domain.validation._unpacking.keep(artifact, path, lambda _percent: None)
    assert inner == [True, []]
    domain.work()
    assert domain.release(release_id).status == "published"
    sound(domain)
