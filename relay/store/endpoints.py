"""Endpoints: where a customer takes deliveries. URLs are checked by the caller, before they come here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import ColumnElement, Connection, RowMapping, func, select

from relay.errors import Conflict, NotFound
from relay.sealing import KeyRing
from relay.store import accounts, sealed
from relay.store.ids import new_id, new_signing_secret, new_webhook_secret
from relay.store.pages import Place, following
from relay.store.sealed import Target
from relay.store.sessions import AWAITED
from relay.store.snapshot import EndpointState, Signing
from relay.store.tables import deliveries, endpoints, templates

EVERYTHING: Final = ("*",)
DEADLINE_SECONDS: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One destination. Bound to a template or a source, or else account-wide; `signing_secrets` has the newest first.

    `retention_hours` None means the setting's default; `failure_when` is the path of the field that makes a 2xx answer
    a failure, if there is one. An `operations` one hears of the account's budgets and statements, and of no calls.
    """

    id: str
    account_id: str
    url: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    webhook_secret: str = field(repr=False)
    signing_secrets: tuple[str, ...] = field(repr=False)
    signing: Signing
    filters: tuple[str, ...]
    deadline_seconds: int
    retention_hours: int | None
    template_id: int | None
    source_id: str | None
    state: EndpointState
    created_at: datetime
    disabled_at: datetime | None
    failure_when: str | None
    overlap_until: datetime | None
    deleted_at: datetime | None
    operations: bool


def create(
    connection: Connection,
    ring: KeyRing,
    *,
    account_id: str,
    url: str,
    filters: Sequence[str] = EVERYTHING,
    headers: Mapping[str, str] | None = None,
    webhook_secret: str | None = None,
    signing_secret: str | None = None,
    signing: Signing = "standard",
    deadline_seconds: int = DEADLINE_SECONDS,
    retention_hours: int | None = None,
    failure_when: str | None = None,
    operations: bool = False,
    template_id: int | None = None,
    source_id: str | None = None,
    endpoint_id: str | None = None,
) -> Endpoint:
    """Make an endpoint; secrets that are not given are generated.

    Raises NotFound for an account that does not exist, or a template or source that is not this account's.
    """
    accounts.changed(connection, account_id)
    endpoint_id = endpoint_id or new_id("ep")
    target = Target(
        url=url,
        headers=dict(headers or {}),
        webhook_secret=webhook_secret or new_webhook_secret(),
        signing_secrets=(signing_secret or new_signing_secret(),),
    )
    row = {
        "id": endpoint_id,
        "account_id": account_id,
        "sealed_config": sealed.seal(ring, target, purpose=sealed.ENDPOINT, row_id=endpoint_id),
        "filters": list(filters),
        "signing": signing,
        "deadline_seconds": deadline_seconds,
        "retention_hours": retention_hours,
        "failure_when": failure_when,
        "operations": operations,
        "template_id": template_id,
        "source_id": source_id,
    }
    return _opened(connection.execute(endpoints.insert().values(row).returning(*endpoints.c)).mappings().one(), ring)


def get(connection: Connection, ring: KeyRing, *, account_id: str, endpoint_id: str) -> Endpoint:
    """Raises NotFound, also for an endpoint that is deleted or another account's."""
    found = select(endpoints).where(*_this(account_id, endpoint_id))
    return _found(connection.execute(found).mappings().one_or_none(), ring)


def of_account(
    connection: Connection, ring: KeyRing, *, account_id: str, after: Place | None = None, limit: int | None = None
) -> list[Endpoint]:
    """The endpoints of an account that are not deleted, in any state, oldest first."""
    mine = select(endpoints).where(endpoints.c.account_id == account_id, endpoints.c.deleted_at.is_(None))
    found = connection.execute(following(mine, endpoints, after=after, limit=limit))
    return [_opened(row, ring) for row in found.mappings()]


