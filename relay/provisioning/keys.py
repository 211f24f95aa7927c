"""API keys: shown once, kept as a hash, revoked for good."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import Connection

from relay.errors import BadRequest, Conflict
from relay.provisioning.caps import check_keys
from relay.provisioning.changes import Changes
from relay.provisioning.checks import MAX_NAME_CHARS, checked_text
from relay.store import accounts, shown
from relay.store.accounts import ApiKey


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it will be listed, and the key itself, which is shown this once."""

    row: ApiKey
    key: str = field(repr=False)


class KeyChanges(Changes):
    """Makes and revokes API keys."""

    def create_key(
        self, *, account_id: str, name: str | None = None, can_write: bool = True, expires_at: datetime | None = None
    ) -> NewKey:
        """A key of an account. `expires_at` must be to come. Raises Conflict `too_many_keys`."""
        if name is not None:
            checked_text(name, "name", MAX_NAME_CHARS)
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise BadRequest("expiresAt must be in the future", field="expiresAt")

        def change(connection: Connection) -> NewKey:
            check_keys(connection, account_id)
            made = accounts.create_key(
                connection, account_id=account_id, name=name, can_write=can_write, expires_at=expires_at
            )
            row = accounts.key(connection, account_id=account_id, key_id=made.id)
            self._audit(connection, "key.created", row.id, account_id=account_id, after=shown.unused_key(row))
            return NewKey(row, made.key)

        return self._changing(account_id, change)

    def revoke_key(self, *, account_id: str, key_id: str, spare_last: bool = True) -> ApiKey:
        """Make a key worthless from now on.

        Raises Conflict `last_writing_key` for the account's only key that may change things: whoever has no other could
        never make one. `spare_last` False is for operators, who can.
        """

        def change(connection: Connection) -> ApiKey:
            before = accounts.key(connection, account_id=account_id, key_id=key_id)
            if spare_last and accounts.writing_keys(connection, account_id=account_id) == {key_id}:
                text = "this is the account's last key that may change things; make another one first"
                raise Conflict(text, code="last_writing_key")
            accounts.revoke_key(connection, account_id=account_id, key_id=key_id)
            row = accounts.key(connection, account_id=account_id, key_id=key_id)
            if before.revoked_at is None:
                self._audit(
                    connection,
                    "key.revoked",
                    key_id,
                    account_id=account_id,
                    before=shown.unused_key(before),
                    after=shown.unused_key(row),
                )
            return row

        return self._changing(account_id, change)
