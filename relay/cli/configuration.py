"""Commands that set accounts up."""

from __future__ import annotations

import click

from relay.cli.changing import provisioning
from relay.cli.endpoints import account_option, secrets_of
from relay.cli.output import json_option, show
from relay.providers import elevenlabs
from relay.store.templates import TemplateType


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
    made = provisioning().create_account(name=name, quota_bytes=quota_bytes)
    # What scripts read stays as it is; clients of Agora need the key's id, and people read it here.
    named = {} if as_json else {"keyId": made.key.id}
    show(
        {"id": made.account.id, "name": made.account.name, **named, "apiKey": made.key.key},
        as_json=as_json,
        title="account created",
        hint="Keep the key: it cannot be shown again. Next: switchhook rate-card create, switchhook source create",
    )


@click.group()
def source() -> None:
    """Sources: where a provider's webhooks come in."""


@source.command("create")
@account_option
@click.option("--provider", required=True, help="agora, elevenlabs or retell.")
@click.option("--secret", "secrets", required=True, multiple=True, help="The provider's signing secret; repeatable.")
@click.option("--relay-url", help="Deliver everything from this source here.")
@click.option("--shared", is_flag=True, help="For all accounts, by the labels of calls begun here; keep it your own.")
@json_option
def create_source(
    *, account_id: str, provider: str, secrets: tuple[str, ...], relay_url: str | None, shared: bool, as_json: bool
) -> None:
    """Create a source; give its URL to the provider."""
    changes = provisioning()
    made, endpoint = changes.create_source(
        account_id=account_id, provider=provider, secrets=secrets, relay_url=relay_url, shared=shared
    )
    fields: dict[str, object] = {"id": made.id, "url": changes.source_url(made), "provider": made.provider}
    if endpoint is not None:
        fields |= {"endpointId": endpoint.id} | secrets_of(endpoint)
    show(fields, as_json=as_json, title="source created", hint="Enter the URL at the provider as its webhook.")


@source.command("set-secrets")
@account_option
@click.option("--secret", "secrets", required=True, multiple=True, help="The provider's signing secret; repeatable.")
@click.argument("source_id")
def set_source_secrets(account_id: str, secrets: tuple[str, ...], source_id: str) -> None:
    """Replace a source's secrets: when the provider has named its secret, or rotates it."""
    made = provisioning().set_source_secrets(account_id=account_id, source_id=source_id, secrets=secrets)
    click.echo(f"{made.id} has {len(made.secrets)} secret(s)")


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
    """Create a template and, if it has a URL, its endpoint. An agent that is named is granted to the account."""
    changes = provisioning()
    if agent_id is not None:
        changes.add_grant(account_id=account_id, provider=elevenlabs.NAME, object_id=agent_id)
    made = changes.create_template(
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
