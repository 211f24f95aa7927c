"""A test event: Switchhook's own words to one endpoint, on the way that a provider's take, so that it can be tried.

It is no call: never charged, no session, and its body is ours. It is tried for an hour and then forgotten.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

import msgspec

from relay.calls import SWITCHHOOK, CallEvent, Facts, derived_session_id, event_id
from relay.delivery.envelope import iso_utc
from relay.delivery.retry import retry_window
from relay.errors import Conflict, OverQuota, Unavailable
from relay.outbox import Admission, Outbox, Unit, Verdict
from relay.outbox.outcomes import encode_facts
from relay.queues import RELAY
from relay.sealing import KeyRing, seal_event
from relay.store import accounts, endpoints, templates
from relay.store.database import Database
from relay.store.endpoints import Endpoint
from relay.store.ids import new_id

KIND: Final = "test"
TYPE: Final = f"{SWITCHHOOK}.{KIND}"
_RETENTION: Final = timedelta(hours=1)
_MILLISECOND: Final = timedelta(milliseconds=1)


def trial(endpoint: Endpoint, ring: KeyRing, *, quota_bytes: int, template_name: str | None = None) -> Admission:
    """A test event for this endpoint alone, whatever its filter takes, ready for the outbox.

    `quota_bytes` is its account's; `template_name` that of the template that the endpoint belongs to. Raises Conflict
    `endpoint_disabled` for an endpoint that takes nothing.
    """
    if endpoint.state != "active":
        raise Conflict("this endpoint takes no deliveries; enable it first", code="endpoint_disabled")
    now_ms = time.time_ns() // 1_000_000
    name = new_id("test")
    event = event_id(endpoint.account_id, SWITCHHOOK, endpoint.id, (name,))
    call = CallEvent(
        provider=SWITCHHOOK,
        kind=KIND,
        event_class="event",
        conversation_id=name,
        occurred_at_ms=now_ms,
        livemode=False,
    )
    facts = Facts(
        event_id=event,
        account_id=endpoint.account_id,
        call=call,
        session_id=derived_session_id(endpoint.account_id, SWITCHHOOK, name),
        accepted_at_ms=now_ms,
        template_id=endpoint.template_id,
        template_name=template_name,
    )
    body = {"type": TYPE, "endpointId": endpoint.id, "livemode": False, "createdAt": iso_utc(now_ms)}
    sealed = seal_event(ring, msgspec.json.encode(body), event_id=event, account_id=endpoint.account_id)
    return Admission(
        event_id=event,
        account_id=endpoint.account_id,
        facts=encode_facts(facts),
        sealed=sealed,
        retention_ms=_RETENTION // _MILLISECOND,
        window_ms=retry_window(_RETENTION) // _MILLISECOND,
        quota_bytes=quota_bytes,
        units=(Unit(RELAY, endpoint.id),),
    )


def trial_of(
    database: Database, ring: KeyRing, *, account_id: str, endpoint_id: str, usual_quota_bytes: int
) -> Admission:
    """A test event for one of the account's endpoints. `usual_quota_bytes` is for accounts without their own quota.

    Raises NotFound, Conflict `endpoint_disabled`, Unavailable.
    """
    with database.begin() as connection:
        account = accounts.get(connection, account_id)
        endpoint = endpoints.get(connection, ring, account_id=account_id, endpoint_id=endpoint_id)
        name = templates.name_of(connection, account_id=account_id, template_id=endpoint.template_id)
    return trial(endpoint, ring, quota_bytes=account.quota_bytes or usual_quota_bytes, template_name=name)


def send(outbox: Outbox, admission: Admission) -> None:
    """Commit a test event where no ingress is at hand. Raises OverQuota, Unavailable."""
    (verdict,) = outbox.accept([admission]).verdicts
    if verdict is Verdict.QUOTA:
        raise OverQuota
    if verdict is not Verdict.NEW:
        raise Unavailable("the event could not be stored; send it again")
