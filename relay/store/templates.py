"""Templates: how an agent is set up, and where what it hears goes. A template's endpoint is made together with it.

The template keeps the webhook secret that proves inbound requests; its endpoint sends the same one, and both change
in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Integer, RowMapping, Select, cast, func, select

from relay.errors import Conflict, NotFound
from relay.sealing import KeyRing
from relay.store import accounts, endpoints, sealed
from relay.store.database import translated
from relay.store.endpoints import Endpoint
from relay.store.ids import new_id, new_webhook_secret
from relay.store.sealed import Target
from relay.store.snapshot import Signing
from relay.store.tables import endpoints as endpoint_rows
from relay.store.tables import template_ids, templates

TemplateType = Literal["interview", "conversation"]
# Long enough for whoever has agents of his own to tell them a new secret.
FORMER_SECRET: Final = timedelta(hours=24)
# The index that keeps an agent to one template of an account.
_ONE_TEMPLATE: Final = "templates_agent"
# What is left of a former secret is the ingress' alone.
_SHOWN: Final = [name for name in templates.c.keys() if not name.startswith("former_secret")]  # noqa: SIM118


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """One template. `config` is what the customer wrote about the agent, as the API names it.

    `content_retention_hours` None means the setting's default, 0 a single attempt. `rate_card_id` comes before the
    account's cards. What follows it is its endpoint's, and None without one.
    """

    id: int
    account_id: str
    name: str
    type: TemplateType
    config: dict[str, Any] = field(repr=False)
    agent_id: str | None
    provider: str
    endpoint_id: str | None
    client_webhook_url: str | None = field(repr=False)
    webhook_secret: str = field(repr=False)
    content_retention_hours: int | None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    hidden: bool
    session_id: int | None
    rate_card_id: str | None
    delivery_headers: dict[str, str] | None = field(repr=False)
    signing: Signing | None
    deadline_seconds: int | None


class NewTemplate(NamedTuple):
    """A template and the endpoint that was made for it, if it has a URL."""

    template: Template
    endpoint: Endpoint | None


def create(
    connection: Connection,
    ring: KeyRing,
    *,
    account_id: str,
    name: str,
    type: TemplateType,  # noqa: A002  the field's name in the API
    config: Mapping[str, Any],
    agent_id: str | None = None,
    provider: str = "elevenlabs",
    client_webhook_url: str | None = None,
    webhook_secret: str | None = None,
    content_retention_hours: int | None = None,
    rate_card_id: str | None = None,
    hidden: bool = False,
    session_id: int | None = None,
    delivery_headers: Mapping[str, str] | None = None,
    signing: Signing = "standard",
    deadline_seconds: int = endpoints.DEADLINE_SECONDS,
) -> NewTemplate:
    """Make a template and, if there is a URL, its endpoint; a missing secret is generated.

    The last three and the retention are the endpoint's. A `hidden` one has no URL, and the account's version stays.
    Raises NotFound, and Conflict `agent_taken` for an agent that another template of the account has.
    """
    if not hidden:
        accounts.changed(connection, account_id)
    template_id = connection.execute(select(template_ids.next_value())).scalar_one()
    endpoint_id = None if client_webhook_url is None else new_id("ep")
    secret = webhook_secret or new_webhook_secret()
    row = {
        "id": template_id,
        "account_id": account_id,
        "name": name,
        "type": type,
        "config": dict(config),
        "agent_id": agent_id,
        "provider": provider,
        "endpoint_id": endpoint_id,
        "sealed_secret": sealed.seal(ring, secret, purpose=sealed.TEMPLATE, row_id=template_id),
        "content_retention_hours": content_retention_hours,
        "rate_card_id": rate_card_id,
        "hidden": hidden,
        "session_id": session_id,
    }
    with _one_template_for_an_agent():
        connection.execute(templates.insert().values(row))
    endpoint = None
    if client_webhook_url is not None:
        endpoint = endpoints.create(
            connection,
            ring,
            account_id=account_id,
            url=client_webhook_url,
            headers=delivery_headers,
            webhook_secret=secret,
            signing=signing,
            deadline_seconds=deadline_seconds,
            retention_hours=content_retention_hours,
            template_id=template_id,
            endpoint_id=endpoint_id,
        )
    made = get(connection, ring, account_id=account_id, template_id=template_id, with_hidden=True)
    return NewTemplate(made, endpoint)


def get(
    connection: Connection, ring: KeyRing, *, account_id: str, template_id: int, with_hidden: bool = False
) -> Template:
    """Raises NotFound, also for a template that is deleted, another account's, or hidden unless those count too."""
    found = _active(account_id).where(templates.c.id == template_id)
    if not with_hidden:
        found = found.where(templates.c.hidden.is_(False))
    row = connection.execute(found).mappings().one_or_none()
    if row is None:
        raise NotFound("this account has no template by this id")
    return _opened(row, ring)


