"""The end of a session's signed URLs, a template's former secret, and what a provider refused of a template."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0008"
down_revision: Final = "0007"

# NULL: the one that was given when the session was made is the last. No row is written again for it.
SESSIONS: Final = "ALTER TABLE sessions ADD url_expires_at timestamptz"
# Keyed hashes, with which a secret is looked up and from which it cannot be had; NULL: it was never replaced.
TEMPLATES: Final = "ALTER TABLE templates ADD former_secret_hashes text[], ADD former_secret_until timestamptz"
# Beside `code`: paths of our own fields.
VOICE_AGENTS: Final = "ALTER TABLE voice_agents ADD refused_fields text[]"


def upgrade() -> None:
    """Add the columns."""
    for statement in (SESSIONS, TEMPLATES, VOICE_AGENTS):
        op.get_bind().exec_driver_sql(statement)
