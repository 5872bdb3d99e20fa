"""dist.json, schema 1: what it may hold.

One declaration (`MANIFEST`) checks a document, with every problem at once, and renders the JSON Schema that the server serves.

Left to others: reading the file and the values that come out of it (`declared.py`), the files that the paths name (`files.py`), what
the app's policy allows (the server).
"""

from collections.abc import Mapping
from typing import Any, Final

from .platforms import PLATFORMS, architecture_in, suffix
from .shape import (
    Choice,
    Const,
    Either,
    Field,
    Integer,
    Json,
    ListOf,
    Object,
    Report,
    Rule,
    Text,
    child,
)

SCHEMA: Final = 1
NOTES_MAX_BYTES: Final = 1 << 20  # contract, section 2: no length below 1 MiB fails a publish
ATTACHMENT_KINDS: Final = ("sbom", "provenance", "signature", "symbols", "licence", "notes", "other")
IOS_MODES: Final = ("testflight", "enterprise", "artifact")
TESTFLIGHT_URL: Final = "https://testflight.apple.com/"
RESERVED_SLUGS: Final = frozenset({"api", "new", "login", "logout", "static"})  # the server's own paths


def _slug_rule(value: str) -> str:
    return f"{value!r} is reserved" if value in RESERVED_SLUGS else ""


def _version_rule(value: str) -> str:
    if value in {".", ".."}:
        return f"{value!r} is a folder, not a version"
    return "begins or ends with a space" if value != value.strip() else ""


def _notes_rule(value: str) -> str:
    return "" if len(value.encode("utf-8")) <= NOTES_MAX_BYTES else f"is longer than {NOTES_MAX_BYTES} bytes"


def _path_rule(value: str) -> str:
    parts = value.replace("\\", "/").split("/")
    if value.startswith(("/", "\\", "~")) or value[1:2] == ":":
        return "is absolute; paths are relative to dist.json"
    return "leaves the folder of dist.json" if ".." in parts else ""


def _word(what: str) -> Text:
    return Text(f"{what}: 1 to 64 printable characters.", max_chars=64, pattern=r"[^|/\\]+")


SLUG: Final = Text(
    "Use 1 to 63 of a-z, 0-9 and '-', beginning with a letter or digit.",
    max_chars=63,
    pattern="[a-z0-9][a-z0-9-]*",
    rule=_slug_rule,
)
VERSION: Final = Text(
    "Use 1 to 64 printable characters without '/', as in 1.4.0.",
    max_chars=64,
    pattern="[^/]+",
    rule=_version_rule,
)
BUILD: Final = Integer("Use a whole number from 0, such as the build number of your CI.")
CHANNEL: Final = Text(
    "Use 1 to 63 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit.",
    max_chars=63,
    pattern="[a-z0-9][a-z0-9._-]*",
)
_PATH: Final = Text("Give a path below the folder of dist.json, with `/`.", max_chars=4096, rule=_path_rule)
_NOTES: Final = Text(
    'Shorten them, or keep them in a file: {"file": "CHANGELOG.md"}.',
    min_chars=0,
    max_chars=NOTES_MAX_BYTES,
    rule=_notes_rule,
    literal=True,
)
_PROSE: Final = Text("Write a text.", min_chars=0, max_chars=2000, literal=True)
_URL: Final = Text("Use https://, ssh:// or git@….", pattern=r"(?:https?|ssh|git)://.+|git@.+")

_APP: Final = Object(
    "app",
    {
        "slug": Field(SLUG, "the app's name in URLs.", required=True),
        "name": Field(Text("Write a name.", max_chars=100), "the name that people read."),
        "description": Field(_PROSE, "one or two sentences for the app's page."),
        "platforms": Field(
            ListOf(Choice(PLATFORMS), "List the platforms.", min_items=1, max_items=6),
            "the platforms it ships for.",
        ),
    },
)
_SOURCE: Final = Object(
    "source",
    {
        "repository": Field(_URL, "where the source is."),
        "revision": Field(Text("Give the commit."), "the commit that was built."),
        "ref": Field(
            Text("Give the tag or branch, as in refs/tags/v1.4.0."), "the tag or branch that was built."
        ),
        "ci_url": Field(_URL, "the CI run that built it."),
    },
)


