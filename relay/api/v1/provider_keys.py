"""The account's own keys at providers, used in place of the operator's."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import ProviderName, ShownMoment
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.provisioning.provider_keys import MAX_KEY_CHARS, checked_provider
from relay.store import provider_keys, shown
from relay.store.provider_keys import ProviderKey as ProviderKeyRow

group = Group(OURS, tag="Provider keys")

_PATH = "/api/v1/provider-keys/<provider>"


class NewProviderKey(Input):
    """A key. Agora's is `<customer id>:<customer secret>`."""

    key: Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_CHARS)]


class ProviderKey(Output):
    """That there is a key, and since when; never the key."""

    provider: ProviderName
    created_at: ShownMoment


class ProviderKeys(Output):
    """The providers that the account has a key of its own for."""

    data: list[ProviderKey]


@group.operation("GET", "/api/v1/provider-keys", access=Access.READ, answers={200: ProviderKeys})
def list_provider_keys(call: Call[None, None]) -> ProviderKeys:
    """List the providers that the account has a key of its own for."""
    with call.services.database.begin() as connection:
        rows = provider_keys.of_account(connection, account_id=call.account_id)
    return ProviderKeys(data=[_shown(row) for row in rows])


@group.operation("PUT", _PATH, access=Access.WRITE, body=NewProviderKey, answers={200: ProviderKey})
def put_provider_key(call: Call[NewProviderKey, None], provider: str) -> ProviderKey:
    """Store the account's own key at a provider.

    `provider` is `elevenlabs`, `retell` or `agora`. The key is sealed, used from now on, and never shown.
    """
    row = call.provisioning.put_provider_key(account_id=call.account_id, provider=provider, key=call.body.key)
    return _shown(row)


@group.operation("GET", _PATH, access=Access.READ, answers={200: ProviderKey})
def get_provider_key(call: Call[None, None], provider: str) -> ProviderKey:
    """Show whether the account has a key of its own at a provider."""
    with call.services.database.begin() as connection:
        known = checked_provider(provider)
        return _shown(provider_keys.get(connection, account_id=call.account_id, provider=known))


@group.operation("DELETE", _PATH, access=Access.WRITE, answers={204: None})
def remove_provider_key(call: Call[None, None], provider: str) -> None:
    """Forget the account's own key at a provider."""
    call.provisioning.remove_provider_key(account_id=call.account_id, provider=provider)


def _shown(row: ProviderKeyRow) -> ProviderKey:
    return ProviderKey.model_validate(shown.provider_key(row))
