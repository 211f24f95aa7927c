"""How an event goes into the outbox: to whom, for how long, sealed as what, and whether it is billed."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Final

from relay.calls import CallEvent, Facts, fetched_event_id
from relay.content import Content
from relay.delivery.retry import retry_window
from relay.directory import AccountView
from relay.outbox import Admission, Unit
from relay.outbox.outcomes import encode_facts
from relay.queues import BILLING, RELAY
from relay.sealing import KeyRing, seal_event
from relay.settings import Settings
from relay.store.snapshot import EndpointConfig

# Content is kept at least this long: time for one attempt, even where no retention was asked for.
_SHORTEST_RETENTION: Final = timedelta(hours=1)


class Admitting:
    """Makes admissions by the settings of this process."""

    def __init__(self, settings: Settings, ring: KeyRing) -> None:
        self._ring = ring
        self._retention = settings.retention
        self._quota_bytes = settings.account_quota_bytes

    def admission(self, view: AccountView, facts: Facts, body: Content) -> Admission:
        """An event of an account, routed by this version of its configuration."""
        event, account_id = facts.event_id, facts.account_id
        endpoints = view.route(facts.call.type, template_id=facts.template_id, source_id=facts.source_id)
        retention_ms, window_ms = _spans_ms(tuple(e.retention_hours for e in endpoints), self._retention)
        sealed = seal_event(self._ring, body.reveal(), event_id=event, account_id=account_id) if endpoints else b""
        return Admission(
            event_id=event,
            account_id=account_id,
            facts=encode_facts(facts),
            sealed=sealed,
            retention_ms=retention_ms,
            window_ms=window_ms,
            quota_bytes=view.quota_bytes or self._quota_bytes,
            units=_units(account_id, facts.call, endpoints),
            config_version=view.version,
            twin=fetched_event_id(facts.call, account_id=account_id) or "",
        )


@lru_cache(maxsize=1024)
def _spans_ms(hours: tuple[int | None, ...], default: timedelta) -> tuple[int, int]:
    """How long content is kept, and how long it may be tried: by the longest retention that an endpoint asks for.

    None at all still lasts one attempt.
    """
    asked = [default if one is None else timedelta(hours=one) for one in hours]
    retention = max([*asked, _SHORTEST_RETENTION])
    return _ms(retention), _ms(retry_window(retention))


def _units(account_id: str, call: CallEvent, endpoints: tuple[EndpointConfig, ...]) -> tuple[Unit, ...]:
    """One unit per endpoint, and one for billing where the event ends a real call."""
    relay = tuple(Unit(RELAY, endpoint.id) for endpoint in endpoints)
    is_billed = call.ending is not None and call.livemode
    return (*relay, Unit(BILLING, account_id)) if is_billed else relay


def _ms(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
