"""When the policy is asked, and what follows: publishing, pins, races, channels, hindsight."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from pipeline import app_policy, channel, hindsight, moving, pins, release, webhooks
from pipeline.access import Actor
from pipeline.errors import Conflict, Forbidden, Invalid, NotFound, PolicyRefused
from pipeline.models import WebhookDelivery
from pipeline.states import ArtifactStatus, JobStatus, ReleaseStatus, Step
from tests.support.domain import Domain
from tests.support.stated import KEY, NEXT_KEY, OTHER_KEY, Stating, apk, stated


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    made = Domain(tmp_path / "data")
    made.validation._inspector = Stating()  # type: ignore[assignment]
    made.app("notes")
    yield made
    made.close()


@pytest.fixture
def ci(domain: Domain) -> Actor:
    return domain.actor("ci")


@pytest.fixture
def admin(domain: Domain) -> Actor:
    return domain.actor("admin")


def set_policy(domain: Domain, admin: Actor, document: dict[str, Any]) -> int:
    with domain.write(admin) as operation:
        _, _, row = app_policy.find(operation, "notes")
        _, _, row = app_policy.change(
            operation, "notes", document, expected_revision=row.revision if row else 0
        )
        assert row is not None
        return row.revision


def publish(domain: Domain, ci: Actor, version: str, *contents: bytes, **opening: Any) -> str:
    """Through every step, whatever its end; the release's id."""
    files = {f"{number}.bin": content for number, content in enumerate(contents)}
    release_id = domain.submitted(ci, "notes", version, files, **opening)
    domain.work()
    return release_id


def said(domain: Domain, release_id: str) -> dict[str, str]:
    """The policy's findings of a release: rule without its area → severity."""
    return {
        finding["rule"].removeprefix("policy."): finding["severity"]
        for job in domain.jobs(release_id)
        if job.step is Step.POLICY
        for finding in job.findings or ()
    }


def message(domain: Domain, release_id: str, rule: str) -> str:
    (text,) = {
        finding["message"]
        for job in domain.jobs(release_id)
        for finding in job.findings or ()
        if finding["rule"] == f"policy.{rule}"
    }
    return text


def pinned(domain: Domain, kind: str = "signer") -> dict[str, bool]:
    """Value → whether it still holds."""
    with domain.read(domain.actor("admin")) as operation:
        _, rows = pins.of_app(operation, "notes")
        return {row.value: row.superseded_at is None for row in rows if row.kind == kind}


def status(domain: Domain, release_id: str) -> ReleaseStatus:
    return domain.release(release_id).status


# -- pins -------------------------------------------------------------------------------------------


def test_the_first_publish_pins_what_the_app_is_called_and_who_signed_it(domain: Domain, ci: Actor) -> None:
    first = publish(domain, ci, "1.0", apk(1))
    with domain.read(domain.actor("ci")) as operation:
        _, rows = pins.of_app(operation, "notes")
    assert {(row.family, row.kind, row.value) for row in rows} == {
        ("apk", "identifier", "com.example.notes"),
        ("apk", "signer", f"certificate:{KEY}"),
    }
    assert {row.release_id for row in rows} == {first}
    assert {(row.actor or {})["name"] for row in rows} == {"a ci"}, "who published, not the worker"
    assert domain.events("pin.added") == 2


def test_a_rejected_release_pins_nothing(domain: Domain, ci: Actor, admin: Actor) -> None:
    set_policy(domain, admin, {"rules": {"debuggable": "error"}})
    assert status(domain, publish(domain, ci, "1.0", apk(1, debuggable=True))) is ReleaseStatus.REJECTED
    assert pinned(domain) == {}
    assert domain.events("pin.added") == 0


