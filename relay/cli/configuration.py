"""Commands that set accounts up."""

from __future__ import annotations

from datetime import datetime

import click

from relay.cli.moments import Moment
from relay.cli.output import json_option, show
from relay.errors import BadRequest
from relay.provisioning import Provisioning
from relay.settings import Settings
from relay.store.endpoints import Endpoint
from relay.store.snapshot import Signing
from relay.store.templates import TemplateType

account_option = click.option("--account", "account_id", required=True, metavar="ID", help="The account (acc_...).")


def _provisioning() -> Provisioning:
    return Provisioning.connect(Settings.from_environ())


@click.group()
def account() -> None:
    """Accounts: one for each of your customers."""


@account.command("create")
@click.option("--name", required=True, help="What you call this customer.")
@click.option(
    "--quota-bytes", type=click.IntRange(min=1024), help="Undelivered bytes that may wait (default: setting)."
)
@json_option
def create_account(name: str, quota_bytes: int | None, as_json: bool) -> None:
    """Create an account and its first API key. The key is shown this once."""
    made = _provisioning().create_account(name=name, quota_bytes=quota_bytes)
    show(
        {"id": made.account.id, "name": made.account.name, "apiKey": made.key.key},
        as_json=as_json,
        title="account created",
        hint="Keep the key: it cannot be shown again. Next: switchhook rate-card create, switchhook source create",
    )


@click.group()
def source() -> None:
    """Sources: where a provider's webhooks come in."""


@source.command("create")
@account_option
@click.option("--provider", required=True, help="elevenlabs or retell.")
@click.option("--secret", "secrets", required=True, multiple=True, help="The provider's signing secret; repeatable.")
@click.option("--relay-url", help="Deliver everything from this source here.")
@json_option
def create_source(
    account_id: str, provider: str, secrets: tuple[str, ...], relay_url: str | None, as_json: bool
) -> None:
    """Create a source; give its URL to the provider."""
    provisioning = _provisioning()
    made, endpoint = provisioning.create_source(
        account_id=account_id, provider=provider, secrets=secrets, relay_url=relay_url
    )
    fields: dict[str, object] = {"id": made.id, "url": provisioning.source_url(made), "provider": made.provider}
    if endpoint is not None:
        fields |= {"endpointId": endpoint.id} | _secrets(endpoint)
    show(fields, as_json=as_json, title="source created", hint="Enter the URL at the provider as its webhook.")


@source.command("set-secrets")
@account_option
@click.option("--secret", "secrets", required=True, multiple=True, help="The provider's signing secret; repeatable.")
@click.argument("source_id")
def set_source_secrets(account_id: str, secrets: tuple[str, ...], source_id: str) -> None:
    """Replace a source's secrets: when the provider has named its secret, or rotates it."""
    made = _provisioning().set_source_secrets(account_id=account_id, source_id=source_id, secrets=secrets)
    click.echo(f"{made.id} has {len(made.secrets)} secret(s)")


@click.group()
def endpoint() -> None:
    """Endpoints: where your customers take deliveries."""


@endpoint.command("create")
@account_option
@click.option("--url", required=True, help="Where to deliver: public, https in production.")
@click.option(
    "--event", "filters", multiple=True, help="Only these types: retell.call_analyzed, elevenlabs.*; repeatable."
)
@click.option("--header", "headers", multiple=True, metavar="NAME:VALUE", help="Sent with every delivery; repeatable.")
@click.option("--webhook-secret", help="Sent as X-Webhook-Secret (default: generated).")
@click.option("--signing-secret", help="whsec_ and base64 (default: generated).")
@click.option(
    "--signing",
    type=click.Choice(["standard", "provider"]),
    default="standard",
    show_default=True,
    help="provider: the provider's own signature besides.",
)
@click.option("--deadline-seconds", type=int, default=15, show_default=True, help="For one attempt in all; at most 20.")
@click.option("--retention-hours", type=int, help="How long content may wait (default: setting; 0: one attempt).")
@click.option("--failure-when", metavar="PATH", help="Repeat on a 2xx answer with a value here: '$.error'.")
@click.option("--source", "source_id", help="Only what comes from this source (default: the whole account).")
@json_option
def create_endpoint(
    *,
    account_id: str,
    url: str,
    filters: tuple[str, ...],
    headers: tuple[str, ...],
    webhook_secret: str | None,
    signing_secret: str | None,
    signing: Signing,
    deadline_seconds: int,
    retention_hours: int | None,
    failure_when: str | None,
    source_id: str | None,
    as_json: bool,
) -> None:
    """Create an endpoint for the whole account, or for one source."""
    made = _provisioning().create_endpoint(
        account_id=account_id,
        url=url,
        filters=filters or ("*",),
        headers=_headers(headers),
        webhook_secret=webhook_secret,
        signing_secret=signing_secret,
        signing=signing,
        deadline_seconds=deadline_seconds,
        retention_hours=retention_hours,
        failure_when=failure_when,
        source_id=source_id,
    )
    show({"id": made.id, "url": made.url} | _secrets(made), as_json=as_json, title="endpoint created")


