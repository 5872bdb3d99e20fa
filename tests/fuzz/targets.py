"""What is fuzzed: every reader on whole files, and every parser that lies behind a checksum or a compression on its own bytes.

A fuzzer that changes a byte of a ZIP archive meets its check value and goes no further. So the parsers of what lies inside are
targets themselves, or the changed part is packed into a whole file that is right around it (`inside`).

A target's `run` returns for any bytes, or raises what is a defect. `seeds` are small valid files from the builders.

Left to others: the loop (`run.py`); what has been found (`test_findings.py`).
"""

import gzip
import hashlib
import io
import json
import plistlib
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from PIL import Image as Picture

from pipeline.formats import (
    apk_lineage,
    arsc,
    authenticode,
    axml,
    certificate,
    cfb,
    cms,
    codedirectory,
    codesign,
    deb_control,
    helper,
    icons,
    msi_tables,
    msix_blockmap,
    msix_bundle_manifest,
    msix_container,
    msix_manifest,
    openpgp,
    pe_headers,
    pe_resources,
    plist,
    provisioning,
    publisher,
    sealed,
    ticket,
    udif,
    xar_xml,
)
from pipeline.formats.content import MemoryContent
from pipeline.formats.disk_contents import DiskContents
from pipeline.formats.facts import FormatError, Report, Unjudgeable
from pipeline.formats.readers import READERS
from pipeline.formats.recognise import Format, recognise
from pipeline.formats.source import Source
from pipeline.formats.wire import report_frames
from pipeline.package import hints as package_hints
from pipeline.package import manifest as package_manifest
from pipeline.package import tree as package_tree
from pipeline.package.create import Encoding
from pipeline.package.errors import PackageError
from tests.support import (
    build_appimage,
    build_authenticode,
    build_deb,
    build_msi,
    build_msix,
    build_pe,
    build_python,
    build_rpm,
)
from tests.support.build_aab import build_aab, bundle, table
from tests.support.build_aab import manifest as aab_manifest
from tests.support.build_apk import Jar, Pairs, Signer, app, build_apk
from tests.support.build_apk import lineage as apk_lineage_of
from tests.support.build_apk import manifest as apk_manifest
from tests.support.build_app import App, zipped
from tests.support.build_axml import Ref, Resource, build_arsc
from tests.support.build_cms import Recipe, family, make_identity, signed_data
from tests.support.build_dmg import Image
from tests.support.build_ipa import APP, app_files, ipa, profile
from tests.support.build_macho import Signing, fat, signed, thin
from tests.support.build_package import ENCODINGS, SMALL, packed, write_folder
from tests.support.build_provenance import bundle as sigstore_bundle
from tests.support.build_provenance import envelope, slsa_0_2, slsa_1, statement, written
from tests.support.build_tar import Tarred, archive
from tests.support.build_ticket import ticket as made_ticket
from tests.support.build_xar import DISTRIBUTION, PACKAGE_INFO, File, Xar
from tests.support.build_zip import Member, build_zip
from tests.support.source_of import source_of

V2, V3, V31 = 0x7109871A, 0xF05368C0, 0x1B93AD61
SIGNER = make_identity("fuzz signer", kind="ec", number=61)
AUTHORITY = (family().authority,)
MANIFEST_MF = b"Manifest-Version: 1.0\r\n\r\nName: res/a.txt\r\nSHA-256-Digest: AAAA\r\n\r\n"
DESKTOP = b"[Desktop Entry]\nName=Tiny\nIcon=tiny\n"
PACKAGE_JSON = json.dumps(
    {"name": "@team/tiny", "version": "1.2.3", "dependencies": {"a": "^1"}, "bin": "a.js"}
).encode()
CYCLONEDX = json.dumps(
    {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": [{"type": "library", "name": "a", "version": "1"}],
    }
).encode()
CYCLONEDX_XML = b'<bom xmlns="http://cyclonedx.org/schema/bom/1.6" version="1"><components><component type="library"><name>a</name></component></components></bom>'
SPDX = json.dumps(
    {"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "a", "documentNamespace": "https://a.example/a",
     "creationInfo": {"created": "2024-01-01T00:00:00Z", "creators": ["Tool: a"]}, "packages": [{"SPDXID": "SPDXRef-a", "name": "a", "downloadLocation": "NONE"}]}
).encode()  # fmt: skip
SPARKLE = json.dumps(
    {"file": "a.zip", "public_ed_key": "A" * 43 + "=", "length": 4, "ed_signature": "A" * 86 + "=="}
).encode()
MINISIGN = (
    b"untrusted comment: a\n"
    b"RUQ" + b"A" * 97 + b"\ntrusted comment: timestamp:1\tfile:a\n" + b"A" * 86 + b"==\n"
)
LISTING = b"""Path = a.dmg
Type = Dmg
Method = ZLIB
--
Path = 0.hfs
Type = HFS
Method = HFS+
----------
Path = Notes.app
Folder = +
Size = 0

Path = Notes.app/Contents/Info.plist
Folder = -
Size = 10
"""


