"""Sessions that were made before their calls become active when the calls begin, in any order of what is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pytest
import redis
from sqlalchemy import text

from relay.calls import CallEvent, Ending, Facts, derived_session_id
from relay.outbox import Admission, Outbox, Unit
from relay.outbox.outcomes import OutcomeReader, encode_facts
from relay.queues import BILLING
from relay.store import accounts, charges, rate_cards, sessions
from relay.store.database import Database
from workers.charge import ChargeLane
from workers.record import RecordLane

HOUR_MS = 3_600_000
EPOCH_SECONDS = 1_795_000_000


@dataclass(slots=True)
class Stage:
    """The lanes on real servers, and one pending session of an account at 0.10 USD a minute."""

    outbox: Outbox
    database: Database
    records: RecordLane
    account_id: str
    session_id: int
    _told: list[str] = field(default_factory=list)

    def tell(
        self,
        kind: str,
        *,
        at_seconds: int,
        conversation: str = "call_1",
        provider: str = "retell",
        account_id: str = "",
        session_id: int = 0,
        livemode: bool = True,
    ) -> None:
        """Accept `call_started`, a turn, or the end of the session's call."""
        ending = Ending(status="completed", duration_seconds="60") if kind == "call_ended" else None
        call = CallEvent(
            provider=provider,
            kind=kind,
            event_class="event",
            conversation_id=conversation,
            occurred_at_ms=(EPOCH_SECONDS + at_seconds) * 1000,
            ending=ending,
            begins=kind == "call_started",
            livemode=livemode,
        )
        facts = Facts(call=call, session_id=session_id or self.session_id, accepted_at_ms=(EPOCH_SECONDS + 99) * 1000)
        self._told.append(f"evt_{len(self._told)}")
        owner = account_id or self.account_id
        units = (Unit(BILLING, owner),) if ending else ()
        kept = encode_facts(facts)
        self.outbox.accept([Admission(self._told[-1], owner, kept, b"", 96 * HOUR_MS, 95 * HOUR_MS, 1 << 30, units)])

    def record(self) -> None:
        """Run the record lane until it has nothing more, which it may say twice."""
        for _ in range(3):
            while self.records.step():
                pass

    def charge(self) -> None:
        """Run the billing lane once."""
        ChargeLane(self.outbox, self.database).step()

    def state(self, session_id: int = 0) -> tuple[str, float | None]:
        """A session's status, and when it began, in seconds."""
        with self.database.begin() as connection:
            found = sessions.get(connection, account_id=self.account_id, session_id=session_id or self.session_id)
        return found.status, None if found.started_at is None else found.started_at.timestamp() - EPOCH_SECONDS

    def alter(self, **columns: str) -> None:
        """Change the session's row behind everybody's back."""
        (name, value), *_ = columns.items()
        with self.database.begin() as connection:
            connection.execute(text(f"UPDATE sessions SET {name} = :value"), {"value": value})


@pytest.fixture
def stage(redis_client: redis.Redis, database: Database) -> Stage:
    """A stage on empty servers."""
    with database.begin() as connection:
        account_id = accounts.create(connection, name="Acme").id
        rate_cards.add(connection, account_id, per_minute=Decimal("0.10"))
        session = sessions.create(connection, account_id=account_id, provider="retell")
    records = RecordLane(OutcomeReader(redis_client, consumer="test"), database, on_gone=lambda *_: None)
    return Stage(Outbox(redis_client), database, records, account_id, session.id)


def test_pending_session_becomes_active_when_its_call_begins(stage: Stage) -> None:
    """A turn alone leaves it pending; the beginning is noted with its moment, and nobody else's session is touched."""
    with stage.database.begin() as connection:
        neighbour = sessions.create(connection, account_id=stage.account_id, provider="retell").id
    stage.tell("transcript_updated", at_seconds=3)
    stage.record()
    assert stage.state() == ("pending", None)
    stage.tell("call_started", at_seconds=1)
    stage.record()
    assert stage.state() == ("active", 1)
    assert stage.state(neighbour) == ("pending", None)


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize("moments", [(1, 5, 9), (9, 5, 1), (5, 1, 9), (1, 1, 1)])
def test_earliest_beginning_counts_in_any_order(stage: Stage, moments: tuple[int, ...], in_one_batch: bool) -> None:
    """Agents tell of a running call again and again, and their words overtake each other."""
    stage.record()  # makes the group
    for number, moment in enumerate(moments):
        stage.tell("call_started", at_seconds=moment, conversation=f"call_{number}")
        if not in_one_batch:
            stage.record()
    stage.record()
    assert stage.state() == ("active", 1)


@pytest.mark.parametrize("charged_first", [True, False])
def test_ended_session_stays_ended_when_its_beginning_comes_late(stage: Stage, charged_first: bool) -> None:
    """Billing and the record lane run side by side: whichever is first, the session is completed and charged."""
    stage.tell("call_ended", at_seconds=60)
    stage.tell("call_started", at_seconds=0)
    for step in (stage.charge, stage.record) if charged_first else (stage.record, stage.charge):
        step()
    assert stage.state()[0] == "completed"
    with stage.database.begin() as connection:
        [charge] = charges.page(connection, account_id=stage.account_id)
    assert charge.session_id == stage.session_id


@pytest.mark.parametrize("status", ["completed", "failed", "abandoned"])
def test_beginning_changes_no_session_that_has_ended(stage: Stage, status: str) -> None:
    """Neither its status nor its times."""
    stage.alter(status=status)
    stage.tell("call_started", at_seconds=1)
    stage.record()
    assert stage.state() == (status, None)


def test_beginning_finds_its_session_by_the_conversation(stage: Stage) -> None:
    """A provider that named the call when it was made need not name the session again, and no second one is made."""
    stage.alter(conversation_id="call_1")
    derived = derived_session_id(stage.account_id, "retell", "call_1")
    stage.tell("call_started", at_seconds=1, session_id=derived)
    stage.record()
    assert stage.state() == ("active", 1)
    with stage.database.begin() as connection:
        assert len(sessions.page(connection, account_id=stage.account_id)) == 1


def test_beginning_elsewhere_begins_nothing_here(stage: Stage) -> None:
    """The same number in another account, at another provider, or in test traffic is not this session."""
    stage.tell("call_started", at_seconds=1, account_id="another")
    stage.tell("call_started", at_seconds=1, provider="elevenlabs")
    stage.tell("call_started", at_seconds=1, livemode=False)
    stage.record()
    assert stage.state() == ("pending", None)


def test_session_first_seen_in_a_webhook_knows_when_it_began(stage: Stage) -> None:
    """A turn that overtook the beginning made the row; the beginning completes it."""
    seen = derived_session_id(stage.account_id, "retell", "call_1")
    stage.tell("transcript_updated", at_seconds=3, session_id=seen)
    stage.record()
    assert stage.state(seen) == ("active", None)
    stage.tell("call_started", at_seconds=1, session_id=seen)
    stage.record()
    assert stage.state(seen) == ("active", 1)
