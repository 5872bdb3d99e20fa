"""Alembic's entry: runs the migrations on the connection that `schema.py` hands over."""

from typing import Any, Literal

from alembic import context
from sqlmodel import SQLModel
from sqlmodel.sql.sqltypes import AutoString

from pipeline import models


def _render(kind: str, item: Any, _context: object) -> str | Literal[False]:
    """A migration names plain SQL types, so that it runs unchanged whatever the models become."""
    if kind == "type" and isinstance(item, models.UtcTime):
        return "sa.String(32)"
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    compare_type=True,
    render_item=_render,
)
with context.begin_transaction():
    context.run_migrations()
