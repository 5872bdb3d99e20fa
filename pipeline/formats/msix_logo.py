"""The logo of a package: the file behind a path of the manifest, which names it without scale and contrast.

A manifest's `Assets/Logo.png` may be `Assets/Logo.scale-200.png` in the package, or `Assets/scale-200/Logo.png`; which of them
an index (resources.pri) says, which is not read. The largest that is not meant for high contrast is taken.

Source: Microsoft, "Tailor your resources for language, scale, high contrast, and other qualifiers".
"""

import re
from collections.abc import Mapping
from typing import Final

from pipeline.formats.facts import FormatError, Report
from pipeline.formats.icons import INPUT_MAX_BYTES, UNREADABLE, to_png
from pipeline.formats.msix_manifest import Manifest
from pipeline.formats.zip import Entry, ZipArchive

_SIZE: Final = re.compile(r"(?:scale|targetsize)-([0-9]{1,4})")
MAX_ENTRIES: Final = 10_000  # that are compared with the path of a logo


def set_logo(archive: ZipArchive, names: Mapping[str, Entry], manifest: Manifest, report: Report) -> None:
    """Set the report's icon from the first path of the manifest that has a file; `names` are Windows paths."""
    folded = {name.lower(): entry for name, entry in list(names.items())[:MAX_ENTRIES]}
    unreadable = None
    for path in dict.fromkeys(manifest.logos):
        entry = _find(folded, path.lower().replace("/", "\\"))
        if entry is None or entry.size > INPUT_MAX_BYTES:
            continue
        try:
            content = archive.read(entry, INPUT_MAX_BYTES)
        except FormatError:
            continue  # the check of the files says what is wrong with it
        report.icon = to_png(content)
        if report.icon is not None:
            return
        unreadable = path
    if unreadable is not None:
        report.add(UNREADABLE, unreadable)


def _find(folded: Mapping[str, Entry], path: str) -> Entry | None:
    """The file of that path, or the largest of its variants."""
    stem, dot, suffix = path.rpartition(".")
    folder, _, base = stem.rpartition("\\")
    best: tuple[int, Entry] | None = None
    for name, entry in folded.items():
        if name == path:
            size = 0
        elif not _is_variant(name, folder, base, dot + suffix) or "contrast-" in name:
            continue
        else:
            found = _SIZE.search(name)
            size = int(found[1]) if found else 0
        if best is None or size > best[0]:
            best = size, entry
    return best[1] if best else None


def _is_variant(name: str, folder: str, base: str, suffix: str) -> bool:
    """Qualifiers stand in the file's name after a dot, or as folders."""
    own_folder, _, own_base = name.rpartition("\\")
    if not own_base.endswith(suffix):
        return False
    qualified = own_base.startswith(f"{base}.") and own_folder == folder
    return qualified or (own_base == base + suffix and own_folder.startswith(folder) and "-" in own_folder)
