"""Which pinned root a certificate leads to, judged at a moment that the caller names.

Builds paths from a leaf through the certificates that came with a signature to roots that are pinned here (`roots/`), the checks
of RFC 5280 6.1 as far as they need no network: signatures, names, periods of validity, authority and path length, key usage,
purposes (of the leaf, of each authority above it, of the root), marker extensions, unknown critical extensions.

There is no clock and no revocation list. `at` is the moment to judge at: a proven signing time (`timestamp.py`), or one that the
caller has reasons for. Without it periods of validity are not looked at; report `not_after` and let a policy decide.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pipeline.formats.certificate import ANY_EKU, Certificate, NameKey, rfc3339
from pipeline.formats.facts import Trust
from pipeline.formats.signature_algorithms import LEGACY_DIGESTS

PATH_MAX: Final = 8  # certificates from leaf to root; real chains have 2 to 5
STEPS_MAX: Final = (
    64  # signatures checked for one leaf: cross-signed pools branch, and each step costs up to some ms
)

# Critical extensions whose meaning is honoured here, or that restrict something which is not asked (policies).
_UNDERSTOOD: Final = frozenset(
    {"2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.32", "2.5.29.35", "2.5.29.36", "2.5.29.37"}
)
_APPLE_MARKERS: Final = "1.2.840.113635.100."  # Apple's are critical by habit and mean "issued for this use"


@dataclass(frozen=True, slots=True)
class Root:
    """A pinned root, and within which bounds its keeper still trusts it."""

    certificate: Certificate
    ekus: frozenset[str] | None = None  # purposes; None: every
    disallowed_from: datetime | None = None  # nothing signed from then on counts
    disallowed_ekus: frozenset[str] | None = None  # … for these purposes; None: every
    issued_until: datetime | None = None  # nothing issued after that counts
    issued_until_ekus: frozenset[str] | None = None

    def objection(self, leaf: Certificate, eku: str | None, at: datetime | None) -> str | None:
        """Why this root does not speak for that leaf; None when it does."""
        if eku is not None and self.ekus is not None and eku not in self.ekus:
            return "the root is not trusted for this purpose"
        end = self.disallowed_from if _concerns(self.disallowed_ekus, eku) else None
        if end is not None and (at is None or at >= end):
            return f"the root is no longer trusted since {rfc3339(end)}"
        last = self.issued_until if _concerns(self.issued_until_ekus, eku) else None
        if last is not None and leaf.not_before > last:
            return f"the root is not trusted for certificates issued after {rfc3339(last)}"
        return None


class Roots:
    """A set of pinned roots, found by name."""

    def __init__(self, roots: Iterable[Root]) -> None:
        self._by_name: dict[NameKey, list[Root]] = {}
        self._by_der: dict[bytes, Root] = {}
        for root in roots:
            self._by_name.setdefault(root.certificate.subject.key, []).append(root)
            self._by_der[root.certificate.der] = root

    def __iter__(self) -> Iterator[Root]:
        return iter(self._by_der.values())

    def __len__(self) -> int:
        return len(self._by_der)

    def named(self, name: NameKey) -> Sequence[Root]:
        """The roots whose subject means that name."""
        return self._by_name.get(name, ())

    def get(self, candidate: Certificate) -> Root | None:
        """The root that is this very certificate."""
        return self._by_der.get(candidate.der)


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a leaf leads. `path` runs from the leaf upwards, as far as it could be built.

    `reason` is None for a trusted chain; else one sentence why it is not trusted (for `self-signed` too).
    """

    trust: Trust
    path: tuple[Certificate, ...]
    reason: str | None = None


@dataclass(slots=True)
class _Search:
    """What stays the same while paths are tried, and the best failure so far."""

    pool: tuple[Certificate, ...]
    roots: Roots
    eku: str | None
    issuer_any: frozenset[str]
    at: datetime | None
    digests: Collection[str]
    steps: int = 0
    longest: tuple[Certificate, ...] = ()
    objections: list[str] = field(default_factory=list)


