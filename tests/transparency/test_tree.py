"""The Merkle tree against RFC 6962's test tree, the RFC's recursive definition, and forged proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ContractError, InvalidProof
from common.transparency import tree
from common.transparency.hashes import PackedTree, pack_leaves
from common.transparency.tree import Node

# The test tree of RFC 6962's reference implementation (google/certificate-transparency, merkletree tests).
LEAVES = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                                           "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
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


def root_by_definition(leaves: list[bytes]) -> bytes:
    """RFC 9162 §2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    left, right = root_by_definition(leaves[:k]), root_by_definition(leaves[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def packed(count: int) -> tuple[list[bytes], PackedTree]:
    leaves = [b"leaf %d" % number for number in range(count)]
    return leaves, PackedTree(pack_leaves(leaves))


def path(found: PackedTree, ranges: list[tuple[int, int]]) -> list[bytes]:
    return [tree.range_hash(bounds, found.__getitem__) for bounds in ranges]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_of_the_reference_tree(size: int) -> None:
    assert PackedTree(pack_leaves(LEAVES)).root(size).hex() == ROOTS[size - 1]
    assert root_by_definition(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_empty_tree() -> None:
    assert PackedTree(b"").root(0) == tree.Frontier().root() == root_by_definition([]) == tree.EMPTY_ROOT


@given(st.integers(1, 70))
def test_every_way_of_building_has_one_root(size: int) -> None:
    leaves, found = packed(size)
    frontier, nodes = tree.Frontier(), dict[Node, bytes]()
    for seq, leaf in enumerate(leaves):
        frontier.append(tree.leaf_hash(leaf))
        hashes = tree.completed(tree.leaf_hash(leaf), [nodes[node] for node in tree.merged(seq)])
        for level in range(len(hashes) // 32):  # as the server stores them: with the leaf that completes them
            nodes[Node(level, seq >> level)] = hashes[level * 32 : level * 32 + 32]
    assert {node.last for node in nodes} == set(range(size))
    expected = root_by_definition(leaves)
    assert expected == found.root(size) == frontier.root() == tree.range_hash((0, size), nodes)


@given(st.integers(1, 70), st.data())
def test_every_inclusion_proof_verifies_and_nothing_else_does(size: int, data: st.DataObject) -> None:
    _, found = packed(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = path(found, tree.inclusion_ranges(index, size)), found.root(size)
    leaf = found.leaf(index)
    tree.verify_inclusion(leaf, index, size, proof, root)
    wrong = [(leaf, (index + 1) % size, size, proof, root)] if size > 1 else []
    wrong += [(leaf, index, size, [*proof, root], root), (leaf, index, size, proof, b"\0" * 32)]
    wrong += [(b"\0" * 32, index, size, proof, root), (leaf, size, size, proof, root), (leaf, -1, size, proof, root)]
    if proof:
        step = data.draw(st.integers(0, len(proof) - 1))
        bent = [*proof[:step], bytes(32), *proof[step + 1 :]]
        wrong += [(leaf, index, size, bent, root), (leaf, index, size, proof[:-1], root)]
    for case in wrong:
        with pytest.raises(InvalidProof):
            tree.verify_inclusion(*case)


@given(st.integers(1, 70), st.data())
def test_every_consistency_proof_verifies_and_nothing_else_does(new: int, data: st.DataObject) -> None:
    _, found = packed(new)
    old = data.draw(st.integers(1, new))
    proof = path(found, tree.consistency_ranges(old, new))
    roots = {"old_root": found.root(old), "new_root": found.root(new)}
    tree.verify_consistency(old, new, proof, **roots)
    with pytest.raises(InvalidProof):
        tree.verify_consistency(old, new, [*proof, bytes(32)], **roots)
    for name in roots:
        with pytest.raises(InvalidProof):
            tree.verify_consistency(old, new, proof, **roots | {name: bytes(32)})
    for at in range(len(proof)):
        with pytest.raises(InvalidProof):
            tree.verify_consistency(old, new, [*proof[:at], bytes(32), *proof[at + 1 :]], **roots)
        with pytest.raises(InvalidProof):
            tree.verify_consistency(old, new, proof[:at] + proof[at + 1 :], **roots)


def test_a_rewritten_history_has_no_consistency_proof() -> None:
    """The proof of the new tree against the old root of another history leads nowhere, for every pair of sizes."""
    leaves, _ = packed(20)
    for old in range(1, 20):
        rewritten = PackedTree(pack_leaves([*leaves[: old - 1], b"another", *leaves[old:]]))
        for new in range(old, 20):
            proof = path(rewritten, tree.consistency_ranges(old, new))
            with pytest.raises(InvalidProof):
                tree.verify_consistency(
                    old, new, proof, old_root=root_by_definition(leaves[:old]), new_root=rewritten.root(new)
                )


def test_what_there_is_no_proof_of_is_said() -> None:
    for index, size in ((0, 0), (5, 5), (-1, 3)):
        with pytest.raises(ContractError):
            tree.inclusion_ranges(index, size)
    for old, new in ((0, 3), (4, 3)):
        with pytest.raises(ContractError):
            tree.consistency_ranges(old, new)
    with pytest.raises(ValueError, match="whole number"):
        PackedTree(b"\0" * 33)


def test_a_leaf_cannot_be_passed_off_as_a_node() -> None:
    """RFC 9162 §2.1.1: the two prefixes are what separates them."""
    left, right = tree.leaf_hash(b"a"), tree.leaf_hash(b"b")
    assert tree.leaf_hash(left + right) != tree.node_hash(left, right)
