"""One file from bytes to report: recognise it, read it, hold it against what was declared.

The numbered steps of `inspect`:

1. An empty file is rejected at once.
2. Recognise the format by content.
3. Let its reader read. What the reader raises becomes a finding; nothing that happens in a reader leaves this module.
4. Hold name, format, platform and architecture against the declaration.

Left to others: the process around all this, with its limits (`child.py`, `workers.sandbox`); what an app allows (`pipeline.policy`).
"""

import traceback
from typing import Final

from pipeline.formats import declared as claims
from pipeline.formats.declared import Declared
from pipeline.formats.facts import FormatError, Report, Signature, SignatureStatus
from pipeline.formats.limits import MEMORY, NO_READER, READER_FAILED
from pipeline.formats.readers import READERS
from pipeline.formats.recognise import Format, recognise
from pipeline.formats.source import Source

__all__ = ["Declared", "blank_report", "inspect"]

SIGNED_FORMATS: Final = frozenset(
    {Format.APK, Format.AAB, Format.IPA, Format.MOBILEPROVISION, Format.APP_ZIP, Format.DMG, Format.PKG, Format.MSIX,
     Format.MSIX_BUNDLE, Format.PE, Format.MSI, Format.RPM, Format.APPIMAGE}
)  # fmt: skip
_NOT_READ: Final = "the file could not be read far enough to tell whether it is signed"


def inspect(source: Source, *, declared: Declared | None = None, recognised: Format | None = None) -> Report:
    """Everything that is found in `source`. Raises nothing for any content; `recognised` saves step 2 where it was done."""
    declared = declared or Declared()
    if source.size == 0:  # 1
        report = Report(Format.FILE)
        report.add(claims.EMPTY)
        claims.check_name(report, declared)
        return report
    recognised = recognised or recognise(source)  # 2
    if declared.format == Format.IN_TOTO and recognised in {Format.TEXT, Format.FILE}:
        recognised = Format.IN_TOTO  # nobody knows better what is wrong with it than its reader
    report = _read(source, recognised)  # 3
    claims.check_name(report, declared)  # 4
    claims.check_format(report, declared, recognised)
    claims.check_platform(report, declared)
    claims.check_arch(report, declared)
    claims.check_package(report, declared, recognised)
    return report


def blank_report(recognised: Format) -> Report:
    """What can be said of a file whose reader did not come to an end: nothing about its signature, not even that it has none."""
    report = Report(recognised, READERS[recognised].platform)
    if recognised in SIGNED_FORMATS:
        report.signature = Signature(SignatureStatus.UNVERIFIED, reason=_NOT_READ)
    return report


def _read(source: Source, recognised: Format) -> Report:
    """The reader's report under the recognised name, or one with the finding that says why there is none."""
    reader = READERS[recognised]
    blank = blank_report(recognised)
    if not reader.exists:
        blank.add(NO_READER, recognised)
        return blank
    try:
        report = reader.load()(source)
    except FormatError as error:
        blank.findings.append(error.finding)
        return blank
    except MemoryError:
        blank.add(MEMORY, f"while reading the file as {recognised}")
        return blank
    except Exception as error:  # noqa: BLE001  the one place: whatever a reader or its library raises, the file is not judged
        traceback.print_exc()
        blank.add(READER_FAILED, type(error).__name__)
        return blank
    report.format = recognised
    report.platform = report.platform or reader.platform
    return report
