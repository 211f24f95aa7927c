"""The webhooks that providers' workspaces have for sources of ours: one for an account, made by us.

Its row is there before the webhook: a source whose webhook has no id here is one whose webhook was not made, or was
made by a process that ended before it could store the secret. The lease, `busy_until`, is the token with which the
webhook is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, func, literal, select
from sqlalchemy.dialects.postgresql import INTERVAL

from relay.sealing import KeyRing
from relay.store import accounts, sources
from relay.store.ids import new_webhook_secret
from relay.store.tables import sources as source_rows
from relay.store.tables import workspace_webhooks

# Longer than four calls can take, each at its slowest: see `relay.providers.rest.client`.
LEASE: Final = timedelta(minutes=3)
# While a new webhook takes over, ElevenLabs still repeats what the old one signed.
_KEPT_SECRETS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceWebhook:
    """The webhook of a source; `webhook_id` None until it is there and its secret is stored."""

    source_id: str
    webhook_id: str | None
    busy_until: datetime | None
    created_at: datetime


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


def reserve(connection: Connection, ring: KeyRing, *, account_id: str, provider: str, name: str) -> WorkspaceWebhook:
    """The account's, with a source of its own if it has none yet. Raises NotFound for the account.

    Until the webhook is made, the source has a secret that nobody knows. Mirror the account afterwards.
    """
    accounts.changed(connection, account_id)  # those who come here at once take turns
    known = of_account(connection, account_id=account_id, provider=provider)
    if known is not None:
        return known
    source = sources.create(
        connection, ring, account_id=account_id, provider=provider, secrets=(new_webhook_secret(),), name=name
    )
    made = workspace_webhooks.insert().values(source_id=source.id).returning(*workspace_webhooks.c)
    return _row(connection.execute(made).mappings().one())


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
) -> bool:
    """The webhook is there, and signs with this secret. False if the lease was lost. Mirror the account afterwards."""
    accounts.changed(connection, account_id)
    held = workspace_webhooks.update().where(
        workspace_webhooks.c.source_id == taken.source_id, workspace_webhooks.c.busy_until == taken.busy_until
    )
    if not connection.execute(held.values(webhook_id=webhook_id, busy_until=None)).rowcount:
        return False
    source = sources.get(connection, ring, account_id=account_id, source_id=taken.source_id)
    older = () if taken.webhook_id is None else source.secrets
    secrets = (secret, *older)[:_KEPT_SECRETS]
    sources.set_secrets(connection, ring, account_id=account_id, source_id=taken.source_id, secrets=secrets)
    return True


def _row(row: Any) -> WorkspaceWebhook:
    return WorkspaceWebhook(**row)