def update(
    connection: Connection,
    ring: KeyRing,
    *,
    account_id: str,
    endpoint_id: str,
    url: str | UnsetType = UNSET,
    headers: Mapping[str, str] | UnsetType = UNSET,
    webhook_secret: str | UnsetType = UNSET,
    filters: Sequence[str] | UnsetType = UNSET,
    signing: Signing | UnsetType = UNSET,
    deadline_seconds: int | UnsetType = UNSET,
    retention_hours: int | UnsetType | None = UNSET,
    failure_when: str | UnsetType | None = UNSET,
    operations: bool | UnsetType = UNSET,
) -> Endpoint:
    """Change what is given and leave the rest. What already waits goes to the new URL. Raises NotFound."""
    plain = _given(
        filters=filters,
        signing=signing,
        deadline_seconds=deadline_seconds,
        retention_hours=retention_hours,
        failure_when=failure_when,
        operations=operations,
    )
    hidden = _given(url=url, headers=headers, webhook_secret=webhook_secret)
    return _update(connection, ring, account_id, endpoint_id, plain=plain, hidden=hidden)


def rotate(
    connection: Connection,
    ring: KeyRing,
    *,
    account_id: str,
    endpoint_id: str,
    keep: int = 1,
    overlap: timedelta | None = None,
    webhook_secret: bool = False,
) -> Endpoint:
    """Put a new signing secret in front; the `keep` newest old ones go on signing beside it. Raises NotFound.

    They do so until `end_overlap` is called after the `overlap`, or for good without one. With `webhook_secret` that is
    replaced as well, at once.
    """
    accounts.changed(connection, account_id)
    old = get(connection, ring, account_id=account_id, endpoint_id=endpoint_id).signing_secrets
    hidden: dict[str, Any] = {"signing_secrets": (new_signing_secret(), *old[:keep])}
    if webhook_secret:
        hidden["webhook_secret"] = new_webhook_secret()
    plain = {"overlap_until": None if overlap is None or not keep else func.now() + overlap}
    return _update(connection, ring, account_id, endpoint_id, plain=plain, hidden=hidden)


def ended_overlaps(connection: Connection) -> list[tuple[str, str]]:
    """Account and id of every endpoint whose older signing secrets have signed for long enough."""
    over = select(endpoints.c.account_id, endpoints.c.id).where(endpoints.c.overlap_until <= func.now())
    return [(row.account_id, row.id) for row in connection.execute(over.order_by(*over.selected_columns))]


def end_overlap(
    connection: Connection, ring: KeyRing, *, account_id: str, endpoint_id: str
) -> tuple[Endpoint, Endpoint]:
    """Let the newest signing secret sign alone; the endpoint before and after. Raises NotFound if that is not due."""
    accounts.changed(connection, account_id)
    due = select(endpoints).where(*_this(account_id, endpoint_id), endpoints.c.overlap_until <= func.now())
    before = _found(connection.execute(due).mappings().one_or_none(), ring)
    newest = {"signing_secrets": before.signing_secrets[:1]}
    return before, _update(connection, ring, account_id, endpoint_id, plain={"overlap_until": None}, hidden=newest)


def set_state(connection: Connection, *, account_id: str, endpoint_id: str, state: EndpointState) -> None:
    """Say whether deliveries go here; `gone` is an endpoint that answered 410. Raises NotFound."""
    accounts.changed(connection, account_id)
    moment = None if state == "active" else func.coalesce(endpoints.c.disabled_at, func.now())
    changed = endpoints.update().where(*_this(account_id, endpoint_id)).values(state=state, disabled_at=moment)
    if not connection.execute(changed).rowcount:
        raise _unknown()