def longest_call_of(connection: Connection, *, account_id: str, template_id: int | None) -> int | None:
    """For how many seconds the calls of a template may last; None where it, or no template, says nothing."""
    if template_id is None:
        return None
    this = (templates.c.account_id == account_id, templates.c.id == template_id)
    said = cast(templates.c.config["maxDurationSeconds"].astext, Integer)
    return connection.execute(select(said).where(*this)).scalar_one_or_none()


def name_of(connection: Connection, *, account_id: str, template_id: int | None) -> str | None:
    """The name of a template of this account, also of a deleted one; None for none."""
    this = (templates.c.account_id == account_id) & (templates.c.id == template_id)
    return connection.execute(select(templates.c.name).where(this)).scalar_one_or_none()


def of_ids(connection: Connection, ring: KeyRing, *, account_id: str, ids: Sequence[int]) -> list[Template]:
    """Those of these templates of an account that are not deleted, in the order they were made."""
    found = _active(account_id).where(templates.c.id.in_(ids)).order_by(templates.c.id)
    return [_opened(row, ring) for row in connection.execute(found).mappings()]


def id_of_agent(connection: Connection, *, account_id: str, provider: str, agent_id: str) -> int | None:
    """The template of this account that has this agent, unless it is deleted: an agent belongs to one alone."""
    mine = (templates.c.account_id == account_id, templates.c.deleted_at.is_(None))
    this = (templates.c.provider == provider, templates.c.agent_id == agent_id)
    return connection.execute(select(templates.c.id).where(*mine, *this)).scalar_one_or_none()


