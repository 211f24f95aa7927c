"""A provider's API as an account uses it: with its own key where it has stored one, else with ours."""

from __future__ import annotations

from dataclasses import replace

from relay.errors import ProviderNotConfigured
from relay.providers.rest.agora import Agora
from relay.providers.rest.elevenlabs import ElevenLabs
from relay.providers.rest.retell import Retell
from relay.sealing import KeyRing
from relay.settings import ProviderAccess, Settings
from relay.store import provider_keys
from relay.store.database import Database


class Clients:
    """Makes clients. They are cheap and short-lived: a key may be replaced at any time."""

    def __init__(self, settings: Settings, database: Database, ring: KeyRing) -> None:
        self._ours = {"elevenlabs": settings.elevenlabs, "retell": settings.retell, "agora": settings.agora}
        self._database = database
        self._ring = ring

    def elevenlabs(self, account_id: str) -> ElevenLabs:
        """Raises ProviderNotConfigured, Unavailable."""
        return ElevenLabs(self.access(account_id, "elevenlabs")[0])

    def retell(self, account_id: str) -> Retell:
        """Raises ProviderNotConfigured, Unavailable."""
        return Retell(self.access(account_id, "retell")[0], account_id=account_id)

    def agora(self, account_id: str) -> Agora:
        """Raises ProviderNotConfigured, Unavailable. Its key is `<customer id>:<customer secret>`."""
        return Agora(self.access(account_id, "agora")[0])

    def access(self, account_id: str, provider: str) -> tuple[ProviderAccess, bool]:
        """How the account reaches a provider, and whether by a key of its own: ours opens what is of others, too.

        Raises ProviderNotConfigured, Unavailable.
        """
        with self._database.begin() as connection:
            own = provider_keys.opened(connection, self._ring, account_id=account_id, provider=provider)
        ours = self._ours[provider]
        access = ours if own is None else replace(ours, api_key=own)
        if not access.api_key:
            raise ProviderNotConfigured(f"there is no API key for {provider}: store the account's own one")
        return access, own is not None
