"""Apps: the names under which releases are gathered, and who may see them."""

from typing import Any, Final

from sqlmodel import col, or_, select

from pipeline.access import Right
from pipeline.errors import Conflict, Invalid, NotFound
from pipeline.models import App
from pipeline.operation import Operation
from pipeline.values import Platform, new_id, parse_slug

NAME_MAX_CHARS: Final = 200
DESCRIPTION_MAX_CHARS: Final = 10_000
ACCESS: Final = ("members", "link", "public")


def find(operation: Operation, slug: str, right: Right = Right.APP_READ) -> App:
    """The app, if the actor may do `right` there. What is outside its scope reads as `NotFound`."""
    app = operation.session.exec(select(App).where(App.slug == slug)).first()
    actor = operation.actor
    public = app is not None and app.access == "public" and right in {Right.APP_READ, Right.DOWNLOAD}
    if public:
        assert app is not None
        return app
    if actor.role is None:
        operation.require(right)
    if app is None or not actor.sees_app(slug):
        raise NotFound(
            f"There is no app {slug[:80]!r} that this token may see.",
            remedy="Check the slug, or ask for a token whose scope has the app; `dist app list` shows what you can see.",
        )
    operation.require(right, app=slug)
    return app


def create(
    operation: Operation,
    slug: str,
    *,
    name: str | None = None,
    description: str = "",
    platforms: list[str] | None = None,
    access: str = "members",
) -> tuple[App, bool]:
    """Make the app; one that already is as asked is returned with False. Raises `Conflict` for a different one."""
    slug = parse_slug(slug)
    operation.require(Right.APP_CREATE, app=slug)
    wanted = _checked(
        {
            "name": slug if name is None else name,
            "description": description,
            "platforms": platforms,
            "access": access,
        }
    )
    existing = operation.session.exec(select(App).where(App.slug == slug)).first()
    if existing is not None:
        if name is None or all(getattr(existing, key) == value for key, value in wanted.items()):
            return existing, False
        raise Conflict(
            f"There is an app {slug!r} with other properties.",
            remedy=f"Change it with `dist app set {slug}`.",
        )
    app = App(id=new_id("app"), slug=slug, created_at=operation.now, **wanted)
    operation.session.add(app)
    operation.session.flush()
    operation.record("app.created", app.id, app=slug, **wanted)
    return app, True


def change(operation: Operation, slug: str, **changes: Any) -> App:
    """Set some of name, description, platforms and access."""
    app = find(operation, slug, Right.APP_WRITE)
    new = {key: value for key, value in _checked(changes).items() if getattr(app, key) != value}
    for key, value in new.items():
        setattr(app, key, value)
    if new:
        operation.record("app.changed", app.id, app=app.slug, **new)
    return app


def visible(operation: Operation, *, containing: str = "", after: str = "", limit: int = 50) -> list[App]:
    """The apps that the actor sees, by slug; with `containing` those whose slug or name has it."""
    operation.require(Right.APP_READ)
    query = select(App).where(App.slug > after).order_by(col(App.slug)).limit(limit)
    if containing:
        query = query.where(
            or_(
                col(App.slug).icontains(containing, autoescape=True),
                col(App.name).icontains(containing, autoescape=True),
            )
        )
    if operation.actor.apps:
        query = query.where(col(App.slug).in_(operation.actor.apps))
    return list(operation.session.exec(query).all())


def _checked(values: dict[str, Any]) -> dict[str, Any]:
    name = values.get("name", "-")
    if (
        not isinstance(name, str)
        or not len(name.strip()) >= 1
        or len(name) > NAME_MAX_CHARS
        or not name.isprintable()
    ):
        raise Invalid(
            f"A name has 1 to {NAME_MAX_CHARS} printable characters.",
            remedy="Choose another name.",
            pointer="/name",
        )
    if len(values.get("description", "")) > DESCRIPTION_MAX_CHARS:
        raise Invalid(
            f"A description has at most {DESCRIPTION_MAX_CHARS} characters.",
            remedy="Shorten it.",
            pointer="/description",
        )
    platforms = values.get("platforms")
    known = [platform.value for platform in Platform]
    if platforms is not None and (not platforms or any(item not in known for item in platforms)):
        raise Invalid(
            f"platforms is a list of {', '.join(known)}.",
            remedy="Leave it out to allow all.",
            pointer="/platforms",
        )
    if values.get("access", "members") not in ACCESS:
        raise Invalid(
            f"access is one of {', '.join(ACCESS)}.",
            remedy="`members` needs a token or a sign-in, `link` one of these or a link of the app.",
            pointer="/access",
        )
    return values
