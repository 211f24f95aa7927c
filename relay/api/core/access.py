"""Who calls: the key that a request carries, and what it may do."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from enum import Enum
from typing import Final

from relay.errors import Forbidden, Unauthorized
from relay.settings import Settings
from relay.store import accounts
from relay.store.accounts import ApiKey
from relay.store.database import Database

_MAX_KEY_CHARS: Final = 512
OPERATOR: Final = "operator"


class Access(Enum):
    """What an operation asks of its caller. Every operation says one of these."""

    PUBLIC = "public"  # nothing: it tells nothing of any account
    READ = "read"  # any key of the account
    WRITE = "write"  # a key of the account that may change things
    OPERATE = "operate"  # the operator's key


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who was let in. `account_id` is empty for the operator; `actor` is how the audit names the caller."""

    actor: str
    account_id: str = ""
    key: ApiKey | None = None


ANYONE: Final = Caller(actor="anyone")


def admitted(
    credential: str | None, access: Access, *, settings: Settings, database: Database, key_id: str | None = None
) -> Caller:
    """The caller of an operation. Raises Unauthorized, Forbidden, Unavailable.

    `key_id`, where the credential came with one, must be that of the key.
    """
    if access is Access.PUBLIC:
        return ANYONE
    if not credential:
        raise Unauthorized("send your API key", code="api_key_missing")
    if len(credential) > _MAX_KEY_CHARS:
        raise Unauthorized("there is no such API key", code="api_key_invalid")
    if _is_operators(credential, settings):
        if access is not Access.OPERATE:
            raise Forbidden("the operator's key opens no account; use a key of the account")
        return Caller(actor=OPERATOR)
    with database.begin() as connection:
        key = accounts.opened_by(connection, credential)
    if key_id is not None and key_id != key.id:
        raise Unauthorized("there is no such API key by this id", code="api_key_invalid")
    if access is Access.OPERATE:
        raise Forbidden("this takes the operator's key")
    if access is Access.WRITE and not key.can_write:
        raise Forbidden("this API key may only read")
    return Caller(actor=key.id, account_id=key.account_id, key=key)


def _is_operators(credential: str, settings: Settings) -> bool:
    expected = settings.operator_key
    return bool(expected) and hmac.compare_digest(expected.encode(), credential.encode("utf-8", "surrogatepass"))
