"""`dist ci publish` against a real server and worker: what CI sees, run after run."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.support.cutting_proxy import cutting
from tests.support.dist_run import Dist

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("cli-live")]


@dataclass(frozen=True)
class Project:
    """A folder with a dist.json and one text file, of which every byte counts."""

    folder: Path
    slug: str

    @property
    def manifest(self) -> Path:
        return self.folder / "dist.json"

    def write(self, content: bytes = b"hello\n", *, name: str = "notes.txt", **changes: Any) -> "Project":
        (self.folder / name).write_bytes(content)
        rows = [{"path": name, "platform": "linux" if name.endswith(".deb") else "any"}]
        document = {"schema": 1, "app": self.slug, "version": "1.0.0", "artifacts": rows} | changes
        self.manifest.write_text(json.dumps(document))
        return self

    def publish(self, dist: Dist, *more: object, status: int = 0, **environ: str) -> dict[str, Any]:
        return dist.json("ci", "publish", "--manifest", self.manifest, *more, status=status, **environ)


@pytest.fixture
def project(tmp_path: Path, slug: Callable[[], str]) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder, slug())


def test_first_publish_has_every_key_of_the_contract(admin: Dist, project: Project) -> None:
    document = project.write(build=7, channel="beta", notes="Faster.").publish(admin)
    assert document["created"] is True
    assert document["app"] == project.slug
    release = document["release"]
    assert release["id"].startswith("rel_")
    assert (release["version"], release["build"], release["status"]) == ("1.0.0", 7, "published")
    assert release["published_at"].endswith("Z")
    assert {"url", "manifest_url", "signature_url"} <= set(release)
    (artifact,) = document["artifacts"]
    assert {
        "id",
        "filename",
        "platform",
        "arch",
        "format",
        "size",
        "sha256",
        "status",
        "deduplicated",
    } <= set(artifact)
    assert {"download_url", "install_url", "metadata"} <= set(artifact)
    assert artifact["sha256"] == hashlib.sha256(b"hello\n").hexdigest()
    assert (artifact["status"], artifact["size"]) == ("stored", 6)
    steps = {row["step"]: row for row in document["validations"]}
    assert set(steps) == {"hash", "inspect", "policy", "store"}
    for row in steps.values():
        assert row["status"] == "succeeded"
        assert {"artifact_id", "attempts", "duration_ms", "findings"} <= set(row)
    assert document["channel"]["name"] == "beta"
    assert document["channel"]["release_id"] == release["id"]
    assert document["channel"]["previous_release_id"] is None
    assert document["install_url"].endswith(f"/install/{project.slug}/beta")


def test_the_same_again_changes_nothing(admin: Dist, project: Project) -> None:
    first = project.write(channel="beta").publish(admin)
    events = admin.json("audit", "list", "--app", project.slug, "--limit", 500)["items"]
    again = project.publish(admin)
    assert again["created"] is False
    assert again["release"] == first["release"]
    assert again["artifacts"] == first["artifacts"]
    assert admin.json("audit", "list", "--app", project.slug, "--limit", 500)["items"] == events


def test_other_bytes_under_the_same_version_are_refused(admin: Dist, project: Project) -> None:
    first = project.write().publish(admin)
    document = project.write(b"other\n").publish(admin, status=4)
    assert document["error"]["code"] == "immutable"
    assert "notes.txt" in document["error"]["detail"]
    assert document["release"]["id"] == first["release"]["id"]
    assert project.write(b"other\n", build=2).publish(admin)["release"]["id"] != first["release"]["id"]


def test_an_artifact_more_or_less_is_other_content(admin: Dist, project: Project) -> None:
    project.write().publish(admin)
    (project.folder / "more.zip").write_bytes(b"more\n")
    rows = [{"path": "notes.txt", "platform": "any"}, {"path": "more.zip", "platform": "any"}]
    assert project.write(artifacts=rows).publish(admin, status=4)["error"]["code"] == "immutable"
    sbom = [{"path": "more.zip", "kind": "other"}]
    assert project.write(attachments=sbom).publish(admin, status=4)["error"]["code"] == "immutable"


def test_a_bad_artifact_is_refused_and_refused_again_and_a_mended_one_is_published(
    admin: Dist, project: Project
) -> None:
    bad = project.write(b"no package\n", name="notes.deb").publish(admin, status=5)
    assert bad["error"]["code"] == "validation_failed"
    assert bad["created"] is True
    assert bad["release"]["status"] == "rejected"
    findings = [
        finding for row in bad["validations"] for finding in row["findings"] if finding["severity"] == "error"
    ]
    assert findings
    assert all({"rule", "message", "remedy"} <= set(finding) for finding in findings)
    again = project.publish(admin, status=5)
    assert again["created"] is False
    assert again["release"]["id"] == bad["release"]["id"]
    assert again["error"]["code"] == bad["error"]["code"]
    assert f"dist release rerun {bad['release']['id']}" in again["error"]["remedy"]
    good = project.write().publish(admin)
    assert good["created"] is True
    assert good["release"]["id"] != bad["release"]["id"]


def test_people_see_every_finding_of_a_refusal(admin: Dist, project: Project) -> None:
    project.write(b"no package\n", name="notes.deb")
    answer = admin("ci", "publish", "--manifest", project.manifest)
    assert (answer.status, answer.out) == (5, "")
    assert "error: notes.deb:" in answer.err
    assert "notes.deb: inspect failed" in answer.err
    quiet = admin("ci", "publish", "--manifest", project.manifest, "--quiet")
    assert "inspect" not in quiet.err.replace("Validation failed", "")


def test_the_same_bytes_travel_once(admin: Dist, project: Project, live: Any) -> None:
    content = hashlib.sha512(project.slug.encode()).hexdigest().encode() * 20_000
    project.write(content).publish(admin)
    with cutting(live.url, []) as proxy:
        second = Dist(admin.home, proxy.url, admin.token)
        document = project.write(content, version="2.0.0").publish(second)
        assert proxy.passed < 100_000 < len(content)
    assert document["artifacts"][0]["deduplicated"] is True


def test_one_file_in_two_slots_and_as_attachment(admin: Dist, project: Project) -> None:
    rows = [
        {"path": "notes.txt", "platform": "any"},
        {"path": "notes.txt", "platform": "any", "variant": "b"},
    ]
    attached = [{"path": "notes.txt", "kind": "other", "artifact": "notes.txt"}]
    (project.folder / "x").write_bytes(b"x")
    document = project.write(artifacts=rows).publish(admin)
    assert [row["variant"] for row in document["artifacts"]] == [None, "b"]
    document = project.write(version="2", attachments=attached).publish(admin)
    assert document["attachments"][0]["artifact_id"] == document["artifacts"][0]["id"]
    assert project.publish(admin)["created"] is False


def test_a_testflight_link_needs_no_file(admin: Dist, project: Project) -> None:
    rows = [
        {
            "platform": "ios",
            "ios": {"mode": "testflight", "url": "https://testflight.apple.com/join/AbCdEfGh"},
        }
    ]
    document = project.write(artifacts=rows).publish(admin)
    assert document["artifacts"][0]["status"] == "linked"
    assert project.publish(admin)["created"] is False


def test_no_wait_and_then_wait(admin: Dist, project: Project) -> None:
    document = project.write().publish(admin, "--no-wait")
    assert document["created"] is True
    assert document["release"]["status"] == "validating"
    waited = admin.json("release", "wait", document["release"]["id"])
    assert waited["release"]["status"] == "published"
    assert waited["artifacts"][0]["status"] == "stored"


def test_a_dry_run_says_what_would_happen_and_changes_nothing(admin: Dist, project: Project) -> None:
    plan = project.write(channel="beta").publish(admin, "--dry-run")
    assert [step["action"] for step in plan["plan"]] == [
        "create_app",
        "open_release",
        "upload",
        "submit",
        "promote",
    ]
    assert admin.json("app", "show", project.slug, status=2)["error"]["code"] == "not_found"
    project.publish(admin)
    assert [step["action"] for step in project.publish(admin, "--dry-run")["plan"]] == ["nothing"]
    assert project.write(b"other\n").publish(admin, "--dry-run", status=4)["error"]["code"] == "immutable"


def test_github_and_junit(admin: Dist, project: Project, tmp_path: Path) -> None:
    out, summary, junit = tmp_path / "out", tmp_path / "summary.md", tmp_path / "reports" / "junit.xml"
    project.write(b"no package\n", name="notes.deb")
    document = project.publish(
        admin, "--junit", junit, status=5, GITHUB_OUTPUT=str(out), GITHUB_STEP_SUMMARY=str(summary)
    )
    assert f"release-id={document['release']['id']}\n" in out.read_text()
    assert "rejected" in summary.read_text()
    assert int(ET.parse(junit).getroot().get("failures") or 0) >= 1
    out.unlink()
    good = project.write().publish(admin, GITHUB_OUTPUT=str(out))
    assert json.loads(dict(line.split("=", 1) for line in out.read_text().splitlines())["digests"]) == {
        "notes.txt": f"sha256:{good['artifacts'][0]['sha256']}"
    }


def test_a_manifest_that_is_wrong_sends_no_request(tmp_path: Path, project: Project) -> None:
    nobody = Dist(tmp_path, "http://127.0.0.1:9", "dist_x")
    for changes in ({"version": ""}, {"artifacts": [{"path": "missing.txt", "platform": "any"}]}):
        document = project.write(**changes).publish(nobody, status=2)
        assert document["error"]["code"] == "invalid_manifest"
        assert document["error"]["problems"]


def test_a_ci_token_cannot_create_an_app_unless_it_may(admin: Dist, project: Project) -> None:
    plain = admin.json("token", "create", "--name", "ci", "--role", "ci")["token"]
    error = project.write().publish(Dist(admin.home, admin.server, plain), status=3)["error"]
    assert (error["code"], error["right"]) == ("forbidden", "app:create")
    assert (
        project.publish(Dist(admin.home, admin.server, plain), "--dry-run", status=3)["error"]["right"]
        == "app:create"
    )
    able = admin.json("token", "create", "--name", "ci", "--role", "ci", "--create-apps")["token"]
    described = {"slug": project.slug, "name": "Notes", "description": "Sync.", "platforms": ["linux"]}
    rows = [{"path": "notes.txt", "platform": "linux"}]
    project.write(app=described, artifacts=rows).publish(Dist(admin.home, admin.server, able))
    app = admin.json("app", "show", project.slug)
    assert (app["app"], app["name"], app["platforms"]) == (project.slug, "Notes", ["linux"])


def test_a_token_for_another_channel(admin: Dist, project: Project) -> None:
    admin.json("app", "create", project.slug)
    token = admin.json(
        "token", "create", "--name", "ci", "--role", "ci", "--app", project.slug, "--channel", "beta"
    )["token"]
    scoped = Dist(admin.home, admin.server, token)
    error = project.write(channel="stable").publish(scoped, status=3)["error"]
    assert (error["code"], error["right"]) == ("forbidden", "channel:promote")
    assert project.write(channel="beta").publish(scoped)["channel"]["name"] == "beta"


def test_a_revoked_token(admin: Dist, project: Project) -> None:
    made = admin.json("token", "create", "--name", "short", "--role", "admin")
    admin.json("token", "revoke", made["id"])
    answer = Dist(admin.home, admin.server, made["token"])(
        "ci", "publish", "--manifest", project.write().manifest, "--json"
    )
    assert answer.status == 3
    assert answer.document["error"]["code"] == "unauthorized"
    assert made["token"] not in answer.out + answer.err


def test_broken_connections_do_not_cost_what_had_arrived(admin: Dist, project: Project, live: Any) -> None:
    content = hashlib.sha512(b"seed").digest() * (40 * 16 * 1024)  # 40 MiB
    cuts = [3_000_000, 500, 20_000_000, 700, 5_000_000]
    with cutting(live.url, cuts) as proxy:
        document = project.write(content, name="big.bin").publish(Dist(admin.home, proxy.url, admin.token))
        assert not proxy.cuts
        assert proxy.passed < 1.5 * len(content)
    assert document["artifacts"][0]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_connection_that_the_server_does_not_see_break(admin: Dist, project: Project, live: Any) -> None:
    content = hashlib.sha512(b"silent").digest() * (10 * 16 * 1024)  # 10 MiB
    with cutting(live.url, [4_000_000], silent=True) as proxy:
        document = project.write(content, name="big.bin").publish(Dist(admin.home, proxy.url, admin.token))
    assert document["artifacts"][0]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_server_that_goes_away_is_unreachable(tmp_path: Path, project: Project) -> None:
    document = project.write().publish(Dist(tmp_path, "http://127.0.0.1:9", "dist_x"), status=6)
    assert document["error"]["code"] == "unreachable"
    assert document["app"] == project.slug
