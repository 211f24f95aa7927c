"""What a Postgres that was restored from a backup must not do again.

Hand out ids and versions that were used since, and send what was sent since to whom has forgotten it by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from relay.store.exports import DESTINATIONS

# Upwards only, whatever was handed out meanwhile: setval is not undone by a rollback.
_RAISE: Final = {
    name: text(f"SELECT setval('{name}', :used) FROM {name} WHERE last_value < :used OR NOT is_called")  # noqa: S608
    for name in ("session_ids", "template_ids")
}
_OVERTAKE: Final = text(
    "UPDATE accounts SET config_version = :version + 1 WHERE id = :account_id AND config_version < :version"
)
# Rows of this transaction: `created_at` is its beginning.
_MAY_BE_SENT: Final = text("""
    UPDATE exports e SET sent_at = r.at
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(account_id text, session_id bigint, at timestamptz)
        JOIN ledger l ON l.account_id = r.account_id AND l.session_id = r.session_id
    WHERE e.destination = ANY(:destinations) AND e.ledger_id = l.id AND e.created_at = now()
""")
_WAITED: Final = text("""
    UPDATE exports SET sent_at = created_at
    WHERE next_attempt_at IS NOT NULL AND sent_at IS NULL AND created_at <= :backup
""")


def use_up_to(connection: Connection, *, session_id: int, template_id: int) -> None:
    """Hand out no session or template by these ids or lower ones any more; 0 changes nothing."""
    for name, used in (("session_ids", session_id), ("template_ids", template_id)):
        if used > 0:
            connection.execute(_RAISE[name], {"used": used})


def overtake(connection: Connection, *, account_id: str, version: int) -> bool:
    """Raise an account's version past one that it had before; False if it is that far, or the account is gone."""
    raised = connection.execute(_OVERTAKE, {"account_id": account_id, "version": version})
    return raised.rowcount > 0


def may_be_sent(connection: Connection, sessions: Mapping[tuple[str, int], datetime]) -> None:
    """Note that what this transaction has queued of these sessions may have been sent, as early as then.

    A destination that would not know it again is not sent it: it ends with relay.store.exports.UNKNOWN_OUTCOME.
    """
    rows = [{"account_id": one, "session_id": number, "at": at} for (one, number), at in sorted(sessions.items())]
    if rows:
        given = {"rows": msgspec.json.encode(rows).decode(), "destinations": list(DESTINATIONS)}
        connection.execute(_MAY_BE_SENT, given)


def waited(connection: Connection, *, backup: datetime) -> None:
    """Note the same of what waited to be sent at the moment of the backup."""
    connection.execute(_WAITED, {"backup": backup})