def _testflight(value: Mapping[str, Json], at: str, report: Report) -> None:
    linked = value.get("mode") == "testflight"
    if linked and "url" not in value:
        report.add(
            child(at, "url"),
            "mode testflight needs the key 'url'",
            "Add the public link from App Store Connect.",
        )
    elif not linked and "url" in value:
        report.add(
            child(at, "url"), "belongs to mode testflight only", 'Remove it, or set "mode": "testflight".'
        )


def _ios_only(value: Mapping[str, Json], at: str, report: Report) -> None:
    if value["platform"] != "ios" and "ios" in value:
        report.add(
            child(at, "ios"),
            f"does not fit platform {value['platform']!r}",
            'Remove it, or set "platform": "ios".',
        )


def _file_or_link(value: Mapping[str, Json], at: str, report: Report) -> None:
    linked = value.get("ios", {}).get("mode") == "testflight"
    if linked and "path" in value:
        report.add(
            child(at, "path"),
            "a TestFlight link has no file",
            "Remove the path, or make the file an artifact of its own.",
        )
    elif not linked and "path" not in value:
        report.add(
            child(at, "path"), "artifact needs the key 'path'", "Add it: the file, relative to dist.json."
        )


_IOS: Final = Object(
    "ios",
    {
        "mode": Field(
            Choice(IOS_MODES),
            "testflight (a link), enterprise (OTA install) or artifact (download only, the default).",
        ),
        "url": Field(
            Text(
                f"A TestFlight link begins with {TESTFLIGHT_URL}.",
                pattern=TESTFLIGHT_URL.replace(".", r"\.") + "[^ ]+",
            ),
            "the public TestFlight link.",
        ),
    },
    rules=(
        Rule(
            _testflight,
            {
                "if": {"properties": {"mode": {"const": "testflight"}}, "required": ["mode"]},
                "then": {"required": ["url"]},
                "else": {"not": {"required": ["url"]}},
            },
        ),
    ),
)
_CONTRACT: Final = Object(
    "contract",
    {
        "target": Field(
            Text("Give the target triple.", max_chars=64, pattern="[A-Za-z0-9][A-Za-z0-9._-]*"),
            "the target triple, as in x86_64-unknown-linux-gnu.",
            required=True,
        ),
        "profile": Field(
            Text("Give the profile.", max_chars=32, pattern="[A-Za-z0-9][A-Za-z0-9._-]*"),
            "the build profile; release when absent.",
        ),
        "toolchain": Field(
            Text("Give the toolchain.", max_chars=64, pattern="[A-Za-z0-9][A-Za-z0-9.+_-]*"),
            "the version of the toolchain, as in 1.84.0.",
            required=True,
        ),
        "git_rev": Field(
            Text("Give the whole commit: `git rev-parse HEAD`.", pattern="[0-9a-f]{40}|[0-9a-f]{64}"),
            "the whole commit that was built; source.revision when absent.",
        ),
        "dist_revision": Field(
            Text("Use auto, or r1, r2 and so on.", pattern="auto|r[1-9][0-9]{0,5}"),
            "the revision of this packaging, as in r1; auto, the next one, when absent.",
        ),
        "source_date_epoch": Field(
            Integer("Give seconds: `git log -1 --format=%ct`.", maximum=2**53 - 1),
            "when the source was last changed, in seconds; the time of publication when absent.",
        ),
    },
)
_ARTIFACT: Final = Object(
    "artifact",
    {
        "path": Field(_PATH, "the file, relative to dist.json; a glob must match exactly one file."),
        "platform": Field(Choice(PLATFORMS), "the platform that the file is for.", required=True),
        "arch": Field(
            _word("The architecture"), "the architecture; detected when absent, checked when present."
        ),
        "format": Field(_word("The format"), "the format; detected when absent, checked when present."),
        "variant": Field(
            _word("The variant"), "tells apart artifacts of the same platform, architecture and format."
        ),
        "ios": Field(_IOS, "how the artifact gets onto iOS devices."),
        "contract": Field(_CONTRACT, "the tuple for the distribution index."),
    },
    rules=(
        Rule(
            _file_or_link,
            {
                "if": {
                    "properties": {
                        "ios": {"properties": {"mode": {"const": "testflight"}}, "required": ["mode"]}
                    },
                    "required": ["ios"],
                },
                "then": {"not": {"required": ["path"]}},
                "else": {"required": ["path"]},
            },
        ),
        Rule(
            _ios_only, {"if": {"required": ["ios"]}, "then": {"properties": {"platform": {"const": "ios"}}}}
        ),
    ),
)
_ATTACHMENT: Final = Object(
    "attachment",
    {
        "path": Field(
            _PATH, "the file, relative to dist.json; a glob must match exactly one file.", required=True
        ),
        "kind": Field(Choice(ATTACHMENT_KINDS), "what the file is.", required=True),
        "artifact": Field(
            _PATH, "the path of the artifact that it belongs to; without it, it belongs to the release."
        ),
    },
)


