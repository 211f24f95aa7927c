"""The webhooks that providers' workspaces have for sources of ours: one for an account, made by us.

Its row is there before the webhook: a source whose webhook has no id here is one whose webhook was not made, or was
made by a process that ended before it could store the secret. The lease, `busy_until`, is the token with which the
webhook is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, exists, func, literal, select
from sqlalchemy.dialects.postgresql import INTERVAL

from relay.sealing import KeyRing
from relay.store import accounts, sources
from relay.store.ids import new_webhook_secret
from relay.store.sources import Source
from relay.store.tables import sources as source_rows
from relay.store.tables import voice_agents, workspace_webhooks

# Longer than four calls can take, each at its slowest: see `relay.providers.rest.client`.
LEASE: Final = timedelta(minutes=3)
# Somebody may delete it, or switch it off; ElevenLabs does after a week of failures.
LOOK_EVERY: Final = timedelta(hours=1)
# While a new webhook takes over, ElevenLabs still repeats what the old one signed.
_KEPT_SECRETS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceWebhook:
    """The webhook of a source; `webhook_id` None until it is there and its secret is stored."""

    source_id: str
    webhook_id: str | None
    busy_until: datetime | None
    created_at: datetime
    look_at: datetime


def of_account(connection: Connection, *, account_id: str, provider: str) -> WorkspaceWebhook | None:
    """The one of this account's source that takes webhooks."""
    found = (
        select(*workspace_webhooks.c)
        .join_from(workspace_webhooks, source_rows, workspace_webhooks.c.source_id == source_rows.c.id)
        .where(
            source_rows.c.account_id == account_id,
            source_rows.c.provider == provider,
            source_rows.c.disabled_at.is_(None),
        )
        .order_by(workspace_webhooks.c.created_at)
        .limit(1)
    )
    row = connection.execute(found).mappings().one_or_none()
    return None if row is None else _row(row)


def reserve(
    connection: Connection, ring: KeyRing, *, account_id: str, provider: str, name: str
) -> tuple[WorkspaceWebhook, Source | None]:
    """The account's, and the source that was made for it if it had none. Raises NotFound for the account.

    Until the webhook is made, the source has a secret that nobody knows. Mirror the account afterwards.
    """
    accounts.changed(connection, account_id)  # those who come here at once take turns
    known = of_account(connection, account_id=account_id, provider=provider)
    if known is not None:
        return known, None
    source = sources.create(
        connection,
        ring,
        account_id=account_id,
        provider=provider,
        secrets=(new_webhook_secret(),),
        name=name,
        managed=True,
    )
    made = workspace_webhooks.insert().values(source_id=source.id).returning(*workspace_webhooks.c)
    return _row(connection.execute(made).mappings().one()), source


def take(connection: Connection, source_id: str) -> WorkspaceWebhook | None:
    """Take it, to make its webhook; None while another process is at it."""
    is_free = workspace_webhooks.c.busy_until.is_(None) | (workspace_webhooks.c.busy_until <= func.now())
    until = func.clock_timestamp() + literal(LEASE, INTERVAL)
    this = workspace_webhooks.update().where(workspace_webhooks.c.source_id == source_id, is_free)
    row = connection.execute(this.values(busy_until=until).returning(*workspace_webhooks.c)).mappings().one_or_none()
    return None if row is None else _row(row)


def release(connection: Connection, taken: WorkspaceWebhook) -> None:
    """Give it back as it was, unless it is another's by now."""
    held = workspace_webhooks.update().where(
        workspace_webhooks.c.source_id == taken.source_id, workspace_webhooks.c.busy_until == taken.busy_until
    )
    connection.execute(held.values(busy_until=None))


def made(
    connection: Connection, ring: KeyRing, taken: WorkspaceWebhook, *, account_id: str, webhook_id: str, secret: str
) -> Source | None:
    """The webhook is there, and signs with this secret, which its source has now.

    None if the lease was lost. Mirror the account afterwards.
    """
    accounts.changed(connection, account_id)
    held = workspace_webhooks.update().where(
        workspace_webhooks.c.source_id == taken.source_id, workspace_webhooks.c.busy_until == taken.busy_until
    )
    if not connection.execute(held.values(webhook_id=webhook_id, busy_until=None, look_at=_after(LOOK_EVERY))).rowcount:
        return None
    source = sources.get(connection, ring, account_id=account_id, source_id=taken.source_id)
    older = () if taken.webhook_id is None else source.secrets
    secrets = (secret, *older)[:_KEPT_SECRETS]
    return sources.set_secrets(connection, ring, account_id=account_id, source_id=taken.source_id, secrets=secrets)


def without(connection: Connection, *, provider: str, limit: int) -> list[str]:
    """Accounts with agents of ours that have no webhook any more, because its source takes none."""
    agents = select(voice_agents.c.account_id).where(*_served(provider)).distinct()
    watched = _sources_of(voice_agents.c.account_id, provider)
    return list(connection.execute(agents.where(~watched).limit(limit)).scalars())


def look(connection: Connection, *, provider: str) -> str | None:
    """Take the account whose webhook should have been looked at first; None if there is none.

    The next look at it is in an hour, whatever comes of this one: see `look_again`.
    """
    has_agents = exists().where(voice_agents.c.account_id == source_rows.c.account_id, *_served(provider))
    found = (
        select(workspace_webhooks.c.source_id, source_rows.c.account_id)
        .join_from(workspace_webhooks, source_rows, workspace_webhooks.c.source_id == source_rows.c.id)
        .where(*_taking(provider), workspace_webhooks.c.look_at <= func.now(), has_agents)
        .order_by(workspace_webhooks.c.look_at)
        .limit(1)
        .with_for_update(of=workspace_webhooks, skip_locked=True)
    )
    row = connection.execute(found).one_or_none()
    if row is None:
        return None
    this = workspace_webhooks.update().where(workspace_webhooks.c.source_id == row.source_id)
    connection.execute(this.values(look_at=_after(LOOK_EVERY)))
    return str(row.account_id)


def look_again(connection: Connection, *, account_id: str, provider: str, wait: timedelta) -> None:
    """The look came to nothing: the next one is in so much time."""
    mine = select(source_rows.c.id).where(*_taking(provider), source_rows.c.account_id == account_id)
    these = workspace_webhooks.update().where(workspace_webhooks.c.source_id.in_(mine))
    connection.execute(these.values(look_at=_after(wait)))


def _served(provider: str) -> tuple[ColumnElement[bool], ...]:
    """Agents that name the webhook: those that are there. Others find it when they are brought there."""
    of_provider = voice_agents.c.provider == provider
    return of_provider, voice_agents.c.created_here, voice_agents.c.status == "synced"


def _taking(provider: str) -> tuple[ColumnElement[bool], ...]:
    return source_rows.c.provider == provider, source_rows.c.disabled_at.is_(None)


def _sources_of(account_id: ColumnElement[str], provider: str) -> ColumnElement[bool]:
    these = select(literal(1)).join_from(
        workspace_webhooks, source_rows, workspace_webhooks.c.source_id == source_rows.c.id
    )
    return these.where(source_rows.c.account_id == account_id, *_taking(provider)).exists()


def _after(wait: timedelta) -> ColumnElement[datetime]:
    return func.now() + literal(wait, INTERVAL)


def _row(row: Any) -> WorkspaceWebhook:
    return WorkspaceWebhook(**row)