def test_another_key_is_refused_until_an_admin_recorded_it(domain: Domain, ci: Actor, admin: Actor) -> None:
    publish(domain, ci, "1.0", apk(1))
    second = publish(domain, ci, "1.1", apk(2, OTHER_KEY))
    assert status(domain, second) is ReleaseStatus.REJECTED
    assert said(domain, second) == {"signer-changed": "error"}
    assert (domain.release(second).failure or {})["code"] == "policy_failed"
    assert OTHER_KEY in message(domain, second, "signer-changed")
    assert KEY in message(domain, second, "signer-changed")
    (finding,) = [f for job in domain.jobs(second) if job.step is Step.POLICY for f in job.findings or ()]
    command = f"dist app pin add notes apk signer certificate:{OTHER_KEY}"
    assert command in finding["remedy"], "to be copied as it stands"
    with domain.write(admin) as operation:
        _, _, new = pins.add(
            operation, "notes", family="apk", kind="signer", value=f"certificate:{OTHER_KEY}"
        )
        assert new
        release.rerun(operation, second)
    domain.work()
    assert status(domain, second) is ReleaseStatus.PUBLISHED
    assert pinned(domain) == {f"certificate:{KEY}": True, f"certificate:{OTHER_KEY}": True}


def test_a_warned_of_signer_is_published_and_still_not_pinned(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    set_policy(domain, admin, {"rules": {"signer-changed": "warning"}})
    publish(domain, ci, "1.0", apk(1))
    for version, code in (("1.1", 2), ("1.2", 3)):
        again = publish(domain, ci, version, apk(code, OTHER_KEY))
        assert status(domain, again) is ReleaseStatus.PUBLISHED
        assert said(domain, again) == {"signer-changed": "warning"}
    assert pinned(domain) == {f"certificate:{KEY}": True}


def test_a_lineage_from_the_pinned_key_hands_the_pin_over(domain: Domain, ci: Actor) -> None:
    publish(domain, ci, "1.0", apk(1))
    rotated = publish(domain, ci, "1.1", apk(2, NEXT_KEY, lineage=[KEY, NEXT_KEY]))
    assert status(domain, rotated) is ReleaseStatus.PUBLISHED, domain.release(rotated).failure
    assert pinned(domain) == {f"certificate:{KEY}": False, f"certificate:{NEXT_KEY}": True}
    assert status(domain, publish(domain, ci, "1.2", apk(3, NEXT_KEY))) is ReleaseStatus.PUBLISHED
    old = publish(domain, ci, "1.3", apk(4, KEY))
    assert said(domain, old) == {"signer-changed": "error"}


@pytest.mark.parametrize(
    "content",
    [
        apk(2, NEXT_KEY, lineage=[OTHER_KEY, NEXT_KEY]),
        apk(2, NEXT_KEY, lineage=[NEXT_KEY, KEY]),
        stated(
            "apk",
            build="2",
            signers=[NEXT_KEY],
            lineage=[{"sha256": KEY, "capabilities": ["auth"]}, {"sha256": NEXT_KEY, "capabilities": []}],
        ),
    ],
    ids=["a lineage of strangers", "the pinned key comes after", "the old key gave its data away to nobody"],
)
def test_a_lineage_that_does_not_lead_from_the_pinned_key_does_not_count(
    domain: Domain, ci: Actor, content: bytes
) -> None:
    publish(domain, ci, "1.0", apk(1))
    assert said(domain, publish(domain, ci, "1.1", content)) == {"signer-changed": "error"}


def test_a_stripped_signature_is_a_changed_signer(domain: Domain, ci: Actor) -> None:
    publish(domain, ci, "1.0", stated("pe", identifier=None, signers=[KEY], trust="trusted"))
    bare = publish(domain, ci, "1.1", stated("pe", identifier=None))
    assert said(domain, bare) == {"signer-changed": "error", "unsigned": "warning"}


def test_an_app_that_was_unsigned_is_pinned_when_it_is_signed_first(domain: Domain, ci: Actor) -> None:
    publish(domain, ci, "1.0", stated("pe", identifier=None))
    assert pinned(domain) == {}
    publish(domain, ci, "1.1", stated("pe", identifier=None, signers=[KEY]))
    assert pinned(domain) == {f"certificate:{KEY}": True}


def test_an_unsigned_file_beside_a_signed_one_is_refused_at_the_first_publish_as_at_a_promotion(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    both = (stated("pe", identifier=None, signers=[KEY]), stated("pe", identifier=None, archs=["arm64"]))
    first = publish(domain, ci, "1.0", *both)
    assert status(domain, first) is ReleaseStatus.REJECTED
    assert pinned(domain) == {}
    assert message(domain, first, "signer-changed").endswith(f"signed by certificate:{KEY} (CN=aaaa).")
    (finding,) = [
        one
        for job in domain.jobs(first)
        for one in job.findings or ()
        if one["rule"] == "policy.signer-changed"
    ]
    assert "dist app policy set notes --rule signer-changed=warning" in finding["remedy"]
    assert "pin add" not in finding["remedy"], "what is not signed has nothing that could be pinned"

    set_policy(domain, admin, {"rules": {"signer-changed": "warning"}})
    with domain.write(admin) as operation:
        release.rerun(operation, first)
    domain.work()
    assert status(domain, first) is ReleaseStatus.PUBLISHED
    promote(domain, ci, "stable", first)


def test_what_a_first_release_is_signed_by_is_pinned_and_promoted_all_of_it(
    domain: Domain, ci: Actor
) -> None:
    first = publish(domain, ci, "1.0", apk(1, archs=["arm64-v8a"]), apk(2, OTHER_KEY, archs=["x86_64"]))
    assert pinned(domain) == {f"certificate:{KEY}": True, f"certificate:{OTHER_KEY}": True}
    promote(domain, ci, "stable", first)


def test_a_trusted_publisher_may_renew_the_certificate_and_an_unknown_one_may_not(
    domain: Domain, ci: Actor
) -> None:
    one = stated("msix", version="1.0.0.0", signers=[KEY], trust="trusted", publisher="CN=Contoso")
    two = stated("msix", version="1.1.0.0", signers=[OTHER_KEY], trust="trusted", publisher="CN=Contoso")
    three = stated(
        "msix", version="1.2.0.0", signers=[OTHER_KEY], trust="self-signed", publisher="CN=Contoso"
    )
    publish(domain, ci, "1.0", one)
    assert status(domain, publish(domain, ci, "1.1", two)) is ReleaseStatus.PUBLISHED
    assert said(domain, publish(domain, ci, "1.2", three)) == {"signer-changed": "error"}


def test_another_package_is_refused_unless_it_was_recorded(domain: Domain, ci: Actor, admin: Actor) -> None:
    publish(domain, ci, "1.0", apk(1))
    assert said(domain, publish(domain, ci, "1.1", apk(2, identifier="com.example.other"))) == {
        "identifier-changed": "error"
    }
    with domain.write(admin) as operation:
        pins.add(operation, "notes", family="apk", kind="identifier", value="com.example.other")
    assert (
        status(domain, publish(domain, ci, "1.2", apk(3, identifier="com.example.other")))
        is ReleaseStatus.PUBLISHED
    )


def test_a_pin_that_was_set_beforehand_holds_for_the_first_publish(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    with domain.write(admin) as operation:
        pins.add(operation, "notes", family="apk", kind="signer", value=f"certificate:{KEY}")
    assert said(domain, publish(domain, ci, "1.0", apk(1, OTHER_KEY))) == {"signer-changed": "error"}


def test_an_apk_for_no_platform_in_particular_is_held_to_the_pins_of_apks(domain: Domain, ci: Actor) -> None:
    publish(domain, ci, "1.0", apk(1))
    (artifact,) = domain.artifacts(publish(domain, ci, "1.1", apk(2, OTHER_KEY)))
    assert artifact.platform == "any"
    assert artifact.status is ArtifactStatus.REJECTED


def test_whoever_may_not_change_the_app_may_not_change_pins(domain: Domain, ci: Actor) -> None:
    for actor in (ci, domain.actor("release-manager")):
        with domain.write(actor) as operation, pytest.raises(Forbidden):
            pins.add(operation, "notes", family="apk", kind="signer", value=f"certificate:{KEY}")


@pytest.mark.parametrize(
    ("family", "kind", "value"),
    [
        ("zip", "identifier", "x"),
        ("apk", "owner", "x"),
        ("apk", "identifier", ""),
        ("apk", "identifier", "a\nb"),
        ("apk", "signer", KEY),
        ("apk", "signer", f"certificate:{KEY.upper()}"),
        ("apk", "signer", "team:ABCDE12345"),
        ("ipa", "signer", "team:short"),
        ("deb", "signer", f"certificate:{KEY}"),
    ],
)
def test_a_pin_that_could_never_match_is_refused(
    domain: Domain, admin: Actor, family: str, kind: str, value: str
) -> None:
    with domain.write(admin) as operation, pytest.raises(Invalid):
        pins.add(operation, "notes", family=family, kind=kind, value=value)


def test_a_removed_pin_is_gone_and_the_last_one_gives_way_to_the_next_publish(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    publish(domain, ci, "1.0", apk(1))
    with domain.write(admin) as operation:
        _, rows = pins.of_app(operation, "notes")
        for row in rows:
            pins.remove(operation, "notes", row.id)
    with domain.write(admin) as operation, pytest.raises(NotFound):
        pins.remove(operation, "notes", rows[0].id)
    assert domain.events("pin.removed") == 2
    publish(domain, ci, "1.1", apk(2, OTHER_KEY))
    assert pinned(domain) == {f"certificate:{OTHER_KEY}": True}


# -- builds -----------------------------------------------------------------------------------------


def test_a_build_number_that_other_bytes_have_is_refused_even_when_they_were_revoked(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    first = publish(domain, ci, "1.0", apk(7))
    with domain.write(admin) as operation:
        release.revoke(operation, first, reason="broken")
    again = publish(domain, ci, "1.1", apk(7))
    assert said(domain, again) == {"build-reused": "error"}
    assert f"1.0 ({first}, revoked)" in message(domain, again, "build-reused")


def test_a_lower_build_is_warned_of_and_refused_where_that_is_asked_for(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    publish(domain, ci, "1.0", apk(9))
    lower = publish(domain, ci, "1.1", apk(8))
    assert (status(domain, lower), said(domain, lower)) == (
        ReleaseStatus.PUBLISHED,
        {"build-not-higher": "warning"},
    )
    set_policy(domain, admin, {"rules": {"build-not-higher": "error"}})
    assert said(domain, publish(domain, ci, "1.2", apk(7))) == {"build-not-higher": "error"}
    assert said(domain, publish(domain, ci, "1.3", apk(10))) == {}


def test_a_revoked_release_no_longer_raises_the_bar(domain: Domain, ci: Actor, admin: Actor) -> None:
    mistaken = publish(domain, ci, "1.0", apk(99_999))
    with domain.write(admin) as operation:
        release.revoke(operation, mistaken, reason="a slip of the keyboard")
    assert said(domain, publish(domain, ci, "1.1", apk(2))) == {}


def test_an_artifact_that_did_not_change_may_come_along(domain: Domain, ci: Actor) -> None:
    same = apk(5)
    publish(domain, ci, "1.0", same)
    assert said(domain, publish(domain, ci, "1.1", same)) == {}


def test_splits_of_one_app_may_count_each_in_a_range_of_its_own(domain: Domain, ci: Actor) -> None:
    for version, code in (("1.0", 1), ("1.1", 2)):
        splits = (
            apk(code, archs=["arm64-v8a", "armeabi-v7a"]),
            apk(1000 + code, archs=["armeabi-v7a"]),
            apk(2000 + code, archs=["arm64-v8a"]),
        )
        files = {f"{number}.apk": content for number, content in enumerate(splits)}
        release_id = domain.submitted(ci, "notes", version, files)
        with domain.write() as operation:
            for row in release.artifacts_of(operation, domain.release(release_id)):
                operation.session.merge(row).variant = None
        domain.work()
        assert status(domain, release_id) is ReleaseStatus.PUBLISHED
        assert said(domain, release_id) == {}


def test_an_architecture_that_came_or_went_does_not_begin_to_count_anew(domain: Domain, ci: Actor) -> None:
    publish(domain, ci, "1.0", apk(9))
    both = publish(domain, ci, "1.1", apk(8, archs=["arm64-v8a", "x86_64"]))
    assert said(domain, both) == {"build-not-higher": "warning"}
    assert said(domain, publish(domain, ci, "1.2", apk(8, archs=["arm64-v8a"])))["build-reused"] == "error"
    assert said(domain, publish(domain, ci, "1.3", apk(5, archs=["x86_64"]))) == {
        "build-not-higher": "warning"
    }
    assert said(domain, publish(domain, ci, "1.4", apk(6, archs=["x86_64"]))) == {}


def validated(domain: Domain, *releases: str) -> None:
    """Run every job but those of the store, so that all of these wait side by side for their last step."""
    for _ in range(100):
        waiting = [job for job in domain.waiting() if job.step is not Step.STORE]
        if not waiting:
            assert {job.release_id for job in domain.waiting()} == set(releases)
            return
        domain.run(waiting[0].id)
    raise AssertionError(domain.waiting())


def store(domain: Domain, release_id: str) -> None:
    for job in domain.waiting():
        if job.release_id == release_id:
            domain.run(job.id)


def test_two_releases_that_were_validated_at_once_cannot_both_have_the_build(
    domain: Domain, ci: Actor
) -> None:
    one = domain.submitted(ci, "notes", "1.0", {"a": apk(7)})
    two = domain.submitted(ci, "notes", "1.1", {"a": apk(7)})
    validated(domain, one, two)
    store(domain, two)
    store(domain, one)
    assert (status(domain, one), status(domain, two)) == (ReleaseStatus.REJECTED, ReleaseStatus.PUBLISHED)
    assert said(domain, one) == {"build-reused": "error"}
    (job,) = [job for job in domain.jobs(one) if job.step is Step.POLICY]
    assert job.status is JobStatus.FAILED
    assert (domain.release(one).failure or {})["code"] == "policy_failed"
    assert domain.events("release.published") == 1


def test_two_first_releases_that_were_validated_at_once_cannot_both_pin_their_key(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    one = domain.submitted(ci, "notes", "1.0", {"a": apk(1, KEY)})
    two = domain.submitted(ci, "notes", "1.1", {"a": apk(2, OTHER_KEY)})
    validated(domain, one, two)
    store(domain, one)
    store(domain, two)
    assert (status(domain, one), status(domain, two)) == (ReleaseStatus.PUBLISHED, ReleaseStatus.REJECTED)
    assert pinned(domain) == {f"certificate:{KEY}": True}
    with domain.write(admin) as operation:
        pins.add(operation, "notes", family="apk", kind="signer", value=f"certificate:{OTHER_KEY}")
        release.rerun(operation, two)
    domain.work()
    assert status(domain, two) is ReleaseStatus.PUBLISHED, (
        "what lies in the store already is published from there"
    )


def test_a_release_refused_at_the_last_moment_is_not_run_again_when_its_bytes_are_garbage(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    from pipeline.models import Blob

    one = domain.submitted(ci, "notes", "1.0", {"a": apk(7)})
    validated(domain, one)
    set_policy(domain, admin, {"rules": {"no-sbom": "error"}})
    store(domain, one)
    assert status(domain, one) is ReleaseStatus.REJECTED
    (artifact,) = domain.artifacts(one)
    assert artifact.sha256 is not None
    set_policy(domain, admin, {})
    with domain.write() as operation:
        operation.session.get_one(Blob, artifact.sha256).condemned_at = operation.now
    with domain.write(admin) as operation, pytest.raises(Conflict, match="no longer kept"):
        release.rerun(operation, one)
    with domain.write(admin) as operation:
        operation.session.get_one(Blob, artifact.sha256).condemned_at = None
        operation.session.flush()
        release.rerun(operation, one)
    domain.work()
    assert status(domain, one) is ReleaseStatus.PUBLISHED


def test_a_policy_that_became_stricter_while_a_release_was_validated_holds(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    one = domain.submitted(ci, "notes", "1.0", {"a": apk(7, debuggable=True)})
    validated(domain, one)
    set_policy(domain, admin, {"rules": {"debuggable": "error"}})
    store(domain, one)
    assert status(domain, one) is ReleaseStatus.REJECTED
    assert said(domain, one) == {"debuggable": "error"}


def test_webhooks_are_told_of_a_refusal_at_the_last_moment(domain: Domain, ci: Actor, admin: Actor) -> None:
    with domain.write(admin) as operation:
        webhooks.create(operation, url="https://hooks.example.com/x")
    one = domain.submitted(ci, "notes", "1.0", {"a": apk(7, debuggable=True)})
    validated(domain, one)
    set_policy(domain, admin, {"rules": {"debuggable": "error"}})
    store(domain, one)
    with domain.database.read() as session:
        told = [(row.event, json.loads(row.payload)["data"]) for row in session.exec(select(WebhookDelivery))]
    assert [event for event, _ in told] == ["validation.failed", "release.rejected"]
    assert told[0][1]["validation"]["step"] == "policy"


# -- the rest of a release ----------------------------------------------------------------------------


def test_a_bill_of_materials_beside_the_artifact_or_the_release_is_one(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    from pipeline import draft

    set_policy(domain, admin, {"rules": {"no-sbom": "error"}})
    assert said(domain, publish(domain, ci, "1.0", apk(1))) == {"no-sbom": "error"}
    for version, kind, code, expected in (
        ("1.1", "text", 2, {"no-sbom": "error", "sbom.unread": "warning"}),
        ("1.2", "sbom-cyclonedx", 3, {}),
    ):
        row = domain.draft(ci, "notes", version, {"a.apk": apk(code)})
        upload = domain.upload(ci, stated(kind), filename="bom.json")
        with domain.write(ci) as operation:
            new = draft.NewArtifact(
                platform="any", filename="bom.json", upload_id=upload.id, attachment_kind="sbom"
            )
            draft.add_artifact(operation, row, new)
            release.submit(operation, row)
        domain.work()
        assert said(domain, row) == expected, version


def test_limits_hold_for_an_artifact_and_for_the_release(domain: Domain, ci: Actor, admin: Actor) -> None:
    set_policy(domain, admin, {"limits": {"max_artifact_bytes": 3000, "max_release_bytes": 4000}})
    large = publish(domain, ci, "1.0", apk(1, padding=3000))
    assert said(domain, large) == {"too-large": "error"}
    both = publish(domain, ci, "1.1", apk(2, padding=2000), stated("deb", padding=2000))
    assert said(domain, both) == {"release-too-large": "error"}


# -- channels -----------------------------------------------------------------------------------------


def promote(domain: Domain, actor: Actor, name: str, release_id: str) -> None:
    with domain.write(actor) as operation:
        moving.promote(operation, "notes", name, release_id)


def test_a_requested_channel_that_refuses_a_release_refuses_its_publish(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    set_policy(domain, admin, {"channels": {"stable": {"rules": {"debuggable": "error"}}}})
    beta = publish(domain, ci, "1.0", apk(1, debuggable=True), channel_name="beta")
    assert status(domain, beta) is ReleaseStatus.PUBLISHED
    assert said(domain, beta) == {"debuggable": "warning"}
    stable = publish(domain, ci, "1.1", apk(2, debuggable=True), channel_name="stable")
    assert status(domain, stable) is ReleaseStatus.REJECTED
    assert said(domain, stable) == {"debuggable": "error"}
    assert "rule debuggable of channel stable" in message(domain, stable, "debuggable")
    assert (domain.release(stable).failure or {})["code"] == "policy_failed"


def test_a_refused_promotion_says_what_to_do_about_each_of_its_findings(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    set_policy(
        domain, admin, {"channels": {"stable": {"rules": {"debuggable": "error", "no-sbom": "error"}}}}
    )
    bad = publish(domain, ci, "1.0", apk(1, debuggable=True), apk(2, debuggable=True, archs=["x86_64"]))
    with pytest.raises(PolicyRefused) as refused:
        promote(domain, ci, "stable", bad)
    assert refused.value.remedy.count("Publish the release build.") == 1
    assert refused.value.remedy.count("Attach one to the release") == 1


def test_a_promotion_cannot_bring_in_what_a_publish_could_not(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    set_policy(
        domain, admin, {"channels": {"stable": {"rules": {"debuggable": "error", "no-sbom": "warning"}}}}
    )
    good = publish(domain, ci, "1.0", apk(1))
    bad = publish(domain, ci, "1.1", apk(2, debuggable=True))
    promote(domain, ci, "stable", good)
    with pytest.raises(PolicyRefused) as refused:
        promote(domain, ci, "stable", bad)
    assert refused.value.code == "policy_failed"
    assert "stable" in refused.value.detail
    found = refused.value.extra["findings"]
    assert {(row["rule"], row["severity"], row["artifact"]) for row in found} == {
        ("policy.debuggable", "error", "0.bin"),
        ("policy.no-sbom", "warning", "0.bin"),
    }
    with domain.read(admin) as operation:
        _, row = channel.find(operation, "notes", "stable")
        assert row.release_id == good
    promote(domain, ci, "beta", bad)


def test_a_release_whose_profile_expired_meanwhile_is_not_let_in(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    set_policy(domain, admin, {"channels": {"stable": {"rules": {"profile-expired": "error"}}}})
    ios = stated("ipa", build="1", provisioning_type="adhoc", profile_expires="2026-12-01T00:00:00Z")
    one = publish(domain, ci, "1.0", ios)
    assert "profile-expired" not in said(domain, one)
    domain.clock.move(days=30)
    with pytest.raises(PolicyRefused, match="expired"):
        promote(domain, ci, "stable", one)


def test_a_rollback_to_what_was_there_is_always_possible_and_to_what_never_was_is_judged(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    first = publish(domain, ci, "1.0", apk(1, debuggable=True), channel_name="stable")
    second = publish(domain, ci, "1.1", apk(2), channel_name="stable")
    never = publish(domain, ci, "1.2", apk(3, debuggable=True))
    set_policy(
        domain,
        admin,
        {"channels": {"stable": {"rules": {"debuggable": "error", "build-not-higher": "error"}}}},
    )
    with domain.write(admin) as operation:
        moving.rollback(operation, "notes", "stable")
    promote(domain, admin, "stable", second)
    with domain.write(admin) as operation:
        moving.rollback(operation, "notes", "stable", to=first)
    with domain.write(admin) as operation, pytest.raises(PolicyRefused):
        moving.rollback(operation, "notes", "stable", to=never)


def test_an_older_release_is_promoted_unless_the_channel_itself_asks_for_rising_builds(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    older = publish(domain, ci, "1.0", apk(1))
    newer = publish(domain, ci, "1.1", apk(2))
    promote(domain, ci, "stable", newer)
    promote(domain, ci, "stable", older)
    promote(domain, ci, "stable", newer)
    set_policy(domain, admin, {"channels": {"stable": {"rules": {"build-not-higher": "error"}}}})
    with pytest.raises(PolicyRefused, match="does not rise"):
        promote(domain, ci, "stable", older)
    promote(domain, ci, "stable", newer)


def test_a_build_that_was_used_twice_enters_a_strict_channel_once(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    set_policy(
        domain,
        admin,
        {
            "rules": {"build-reused": "warning"},
            "channels": {"stable": {"rules": {"build-reused": "error"}}},
        },
    )
    first = publish(domain, ci, "1.0", apk(7))
    domain.clock.move(minutes=1)
    again = publish(domain, ci, "1.1", apk(7))
    assert said(domain, again)["build-reused"] == "warning"
    with pytest.raises(PolicyRefused, match="Other bytes"):
        promote(domain, ci, "stable", again)
    promote(domain, ci, "stable", first)


def test_a_release_from_before_a_rotation_may_still_be_promoted_and_one_by_a_removed_key_may_not(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    before = publish(domain, ci, "1.0", apk(1))
    publish(domain, ci, "1.1", apk(2, NEXT_KEY, lineage=[KEY, NEXT_KEY]))
    promote(domain, ci, "stable", before)
    with domain.write(admin) as operation:
        _, rows = pins.of_app(operation, "notes")
        (stolen,) = [row.id for row in rows if row.value == f"certificate:{KEY}"]
        pins.remove(operation, "notes", stolen)
    with pytest.raises(PolicyRefused, match="signed by"):
        promote(domain, ci, "beta", before)


# -- the policy itself ----------------------------------------------------------------------------------


def test_a_policy_is_replaced_by_whoever_saw_it_last_and_the_log_says_what_changed(
    domain: Domain, admin: Actor
) -> None:
    assert set_policy(domain, admin, {"rules": {"debuggable": "error"}}) == 1
    with domain.write(admin) as operation, pytest.raises(Conflict, match="revision 1 by a admin"):
        app_policy.change(operation, "notes", {}, expected_revision=0)
    assert set_policy(domain, admin, {"rules": {"debuggable": "error"}}) == 1, "nothing changed"
    assert set_policy(domain, admin, {}) == 2
    assert domain.events("policy.changed") == 2


def test_a_ci_token_sees_the_policy_and_does_not_change_it(domain: Domain, ci: Actor) -> None:
    with domain.read(ci) as operation:
        assert app_policy.find(operation, "notes")[2] is None
    with domain.write(ci) as operation, pytest.raises(Forbidden):
        app_policy.change(operation, "notes", {}, expected_revision=0)
    tester = domain.actor("tester")
    with domain.read(tester) as operation, pytest.raises(Forbidden):
        app_policy.find(operation, "notes")


def test_hindsight_says_what_a_policy_would_have_said_and_changes_nothing(
    domain: Domain, ci: Actor, admin: Actor
) -> None:
    one = publish(domain, ci, "1.0", apk(5, debuggable=True), channel_name="beta")
    two = publish(domain, ci, "1.1", apk(4))
    rotated = publish(domain, ci, "1.2", apk(6, NEXT_KEY, lineage=[KEY, NEXT_KEY]))
    document = {
        "rules": {"debuggable": "error", "build-not-higher": "error"},
        "channels": {"stable": {"rules": {"no-sbom": "error"}}},
    }
    with domain.read(ci) as operation:
        _, items = hindsight.preview(operation, "notes", document, limit=50)
    assert [row["release_id"] for row in items] == [rotated, two, one]
    assert [row["refused"] for row in items] == [False, True, True]
    assert [[found["rule"] for found in row["findings"]] for row in items] == [
        [],
        ["policy.build-not-higher"],
        ["policy.debuggable"],
    ]
    assert [[(one["name"], one["refused"]) for one in row["channels"]] for row in items] == [
        [("stable", True)]
    ] * 3
    with domain.read(ci) as operation:
        _, items = hindsight.preview(operation, "notes", {}, limit=1)
    assert [(row["release_id"], row["refused"]) for row in items] == [(rotated, False)]
    assert domain.events("policy.changed") == 0
