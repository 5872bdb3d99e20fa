"""The control file of a Debian package: one paragraph of fields.

Sources: deb-control(5), deb822(5), deb-version(7). dpkg's own parser is the measure: field names without case, continuation lines
begin with a space or tab, a field may stand there once, one paragraph only.
Left to others: where the file comes from (`deb.py`).
"""

import re
from typing import Final

from pipeline.formats.facts import Malformed, Rule, Severity

BAD_CONTROL: Final = Rule(
    "deb.bad-control",
    Severity.ERROR,
    "The package's control file cannot be read: {evidence}.",
    "Correct DEBIAN/control and build the package again; dpkg-deb --info shows what is in it.",
    "deb-control(5), deb822(5)",
)
BAD_NAME: Final = Rule(
    "deb.bad-name",
    Severity.ERROR,
    "The package name is not one that dpkg accepts: {evidence}.",
    "Use letters, digits, '+', '-' and '.', beginning with a letter or digit.",
    "Debian Policy 5.6.7; deb-control(5), Package",
)
BAD_VERSION: Final = Rule(
    "deb.bad-version",
    Severity.ERROR,
    "The version is not one that dpkg accepts: {evidence}.",
    "Use [epoch:]upstream[-revision], the upstream part beginning with a digit.",
    "deb-version(7)",
)
MISSING_FIELD: Final = Rule(
    "deb.missing-field",
    Severity.WARNING,
    "The control file lacks the field {evidence}.",
    "Add it to DEBIAN/control; repositories and tools expect it.",
    "deb-control(5): Maintainer, Description and Architecture are required by policy",
)
RULES: Final = (BAD_CONTROL, BAD_NAME, BAD_VERSION, MISSING_FIELD)

FIELDS_MAX: Final = 1000
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")
_VERSION: Final = re.compile(r"(?:\d{1,10}:)?[0-9A-Za-z.+~:-]+")
_VERSION_MAX_CHARS: Final = 1000


def parse(data: bytes) -> dict[str, str]:
    """The fields, by lower-case name. Values keep their line breaks; text that is no UTF-8 is read as ISO 8859-1."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("iso-8859-1")
    if "\0" in text:
        raise Malformed(BAD_CONTROL, "it holds a NUL")
    fields: dict[str, str] = {}
    last = ""
    ended = False
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r")  # noqa: PLW2901  files made on Windows
        if not line.strip(" \t"):
            ended = ended or bool(fields)
            continue
        if line.startswith("#"):
            continue
        if ended:
            raise Malformed(BAD_CONTROL, f"a second paragraph begins in line {number}")
        if line[0] in " \t":
            if not last:
                raise Malformed(BAD_CONTROL, f"line {number} continues no field")
            fields[last] += "\n" + line[1:]
            continue
        last = _begin(fields, line, number)
    return fields


def _begin(fields: dict[str, str], line: str, number: int) -> str:
    name, colon, value = line.partition(":")
    key = name.rstrip(" \t").lower()
    if not colon or not key or key.startswith("-") or not all("!" <= char <= "~" for char in key):
        raise Malformed(BAD_CONTROL, f"line {number} is no field")
    if key in fields:
        raise Malformed(BAD_CONTROL, f"the field {name} stands there twice")
    if len(fields) >= FIELDS_MAX:
        raise Malformed(BAD_CONTROL, f"more than {FIELDS_MAX} fields")
    fields[key] = value.strip(" \t")
    return key


def check_identity(fields: dict[str, str]) -> tuple[str, str]:
    """Package and version, valid."""
    name, version = fields.get("package", ""), fields.get("version", "")
    if not name:
        raise Malformed(BAD_CONTROL, "there is no field Package")
    if not version:
        raise Malformed(BAD_CONTROL, "there is no field Version")
    if not _NAME.fullmatch(name):
        raise Malformed(BAD_NAME, name)
    upstream = version.partition(":")[2] if ":" in version else version
    if len(version) > _VERSION_MAX_CHARS or not _VERSION.fullmatch(version) or not upstream[:1].isdigit():
        raise Malformed(BAD_VERSION, version)
    if upstream.endswith("-"):
        raise Malformed(BAD_VERSION, f"{version}: the revision is empty")
    return name, version