def update(
    connection: Connection,
    ring: KeyRing,
    *,
    account_id: str,
    template_id: int,
    client_webhook_url: str | UnsetType | None = UNSET,
    webhook_secret: str | UnsetType | None = UNSET,
    name: str | UnsetType = UNSET,
    type: TemplateType | UnsetType = UNSET,  # noqa: A002  the field's name in the API
    config: Mapping[str, Any] | UnsetType = UNSET,
    agent_id: str | UnsetType | None = UNSET,
    content_retention_hours: int | UnsetType | None = UNSET,
    rate_card_id: str | UnsetType | None = UNSET,
    delivery_headers: Mapping[str, str] | UnsetType = UNSET,
    signing: Signing | UnsetType = UNSET,
    deadline_seconds: int | UnsetType = UNSET,
) -> NewTemplate:
    """Change what is given and leave the rest; `config` is replaced as a whole. Raises as `create` does.

    A secret of None is replaced by a generated one. The one before it is good for FORMER_SECRET more, for calls under
    way, or until an agent that was made here no longer needs it (`voice_agents.synced`); the one before that is good no
    more. A URL of None unbinds the endpoint: nothing new goes there, what already waits still does. `endpoint` in the
    answer is the one that was made, if a first URL was given. The last three have no effect without an endpoint.
    """
    accounts.changed(connection, account_id)
    old = get(connection, ring, account_id=account_id, template_id=template_id)
    secret = new_webhook_secret() if webhook_secret is None else webhook_secret
    endpoint = None
    values: dict[str, Any] = {
        "name": name,
        "type": type,
        "config": UNSET if isinstance(config, UnsetType) else dict(config),
        "agent_id": agent_id,
        "content_retention_hours": content_retention_hours,
        "rate_card_id": rate_card_id,
    }
    values = {name: value for name, value in values.items() if value is not UNSET}
    if client_webhook_url is None:
        values["endpoint_id"] = None
    elif old.endpoint_id is not None:
        endpoints.update(
            connection,
            ring,
            account_id=account_id,
            endpoint_id=old.endpoint_id,
            url=client_webhook_url,
            headers=delivery_headers,
            webhook_secret=secret,
            signing=signing,
            deadline_seconds=deadline_seconds,
            retention_hours=content_retention_hours,
        )
    elif client_webhook_url is not UNSET:
        endpoint = endpoints.create(
            connection,
            ring,
            account_id=account_id,
            url=client_webhook_url,
            headers=delivery_headers or {},
            webhook_secret=secret or old.webhook_secret,
            signing=signing or "standard",
            deadline_seconds=deadline_seconds or endpoints.DEADLINE_SECONDS,
            retention_hours=values.get("content_retention_hours", old.content_retention_hours),
            template_id=template_id,
        )
        values["endpoint_id"] = endpoint.id
    if secret is not UNSET:
        values["sealed_secret"] = sealed.seal(ring, secret, purpose=sealed.TEMPLATE, row_id=template_id)
        if secret != old.webhook_secret:
            values["former_secret_hashes"] = ring.lookup_hashes(old.webhook_secret)
            values["former_secret_until"] = func.now() + FORMER_SECRET
    changed = templates.update().where(templates.c.id == template_id).values(updated_at=func.now(), **values)
    with _one_template_for_an_agent():
        connection.execute(changed)
    return NewTemplate(get(connection, ring, account_id=account_id, template_id=template_id), endpoint)


def delete(connection: Connection, *, account_id: str, template_id: int) -> None:
    """Take a template out of service. Raises NotFound.

    Its sessions and charges stay; what waits is still sent, and so are, for `sessions.AWAITED`, the events of calls
    that were under way.
    """
    accounts.changed(connection, account_id)
    this = (templates.c.account_id == account_id) & (templates.c.id == template_id) & templates.c.deleted_at.is_(None)
    if not connection.execute(templates.update().where(this).values(deleted_at=func.now())).rowcount:
        raise NotFound("this account has no template by this id")


@contextmanager
def _one_template_for_an_agent() -> Iterator[None]:
    try:
        with translated():
            yield
    except Conflict as error:
        if error.constraint != _ONE_TEMPLATE:
            raise
        text = "another template of this account has this agent; its events can go to one of them only"
        raise Conflict(text, code="agent_taken", field="agentId", constraint=_ONE_TEMPLATE) from None


def _active(account_id: str) -> Select[Any]:
    joined = templates.outerjoin(endpoint_rows, templates.c.endpoint_id == endpoint_rows.c.id)
    of_endpoint = (endpoint_rows.c.sealed_config, endpoint_rows.c.signing, endpoint_rows.c.deadline_seconds)
    statement = select(*(templates.c[name] for name in _SHOWN), *of_endpoint).select_from(joined)
    return statement.where(templates.c.account_id == account_id, templates.c.deleted_at.is_(None))


def _opened(row: RowMapping, ring: KeyRing) -> Template:
    plain = dict(row)
    raw, url, headers = plain.pop("sealed_config"), None, None
    if raw is not None:
        target = sealed.unseal(ring, raw, Target, purpose=sealed.ENDPOINT, row_id=plain["endpoint_id"])
        url, headers = target.url, target.headers
    secret = sealed.unseal(ring, plain.pop("sealed_secret"), str, purpose=sealed.TEMPLATE, row_id=plain["id"])
    return Template(**plain, client_webhook_url=url, webhook_secret=secret, delivery_headers=headers)
