"""Commands for endpoints: where your customers take deliveries."""

from __future__ import annotations

import click

from relay.cli.changing import provisioning
from relay.cli.connecting import connected, reading
from relay.cli.output import json_option, lines, show, table
from relay.connections import redis_client
from relay.errors import BadRequest
from relay.outbox import Outbox
from relay.outbox.ring import unmute
from relay.provisioning.checks import MAX_OVERLAP_HOURS
from relay.queues import RELAY
from relay.sealing import KeyRing
from relay.settings import Settings
from relay.store import accounts, endpoints, shown
from relay.store.endpoints import Endpoint
from relay.store.snapshot import Signing
from relay.trial import send, trial_of

account_option = click.option("--account", "account_id", required=True, metavar="ID", help="The account (acc_...).")


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
@click.option("--operations", is_flag=True, help="For budgets and statements (switchhook.*) in place of calls.")
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
    operations: bool,
    as_json: bool,
) -> None:
    """Create an endpoint for the whole account, or for one source."""
    made = provisioning().create_endpoint(
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
        operations=operations,
        source_id=source_id,
    )
    show({"id": made.id, "url": made.url} | secrets_of(made), as_json=as_json, title="endpoint created")


@endpoint.command("disable")
@account_option
@click.argument("endpoint_id")
def disable_endpoint(account_id: str, endpoint_id: str) -> None:
    """Stop delivering to an endpoint; what waits for it ends as dead."""
    provisioning().set_endpoint_state(account_id=account_id, endpoint_id=endpoint_id, enabled=False)
    click.echo(f"{endpoint_id} is disabled")


@endpoint.command("enable")
@account_option
@click.argument("endpoint_id")
def enable_endpoint(account_id: str, endpoint_id: str) -> None:
    """Deliver to an endpoint again, also after it answered 410."""
    provisioning().set_endpoint_state(account_id=account_id, endpoint_id=endpoint_id, enabled=True)
    click.echo(f"{endpoint_id} is enabled")


@endpoint.command("list")
@account_option
@json_option
def list_endpoints(account_id: str, as_json: bool) -> None:
    """Endpoints of an account, oldest first; those of its templates and sources too."""
    settings = Settings.from_environ()
    with reading(settings) as connection:
        accounts.get(connection, account_id)
        found = endpoints.of_account(connection, KeyRing(settings.keys), account_id=account_id)
    if as_json:
        lines([shown.endpoint(one) for one in found])
        return
    rows = [(one.id, one.state, ",".join(one.filters), one.template_id, one.source_id, one.url) for one in found]
    table(rows, ("ENDPOINT", "STATE", "EVENTS", "TEMPLATE", "SOURCE", "URL"), empty="no endpoints yet")


@endpoint.command("rotate")
@account_option
@click.option(
    "--overlap-hours",
    type=click.IntRange(0, MAX_OVERLAP_HOURS),
    default=24,
    show_default=True,
    help="How long the old one still signs beside the new one; until then no other rotation. 0: it leaked.",
)
@click.option("--webhook-secret", is_flag=True, help="Replace the X-Webhook-Secret too, at once.")
@click.argument("endpoint_id")
@json_option
def rotate_endpoint(
    *, account_id: str, overlap_hours: int, webhook_secret: bool, endpoint_id: str, as_json: bool
) -> None:
    """Give an endpoint a new signing secret. It is shown this once.

    While the overlap of the last rotation lasts, only --overlap-hours 0 makes another: it ends that overlap at once.
    """
    made = provisioning().rotate_endpoint(
        account_id=account_id, endpoint_id=endpoint_id, overlap_hours=overlap_hours, webhook_secret=webhook_secret
    )
    fields: dict[str, object] = {"id": made.id, "signingSecret": made.signing_secrets[0]}
    if webhook_secret:
        fields |= {"webhookSecret": made.webhook_secret}
    fields |= {"overlapUntil": shown.moment(made.overlap_until)}
    show(fields, as_json=as_json, title="endpoint rotated", hint="Until overlapUntil both signatures are sent.")


@endpoint.command("test")
@account_option
@click.argument("endpoint_id")
@json_option
def test_endpoint(account_id: str, endpoint_id: str, as_json: bool) -> None:
    """Send a test event to an endpoint: signed and delivered like all others, and never charged."""
    settings = Settings.from_environ()
    with connected(settings) as database:
        admission = trial_of(
            database,
            KeyRing(settings.keys),
            account_id=account_id,
            endpoint_id=endpoint_id,
            usual_quota_bytes=settings.account_quota_bytes,
        )
    with redis_client(settings) as client:
        send(Outbox(client), admission)
        # Workers look by themselves every second; the next event's bell is not to be held back by this one's.
        unmute(client, RELAY)
    show(
        {"id": admission.event_id},
        as_json=as_json,
        title="test event on its way",
        hint=f"What became of it: switchhook deliveries --endpoint {endpoint_id}",
    )


@endpoint.command("delete")
@account_option
@click.argument("endpoint_id")
def delete_endpoint(account_id: str, endpoint_id: str) -> None:
    """Delete an endpoint; what waits for it ends as dead, and records stay."""
    provisioning().delete_endpoint(account_id=account_id, endpoint_id=endpoint_id)
    click.echo(f"{endpoint_id} is deleted")


def secrets_of(endpoint: Endpoint) -> dict[str, object]:
    """An endpoint's secrets, for the one answer that shows them."""
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
