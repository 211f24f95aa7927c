"""Sessions, deliveries and charges as they are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from relay.errors import NotFound
from relay.store import charges, deliveries, sessions
from relay.store.database import Database
from relay.store.deliveries import Cursor
from relay.store.tables import attempts, events, ledger
from relay.store.tables import deliveries as delivery_rows
from relay.store.tables import sessions as session_rows

NOON = datetime(2031, 5, 20, 12, tzinfo=UTC)


def _json(row: object) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(row))
    return decoded


def test_sessions_that_the_api_makes_count_from_one(database: Database, account_id: str) -> None:
    """They are pending and have no conversation yet, and several may be so at once."""
    with database.begin() as connection:
        first = sessions.create(connection, account_id=account_id, provider="elevenlabs", metadata={"ticket": 7})
        second = sessions.create(connection, account_id=account_id, provider="elevenlabs", template_id=3)

        assert (first.id, second.id) == (1, 2)
        assert (first.status, first.conversation_id, first.metadata) == ("pending", None, {"ticket": 7})
        assert sessions.get(connection, account_id=account_id, session_id=2) == second
        with pytest.raises(NotFound):
            sessions.get(connection, account_id="acc_other", session_id=2)


def test_a_session_as_json(database: Database, account_id: str) -> None:
    """Names in camelCase, money as strings, seconds as numbers, times in UTC; absent stays null."""
    ended = {"duration_seconds": Decimal("91.5"), "billed_seconds": 92, "cost": Decimal("0.153333"), "currency": "USD"}
    with database.begin() as connection:
        facts = {"account_id": account_id, "id": 2**52 + 1, "provider": "retell", "conversation_id": "call_1"}
        row = {**facts, **ended, "status": "completed", "livemode": True, "charge_sequence": 0, "created_at": NOON}
        connection.execute(session_rows.insert().values(row))
        shown = _json(sessions.get(connection, account_id=account_id, session_id=2**52 + 1))

    assert shown["id"] == 4503599627370497
    assert (shown["conversationId"], shown["durationSeconds"], shown["cost"]) == ("call_1", 91.5, "0.153333")
    assert shown["createdAt"] == "2031-05-20T12:00:00Z"
    assert (shown["providerCostUsd"], shown["unratedReason"]) == (None, None)


def test_pages_of_sessions_go_from_new_to_old(database: Database, account_id: str) -> None:
    """A page begins where the one before ended, also among sessions of the same moment."""
    with database.begin() as connection:
        made = [sessions.create(connection, account_id=account_id, provider="retell", template_id=n) for n in range(5)]
        sessions.create(connection, account_id="acc_other", provider="retell")
        first = sessions.page(connection, account_id=account_id, limit=2)
        last = (first[-1].created_at, first[-1].id)
        rest = sessions.page(connection, account_id=account_id, before=last)

        assert len({session.created_at for session in made}) == 1
        assert first + rest == made[::-1]
        assert sessions.page(connection, template_id=3) == [made[3]]
        assert sessions.page(connection, status="completed") == []
        assert len(sessions.page(connection)) == 6


def _deliver(
    connection: Connection, account_id: str, number: int, *, status: str = "delivered", tries: int = 1
) -> None:
    at = NOON + timedelta(hours=number)
    unit = {"event_id": f"evt_{number}", "endpoint_id": "ep_1", "day": at.date()}
    stream_id = deliveries.sortable(f"{number}-0")
    row = {"account_id": account_id, "status": status, "attempts": tries, "accepted_at": at}
    connection.execute(delivery_rows.insert().values(**unit, **row, last_stream_id=stream_id))
    for attempt in range(1, tries + 1):
        tried = {"number": attempt, "at": at + timedelta(minutes=attempt), "code": "timeout", "duration_ms": 15_000}
        connection.execute(attempts.insert().values(**unit, **tried))


def _accept(connection: Connection, account_id: str, number: int) -> None:
    at = NOON + timedelta(hours=number)
    event = {"id": f"evt_{number}", "day": at.date(), "account_id": account_id, "accepted_at": at, "size_bytes": 10}
    call = {"provider": "retell", "kind": "call_ended", "event_class": "event", "conversation_id": "call_1"}
    connection.execute(events.insert().values(**event, **call, session_id=7, livemode=True))


def test_a_delivery_is_shown_with_its_attempts_in_order(database: Database, account_id: str) -> None:
    """And with what its event was about."""
    with database.begin() as connection:
        _accept(connection, account_id, 0)
        _deliver(connection, account_id, 0, status="dead", tries=3)
        _deliver(connection, account_id, 1)
        [delivery] = deliveries.page(connection, event_id="evt_0")
    shown = _json(delivery)

    assert [attempt["number"] for attempt in shown["history"]] == [1, 2, 3]
    assert shown["history"][0] == {
        "number": 1,
        "at": "2031-05-20T12:01:00Z",
        "httpStatus": None,
        "code": "timeout",
        "detail": None,
        "durationMs": 15000,
        "responseBytes": None,
    }
    assert (shown["type"], shown["sessionId"], shown["conversationId"]) == ("retell.call_ended", 7, "call_1")
    assert (shown["eventId"], shown["status"], shown["attempts"]) == ("evt_0", "dead", 3)


def test_a_delivery_outlives_the_record_of_its_event(database: Database, account_id: str) -> None:
    """What is not known is null."""
    with database.begin() as connection:
        _deliver(connection, account_id, 0)
        [delivery] = deliveries.page(connection)

    assert (delivery.type, delivery.session_id, delivery.livemode) == (None, None, None)


def test_pages_of_deliveries_can_be_narrowed(database: Database, account_id: str) -> None:
    """By account, endpoint, status and time, over days with and without a partition, and page by page."""
    with database.begin() as connection:
        for number, status in enumerate(["delivered", "dead", "pending", "dead"]):
            _deliver(connection, account_id, 24 * number, status=status)
        _deliver(connection, "acc_other", 5)

        def found(**narrowed: Any) -> list[str]:
            return [row.event_id for row in deliveries.page(connection, **narrowed)]

        assert found(account_id=account_id) == ["evt_72", "evt_48", "evt_24", "evt_0"]
        assert found(status="dead") == ["evt_72", "evt_24"]
        assert found(since=NOON + timedelta(hours=48)) == ["evt_72", "evt_48"]
        assert found(endpoint_id="ep_none") == []
        assert found(account_id=account_id, before=Cursor(NOON + timedelta(hours=48), "evt_48", "ep_1"), limit=1) == [
            "evt_24"
        ]


@pytest.mark.parametrize(
    ("earlier", "later"),
    [("5-9", "5-10"), ("99-0", "100-0"), ("1763600000000-0", "1763600000000-1"), ("5-18446744073709551615", "6-0")],
)
def test_sortable_stream_ids_sort_by_time(earlier: str, later: str) -> None:
    """As text, in the order that Redis gave them."""
    assert deliveries.sortable(earlier) < deliveries.sortable(later)


def test_charges_are_shown_from_new_to_old(database: Database, account_id: str) -> None:
    """Money is a string with its currency beside it, and the steps tell how it came about."""
    call = {"account_id": account_id, "provider": "retell", "conversation_id": "call_1", "session_id": 7}
    price = {"unit_price": Decimal("0.1"), "billed_seconds": 91, "duration_seconds": Decimal("90.4"), "currency": "USD"}
    exact = Decimal("0.15166666666666666667")
    with database.begin() as connection:
        for kind, sign in (("charge", 1), ("reversal", -1)):
            amounts = {"exact": exact * sign, "amount": Decimal("0.151667") * sign, "steps": ["91 s at 0.10 USD/min"]}
            row = {**call, **price, **amounts, "kind": kind, "sequence": 0, "started_at": NOON}
            row |= {
                "line": "usage",
                "part": 0,
                "quantity": Decimal(91) / 60 * sign,
                "period": NOON.date().replace(day=1),
            }
            connection.execute(ledger.insert().values(row))
        found = charges.page(connection, account_id=account_id)

        assert [charge.kind for charge in found] == ["reversal", "charge"]
        assert charges.page(connection, session_id=7, before=found[0].id) == found[1:]
        assert charges.page(connection, account_id="acc_other") == []
    shown = _json(found[1])
    assert (shown["amount"], shown["currency"], shown["unitPrice"]) == ("0.151667", "USD", "0.100000")
    assert (shown["exact"], shown["durationSeconds"], shown["billedSeconds"]) == ("0.15166666666666666667", 90.4, 91)
    assert (shown["steps"], shown["startedAt"]) == (["91 s at 0.10 USD/min"], "2031-05-20T12:00:00Z")
