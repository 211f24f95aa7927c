"""Accounts, their API keys, and what the hot path needs to know of them.

Whoever changes what the hot path sees (sources, endpoints, templates, keys) calls `changed` first: it locks the
account and raises its version in the same transaction, so that a higher version never misses a lower one's change.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, func, select

from relay.errors import NotFound, Unauthorized
from relay.sealing import KeyRing
from relay.store.ids import new_id
from relay.store.pages import Place, following
from relay.store.snapshot import STATEMENT, AccountConfig, opened
from relay.store.tables import accounts, api_keys

_KEY_PREFIX: Final = "sk_live_"
# Enough of a key to recognise it by: the fixed prefix and 24 of its 256 random bits.
_SHOWN_CHARS: Final = len(_KEY_PREFIX) + 4
_KEY_SHOWN: Final = tuple(column for column in api_keys.c if column is not api_keys.c.sha256)
# Of API keys: those that open something.
IN_FORCE: Final = (
    api_keys.c.revoked_at.is_(None),
    api_keys.c.expires_at.is_(None) | (api_keys.c.expires_at > func.now()),
)
_EXPIRED: Final = (api_keys.c.revoked_at.is_(None), api_keys.c.expires_at <= func.now())
# When a key was used last is noted to the minute: more would be a write for each request.
_USED_ABOUT: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One customer. `currency` is None until the first rate card; `quota_bytes` None means the setting's default.

    `closed_through` is the first day of the newest month whose statement is closed.
    """

    id: str
    name: str
    currency: str | None
    quota_bytes: int | None
    config_version: int
    created_at: datetime
    closed_through: date | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key as it may be shown: never the key itself."""

    id: str
    account_id: str
    prefix: str
    name: str | None
    can_write: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """An API key on the one occasion when it can be read."""

    id: str
    prefix: str
    key: str = field(repr=False)


def create(connection: Connection, *, name: str, quota_bytes: int | None = None) -> Account:
    """Make an account; it has no key and no currency yet."""
    row = {"id": new_id("acc"), "name": name, "quota_bytes": quota_bytes}
    made = connection.execute(accounts.insert().values(row).returning(*accounts.c)).mappings().one()
    return Account(**made)


def get(connection: Connection, account_id: str) -> Account:
    """Raises NotFound."""
    row = connection.execute(select(accounts).where(accounts.c.id == account_id)).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no account by this id")
    return Account(**row)


def check(connection: Connection, account_id: str | None) -> None:
    """Raises NotFound for an id that no account has: it is mistyped, and not without anything. None names nobody."""
    if account_id is not None:
        get(connection, account_id)


def every(connection: Connection, *, after: Place | None = None, limit: int | None = None) -> list[Account]:
    """All accounts, oldest first."""
    rows = connection.execute(following(select(accounts), accounts, after=after, limit=limit)).mappings()
    return [Account(**row) for row in rows]


def lock(connection: Connection, account_id: str) -> None:
    """Let nobody else change this account's configuration until the transaction ends. Raises NotFound."""
    locked = select(accounts.c.id).where(accounts.c.id == account_id).with_for_update()
    if connection.execute(locked).one_or_none() is None:
        raise NotFound("there is no account by this id")


def keep_cards(connection: Connection, account_id: str) -> None:
    """Let nobody add a rate card to this account, nor change it, until the transaction ends; calls are charged."""
    kept = select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True)
    connection.execute(kept).one()


def update(
    connection: Connection,
    account_id: str,
    *,
    name: str | UnsetType = UNSET,
    quota_bytes: int | UnsetType | None = UNSET,
) -> Account:
    """Change what is given and leave the rest. Raises NotFound."""
    changed(connection, account_id)
    given = {"name": name, "quota_bytes": quota_bytes}
    values = {column: value for column, value in given.items() if value is not UNSET}
    if values:
        connection.execute(accounts.update().where(accounts.c.id == account_id).values(values))
    return get(connection, account_id)


def changed(connection: Connection, account_id: str) -> int:
    """Lock the account until the transaction ends and raise its version; returns the new one. Raises NotFound."""
    raised = accounts.update().where(accounts.c.id == account_id).values(config_version=accounts.c.config_version + 1)
    version = connection.execute(raised.returning(accounts.c.config_version)).scalar_one_or_none()
    if version is None:
        raise NotFound("there is no account by this id")
    return int(version)


def versions(connection: Connection) -> dict[str, int]:
    """The configuration's version of each account."""
    rows = connection.execute(select(accounts.c.id, accounts.c.config_version))
    return {row.id: row.config_version for row in rows}


def config(connection: Connection, ring: KeyRing, account_id: str) -> AccountConfig:
    """What the hot path needs, read in one statement and hence at one moment. Raises NotFound, UnsealError."""
    row = connection.execute(STATEMENT, {"account_id": account_id}).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no account by this id")
    return opened(row, ring)


