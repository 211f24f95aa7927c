"""The webhook by which an account's workspace at ElevenLabs reports its calls: made once, and looked after.

It posts to a source of its own, whose secret is the one that ElevenLabs made and showed once. So a webhook of that
source's URL whose id we do not know is one whose secret was lost: it is deleted, and another is made.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from relay.directory import Mirror
from relay.errors import ProviderFailed, ProviderUnavailable, Unavailable
from relay.providers import elevenlabs
from relay.providers.rest.elevenlabs import ElevenLabs, NewWebhook, Webhook
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import audit, shown, voice_agents, workspace_webhooks
from relay.store.database import Database
from relay.store.sources import Source
from relay.store.workspace_webhooks import WorkspaceWebhook
from relay.telemetry import logs

_SOURCE_NAME: Final = "ElevenLabs workspace"
# Making one takes another process a second or two; somebody waits for the answer.
_WAIT_SECONDS: Final = 8.0
_LOOK_SECONDS: Final = 0.2
_BUSY: Final = "another process is making this account's webhook"


class WorkspaceWebhooks:
    """Finds an account's webhook, or makes it."""

    def __init__(self, settings: Settings, database: Database, ring: KeyRing, mirror: Mirror) -> None:
        self._settings = settings
        self._database = database
        self._ring = ring
        self._mirror = mirror

    def ensure(self, account_id: str, api: ElevenLabs, *, template_id: int | None = None) -> str:
        """The id of a webhook of this workspace that is on, retries, and posts to a source of the account.

        If another had to be made, the account's agents are due to learn of it, but for this template's.
        Raises ProviderUnavailable, ProviderFailed, Unavailable, and NotFound for the account.
        """
        known = self.reserve(account_id)
        listed = api.webhooks()
        current = self._current(known, listed)
        if current is not None and not current.is_off and not self._strays(known, listed, current):
            return current.id
        taken = self._taken(known)
        try:
            return self._made(account_id, taken, api, template_id)
        finally:
            with self._database.begin() as connection:
                workspace_webhooks.release(connection, taken)

    def reserve(self, account_id: str) -> WorkspaceWebhook:
        """The account's, whether or not it is there yet. Raises Unavailable, and NotFound for the account."""
        with self._database.begin() as connection:
            known = workspace_webhooks.of_account(connection, account_id=account_id, provider=elevenlabs.NAME)
        if known is not None:
            return known
        with self._database.begin() as connection:
            reserved, made = workspace_webhooks.reserve(
                connection, self._ring, account_id=account_id, provider=elevenlabs.NAME, name=_SOURCE_NAME
            )
            if made is not None:
                self._audit(connection, "source.created", account_id, after=made)
        return reserved

    def _taken(self, known: WorkspaceWebhook) -> WorkspaceWebhook:
        ends_at = time.monotonic() + _WAIT_SECONDS
        while True:
            with self._database.begin() as connection:
                taken = workspace_webhooks.take(connection, known.source_id)
            if taken is not None:
                return taken
            if time.monotonic() > ends_at:
                raise ProviderUnavailable(_BUSY, code="webhook_busy")
            time.sleep(_LOOK_SECONDS)

    def _made(self, account_id: str, taken: WorkspaceWebhook, api: ElevenLabs, template_id: int | None) -> str:
        listed = api.webhooks()
        current = self._current(taken, listed)
        name = f"Switchhook {taken.source_id}"
        for stray in self._strays(taken, listed, current):
            api.delete_webhook(stray.id)
        if current is not None:
            if current.is_off:
                logs.warning("workspace_webhook_enabled", account_id=account_id, source_id=taken.source_id)
                api.enable_webhook(current.id, name=name)
            return current.id
        new = api.create_webhook(name=name, url=self._url(taken))
        if not (_is_enabled(api, new, name) and self._is_stored(account_id, taken, new, template_id)):
            # The lease was lost. Whoever comes next deletes this webhook, because its secret is known to nobody.
            raise ProviderUnavailable(_BUSY, code="webhook_busy")
        self._publish(account_id)
        return new.id

    def _is_stored(self, account_id: str, taken: WorkspaceWebhook, new: NewWebhook, template_id: int | None) -> bool:
        told = 0
        with self._database.begin() as connection:
            source = workspace_webhooks.made(
                connection, self._ring, taken, account_id=account_id, webhook_id=new.id, secret=new.secret
            )
            if source is not None:
                # Nothing that is shown of a source changes with its secrets.
                self._audit(connection, "source.rotated", account_id, before=source, after=source)
                # Theirs is gone, and what it would have told with it.
                told = voice_agents.want_all(
                    connection, account_id=account_id, provider=elevenlabs.NAME, but=template_id
                )
        if source is not None and told:
            logs.warning("workspace_webhook_replaced", account_id=account_id, source_id=taken.source_id, count=told)
        return source is not None

    def _current(self, known: WorkspaceWebhook, listed: Sequence[Webhook]) -> Webhook | None:
        mine = (one for one in listed if one.id == known.webhook_id and one.url == self._url(known))
        return next(mine, None)

    def _strays(self, known: WorkspaceWebhook, listed: Sequence[Webhook], current: Webhook | None) -> list[Webhook]:
        """Those that post to the source and are signed with a lost secret, and the one that posts to an old address."""
        ours = [one for one in listed if one.url == self._url(known) or one.id == known.webhook_id]
        return [one for one in ours if one != current]

    def _url(self, webhook: WorkspaceWebhook) -> str:
        return self._address(webhook.source_id)

    def _address(self, source_id: str) -> str:
        return f"{self._settings.public_url}/api/v1/webhooks/{elevenlabs.NAME}/{source_id}"

    def _audit(
        self, connection: Connection, action: str, account_id: str, *, after: Source, before: Source | None = None
    ) -> None:
        url = self._address(after.id)
        audit.record(
            connection,
            account_id=account_id,
            actor=audit.UPKEEP,
            action=action,
            object_id=after.id,
            before=None if before is None else shown.source(before, url=url),
            after=shown.source(after, url=url),
        )

    def _publish(self, account_id: str) -> None:
        """Have the ingress know the secret. While Redis is away upkeep does it later."""
        try:
            self._mirror.publish(self._database, account_id)
        except Unavailable as error:
            logs.warning("configuration_not_mirrored", account_id=account_id, error=error)


def _is_enabled(api: ElevenLabs, new: NewWebhook, name: str) -> bool:
    """Switch on what was just made; False if it is gone already."""
    try:
        api.enable_webhook(new.id, name=name)
    except ProviderFailed as error:
        if error.provider_status != 404:
            raise
        return False
    return True
