"""A provider's API as an account uses it: with its own key where it has stored one, else with ours.

Ours opens what is other customers' as well. So whoever wants to use something by its id says so, and is refused unless
it was made here for the account, or is granted to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace

from relay.errors import ProviderNotConfigured
from relay.providers.rest.agora import Agora
from relay.providers.rest.elevenlabs import ElevenLabs
from relay.providers.rest.retell import Retell
from relay.sealing import KeyRing
from relay.settings import ProviderAccess, Settings
from relay.store import grants, provider_keys
from relay.store.database import Database


class Clients:
    """Makes clients. They are cheap and short-lived: a key may be replaced at any time.

    Every method raises ProviderNotConfigured, Unavailable, and Forbidden for what the account may not use.
    """

    def __init__(self, settings: Settings, database: Database, ring: KeyRing) -> None:
        self._ours = {"elevenlabs": settings.elevenlabs, "retell": settings.retell, "agora": settings.agora}
        self._database = database
        self._ring = ring

    def elevenlabs(self, account_id: str, *, about: Collection[str] = ()) -> ElevenLabs:
        """To use the agents `about`, if there are any."""
        return ElevenLabs(self.access(account_id, "elevenlabs", about=about)[0])

    def elevenlabs_keyed(self, account_id: str, *, about: Collection[str] = ()) -> tuple[ElevenLabs, bytes | None]:
        """The same, and by which key: None is ours, else a digest of the account's own."""
        access, key = self._keyed(account_id, "elevenlabs", about)
        return ElevenLabs(access), key

    def elevenlabs_by(self, account_id: str, made_with: bytes | None) -> ElevenLabs | None:
        """With the key that something was made with, whatever the account uses now; None if it is gone."""
        ours = self._ours["elevenlabs"]
        if made_with is None:
            return ElevenLabs(ours) if ours.api_key else None
        own = self._own(account_id, "elevenlabs")
        is_it = own is not None and _digest(own) == made_with
        return ElevenLabs(replace(ours, api_key=own)) if own is not None and is_it else None

    def retell(self, account_id: str, *, about: Collection[str] = ()) -> Retell:
        """To use the agents `about`."""
        return self.retell_keyed(account_id, about=about)[0]

    def retell_keyed(self, account_id: str, *, about: Collection[str] = ()) -> tuple[Retell, bytes | None]:
        """The same, and by which key, as `elevenlabs_keyed` says it."""
        access, key = self._keyed(account_id, "retell", about)
        return Retell(access, account_id=account_id), key

    def agora(self, account_id: str, *, about: Collection[str] = ()) -> Agora:
        """To use the projects `about`. Agora's key is `<customer id>:<customer secret>`."""
        return self.agora_keyed(account_id, about=about)[0]

    def agora_keyed(self, account_id: str, *, about: Collection[str] = ()) -> tuple[Agora, bytes | None]:
        """The same, and by which key, as `elevenlabs_keyed` says it."""
        access, key = self._keyed(account_id, "agora", about)
        return Agora(access), key

    def access(self, account_id: str, provider: str, *, about: Collection[str] = ()) -> tuple[ProviderAccess, bool]:
        """How the account reaches a provider to use what `about` names, and whether by a key of its own."""
        ours = self._ours[provider]
        with self._database.begin() as connection:
            own = provider_keys.opened(connection, self._ring, account_id=account_id, provider=provider)
            if own is None and ours.api_key:
                grants.demand(connection, account_id=account_id, provider=provider, object_ids=about)
        access = ours if own is None else replace(ours, api_key=own)
        if not access.api_key:
            raise ProviderNotConfigured(f"there is no API key for {provider}: store the account's own one")
        return access, own is not None

    def _keyed(self, account_id: str, provider: str, about: Collection[str]) -> tuple[ProviderAccess, bytes | None]:
        access, is_own = self.access(account_id, provider, about=about)
        return access, _digest(access.api_key) if is_own else None

    def _own(self, account_id: str, provider: str) -> str | None:
        with self._database.begin() as connection:
            return provider_keys.opened(connection, self._ring, account_id=account_id, provider=provider)


def _digest(key: str) -> bytes:
    """A key's name, which outlives the ring that seals it: whoever has the name does not have the key."""
    return hashlib.sha256(b"switchhook provider key " + key.encode()).digest()
