"""dist.json as a document: what is refused, with which path, and that the JSON Schema says the same."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.declared import InvalidManifest, parse_manifest
from cli.manifest import ATTACHMENT_KINDS, IOS_MODES, MANIFEST, RESERVED_SLUGS, json_schema
from cli.platforms import PLATFORMS
from cli.shape import Report

REPOSITORY = Path(__file__).resolve().parents[2]
VALIDATOR = jsonschema.Draft202012Validator(json_schema())

CONTRACT_EXAMPLE: dict[str, Any] = {
    "schema": 1,
    "app": "notes",
    "version": "1.4.0",
    "build": 1040,
    "channel": "beta",
    "notes": "Faster sync.",
    "source": {
        "repository": "https://git.example/notes",
        "revision": "9f3c" * 10,
        "ref": "refs/tags/v1.4.0",
        "ci_url": "https://ci.example/77",
    },
    "artifacts": [
        {"path": "build/notes.apk", "platform": "android"},
        {"path": "build/notes.ipa", "platform": "ios", "ios": {"mode": "enterprise"}},
        {
            "platform": "ios",
            "ios": {"mode": "testflight", "url": "https://testflight.apple.com/join/AbCdEfGh"},
        },
        {"path": "build/Notes.dmg", "platform": "macos", "arch": "universal"},
        {"path": "build/notes-*.msix", "platform": "windows", "arch": "x64", "variant": "store"},
    ],
    "attachments": [{"path": "sbom.cdx.json", "kind": "sbom"}],
}


def minimal(**changes: Any) -> dict[str, Any]:
    document = {
        "schema": 1,
        "app": "notes",
        "version": "1",
        "artifacts": [{"path": "a.apk", "platform": "android"}],
    }
    return {key: value for key, value in (document | changes).items() if value is not ...}


def artifact(**changes: Any) -> dict[str, Any]:
    row = {"path": "a.apk", "platform": "android"} | changes
    return minimal(artifacts=[{key: value for key, value in row.items() if value is not ...}])


def problems_of(document: Any) -> list[tuple[str, str]]:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(InvalidManifest) as caught:
        parse_manifest(raw)
    assert caught.value.exit_status == 2
    assert caught.value.code == "invalid_manifest"
    assert all(problem.remedy for problem in caught.value.problems)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_the_example_of_the_contract_is_valid() -> None:
    manifest = parse_manifest(json.dumps(CONTRACT_EXAMPLE).encode())
    assert (manifest.app.slug, manifest.version, manifest.build, manifest.channel) == (
        "notes",
        "1.4.0",
        1040,
        "beta",
    )
    assert manifest.artifacts[2].link == "https://testflight.apple.com/join/AbCdEfGh"
    assert manifest.artifacts[4].at == "$.artifacts[4]"
    VALIDATOR.validate(CONTRACT_EXAMPLE)


def test_an_app_may_be_described() -> None:
    document = minimal(
        app={"slug": "notes", "name": "Notes", "description": "Sync.\nFast.", "platforms": ["ios", "android"]}
    )
    app = parse_manifest(json.dumps(document).encode()).app
    assert (app.slug, app.name, app.platforms, app.described) == ("notes", "Notes", ("ios", "android"), True)


BAD: list[tuple[str, Any, str]] = [
    ("schema missing", minimal(schema=...), "$.schema"),
    ("schema of the future", minimal(schema=2), "$.schema"),
    ("schema as text", minimal(schema="1"), "$.schema"),
    ("schema true", minimal(schema=True), "$.schema"),
    ("schema as a fraction", minimal(schema=1.5), "$.schema"),
    ("unknown key", minimal(verison="1"), "$.verison"),
    ("unknown key in an artifact", artifact(pltform="android"), "$.artifacts[0].pltform"),
    ("unknown key with a space", minimal(**{"a b": 1}), "$['a b']"),
    ("app missing", minimal(app=...), "$.app"),
    ("app in capitals", minimal(app="Notes"), "$.app"),
    ("app with a leading dash", minimal(app="-notes"), "$.app"),
    ("app empty", minimal(app=""), "$.app"),
    ("app too long", minimal(app="a" * 64), "$.app"),
    ("app reserved", minimal(app="api"), "$.app"),
    ("app with a newline", minimal(app="notes\n"), "$.app"),
    ("app as a number", minimal(app=7), "$.app"),
    ("app null", minimal(app=None), "$.app"),
    ("app object without slug", minimal(app={"name": "Notes"}), "$.app.slug"),
    (
        "app object with a bad platform",
        minimal(app={"slug": "n", "platforms": ["amiga"]}),
        "$.app.platforms[0]",
    ),
    ("version missing", minimal(version=...), "$.version"),
    ("version empty", minimal(version=""), "$.version"),
    ("version too long", minimal(version="1" * 65), "$.version"),
    ("version with a slash", minimal(version="1/2"), "$.version"),
    ("version is the parent folder", minimal(version=".."), "$.version"),
    ("version with a tab", minimal(version="1\t2"), "$.version"),
    ("version that turns the text around", minimal(version="1\u202e2"), "$.version"),
    ("version that begins with a space", minimal(version=" 1"), "$.version"),
    ("version as a number", minimal(version=1.4), "$.version"),
    ("version with half a character", minimal(version="\ud800"), "$.version"),
    ("version from a shell that did not expand", minimal(version="${VERSION}"), "$.version"),
    ("version from a template that was not filled", minimal(version="{{ version }}"), "$.version"),
    ("version from a shell, short form", minimal(version="$VERSION"), "$.version"),
    ("version from a batch file", minimal(version="%VERSION%"), "$.version"),
    ("build as text", minimal(build="7"), "$.build"),
    ("build negative", minimal(build=-1), "$.build"),
    ("build as a fraction", minimal(build=1.0), "$.build"),
    ("build true", minimal(build=True), "$.build"),
    ("build beyond 64 bits", minimal(build=2**63), "$.build"),
    ("build null", minimal(build=None), "$.build"),
    ("channel in capitals", minimal(channel="Beta"), "$.channel"),
    ("channel with a slash", minimal(channel="a/b"), "$.channel"),
    ("notes over one MiB", minimal(notes="x" * ((1 << 20) + 1)), "$.notes"),
    ("notes over one MiB in UTF-8", minimal(notes="é" * ((1 << 19) + 1)), "$.notes"),
    ("notes as a list", minimal(notes=["a"]), "$.notes"),
    ("notes object without file", minimal(notes={}), "$.notes.file"),
    ("notes file outside", minimal(notes={"file": "../CHANGELOG.md"}), "$.notes.file"),
    ("source as text", minimal(source="git"), "$.source"),
    ("source with a script", minimal(source={"ci_url": "javascript:alert(1)"}), "$.source.ci_url"),
    ("source with a local file", minimal(source={"repository": "file:///etc/passwd"}), "$.source.repository"),
    ("source with an unknown key", minimal(source={"commit": "abc"}), "$.source.commit"),
    ("artifacts missing", minimal(artifacts=...), "$.artifacts"),
    ("artifacts empty", minimal(artifacts=[]), "$.artifacts"),
    ("artifacts as an object", minimal(artifacts={}), "$.artifacts"),
    ("artifact as text", minimal(artifacts=["a.apk"]), "$.artifacts[0]"),
    ("platform missing", artifact(platform=...), "$.artifacts[0].platform"),
    ("platform unknown", artifact(platform="andriod"), "$.artifacts[0].platform"),
    ("platform in capitals", artifact(platform="Android"), "$.artifacts[0].platform"),
    ("path missing", artifact(path=...), "$.artifacts[0].path"),
    ("path empty", artifact(path=""), "$.artifacts[0].path"),
    ("path absolute", artifact(path="/etc/passwd"), "$.artifacts[0].path"),
    ("path on a drive", artifact(path="C:\\a.apk"), "$.artifacts[0].path"),
    ("path in a home folder", artifact(path="~/a.apk"), "$.artifacts[0].path"),
    ("path that leaves the folder", artifact(path="build/../../a.apk"), "$.artifacts[0].path"),
    ("path that leaves the folder, backwards", artifact(path="build\\..\\..\\a.apk"), "$.artifacts[0].path"),
    ("path with a zero byte", artifact(path="a\0.apk"), "$.artifacts[0].path"),
    ("path from a shell that did not expand", artifact(path="build/${NAME}.apk"), "$.artifacts[0].path"),
    ("arch as a list", artifact(arch=["x64"]), "$.artifacts[0].arch"),
    ("variant too long", artifact(variant="v" * 65), "$.artifacts[0].variant"),
    ("ios on android", artifact(ios={"mode": "enterprise"}), "$.artifacts[0].ios"),
    ("ios mode unknown", artifact(platform="ios", ios={"mode": "adhoc"}), "$.artifacts[0].ios.mode"),
    (
        "testflight without a link",
        artifact(platform="ios", path=..., ios={"mode": "testflight"}),
        "$.artifacts[0].ios.url",
    ),
    (
        "testflight with a file",
        artifact(platform="ios", ios={"mode": "testflight", "url": "https://testflight.apple.com/join/A"}),
        "$.artifacts[0].path",
    ),
    (
        "testflight elsewhere",
        artifact(
            platform="ios",
            path=...,
            ios={"mode": "testflight", "url": "https://testflight.apple.com.evil.example/join/A"},
        ),
        "$.artifacts[0].ios.url",
    ),
    (
        "testflight without TLS",
        artifact(
            platform="ios", path=..., ios={"mode": "testflight", "url": "http://testflight.apple.com/join/A"}
        ),
        "$.artifacts[0].ios.url",
    ),
    (
        "a link with another mode",
        artifact(platform="ios", ios={"mode": "enterprise", "url": "https://testflight.apple.com/join/A"}),
        "$.artifacts[0].ios.url",
    ),
    (
        "contract with an unknown key",
        artifact(contract={"target": "t", "toolchain": "1", "triple": "x"}),
        "$.artifacts[0].contract.triple",
    ),
    ("attachment without kind", minimal(attachments=[{"path": "a"}]), "$.attachments[0].kind"),
    (
        "attachment of an unknown kind",
        minimal(attachments=[{"path": "a", "kind": "sbmo"}]),
        "$.attachments[0].kind",
    ),
    (
        "attachment to no artifact",
        minimal(attachments=[{"path": "a", "kind": "symbols", "artifact": "b.apk"}]),
        "$.attachments[0].artifact",
    ),
    ("top level is a list", [minimal()], "$"),
    ("top level is null", None, "$"),
    ("top level is text", "notes", "$"),
]


@pytest.mark.parametrize(("document", "path"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_documents_name_the_path(document: Any, path: str) -> None:
    found = problems_of(document)
    assert [where for where, _ in found] == [path], found


TWICE = [{"path": "a.apk", "platform": "android"}]


@pytest.mark.parametrize(
    "artifacts",
    [
        [*TWICE, *TWICE],
        [{"path": "a.apk", "platform": "android"}, {"path": "b.apk", "platform": "android"}],
        [
            {"path": "a.exe", "platform": "windows", "arch": "x64"},
            {"path": "b.exe", "platform": "windows", "arch": "x64"},
        ],
        [{"path": "a_amd64.deb", "platform": "linux"}, {"path": "b-x86_64.deb", "platform": "linux"}],
        [{"path": "a", "platform": "any", "format": "zip"}, {"path": "b.zip", "platform": "any"}],
    ],
    ids=[
        "the same entry",
        "nothing tells them apart",
        "declared the same",
        "named for the same arch",
        "declared and guessed format",
    ],
)
def test_two_artifacts_in_one_slot(artifacts: list[dict[str, str]]) -> None:
    (problem,) = problems_of(minimal(artifacts=artifacts))
    assert problem[0] == "$.artifacts[1]"
    assert "same slot as $.artifacts[0]" in problem[1]


@pytest.mark.parametrize(
    "artifacts",
    [
        [
            {"path": "a.exe", "platform": "windows", "arch": "x64"},
            {"path": "a2.exe", "platform": "windows", "arch": "arm64"},
        ],
        [{"path": "a.exe", "platform": "windows"}, {"path": "a.msi", "platform": "windows"}],
        [
            {"path": "a.apk", "platform": "android"},
            {"path": "b.apk", "platform": "android", "variant": "fdroid"},
        ],
        [{"path": "a_amd64.deb", "platform": "linux"}, {"path": "a_arm64.deb", "platform": "linux"}],
        [
            {"path": "app-arm64-v8a.apk", "platform": "android"},
            {"path": "app-x86.apk", "platform": "android"},
        ],
        [
            {"path": "a.ipa", "platform": "ios"},
            {"platform": "ios", "ios": {"mode": "testflight", "url": "https://testflight.apple.com/join/A"}},
        ],
    ],
    ids=["arch", "format", "variant", "arch in the name", "abi in the name", "file and link"],
)
def test_artifacts_that_differ_in_one_part_of_the_slot(artifacts: list[dict[str, Any]]) -> None:
    assert len(parse_manifest(json.dumps(minimal(artifacts=artifacts)).encode()).artifacts) == 2


NOT_JSON: list[tuple[str, bytes, str]] = [
    ("empty", b"", "is empty"),
    ("blank", b" \n", "is empty"),
    ("cut off", b'{"schema": 1', "is not JSON"),
    ("byte order mark", b'\xef\xbb\xbf{"schema": 1}', "byte order mark"),
    ("UTF-16", '{"schema": 1}'.encode("utf-16"), "byte order mark"),
    ("not UTF-8", b'{"app": "\xff"}', "is not UTF-8 (byte 9)"),
    ("NaN", b'{"schema": NaN}', "NaN"),
    ("Infinity", b'{"schema": -Infinity}', "Infinity"),
    ("an exponent without end", b'{"schema": 1e400}', "out of range"),
    ("an integer of 5000 digits", b'{"schema": ' + b"9" * 5000 + b"}", "out of range"),
    ("nested without end", b"[" * 200_000, "nested too deep"),
    ("bytes behind the end", b"{} {}", "is not JSON"),
    ("YAML", b"schema: 1\napp: notes\n", "is not JSON"),
    ("JSON5", b"{schema: 1, /* x */}", "is not JSON"),
    ("a trailing comma", b'{"schema": 1,}', "is not JSON"),
    ("over the limit", b'"' + b"x" * (17 << 20) + b'"', "is larger than"),
]


@pytest.mark.parametrize(("raw", "said"), [row[1:] for row in NOT_JSON], ids=[row[0] for row in NOT_JSON])
def test_what_is_no_json(raw: bytes, said: str) -> None:
    ((path, message),) = problems_of(raw)
    assert path == "$"
    assert said in message


def test_a_key_that_stands_twice_is_named_with_its_path() -> None:
    raw = b'{"schema": 1, "app": "a", "app": "b", "version": "1", "artifacts": [{"path": "a.apk", "path": "b.apk", "platform": "android"}]}'
    assert [path for path, _ in problems_of(raw)] == ["$.app", "$.artifacts[0].path"]


def test_all_problems_come_at_once() -> None:
    document = minimal(
        version="", build=-1, extra=1, artifacts=[{"platform": "amiga"}, {"path": "/x", "platform": "linux"}]
    )
    assert sorted(path for path, _ in problems_of(document)) == [
        "$.artifacts[0].platform",
        "$.artifacts[1].path",
        "$.build",
        "$.extra",
        "$.version",
    ]


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        (minimal(verson="1"), "did you mean 'version'?"),
        (artifact(platfrom="android"), "did you mean 'platform'?"),
        (artifact(platform="andriod"), "did you mean 'android'?"),
        (minimal(Notes="x"), "did you mean 'notes'?"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_word(document: Any, hint: str) -> None:
    assert any(hint in message for _, message in problems_of(document))


def test_a_message_quotes_no_control_characters_and_not_without_end() -> None:
    ((_, message),) = problems_of(minimal(app="\x1b[2J" + "x" * 50))
    assert "\x1b" not in message
    ((_, message),) = problems_of(minimal(channel="X" * 63))
    assert len(message) < 200


@pytest.mark.parametrize(
    "document",
    [
        minimal(notes="uses ${HOME} and {{ mustache }}"),
        minimal(notes=""),
        minimal(notes="x" * (1 << 20)),
        minimal(version="1.0 (beta)"),
        minimal(version="v१"),
        minimal(version="x" * 64),
        minimal(build=0),
        minimal(build=2**63 - 1),
        minimal(build=202611201200),
        minimal(app="a" * 63),
        minimal(source={"repository": "git@git.example:notes.git"}),
        minimal(attachments=[{"path": "s", "kind": "symbols", "artifact": "a.apk"}]),
        minimal(**{"$schema": "https://dist.example/schemas/dist-1.json"}),
    ],
)
def test_what_is_allowed(document: Any) -> None:
    parse_manifest(json.dumps(document).encode())
    VALIDATOR.validate(document)


# -- the schema and the check are one ------------------------------------------------------------

words = st.sampled_from(
    [
        "",
        "a",
        "notes",
        "x" * 70,
        "-",
        "A",
        "1.0",
        "build/a.apk",
        "https://testflight.apple.com/join/A",
        "https://x.example",
    ]
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.just(2**70), st.floats(0.5, 2.5), words)


def objects(keys: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([*keys, "other"]), values, max_size=5)


platforms = st.one_of(st.sampled_from([*PLATFORMS]), scalars)
ios = st.one_of(
    scalars, st.fixed_dictionaries({}, optional={"mode": st.sampled_from([*IOS_MODES, "x"]), "url": words})
)
artifacts = st.one_of(
    scalars,
    st.fixed_dictionaries(
        {},
        optional={
            "path": words,
            "platform": platforms,
            "arch": words,
            "variant": scalars,
            "ios": ios,
            "other": scalars,
        },
    ),
    st.fixed_dictionaries({"platform": st.just("ios")}, optional={"path": words, "ios": ios}),
)
documents = st.fixed_dictionaries(
    {
        "schema": st.sampled_from([1, 1, 1, 2, "1"]),
        "version": words,
        "artifacts": st.one_of(st.lists(artifacts, max_size=3), scalars),
    },
    optional={
        "app": st.one_of(
            words,
            objects(
                ["slug", "name", "description", "platforms"],
                st.one_of(scalars, st.lists(platforms, max_size=2)),
            ),
        ),
        "build": scalars,
        "channel": scalars,
        "notes": st.one_of(scalars, objects(["file"], scalars)),
        "source": st.one_of(scalars, objects(["repository", "revision", "ref", "ci_url"], scalars)),
        "attachments": st.lists(
            st.one_of(
                scalars,
                st.fixed_dictionaries(
                    {}, optional={"path": words, "kind": st.sampled_from([*ATTACHMENT_KINDS, "x"])}
                ),
            ),
            max_size=2,
        ),
        "other": scalars,
    },
)

# What JSON Schema cannot say; the check is the stricter one there.
BEYOND_SCHEMA = (
    "same slot",
    "is the path of",
    "is reserved",
    "is a folder",
    "begins or ends",
    "leaves the folder",
    "is absolute",
    "cannot be printed",
)


@settings(max_examples=400, deadline=None)
@given(documents)
def test_the_schema_refuses_exactly_what_the_check_refuses(document: dict[str, Any]) -> None:
    report = Report()
    MANIFEST.check(document, "$", report)
    within = [
        problem for problem in report.problems if not any(words in problem.message for words in BEYOND_SCHEMA)
    ]
    refused = not VALIDATOR.is_valid(document)
    if not report.problems:
        assert not refused
    if within:
        assert refused, [problem.as_dict() for problem in within]
    if refused:
        assert report.problems


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_schema_that_the_server_serves_is_this_one() -> None:
    served = json.loads((REPOSITORY / "api" / "schemas" / "dist-1.json").read_text(encoding="utf-8"))
    assert served == json_schema(), "run: dist ci schema > api/schemas/dist-1.json"


def test_the_server_knows_the_same_words() -> None:
    from pipeline import draft, values

    assert tuple(values.Platform) == PLATFORMS
    assert draft.ATTACHMENT_KINDS == ATTACHMENT_KINDS
    assert draft.IOS_MODES == IOS_MODES
    assert values._RESERVED_SLUGS == RESERVED_SLUGS
