"""The demo's customer: an account with a rate card, a source per provider, and a template, all at one receiver."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from relay.demo.receiver import Receiver
from relay.demo.receiver import Secrets as EndpointSecrets
from relay.errors import SwitchhookError
from relay.providers import elevenlabs, retell
from relay.provisioning import Provisioning
from relay.store.endpoints import Endpoint

NAME: Final = "Lighthouse Ltd"
PER_MINUTE: Final = "0.10"
CURRENCY: Final = "USD"
# How each provider's secrets begin, so that the demo's look like them.
_SECRET_PREFIXES: Final = {elevenlabs.NAME: "wsec_", retell.NAME: "key_"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSource:
    """Where a provider sends its webhooks, and the secret that it signs them with."""

    url: str
    path: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """What the demo's provider needs to know about the account; `sources` by the provider's name."""

    account_id: str
    sources: Mapping[str, SampleSource]
    template_secret: str = field(repr=False)


def set_up(provisioning: Provisioning, receiver: Receiver, *, public_url: str) -> Customer:
    """Make the account as an operator would on the command line, and tell the receiver its secrets."""
    account_id = provisioning.create_account(name=NAME).account.id
    provisioning.create_rate_card(account_id=account_id, per_minute=PER_MINUTE, currency=CURRENCY)
    sources = {}
    for provider, prefix in _SECRET_PREFIXES.items():
        secret = prefix + secrets.token_hex(32)
        source, endpoint = provisioning.create_source(
            account_id=account_id, provider=provider, secrets=[secret], relay_url=f"{receiver.url}/{provider}"
        )
        _trust(receiver, f"/{provider}", endpoint)
        url = provisioning.source_url(source)
        sources[provider] = SampleSource(url=url, path=url.removeprefix(public_url), secret=secret)
    template = provisioning.create_template(
        account_id=account_id,
        name="Reader survey",
        type="interview",
        config={"systemPrompt": "Ask readers what would bring them to the library."},
        client_webhook_url=f"{receiver.url}/canaryllm",
    )
    _trust(receiver, "/canaryllm", template.endpoint)
    return Customer(account_id=account_id, sources=sources, template_secret=template.template.webhook_secret)


def _trust(receiver: Receiver, path: str, endpoint: Endpoint | None) -> None:
    if endpoint is None:
        raise SwitchhookError("an endpoint was asked for and not made")
    receiver.trust(path, EndpointSecrets(endpoint.signing_secrets[0], endpoint.webhook_secret))
