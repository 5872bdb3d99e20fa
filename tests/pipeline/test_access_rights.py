"""Who may do what: each role against each right, scopes, and the tokens behind them."""

import hashlib
import json

import pytest

from pipeline import apps, channel, release, tokens
from pipeline.access import (
    ANONYMOUS,
    RIGHTS,
    SYSTEM,
    Actor,
    Right,
    Role,
    authenticate,
    needs_touch,
    new_secret,
    require,
)
from pipeline.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from pipeline.models import Token
from tests.support.domain import Domain

# The table that people are told: docs/configuration.md and `dist token create --help` say the same.
EXPECTED = {
    "admin": set(Right),
    "release-manager": {
        Right.APP_READ, Right.RELEASE_READ, Right.RELEASE_PUBLISH, Right.RELEASE_RERUN, Right.RELEASE_REVOKE,
        Right.CHANNEL_PROMOTE, Right.CHANNEL_DELETE, Right.CHANNEL_APPROVE, Right.DOWNLOAD, Right.AUDIT_READ, Right.QUEUE_READ,
        Right.RELEASE_KEEP, Right.LINK_MANAGE, Right.WEBHOOK_MANAGE,
    },
    "ci": {Right.APP_READ, Right.RELEASE_READ, Right.RELEASE_PUBLISH, Right.CHANNEL_PROMOTE, Right.DOWNLOAD},
    "tester": {Right.APP_READ, Right.DOWNLOAD},
}  # fmt: skip


@pytest.mark.parametrize("role", Role)
def test_each_role_has_its_rights_and_no_other(role: Role):
    actor = Actor("tok_1", "x", role)
    assert {right for right in Right if actor.may(right)} == EXPECTED[role.value]
    assert RIGHTS[role] == EXPECTED[role.value]


@pytest.mark.parametrize("actor", [ANONYMOUS, SYSTEM])
@pytest.mark.parametrize("right", Right)
def test_nobody_has_no_right(actor: Actor, right: Right):
    assert not actor.may(right)
    with pytest.raises((Unauthorized, Forbidden)):
        require(actor, right)


@pytest.mark.parametrize(
    ("apps_scope", "channels_scope", "app", "channel", "may"),
    [
        ([], [], "notes", "stable", True),
        (["notes"], [], "notes", "stable", True),
        (["notes"], [], "other", "stable", False),
        (["notes"], ["beta"], "notes", "beta", True),
        (["notes"], ["beta"], "notes", "stable", False),
        ([], ["beta"], "other", "beta", True),
    ],
)
def test_a_scope_limits_apps_and_channels(apps_scope, channels_scope, app: str, channel: str, may: bool):
    actor = Actor("tok_1", "x", Role.CI, frozenset(apps_scope), frozenset(channels_scope))
    assert actor.may(Right.CHANNEL_PROMOTE, app=app, channel=channel) is may


def test_the_missing_right_is_named(domain: Domain):
    with pytest.raises(Forbidden) as refused:
        require(domain.actor("tester"), Right.RELEASE_PUBLISH, app="notes")
    assert refused.value.extra == {"right": "release:publish"}
    assert "release:publish for app 'notes'" in refused.value.detail
    assert "role tester" in refused.value.detail


def test_the_scope_that_is_too_small_is_named(domain: Domain):
    with pytest.raises(Forbidden, match="its scope is apps notes and channels beta"):
        require(
            domain.actor("ci", apps=["notes"], channels=["beta"]),
            Right.CHANNEL_PROMOTE, app="notes", channel="stable",
        )  # fmt: skip


# -- tokens ---------------------------------------------------------------------------------------


def made(domain: Domain, **options) -> tuple[Token, str]:
    with domain.write() as operation:
        return tokens.create(operation, **({"name": "a", "role": "ci"} | options))


def login(domain: Domain, text: str) -> Token:
    with domain.database.read() as session:
        return authenticate(session, text, domain.clock())


def test_a_token_opens_and_its_secret_is_nowhere(domain: Domain):
    row, text = made(domain)
    assert login(domain, text).id == row.id
    secret = text.rpartition("_")[2]
    assert row.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    domain.database.close()
    for path in domain.layout.root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_every_token_is_another():
    made_here = {new_secret()[1] for _ in range(200)}
    assert len(made_here) == 200
    assert {len(text) for text in made_here} == {len("dist_") + 12 + 1 + 43}


