"""What a Postgres that was restored from a backup must not do again: hand out ids and versions that were used since."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, text

# Upwards only, whatever was handed out meanwhile: setval is not undone by a rollback.
_RAISE: Final = {
    name: text(f"SELECT setval('{name}', :used) FROM {name} WHERE last_value < :used OR NOT is_called")  # noqa: S608
    for name in ("session_ids", "template_ids")
}
_OVERTAKE: Final = text(
    "UPDATE accounts SET config_version = :version + 1 WHERE id = :account_id AND config_version < :version"
)


def use_up_to(connection: Connection, *, session_id: int, template_id: int) -> None:
    """Hand out no session or template by these ids or lower ones any more; 0 changes nothing."""
    for name, used in (("session_ids", session_id), ("template_ids", template_id)):
        if used > 0:
            connection.execute(_RAISE[name], {"used": used})


def overtake(connection: Connection, *, account_id: str, version: int) -> bool:
    """Raise an account's version past one that it had before; False if it is that far, or the account is gone."""
    raised = connection.execute(_OVERTAKE, {"account_id": account_id, "version": version})
    return raised.rowcount > 0
