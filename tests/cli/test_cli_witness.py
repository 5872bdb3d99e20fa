"""Attack stories about the audit log: the server changes its past, and whoever saw it before notices."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cli.merkle import Tree, leaf_hash
from tests.support.dist_run import Dist
from tests.support.merkle_reference import mth, subproof


@dataclass
class Log:
    """A server that has nothing but an audit log, which a test may bend."""

    bodies: list[str] = field(default_factory=list)
    origin: str = "https://dist.example/audit"
    shown: dict[int, dict[str, Any]] = field(default_factory=dict)  # what the list shows otherwise
    hidden: set[int] = field(default_factory=set)
    scope: list[str] = field(default_factory=list)

    def append(self, count: int) -> None:
        for _ in range(count):
            seq = len(self.bodies) + 1
            self.bodies.append(
                json.dumps(
                    {
                        "id": f"evt_{seq}",
                        "action": "release.published",
                        "subject": f"rel_{seq}",
                        "app": "notes",
                    }
                )
            )

    @property
    def leaves(self) -> list[bytes]:
        return [leaf_hash(body.encode()) for body in self.bodies]

    def answer(self, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        match request.url.path:
            case "/api/v1/audit/checkpoint":
                return httpx.Response(
                    200,
                    json={"origin": self.origin, "size": len(self.bodies), "root": mth(self.leaves).hex()},
                )
            case "/api/v1/audit/consistency":
                proof = subproof(int(query["first"]), self.leaves[: int(query["second"])], True)
                return httpx.Response(200, json={"proof": [node.hex() for node in proof]})
            case "/api/v1/whoami":
                return httpx.Response(200, json={"token": {"apps": self.scope}})
            case _:
                return self._page(int(query.get("cursor") or 0), int(query["limit"]))

    def _page(self, after: int, limit: int) -> httpx.Response:
        rows = [
            {"seq": seq, "leaf": leaf_hash(body.encode()).hex(), **json.loads(body), "body": body}
            | self.shown.get(seq, {})
            for seq, body in enumerate(self.bodies, 1)
            if seq > after and seq not in self.hidden
        ]
        more = len(rows) > limit
        return httpx.Response(
            200, json={"items": rows[:limit], "next_cursor": str(rows[limit - 1]["seq"]) if more else None}
        )


def watch(log: Log, tmp_path: Path) -> Dist:
    return Dist(tmp_path, "https://dist.example", "dist_x", httpx.MockTransport(log.answer))


def stored(tmp_path: Path) -> dict[str, Any]:
    (path,) = (tmp_path / ".local/state/dist/audit").iterdir()
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def verify_fails(dist: Dist, said: str, tmp_path: Path) -> None:
    before = stored(tmp_path)
    error = dist.json("audit", "verify", status=5)["error"]
    assert said in error["detail"]
    assert stored(tmp_path) == before, "what was refused must not be remembered"


def test_an_honest_log_grows(tmp_path: Path) -> None:
    log = Log()
    dist = watch(log, tmp_path)
    assert dist.json("audit", "verify")["previous"] is None
    for count in (1, 3, 250, 1):
        log.append(count)
        document = dist.json("audit", "verify")
        assert document["events"] == len(log.bodies)
        assert document["checkpoint"]["root"] == mth(log.leaves).hex()
    assert document["previous"]["size"] == 254


def test_an_event_was_edited_in_the_database(tmp_path: Path) -> None:
    log = Log()
    log.append(10)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    log.bodies[3] = log.bodies[3].replace(
        "rel_4", "rel_9"
    )  # leaves and root are made anew: only a witness can tell
    verify_fails(dist, "The first 10 events are not the ones", tmp_path)


def test_an_event_was_edited_and_the_leaf_was_not(tmp_path: Path) -> None:
    log = Log()
    log.append(5)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    log.shown[3] = {"body": log.bodies[2].replace("rel_3", "rel_9")}
    verify_fails(dist, "Event 3 (leaf 2) was changed", tmp_path)


def test_the_list_shows_something_else_than_was_hashed(tmp_path: Path) -> None:
    log = Log()
    log.append(5)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    log.shown[2] = {"subject": "rel_innocent"}
    verify_fails(dist, "Event 2 (leaf 1) shows another `subject`", tmp_path)


def test_the_tail_was_cut_off(tmp_path: Path) -> None:
    log = Log()
    log.append(10)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    del log.bodies[7:]
    verify_fails(dist, "The log had 10 events and now has 7", tmp_path)


def test_an_old_backup_was_restored_and_grew_past_the_checkpoint(tmp_path: Path) -> None:
    log = Log()
    log.append(10)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    del log.bodies[7:]
    log.bodies.append(json.dumps({"id": "evt_other"}))
    log.append(10)
    verify_fails(dist, "The first 10 events are not the ones", tmp_path)
    assert dist.json("audit", "verify", "--accept-new-log")["events"] == 18
    assert dist.json("audit", "verify")["previous"]["size"] == 18


def test_an_event_is_hidden(tmp_path: Path) -> None:
    log = Log()
    log.append(5)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    log.hidden.add(2)
    verify_fails(dist, "Event 2 (leaf 1) is missing", tmp_path)
    log.hidden = {5}
    verify_fails(dist, "speaks of 5 events and the server gives 4", tmp_path)


def test_a_token_that_sees_some_apps_only_is_no_evidence_against_the_server(tmp_path: Path) -> None:
    log = Log(scope=["notes"])
    log.append(5)
    log.hidden.add(2)
    error = watch(log, tmp_path).json("audit", "verify", status=3)["error"]
    assert error["code"] == "forbidden"
    assert "all apps" in error["detail"]


def test_it_is_another_log(tmp_path: Path) -> None:
    log = Log()
    log.append(3)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    log.origin = "https://other.example/audit"
    verify_fails(dist, "This is another log", tmp_path)


def test_the_memory_was_damaged(tmp_path: Path) -> None:
    log = Log()
    log.append(3)
    dist = watch(log, tmp_path)
    dist.json("audit", "verify")
    (path,) = (tmp_path / ".local/state/dist/audit").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("{}")
    assert "cannot be read" in dist.json("audit", "verify", status=5)["error"]["detail"]


def test_two_servers_have_two_memories(tmp_path: Path) -> None:
    log = Log()
    log.append(3)
    watch(log, tmp_path).json("audit", "verify")
    Dist(tmp_path, "https://dist.example:8443", "dist_x", httpx.MockTransport(log.answer)).json(
        "audit", "verify"
    )
    assert len(list((tmp_path / ".local/state/dist/audit").iterdir())) == 2


def test_the_tree_is_computed_here_and_not_believed() -> None:
    tree = Tree()
    for leaf in Log(["{}", "[]"]).leaves:
        tree.add(leaf)
    assert tree.root == mth(Log(["{}", "[]"]).leaves)