class Defect(AssertionError):
    """What no input may lead to."""


PACKAGE_VECTORS = Path(__file__).resolve().parents[2] / "docs" / "formats" / "vectors" / "package.json"


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]


def _check(report: Report) -> None:
    """A report has to reach the worker, whatever the file put into it."""
    report_frames(report)
    if report.verdict not in ("accepted", "rejected", "inconclusive"):
        raise Defect(report.verdict)


def _no_helper(*_: Any, **__: Any) -> bytes:
    raise Unjudgeable(helper.HELPER_MISSING, "7zz")


@contextmanager
def _helper_says(answer: Callable[..., bytes]) -> Iterator[None]:
    """Every program is asked, and answers at once; it has a box and a process of its own and is no target here."""
    real, helper.run = helper.run, answer
    try:
        yield
    finally:
        helper.run = real


def _read(kind: Format, data: bytes) -> None:
    with source_of(data) as source, suppress(FormatError), _helper_says(_no_helper):
        _check(READERS[kind].load()(source))


def _reads(kind: Format, *seeds: Callable[[], bytes]) -> Target:
    return Target(partial(_read, kind), lambda: [seed() for seed in seeds])


def _inside(kind: Format, pack: Callable[[bytes], bytes], *seeds: Callable[[], bytes] | bytes) -> Target:
    """The reader on a whole file that is right around the bytes."""
    return Target(
        lambda data: _read(kind, pack(data)),
        lambda: [seed if isinstance(seed, bytes) else seed() for seed in seeds],
    )


def _parses(parse: Callable[[bytes], object], *seeds: Callable[[], bytes] | bytes) -> Target:
    """A parser that returns, or raises a `FormatError`."""

    def run(data: bytes) -> None:
        with suppress(FormatError):
            parse(data)

    return Target(run, lambda: [seed if isinstance(seed, bytes) else seed() for seed in seeds])


def _package_text(parse: Callable[[bytes], object], name: str) -> Target:
    """A parser of a package's texts, whose failure is a `PackageError`. The seeds are the test vectors."""

    def run(data: bytes) -> None:
        with suppress(PackageError):
            parse(data)

    return Target(run, lambda: [json.loads(PACKAGE_VECTORS.read_text())[name].encode()])


def _on_source(parse: Callable[[Source], object]) -> Callable[[bytes], None]:
    def run(data: bytes) -> None:
        with source_of(data) as source:
            parse(source)

    return run


def _apk_with(number: int, data: bytes) -> bytes:
    return build_apk(app(min_sdk=24), Pairs(raw=((number, data),)))


def _signing_block(number: int) -> bytes:
    """A scheme's value as a valid file has it."""
    signers = (Signer(SIGNER, attributes=((0x3BA06F8C, apk_lineage_of(SIGNER)),)),)
    pairs = {V2: Pairs(v2=(Signer(SIGNER),)), V3: Pairs(v3=signers)}[number]
    data = build_apk(app(min_sdk=24), pairs)
    at = data.index(number.to_bytes(4, "little"))
    size = int.from_bytes(data[at - 8 : at], "little")
    return data[at + 4 : at - 8 + 8 + size]


def _ipa_with(path: str, data: bytes) -> bytes:
    return ipa(app_files() | {f"{APP}/{path}": data})


def _image(source: Source) -> None:
    image = udif.read_image(source)
    udif.data_fork_problem(image)
    udif.master_problem(image)
    if udif.blocks_can_be_checked(image):
        list(udif.block_problems(image))


def _compound(source: Source) -> None:
    compound = cfb.CompoundFile(source)
    for read in (msi_tables.read_properties, msi_tables.read_summary):
        with suppress(FormatError):
            read(compound)