@endpoint.command("disable")
@account_option
@click.argument("endpoint_id")
def disable_endpoint(account_id: str, endpoint_id: str) -> None:
    """Stop delivering to an endpoint; what waits for it ends as dead."""
    _provisioning().set_endpoint_state(account_id=account_id, endpoint_id=endpoint_id, enabled=False)
    click.echo(f"{endpoint_id} is disabled")


@endpoint.command("enable")
@account_option
@click.argument("endpoint_id")
def enable_endpoint(account_id: str, endpoint_id: str) -> None:
    """Deliver to an endpoint again, also after it answered 410."""
    _provisioning().set_endpoint_state(account_id=account_id, endpoint_id=endpoint_id, enabled=True)
    click.echo(f"{endpoint_id} is enabled")


@click.group()
def template() -> None:
    """Templates: an agent's set-up and where what it hears goes."""


@template.command("create")
@account_option
@click.option("--name", required=True, help="The template's name, part of every delivery.")
@click.option("--type", "kind", type=click.Choice(["interview", "conversation"]), required=True, help="What it is for.")
@click.option("--system-prompt", required=True, help="What the agent is told.")
@click.option("--client-webhook-url", help="Deliver what belongs to this template here.")
@click.option("--webhook-secret", help="Proves inbound requests and deliveries (default: generated).")
@click.option("--agent-id", help="The provider's agent that this template is for.")
@json_option
def create_template(
    *,
    account_id: str,
    name: str,
    kind: TemplateType,
    system_prompt: str,
    client_webhook_url: str | None,
    webhook_secret: str | None,
    agent_id: str | None,
    as_json: bool,
) -> None:
    """Create a template and, if it has a URL, its endpoint."""
    made = _provisioning().create_template(
        account_id=account_id,
        name=name,
        type=kind,
        config={"systemPrompt": system_prompt},
        client_webhook_url=client_webhook_url,
        webhook_secret=webhook_secret,
        agent_id=agent_id,
    )
    fields: dict[str, object] = {
        "id": made.template.id,
        "webhookSecret": made.template.webhook_secret,
        "signingSecret": made.endpoint and made.endpoint.signing_secrets[0],
        "endpointId": made.endpoint and made.endpoint.id,
    }
    show(fields, as_json=as_json, title="template created")


@click.group("rate-card")
def rate_card() -> None:
    """Rate cards: what a minute costs, and from when."""


@rate_card.command("create")
@account_option
@click.option("--per-minute", required=True, help="Price of a minute, as a decimal: 0.10.")
@click.option("--currency", default="USD", show_default=True, help="ISO 4217; one per account.")
@click.option("--card", "increments", default="1/1", show_default=True, help="First and further seconds: 60/6.")
@click.option(
    "--from",
    "effective_from",
    type=Moment(),
    metavar="ISO",
    help="In force from here (first card: always; later: now).",
)
@json_option
def create_rate_card(
    *, account_id: str, per_minute: str, currency: str, increments: str, effective_from: datetime | None, as_json: bool
) -> None:
    """Add a rate card. Cards never change; a new price is a new card."""
    made = _provisioning().create_rate_card(
        account_id=account_id,
        per_minute=per_minute,
        currency=currency,
        increments=increments,
        effective_from=effective_from,
    )
    show(
        {
            "id": made.id,
            "perMinute": str(made.per_minute),
            "currency": made.currency,
            "card": f"{made.initial_seconds}/{made.increment_seconds}",
            "effectiveFrom": made.effective_from,
        },
        as_json=as_json,
        title="rate card created",
    )


def _secrets(endpoint: Endpoint) -> dict[str, object]:
    return {"webhookSecret": endpoint.webhook_secret, "signingSecret": endpoint.signing_secrets[0]}


def _headers(texts: tuple[str, ...]) -> dict[str, str]:
    pairs = [_header(text) for text in texts]
    headers = dict(pairs)
    if len(headers) < len(pairs):
        raise BadRequest("the same header is given twice", field="header")
    return headers


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not separator:
        raise BadRequest("a header is NAME:VALUE", field="header")
    # Blanks around a value do not belong to it (RFC 9110, 5.5). Nothing else goes unseen: the rest is checked.
    return name, value.strip(" \t")
