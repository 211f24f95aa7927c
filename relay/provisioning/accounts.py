"""Accounts."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from relay.provisioning.changes import Changes
from relay.provisioning.checks import (
    MAX_NAME_CHARS,
    MAX_QUOTA_BYTES,
    MIN_QUOTA_BYTES,
    checked_range,
    checked_text,
)
from relay.store import accounts, shown
from relay.store.accounts import Account, NewApiKey


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account with its first API key, which is shown this once."""

    account: Account
    key: NewApiKey


class AccountChanges(Changes):
    """Makes and changes accounts."""

    def create_account(self, *, name: str, quota_bytes: int | None = None) -> NewAccount:
        """An account and its first API key."""
        _check(name, quota_bytes)
        with self._database.begin() as connection:
            account = accounts.create(connection, name=name, quota_bytes=quota_bytes)
            key = accounts.create_key(connection, account_id=account.id)
            row = accounts.key(connection, account_id=account.id, key_id=key.id)
            self._audit(connection, "account.created", account.id, account_id=account.id, after=shown.account(account))
            self._audit(connection, "key.created", key.id, account_id=account.id, after=shown.unused_key(row))
        self._publish(account.id)
        return NewAccount(account, key)

    def update_account(
        self,
        *,
        account_id: str,
        name: str | UnsetType = UNSET,
        quota_bytes: int | UnsetType | None = UNSET,
    ) -> Account:
        """Change what is given; a quota of None is the setting's."""
        _check(name, quota_bytes)

        def change(connection: Connection) -> Account:
            before = shown.account(accounts.get(connection, account_id))
            row = accounts.update(connection, account_id, name=name, quota_bytes=quota_bytes)
            after = shown.account(row)
            self._audit(connection, "account.updated", account_id, account_id=account_id, before=before, after=after)
            return row

        return self._changing(account_id, change)


def _check(name: str | UnsetType, quota_bytes: int | UnsetType | None) -> None:
    if not isinstance(name, UnsetType):
        checked_text(name, "name", MAX_NAME_CHARS)
    if isinstance(quota_bytes, int):
        checked_range(quota_bytes, "quotaBytes", MIN_QUOTA_BYTES, MAX_QUOTA_BYTES)
