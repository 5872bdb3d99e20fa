"""A macOS app in a ZIP archive, as Xcode, ditto and release scripts pack it.

`details` is that of `macos_app.py`, and `apps` when there are several. Left to others: the archive's own soundness (`zip.py`).

Rules: the app lies at the top of the archive or one or two folders down; names that a Mac's file system takes for one are
duplicates; a link may not lead out.
"""

import posixpath
import re
from typing import Final

from pipeline.formats.bundle import FileTree, ZipTree, bundle_roots
from pipeline.formats.facts import Malformed, Report, Rule, Severity
from pipeline.formats.icons import add_icon
from pipeline.formats.macos_app import read_app
from pipeline.formats.source import Source
from pipeline.formats.zip import ZipArchive, ZipPolicy

NO_APP: Final = Rule(
    "app.no-app",
    Severity.ERROR,
    "The archive holds no macOS app (a folder whose name ends in .app, with Contents/Info.plist in it).",
    "Pack the app itself: ditto -c -k --keepParent MyApp.app MyApp.zip",
    "Apple, Bundle Programming Guide, Bundle Structures",
)
SEVERAL_APPS: Final = Rule(
    "app.several-apps",
    Severity.WARNING,
    "The archive holds several apps; the first is the one described here: {evidence}.",
    "Publish each app as an artifact of its own.",
    "own rule: an artifact is one app",
)
NOT_EXECUTABLE: Final = Rule(
    "app.not-executable",
    Severity.WARNING,
    "The archive has lost the permission to execute the app's program, so the app will not start: {evidence}.",
    "Pack with a tool that keeps permissions and links: ditto -c -k --keepParent, or zip -y.",
    "APPNOTE.TXT 4.4.15 (external attributes); Apple, Bundle Programming Guide",
)
RULES: Final = (NO_APP, SEVERAL_APPS, NOT_EXECUTABLE)

_POLICY: Final = ZipPolicy(fold_names=True)
_EXECUTE_BITS: Final = 0o111
_APP: Final = re.compile(r"(?:[^/]+/){0,2}[^/]+\.app\Z", re.IGNORECASE)


def read(source: Source) -> Report:
    """Read and verify; raises `Malformed` or `Unjudgeable`."""
    archive = ZipArchive(source, _POLICY)
    tree = ZipTree(archive)
    roots = app_roots(tree)
    if not roots:
        raise Malformed(NO_APP)
    app = read_app(tree, roots[0])
    report = Report(
        format="app-zip",
        platform="macos",
        metadata=app.metadata,
        signature=app.signature.code.as_signature(),
        details=app.details,
        findings=app.findings,
    )
    if app.icon is not None:
        add_icon(report, app.icon[1], app.icon[0])
    if len(roots) > 1:
        report.details["apps"] = roots
        report.add(SEVERAL_APPS, ", ".join(posixpath.basename(root) for root in roots[:5]))
    _check_permission(report, archive, app.executable)
    return report


def app_roots(tree: FileTree) -> list[str]:
    """Apps that lie in no other bundle, the ones with Contents/Info.plist, nearest to the top first."""
    found: list[str] = []
    for root in bundle_roots(tree, ""):
        inside = any(root.startswith(f"{outer}/") for outer in found)
        if _APP.match(root) and not inside and f"{root}/Contents/Info.plist" in tree.members:
            found.append(root)
    return sorted(found, key=lambda root: (root.count("/"), root))


def _check_permission(report: Report, archive: ZipArchive, executable: str | None) -> None:
    entry = None if executable is None else archive.get(executable)
    if entry is not None and entry.mode and not entry.mode & _EXECUTE_BITS:
        report.add(NOT_EXECUTABLE, entry.name)
