"""What is pending is found without reading what was delivered."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """Index the partitioned table, and thereby each of its partitions."""
    op.get_bind().exec_driver_sql(
        "CREATE INDEX deliveries_pending ON deliveries (accepted_at, event_id, endpoint_id) WHERE status = 'pending'"
    )
