"""The tree of RFC 6962, against the recursive definition of the specification and the known vectors."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.merkle import EMPTY_ROOT, Tree, is_consistent, leaf_hash
from tests.support.merkle_reference import mth, subproof

# The test vectors of certificate-transparency's merkle_tree_test: inputs, and the roots of the first 1…8 of them.
INPUTS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves_of(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def test_the_known_vectors() -> None:
    tree = Tree()
    assert tree.root == EMPTY_ROOT
    for text, root in zip(INPUTS, ROOTS, strict=True):
        tree.add(leaf_hash(bytes.fromhex(text)))
        assert tree.root.hex() == root


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 130))
def test_every_size_has_the_root_of_the_definition(count: int) -> None:
    tree = Tree()
    for leaf in leaves_of(count):
        tree.add(leaf)
    assert tree.root == mth(leaves_of(count))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 70), st.data())
def test_a_true_proof_is_accepted_and_a_bent_one_is_not(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    leaves = leaves_of(second)
    proof = subproof(first, leaves, True)
    old, new = mth(leaves[:first]), mth(leaves)
    assert is_consistent(first, second, old, new, proof)
    other = leaf_hash(b"other")
    assert not is_consistent(first, second, other, new, proof)
    assert not is_consistent(first, second, old, other, proof)
    assert not is_consistent(first, second, old, new, [*proof, other])
    if proof:
        assert not is_consistent(first, second, old, new, proof[:-1])
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not is_consistent(first, second, old, new, [*proof[:at], other, *proof[at + 1 :]])


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.data())
def test_a_log_whose_past_was_rewritten_has_no_proof(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second - 1))
    changed = data.draw(st.integers(0, first - 1))
    leaves = leaves_of(second)
    old = mth(leaves[:first])
    leaves[changed] = leaf_hash(b"rewritten")
    assert not is_consistent(first, second, old, mth(leaves), subproof(first, leaves, True))


@pytest.mark.parametrize(("first", "second", "good"), [(0, 0, True), (0, 5, True), (3, 2, False)])
def test_the_edges(first: int, second: int, good: bool) -> None:
    old, new = mth(leaves_of(first)), mth(leaves_of(second))
    assert is_consistent(first, second, old, new, []) is good


def test_the_server_computes_the_same_tree() -> None:
    from pipeline import merkle

    assert merkle.leaf_hash(b"x") == leaf_hash(b"x")
