"""What the name of a file says about it: format, platform, architecture. Guesses, for `dist ci init` and for telling slots apart.

Nothing here decides what a file is: the server looks inside. A guess is never sent as a declaration.
"""

import re
from dataclasses import dataclass
from typing import Final

from .errors import usage

PLATFORMS: Final = ("ios", "android", "macos", "windows", "linux", "any")


@dataclass(frozen=True, slots=True)
class Guess:
    """What a suffix stands for."""

    format: str
    platform: str


# The longest suffix wins.
_SUFFIXES: Final = {
    ".apk": Guess("apk", "android"),
    ".aab": Guess("aab", "android"),
    ".ipa": Guess("ipa", "ios"),
    ".dmg": Guess("dmg", "macos"),
    ".pkg": Guess("pkg", "macos"),
    ".app.zip": Guess("app-zip", "macos"),
    ".msix": Guess("msix", "windows"),
    ".appx": Guess("msix", "windows"),
    ".msixbundle": Guess("msix-bundle", "windows"),
    ".appxbundle": Guess("msix-bundle", "windows"),
    ".exe": Guess("pe", "windows"),
    ".msi": Guess("msi", "windows"),
    ".deb": Guess("deb", "linux"),
    ".rpm": Guess("rpm", "linux"),
    ".appimage": Guess("appimage", "linux"),
    ".whl": Guess("wheel", "any"),
}

# Words in file names that stand for one architecture. The longest word wins, so that x86_64 is not x86.
_ARCHITECTURES: Final = {
    "x86_64": "x86_64",
    "x86-64": "x86_64",
    "amd64": "x86_64",
    "x64": "x86_64",
    "win64": "x86_64",
    "i386": "x86",
    "i686": "x86",
    "x86": "x86",
    "win32": "x86",
    "arm64-v8a": "arm64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armeabi-v7a": "arm",
    "armv7hl": "arm",
    "armv7": "arm",
    "armhf": "arm",
    "armel": "arm",
    "arm": "arm",
    "riscv64": "riscv64",
    "ppc64el": "ppc64le",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "universal2": "universal",
    "universal": "universal",
    "noarch": "noarch",
}
_ARCHITECTURE: Final = re.compile(
    r"(?<![a-z0-9])("
    + "|".join(sorted(map(re.escape, _ARCHITECTURES), key=len, reverse=True))
    + r")(?![a-z0-9])"
)


def guess(name: str) -> Guess | None:
    """What the suffix of `name` stands for; None when it could be anything."""
    low = name.lower()
    fits = [suffix for suffix in _SUFFIXES if low.endswith(suffix)]
    return _SUFFIXES[max(fits, key=len)] if fits else None


def suffix(name: str) -> str:
    """What tells formats apart by name: the guessed format, else the part behind the last dot."""
    found = guess(name)
    if found is not None:
        return found.format
    last = name.rsplit("/", 1)[-1]
    return last.rsplit(".", 1)[-1].lower() if "." in last else ""


def architecture_in(name: str) -> str:
    """The architecture that a file name speaks of, or nothing."""
    found = _ARCHITECTURE.search(name.lower())
    return _ARCHITECTURES[found[1]] if found else ""


def known_platform(name: str | None) -> str | None:
    """The name of a platform, if it is one. Raises CliError."""
    if name is not None and name not in PLATFORMS:
        raise usage(f"{name!r} is not a platform.", f"Use {', '.join(PLATFORMS)}.")
    return name
