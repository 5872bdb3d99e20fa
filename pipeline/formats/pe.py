"""PE images: Windows programs (EXE) and libraries (DLL), and installers built as programs.

`metadata`: version is the product version, build the file version, min_os the subsystem version, archs the machine.
`details`: machine, pe_type (PE32, PE32+), file_type (Win32 EXE, Win64 DLL, …), subsystem (number), dotnet; of the version
resource product_name, product_version, file_version, company_name, description, copyright, original_filename; installer
(`kind` nsis, inno, burn, … with what it tells of itself); authenticode_sha1, authenticode_sha256 and signatures[] where it is
signed.

Left to others: headers (`pe_headers`), resources (`pe_resources`), installers (`pe_installers`), the signature
(`pe_signature`). What an installer contains is not unpacked.

Source: Microsoft, "PE Format".
"""

from typing import Final

from pipeline.formats import authenticode, icons, pe_headers, pe_signature
from pipeline.formats.facts import Malformed, Report, Rule, Severity
from pipeline.formats.pe_headers import (
    CLR_DIRECTORY,
    DLL_FLAG,
    MACHINES,
    PE32_PLUS,
    Headers,
    check_sections,
    read_headers,
)
from pipeline.formats.pe_installers import detect_installer
from pipeline.formats.pe_resources import Resources, read_resources
from pipeline.formats.source import Source

BAD_RESOURCES: Final = Rule(
    "pe.bad-resources",
    Severity.WARNING,
    "The program's version information or icon could not be read completely: {evidence}.",
    "Windows may show the program without name or icon; build its resources again.",
    "PE Format, The .rsrc Section",
)
UNKNOWN_MACHINE: Final = Rule(
    "pe.unknown-machine",
    Severity.WARNING,
    "The program is for a processor that this server has no name for: {evidence}.",
    "Check the target of the build.",
    "PE Format, Machine Types",
)
RULES: Final = (
    *pe_headers.RULES,
    *pe_signature.RULES,
    *authenticode.RULES,
    *icons.RULES,
    BAD_RESOURCES,
    UNKNOWN_MACHINE,
)

_STRINGS: Final = {
    "product_name": "ProductName",
    "product_version": "ProductVersion",
    "file_version": "FileVersion",
    "company_name": "CompanyName",
    "description": "FileDescription",
    "copyright": "LegalCopyright",
    "original_filename": "OriginalFilename",
}


def read(source: Source) -> Report:
    """The report on a PE image; raises `Malformed` when it is none."""
    report = Report("pe", platform="windows")
    headers = read_headers(source)
    _describe_headers(headers, report)
    try:
        check_sections(headers, source.size)
    except Malformed as error:
        report.findings.append(error.finding)  # the rest can still be told
    resources = read_resources(source, headers)
    _describe_resources(resources, report)
    installer = detect_installer(source, headers, resources)
    if installer is not None:
        report.details["installer"] = installer
    pe_signature.check_signature(source, headers, report)
    return report


def _describe_headers(headers: Headers, report: Report) -> None:
    machine = MACHINES.get(headers.machine)
    if machine is None:
        report.add(UNKNOWN_MACHINE, f"{headers.machine:#06x}")
    report.metadata.archs = [machine] if machine else []
    report.metadata.min_os = headers.subsystem_version
    is_plus = headers.magic == PE32_PLUS
    kind = "DLL" if headers.characteristics & DLL_FLAG else "EXE"
    report.details |= {
        "machine": machine or f"{headers.machine:#06x}",
        "pe_type": "PE32+" if is_plus else "PE32",
        "file_type": f"Win{64 if is_plus else 32} {kind}",
        "subsystem": headers.subsystem,
        "dotnet": headers.directory(CLR_DIRECTORY).size > 0,
    }


def _describe_resources(resources: Resources, report: Report) -> None:
    if resources.problem is not None:
        report.add(BAD_RESOURCES, resources.problem)
    for name, key in _STRINGS.items():
        report.details[name] = resources.strings.get(key)
    report.details["product_version"] = report.details["product_version"] or resources.fixed_product_version
    report.details["file_version"] = report.details["file_version"] or resources.fixed_file_version
    report.metadata.name = resources.strings.get("ProductName") or resources.strings.get("FileDescription")
    report.metadata.version = report.details["product_version"]
    report.metadata.build = report.details["file_version"]
    if resources.icon is not None:
        icons.add_icon(report, resources.icon, "icon resource")
