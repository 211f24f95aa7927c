"""What an account may use with the operator's key at a provider: what was made for it here, and what it is granted.

The operator's key opens everything in its workspace: agents of other customers, agents that were made by hand, and any
project at Agora. With a key of its own an account needs no grant.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.dialects.postgresql import insert

from relay.errors import Conflict, Forbidden, NotFound
from relay.store import accounts, ownership
from relay.store.database import translated
from relay.store.tables import provider_grants

# The index that keeps an agent to one account; projects of Agora may be shared.
_ONE_ACCOUNT: Final = "provider_grants_agent"
_HOW: Final = (
    "have the operator grant it (PUT /api/v1/accounts/<account>/grants/<provider>/<id>, or switchhook grant add), or "
    "store the account's own key at the provider"
)


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """That an account may use something: an agent by its id, or a project of Agora by its app id."""

    account_id: str
    provider: str
    object_id: str
    created_at: datetime


def add(connection: Connection, *, account_id: str, provider: str, object_id: str) -> Grant:
    """Grant something; again: nothing more happens.

    Raises NotFound for the account, and Conflict `grant_taken` for an agent that is another account's.
    """
    accounts.get(connection, account_id)
    of_agent = {"account_id": account_id, "provider": provider, "agent_id": object_id}
    if provider != "agora" and ownership.is_of_another(connection, **of_agent):
        raise _taken()
    row = {"account_id": account_id, "provider": provider, "object_id": object_id}
    added = insert(provider_grants).values(row)
    try:
        with translated():
            connection.execute(added.on_conflict_do_nothing(index_elements=["account_id", "provider", "object_id"]))
    except Conflict as error:
        if error.constraint != _ONE_ACCOUNT:
            raise
        raise _taken() from None
    return get(connection, account_id=account_id, provider=provider, object_id=object_id)


def get(connection: Connection, *, account_id: str, provider: str, object_id: str) -> Grant:
    """Raises NotFound."""
    found = find(connection, account_id=account_id, provider=provider, object_id=object_id)
    if found is None:
        raise NotFound("this account has no such grant")
    return found


def find(connection: Connection, *, account_id: str, provider: str, object_id: str) -> Grant | None:
    """The grant, if there is one."""
    this = select(provider_grants).where(_this(account_id, provider), provider_grants.c.object_id == object_id)
    row = connection.execute(this).mappings().one_or_none()
    return None if row is None else Grant(**row)


def of_account(connection: Connection, *, account_id: str) -> list[Grant]:
    """All that an account is granted. Raises NotFound for the account."""
    accounts.get(connection, account_id)
    found = select(provider_grants).where(provider_grants.c.account_id == account_id)
    ordered = found.order_by(provider_grants.c.provider, provider_grants.c.object_id)
    return [Grant(**row) for row in connection.execute(ordered).mappings()]


def remove(connection: Connection, *, account_id: str, provider: str, object_id: str) -> None:
    """Take a grant back: nothing new is begun with it. Raises NotFound."""
    this = provider_grants.delete().where(_this(account_id, provider), provider_grants.c.object_id == object_id)
    if not connection.execute(this).rowcount:
        raise NotFound("this account has no such grant")


def demand(
    connection: Connection, *, account_id: str, provider: str, object_ids: Collection[str], field: str | None = None
) -> None:
    """That an account may use all of these with the operator's key.

    Raises Forbidden: `agent_not_granted`, or `project_not_granted` for Agora.
    """
    if not object_ids:
        return
    this = (_this(account_id, provider), provider_grants.c.object_id.in_(object_ids))
    allowed = set(connection.execute(select(provider_grants.c.object_id).where(*this)).scalars())
    if provider == "agora":
        if not allowed.issuperset(object_ids):
            raise Forbidden(
                f"this account may not use this project with the operator's key: {_HOW}",
                code="project_not_granted",
                field=field,
            )
        return
    allowed |= ownership.made_for(connection, account_id=account_id, provider=provider, agent_ids=object_ids)
    if not allowed.issuperset(object_ids):
        raise Forbidden(
            f"this account may not use this agent with the operator's key: {_HOW}",
            code="agent_not_granted",
            field=field,
        )


def _taken() -> Conflict:
    return Conflict("this agent is another account's", code="grant_taken")


def _this(account_id: str, provider: str) -> ColumnElement[bool]:
    return (provider_grants.c.account_id == account_id) & (provider_grants.c.provider == provider)