def delete(connection: Connection, ring: KeyRing, *, account_id: str, endpoint_id: str) -> None:
    """Take an endpoint away and forget its URL, headers and secrets; records of its deliveries stay. Raises NotFound.

    Raises Conflict `endpoint_of_template` for the one that a template sends to: it goes when the template's URL does.
    """
    accounts.changed(connection, account_id)
    named = select(templates.c.id).where(
        templates.c.account_id == account_id, templates.c.endpoint_id == endpoint_id, templates.c.deleted_at.is_(None)
    )
    if connection.execute(named).first() is not None:
        text = "a template sends here; change or remove its clientWebhookUrl instead"
        raise Conflict(text, code="endpoint_of_template")
    moment = func.coalesce(endpoints.c.disabled_at, func.now())
    gone = endpoints.update().where(*_this(account_id, endpoint_id))
    nothing = Target(url="", webhook_secret="", signing_secrets=())
    values = {
        "sealed_config": sealed.seal(ring, nothing, purpose=sealed.ENDPOINT, row_id=endpoint_id),
        "state": "gone",
        "disabled_at": moment,
        "deleted_at": func.now(),
        "overlap_until": None,
    }
    if not connection.execute(gone.values(values)).rowcount:
        raise _unknown()


def _update(
    connection: Connection,
    ring: KeyRing,
    account_id: str,
    endpoint_id: str,
    *,
    plain: Mapping[str, object] | None = None,
    hidden: Mapping[str, Any] | None = None,
) -> Endpoint:
    # The account's lock makes reading the sealed part, changing it and writing it back one step.
    accounts.changed(connection, account_id)
    this = _this(account_id, endpoint_id)
    raw = connection.execute(select(endpoints.c.sealed_config).where(*this)).scalar_one_or_none()
    if raw is None:
        raise _unknown()
    old = sealed.unseal(ring, raw, Target, purpose=sealed.ENDPOINT, row_id=endpoint_id)
    target = msgspec.structs.replace(old, **(hidden or {}))
    again = sealed.seal(ring, target, purpose=sealed.ENDPOINT, row_id=endpoint_id)
    updated = endpoints.update().where(*this).values(sealed_config=again, **(plain or {})).returning(*endpoints.c)
    return _opened(connection.execute(updated).mappings().one(), ring)


def _this(account_id: str, endpoint_id: str) -> tuple[ColumnElement[bool], ...]:
    return endpoints.c.account_id == account_id, endpoints.c.id == endpoint_id, endpoints.c.deleted_at.is_(None)


def _given(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not UNSET}


def _unknown() -> NotFound:
    return NotFound("this account has no endpoint by this id")


def _found(row: RowMapping | None, ring: KeyRing) -> Endpoint:
    if row is None:
        raise _unknown()
    return _opened(row, ring)


def _opened(row: RowMapping, ring: KeyRing) -> Endpoint:
    plain = dict(row)
    target = sealed.unseal(ring, plain.pop("sealed_config"), Target, purpose=sealed.ENDPOINT, row_id=plain["id"])
    return Endpoint(
        **plain | {"filters": tuple(plain["filters"])},
        url=target.url,
        headers=target.headers,
        webhook_secret=target.webhook_secret,
        signing_secrets=target.signing_secrets,
    )


class Unused(NamedTuple):
    """An endpoint of a template that has given it up, or is gone itself."""

    account_id: str
    endpoint_id: str


def unused(connection: Connection, *, limit: int) -> list[Unused]:
    """Endpoints that no template has sent to for `sessions.AWAITED`, and that nothing waits for."""
    gone = templates.c.deleted_at < func.now() - AWAITED
    given_up = templates.c.endpoint_id.is_distinct_from(endpoints.c.id) & (
        templates.c.updated_at < func.now() - AWAITED
    )
    joined = endpoints.join(
        templates,
        (endpoints.c.template_id == templates.c.id) & (endpoints.c.account_id == templates.c.account_id),
    )
    waiting = select(deliveries.c.event_id).where(
        deliveries.c.endpoint_id == endpoints.c.id, deliveries.c.status == "pending"
    )
    found = select(endpoints.c.account_id, endpoints.c.id).select_from(joined)
    this = (endpoints.c.deleted_at.is_(None), gone | given_up, ~waiting.exists())
    return [Unused(*row) for row in connection.execute(found.where(*this).order_by(endpoints.c.id).limit(limit))]


def count_disabled(connection: Connection) -> int:
    """How many endpoints, of all accounts, take no deliveries."""
    idle = select(func.count()).where(endpoints.c.state != "active", endpoints.c.deleted_at.is_(None))
    return int(connection.execute(idle).scalar_one())
