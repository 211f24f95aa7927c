"""What has happened to an account: events that ended at its endpoints as a test wants them to, recorded and charged."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import select

from relay.calls import CallEvent, Ending, Facts, derived_session_id
from relay.outbox import Admission, Claim, Outbox, Room, Settlement, Unit, Verb, keys
from relay.outbox.outcomes import (
    AttemptOutcome,
    DeliveryStatus,
    OutcomeReader,
    decode_facts,
    encode_facts,
    encode_outcome,
)
from relay.sealing import KeyRing, open_event, seal_event
from relay.store import tables
from relay.store.ids import new_id
from tests.integration.api.conftest import Api, Customer
from workers.charge import ChargeLane
from workers.record import RecordLane

SAID: Final = b'{"said":"the first time"}'
_HOOK: Final = "http://127.0.0.1:9/hook"
_RETENTION_MS: Final = 96 * 3_600_000
_VERBS: Final[dict[DeliveryStatus, Verb]] = {
    "pending": Verb.RETRY, "delivered": Verb.DONE, "dead": Verb.DEAD, "content_lost": Verb.LOST,
}  # fmt: skip
_numbers = itertools.count(1)


class Past:
    """Makes it, for the account of the test unless another owner is named."""

    def __init__(self, api: Api, owner: Customer | None = None) -> None:
        self.api = api
        self.owner = owner or api.account
        self.outbox = Outbox(api.redis)
        self.ring = KeyRing(api.settings.keys)
        self._record = RecordLane(OutcomeReader(api.redis, consumer="past"), api.database, on_gone=lambda *_: None)
        self._charge = ChargeLane(self.outbox, api.database)

    def endpoint(self, **options: Any) -> str:
        """An endpoint of the account; its id."""
        answer = self.api.post("/api/v1/endpoints", {"url": _HOOK, **options}, key=self.owner.key)
        assert answer.status_code == 201, answer.get_data(as_text=True)
        return str(answer.get_json()["id"])

    def event(
        self,
        ends: Mapping[str, DeliveryStatus | None],
        *,
        code: str = "http_500",
        is_charged: bool = True,
        **of: Any,
    ) -> str:
        """An event that ended so at these endpoints, after one attempt each (None: it waits untried); its id.

        Everything is recorded, and charged where that is due.
        """
        event_id = self.accepted(ends, **of)
        self.end(event_id, {key: status for key, status in ends.items() if status is not None}, code=code)
        self.record(is_charged=is_charged)
        return event_id

    def accepted(
        self,
        endpoints: Iterable[str],
        *,
        conversation_id: str = "",
        session_id: int | None = None,
        provider: str = "elevenlabs",
        kind: str = "post_call_transcription",
        livemode: bool = True,
        hours_ago: float = 0,
    ) -> str:
        """An event that was accepted for these endpoints, and no more; its id.

        It ends a call of 91 s if it is a transcription or an analysis.
        """
        event_id = new_id("evt")
        conversation_id = conversation_id or f"conv_{next(_numbers)}"
        ending = Ending(status="completed", duration_seconds="91", started_at_ms=1_794_999_900_000)
        is_end = kind in ("post_call_transcription", "call_analyzed")
        call = CallEvent(
            provider=provider,
            kind=kind,
            event_class="complete" if is_end else "event",
            conversation_id=conversation_id,
            ending=ending if is_end else None,
            livemode=livemode,
        )
        facts = Facts(
            event_id=event_id,
            account_id=self.owner.id,
            call=call,
            session_id=session_id or derived_session_id(self.owner.id, provider, conversation_id),
            accepted_at_ms=int((datetime.now(UTC) - timedelta(hours=hours_ago)).timestamp() * 1000),
        )
        units = [Unit("relay", endpoint_id) for endpoint_id in endpoints]
        if is_end and livemode:
            units.append(Unit("billing", self.owner.id))
        sealed = seal_event(self.ring, SAID, event_id=event_id, account_id=self.owner.id)
        sizes = (_RETENTION_MS, _RETENTION_MS - 3_600_000, 10**9)
        self.outbox.accept([Admission(event_id, self.owner.id, encode_facts(facts), sealed, *sizes, tuple(units))])
        return event_id

    def end(self, event_id: str, ends: Mapping[str, DeliveryStatus], *, code: str = "http_500") -> None:
        """Have deliveries of an event end so after an attempt; what else is due goes on waiting."""
        claims = self.claims()
        mine = [claim for claim in claims if claim.event_id == event_id and claim.key in ends]
        others = [Settlement(claim, Verb.RELEASE) for claim in claims if claim not in mine]
        done = [self.settlement(claim, ends[claim.key], code) for claim in mine]
        assert {claim.key for claim in mine} == set(ends)
        assert set(self.outbox.settle("relay", [*others, *done])) <= {"ok"}

    def claims(self) -> tuple[Claim, ...]:
        """What is due."""
        return self.outbox.claim("relay", Room(10_000), alone=False, content=True).units

    def waiting(self, event_id: str) -> dict[str, Claim]:
        """What is due of an event, by endpoint; it goes on waiting. Nothing is unaccounted."""
        claims = self.claims()
        self.outbox.settle("relay", [Settlement(claim, Verb.RELEASE) for claim in claims])
        assert self.outbox.audit("relay").unaccounted == 0
        return {claim.key: claim for claim in claims if claim.event_id == event_id}

    def content(self, claim: Claim) -> bytes:
        """What would be delivered."""
        assert claim.sealed is not None
        return open_event(self.ring, claim.sealed, event_id=claim.event_id, account_id=self.owner.id)

    def record(self, *, is_charged: bool = True) -> None:
        """Have Postgres catch up with the outbox."""
        while self._record.step():
            pass
        while is_charged and self._charge.step():
            pass

    def kept(self, event_id: str) -> bool:
        """Whether content of an event is in the outbox."""
        return bool(self.api.redis.exists(keys.sealed(event_id)))

    def charges(self) -> list[Any]:
        """The ledger of the account."""
        with self.api.database.begin() as connection:
            found = select(tables.ledger).where(tables.ledger.c.account_id == self.owner.id)
            return list(connection.execute(found.order_by(tables.ledger.c.id)).mappings())

    def audited(self) -> list[tuple[str, str, str]]:
        """Actor, action and object of the account's replays and erasures, oldest first."""
        with self.api.database.begin() as connection:
            found = select(tables.audit).where(tables.audit.c.account_id == self.owner.id).order_by(tables.audit.c.id)
            rows = connection.execute(found).mappings().all()
        wanted = ("delivery.replayed", "session.content_erased")
        return [(row["actor"], row["action"], row["object_id"]) for row in rows if row["action"] in wanted]

    def settlement(self, claim: Claim, status: DeliveryStatus, code: str = "http_500") -> Settlement:
        """What an attempt makes of a claim that ended so, or is to be tried again in an hour."""
        is_failure = status != "delivered"
        facts = decode_facts(claim.facts, event_id=claim.event_id, account_id=self.owner.id)
        outcome = AttemptOutcome(
            event_id=claim.event_id,
            endpoint_id=claim.key,
            account_id=self.owner.id,
            accepted_ms=facts.accepted_at_ms,
            number=claim.attempts + 1,
            status=status,
            code=code if is_failure else None,
            detail="connect_failed" if is_failure else None,
            http_status=None if code == "unreachable" else 500 if is_failure else 204,
            duration_ms=42,
            response_bytes=7,
            retry_in_ms=3_600_000 if status == "pending" else None,
        )
        return Settlement(claim, _VERBS[status], delay_ms=3_600_000, attempted=True, outcome=encode_outcome(outcome))
