"""Install pages: what a channel offers, the visitor's platform first and the others one click away.

The page works without a script and asks for nothing from another host. Left to others: how an artifact is installed and what stands
in the way (`pipeline/installing.py`), who looks (`visitor.py`), what fits the device (`fitting.py`), the words (`templates/install*.html`).
"""

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import segno
from litestar import Response, route

from pipeline import channel, download
from pipeline.admission import Admission
from pipeline.errors import NotFound
from pipeline.installing import Kind, Need, Way
from pipeline.models import App, Artifact, Channel, Release
from pipeline.operation import Operation
from pipeline.values import Platform
from ui.fitting import Misfit, is_native, misfit
from ui.frame import AnyRequest, PageFrame
from ui.system_names import lowest_system
from ui.visitor import DESKTOPS, HINTS, Visitor, visitor_of

_DEFAULT_CHANNEL: Final = "stable"
_PHONES: Final = frozenset({"ios", "android"})
_HEADERS: Final = {
    # With the hints, the first answer already fits the processor and the system's version: the browser asks again, once.
    "Accept-CH": ", ".join(HINTS),
    "Critical-CH": ", ".join(HINTS),
    "Cache-Control": "no-store",  # the page holds tickets
}
# The system refuses these at first, and the person has to talk it round.
_STOPPED: Final = frozenset({Need.GATEKEEPER_APPROVAL, Need.SMARTSCREEN_APPROVAL, Need.CERTIFICATE_TRUST})
_COMMON_NAME: Final = re.compile(r"(?:^|,)\s*CN=((?:\\.|[^,\\])+)")


@dataclass(frozen=True, slots=True)
class Offer:
    """One artifact as the page shows it."""

    artifact: Artifact
    way: Way
    needs_at_least: str | None
    signer: str | None
    has_icon: bool
    misfit: Misfit | None

    @property
    def href(self) -> str:
        """A file comes from where the page came from, which may be another address than the public one."""
        if self.way.kind in {Kind.DIRECT, Kind.DOWNLOAD}:
            return urlsplit(self.way.url)._replace(scheme="", netloc="").geturl()
        return self.way.url

    @property
    def fails(self) -> bool:
        """Whether it is known not to work."""
        return any(problem.severity == "error" for problem in self.way.problems)


@dataclass(frozen=True, slots=True)
class PlatformOffers:
    """What there is for one platform, the best for this visitor first. `first` when the visitor may well be on it."""

    platform: str
    offers: list[Offer]
    first: bool


def routes(frame: PageFrame) -> list[Any]:
    """The handlers."""

    @route("/install/{slug:str}", http_method=["GET", "HEAD"], sync_to_thread=True, tags=["pages"])
    def install_app(request: AnyRequest, slug: str) -> Response[bytes]:
        return install(request, slug, None)

    @route("/install/{slug:str}/{name:str}", http_method=["GET", "HEAD"], sync_to_thread=True, tags=["pages"])
    def install_channel(request: AnyRequest, slug: str, name: str) -> Response[bytes]:
        return install(request, slug, name)

    def install(request: AnyRequest, slug: str, name: str | None) -> Response[bytes]:
        visitor = visitor_of(request.headers)
        with frame.looking(request) as operation:
            app, admission = download.enter(operation, slug, name)
            channels = [each for each in channel.of_app(operation, app) if admission.sees(each.name)]
            chosen = _chosen(app, channels, name)
            row = download.release_on(operation, chosen) if chosen and chosen.release_id else None
            groups = [] if row is None else _groups(frame, operation, admission, row, visitor)
            address = frame.services.documents.install_url(app.slug, chosen.name if chosen else None)
            on_phones = any(group.platform in _PHONES for group in groups)
            page = frame.shown(
                request,
                "install.html",
                operation,
                app=app,
                channels=[each for each in channels if each.release_id is not None],
                channel=chosen,
                release=row,
                revoked=None if chosen is None else channel.withdrawn_from(operation, chosen),
                groups=groups,
                icon=_icon(groups),
                visitor=visitor,
                address=address,
                qr=_qr(address) if on_phones and visitor.platform in {*DESKTOPS, None} else None,
            )
            page.headers.update(_HEADERS)
            return page

    return frame.finished([install_app, install_channel])


