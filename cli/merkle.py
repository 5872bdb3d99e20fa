"""The Merkle tree of the audit log, RFC 6962 (and 9162, 2.1), written again here: a witness trusts no code of the one it watches.

    leaf = SHA-256(0x00 || body)      node = SHA-256(0x01 || left || right)

Left to others: fetching (`witness.py`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()  # RFC 6962, 2.1: the hash of no leaves


def leaf_hash(body: bytes) -> bytes:
    """The leaf of one event."""
    return hashlib.sha256(b"\0" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two others."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(slots=True)
class Tree:
    """A tree that grows leaf by leaf, in memory of its logarithm: the roots of its perfect subtrees, largest first."""

    size: int = 0
    _peaks: list[bytes] = field(default_factory=list)

    def add(self, leaf: bytes) -> None:
        """Append a leaf's hash."""
        node, number = leaf, self.size
        while number & 1:
            node = node_hash(self._peaks.pop(), node)
            number >>= 1
        self._peaks.append(node)
        self.size += 1

    @property
    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        node = self._peaks[-1]
        for left in reversed(self._peaks[:-1]):
            node = node_hash(left, node)
        return node


def is_consistent(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of size `second` begins with the one of size `first`: RFC 9162, 2.1.4.2, step by step."""
    if first > second:
        return False
    if first == second:
        return not proof and first_root == second_root
    if first == 0:
        return not proof  # everything begins with nothing
    if not proof:
        return False  # step 1
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)  # step 2: an exact power of 2
    fn, sn = first - 1, second - 1  # step 3
    while fn & 1:  # step 4
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]  # step 5
    for node in path[1:]:  # step 6
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(node, fr), node_hash(node, sr)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, node)
        fn, sn = fn >> 1, sn >> 1
    return fr == first_root and sr == second_root and sn == 0  # step 7
