"""The history of an app's signing keys: each one attests the next (proof of rotation, attribute 0x3ba06f8c).

    lineage = u32 version (1), nodes
    node    = signed-data (certificate, u32 algorithm of the parent's signature), u32 flags, u32 algorithm, signature

A node's signature is made by the node before it, over the node's signed-data. (AOSP apksig, `V3SigningCertificateLineage`.)
"""

from dataclasses import dataclass
from typing import Final

from pipeline.formats.apk_algorithms import ALGORITHMS, normal_key, verify
from pipeline.formats.apk_block import Fields, ShortFields
from pipeline.formats.certificate import Certificate, certificate
from pipeline.formats.facts import Malformed

VERSION: Final = 1
NODES_MAX: Final = 256  # each costs a signature check; real ones have two to four
CAPABILITIES: Final = {1: "installed-data", 2: "shared-uid", 4: "permission", 8: "rollback", 16: "auth"}
ROLLBACK_FLAG: Final = 8


class LineageBroken(ValueError):
    """The lineage is malformed, or a key does not attest the next."""


@dataclass(frozen=True, slots=True)
class Node:
    """One signing certificate of the history, and what the app still lets it do."""

    certificate: Certificate
    parent_algorithm: int
    algorithm: int
    signature: bytes
    flags: int

    @property
    def capabilities(self) -> list[str]:
        """Names of the flags that are set."""
        return [name for flag, name in CAPABILITIES.items() if self.flags & flag]


@dataclass(frozen=True, slots=True)
class Lineage:
    """The history, oldest first."""

    nodes: tuple[Node, ...]

    def index(self, signer: Certificate) -> int | None:
        """The place of this certificate; None when it is not there."""
        return next((at for at, node in enumerate(self.nodes) if node.certificate.der == signer.der), None)


def parse(data: bytes) -> Lineage:
    """The lineage, every link of which verified; raises `LineageBroken`."""
    fields = Fields(data)
    nodes: list[Node] = []
    try:
        if fields.u32() != VERSION:
            raise LineageBroken("a version that is not known")
        while fields:
            if len(nodes) == NODES_MAX:
                raise LineageBroken(f"more than {NODES_MAX} keys")
            nodes.append(_node(fields.fields(), nodes[-1] if nodes else None, len(nodes) + 1))
    except ShortFields as error:
        raise LineageBroken(f"it ends early: {error}") from error
    except Malformed as error:
        raise LineageBroken(error.finding.message) from error
    return Lineage(tuple(nodes))


def consolidate(lineages: list[Lineage]) -> Lineage | None:
    """The longest one, of which all others are the beginning; raises `LineageBroken` when they are not."""
    if not lineages:
        return None
    longest = max(lineages, key=lambda one: len(one.nodes))
    for one in lineages:
        if one.nodes != longest.nodes[: len(one.nodes)]:
            raise LineageBroken("not all of them are the beginning of the longest one")
    return longest


def _node(fields: Fields, parent: Node | None, number: int) -> Node:
    signed_data = fields.block()
    flags = fields.u32()
    algorithm_id = fields.u32()
    signature = fields.block()
    signed = Fields(signed_data)
    encoded = signed.block()
    parent_algorithm = signed.u32()
    if parent is not None:
        algorithm = ALGORITHMS.get(parent.algorithm)
        if algorithm is None:
            raise LineageBroken(f"key {number} is attested with an algorithm that is not known")
        problem = verify(normal_key(parent.certificate.public_key), algorithm, signature, signed_data)
        if problem is not None:
            raise LineageBroken(f"the signature that attests key {number}: {problem}")
        if parent_algorithm != parent.algorithm:
            raise LineageBroken(f"key {number} names another algorithm than it is attested with")
    return Node(certificate(encoded), parent_algorithm, algorithm_id, signature, flags)