def judge(
    leaf: Certificate,
    pool: Iterable[Certificate],
    roots: Roots,
    *,
    eku: str | None = None,
    leaf_any: Collection[str] = (),
    issuer_any: Collection[str] = (),
    at: datetime | None = None,
    digests: Collection[str] = LEGACY_DIGESTS,
) -> Chain:
    """Find a path from `leaf` through `pool` to one of `roots`.

    `eku` (dotted) must stand in the leaf's extended key usage, and in that of each authority which has one. `leaf_any` and
    `issuer_any`: of these extensions at least one must be there, in the leaf, and in the certificate that issued it (Apple's
    markers); empty means no demand. `digests`: what certificates may be signed with. Never raises.
    """
    objection = _leaf_objection(leaf, eku, frozenset(leaf_any), at)
    root = roots.get(leaf)
    if root is None and leaf.self_issued and leaf.issued(leaf):
        return Chain(Trust.SELF_SIGNED, (leaf,), "the certificate is signed by itself")
    if objection is not None:
        return Chain(Trust.UNKNOWN_ROOT, (leaf,), objection)
    if root is not None:
        return Chain(Trust.TRUSTED, (leaf,))
    search = _Search(
        tuple(dict.fromkeys(pool)), roots, eku, frozenset(issuer_any), at, digests, longest=(leaf,)
    )
    found = _climb((leaf,), search)
    if found is not None:
        return Chain(Trust.TRUSTED, found)
    last = search.longest[-1]
    reason = (
        search.objections[0]
        if search.objections
        else f"the chain ends at {last.subject}, issued by {last.issuer}, which is not pinned here"
    )
    return Chain(Trust.UNKNOWN_ROOT, search.longest, reason)


def _climb(path: tuple[Certificate, ...], search: _Search) -> tuple[Certificate, ...] | None:
    """A whole path that begins with `path`, depth first; at most PATH_MAX calls deep."""
    top = path[-1]
    for root in search.roots.named(top.issuer.key):
        if _step(search) and root.certificate.issued(top, search.digests):
            objection = root.objection(path[0], search.eku, search.at) or _issuer_objection(
                root.certificate, path, search, pinned=True
            )
            if objection is None:
                return (*path, root.certificate)
            search.objections.append(objection)
    if len(path) >= PATH_MAX - 1:
        return None
    for issuer in search.pool:
        if issuer in path or issuer.subject.key != top.issuer.key or search.roots.get(issuer) is not None:
            continue
        if not _step(search) or not issuer.issued(top, search.digests):
            continue
        objection = _issuer_objection(issuer, path, search, pinned=False)
        if objection is not None:
            search.objections.append(objection)
            continue
        longer = (*path, issuer)
        if len(longer) > len(search.longest):
            search.longest = longer
        found = None if issuer.self_issued else _climb(longer, search)
        if found is not None:
            return found
    return None


def _step(search: _Search) -> bool:
    search.steps += 1
    return search.steps <= STEPS_MAX


def _leaf_objection(
    leaf: Certificate, eku: str | None, leaf_any: frozenset[str], at: datetime | None
) -> str | None:
    if eku is not None and (leaf.ekus is None or not leaf.ekus & {eku, ANY_EKU}):
        return f"the certificate {leaf.subject} is not for this purpose (extended key usage {eku})"
    if leaf_any and not leaf_any & leaf.extensions.keys():
        return f"the certificate {leaf.subject} has none of the extensions {', '.join(sorted(leaf_any))}"
    return _period_objection(leaf, at) or _critical_objection(leaf)


def _issuer_objection(
    issuer: Certificate, path: tuple[Certificate, ...], search: _Search, *, pinned: bool
) -> str | None:
    """Why `issuer` may not stand above `path`; None when it may. A pinned root is an authority by being pinned."""
    if len(path) == 1 and search.issuer_any and not search.issuer_any & issuer.extensions.keys():
        return f"the certificate {issuer.subject} has none of the extensions {', '.join(sorted(search.issuer_any))}"
    below = sum(1 for one in path[1:] if not one.self_issued)
    if issuer.path_length is not None and below > issuer.path_length:
        return f"{below} authorities below {issuer.subject}, which allows {issuer.path_length}"
    if pinned:
        return None
    if not issuer.is_ca:
        return f"the certificate {issuer.subject} is not an authority"
    if not issuer.may_sign_certificates:
        return f"the certificate {issuer.subject} may not sign certificates"
    if search.eku is not None and issuer.ekus is not None and not issuer.ekus & {search.eku, ANY_EKU}:
        return f"the authority {issuer.subject} is not for this purpose (extended key usage {search.eku})"
    return _period_objection(issuer, search.at) or _critical_objection(issuer)


def _period_objection(one: Certificate, at: datetime | None) -> str | None:
    if at is None or one.valid_at(at):
        return None
    return f"the certificate {one.subject} was not valid at {rfc3339(at)} ({rfc3339(one.not_before)} to {rfc3339(one.not_after)})"


def _critical_objection(one: Certificate) -> str | None:
    """RFC 5280 4.2: an extension that is critical and not understood forbids to use the certificate."""
    for oid, extension in one.extensions.items():
        if extension.critical and oid not in _UNDERSTOOD and not oid.startswith(_APPLE_MARKERS):
            return f"the certificate {one.subject} has the critical extension {oid}, which is not understood here"
    return None


def _concerns(ekus: frozenset[str] | None, eku: str | None) -> bool:
    return ekus is None or eku is None or eku in ekus
