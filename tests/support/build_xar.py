"""Makes xar archives and installer packages, signed or not, with each field open to be made wrong."""

import base64
import bz2
import hashlib
import lzma
import struct
import zlib
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape

from tests.support.build_cms import Identity, Recipe, sign, signed_data

NUMBERS = {None: 0, "sha1": 1, "md5": 2, "sha256": 3, "sha512": 4}
STYLES = {"sha1": "sha1", "md5": "md5", "sha256": "SHA-256", "sha512": "sha512"}
PACKERS = {
    "application/octet-stream": bytes,
    "application/x-gzip": zlib.compress,
    "application/x-bzip2": bz2.compress,
    "application/x-lzma": lzma.compress,
}

DISTRIBUTION = b"""<?xml version="1.0" encoding="utf-8"?>
<installer-gui-script minSpecVersion="1">
 <title>Notes</title>
 <product id="com.example.notes" version="1.4.0"/>
 <options customize="never" hostArchitectures="arm64,x86_64"/>
 <volume-check><allowed-os-versions><os-version min="12.0"/></allowed-os-versions></volume-check>
 <pkg-ref id="com.example.notes.app" version="1.4.0" installKBytes="10">#Notes.pkg</pkg-ref>
</installer-gui-script>"""
PACKAGE_INFO = b"""<pkg-info identifier="com.example.notes.app" version="1.4.0.1" install-location="/Applications" auth="root">
 <payload numberOfFiles="3" installKBytes="10"/>
 <scripts><postinstall file="./postinstall"/></scripts>
</pkg-info>"""


@dataclass(frozen=True)
class File:
    path: str
    content: bytes
    encoding: str = "application/x-gzip"
    checksum: str | None = "sha1"
    archived: str | None = None  # a digest that is written in place of the right one
    size: int | None = None
    offset: int | None = None
    length: int | None = None


PRODUCT = (
    File("Distribution", DISTRIBUTION),
    File("Notes.pkg/PackageInfo", PACKAGE_INFO),
    File("Notes.pkg/Payload", b"p" * 99, "application/octet-stream"),
)
COMPONENT = (File("PackageInfo", PACKAGE_INFO), File("Payload", b"p" * 99, "application/octet-stream"))