def _unique_slots(value: Mapping[str, Json], at: str, report: Report) -> None:
    """Contract: (platform, arch, format, variant) is unique. What is not declared is told apart by what the file's name says of it."""
    taken: dict[tuple[str, ...], str] = {}
    for number, row in enumerate(value["artifacts"]):
        here = f"{at}.artifacts[{number}]"
        path = row.get("path")
        form = row.get("format") or ("testflight" if path is None else suffix(path))
        slot = (
            row["platform"],
            row.get("arch") or architecture_in(path or ""),
            form,
            row.get("variant") or "",
        )
        if slot in taken:
            said = ", ".join(word or "none" for word in slot)
            report.add(
                here,
                f"takes the same slot as {taken[slot]}: platform, arch, format, variant = {said}",
                "Give one of them its arch or a variant; a slot holds one artifact.",
            )
        taken.setdefault(slot, here)


def _attached(value: Mapping[str, Json], at: str, report: Report) -> None:
    paths = [row.get("path") for row in value["artifacts"]]
    for number, row in enumerate(value.get("attachments", ())):
        owner = row.get("artifact")
        if owner is not None and paths.count(owner) != 1:
            report.add(
                f"{at}.attachments[{number}].artifact",
                f"{owner!r} is the path of {'no artifact' if owner not in paths else 'more than one artifact'} in this file",
                "Repeat the `path` of one artifact exactly.",
            )


MANIFEST: Final = Object(
    "dist.json",
    {
        "$schema": Field(Text("Give the address of the schema."), "the address of this schema, for editors."),
        "schema": Field(
            Const(SCHEMA, f'Write "schema": {SCHEMA}, or bring `dist` up to date.'),
            'the number of this format, "schema": 1.',
            required=True,
        ),
        "app": Field(
            Either(SLUG, _APP), "the app's slug, or an object that also says how to create it.", required=True
        ),
        "version": Field(VERSION, "the version; (app, version, build) identifies a release.", required=True),
        "build": Field(BUILD, "the build number; (app, version, build) identifies a release."),
        "channel": Field(CHANNEL, "the channel to promote to once the release is published."),
        "notes": Field(
            Either(
                _NOTES,
                Object(
                    "notes",
                    {"file": Field(_PATH, "the file with the notes, relative to dist.json.", required=True)},
                ),
            ),
            "what is new, as text or as a file.",
        ),
        "source": Field(_SOURCE, "what it was built from."),
        "artifacts": Field(
            ListOf(_ARTIFACT, "List at least one artifact.", min_items=1),
            "the files and links of the release.",
            required=True,
        ),
        "attachments": Field(
            ListOf(_ATTACHMENT, "List files with their kind."),
            "files beside the artifacts: SBOM, symbols, licence.",
        ),
    },
    rules=(Rule(_unique_slots, {}), Rule(_attached, {})),
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of dist.json, draft 2020-12, made from the declaration that checks."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:distd:schema:dist-{SCHEMA}",
        "title": "dist.json",
        "description": "What a team says about a release before it ships it.",
    } | MANIFEST.schema()
