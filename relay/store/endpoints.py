"""Endpoints: where a customer takes deliveries. URLs are checked by the caller, before they come here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, RowMapping, func, select

from relay.errors import NotFound
from relay.sealing import KeyRing
from relay.store import accounts, sealed
from relay.store.ids import new_id, new_signing_secret, new_webhook_secret
from relay.store.sealed import Target
from relay.store.snapshot import EndpointState, Signing
from relay.store.tables import endpoints

EVERYTHING: Final = ("*",)
DEADLINE_SECONDS: Final = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One destination. Bound to a template or a source, or else account-wide; `signing_secrets` has the newest first.

    `retention_hours` None means the setting's default; `failure_when` is the path of the field that makes a 2xx answer
    a failure, if there is one.
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
        "template_id": template_id,
        "source_id": source_id,
    }
    return _opened(connection.execute(endpoints.insert().values(row).returning(*endpoints.c)).mappings().one(), ring)


def get(connection: Connection, ring: KeyRing, *, account_id: str, endpoint_id: str) -> Endpoint:
    """Raises NotFound, also for an endpoint of another account."""
    found = select(endpoints).where(endpoints.c.account_id == account_id, endpoints.c.id == endpoint_id)
    return _found(connection.execute(found).mappings().one_or_none(), ring)


def of_account(connection: Connection, ring: KeyRing, *, account_id: str) -> list[Endpoint]:
    """All endpoints of an account in any state, oldest first."""
    mine = select(endpoints).where(endpoints.c.account_id == account_id)
    found = mine.order_by(endpoints.c.created_at, endpoints.c.id)
    return [_opened(row, ring) for row in connection.execute(found).mappings()]


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
) -> Endpoint:
    """Change what is given and leave the rest. What already waits goes to the new URL. Raises NotFound."""
    plain = _given(
        filters=filters,
        signing=signing,
        deadline_seconds=deadline_seconds,
        retention_hours=retention_hours,
        failure_when=failure_when,
    )
    hidden = _given(url=url, headers=headers, webhook_secret=webhook_secret)
    return _update(connection, ring, account_id, endpoint_id, plain=plain, hidden=hidden)


def rotate(connection: Connection, ring: KeyRing, *, account_id: str, endpoint_id: str, keep: int = 1) -> Endpoint:
    """Put a new signing secret in front; the `keep` newest old ones go on signing beside it. Raises NotFound."""
    accounts.changed(connection, account_id)
    old = get(connection, ring, account_id=account_id, endpoint_id=endpoint_id).signing_secrets
    again = {"signing_secrets": (new_signing_secret(), *old[:keep])}
    return _update(connection, ring, account_id, endpoint_id, hidden=again)


def set_state(connection: Connection, *, account_id: str, endpoint_id: str, state: EndpointState) -> None:
    """Say whether deliveries go here; `gone` is an endpoint that answered 410. Raises NotFound."""
    accounts.changed(connection, account_id)
    moment = None if state == "active" else func.coalesce(endpoints.c.disabled_at, func.now())
    this = (endpoints.c.account_id == account_id) & (endpoints.c.id == endpoint_id)
    if not connection.execute(endpoints.update().where(this).values(state=state, disabled_at=moment)).rowcount:
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
    this = (endpoints.c.account_id == account_id) & (endpoints.c.id == endpoint_id)
    raw = connection.execute(select(endpoints.c.sealed_config).where(this)).scalar_one_or_none()
    if raw is None:
        raise _unknown()
    old = sealed.unseal(ring, raw, Target, purpose=sealed.ENDPOINT, row_id=endpoint_id)
    target = msgspec.structs.replace(old, **(hidden or {}))
    again = sealed.seal(ring, target, purpose=sealed.ENDPOINT, row_id=endpoint_id)
    updated = endpoints.update().where(this).values(sealed_config=again, **(plain or {})).returning(*endpoints.c)
    return _opened(connection.execute(updated).mappings().one(), ring)


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


def count_disabled(connection: Connection) -> int:
    """How many endpoints, of all accounts, take no deliveries."""
    return int(connection.execute(select(func.count()).where(endpoints.c.state != "active")).scalar_one())
