"""The Authenticode signature of a Windows Installer database: a stream, and a digest over all other streams.

Two streams of the root storage are not covered: DigitalSignature with the CMS, and MsiDigitalSignatureEx with a
digest of names, sizes, class ids and times ("metadata"), which some signers put in front of the content's digest.

 1. Streams and storages in the order of their UTF-16LE names, byte by byte; storages recursively.
 2. The content's digest is over the streams' bytes, and after the children of a storage its class id.
 3. With MsiDigitalSignatureEx, the metadata digest is computed likewise, with the algorithm that the stream's length tells,
    and compared with that stream, whose bytes then come before the content of every signature.

Source: undocumented by Microsoft; osslsigncode `msi.c` (msi_hash_dir, msi_prehash_dir), cross-checked with its output.
"""

import hashlib
import struct
from typing import Any, Final

from pipeline.formats import authenticode
from pipeline.formats.cfb import STREAM, CompoundFile, Entry
from pipeline.formats.facts import FormatError, Report, SignatureStatus

SIGNATURE_STREAM: Final = "\x05DigitalSignature"
EXTENDED_STREAM: Final = "\x05MsiDigitalSignatureEx"
UNSIGNED_STREAMS: Final = frozenset({SIGNATURE_STREAM, EXTENDED_STREAM})
MAX_SIGNATURE_BYTES: Final = 16 << 20
METADATA_ALGORITHMS: Final = {20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}


def check_signature(compound: CompoundFile, report: Report) -> None:
    """Verify the signature, if there is one, into `report`; a damaged one is never taken for none."""
    entry = compound.get(SIGNATURE_STREAM)
    extended = compound.get(EXTENDED_STREAM)
    if entry is None:
        if extended is not None:
            report.add(authenticode.DAMAGED, "MsiDigitalSignatureEx is there, DigitalSignature is not")
            report.signature.status = SignatureStatus.INVALID
            report.signature.reason = "half of the signature is missing"
        return
    report.details["signature_ex"] = extended is not None
    try:
        blob = compound.read(entry, MAX_SIGNATURE_BYTES)
        metadata = compound.read(extended, max(METADATA_ALGORITHMS)) if extended else b""
        contradiction = _check_metadata(compound, metadata) if extended else None
        found = authenticode.verify(
            blob, lambda wanted: contradiction or _mismatch(compound, wanted, metadata)
        )
    except FormatError as error:
        authenticode.damaged(report, error)
        return
    authenticode.apply(report, found)


def _check_metadata(compound: CompoundFile, metadata: bytes) -> str | None:
    """Rule 3: why the stream is not the metadata digest of this database; None when it is."""
    algorithm = METADATA_ALGORITHMS.get(len(metadata))
    if algorithm is None:
        return f"MsiDigitalSignatureEx has {len(metadata)} bytes, which is no digest"
    if metadata_digest(compound, algorithm) == metadata:
        return None
    return "the names, sizes or times in the database are not those that were signed"


def _mismatch(compound: CompoundFile, wanted: authenticode.Indirect, metadata: bytes) -> str | None:
    if content_digest(compound, wanted.algorithm, metadata) == wanted.digest:
        return None
    return f"the database's {wanted.algorithm} digest is not the signed one"


def content_digest(compound: CompoundFile, algorithm: str, metadata: bytes = b"") -> bytes:
    """The digest that a signature names; `metadata` is the content of MsiDigitalSignatureEx, where it is there."""
    state = hashlib.new(algorithm, metadata)
    _add_content(compound, compound.root, state, is_root=True)
    return state.digest()


def _add_content(compound: CompoundFile, storage: Entry, state: Any, *, is_root: bool) -> None:
    """Rules 1 and 2; nesting is bounded by `cfb.MAX_DEPTH`."""
    for child in _ordered(storage, is_root=is_root):
        if child.kind == STREAM:
            for part in compound.chunks(child):
                state.update(part)
        else:
            _add_content(compound, child, state, is_root=False)
    state.update(storage.clsid)


def metadata_digest(compound: CompoundFile, algorithm: str) -> bytes:
    """The content of MsiDigitalSignatureEx: names, sizes, class ids, state bits and times of everything."""
    state = hashlib.new(algorithm)
    _add_metadata(compound.root, state, is_root=True)
    return state.digest()


def _add_metadata(entry: Entry, state: Any, *, is_root: bool) -> None:
    if not is_root:
        state.update(entry.raw_name)
    state.update(struct.pack("<I", entry.size & 0xFFFFFFFF) if entry.kind == STREAM else entry.clsid)
    state.update(entry.state_bits)
    if not is_root:
        state.update(entry.created + entry.modified)
    for child in _ordered(entry, is_root=is_root):
        _add_metadata(child, state, is_root=False)


def _ordered(storage: Entry, *, is_root: bool) -> list[Entry]:
    """Rule 1, without the two streams that hold the signature."""
    rows = [child for child in storage.children if not (is_root and child.name in UNSIGNED_STREAMS)]
    return sorted(rows, key=lambda child: child.raw_name + b"\0\0")