def test_unknown_wrong_expired_and_revoked_give_one_answer(domain: Domain):
    _, good = made(domain)
    expired, expired_text = made(domain, expires="1h")
    revoked, revoked_text = made(domain)
    assert expired.expires_at is not None
    with domain.write(domain.actor("admin")) as operation:
        tokens.revoke(operation, revoked.id)
    domain.clock.move(hours=1)
    flipped = good[:-1] + ("a" if good[-1] != "a" else "b")
    answers = set()
    for text in (new_secret()[1], flipped, expired_text, revoked_text, "", "dist_", "dist_x_y", good + "x",
                 good.upper(), "\0", "ä" * 60, "x" * 100_000):  # fmt: skip
        with pytest.raises(Unauthorized) as refused:
            login(domain, text)
        answers.add((refused.value.detail, refused.value.remedy))
    assert len(answers) == 1
    assert login(domain, good)


@pytest.mark.parametrize("text", ["", "90", "d", "0d", "-1d", "1.5h", "1y", "1d ", "9999999d", "٣d"])
def test_a_term_that_is_none_is_refused(domain: Domain, text: str):
    if text == "":
        assert made(domain, expires=text)[0].expires_at is None
        return
    with pytest.raises(Invalid, match="duration"):
        made(domain, expires=text)