def _chosen(app: App, channels: list[Channel], name: str | None) -> Channel | None:
    """The channel that was asked for; else `stable`, or the first that offers something. Raises `NotFound`.

    A `stable` that lost what it offered says so: whoever came for it is not handed a beta.
    """
    if name is not None:
        found = next((each for each in channels if each.name == name), None)
        if found is None:
            raise NotFound(
                f"{app.name} has no channel {name[:80]!r}.",
                remedy=f"Open /install/{app.slug} to see what there is.",
            )
        return found
    stable = next((each for each in channels if each.name == _DEFAULT_CHANNEL and each.generation > 0), None)
    return stable or min(
        channels, key=lambda each: (each.release_id is None, each.name != _DEFAULT_CHANNEL), default=None
    )


def _groups(
    frame: PageFrame, operation: Operation, admission: Admission, row: Release, visitor: Visitor
) -> list[PlatformOffers]:
    icons = download.with_icons(operation, row.id)
    by_platform: dict[str, list[Offer]] = {}
    for artifact in download.offers(operation, row.id):
        # iOS fetches the manifest without the visitor's cookie: a ticket stands in for it.
        urls = frame.services.ticketed(operation, admission, artifact)
        way = frame.services.documents.way(row, artifact, manifest_url=urls.manifest)
        if way is None:
            raise RuntimeError(f"{row.id} is on a channel and not published")
        lowest = lowest_system(artifact.format, artifact.facts or {}, artifact.details or {})
        by_platform.setdefault(artifact.platform, []).append(
            Offer(
                artifact,
                way,
                lowest,
                _signer(artifact),
                artifact.id in icons,
                misfit(artifact.platform, artifact.archs, lowest, visitor),
            )
        )
    order = {platform: number for number, platform in enumerate(_order(visitor))}
    first = [platform for platform in visitor.platforms if platform in by_platform] or (
        [Platform.ANY.value] if Platform.ANY in by_platform else []
    )
    return [
        PlatformOffers(
            platform,
            sorted(offers, key=lambda offer: _rank(offer, visitor)),
            platform in first,
        )
        for platform, offers in sorted(by_platform.items(), key=lambda item: order[item[0]])
    ]


def _order(visitor: Visitor) -> list[str]:
    """The visitor's own platform, what runs anywhere, then the others."""
    return list(dict.fromkeys([*visitor.platforms, Platform.ANY.value, *(each.value for each in Platform)]))


def _rank(offer: Offer, visitor: Visitor) -> tuple[bool, bool, bool, bool, bool, str]:
    """What works before what fails, what runs on the device before what does not, what was built for its processor, what installs before
    what is only a file, what the system lets pass before what it stops, else as published.
    """
    return (
        offer.fails,
        offer.misfit is not None,
        not is_native(offer.artifact.archs, visitor),
        offer.way.kind is Kind.DOWNLOAD,
        not _STOPPED.isdisjoint(offer.way.needs),
        offer.artifact.id,
    )


def _icon(groups: list[PlatformOffers]) -> str | None:
    """The artifact whose icon stands for the app: the best for this visitor that has one."""
    return next((each.artifact.id for group in groups for each in group.offers if each.has_icon), None)


def _signer(artifact: Artifact) -> str | None:
    """The common name of the first signer, else its whole subject."""
    signers = (artifact.signature or {}).get("signers") or []
    if not signers:
        return None
    subject = str(signers[0].get("subject") or "")
    match = _COMMON_NAME.search(subject)
    return re.sub(r"\\(.)", r"\1", match[1]) if match else subject or None


def _qr(address: str) -> str:
    """The address as SVG, black on white in either colour scheme: scanners do not read it inverted."""
    image: str = segno.make(address, error="m", micro=False).svg_inline(
        border=4, dark="#000", light="#fff", omitsize=True, svgclass=None, lineclass=None
    )
    return image
