"""`dist whoami`: which token this is, and what it may do."""

from ..output import pairs
from ..session import Session, command, group

app = group("Which token this is, and what it may do.")


@command(app, "whoami")
def whoami(session: Session) -> None:
    """Show the token's name, role, scope and rights."""
    document = session.client.get("/whoami")
    token = document.get("token") or {}
    lines = pairs(
        [
            ("server", session.client.server),
            ("version", (document.get("server") or {}).get("version")),
            ("token", token.get("name")),
            ("id", token.get("id")),
            ("role", token.get("role")),
            ("apps", token.get("apps") or "all"),
            ("channels", token.get("channels") or "all"),
            ("expires", token.get("expires_at") or "never"),
            ("rights", document.get("rights")),
        ]
    )
    session.output.result(document, lines)
