"""Blobs: ids, roots, and parts that are verified without the whole."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.package import blob
from pipeline.package.blob import (
    CHUNK_BYTES,
    EMPTY_BLOB,
    BlobInfo,
    blob_info,
    chunk_proof,
    root_of,
    verify_chunk,
)
from pipeline.values import Digest


def leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def test_no_bytes():
    info = blob_info([])
    assert info == BlobInfo(EMPTY_BLOB, 0, ())
    assert info.root == hashlib.sha256(b"").hexdigest()


def test_the_id_is_what_sha256sum_prints_and_the_root_of_one_chunk_is_its_leaf():
    info = blob_info([b"ab", b"", b"c"])
    assert info.id == hashlib.sha256(b"abc").hexdigest()
    assert info.root == leaf(b"abc").hex()
    assert info.root != info.id, "a leaf is no digest of a blob"


def test_the_root_of_five_chunks_is_that_of_rfc_6962():
    data = b"".join(bytes([number]) * CHUNK_BYTES for number in range(4)) + b"end"
    leaves = [leaf(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
    info = blob_info([data])
    assert info.leaves == tuple(leaves)
    four = node(node(leaves[0], leaves[1]), node(leaves[2], leaves[3]))
    assert info.root == node(four, leaves[4]).hex()


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_chunks_end_where_they_have_to_however_the_pieces_are_cut(size: int):
    data = bytes(size)
    whole = blob_info([data])
    assert len(whole.leaves) == blob.chunk_count(size)
    for cut in (1, 1000, CHUNK_BYTES - 1):
        assert blob_info([data[:cut], data[cut:]]) == whole


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_chunk_is_verified_with_its_proof_and_with_no_other(data: st.DataObject):
    count = data.draw(st.integers(1, 20))
    chunks = [bytes([number]) * 3 for number in range(count)]
    real = blob.CHUNK_BYTES
    blob.CHUNK_BYTES = 3
    try:
        leaves = [leaf(chunk) for chunk in chunks]
        root, size = Digest(root_of(leaves).hex()), 3 * count
        index = data.draw(st.integers(0, count - 1))
        proof = chunk_proof(leaves, index)
        right = {"root": root, "size": size, "index": index, "chunk": chunks[index], "proof": proof}
        assert verify_chunk(**right)
        assert not verify_chunk(**right | {"chunk": b"xxx"})
        assert not verify_chunk(**right | {"chunk": chunks[index] + b"x"})
        assert not verify_chunk(**right | {"index": count})
        assert not verify_chunk(**right | {"index": -1})
        assert not verify_chunk(**right | {"root": EMPTY_BLOB})
        assert not verify_chunk(**right | {"proof": [*proof, bytes(32)]})
        if proof:
            assert not verify_chunk(**right | {"proof": proof[:-1]})
            assert not verify_chunk(**right | {"proof": [bytes(32), *proof[1:]]})
        if count > 1:
            assert not verify_chunk(**right | {"index": (index + 1) % count})
    finally:
        blob.CHUNK_BYTES = real