@dataclass(frozen=True)
class Xar:
    files: tuple[File, ...] = PRODUCT
    algorithm: str | None = "sha1"
    header_bytes: int = 28
    number: int | None = None
    rsa: Identity | None = None
    cms: Identity | None = None
    authorities: tuple[Identity, ...] = ()
    flip_rsa: bool = False
    flip_cms: bool = False
    style: str = "CMS"
    toc_bytes: int | None = None
    toc_extra: str = ""
    flip_digest: bool = False
    trailing: bytes = b""

    def build(self) -> bytes:
        """The table names the signatures' sizes, and they are over the table: so their sizes are made first."""
        sizes = (len(self._rsa(b"")) if self.rsa else 0, len(self._cms(b"x" * 20)) + 16 if self.cms else 0)
        packed = zlib.compress(self._toc(sizes).encode())
        toc_bytes = len(zlib.decompress(packed)) if self.toc_bytes is None else self.toc_bytes
        number = NUMBERS[self.algorithm] if self.number is None else self.number
        header = struct.pack(">4sHHQQI", b"xar!", self.header_bytes, 1, len(packed), toc_bytes, number)
        header = header.ljust(self.header_bytes, b"\0")
        digest = b"" if self.algorithm is None else hashlib.new(self.algorithm, packed).digest()
        heap = digest
        if self.rsa:
            heap += self._rsa(packed)
        if self.cms:
            heap += self._cms(digest).ljust(sizes[1], b"\0")
        if self.flip_digest:
            heap = bytes([heap[0] ^ 1]) + heap[1:]
        heap += b"".join(PACKERS[file.encoding](file.content) for file in self.files)
        return header + packed + heap + self.trailing

    @property
    def digest(self) -> bytes:
        """The digest over the table that `build` makes."""
        data = self.build()
        packed_bytes = struct.unpack_from(">Q", data, 8)[0]
        packed = data[self.header_bytes : self.header_bytes + packed_bytes]
        return hashlib.new(self.algorithm or "sha1", packed).digest()

    def _rsa(self, packed: bytes) -> bytes:
        assert self.rsa is not None
        made = sign(self.rsa.key, packed, self.algorithm or "sha1")
        return made[:-1] + bytes([made[-1] ^ 1]) if self.flip_rsa else made

    def _cms(self, digest: bytes) -> bytes:
        assert self.cms is not None
        return signed_data(
            Recipe(
                self.cms, digest, attached=False, certificates=self.authorities, flip_signature=self.flip_cms
            )
        )

    def _toc(self, sizes: tuple[int, int]) -> str:
        start = 0 if self.algorithm is None else hashlib.new(self.algorithm).digest_size
        parts = []
        if self.algorithm is not None:
            parts.append(
                f'<checksum style="{STYLES[self.algorithm]}"><offset>0</offset><size>{start}</size></checksum>'
            )
        if self.rsa:
            parts.append(self._signature("signature", "RSA", start, sizes[0], self.rsa))
            start += sizes[0]
        if self.cms:
            parts.append(self._signature("x-signature", self.style, start, sizes[1], self.cms))
            start += sizes[1]
        tree: dict[str, object] = {}
        for file in self.files:
            packed = PACKERS[file.encoding](file.content)
            level = tree
            *folders, name = file.path.split("/")
            for folder in folders:
                level = level.setdefault(folder, {})  # type: ignore[assignment]
            level[name] = self._data(file, packed, start)
            start += len(packed)
        parts.append(self._files(tree))
        return f'<?xml version="1.0" encoding="UTF-8"?><xar><toc>{"".join(parts)}{self.toc_extra}</toc></xar>'

    def _files(self, tree: dict[str, object]) -> str:
        text = ""
        for name, inner in tree.items():
            inside = self._files(inner) if isinstance(inner, dict) else inner
            kind = "directory" if isinstance(inner, dict) else "file"
            text += f'<file id="1"><type>{kind}</type><name>{escape(name)}</name>{inside}</file>'
        return text

    def _data(self, file: File, packed: bytes, start: int) -> str:
        sums = ""
        if file.checksum is not None:
            archived = file.archived or hashlib.new(file.checksum, packed).hexdigest()
            extracted = hashlib.new(file.checksum, file.content).hexdigest()
            style = STYLES[file.checksum]
            sums = (
                f'<archived-checksum style="{style}">{archived}</archived-checksum>'
                f'<extracted-checksum style="{style}">{extracted}</extracted-checksum>'
            )
        offset = start if file.offset is None else file.offset
        length = len(packed) if file.length is None else file.length
        size = len(file.content) if file.size is None else file.size
        return (
            f"<data><length>{length}</length><offset>{offset}</offset><size>{size}</size>"
            f'<encoding style="{file.encoding}"/>{sums}</data>'
        )

    def _signature(self, tag: str, style: str, start: int, size: int, signer: Identity) -> str:
        chain = "".join(
            f"<X509Certificate>{base64.b64encode(one.der).decode()}</X509Certificate>"
            for one in (signer, *self.authorities)
        )
        return (
            f'<{tag} style="{style}"><offset>{start}</offset><size>{size}</size>'
            f'<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data>{chain}</X509Data></KeyInfo></{tag}>'
        )


def stapled(package: bytes, made_ticket: bytes) -> bytes:
    """The package with a ticket between trailers."""
    first = struct.pack("<4sHHII", b"t8lr", 1, 1, 0, 0)
    return package + first + made_ticket + struct.pack("<4sHHII", b"t8lr", 1, 2, len(made_ticket), 0)


__all__ = ["COMPONENT", "PRODUCT", "File", "Xar", "replace", "stapled"]
