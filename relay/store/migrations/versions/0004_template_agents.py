"""One agent, one template: an event that names the agent must find one place to go."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"


def upgrade() -> None:
    """Make the index, unless this database has it from an earlier form of the first migration."""
    op.get_bind().exec_driver_sql(
        "CREATE UNIQUE INDEX IF NOT EXISTS templates_agent ON templates (account_id, provider, agent_id) "
        "WHERE agent_id IS NOT NULL AND deleted_at IS NULL"
    )
