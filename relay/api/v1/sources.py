"""Sources: where providers send the account's webhooks."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from relay.api.core.access import Access
from relay.api.core.families import OURS
from relay.api.core.fields import Name, ProviderName, Secret, ShownMoment, ShownName, SourceId, Url, absent
from relay.api.core.models import Input, Output
from relay.api.core.operations import Call, Group
from relay.api.core.pages import Page, PageQuery, page
from relay.api.v1.endpoints import MadeEndpoint, made_endpoint
from relay.providers import PROVIDERS
from relay.provisioning.checks import MAX_SECRETS
from relay.store import shown, sources
from relay.store.sources import Source as SourceRow

group = Group(OURS, tag="Sources")

_SOURCE = "/api/v1/sources/<id:source_id>"

Provider = Annotated[str, Field(json_schema_extra={"enum": sorted(PROVIDERS)})]
Secrets = Annotated[
    list[Secret],
    Field(min_length=1, max_length=MAX_SECRETS, description="Any of them proves a webhook: several while they rotate."),
]


class NewSource(Input):
    """A source to be made. With `relayUrl` it gets an endpoint of its own, which takes all that comes from here."""

    provider: Provider
    secrets: Secrets
    name: Name | None = None
    relay_url: Url | None = None


class SourceChange(Input):
    """What is given is changed. A source that is not enabled answers 404 to its provider."""

    name: Name | None = None
    enabled: bool = absent()


class NewSecrets(Input):
    """The secrets that hold from now on."""

    secrets: Secrets


class Source(Output):
    """A source: give its URL to the provider. Its secrets are never shown."""

    id: SourceId
    provider: ProviderName
    name: ShownName | None
    url: Annotated[str, Field(examples=["https://hooks.example.com/api/v1/webhooks/elevenlabs/src_..."])]
    enabled: bool
    managed: bool = Field(description="Made by Switchhook, for a webhook that it looks after: only `name` changes.")
    created_at: ShownMoment
    disabled_at: ShownMoment | None


class MadeSource(Source):
    """A source, with the endpoint that was made for it and that one's secrets, which are shown this once."""

    endpoint: MadeEndpoint | None


@group.operation(
    "POST", "/api/v1/sources", access=Access.WRITE, body=NewSource, answers={201: MadeSource}, is_slow=True
)
def create_source(call: Call[NewSource, None]) -> MadeSource:
    """Make a source, and an endpoint of its own if `relayUrl` is given."""
    source, endpoint = call.provisioning.create_source(account_id=call.account_id, **call.body.given())
    made = None if endpoint is None else made_endpoint(endpoint)
    return MadeSource(**_shown(call, source).model_dump(), endpoint=made)


@group.operation("GET", "/api/v1/sources", access=Access.READ, query=PageQuery, answers={200: Page[Source]})
def list_sources(call: Call[None, PageQuery]) -> Page[Source]:
    """List the account's sources, the oldest first."""
    query, services = call.query, call.services
    with services.database.begin() as connection:
        rows = sources.of_account(
            connection, services.ring, account_id=call.account_id, after=query.after, limit=query.enough
        )
    return page(rows, query, lambda row: _shown(call, row))


@group.operation("GET", _SOURCE, access=Access.READ, answers={200: Source})
def get_source(call: Call[None, None], source_id: str) -> Source:
    """Show a source."""
    services = call.services
    with services.database.begin() as connection:
        row = sources.get(connection, services.ring, account_id=call.account_id, source_id=source_id)
    return _shown(call, row)


@group.operation("PATCH", _SOURCE, access=Access.WRITE, body=SourceChange, answers={200: Source}, errors=(409,))
def update_source(call: Call[SourceChange, None], source_id: str) -> Source:
    """Rename a source, or enable or disable it."""
    changed = call.provisioning.update_source(account_id=call.account_id, source_id=source_id, **call.body.given())
    return _shown(call, changed)


@group.operation("DELETE", _SOURCE, access=Access.WRITE, answers={204: None}, errors=(409,))
def delete_source(call: Call[None, None], source_id: str) -> None:
    """Delete a source: its URL takes no webhook any more.

    Endpoints of its own stay, and are delivered what waits for them.
    """
    call.provisioning.delete_source(account_id=call.account_id, source_id=source_id)


@group.operation(
    "POST", f"{_SOURCE}/rotate", access=Access.WRITE, body=NewSecrets, answers={200: Source}, errors=(409,)
)
def rotate_source(call: Call[NewSecrets, None], source_id: str) -> Source:
    """Replace the secrets of a source.

    While the provider changes its own, give the old one and the new one; afterwards the new one alone.
    """
    rotated = call.provisioning.set_source_secrets(
        account_id=call.account_id, source_id=source_id, secrets=call.body.secrets
    )
    return _shown(call, rotated)


def _shown(call: Call[Any, Any], row: SourceRow) -> Source:
    return Source.model_validate(shown.source(row, url=call.services.provisioning.source_url(row)))