def _program(source: Source) -> None:
    headers = pe_headers.read_headers(source)
    pe_headers.check_sections(headers, source.size)
    pe_resources.read_resources(source, headers)


def _listing(data: bytes) -> None:
    with source_of(b"x") as source, _helper_says(lambda *_, **__: data):
        disk = DiskContents(source)
        for file in disk.files[:3]:
            with suppress(FormatError):
                disk.read(file.path, 1 << 20)
        for folder in disk.folders[:3]:
            with suppress(FormatError):
                disk.folder_tree(folder)


def _suppressed(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def quiet(data: bytes) -> None:
        with suppress(FormatError):
            run(data)

    return quiet


def _resources(data: bytes) -> None:
    table_ = arsc.Resources(data, [0x7F010000, 0x7F020003])
    table_.text(0x7F010000)
    table_.values(0x7F020003)


def _lineage(data: bytes) -> None:
    with suppress(apk_lineage.LineageBroken):
        apk_lineage.parse(data)


def _jar_with_manifest(data: bytes) -> bytes:
    return build_apk(app(min_sdk=18), jars=[Jar(SIGNER, manifest_edit=lambda _: data)])


def _jar_with_signature(data: bytes) -> bytes:
    members = (
        Member("META-INF/MANIFEST.MF", MANIFEST_MF),
        Member("META-INF/CERT.SF", b"Signature-Version: 1.0\r\n\r\n"),
    )
    return build_zip(*app(min_sdk=18), *members, Member("META-INF/CERT.EC", data))


def _provenance() -> Iterator[Callable[[], bytes]]:
    for predicate in (slsa_1, slsa_0_2):
        for wrap in (dict, envelope, sigstore_bundle):
            yield partial(written, wrap(statement(predicate())))


def _npm(package: bytes) -> bytes:
    return gzip.compress(archive(Tarred("package/package.json", package)), 1, mtime=0)


def _swift(manifest: bytes) -> bytes:
    return gzip.compress(archive(Tarred("Tiny/Package.swift", manifest)), 1, mtime=0)


def _package(encoding: Encoding) -> bytes:
    with tempfile.TemporaryDirectory() as place:
        return packed(write_folder(Path(place) / "folder", SMALL), encoding)[0]


def _toc() -> bytes:
    data = Xar().build()
    return zlib.decompress(data[28 : 28 + int.from_bytes(data[8:16], "big")])


def _xar_with_toc(toc: bytes) -> bytes:
    packed = zlib.compress(toc, 1)
    return (
        struct.pack(">4sHHQQI", b"xar!", 28, 1, len(packed), len(toc), 1)
        + packed
        + hashlib.sha1(packed).digest()
        + bytes(2000)
    )


def _bundle_manifest() -> bytes:
    with source_of(build_msix.bundle([build_msix.Inner("a.msix", build_msix.package())])) as source:
        opened = msix_container.open_container(source)
        return msix_container.part(opened, msix_container.BUNDLE_MANIFEST_NAME)


def _embedded(executable: bytes) -> bytes:
    at = executable.index(bytes.fromhex("fade0cc0"))
    return executable[at : at + int.from_bytes(executable[at + 4 : at + 8], "big")]


def _program_with_resources() -> bytes:
    resources = [
        (16, 1, build_pe.version_info({"ProductName": "Tiny"})),
        *build_pe.icon_resources(_picture(), 8),
    ]
    return build_pe.build(build_pe.Image(resources=resources))


def _picture() -> bytes:
    buffer = io.BytesIO()
    Picture.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


@cache
def targets() -> dict[str, Target]:
    """Every target by its name: a format, or `format.part`."""
    signed_code = Signing(family().leaf, AUTHORITY)
    notes = App(signing=signed_code)
    installer = Xar(
        rsa=make_identity("Installer", family().authority, kind="rsa", number=31), authorities=AUTHORITY
    )
    made: dict[str, Target] = {
        # Whole files
        "apk": _reads(
            Format.APK, lambda: build_apk(app(min_sdk=24), Pairs(v2=(Signer(SIGNER),), v3=(Signer(SIGNER),)), jars=[Jar(SIGNER)])
        ),
        "aab": _reads(Format.AAB, lambda: build_aab(bundle(), Jar(SIGNER))),
        "ipa": _reads(Format.IPA, ipa),
        "mobileprovision": _reads(Format.MOBILEPROVISION, profile),
        "app-zip": _reads(Format.APP_ZIP, lambda: zipped(notes.build())),
        "dmg": _reads(Format.DMG, Image(bytes(4096), signing=signed_code).build, Image(bytes(4096), format="UDBZ").build),
        "pkg": _reads(Format.PKG, installer.build, Xar().build),
        "msix": _reads(Format.MSIX, lambda: build_msix.package(sign=True)),
        "msix-bundle": _reads(
            Format.MSIX_BUNDLE, lambda: build_msix.bundle([build_msix.Inner("a.msix", build_msix.package())])
        ),
        "pe": _reads(Format.PE, lambda: build_pe.signed(build_pe.build()), _program_with_resources),
        "msi": _reads(Format.MSI, build_msi.build, build_msi.signed),
        "deb": _reads(Format.DEB, build_deb.deb),
        "rpm": _reads(Format.RPM, build_rpm.rpm),
        "appimage": _reads(Format.APPIMAGE, build_appimage.elf, lambda: build_appimage.iso({"a.desktop": DESKTOP}, start=build_appimage.elf(magic=b"AI\1"))),
        "wheel": _reads(Format.WHEEL, build_python.wheel),
        "sdist": _reads(Format.SDIST, build_python.sdist),
        "npm": _reads(Format.NPM, lambda: _npm(PACKAGE_JSON)),
        "swiftpm": _reads(Format.SWIFTPM, lambda: _swift(b"// swift-tools-version: 5.9\n")),
        "tarball": _reads(Format.TARBALL, lambda: archive(Tarred("a/", b"", b"5"), Tarred("a/b", b"c"))),
        "zip": _reads(Format.ZIP, lambda: build_zip(Member("a/b", b"c" * 99, deflate=True), zip64=True)),
        "sbom-cyclonedx": _reads(Format.SBOM_CYCLONEDX, lambda: CYCLONEDX, lambda: CYCLONEDX_XML),
        "sbom-spdx": _reads(Format.SBOM_SPDX, lambda: SPDX),
        "in-toto": _reads(Format.IN_TOTO, *_provenance()),
        "minisign": _reads(Format.MINISIGN, lambda: MINISIGN),
        "sparkle-signature": _reads(Format.SPARKLE_SIGNATURE, lambda: SPARKLE),
        "dist-package": _reads(Format.DIST_PACKAGE, *(partial(_package, encoding) for encoding in ENCODINGS)),
        "text": _reads(Format.TEXT, lambda: b"some words\n"),
        "file": _reads(Format.FILE, lambda: bytes(range(256))),
        "recognise": Target(_on_source(recognise), lambda: [b"PK\5\6" + bytes(18), b"\x1f\x8b", b"koly", b"{}"]),
        # What lies behind compression, digests or signatures
        "apk.v2": _inside(Format.APK, partial(_apk_with, V2), lambda: _signing_block(V2)),
        "apk.v3": _inside(Format.APK, partial(_apk_with, V3), lambda: _signing_block(V3)),
        "apk.v3.1": _inside(Format.APK, partial(_apk_with, V31), lambda: _signing_block(V3)),
        "apk.lineage": _parses(_lineage, lambda: apk_lineage_of(SIGNER, make_identity("b", number=62))),
        "apk.manifest": _inside(Format.APK, lambda data: build_zip(Member("AndroidManifest.xml", data)), apk_manifest),
        "apk.axml": _parses(axml.parse, apk_manifest),
        "apk.resources": _parses(_resources, lambda: build_arsc(Resource(1, 0, Ref(0x7F010001)), Resource(1, 1, "x"), Resource(2, 3, "y", sparse=True))),
        "apk.jar-manifest": _inside(Format.APK, _jar_with_manifest, MANIFEST_MF),
        "apk.jar-signature": _inside(Format.APK, _jar_with_signature, lambda: signed_data(Recipe(SIGNER, b"Signature-Version: 1.0\r\n\r\n", attached=False))),
        "aab.manifest": _inside(Format.AAB, lambda data: build_zip(Member("base/manifest/AndroidManifest.xml", data), Member("BundleConfig.pb", b"")), aab_manifest),
        "aab.resources": _inside(Format.AAB, lambda data: build_aab(bundle(resources=data, application={"label": "@string/app"})), lambda: table(("string", "app", 0x7F010000, "", 0, "Name"))),
        "ipa.info": _inside(Format.IPA, partial(_ipa_with, "Info.plist"), lambda: app_files()[f"{APP}/Info.plist"]),
        "ipa.code": _inside(Format.IPA, partial(_ipa_with, "Notes"), lambda: signed(b"\x90" * 64, signing=signed_code)),
        "ipa.profile": _inside(Format.IPA, partial(_ipa_with, "embedded.mobileprovision"), profile),
        "plist": _parses(plist.load, lambda: plistlib.dumps({"a": [1, b"b", True, 1.5]}, fmt=plistlib.FMT_BINARY), lambda: plistlib.dumps({"a": [1, b"b"]})),
        "provisioning": _parses(provisioning.parse_profile, profile),
        "macho": _parses(
            lambda data: codesign.verify_code(MemoryContent(data)), lambda: signed(b"\x90" * 64, signing=signed_code), lambda: fat(thin(b"\x90" * 64), archs=("arm64",)),
        ),
        "macho.signature": _parses(codedirectory.parse_signature, lambda: _embedded(signed(b"\x90" * 64, signing=signed_code))),
        "app.seal": _parses(sealed.parse_seal, notes.seal),
        "ticket": _parses(ticket.read_ticket, lambda: made_ticket(bytes(20))),
        "dmg.records": Target(_suppressed(_on_source(_image)), lambda: [Image(bytes(4096), signing=signed_code).build()]),
        "dmg.listing": _parses(_listing, LISTING),
        "pkg.distribution": _inside(Format.PKG, lambda data: Xar(files=(File("Distribution", data),)).build(), DISTRIBUTION),
        "pkg.package-info": _inside(Format.PKG, lambda data: Xar(files=(File("PackageInfo", data),)).build(), PACKAGE_INFO),
        "pkg.toc": _inside(Format.PKG, _xar_with_toc, _toc),
        "pkg.xml": _parses(lambda data: xar_xml.parse_xml(data, part="Distribution"), DISTRIBUTION),
        "msix.manifest": _parses(msix_manifest.parse_manifest, build_msix.manifest),
        "msix.block-map": _parses(msix_blockmap.parse_block_map, lambda: build_msix.block_map(build_msix.parts()[:2])),
        "msix.bundle-manifest": _parses(msix_bundle_manifest.parse_bundle_manifest, _bundle_manifest),
        "msix.content-types": _parses(msix_container.check_content_types, build_msix.CONTENT_TYPES),
        "msix.publisher": _parses(lambda data: publisher.parse_publisher(data.decode("utf-8", "replace")), b'CN="A, ""B""", O=C, S=D'),
        "authenticode": _parses(lambda data: authenticode.verify(data, lambda _: None), lambda: build_authenticode.sign(build_authenticode.indirect(bytes(32)))),
        "pe.resources": Target(_suppressed(_on_source(_program)), lambda: [_program_with_resources()]),
        "msi.tables": Target(_suppressed(_on_source(_compound)), lambda: [build_msi.build()]),
        "cms": _parses(cms.parse, lambda: signed_data(Recipe(SIGNER, b"content"))),
        "certificate": _parses(certificate.certificate, lambda: SIGNER.der),
        "deb.control": _parses(deb_control.parse, build_deb.CONTROL),
        "deb.control-tar": _inside(Format.DEB, lambda data: build_deb.deb(control=data), build_deb.control_tar),
        "openpgp": _parses(openpgp.parse, lambda: build_rpm.signature_packet(b"content")),
        "npm.package": _inside(Format.NPM, _npm, PACKAGE_JSON),
        "swiftpm.manifest": _inside(Format.SWIFTPM, _swift, b"// swift-tools-version: 5.9\n"),
        "wheel.metadata": _inside(Format.WHEEL, lambda data: build_python.wheel(metadata=data), build_python.METADATA),
        "wheel.tags": _inside(Format.WHEEL, lambda data: build_python.wheel(wheel_file=data), build_python.WHEEL),
        "wheel.record": _inside(Format.WHEEL, lambda data: build_python.wheel(record=data.decode("utf-8", "replace")), b"tiny.py,sha256=AAAA,6\n"),
        "sdist.metadata": _inside(Format.SDIST, lambda data: build_python.sdist(metadata=data), build_python.METADATA),
        "package.tree": _package_text(package_tree.parse, "tree"),
        "package.manifest": _package_text(package_manifest.parse, "manifest"),
        "package.sources": _package_text(package_hints.parse, "sources"),
        "icon": _parses(icons.to_png, _picture),
    }  # fmt: skip
    return made
