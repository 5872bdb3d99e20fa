"""npm packages: a gzipped tar archive whose one folder (usually `package`) holds package.json.

`metadata`: identifier = name, version = version, min_os = engines.node, archs = cpu.
`details`: name, version, license, main, description, dependencies and the other kinds (names), engines, os, bin, has_install_scripts,
private, integrity_sha512 and shasum_sha1 (what a registry would list for this file), and those of `archive.Listing`.
Sources: docs.npmjs.com, package.json; node-semver; W3C Subresource Integrity for the form of `integrity`.
"""

import base64
import json
import re
from typing import Any, Final

from pipeline.formats import json_text, tar
from pipeline.formats.facts import Malformed, Metadata, Report, Rule, Severity
from pipeline.formats.source import Source

NO_PACKAGE_JSON: Final = Rule(
    "npm.no-package-json",
    Severity.ERROR,
    "The archive has no package.json in its folder.",
    "Make the archive with npm pack.",
    "docs.npmjs.com, npm pack",
)
BAD_PACKAGE_JSON: Final = Rule(
    "npm.bad-package-json",
    Severity.ERROR,
    "The file package.json is not usable: {evidence}.",
    "Correct package.json and run npm pack again.",
    "docs.npmjs.com, package.json: name and version are required",
)
INSTALL_SCRIPTS: Final = Rule(
    "npm.install-scripts",
    Severity.INFO,
    "The package runs a program when it is installed: {evidence}.",
    "Nothing, if that is intended. Users who install with --ignore-scripts do not run it.",
    "docs.npmjs.com, scripts: preinstall, install, postinstall",
)
RULES: Final = (NO_PACKAGE_JSON, BAD_PACKAGE_JSON, INSTALL_SCRIPTS, *json_text.RULES, *tar.RULES)

NAMES_SHOWN: Final = 500
TEXT_MAX_CHARS: Final = 4096
_PACKAGE_JSON: Final = re.compile(r"[^/]+/package\.json")
_NAME: Final = re.compile(r"(?:@[A-Za-z0-9~*!'()._-]+/)?[A-Za-z0-9~*!'()_-][A-Za-z0-9~*!'()._-]*")
_NAME_MAX_CHARS: Final = 214
_VERSION: Final = re.compile(
    r"v?\d{1,16}\.\d{1,16}\.\d{1,16}(?:-[0-9A-Za-z.-]{1,128})?(?:\+[0-9A-Za-z.-]{1,128})?"
)
_INSTALL: Final = ("preinstall", "install", "postinstall")
_DEPENDENCIES: Final = {
    "dependencies": "dependencies",
    "devDependencies": "dev_dependencies",
    "peerDependencies": "peer_dependencies",
    "optionalDependencies": "optional_dependencies",
}


def read(source: Source) -> Report:
    """A report of format `npm`."""
    report = Report("npm")
    wanted = re.compile(rf"{_PACKAGE_JSON.pattern}|[^/]+/binding\.gyp")
    listing = tar.scan(source, report, keep=lambda path: wanted.fullmatch(path) is not None)
    report.details.update(listing.as_details())
    report.details["integrity_sha512"] = "sha512-" + base64.b64encode(source.digest("sha512")).decode("ascii")
    report.details["shasum_sha1"] = source.digest("sha1").hex()
    found = [path for path in listing.kept if _PACKAGE_JSON.fullmatch(path)]
    if not found:
        raise Malformed(NO_PACKAGE_JSON)
    if len(found) > 1:
        raise Malformed(BAD_PACKAGE_JSON, f"there are {len(found)} of them")
    package = json_text.load(listing.kept[found[0]], name="package.json")
    if not isinstance(package, dict):
        raise Malformed(BAD_PACKAGE_JSON, "it is no object")
    has_gyp = any(path.endswith("/binding.gyp") for path in listing.kept)
    _describe(report, package, has_gyp=has_gyp)
    return report


def _describe(report: Report, package: dict[str, Any], *, has_gyp: bool) -> None:
    name, version = package.get("name"), package.get("version")
    if not isinstance(name, str) or len(name) > _NAME_MAX_CHARS or not _NAME.fullmatch(name):
        raise Malformed(BAD_PACKAGE_JSON, _told("name", name))
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise Malformed(BAD_PACKAGE_JSON, f"{_told('version', version)}, and a semantic version is needed")
    engines = package.get("engines")
    node = engines.get("node") if isinstance(engines, dict) else None
    report.metadata = Metadata(
        identifier=name,
        version=version,
        min_os=_text(node) if isinstance(node, str) else None,
        archs=_texts(package.get("cpu")),
    )
    scripts = _install_scripts(package.get("scripts"), has_gyp=has_gyp)
    if scripts:
        report.add(INSTALL_SCRIPTS, ", ".join(scripts))
    details = report.details
    details.update(
        name=name, version=version, has_install_scripts=bool(scripts), private=package.get("private") is True
    )
    for key in ("description", "main", "module", "type"):
        if isinstance(package.get(key), str):
            details[key] = _text(package[key])
    details["license"] = _licence(package)
    details["engines"] = (
        {str(key)[:100]: _text(value) for key, value in list(engines.items())[:20]}
        if isinstance(engines, dict)
        else {}
    )
    details["os"] = _texts(package.get("os"))
    for key, shown in _DEPENDENCIES.items():
        value = package.get(key)
        details[shown] = (
            [_text(item) for item in list(value)[:NAMES_SHOWN]] if isinstance(value, dict) else []
        )


def _told(key: str, value: Any) -> str:
    """What package.json says of a key that it has to have, as JSON."""
    return f"there is no {key}" if value is None else f"the {key} is {json.dumps(value)[:TEXT_MAX_CHARS]}"


def _install_scripts(scripts: Any, *, has_gyp: bool) -> list[str]:
    """Npm runs `node-gyp rebuild` where there is a binding.gyp and neither an install nor a preinstall script."""
    found = [name for name in _INSTALL if isinstance(scripts, dict) and scripts.get(name)]
    if has_gyp and not {"install", "preinstall"} & set(found):
        found.append("node-gyp rebuild")
    return found


def _licence(package: dict[str, Any]) -> str | None:
    """An SPDX expression; older packages have an object, or a list of objects, with `type`."""
    told = package.get("license", package.get("licenses"))
    if isinstance(told, list) and told:
        told = told[0]
    if isinstance(told, dict):
        told = told.get("type")
    return _text(told) if isinstance(told, str) else None


def _texts(value: Any) -> list[str]:
    return [_text(item) for item in value[:NAMES_SHOWN]] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return str(value)[:TEXT_MAX_CHARS]
