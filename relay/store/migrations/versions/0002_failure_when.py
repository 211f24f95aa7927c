"""Endpoints may name the field of a 2xx answer that tells a failure."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Add the column; every endpoint that is there has no such field."""
    op.get_bind().exec_driver_sql(
        "ALTER TABLE endpoints ADD COLUMN failure_when text CHECK (length(failure_when) <= 128)"
    )
