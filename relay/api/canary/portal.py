"""Who calls: the key and the account, as CanaryLLM's clients ask for them."""

from __future__ import annotations

from typing import Final

from relay.api.core.access import Access
from relay.api.core.families import CANARY
from relay.api.core.fields import ShownMoment
from relay.api.core.models import Output
from relay.api.core.operations import Call, Group
from relay.errors import Unauthorized
from relay.store import accounts
from relay.store.shown import moment

group = Group(CANARY, tag="CanaryLLM: account")

_MINUTES_OF_A_DAY: Final = 24 * 60


class Permissions(Output):
    """What a key may do."""

    read: bool
    write: bool
    admin: bool


class RateLimits(Output):
    """How many requests a key may make. There is no limit per day but what the minutes come to."""

    per_minute: int
    per_day: int


class KeyInfo(Output):
    """The key that a request was made with."""

    key_prefix: str
    name: str | None
    permissions: Permissions
    rate_limits: RateLimits
    expires_at: ShownMoment | None
    last_used_at: ShownMoment | None
    created_at: ShownMoment


class PortalInfo(Output):
    """The account that a key belongs to; `currency` is null until it has a rate card."""

    id: str
    name: str
    currency: str | None
    created_at: ShownMoment


@group.operation("GET", "/api/keys/info", access=Access.READ, answers={200: KeyInfo})
def get_key_info(call: Call[None, None]) -> KeyInfo:
    """Tell about the key of this request."""
    key = call.caller.key
    if key is None:
        raise Unauthorized("send your API key", code="api_key_missing")
    per_minute = call.services.settings.requests_per_minute
    return KeyInfo(
        key_prefix=key.prefix,
        name=key.name,
        permissions=Permissions(read=True, write=key.can_write, admin=False),
        rate_limits=RateLimits(per_minute=per_minute, per_day=per_minute * _MINUTES_OF_A_DAY),
        expires_at=moment(key.expires_at),
        last_used_at=moment(key.last_used_at),
        created_at=moment(key.created_at) or "",
    )


@group.operation("GET", "/api/portal/info", access=Access.READ, answers={200: PortalInfo})
def get_portal_info(call: Call[None, None]) -> PortalInfo:
    """Tell about the account."""
    with call.services.database.begin() as connection:
        account = accounts.get(connection, call.account_id)
    created_at = moment(account.created_at) or ""
    return PortalInfo(id=account.id, name=account.name, currency=account.currency, created_at=created_at)
