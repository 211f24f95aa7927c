"""Looking after the webhooks of accounts whose agents are there, between the changes of their templates.

Somebody may delete a webhook or switch it off at ElevenLabs, an operator may disable its source, our address may
change: until that is seen, calls end without our hearing of it.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from relay.agents.clients import Clients
from relay.agents.webhooks import WorkspaceWebhooks
from relay.errors import NotFound, ProviderFailed, ProviderNotConfigured, ProviderUnavailable
from relay.providers import elevenlabs
from relay.store import workspace_webhooks
from relay.store.database import Database
from relay.telemetry import logs

# What an outage kept from being seen is looked at again soon; what was refused, in the usual hour.
_AGAIN: Final = timedelta(minutes=5)
# Upkeep has other things to do: what is still due then is looked at when it is rung next.
_TURN_SECONDS: Final = 10.0


class WebhookRounds:
    """Sees to it that each account's webhook is there and on."""

    def __init__(self, database: Database, webhooks: WorkspaceWebhooks, clients: Clients) -> None:
        self._database = database
        self._webhooks = webhooks
        self._clients = clients

    def due(self, limit: int) -> int:
        """Look at those whose hour has come, at most `limit` and for some ten seconds; how many were looked at.

        Each account has an hour of its own. Safe to run in several processes at once. Raises Unavailable.
        """
        with self._database.begin() as connection:
            without = workspace_webhooks.without(connection, provider=elevenlabs.NAME, limit=limit)
        for account_id in without:
            self._webhooks.reserve(account_id)  # and its hour has come
        ends_at, looked = time.monotonic() + _TURN_SECONDS, 0
        while looked < limit and time.monotonic() < ends_at:
            with self._database.begin() as connection:
                due = workspace_webhooks.look(connection, provider=elevenlabs.NAME)
            if due is None:
                break
            self._look(due)
            looked += 1
        return looked

    def _look(self, account_id: str) -> None:
        try:
            self._webhooks.ensure(account_id, self._clients.elevenlabs(account_id))
        except ProviderUnavailable as error:
            logs.warning("workspace_webhook_not_checked", account_id=account_id, code=error.code)
            with self._database.begin() as connection:
                workspace_webhooks.look_again(connection, account_id=account_id, provider=elevenlabs.NAME, wait=_AGAIN)
        except (ProviderFailed, ProviderNotConfigured, NotFound) as error:
            logs.warning("workspace_webhook_not_checked", account_id=account_id, code=error.code)
