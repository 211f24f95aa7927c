"""Erasure finds the events of a conversation also where they went under the id of another session."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"


def upgrade() -> None:
    """Build the index beside the writers: it takes minutes on a table of many millions."""
    with op.get_context().autocommit_block():
        # What an attempt that was broken off has left is no index that anything uses.
        op.get_bind().exec_driver_sql("DROP INDEX CONCURRENTLY IF EXISTS events_conversation")
        op.get_bind().exec_driver_sql(
            "CREATE INDEX CONCURRENTLY events_conversation ON events (account_id, conversation_id)"
        )
