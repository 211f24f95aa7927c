"""Sources: where a provider's webhooks come in, and the secrets that they may be signed with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from relay.errors import NotFound
from relay.sealing import KeyRing
from relay.store import accounts, sealed
from relay.store.ids import new_id
from relay.store.pages import Place, following
from relay.store.tables import sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One inbound address of an account. Several secrets hold during a rotation.

    A `managed` one was made by us: its provider's webhook and its secrets are ours to look after.
    """

    id: str
    account_id: str
    provider: str
    secrets: tuple[str, ...] = field(repr=False)
    created_at: datetime
    disabled_at: datetime | None
    shared: bool
    name: str | None
    deleted_at: datetime | None
    managed: bool


def create(
    connection: Connection,
    ring: KeyRing,
    *,
    account_id: str,
    provider: str,
    secrets: Sequence[str],
    name: str | None = None,
    shared: bool = False,
    managed: bool = False,
) -> Source:
    """Make a source; the id in its URL is unguessable. Raises NotFound for the account.

    The events of a `shared` one belong to the account that their labels name: only operators make such.
    """
    accounts.changed(connection, account_id)
    source_id = new_id("src")
    row = {
        "id": source_id,
        "account_id": account_id,
        "provider": provider,
        "name": name,
        "shared": shared,
        "managed": managed,
        "sealed_secrets": sealed.seal(ring, tuple(secrets), purpose=sealed.SOURCE, row_id=source_id),
    }
    return _opened(connection.execute(sources.insert().values(row).returning(*sources.c)).mappings().one(), ring)


def get(connection: Connection, ring: KeyRing, *, account_id: str, source_id: str) -> Source:
    """Raises NotFound, also for a source that is deleted or another account's."""
    found = select(sources).where(*_this(account_id, source_id))
    return _found(connection.execute(found).mappings().one_or_none(), ring)


def of_account(
    connection: Connection, ring: KeyRing, *, account_id: str, after: Place | None = None, limit: int | None = None
) -> list[Source]:
    """The sources of an account that are not deleted, disabled ones too, oldest first."""
    mine = select(sources).where(sources.c.account_id == account_id, sources.c.deleted_at.is_(None))
    found = connection.execute(following(mine, sources, after=after, limit=limit))
    return [_opened(row, ring) for row in found.mappings()]


def rename(
    connection: Connection, ring: KeyRing, *, account_id: str, source_id: str, name: str | UnsetType | None = UNSET
) -> Source:
    """Give a source another name, or none. Raises NotFound."""
    if isinstance(name, UnsetType):
        return get(connection, ring, account_id=account_id, source_id=source_id)
    return _update(connection, ring, account_id, source_id, name=name)


def set_secrets(
    connection: Connection, ring: KeyRing, *, account_id: str, source_id: str, secrets: Sequence[str]
) -> Source:
    """Replace the secrets; give the old one too while a rotation lasts. Raises NotFound."""
    again = sealed.seal(ring, tuple(secrets), purpose=sealed.SOURCE, row_id=source_id)
    return _update(connection, ring, account_id, source_id, sealed_secrets=again)


def disable(connection: Connection, ring: KeyRing, *, account_id: str, source_id: str) -> Source:
    """Stop taking webhooks here; the first moment is kept. Raises NotFound."""
    moment = func.coalesce(sources.c.disabled_at, func.now())
    return _update(connection, ring, account_id, source_id, disabled_at=moment)


def enable(connection: Connection, ring: KeyRing, *, account_id: str, source_id: str) -> Source:
    """Take webhooks here again. Raises NotFound."""
    return _update(connection, ring, account_id, source_id, disabled_at=None)


def delete(connection: Connection, ring: KeyRing, *, account_id: str, source_id: str) -> None:
    """Take a source away and forget its secrets: no webhook comes in here again. Raises NotFound."""
    moment = func.coalesce(sources.c.disabled_at, func.now())
    nothing = sealed.seal(ring, (), purpose=sealed.SOURCE, row_id=source_id)
    _update(connection, ring, account_id, source_id, disabled_at=moment, deleted_at=func.now(), sealed_secrets=nothing)


def _update(connection: Connection, ring: KeyRing, account_id: str, source_id: str, **values: object) -> Source:
    accounts.changed(connection, account_id)
    updated = sources.update().where(*_this(account_id, source_id)).values(**values).returning(*sources.c)
    return _found(connection.execute(updated).mappings().one_or_none(), ring)


def _this(account_id: str, source_id: str) -> tuple[ColumnElement[bool], ...]:
    return sources.c.account_id == account_id, sources.c.id == source_id, sources.c.deleted_at.is_(None)


def _found(row: RowMapping | None, ring: KeyRing) -> Source:
    if row is None:
        raise NotFound("this account has no source by this id")
    return _opened(row, ring)


def _opened(row: RowMapping, ring: KeyRing) -> Source:
    plain = dict(row)
    secrets = sealed.unseal(
        ring, plain.pop("sealed_secrets"), tuple[str, ...], purpose=sealed.SOURCE, row_id=plain["id"]
    )
    return Source(**plain, secrets=secrets)
