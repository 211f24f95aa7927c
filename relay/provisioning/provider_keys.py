"""Accounts' own keys at providers: used in place of ours, kept sealed, never shown."""

from __future__ import annotations

from typing import Final

from relay.errors import BadRequest, NotFound
from relay.provisioning.changes import Changes
from relay.store import provider_keys, shown
from relay.store.provider_keys import ProviderKey

# Those whose APIs are called in an account's name.
PROVIDERS_WITH_KEYS: Final = ("agora", "elevenlabs", "retell")
MAX_KEY_CHARS: Final = 512


class ProviderKeyChanges(Changes):
    """Stores and forgets an account's own keys at providers."""

    def put_provider_key(self, *, account_id: str, provider: str, key: str) -> ProviderKey:
        """Use this key from now on. Agora's is `<customer id>:<customer secret>`."""
        checked_provider(provider)
        # It goes into a header.
        if not (1 <= len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable() and " " not in key):
            raise BadRequest(f"key must be 1 to {MAX_KEY_CHARS} visible ASCII characters", field="key")
        name, separator, secret = key.partition(":")
        if provider == "agora" and not (name and separator and secret):
            raise BadRequest("Agora's key is its customer id, a colon and its customer secret", field="key")
        with self._locked(account_id) as connection:
            before = provider_keys.find(connection, account_id=account_id, provider=provider)
            row = provider_keys.put(connection, self._ring, account_id=account_id, provider=provider, key=key)
            self._audit(
                connection,
                "provider_key.stored",
                provider,
                account_id=account_id,
                before=None if before is None else shown.provider_key(before),
                after=shown.provider_key(row),
            )
        return row

    def remove_provider_key(self, *, account_id: str, provider: str) -> None:
        """Forget a key: ours is used again, where there is one. Raises NotFound."""
        checked_provider(provider)
        with self._locked(account_id) as connection:
            before = provider_keys.get(connection, account_id=account_id, provider=provider)
            provider_keys.remove(connection, account_id=account_id, provider=provider)
            self._audit(
                connection,
                "provider_key.removed",
                provider,
                account_id=account_id,
                before=shown.provider_key(before),
            )


def checked_provider(provider: str) -> str:
    """Raises NotFound for what no key can be stored for."""
    if provider not in PROVIDERS_WITH_KEYS:
        raise NotFound(f"keys can be stored for {', '.join(PROVIDERS_WITH_KEYS)}")
    return provider
