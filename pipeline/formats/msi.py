"""Windows Installer packages (MSI): what the database says of its product, and its Authenticode signature.

`metadata`: identifier is the ProductCode, version the ProductVersion, name the ProductName, archs from the template.
`details`: of the Property table ProductName, ProductVersion, Manufacturer, ProductCode, UpgradeCode, ProductLanguage; of the
summary information template, package_code, subject, author, application, title, installer_version (100 times the least
Windows Installer), languages; scope ("per-machine", "per-user" or null for "asks", by ALLUSERS); kind ("package", "patch",
"transform"); signature_ex and signatures[] where it is signed.

Patches (MSP) and transforms (MST) have no Property table; only their signature is told.

Left to others: the container (`cfb`), tables (`msi_tables`), the signature (`msi_signature`). Embedded cabinets are not unpacked.

Source: Windows Installer SDK: Property Table, Summary Property Descriptions, Template Summary.
"""

import re
from typing import Final

from pipeline.formats import authenticode, cfb, msi_tables
from pipeline.formats.cfb import CompoundFile
from pipeline.formats.facts import Malformed, Report, Rule, Severity
from pipeline.formats.msi_signature import check_signature
from pipeline.formats.msi_tables import BAD_DATABASE, read_properties, read_summary
from pipeline.formats.source import Source

NOT_A_PACKAGE: Final = Rule(
    "msi.not-a-package",
    Severity.WARNING,
    "The file is a Windows Installer {evidence}, which changes an installed product and installs nothing by itself.",
    "Publish the MSI package of the product too.",
    "Windows Installer SDK, Patch Packages; Database Transforms",
)
NO_UPGRADE_CODE: Final = Rule(
    "msi.no-upgrade-code",
    Severity.WARNING,
    "The package has no UpgradeCode, so that a later version cannot replace it.",
    "Give the product an UpgradeCode, the same for all its versions.",
    "Windows Installer SDK, UpgradeCode Property",
)
RULES: Final = (
    *cfb.RULES,
    *msi_tables.RULES,
    *authenticode.RULES,
    NOT_A_PACKAGE,
    NO_UPGRADE_CODE,
)

# The template's platforms, Windows Installer SDK, "Template Summary".
ARCHITECTURES: Final = {
    "": "x86",
    "intel": "x86",
    "x64": "x64",
    "amd64": "x64",
    "intel64": "ia64",
    "arm": "arm",
    "arm64": "arm64",
}
KINDS: Final = {0x82: "transform", 0x84: "package", 0x86: "patch"}  # first byte of the root's class id
CLASS_ID: Final = re.compile(rb"([\x82\x84\x86])\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46", re.DOTALL)
GUID: Final = re.compile(r"\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}")
SHOWN: Final = (
    "ProductName",
    "ProductVersion",
    "Manufacturer",
    "ProductCode",
    "UpgradeCode",
    "ProductLanguage",
)
SCOPES: Final = {"1": "per-machine", "": "per-user", "2": None}


def read(source: Source) -> Report:
    """The report on an MSI; raises `Malformed` when it is no compound file at all."""
    report = Report("msi", platform="windows")
    compound = CompoundFile(source)
    class_id = CLASS_ID.fullmatch(compound.root.clsid)
    kind = KINDS[class_id[1][0]] if class_id else "package"
    report.details["kind"] = kind
    if kind == "package":
        try:
            _describe(compound, report)
        except Malformed as error:
            report.findings.append(error.finding)  # the signature can still be told
    else:
        report.add(NOT_A_PACKAGE, kind)
    check_signature(compound, report)
    return report


def _describe(compound: CompoundFile, report: Report) -> None:
    """Summary information first: it is the part that a broken table leaves."""
    summary = read_summary(compound)
    report.details |= summary
    template = str(summary.get("template", ""))
    platforms, _, languages = template.partition(";")
    report.metadata.archs = [
        ARCHITECTURES.get(platform.strip().lower(), platform.strip()) for platform in platforms.split(",")
    ]
    report.details["languages"] = [language for language in languages.split(",") if language]
    properties = read_properties(compound)
    report.details |= {name: properties.get(name) for name in SHOWN}
    report.details["scope"] = SCOPES.get(properties.get("ALLUSERS", ""))
    report.metadata.identifier = properties.get("ProductCode")
    report.metadata.version = properties.get("ProductVersion")
    report.metadata.name = properties.get("ProductName")
    missing = [name for name in ("ProductCode", "ProductVersion", "ProductName") if not properties.get(name)]
    if missing:
        raise Malformed(BAD_DATABASE, f"no {', '.join(missing)} in its Property table")
    if not GUID.fullmatch(properties["ProductCode"]):
        raise Malformed(BAD_DATABASE, f"the ProductCode {properties['ProductCode']!r} is no GUID")
    if not properties.get("UpgradeCode"):
        report.add(NO_UPGRADE_CODE)
