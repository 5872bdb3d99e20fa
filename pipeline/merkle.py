"""The Merkle tree of RFC 6962 (section 2.1), as pure arithmetic over hashes of complete subtrees.

A node `(level, position)` covers the leaves `[position << level, (position + 1) << level)`. Complete nodes never change, so they
are stored once; the root and the proofs of any earlier size are made from them. Hashes are raw 32 bytes here.
"""

import hashlib
from collections.abc import Callable

Node = Callable[[int, int], bytes]  # (level, position) → hash of a complete subtree


def leaf_hash(body: bytes) -> bytes:
    """SHA-256(0x00 || body)."""
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def completed_by(index: int, leaf: bytes, node: Node) -> list[tuple[int, int, bytes]]:
    """The nodes that become complete when leaf `index` is appended: the leaf itself, then upwards."""
    done = [(0, index, leaf)]
    level, position, here = 0, index, leaf
    while position & 1:
        here = node_hash(node(level, position - 1), here)
        level, position = level + 1, position >> 1
        done.append((level, position, here))
    return done


def root(size: int, node: Node) -> bytes:
    """The tree's head over the first `size` leaves; SHA-256 of nothing when there are none."""
    return _range(0, size, node) if size else hashlib.sha256(b"").digest()


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """PATH(index, D[size]): the siblings from the leaf up."""
    if not 0 <= index < size:
        raise ValueError("index outside the tree")
    return _path(index, 0, size, node)


def consistency_proof(first: int, second: int, node: Node) -> list[bytes]:
    """PROOF(first, D[second]): shows that the tree of `first` leaves is a prefix of the one of `second`."""
    if not 0 <= first <= second:
        raise ValueError("sizes out of order")
    return [] if first in {0, second} else _subproof(first, 0, second, node, whole=True)


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: list[bytes]
) -> bool:
    """RFC 9162, section 2.1.4.2."""
    if first == second:
        return first_root == second_root and not proof
    if first == 0:
        return not proof
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = node_hash(new, sibling)
        fn, sn = fn >> 1, sn >> 1
    return old == first_root and new == second_root and sn == 0


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _range(start: int, end: int, node: Node) -> bytes:
    count = end - start
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(count)
    return node_hash(_range(start, middle, node), _range(middle, end, node))


def _path(index: int, start: int, end: int, node: Node) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*_path(index, start, middle, node), _range(middle, end, node)]
    return [*_path(index, middle, end, node), _range(start, middle, node)]


def _subproof(first: int, start: int, end: int, node: Node, *, whole: bool) -> list[bytes]:
    if first == end:
        return [] if whole else [_range(start, end, node)]
    middle = start + _split(end - start)
    if first <= middle:
        return [*_subproof(first, start, middle, node, whole=whole), _range(middle, end, node)]
    return [*_subproof(first, middle, end, node, whole=False), _range(start, middle, node)]
