"""A changed byte in what a signature or digest covers never leaves a file `valid`, nor one that only has digests accepted.

Where a format has a checksum of its own around the content (ZIP), the changed content is packed anew, so that nothing but the
signature can tell. What no signature covers (its own bytes, padding, a field that signing changes) is left out.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.formats import aab, apk, app_zip, dmg, msi, msix, msix_bundle, pe, pkg, provisioning, rpm, wheel
from pipeline.formats.facts import Report, SignatureStatus, Verdict
from pipeline.formats.source import Source
from tests.support import build_msi, build_msix, build_pe, build_python, build_rpm
from tests.support.build_aab import bundle as aab_members
from tests.support.build_apk import Jar, Pairs, Signer, app, build_apk, jar_members
from tests.support.build_app import App, zipped
from tests.support.build_cms import family, make_identity
from tests.support.build_dmg import Image
from tests.support.build_ipa import profile
from tests.support.build_macho import Signing
from tests.support.build_xar import Xar
from tests.support.build_zip import Member, build_zip, replace
from tests.support.judged import judged

SIGNER = make_identity("covered signer", kind="ec", number=63)
BY_FAMILY = Signing(family().leaf, (family().authority,), identifier="Notes", requirements=None)
V1_APP = app(min_sdk=18, target_sdk=29)
LARGE = bytes(range(256)) * 40


@dataclass(frozen=True)
class Signed:
    """An intact file, and what becomes of it when the byte at one covered place is changed."""

    read: Callable[[Source], Report]
    intact: bytes
    places: int
    changed: Callable[[int, int], bytes]  # place below `places`, bits to flip


def flipped(data: bytes, at: int, bits: int) -> bytes:
    return data[:at] + bytes([data[at] ^ bits]) + data[at + 1 :]


def in_ranges(read: Callable[[Source], Report], data: bytes, *ranges: tuple[int, int]) -> Signed:
    """A file whose bytes in these ranges (start, end) are covered as they stand."""
    covered = [at for start, end in ranges for at in range(start, end)]
    return Signed(read, data, len(covered), lambda place, bits: flipped(data, covered[place], bits))


def in_members(
    read: Callable[[Source], Report], members: tuple[Member, ...], more: tuple[Member, ...], **pack: object
) -> Signed:
    """An archive packed anew around the change; `more` are the members that hold the signature."""
    covered = [(number, at) for number, member in enumerate(members) for at in range(len(member.content))]

    def changed(place: int, bits: int) -> bytes:
        number, at = covered[place]
        member = replace(members[number], content=flipped(members[number].content, at, bits))
        return build_zip(*members[:number], member, *members[number + 1 :], *more)

    return Signed(read, build_zip(*members, *more), len(covered), changed)


def apk_by_block(**signers: tuple[Signer, ...]) -> Signed:
    data = build_apk(app(min_sdk=24 if "v2" in signers else 28), Pairs(**signers))
    end = data.rindex(b"PK\5\6")
    directory = int.from_bytes(data[end + 16 : end + 20], "little")
    size = int.from_bytes(data[directory - 24 : directory - 16], "little")
    return in_ranges(apk.read, data, (0, directory - size - 8), (directory, len(data)))


def program() -> Signed:
    data = build_pe.signed(build_pe.build())
    entry = build_pe.security_entry(data)
    table = int.from_bytes(data[entry : entry + 4], "little")
    checksum = int.from_bytes(data[0x3C:0x40], "little") + 24 + 64
    return in_ranges(pe.read, data, (0, checksum), (checksum + 4, entry), (entry + 8, table))


def installer() -> Signed:
    data = build_msi.signed()
    cabinet = bytes(range(256)) * 20
    at = data.index(cabinet)
    return in_ranges(msi.read, data, (at, at + len(cabinet)))


def image() -> Signed:
    data = Image(bytes(2048) + LARGE, format="UDRO", signing=BY_FAMILY).build()
    trailer = len(data) - 512
    signature = int.from_bytes(data[trailer + 296 : trailer + 304], "big")
    # Not the size of the signature (304 to 312), which the signature cannot cover.
    return in_ranges(dmg.read, data, (0, signature), (trailer, trailer + 304), (trailer + 312, len(data)))


def app_bundle(bundle: bytes, read: Callable[[Source], Report]) -> Signed:
    return in_ranges(read, bundle, (0, bundle.index(b"AppxSignature.p7x") - 30))


def mac_app() -> Signed:
    files = App(signing=Signing(family().leaf, (family().authority,), flags=0x10000)).build()
    paths = [
        path for path in sorted(files) if isinstance(files[path], bytes) and not path.endswith("MacOS/Notes")
    ]
    covered = [(path, at) for path in paths for at in range(len(files[path]))]

    def changed(place: int, bits: int) -> bytes:
        path, at = covered[place]
        return zipped({**files, path: flipped(files[path], at, bits)})

    return Signed(app_zip.read, zipped(files), len(covered), changed)


def package() -> Signed:
    installer = make_identity("Installer", family().authority, kind="rsa", number=31)
    data = Xar(rsa=installer, cms=installer, authorities=(family().authority,)).build()
    table = 28 + int.from_bytes(data[8:16], "big")
    payload = data.index(b"p" * 99)
    return in_ranges(pkg.read, data, (28, table + 20), (payload, payload + 99))


def provisioning_profile() -> Signed:
    data = profile(signer=SIGNER)
    start, end = data.index(b"<?xml"), data.index(b"</plist>")
    return in_ranges(provisioning.read, data, (start, end))


def python_wheel() -> Signed:
    content = b"x = 1\n" * 20
    intact = build_python.wheel(files={"tiny.py": content})
    with zipfile.ZipFile(io.BytesIO(intact)) as archive:
        record = archive.read(f"{build_python.INFO}/RECORD").decode()

    def changed(place: int, bits: int) -> bytes:
        return build_python.wheel(files={"tiny.py": flipped(content, place, bits)}, record=record)

    return Signed(wheel.read, intact, len(content), changed)


CASES: dict[str, Callable[[], Signed]] = {
    "apk v1": lambda: in_members(apk.read, V1_APP, jar_members(V1_APP, Jar(SIGNER))),
    "apk v2": lambda: apk_by_block(v2=(Signer(SIGNER),)),
    "apk v3": lambda: apk_by_block(v3=(Signer(SIGNER),)),
    "aab": lambda: in_members(aab.read, aab_members(), jar_members(aab_members(), Jar(SIGNER))),
    "app-zip": mac_app,
    "dmg": image,
    "pkg": package,
    "msix": lambda: app_bundle(build_msix.package(sign=True), msix.read),
    "msix-bundle": lambda: app_bundle(
        build_msix.bundle([build_msix.Inner("a.msix", build_msix.package())], sign=True), msix_bundle.read
    ),
    "pe": program,
    "msi": installer,
    "mobileprovision": provisioning_profile,
}
ONLY_DIGESTS: dict[str, Callable[[], Signed]] = {
    "rpm": lambda: in_ranges(
        rpm.read, build_rpm.rpm(), (len(build_rpm.rpm()) - len(build_rpm.PAYLOAD) - 60, len(build_rpm.rpm()))
    ),
    "wheel": python_wheel,
}


@cache
def case(name: str) -> Signed:
    return {**CASES, **ONLY_DIGESTS}[name]()


@pytest.mark.parametrize("name", CASES)
def test_a_changed_byte_that_is_covered_is_never_valid(name: str) -> None:
    signed = case(name)
    assert judged(signed.read, signed.intact).signature.status is SignatureStatus.VALID

    @settings(max_examples=60 if name != "dmg" else 15, deadline=None, database=None)
    @given(st.integers(0, signed.places - 1), st.integers(1, 255))
    def holds(place: int, bits: int) -> None:
        report = judged(signed.read, signed.changed(place, bits))
        assert report.signature.status is not SignatureStatus.VALID
        assert report.verdict is not Verdict.ACCEPTED

    holds()


@pytest.mark.parametrize("name", ONLY_DIGESTS)
def test_a_changed_byte_that_a_digest_covers_is_refused(name: str) -> None:
    signed = case(name)
    assert judged(signed.read, signed.intact).verdict is Verdict.ACCEPTED

    @settings(max_examples=60, deadline=None, database=None)
    @given(st.integers(0, signed.places - 1), st.integers(1, 255))
    def holds(place: int, bits: int) -> None:
        assert judged(signed.read, signed.changed(place, bits)).verdict is not Verdict.ACCEPTED

    holds()