def create_key(
    connection: Connection,
    *,
    account_id: str,
    name: str | None = None,
    can_write: bool = True,
    expires_at: datetime | None = None,
) -> NewApiKey:
    """Make an API key; only its SHA-256 is kept, so this is the one time it can be read. Raises NotFound."""
    changed(connection, account_id)
    key = _KEY_PREFIX + secrets.token_urlsafe(32)
    made = NewApiKey(id=new_id("key"), prefix=key[:_SHOWN_CHARS], key=key)
    values = {
        "id": made.id,
        "account_id": account_id,
        "prefix": made.prefix,
        "sha256": key_hash(key),
        "name": name,
        "can_write": can_write,
        "expires_at": expires_at,
    }
    connection.execute(api_keys.insert().values(values))
    return made


def revoke_key(connection: Connection, *, account_id: str, key_id: str) -> None:
    """Make a key worthless from now on; revoking twice keeps the first moment. Raises NotFound."""
    changed(connection, account_id)
    revoked = (
        api_keys.update()
        .where(api_keys.c.account_id == account_id, api_keys.c.id == key_id)
        .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
    )
    if not connection.execute(revoked).rowcount:
        raise NotFound("this account has no key by this id")


def keys(
    connection: Connection, *, account_id: str, after: Place | None = None, limit: int | None = None
) -> list[ApiKey]:
    """The keys of an account, revoked ones too, oldest first."""
    mine = select(*_KEY_SHOWN).where(api_keys.c.account_id == account_id)
    found = connection.execute(following(mine, api_keys, after=after, limit=limit))
    return [ApiKey(**row) for row in found.mappings()]


def key(connection: Connection, *, account_id: str, key_id: str) -> ApiKey:
    """Raises NotFound, also for a key of another account."""
    mine = select(*_KEY_SHOWN).where(api_keys.c.account_id == account_id, api_keys.c.id == key_id)
    row = connection.execute(mine).mappings().one_or_none()
    if row is None:
        raise NotFound("this account has no key by this id")
    return ApiKey(**row)


def writing_keys(connection: Connection, *, account_id: str) -> set[str]:
    """The ids of the keys in force that may change things."""
    mine = select(api_keys.c.id).where(api_keys.c.account_id == account_id, api_keys.c.can_write, *IN_FORCE)
    return set(connection.execute(mine).scalars())


def with_expired_keys(connection: Connection) -> list[str]:
    """The accounts that have keys whose time is over and that `expire_keys` has not seen to."""
    found = select(api_keys.c.account_id).where(*_EXPIRED).distinct().order_by(api_keys.c.account_id)
    return list(connection.execute(found).scalars())


def expire_keys(connection: Connection, *, account_id: str) -> list[ApiKey]:
    """Revoke the account's keys whose time is over, as of the moment when it was; these are they."""
    changed(connection, account_id)
    over = api_keys.update().where(api_keys.c.account_id == account_id, *_EXPIRED)
    revoked = connection.execute(over.values(revoked_at=api_keys.c.expires_at).returning(*_KEY_SHOWN))
    return [ApiKey(**row) for row in revoked.mappings()]


def account_of_key(connection: Connection, key: str) -> str | None:
    """The account that a key opens; None for a key that is unknown, revoked or expired."""
    found = select(api_keys.c.account_id).where(api_keys.c.sha256 == key_hash(key), *IN_FORCE)
    return connection.execute(found).scalar_one_or_none()


def opened_by(connection: Connection, key: str) -> ApiKey:
    """The API key that somebody showed, noted as used (to the minute).

    Raises Unauthorized: `api_key_invalid`, `api_key_revoked` or `api_key_expired`.
    """
    found = select(*_KEY_SHOWN, func.now().label("moment")).where(api_keys.c.sha256 == key_hash(key))
    row = connection.execute(found).mappings().one_or_none()
    if row is None:
        raise Unauthorized("there is no such API key", code="api_key_invalid")
    plain = dict(row)
    moment = plain.pop("moment")
    known = ApiKey(**plain)
    # What has expired is revoked by upkeep as of the moment when it did.
    if known.revoked_at is not None and known.revoked_at != known.expires_at:
        raise Unauthorized("this API key was revoked", code="api_key_revoked")
    if known.expires_at is not None and known.expires_at <= moment:
        raise Unauthorized("this API key has expired", code="api_key_expired")
    if known.last_used_at is None or moment - known.last_used_at > _USED_ABOUT:
        connection.execute(api_keys.update().where(api_keys.c.id == known.id).values(last_used_at=moment))
    return known


def key_hash(key: str) -> bytes:
    """SHA-256 of a key. A key is 256 random bits, so that no slower hash would protect it better."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