@pytest.mark.parametrize(
    "options",
    [
        {"role": "root"},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"apps": ["No App"]},
        {"channels": ["No/Channel"]},
        {"role": "tester", "create_apps": True},
        {"role": "admin", "create_apps": True},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(domain: Domain, options):
    before = domain.events("token.created")
    with pytest.raises(Invalid) as refused:
        made(domain, **options)
    assert refused.value.remedy
    assert domain.events("token.created") == before


def test_revoking_twice_is_once(domain: Domain):
    admin = domain.actor("admin")
    row, _ = made(domain)
    for _ in range(2):
        with domain.write(admin) as operation:
            tokens.revoke(operation, row.id)
    assert domain.events("token.revoked") == 1
    with pytest.raises(NotFound), domain.write(admin) as operation:
        tokens.revoke(operation, "tok_unknown")
    with pytest.raises(Forbidden, match="token:manage"), domain.write(domain.actor("ci")) as operation:
        tokens.revoke(operation, row.id)


def test_a_token_has_no_secret_in_the_audit_log(domain: Domain):
    _, text = made(domain, apps=["notes"], expires="90d")
    with domain.plain() as file:
        [(body,)] = file.execute("SELECT body FROM audit_event WHERE action = 'token.created'").fetchall()
    assert text not in body
    assert text.rpartition("_")[2] not in body
    assert json.loads(body)["details"]["apps"] == ["notes"]


def test_the_last_use_is_written_once_a_minute(domain: Domain):
    row, _ = made(domain)
    assert needs_touch(row, domain.clock())
    row.last_used_at = domain.clock()
    domain.clock.move(seconds=59)
    assert not needs_touch(row, domain.clock())
    domain.clock.move(seconds=1)
    assert needs_touch(row, domain.clock())


# -- apps -----------------------------------------------------------------------------------------


def test_what_is_outside_of_a_scope_reads_as_not_found(domain: Domain):
    domain.app("notes")
    domain.app("secret")
    ci = domain.actor("ci", apps=["notes"])
    texts = set()
    for slug in ("secret", "nothing"):
        with pytest.raises(NotFound) as refused, domain.read(ci) as operation:
            apps.find(operation, slug)
        texts.add(refused.value.detail.replace(slug, "…"))
    assert len(texts) == 1, "one that is there reads like one that is not"
    with domain.read(ci) as operation:
        assert [app.slug for app in apps.visible(operation)] == ["notes"]


def test_nobody_is_asked_for_a_token_whatever_the_app(domain: Domain):
    domain.app("notes")
    domain.app("open", access="public")
    for slug in ("notes", "nothing"):
        with pytest.raises(Unauthorized), domain.read(ANONYMOUS) as operation:
            apps.find(operation, slug)
    with domain.read(ANONYMOUS) as operation:
        assert apps.find(operation, "open").slug == "open"
    with pytest.raises(Unauthorized), domain.read(ANONYMOUS) as operation:
        apps.find(operation, "open", Right.APP_WRITE)


def test_a_draft_of_a_public_app_is_not_public(domain: Domain):
    domain.app("open", access="public")
    ci = domain.actor("ci")
    draft_id = domain.draft(ci, "open", "1.0", {"a.bin": b"x\n"})
    published = domain.published(ci, "open", "2.0")
    with pytest.raises(Unauthorized), domain.read(ANONYMOUS) as operation:
        release.find(operation, draft_id)
    with domain.read(ANONYMOUS) as operation:
        assert release.find(operation, published)[1].id == published


def test_a_ci_token_creates_an_app_only_with_that_right_and_within_its_scope(domain: Domain):
    with pytest.raises(Forbidden, match="app:create"), domain.write(domain.actor("ci")) as operation:
        apps.create(operation, "fresh")
    maker = domain.actor("ci", create_apps=True, apps=["fresh"])
    with domain.write(maker) as operation:
        assert apps.create(operation, "fresh")[1] is True
        assert apps.create(operation, "fresh")[1] is False
    with pytest.raises(Forbidden), domain.write(maker) as operation:
        apps.create(operation, "other")


def test_an_app_with_other_properties_is_a_conflict(domain: Domain):
    domain.app("notes", name="Notes")
    with pytest.raises(Conflict, match="other properties"):
        domain.app("notes", name="Nots")


@pytest.mark.parametrize("slug", ["", "-x", "Notes", "a_b", "a/b", "x" * 64, "api", "static", "notes\n", "ñ"])
def test_a_slug_that_is_none_is_refused(domain: Domain, slug: str):
    with pytest.raises(Invalid, match="slug"):
        domain.app(slug)


@pytest.mark.parametrize(
    "properties",
    [{"name": ""}, {"name": " "}, {"name": "a\nb"}, {"name": "x" * 201}, {"description": "x" * 10_001},
     {"platforms": []}, {"platforms": ["amiga"]}, {"access": "everybody"}],
)  # fmt: skip
def test_properties_that_make_no_sense_are_refused(domain: Domain, properties):
    with pytest.raises(Invalid) as refused:
        domain.app("notes", **properties)
    assert refused.value.remedy
    assert domain.events("app.created") == 0


def test_a_change_that_changes_nothing_is_not_recorded(domain: Domain):
    domain.app("notes", name="Notes")
    admin = domain.actor("admin")
    with domain.write(admin) as operation:
        apps.change(operation, "notes", name="Notes")
    assert domain.events("app.changed") == 0
    with domain.write(admin) as operation:
        apps.change(operation, "notes", name="Better notes", platforms=["ios"])
    assert domain.events("app.changed") == 1


def test_a_testers_scope_of_channels_narrows_what_is_told_as_well(domain: Domain):
    """As on pages and downloads: what those channels offer now, and no other channel or release."""
    domain.app("notes")
    ci = domain.actor("ci")
    old = domain.published(ci, "notes", "1.0", channel_name="beta")
    beta = domain.published(ci, "notes", "1.1", channel_name="beta")
    stable = domain.published(ci, "notes", "2.0", channel_name="stable")
    loose = domain.published(ci, "notes", "3.0")
    everybody = [loose, stable, beta, old]
    seen = {}
    for name, actor in {
        "scoped": domain.actor("tester", channels=["beta"]),
        "tester": domain.actor("tester"),
        "scoped ci": domain.actor("ci", channels=["beta"]),
    }.items():
        with domain.read(actor) as operation:
            app = apps.find(operation, "notes")
            listed = [row.id for row in release.of_app(operation, app)]
            channels = [row.name for row in channel.of_app(operation, app)]
            found = []
            for release_id in everybody:
                try:
                    found.append(release.find(operation, release_id)[1].id)
                except NotFound:
                    continue
        assert found == listed
        seen[name] = (listed, channels)
    assert seen == {
        "scoped": ([beta], ["beta"]),
        "tester": (everybody, ["beta", "stable"]),
        "scoped ci": (everybody, ["beta", "stable"]),
    }
    with (
        pytest.raises(NotFound, match="no channel"),
        domain.read(domain.actor("tester", channels=["beta"])) as operation,
    ):
        channel.find(operation, "notes", "stable")
    with domain.write(domain.actor()) as operation:
        apps.change(operation, "notes", access="public")
    with domain.read(domain.actor("tester", channels=["beta"])) as operation:
        assert len(release.of_app(operation, apps.find(operation, "notes"))) == 4, (
            "a public app is everybody's"
        )
