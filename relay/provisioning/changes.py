"""What every change has in common: one transaction with its audit row, then the mirror."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from sqlalchemy import Connection

from relay.connections import postgres_engine, redis_client
from relay.delivery.guard import resolve_checked
from relay.delivery.lookups import LOOKUPS
from relay.directory import Mirror
from relay.errors import Unavailable
from relay.outbox import Outbox
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, audit
from relay.store.database import Database
from relay.store.shown import Shown
from relay.telemetry import logs

T = TypeVar("T")


class Changes:
    """Makes changes in the name of an actor: `cli` unless `acting_as` names another."""

    _actor = "cli"

    def __init__(self, settings: Settings, database: Database, ring: KeyRing, mirror: Mirror, outbox: Outbox) -> None:
        self._settings = settings
        self._database = database
        self._ring = ring
        self._mirror = mirror
        self._outbox = outbox

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """With connections of its own, for a command."""
        ring = KeyRing(settings.keys)
        client = redis_client(settings)
        return cls(settings, Database(postgres_engine(settings)), ring, Mirror(client, ring), Outbox(client))

    def acting_as(self, actor: str) -> Self:
        """The same in another's name: a key's id or `operator`. What follows is audited as theirs."""
        theirs = copy.copy(self)
        theirs._actor = actor
        return theirs

    def checked_url(self, url: str, *, account_id: str, field: str) -> str:
        """A URL as it will be called; refused unless it is public (or an operator allowed it).

        Raises TargetRefused, and Unavailable when its name servers do not answer, or too many of this account's.
        """
        return resolve_checked(
            url,
            allow=self._settings.egress_allow,
            https_only=not self._settings.allow_http,
            field=field,
            lookup=LOOKUPS.of(account_id),
        )

    @contextmanager
    def _locked(self, account_id: str) -> Iterator[Connection]:
        """A transaction in which nobody else changes this account: what is read before a change is what it changes."""
        with self._database.begin() as connection:
            accounts.lock(connection, account_id)
            yield connection

    def _changing(self, account_id: str, change: Callable[[Connection], T]) -> T:
        with self._locked(account_id) as connection:
            changed = change(connection)
        self._publish(account_id)
        return changed

    def _changing_one(
        self,
        object_id: str,
        action: str,
        change: Callable[[Connection], T],
        *,
        account_id: str,
        read: Callable[[Connection], T],
        show: Callable[[T], Shown],
    ) -> T:
        """Change an object and audit it with what is shown of it, `read` before and made by `change`."""

        def audited(connection: Connection) -> T:
            before = show(read(connection))
            row = change(connection)
            self._audit(connection, action, object_id, account_id=account_id, before=before, after=show(row))
            return row

        return self._changing(account_id, audited)

    def _audit(
        self,
        connection: Connection,
        action: str,
        object_id: str | int,
        *,
        account_id: str,
        before: Shown | None = None,
        after: Shown | None = None,
    ) -> None:
        """Note a change in its own transaction. `before` and `after` are what is shown of the object: no secrets."""
        audit.record(
            connection,
            account_id=account_id,
            actor=self._actor,
            action=action,
            object_id=object_id,
            before=before,
            after=after,
        )

    def _publish(self, account_id: str) -> None:
        """Mirror what is stored. While Redis is away upkeep does it later: what was made must still be shown."""
        try:
            self._mirror.publish(self._database, account_id)
        except Unavailable as error:
            logs.warning("configuration_not_mirrored", account_id=account_id, error=error)
