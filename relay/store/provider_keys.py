"""Accounts' own keys at providers (BYOK), sealed."""

from __future__ import annotations

from datetime import datetime

import msgspec
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from relay.errors import NotFound
from relay.sealing import KeyRing
from relay.store import accounts, sealed
from relay.store.tables import provider_keys


class ProviderKey(msgspec.Struct, frozen=True, kw_only=True):
    """That there is a key; never the key."""

    account_id: str
    provider: str
    created_at: datetime


def put(connection: Connection, ring: KeyRing, *, account_id: str, provider: str, key: str) -> ProviderKey:
    """Store a key, in place of an older one. Raises NotFound for the account."""
    accounts.get(connection, account_id)
    secret = sealed.seal(ring, key, purpose=sealed.PROVIDER_KEY, row_id=_row_id(account_id, provider))
    row = {"account_id": account_id, "provider": provider, "sealed_key": secret}
    stored = insert(provider_keys).values(row)
    replaced = stored.on_conflict_do_update(
        index_elements=["account_id", "provider"],
        set_={"sealed_key": stored.excluded.sealed_key, "created_at": func.now()},
    )
    made = connection.execute(replaced.returning(provider_keys.c.created_at)).scalar_one()
    return ProviderKey(account_id=account_id, provider=provider, created_at=made)


def of_account(connection: Connection, *, account_id: str) -> list[ProviderKey]:
    """The providers that the account has a key of its own for."""
    columns = [column for column in provider_keys.c if column is not provider_keys.c.sealed_key]
    found = select(*columns).where(provider_keys.c.account_id == account_id).order_by(provider_keys.c.provider)
    return [ProviderKey(**row) for row in connection.execute(found).mappings()]


def find(connection: Connection, *, account_id: str, provider: str) -> ProviderKey | None:
    """Whether the account has a key of its own for a provider."""
    mine = of_account(connection, account_id=account_id)
    return next((one for one in mine if one.provider == provider), None)


def get(connection: Connection, *, account_id: str, provider: str) -> ProviderKey:
    """The same. Raises NotFound."""
    found = find(connection, account_id=account_id, provider=provider)
    if found is None:
        raise NotFound("this account has no key of its own for this provider")
    return found


def opened(connection: Connection, ring: KeyRing, *, account_id: str, provider: str) -> str | None:
    """The key itself, if the account has one of its own. Raises UnsealError."""
    this = (provider_keys.c.account_id == account_id) & (provider_keys.c.provider == provider)
    raw = connection.execute(select(provider_keys.c.sealed_key).where(this)).scalar_one_or_none()
    if raw is None:
        return None
    return sealed.unseal(ring, raw, str, purpose=sealed.PROVIDER_KEY, row_id=_row_id(account_id, provider))


def remove(connection: Connection, *, account_id: str, provider: str) -> None:
    """Forget a key. Raises NotFound."""
    this = (provider_keys.c.account_id == account_id) & (provider_keys.c.provider == provider)
    if not connection.execute(provider_keys.delete().where(this)).rowcount:
        raise NotFound("this account has no key of its own for this provider")


def _row_id(account_id: str, provider: str) -> str:
    return f"{account_id}/{provider}"
