"""The table of readers: which module reads which format, and the platform that the format belongs to.

Modules are imported when their format is met first: a reader of Android packages brings 50 MB of libraries that an RPM does not need.
A row may stand here before its module does; such a format is recognised and ends as `inspect.no-reader`.

Left to others: which format a file has (`recognise.py`).
"""

import contextlib
import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final, cast

from pipeline.formats.facts import Report
from pipeline.formats.recognise import Format
from pipeline.formats.source import Source
from pipeline.values import Platform

_PACKAGE: Final = "pipeline.formats"


@dataclass(frozen=True, slots=True)
class Reader:
    """One row: `module` has `read(source) -> Report`; `platform` is what the format alone says, before its content does."""

    module: str
    platform: Platform

    @property
    def exists(self) -> bool:
        """Whether the module is there."""
        return importlib.util.find_spec(f"{_PACKAGE}.{self.module}") is not None

    def load(self) -> Callable[[Source], Report]:
        """Its `read`. Raises `ModuleNotFoundError` where the module, or a library it needs, is not installed."""
        return cast("Callable[[Source], Report]", self._import().read)

    def preload(self) -> None:
        """Import it now; where a library is missing nothing happens yet: its format will say so when it is met."""
        if self.exists:
            with contextlib.suppress(ImportError):
                self._import()

    def _import(self) -> ModuleType:
        return importlib.import_module(f"{_PACKAGE}.{self.module}")


READERS: Final[dict[Format, Reader]] = {
    Format.APK: Reader("apk", Platform.ANDROID),
    Format.AAB: Reader("aab", Platform.ANDROID),
    Format.IPA: Reader("ipa", Platform.IOS),
    Format.MOBILEPROVISION: Reader("provisioning", Platform.IOS),
    Format.APP_ZIP: Reader("app_zip", Platform.MACOS),
    Format.DMG: Reader("dmg", Platform.MACOS),
    Format.PKG: Reader("pkg", Platform.MACOS),
    Format.MSIX: Reader("msix", Platform.WINDOWS),
    Format.MSIX_BUNDLE: Reader("msix_bundle", Platform.WINDOWS),
    Format.PE: Reader("pe", Platform.WINDOWS),
    Format.MSI: Reader("msi", Platform.WINDOWS),
    Format.DEB: Reader("deb", Platform.LINUX),
    Format.RPM: Reader("rpm", Platform.LINUX),
    Format.APPIMAGE: Reader("appimage", Platform.LINUX),
    Format.WHEEL: Reader("wheel", Platform.ANY),
    Format.SDIST: Reader("sdist", Platform.ANY),
    Format.NPM: Reader("npm", Platform.ANY),
    Format.SWIFTPM: Reader("swiftpm", Platform.ANY),
    Format.TARBALL: Reader("tar", Platform.ANY),
    Format.ZIP: Reader("archive_zip", Platform.ANY),
    Format.SBOM_CYCLONEDX: Reader("sbom", Platform.ANY),
    Format.SBOM_SPDX: Reader("sbom", Platform.ANY),
    Format.IN_TOTO: Reader("provenance", Platform.ANY),
    Format.MINISIGN: Reader("minisign", Platform.ANY),
    Format.SPARKLE_SIGNATURE: Reader("sparkle", Platform.ANY),
    Format.DIST_PACKAGE: Reader("dist_package", Platform.ANY),
    Format.TEXT: Reader("generic", Platform.ANY),
    Format.FILE: Reader("generic", Platform.ANY),
}
